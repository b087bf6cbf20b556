"""A disk that is full at any write stops the run, leaves nothing half-made, and can be mended."""

import contextlib
import errno

import pytest

from curate.corpus.errors import InputError
from curate.corpus.shard import ShardWriter
from curate.corpus.storage import Storage


class _FullError(OSError):
    """What the system says, told apart from other errors."""


def _full():
    raise _FullError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def recipe(lab, tmp_path):
    rows = [{"id": f"d{i}", "text": lab.text(i, 40)} for i in range(15)]
    lab.jsonl(tmp_path / "in" / "a.jsonl", [*rows, b"{broken"])
    lab.jsonl(tmp_path / "in" / "b.jsonl", [{"text": lab.near(1)}, {"text": lab.text(2, 40)}])
    return lab.recipe(tmp_path / "in")


def test_a_disk_that_fills_after_every_single_write_changes_nothing(lab, recipe, tmp_path):
    """Each run may publish one more file than the run before it did."""
    lab.run(recipe, tmp_path / "roomy")
    wanted = lab.snapshot(tmp_path / "roomy")
    store, publish, runs = tmp_path / "store", Storage.publish, 0

    while True:
        published: list[str] = []

        def one_more(storage, path, name, published=published):
            if storage.exists(name):
                return publish(storage, path, name)
            if published:
                path.unlink()
                _full()
            published.append(name)
            return publish(storage, path, name)

        with lab.patched(Storage, "publish", one_more), contextlib.suppress(_FullError):
            lab.run(recipe, store)
            break
        runs += 1
        assert lab.leftovers(store) == []
        assert set(lab.snapshot(store)) <= set(wanted)
        with pytest.raises(InputError, match="no corpus"):
            lab.open("tiny", store=str(store))
    assert runs == len(wanted) - 1, "one run for every file but the last"
    assert lab.snapshot(store) == wanted


@pytest.mark.parametrize(
    "table",
    ["documents", "quarantine", "signals", "sketches", "duplicates", "verdicts", "tokens", "draws"],
)
def test_a_disk_that_fills_inside_a_file_leaves_nothing_of_it(lab, recipe, tmp_path, table):
    init, write = ShardWriter.__init__, ShardWriter.write

    def remember(self, storage, folder, table, *args, **options):
        self._table = table
        init(self, storage, folder, table, *args, **options)

    def fill(self, rows):
        write(self, rows)
        if self._table == table:
            _full()

    with (
        lab.patched(ShardWriter, "__init__", remember),
        lab.patched(ShardWriter, "write", fill),
        pytest.raises(_FullError),
    ):
        lab.run(recipe, tmp_path / "store")
    assert lab.leftovers(tmp_path / "store") == []

"""`preceptor forget --purge`: not a byte of it is left in the store, wherever it was stopped."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.storage import Storage
from curate.tokens.tokenizer import decode, load_tokenizer
from pipelines.corpus import Corpus, open_corpus
from pipelines.forget.selecting import Request
from pipelines.forget.takedown import Takedown, forget
from pipelines.store import Store
from pipelines.verify import verify

WHEN = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
PLANTED = "zwiebelfisch"


def _sections(folder: Path) -> dict[str, Any]:
    return {
        "sources": [{"name": "notes", "paths": ["*.jsonl"]}],
        "collect": {"part_bytes": 12000},
        "clean": {"repeated_lines": {"above": 3}},
        "deduplicate": {"near": {"threshold": 0.7, "sample": 200}},
        "decontaminate": {"held_out": True},
        "split": {"validation": 0.3, "test": 0.1},
        "checks": {"key": {"sql": "SELECT MAX(key) FROM documents", "equals": "n9"}},
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """A corpus of two versions and another one; the sentence is in both, and in a report."""
    folder = tmp_path_factory.mktemp("purge")
    line = "This line stands in many documents of the archive and is boring by now."
    records: list[Any] = [
        {"id": f"n{i}", "text": f"{lab.text(i)}\n{line}", "url": f"https://a.org/{i}"}
        for i in range(20)
    ]
    secret = f"{line}\n{lab.text(77)} the {PLANTED} swims\r\nfar\n{line.upper()} {PLANTED}"
    records[5:5] = [
        {"id": f"{PLANTED}1", "text": secret, "url": "https://b.org/x", "by": PLANTED},
        {"id": f"{PLANTED}1", "text": f"another text {lab.text(78)}"},
        {"id": "twin", "text": f"  {secret}"},
        f'{{"id": "broken {PLANTED}", "text": "the {PLANTED} swims'.encode(),
    ]
    lab.jsonl(folder / "notes.jsonl", records)
    recipe = lab.recipe(folder, **_sections(folder))
    lab.run(recipe, folder / "store")
    cleaned = open_corpus("tiny", store=str(folder / "store")).shards("documents")
    assert any(shard.base for shard in cleaned), "the sentence is also in a file over another"
    report = folder / "store" / "reports" / "tiny@1.html"
    report.parent.mkdir()
    report.write_text(f"<p>A sample: the {PLANTED} swims</p>")
    lab.jsonl(folder / "more.jsonl", [{"text": lab.text(300)}, {"text": lab.near(3)}])
    lab.run(recipe, folder / "store")
    lab.jsonl(
        folder / "other" / "a.jsonl", [{"text": secret}, *({"text": lab.text(i)} for i in range(5))]
    )
    lab.run(lab.recipe(folder / "other", name="other"), folder / "store")
    return folder


@pytest.fixture
def store(base: Path, tmp_path: Path) -> str:
    shutil.copytree(base / "store", tmp_path / "store")
    return str(tmp_path / "store")


def _purge(store: str, **options: Any) -> Takedown:
    request = Request(url="https://b.org/*")
    return forget(
        "tiny", request, store=store, now=WHEN, reason="art. 17", with_purge=True, **options
    )


def _values(column: pa.ChunkedArray) -> Iterator[str]:
    kind = column.type
    if pa.types.is_struct(kind):
        for chunk in column.chunks:
            for inner in chunk.flatten():
                yield from _values(pa.chunked_array([inner]))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        for chunk in column.chunks:
            yield from _values(pa.chunked_array([chunk.flatten()]))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from (value for value in column.to_pylist() if value)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield from (value.decode(errors="replace") for value in column.to_pylist() if value)


def grep(store: str) -> list[str]:
    """Return every file of a store that holds the sentence: as bytes, in a column, as tokens."""
    found = []
    tokenizers = {}
    for path in sorted(Path(store).rglob("*.json")):
        if path.parent.name == "data" and b'"model"' in path.read_bytes():
            tokenizers[path] = load_tokenizer(path.read_bytes())
    for path in sorted(Path(store).rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes().lower()
        held = PLANTED.encode() in data or PLANTED.encode("utf-16-le") in data
        table = None
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path).read()
        elif path.suffix == ".arrow":
            table = ipc.open_file(pa.memory_map(str(path))).read_all()
        if table is not None:
            held |= any(PLANTED in v.lower() for n in table.column_names for v in _values(table[n]))
            if {"tokens", "num_bytes", "split"} <= set(table.column_names):
                for ids in table["tokens"].to_pylist():
                    held |= any(PLANTED in decode(t, ids).lower() for t in tokenizers.values())
        if held:
            found.append(path.relative_to(store).as_posix())
    return found


def test_not_a_byte_of_it_is_left(base: Path, store: str, lab: Any) -> None:
    before = grep(store)
    kinds = {name.partition("/")[0] for name in before}
    assert kinds >= {"collect", "clean", "tokenize", "deduplicate", "decontaminate", "reports"}
    assert any("/checks/results/" in name for name in before)
    done = _purge(store)
    assert [name for name in grep(store) if not name.startswith("forgotten/")] == []
    assert grep(store) == []
    for name in ("tiny", "other"):
        current = open_corpus(name, store=store)
        assert verify(current) == []
        assert PLANTED not in str(current.table("raw").collect().to_dict(as_series=False)).lower()
    told = done.receipt["purge"]
    assert told["withdrawn"] == ["other@1", "tiny@1", "tiny@2"]
    assert {name for name in before if "/data/" in name} <= set(told["deleted_files"])
    with pytest.raises(InputError, match=r"tiny@1 was withdrawn on 2026-11-22.*: art. 17"):
        open_corpus("tiny@1", store=store)
    assert _purge(store).changed is False


def test_a_run_after_it_reads_no_text_back(base: Path, store: str, lab: Any) -> None:
    _purge(store)
    masked = open_corpus("tiny", store=store)
    kept = set(masked.table("verdicts").filter("kept").collect()["doc_id"])
    recipe = lab.recipe(base, **_sections(base))
    stages: Counter[str] = Counter()
    lab.run(recipe, Path(store), stages)
    later = open_corpus("tiny", store=store)
    assert stages["collect read"] == 0
    assert grep(store) == []
    assert verify(later) == []
    assert set(later.table("verdicts").filter("kept").collect()["doc_id"]) == kept
    again, _ = lab.run(recipe, Path(store))
    assert (again.executed, again.published) == (0, False)


def _anew(base: Path, folder: Path, lab: Any) -> list[Any]:
    """Write the archive to a new folder, with one more line, and return its lines."""
    lines = (base / "notes.jsonl").read_bytes().splitlines()
    lines = [line for line in lines if b"another text" not in line]  # it has a forgotten key
    lab.jsonl(folder / "notes.jsonl", [*lines, {"id": "more", "text": lab.text(400)}])
    return lines


def _check_purged(corpus: Corpus) -> None:
    assert grep(corpus.store.uri) == []
    assert verify(corpus) == []
    gone = corpus.table("verdicts").collect()
    gone = gone.filter(gone["reasons"].list.contains("forgotten"))
    assert gone.height >= 2
    assert not gone["kept"].any()


def test_what_is_collected_anew_has_no_text_of_it(
    base: Path, store: str, tmp_path: Path, lab: Any
) -> None:
    _purge(store)
    masked = open_corpus("tiny", store=store)
    kept = set(masked.table("verdicts").filter("kept").collect()["doc_id"])
    lines = _anew(base, tmp_path / "new", lab)
    lab.run(lab.recipe(tmp_path / "new", **_sections(base)), Path(store))
    later = open_corpus("tiny", store=store)
    _check_purged(later)
    assert later.manifest("collect").counts["records"] == len(lines) + 1
    assert _purge(store).changed is False
    assert len(kept & set(later.table("verdicts").filter("kept").collect()["doc_id"])) > 9
    sources = [{"name": "elsewhere", "paths": ["*.jsonl"]}]
    lab.run(lab.recipe(tmp_path / "new", name="third", sources=sources), Path(store))
    _check_purged(open_corpus("third", store=store))


def test_a_plain_takedown_lets_runs_read(base: Path, store: str, tmp_path: Path, lab: Any) -> None:
    forget("tiny", Request(url="https://b.org/*"), store=store, now=WHEN)
    before = grep(store)
    _anew(base, tmp_path / "new", lab)
    lab.run(lab.recipe(tmp_path / "new", **_sections(base)), Path(store))
    assert len(grep(store)) > len(before)


def test_a_file_that_another_purge_deletes_is_no_damage(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.forget.purging as purging

    real, lost, used = purging._names, list[str](), set[str]()

    def listed(storage: Storage) -> Iterator[str]:
        names = list(real(storage))
        lost.extend(n for n in names if n.startswith("collect/data/"))
        for name in ("tiny", "other"):
            for shards in open_corpus(name, store=store).manifest("collect").tables.values():
                used.update(shard.path for shard in shards)
        lost[:] = [name for name in lost if name not in used]
        for name in lost:
            storage.remove(name)
        return iter(names)

    monkeypatch.setattr(purging, "_names", listed)
    done = _purge(store)
    assert lost
    assert not set(lost) & set(done.receipt["purge"]["deleted_files"])
    assert verify(open_corpus("tiny", store=store)) == []


class Killed(BaseException):
    """As `kill -9` is: nobody catches it."""


class Guard:
    """Notes each change of a store, and dies before the one it is told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stop, self.seen = -1, list[str]()
        for name, at in (("create", 0), ("publish", 1), ("remove", 0)):
            patch.setattr(Storage, name, self._guarded(name, getattr(Storage, name), at))

    def _guarded(self, kind: str, real: Any, at: int) -> Any:
        def change(storage: Any, *args: Any) -> Any:
            if len(self.seen) == self.stop:
                raise Killed
            self.seen.append(f"{kind} {args[at]}")
            return real(storage, *args)

        return change

    def until(self, stop: int) -> None:
        self.stop, self.seen = stop, []

    def first(self, *kinds: str) -> list[int]:
        """Return the places just before the first change of each kind."""
        return [[name.startswith(kind) for name in self.seen].index(True) for kind in kinds]


def test_it_can_be_stopped_anywhere_and_goes_on(
    base: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(monkeypatch)
    _purge(store)
    kinds = ("create corpora/other/log", "create corpora/tiny/withdrawn", "remove collect/parts")
    for stop in (*guard.first(*kinds), len(guard.seen) - 2):
        broken = tmp_path / "broken"
        shutil.copytree(base / "store", broken)
        guard.until(stop)
        with pytest.raises(Killed):
            _purge(str(broken))
        guard.until(-1)
        for name in ("tiny", "other"):
            assert verify(open_corpus(name, store=str(broken))) == []
        _purge(str(broken))
        assert grep(str(broken)) == [], stop
        for name in ("tiny", "other"):
            current = open_corpus(name, store=str(broken))
            assert verify(current) == []
            assert current.manifest("judge").counts["reason:forgotten"] >= 1
        assert list((broken / "corpora" / "tiny" / "receipts").iterdir())
        shutil.rmtree(broken)


def test_a_current_version_is_never_robbed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.forget.takedown

    def nobody(store: Store, name: str, state: Any) -> Any:
        return store.current(name), None

    monkeypatch.setattr(pipelines.forget.takedown, "_mask", nobody)
    with pytest.raises(IntegrityError, match="is current and needs"):
        _purge(store)
    assert verify(open_corpus("tiny", store=store)) == []
    assert verify(open_corpus("tiny@1", store=store)) == []


def test_the_receipt_tells_ids_and_no_text(store: str) -> None:
    done = _purge(store)
    assert done.path is not None
    receipt = json.loads((Path(store) / done.path).read_text())
    assert receipt["purge"]["deleted_bytes"] > 0
    assert {row["corpus"] for row in receipt["versions"]} == {"tiny", "other"}
    assert [one["pass"] for one in receipt["refit"]] == ["tokenize"]
    assert PLANTED not in json.dumps(receipt).lower()

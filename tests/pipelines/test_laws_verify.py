"""`verify` finds whatever is not as its manifest says; opening refuses with a reason."""

import json
import shutil
from pathlib import Path

import pytest

from curate.corpus.errors import InputError, IntegrityError
from pipelines.build import PASSES
from pipelines.corpus import TABLES
from pipelines.verify import verify


@pytest.fixture(scope="module")
def store(archive_store, tmp_path_factory):
    """A copy of the archive's store; `damage` mends what it breaks."""
    copy = tmp_path_factory.mktemp("verify") / "store"
    shutil.copytree(archive_store, copy)
    return copy


@pytest.fixture
def damage(store):
    """Give back a function that replaces (None: removes) a file until the test ends."""
    before: dict[Path, bytes] = {}

    def replace(name, change):
        path = store / name
        before[path] = path.read_bytes()
        data = change(before[path])
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    yield replace
    for path, data in before.items():
        path.write_bytes(data)


def _open(lab, store, name="tiny"):
    return lab.open(name, store=str(store))


def _flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _file(corpus, table):
    shards = corpus.shards(table)
    assert shards, f"the archive has a {table} table"
    return shards[len(shards) // 2].path


def test_all_is_well_with_the_archive_and_every_file_is_looked_at(lab, store):
    seen = []
    corpus = _open(lab, store)
    assert verify(corpus, on_file=seen.append) == []
    assert set(seen) >= {shard.path for table in TABLES for shard in corpus.shards(table)}
    assert corpus.manifest("tokenize").info["tokenizer"]["path"] in seen


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_flip, "sha256 is .*, its manifest says"),
        (lambda data: data[: len(data) // 2], "bytes, its manifest says"),
        (lambda data: None, "is missing from the store"),
    ],
    ids=["flipped", "truncated", "missing"],
)
def test_damage_in_any_table_is_found(lab, store, damage, table, change, told):
    import re

    name = _file(_open(lab, store), table)
    damage(name, change)
    problems = verify(_open(lab, store))
    assert len(problems) == 1
    assert problems[0].startswith(f"{name}: ")
    assert re.search(told, problems[0])


@pytest.mark.parametrize("change", [_flip, lambda data: None], ids=["flipped", "missing"])
def test_damage_in_the_tokenizer_is_found(lab, store, damage, change):
    name = _open(lab, store).manifest("tokenize").info["tokenizer"]["path"]
    damage(name, change)
    (problem,) = verify(_open(lab, store))
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize("name", PASSES)
def test_an_altered_manifest_is_found(lab, store, damage, name):
    digest = _open(lab, store).version.manifests[name]

    def change(data):
        manifest = json.loads(data)
        manifest["counts"]["invented"] = 1
        return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()

    damage(f"{name}/manifests/{digest}.json", change)
    (problem,) = verify(_open(lab, store))
    assert problem.startswith(f"{name}/manifests/{digest}.json was altered")
    with pytest.raises(IntegrityError, match="was altered"):
        _open(lab, store).manifest(name)


def test_a_missing_manifest_is_found(lab, store, damage):
    digest = _open(lab, store).version.manifests["judge"]
    damage(f"judge/manifests/{digest}.json", lambda data: None)
    (problem,) = verify(_open(lab, store))
    assert "is missing from the store" in problem


def test_an_altered_log_entry_is_found(lab, store, damage):
    def change(data):
        record = json.loads(data)
        record["manifests"]["mix"] = record["manifests"]["mix"][::-1]
        return json.dumps(record).encode()

    damage("corpora/tiny/log/00000001.json", change)
    problems = verify(_open(lab, store))
    assert "its log entry was altered" in problems[0]


def test_manifests_that_agree_with_their_files_but_break_a_law_are_found(lab, store):
    """Somebody rewrote a whole manifest, hash and all: the laws between passes still see it."""
    from curate.corpus.manifest import Manifest

    corpus = _open(lab, store)
    real = corpus.manifest("judge")
    shards = real.tables["verdicts"]
    forged = Manifest(
        name="judge",
        settings=real.settings,
        code=real.code,
        parents=real.parents,
        tables={"verdicts": shards[:-1]},
        counts={**real.counts, "kept": real.counts["kept"] - shards[-1].rows},
        info=real.info,
    )
    corpus._manifests["judge"] = forged
    told = "\n".join(verify(corpus))
    assert "judge: " in told
    assert "tokenize: " in told


def test_opening_says_what_there_is(lab, store, tmp_path):
    with pytest.raises(InputError, match="no corpus 'tinny' .* it has tiny. Did you mean 'tiny'?"):
        _open(lab, store, "tinny")
    with pytest.raises(InputError, match="no version '7'; versions are: 1"):
        _open(lab, store, "tiny@7")
    with pytest.raises(InputError, match="no version 'x'"):
        _open(lab, store, "tiny@x")
    with pytest.raises(InputError, match="it has none yet"):
        _open(lab, tmp_path / "nothing")
    with pytest.raises(InputError, match="unknown table 'verdict'.*Did you mean 'verdicts'"):
        _open(lab, store).table("verdict")
    with pytest.raises(InputError, match="32 hexadecimal digits"):
        _open(lab, store).find_id("xyz!")
    with pytest.raises(InputError, match="has no document 00000000"):
        _open(lab, store).find_id("00000000")


def test_a_version_of_another_format_is_refused(lab, store, damage):
    def change(data):
        return json.dumps({**json.loads(data), "format": 99}).encode()

    damage("corpora/tiny/log/00000001.json", change)
    with pytest.raises(IntegrityError, match="format version 99, expected 1"):
        _open(lab, store)

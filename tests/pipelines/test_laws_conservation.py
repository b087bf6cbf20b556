"""Every record read is one document or one quarantine row, and no pass loses or invents one."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.shard import ShardWriter, read_shard

_NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # each example is a whole run
_BROKEN = [b"{", b"\xff\xff", b"[1]", b"7", b'{"text": 3}', b'{"txt": "a"}', b'{"text": null}']
_LONG = "the wind moves over the hill and the water moves under it while nobody looks at either one"
_TEXTS = [
    "",
    " ",
    "one",
    "One  ",
    "\u00e9t\u00e9 \u2603",
    "e\u0301t\u00e9 \u2603",
    f"{_LONG} twice {_LONG}",
    f"{_LONG} thrice {_LONG}",
    f"{_LONG.upper()} TWICE {_LONG}",
    "a b c d e f g h i j k l m n",
]
_records = st.one_of(
    st.sampled_from(_BROKEN),
    st.fixed_dictionaries(
        {"text": st.sampled_from(_TEXTS)},
        optional={"id": st.sampled_from(["x", "y", 7, None, ""])},
    ),
)
_files = st.lists(st.lists(_records, max_size=8), min_size=1, max_size=4)


def _write(lab, folder, files):
    for number, rows in enumerate(files):
        first = {"id": f"first {number}", "text": lab.text(number, 30)}
        lab.jsonl(folder / f"{number}.jsonl", [first, *rows])
    lab.jsonl(folder / "solid.jsonl", [{"text": lab.text(50 + i, 30)} for i in range(12)])


@given(
    files=_files, part_bytes=st.sampled_from([300, 1_000_000]), min_words=st.sampled_from([1, 20])
)
@settings(max_examples=10, phases=_NO_SHRINKING)
def test_whatever_comes_in_every_law_holds(lab, files, part_bytes, min_words):
    folder = Path(tempfile.mkdtemp(prefix="preceptor-laws-"))
    try:
        _write(lab, folder, files)
        recipe = lab.recipe(
            folder,
            collect={"part_bytes": part_bytes},
            rules={"add": {"enough": f"num_words >= {min_words}"}},
            deduplicate={"near": {"shingle": "3 words", "bands": 20, "rows": 4, "threshold": 0.6}},
        )
        lab.run(recipe, folder / "store")
        corpus = lab.open("tiny", store=str(folder / "store"))
        lab.check_laws(corpus)
        num_lines = sum(len(rows) + 1 for rows in files) + 12
        assert corpus.manifest("collect").counts["records"] == num_lines
        rejected = lab.frame(corpus, "quarantine").filter(reason="duplicate_key").height
        broken = sum(isinstance(r, bytes) or r["text"] == "" for rows in files for r in rows)
        assert lab.frame(corpus, "quarantine").height == rejected + broken
    finally:
        shutil.rmtree(folder)


def _identities(lab, folder, name, files):
    """Collect some files in some order; return {(id, text)}."""
    base = folder / name
    for number, rows in enumerate(files):
        lab.jsonl(base / f"{name}-{number}.jsonl", [{"text": "first"}, *rows])
    outcome, _ = lab.run(lab.recipe(base), folder / "store", until="collect")
    shards = outcome.manifests["collect"].tables["documents"]
    storage = lab.storage(folder / "store")
    found = set()
    for shard in shards:
        table = read_shard(storage, shard, ["doc_id", "text"])
        found |= set(zip(table["doc_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert len({doc for doc, _ in found}) == sum(shard.rows for shard in shards)
    return found


_good = st.fixed_dictionaries(
    {"text": st.sampled_from(["one", "two", "three", "four"])},
    optional={"id": st.sampled_from(["x", "y", "z"])},
)


@given(rows=st.lists(_good, max_size=14), split=st.lists(st.integers(0, 2)), data=st.data())
@settings(max_examples=20)
def test_ids_do_not_know_files_their_names_or_their_order(lab, rows, split, data):
    """The same records, in three files and shuffled into three others: the same ids and texts."""
    folder = Path(tempfile.mkdtemp(prefix="preceptor-laws-"))
    try:
        other = data.draw(st.permutations(rows))
        first = [[r for i, r in enumerate(rows) if i % 3 == n] for n in range(3)]
        where = [*split, *[0] * len(other)]
        second = [[r for i, r in enumerate(other) if where[i] == n] for n in range(3)]
        left = _identities(lab, folder, "a", first)
        right = _identities(lab, folder, "b", second)
        assert left == right
    finally:
        shutil.rmtree(folder)


def test_a_keyed_document_keeps_its_id_when_its_text_changes(lab, tmp_path):
    rows = [{"id": f"k{i}", "text": lab.text(i)} for i in range(5)]
    before = dict(t[::-1] for t in _identities(lab, tmp_path, "a", [rows]))
    rows[2] = {"id": "k2", "text": "another text"}
    after = dict(t[::-1] for t in _identities(lab, tmp_path, "b", [rows]))
    assert after["another text"] == before[lab.text(2)]
    assert set(before.values()) == set(after.values())


def test_a_document_without_a_key_is_its_content(lab, tmp_path):
    before = dict(t[::-1] for t in _identities(lab, tmp_path, "a", [[{"text": "one"}]]))
    after = dict(t[::-1] for t in _identities(lab, tmp_path, "b", [[{"text": "two"}]]))
    assert before["one"] != after["two"]
    assert before["first"] == after["first"]


def test_the_same_record_in_two_sources_is_two_documents(lab, tmp_path):
    lab.jsonl(tmp_path / "a.jsonl", [{"id": 1, "text": "same"}])
    sources = [{"name": name, "paths": ["a.jsonl"]} for name in ("one", "two")]
    outcome, _ = lab.run(lab.recipe(tmp_path, sources=sources), tmp_path / "s", until="collect")
    assert outcome.manifests["collect"].counts["documents"] == 2


@pytest.fixture(scope="module")
def folder(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"id": i, "text": lab.text(i)} for i in range(12)]
    lab.jsonl(folder / "a.jsonl", [*rows, b"{broken", {"id": 3, "text": lab.text(3)}])
    lab.jsonl(folder / "b.jsonl", [{"text": lab.near(4)}])
    return folder


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("documents", "collect"),
        ("quarantine", "collect"),
        ("documents", "clean"),
        ("signals", "measure"),
        ("sketches", "deduplicate"),
        ("verdicts", "judge"),
        ("tokens", "tokenize"),
        ("draws", "mix"),
        ("held_out", "mix"),
        ("plan_train", "pack"),
    ],
)
def test_a_lost_row_stops_the_run_before_anything_is_published(lab, folder, tmp_path, table, name):
    real = ShardWriter.write
    lost = []

    def write(self, rows):
        if self._table == table and self._folder.startswith(f"{name}/") and not lost:
            lost.append(rows.num_rows)
            rows = rows.slice(1)
        real(self, rows)

    init = ShardWriter.__init__

    def remember(self, storage, folder, table, *args, **options):
        self._table = table
        init(self, storage, folder, table, *args, **options)

    with (
        lab.patched(ShardWriter, "__init__", remember),
        lab.patched(ShardWriter, "write", write),
        pytest.raises(IntegrityError),
    ):
        lab.run(lab.recipe(folder, clean={"truncate": {"max_bytes": 300}}), tmp_path / "store")
    assert lost
    with pytest.raises(InputError, match="no corpus"):
        lab.open("tiny", store=str(tmp_path / "store"))
    assert not (tmp_path / "store" / name / "manifests").exists()
    assert not (tmp_path / "store" / "corpora").exists()


def test_a_row_that_is_exchanged_for_another_is_noticed_too(lab, folder, tmp_path):
    """Counts alone would agree: the ids' sum does not."""
    import pyarrow as pa

    real = ShardWriter.write

    def write(self, rows):
        if self._folder.startswith("measure/") and rows.num_rows > 1:
            rows = pa.concat_tables([rows.slice(1), rows.slice(1, 1)])
        real(self, rows)

    with (
        lab.patched(ShardWriter, "write", write),
        pytest.raises(IntegrityError, match="conservation broken in measure: 14 .* 14 came out"),
    ):
        lab.run(lab.recipe(folder), tmp_path / "store")


def test_every_line_of_the_input_is_counted_once_with_its_place(lab, folder, tmp_path):
    lab.run(lab.recipe(folder), tmp_path / "store")
    corpus = lab.open("tiny", store=str(tmp_path / "store"))
    lab.check_laws(corpus)
    quarantine = lab.frame(corpus, "quarantine").row(0, named=True)
    offset = (folder / "a.jsonl").read_bytes().index(b"{broken")
    assert (quarantine["uri"], quarantine["offset"]) == ("a.jsonl", offset)
    documents = lab.frame(corpus, "documents").filter(path="a.jsonl")
    lines = (folder / "a.jsonl").read_bytes()
    for text, position in zip(documents["text"], documents["position"], strict=True):
        assert json.loads(lines[position:].split(b"\n")[0])["text"] == text

"""Files in, files out: crowds, every kind of column, and results that are whole or not there."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup import files, stream
from curate.dedup.minhash import MinHashScheme, band_keys, signatures, signatures_of, sketch
from curate.dedup.stream import deduplicate_files
from curate.dedup.survivors import Edges, survivors
from curate.dedup.verify import similarity
from curate.kernels.shingles import Shingling, shingle_sets

# Finds every pair of more than a few shared shingles: what is left over is decided by Jaccard.
SURE = MinHashScheme(shingling=Shingling(width=2), bands=100, rows=1)


def _text(seed, words=60):
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(10_000)}" for _ in range(words))


def _varied(template, number):
    return f"{_text(template, 120)} tail{number} end{number}"


def _write(path, texts, kind=None, **columns):
    column = pa.array(texts, pa.large_string()) if not isinstance(texts, pa.Array) else texts
    if kind is not None:
        column = column.cast(kind)
    pq.write_table(pa.table({"text": column, **columns}), path)
    return path


def _run(tmp_path, texts, **options):
    source = _write(tmp_path / "in.parquet", texts, number=np.arange(len(texts)))
    found = deduplicate_files([source], tmp_path / "out", **options)
    kept = pq.read_table(tmp_path / "out" / "in.parquet")["number"].to_pylist()
    return found, kept


def test_of_three_thousand_near_identical_documents_one_stays(tmp_path):
    found, kept = _run(tmp_path, [_varied(0, i) for i in range(3000)])
    assert found.kept == len(kept) == 1
    assert found.near == 2999
    assert found.crowded_unverified == 0


def test_crowds_of_several_templates_leave_one_document_each(tmp_path):
    texts = [_varied(i % 3, i) for i in range(2000)]
    texts += [texts[7].upper() + " "] * 5  # of an exact class of a crowd, the longest
    texts += [_text(900 + i) for i in range(20)]
    found, kept = _run(tmp_path, texts, max_bucket=50)
    templates = {texts[number].lower().split()[0] for number in kept}
    assert found.kept == len(kept) == 23 == len(templates)
    edges = pl.read_parquet(tmp_path / "out" / "duplicates.parquet")
    assert not edges.select("row", "twin_row").is_duplicated().any()
    assert edges["jaccard"].min() >= 0.8
    assert found.exact + found.near + found.kept == found.documents


def _brute(texts, threshold):
    """Return the rows that stay when all pairs are compared."""
    column = pa.array(texts, pa.large_string())
    values, offsets = shingle_sets(column, SURE.shingling)
    folded = [" ".join(text.lower().split()) for text in texts]
    first = [folded.index(text) for text in folded]
    exact = [(a, row) for row, a in enumerate(first) if a != row]
    rows = sorted(set(first))
    near = np.array([(a, b) for a in rows for b in rows if a < b]).reshape(-1, 2)
    jaccard = similarity(near, values, offsets)
    good = jaccard >= threshold
    sizes = np.array([len(text.encode()) for text in texts])
    rank = np.empty(len(texts), dtype=np.int64)
    rank[np.lexsort((np.arange(len(texts)), -sizes))] = np.arange(len(texts))
    edges = Edges(
        exact=np.array(exact, dtype=np.int64).reshape(-1, 2),
        near=near[good],
        jaccard=jaccard[good],
    )
    is_exact, is_near, _ = survivors(rank, np.ones(len(texts), dtype=bool), edges)
    return np.flatnonzero(~(is_exact | is_near)).tolist()


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_crowds_of_any_size_give_what_all_pairs_give(
    tmp_path_factory, seed, max_bucket, num_templates
):
    draw = random.Random(seed)
    texts = []
    for _ in range(60):
        words = _text(draw.randrange(num_templates), 40).split()
        for _ in range(draw.randrange(4)):
            words[draw.randrange(40)] = f"v{draw.randrange(5)}"
        texts.append(draw.choice(["{}", "{}  ", "{} x"]).format(" ".join(words)))
    found, kept = _run(
        tmp_path_factory.mktemp("any"), texts, scheme=SURE, threshold=0.7, max_bucket=max_bucket
    )
    assert kept == _brute(texts, 0.7)
    assert found.kept == len(kept)


def test_pairs_are_merged_some_times_and_not_once_for_every_bucket(tmp_path, monkeypatch):
    texts = [_varied(i % 3, i) for i in range(600)]
    _, expected = _run(tmp_path / _made(tmp_path, "a"), texts, max_bucket=20)
    calls = []
    merged = stream._merged
    monkeypatch.setattr(stream, "_merged", lambda *blocks: calls.append(1) or merged(*blocks))
    monkeypatch.setattr(stream, "_PAIRS_WAITING", 2000)
    monkeypatch.setattr(stream, "_MAX_ROWS", 700)
    _, kept = _run(tmp_path / _made(tmp_path, "b"), texts, max_bucket=20)
    assert kept == expected
    assert 1 < len(calls) < 16


def _made(folder, name):
    (folder / name).mkdir()
    return name


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_every_type_of_strings_is_read_and_no_view_is_written(tmp_path, kind):
    texts = [_text(0), _text(1), _text(0), _text(1) + " more"]
    others = {
        "view": pa.array(list("abcd")).cast(pa.string_view()),
        "bytes": pa.array([b"a", b"b", b"c", None]).cast(pa.binary_view()),
        "inner": pa.array([["x"], [], None, ["y"]]).cast(pa.list_(pa.string_view())),
    }
    column = pa.array(texts, pa.string())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    source = _write(tmp_path / "in.parquet", column, **others)
    deduplicate_files([source], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "in.parquet")
    assert table["text"].to_pylist() == [texts[0], texts[3]]
    assert table["view"].to_pylist() == ["a", "d"]
    assert table["bytes"].to_pylist() == [b"a", None]
    assert table["inner"].to_pylist() == [["x"], ["y"]]
    expected = pa.large_string() if pa.types.is_string_view(kind) else kind
    assert table.schema.types == [
        expected,
        pa.large_string(),
        pa.large_binary(),
        pa.list_(pa.large_string()),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([b"a", b"b"]),
        pa.array([["a"], ["b"]]),
        pa.array([{"a": "b"}] * 2),
        pa.array([b"a", b"b"]).dictionary_encode(),
        pa.nulls(2),
    ],
    ids=lambda column: str(column.type),
)
def test_a_column_of_other_things_than_strings_is_refused_by_its_type(tmp_path, column):
    source = _write(tmp_path / "in.parquet", column)
    with pytest.raises(InputError) as told:
        deduplicate_files([source], tmp_path / "out")
    assert f"of type {str(column.type).replace('item', 'element')}" in str(told.value)
    assert not (tmp_path / "out").exists()


def test_rows_without_text_stay_and_are_counted(tmp_path):
    found, kept = _run(tmp_path, [None, _text(0), None, "", _text(0), "short a", "Short  A", " "])
    assert kept == [0, 1, 2, 6, 7]  # of twins the longer one
    assert found.without_text == 2
    assert (found.exact, found.near, found.kept) == (3, 0, 5)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_outside_of_its_range_is_refused(tmp_path, threshold):
    source = _write(tmp_path / "in.parquet", ["a"])
    with pytest.raises(InputError, match="threshold"):
        deduplicate_files([source], tmp_path / "out", threshold=threshold)


def test_no_rows_and_no_documents_with_shingles_are_fine(tmp_path):
    found, kept = _run(tmp_path, [])
    assert (found.documents, kept) == (0, [])
    (tmp_path / "b").mkdir()
    found, kept = _run(tmp_path / "b", ["a", "b c"])
    assert kept == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["write_rows", "_write_edges"])
def test_whatever_stops_a_run_leaves_nothing(tmp_path, monkeypatch, error, where):
    source = _write(tmp_path / "in.parquet", [_text(0)] * 3)

    def stop(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(stream, where, stop)
        with pytest.raises(error):
            deduplicate_files([source], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_run_that_stops_while_results_move_takes_them_back(tmp_path, monkeypatch):
    source = _write(tmp_path / "in.parquet", [_text(0)] * 3)
    (tmp_path / "out").mkdir()
    rename = Path.rename

    def stop(self, target):
        if self.name == "summary.json":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        deduplicate_files([source], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_others_left_is_not(tmp_path):
    source = _write(tmp_path / "in.parquet", [_text(0)] * 3)
    left = tmp_path / "out" / files._PARTIAL
    left.mkdir(parents=True)
    (left / "old.parquet").write_bytes(b"half")
    deduplicate_files([source], tmp_path / "out")
    names = ["duplicates.parquet", "in.parquet", "summary.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["kept"] == 1
    with pytest.raises(InputError, match="not empty"):
        deduplicate_files([source], tmp_path / "out")
    with pytest.raises(InputError, match="is a file"):
        deduplicate_files([source], source)


@pytest.mark.parametrize("call", [sketch, signatures_of])
@pytest.mark.parametrize("texts", [["a", "b"], "a", np.array(["a"])])
def test_texts_that_are_no_arrow_array_are_refused(call, texts):
    with pytest.raises(InputError, match=r"Arrow array of strings.*pa\.array\(list"):
        call(texts, MinHashScheme())


def test_numbers_that_are_no_numpy_array_are_refused():
    with pytest.raises(InputError, match="NumPy array, got list"):
        band_keys([[1]], MinHashScheme())
    with pytest.raises(InputError, match="NumPy array, got list"):
        signatures([1], [0, 1], MinHashScheme())

"""Token exports, read back byte by byte as their formats say, and whole or not there at all."""

import contextlib
import gzip
import itertools
import json
import re
import shutil
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.tokens.exporters import files, mds
from curate.tokens.exporters.base import Documents, Told, framed
from curate.tokens.exporters.files import RolledWriter
from curate.tokens.exporters.registry import token_formats
from pipelines.exchange import export, exporting, folders, formats, rounds, streams
from pipelines.exchange.folders import new_folder

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def drawn(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A corpus whose mixture repeats documents of one source and leaves some of another out."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, count in (("a", 30), ("b", 12)):
        rows = [
            {"id": f"{name}{i}", "text": lab.text(i + 1000 * len(name * 2) + ord(name))}
            for i in range(count)
        ]
        lab.jsonl(folder / name / "x.jsonl", rows)
    recipe = lab.recipe(
        folder,
        name="mixed",
        sources=[{"name": n, "paths": [f"{n}/*.jsonl"]} for n in ("a", "b")],
        mix={
            "weights": {"a": 0.3, "b": 0.7},
            "phases": [
                {"name": "main", "budget": "6k tokens"},
                {"name": "anneal", "budget": "2k tokens", "weights": {"a": 1, "b": 0}},
            ],
        },
        collect={"part_bytes": 4000},
    )
    lab.run(recipe, folder / "store")
    return lab.open("mixed", store=str(folder / "store"))


def stored(corpus: Any, split: str) -> dict[str, list[int]]:
    """Return id -> tokens without the first one, from the shards."""
    found = {}
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard)
        for row in table.to_pylist():
            if row["split"] == split:
                found[row["doc_id"].hex()] = row["tokens"][1:]
    return found


def cut(values: np.ndarray, ends: Any) -> list[list[int]]:
    starts = [0, *ends[:-1]]
    return [values[a:b].tolist() for a, b in zip(starts, ends, strict=True)]


def read_megatron(folder: Path) -> list[list[int]]:
    data = (folder / "tokens.idx").read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code, count, bounds = struct.unpack("<QBQQ", data[9:34])
    assert (version, bounds) == (1, count + 1)
    dtype = {8: np.dtype("<u2"), 4: np.dtype("<i4")}[code]
    lengths = np.frombuffer(data, "<i4", count, 34)
    offsets = np.frombuffer(data, "<i8", count, 34 + 4 * count)
    documents = np.frombuffer(data, "<i8", count + 1, 34 + 12 * count)
    assert len(data) == 34 + 20 * count + 8
    assert documents.tolist() == list(range(count + 1))
    raw = (folder / "tokens.bin").read_bytes()
    assert len(raw) == int(lengths.sum()) * dtype.itemsize
    return [
        np.frombuffer(raw, dtype, length, offset).tolist()
        for length, offset in zip(lengths, offsets, strict=True)
    ]


def read_olmo(folder: Path) -> list[list[int]]:
    found = []
    for path in sorted(folder.glob("*.npy")):
        values = np.fromfile(path, "<u2")
        with gzip.open(path.with_suffix(".csv.gz"), "rt") as stream:
            lines = [line.rstrip("\n").split(",") for line in stream]
        assert [int(line[4]) for line in lines] == list(range(len(lines)))
        assert int(lines[-1][1]) == len(values)
        found += [values[int(line[0]) : int(line[1])].tolist() for line in lines]
    return found


def read_datatrove(folder: Path) -> list[list[int]]:
    found = []
    for path in sorted(folder.glob("*.ds")):
        ends = np.frombuffer((folder / f"{path.name}.index").read_bytes(), "<u8").tolist()
        values = np.fromfile(path, "<u2")
        head, total, _ = (folder / f"{path.name}.metadata").read_text().split("\n")
        assert (head, int(total)) == ("tokenizer.json|2", len(values))
        found += cut(values, ends)
    return found


def read_mds(folder: Path) -> list[list[int]]:
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    found = []
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", data)
        offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert count == shard["samples"]
        head = json.loads(data[4 * (count + 2) : offsets[0]])
        assert head["column_names"] == ["id", "source", "tokens"]
        for start, stop in itertools.pairwise(offsets):
            sizes = struct.unpack_from("<3I", data, start)
            assert stop - start == 12 + sum(sizes)
            tokens = data[stop - sizes[2] : stop]
            width = 1 << (tokens[0] & 3)
            assert tokens[0] >> 2 == 1, "one axis"
            length = int.from_bytes(tokens[1 : 1 + width], "little")
            values = np.frombuffer(tokens[1 + width :], "<u2")
            assert len(values) == length
            found.append(values.tolist())
    return found


READERS = {
    "megatron": read_megatron,
    "olmo": read_olmo,
    "datatrove": read_datatrove,
    "mds": read_mds,
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_kept_documents_come_back_from_the_bytes_of_every_format(
    name: str, drawn: Any, tmp_path: Path
) -> None:
    done = export(drawn, name, tmp_path / "out")
    assert done.documents == drawn.manifest("judge").counts["kept"]
    for split in SPLITS:
        wanted = stored(drawn, split)
        told = pl.read_parquet(tmp_path / "out" / f"documents-{split}.parquet")
        assert told["doc_id"].to_list() == list(wanted), "in the order of the corpus"
        found = READERS[name](tmp_path / "out" / split)
        assert found == list(wanted.values())
        assert told["tokens"].to_list() == [len(one) for one in found]
        eos = drawn.manifest("tokenize").info["tokenizer"]["specials"]["eos"]
        assert all(one[-1] == eos and one.count(eos) == 1 for one in found)
    lineage = json.loads((tmp_path / "out" / "preceptor.json").read_text())
    assert lineage["fingerprint"] == drawn.version.fingerprint
    assert (lineage["tokens"]["dtype"], lineage["tokens"]["vocab_size"]) == ("uint16", 300)
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_every_format_is_read_here() -> None:
    assert set(READERS) == set(token_formats())
    assert set(formats()) == {"parquet", "webdataset", *READERS}


def test_many_small_files_hold_what_one_large_file_holds(
    drawn: Any, lab: Any, tmp_path: Path
) -> None:
    with lab.patched(files, "FILE_TOKENS", 1500), lab.patched(mds, "_SHARD_BYTES", 4000):
        for name in ("olmo", "datatrove", "mds"):
            export(drawn, name, tmp_path / name)
            assert READERS[name](tmp_path / name / "train") == list(stored(drawn, "train").values())
    for pattern in ("olmo/train/*.npy", "datatrove/train/*.ds", "mds/train/*.mds"):
        assert len(list(tmp_path.glob(pattern))) > 3


def test_the_mixture_is_written_with_its_copies_and_no_copy_beside_another(
    drawn: Any, tmp_path: Path
) -> None:
    export(drawn, "megatron", tmp_path / "out", what="drawn")
    draws = drawn.table("draws").collect()
    wanted = {(r["doc_id"], r["phase"]): r["copies"] for r in draws.iter_rows(named=True)}
    assert max(wanted.values()) > 1
    assert len({doc_id for doc_id, _ in wanted}) < len(stored(drawn, "train"))
    told = pl.read_parquet(tmp_path / "out" / "documents-train.parquet")
    assert Counter(told.select("doc_id", "phase").rows()) == wanted
    ids, phases = told["doc_id"].to_list(), told["phase"].to_list()
    tokens = stored(drawn, "train")
    assert read_megatron(tmp_path / "out" / "train") == [tokens[one] for one in ids]
    assert phases == sorted(phases)
    once = sum(phase == 0 for _, phase in wanted)
    assert len(set(ids[:once])) == once, "every document once before any comes again"
    assert ids[:once] != sorted(ids[:once], key=list(tokens).index), "in keyed order"


def test_one_phase_can_be_chosen(drawn: Any, tmp_path: Path) -> None:
    export(drawn, "olmo", tmp_path / "all", what="drawn")
    done = export(drawn, "olmo", tmp_path / "one", what="drawn", phase="anneal")
    told, one = (
        pl.read_parquet(tmp_path / name / "documents-train.parquet") for name in ("all", "one")
    )
    assert one.equals(told.filter(pl.col("phase") == 1))
    assert done.splits["train"]["documents_of_phase"] == [one.height]
    assert json.loads((tmp_path / "one" / "preceptor.json").read_text())["phases"] == ["anneal"]


def test_the_same_corpus_gives_the_same_bytes_whatever_the_blocks(
    drawn: Any, lab: Any, tmp_path: Path
) -> None:
    for name in READERS:
        export(drawn, name, tmp_path / "one" / name, what="drawn")
        with lab.patched(streams, "_BLOCK_TOKENS", 700), lab.patched(streams, "_OPEN_SHARDS", 1):
            export(drawn, name, tmp_path / "two" / name, what="drawn")
    one, two = (lab.snapshot(tmp_path / name) for name in ("one", "two"))
    tables = {name for name in one if "documents-" in name}  # a block is a row group
    for name in tables:
        frames = [pl.read_parquet(tmp_path / where / name) for where in ("one", "two")]
        assert frames[0].equals(frames[1])
    assert {n: d for n, d in one.items() if n not in tables} == {
        n: d for n, d in two.items() if n not in tables
    }


def test_a_forgotten_document_is_in_no_export(drawn: Any, lab: Any, tmp_path: Path) -> None:
    pad = drawn.manifest("tokenize").info["tokenizer"]["specials"]["pad"]
    gone = sorted(stored(drawn, "train"))[0]
    real = streams.read_shard

    def masked(storage: Any, shard: Any, columns: Any = None) -> Any:
        table = real(storage, shard)
        if "tokens" in table.column_names and "split" in table.column_names:
            rows = table.to_pylist()
            for row in rows:
                if row["doc_id"].hex() == gone:
                    row |= {"tokens": [pad] * len(row["tokens"]), "num_bytes": 0}
            table = pa.Table.from_pylist(rows, schema=table.schema)
        return table if columns is None else table.select(columns)

    with lab.patched(streams, "read_shard", masked):
        for what in ("kept", "drawn"):
            export(drawn, "datatrove", tmp_path / what, what=what)
            told = pl.read_parquet(tmp_path / what / "documents-train.parquet")
            assert gone not in told["doc_id"].to_list()
            assert told.height > 0


def test_an_export_that_fails_leaves_nothing_that_looks_whole(
    drawn: Any, lab: Any, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with lab.patched(exporting, "_lineage", fail), pytest.raises(KeyboardInterrupt):
        export(drawn, "mds", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import json, os, signal, sys
from pipelines.corpus import open_corpus
from pipelines.exchange import export, tokens
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
tokens._copy_tokenizer = die
store, out = json.loads(sys.argv[1])
export(open_corpus("mixed", store=store), "olmo", out)
"""


def test_a_killed_export_leaves_no_folder_of_that_name(
    drawn: Any, lab: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = lab.child(KILLED, [drawn.store.uri, str(out)], tmp_path)
    assert done.returncode == -9, done.stderr
    assert not out.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.partial-")
    other = tmp_path / re.sub("partial-.*-", "partial-elsewhere-", left.name)
    other.mkdir()  # of another host, where nobody here can see who is alive
    with new_folder(out) as alive:
        assert not left.exists(), "what a process left that is gone is removed"
        (alive / "mine").touch()
        export(drawn, "olmo", out)
        assert (alive / "mine").exists(), "what is being written is not"
        (out / "preceptor.json").rename(tmp_path / "lineage")
        shutil.rmtree(out)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "lineage", other.name}


def test_what_cannot_be_locked_gets_a_name_that_nobody_removes(lab: Any, tmp_path: Path) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no locks here")

    with (
        lab.patched(folders.fcntl, "flock", refused),
        contextlib.suppress(InputError),
        new_folder(tmp_path / "out") as first,
        new_folder(tmp_path / "out") as second,
    ):
        assert first.exists()
        (second / "x").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("small", [False, True])
def test_texts_come_in_the_order_of_the_rounds_as_tokens_do(
    drawn: Any, lab: Any, tmp_path: Path, small: bool
) -> None:
    sizes = {"_RUN_BYTES": 3000, "_BLOCK_BYTES": 900, "_FILE_BYTES": 2000, "_OPEN_RUNS": 2}
    with contextlib.ExitStack() as patches:
        for name, size in sizes.items() if small else ():
            patches.enter_context(lab.patched(rounds, name, size))
        export(drawn, "parquet", tmp_path / "texts", what="drawn")
    export(drawn, "olmo", tmp_path / "tokens", what="drawn")
    names = sorted(path.name for path in (tmp_path / "texts" / "data").glob("train-*"))
    assert len(names) >= 3 if small else names == ["train-00000-of-00001.parquet"]
    assert names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    texts = pl.read_parquet(tmp_path / "texts" / "data" / "train-*.parquet")
    wanted = pl.read_parquet(tmp_path / "tokens" / "documents-train.parquet")
    assert texts["id"].to_list() == wanted["doc_id"].to_list()
    assert texts["id"].is_duplicated().any()
    assert texts["source"].to_list() == wanted["source"].to_list()
    assert texts["source"].head(20).n_unique() == 2, "sources alternate"
    whole = dict(drawn.table("documents").select("doc_id", "text").collect().rows())
    assert texts["text"].to_list() == [whole[doc] for doc in texts["id"]]
    assert not list((tmp_path / "texts").glob(".*"))


def test_an_export_refuses_what_it_cannot_do(drawn: Any, lab: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("full", {}, "not an empty folder"),
        ("file", {}, "not an empty folder"),
        ("file/below", {}, "cannot make a folder"),
        ("new", {"what": "drwn"}, "Did you mean 'drawn'"),
        ("new", {"phase": "train"}, "add --what drawn"),
        ("new", {"what": "drawn", "phase": "anneel"}, "Did you mean 'anneal'"),
    ]
    for out, options, told in cases:
        with pytest.raises(InputError, match=told):
            export(drawn, "olmo", tmp_path / out, **options)
    with pytest.raises(InputError, match="Did you mean 'megatron'"):
        export(drawn, "megatrn", tmp_path / "new")
    with pytest.raises(InputError, match="holds text"):
        export(drawn, "parquet", tmp_path / "new", keep_bos=True)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export(drawn, "olmo", tmp_path / "empty").documents > 0


def test_documents_keep_their_first_token_where_that_is_wanted(
    drawn: Any, lab: Any, tmp_path: Path
) -> None:
    export(drawn, "megatron", tmp_path / "out", keep_bos=True)
    bos = drawn.manifest("tokenize").info["tokenizer"]["specials"]["bos"]
    found = read_megatron(tmp_path / "out" / "train")
    assert found == [[bos, *one] for one in stored(drawn, "train").values()]


def _documents(lengths: list[int], dtype: Any, low: int = 9) -> Documents:
    total = sum(lengths)
    return Documents(
        doc_ids=pa.array([bytes([i]) * 16 for i in range(len(lengths))], pa.binary(16)),
        sources=pa.array(["s"] * len(lengths)),
        values=(np.arange(total) % 50 + low).astype(dtype),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def test_wide_ids_are_signed_for_megatron_and_unsigned_elsewhere(tmp_path: Path) -> None:
    told = Told(dtype=np.dtype(np.uint32))
    documents = _documents([3, 1], np.uint32, low=70_000)
    for name, one in token_formats().items():
        (tmp_path / name).mkdir()
        writer = one.open(tmp_path / name, told)
        writer.write(documents)
        writer.close()
    assert read_megatron(tmp_path / "megatron") == [[70_000, 70_001, 70_002], [70_003]]
    assert np.fromfile(tmp_path / "olmo" / "part-00000.npy", "<u4").max() == 70_003
    assert (
        (tmp_path / "datatrove" / "00000_tokens.ds.metadata")
        .read_text()
        .startswith("tokenizer.json|4\n4\n")
    )
    assert b'"ndarray:uint32"' in (tmp_path / "mds" / "shard.00000.mds").read_bytes()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
)
def test_files_are_filled_alike_however_documents_arrive_and_none_is_cut(
    sizes: list[int], cuts: set[int]
) -> None:
    documents = _documents(sizes, np.uint16)
    bounds = [0, *sorted(one for one in cuts if one < len(sizes)), len(sizes)]

    def written(edges: list[int]) -> tuple[list[bytes], list[list[int]]]:
        seen: list[list[int]] = []

        def finish(path: Path, inside: list[Documents]) -> list[str]:
            seen.append([int(n) for one in inside for n in one.lengths])
            return []

        with tempfile.TemporaryDirectory() as folder:
            writer = RolledWriter(Path(folder), "{:02d}.bin", finish, file_tokens=8)
            for start, stop in itertools.pairwise(edges):
                writer.write(documents.part(start, stop))
            return [(Path(folder) / name).read_bytes() for name in writer.close()], seen

    contents, seen = written(bounds)
    assert (contents, seen) == written([0, len(sizes)])
    assert [n for one in seen for n in one] == sizes
    assert all(one and (sum(one) <= 8 or len(one) == 1) for one in seen)
    assert all(sum(a) + b[0] > 8 for a, b in itertools.pairwise(seen)), "files are filled"
    assert b"".join(contents) == documents.values.astype("<u2").tobytes()


def test_a_document_ends_once_even_where_the_tokenizer_begins_with_its_end() -> None:
    documents = Documents(
        doc_ids=pa.array([b"a" * 16, b"b" * 16, b"c" * 16], pa.binary(16)),
        sources=pa.array(["s"] * 3),
        values=np.array([0, 5, 0, 0, 0, 6, 7], dtype=np.uint16),
        offsets=np.array([0, 3, 5, 7]),
    )
    one = framed(documents, bos=0, eos=0, keep_bos=False)
    assert cut(one.values, one.offsets[1:].tolist()) == [[5, 0], [0], [6, 7, 0]]

"""A shard that lies over another reads as the whole, however it is read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus.errors import IntegrityError
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import (
    Patch,
    Shard,
    ShardWriter,
    footer,
    hold,
    iter_batches,
    iter_chosen,
    read_shard,
)
from curate.corpus.storage import Storage
from pipelines.frames import scan

ROWS = 10


def documents(texts: list[str]) -> Any:
    ids = pa.array([bytes([i]) * 16 for i in range(len(texts))], pa.binary(16))
    values: dict[str, Any] = {
        "doc_id": ids,
        "source": ["s"] * len(texts),
        "key": [None] * len(texts),
        "text": texts,
        "url": [None, *[f"u{i}" for i in range(1, len(texts))]],
        "license": [None] * len(texts),
        "timestamp": [None] * len(texts),
        "path": ["p"] * len(texts),
        "position": list(range(len(texts))),
        "meta": [None] * len(texts),
        "raw_hash": ids,
        "text_hash": ids,
    }
    return pa.table(values, schema=SCHEMAS["documents"])


def written(storage: Storage, table: Any, groups: int = 1) -> Shard:
    with ShardWriter(storage, "collect/data", "documents", SCHEMAS["documents"]) as writer:
        size = -(-table.num_rows // groups)
        for first in range(0, table.num_rows, size):
            writer.write(table.slice(first, size))
        return writer.commit()


def over(storage: Storage, base: Shard, rows: list[int], name: str = "text") -> tuple[Shard, Patch]:
    new = pa.array([f"new {row}" for row in rows], SCHEMAS["documents"].field(name).type)
    patch = Patch(np.array(rows, dtype=np.int64), {name: new})
    return ShardWriter.over(storage, "clean/data", "documents", base, patch), patch


@given(
    st.sets(st.integers(0, ROWS - 1), min_size=1),
    st.sets(st.integers(0, ROWS - 1), min_size=1),
    st.integers(1, 4),
    st.integers(1, ROWS + 1),
)
@settings(max_examples=25, deadline=None)
def test_every_way_to_read_gives_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    first: set[int],
    second: set[int],
    groups: int,
    max_rows: int,
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("store")))
    table = documents([f"old {i}" for i in range(ROWS)])
    base = written(storage, table, groups)
    top, _ = over(storage, base, sorted(first))
    top, _ = over(storage, top, sorted(second), "url")
    wanted = {name: table[name].to_pylist() for name in table.column_names}
    wanted["text"] = [f"new {i}" if i in first else f"old {i}" for i in range(ROWS)]
    wanted["url"] = [f"new {i}" if i in second else u for i, u in enumerate(wanted["url"])]

    assert (top.rows, top.ids, len(top.files)) == (base.rows, base.ids, 3)
    assert footer(storage, top) == footer(storage, base)
    assert read_shard(storage, top).to_pydict() == wanted
    assert read_shard(storage, top, ["url", "text"])["text"].to_pylist() == wanted["text"]
    batches = list(iter_batches(storage, top, ["text", "url"], max_rows))
    assert max(batch.num_rows for batch in batches) <= max_rows
    assert pa.Table.from_batches(batches)["url"].to_pylist() == wanted["url"]
    third = lambda ids: np.array([value[0] % 3 == 0 for value in ids.to_pylist()])  # noqa: E731
    chosen = pa.concat_tables(iter_chosen(storage, top, ["text", "position"], third))
    assert chosen.to_pydict() == {
        "text": wanted["text"][::3],
        "position": list(range(0, ROWS, 3)),
    }
    frame = scan(storage, [top, base])
    assert frame.select(pl.len()).collect().item() == 2 * ROWS
    found = frame.filter(pl.col("text").str.starts_with("new")).select("position").collect()
    assert found["position"].to_list() == sorted(first)
    assert frame.select("url").head(3).collect()["url"].to_list() == wanted["url"][:3]
    assert Shard.from_dict(top.to_dict()) == top


def test_a_held_shard_is_read_from_memory_and_only_while_it_is_held(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    shard = written(storage, documents(["a", "b", "c"]))
    batches = [documents(["x", "y", "z"]).to_batches()[0]]
    with hold(storage, shard, batches):
        read = list(iter_batches(storage, shard, ["text"], 2))
        assert [batch["text"].to_pylist() for batch in read] == [["x", "y"], ["z"]]
    (after,) = iter_batches(storage, shard, ["text"])
    assert after["text"].to_pylist() == ["a", "b", "c"]


def test_a_shard_over_another_base_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    base, other = (written(storage, documents([word] * 3)) for word in ("a", "b"))
    top, _ = over(storage, base, [1])
    wrong = Shard(**{**vars_of(top), "base": other})
    for read in (read_shard, footer, lambda s, shard: list(iter_batches(s, shard))):
        with pytest.raises(IntegrityError, match="lies over a shard"):
            read(storage, wrong)


def cut_short(storage: Storage, shard: Shard) -> None:
    path = Path(storage.full(shard.path))
    os.truncate(path, path.stat().st_size - 40)


def nonsense(storage: Storage, shard: Shard) -> None:
    """The footer is whole, the data are not."""
    path = Path(storage.full(shard.path))
    data = bytearray(path.read_bytes())
    data[4:300] = bytes(range(256))[::-1] + bytes(40)
    path.chmod(0o644)
    path.write_bytes(data)


READS = {
    "whole": read_shard,
    "batches": lambda storage, shard: list(iter_batches(storage, shard, ["doc_id", "text"])),
    "chosen": lambda storage, shard: list(
        iter_chosen(storage, shard, ["text"], lambda ids: np.ones(len(ids), bool))
    ),
    "footer": footer,
    "frame": lambda storage, shard: scan(storage, [shard]).collect(),
    "column of a frame": lambda storage, shard: scan(storage, [shard]).select("url").collect(),
}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_file_that_is_cut_short_is_told_in_a_line(tmp_path: Path, layer: int, read: Any) -> None:
    storage = Storage(str(tmp_path))
    top, _ = over(storage, written(storage, documents(["a", "b", "c"])), [1])
    broken = top.files[layer]
    cut_short(storage, broken)
    with pytest.raises(IntegrityError, match=rf"^{broken.path} cannot be read: .+\Z"):
        read(storage, top)
    with pytest.raises(IntegrityError, match=rf"^{broken.path} cannot be read: .+\Z"):
        read(storage, broken)


@pytest.mark.parametrize("read", ["whole", "batches", "chosen"])
def test_data_that_are_nonsense_under_a_good_footer_are_told_too(tmp_path: Path, read: str) -> None:
    storage = Storage(str(tmp_path))
    shard = written(storage, documents(["a", "b", "c"]))
    nonsense(storage, shard)
    assert footer(storage, shard)["rows"] == "3"
    with pytest.raises(IntegrityError, match=f"^{shard.path} cannot be read: "):
        READS[read](storage, shard)


def test_a_mapped_shard_that_is_cut_short_is_told_in_a_line(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    table = pa.table({"doc_id": documents(["a"])["doc_id"], "units": pa.array([3], pa.int64())})
    with ShardWriter(storage, "tokenize/data", "tokens", table.schema, kind="arrow") as writer:
        writer.write(table)
        shard = writer.commit()
    cut_short(storage, shard)
    for read in (read_shard, footer, READS["frame"]):
        with pytest.raises(IntegrityError, match=f"^{shard.path} cannot be read: "):
            read(storage, shard)


def test_what_a_consumer_raises_between_batches_stays_what_it_is(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    top, _ = over(storage, written(storage, documents(["a", "b", "c"])), [1])
    for error in (pa.ArrowInvalid("mine"), OSError("mine")):
        for shard in top.files:
            for batches in (
                iter_batches(storage, shard, ["text"], 1),
                iter_chosen(storage, top, ["text"], lambda ids: np.ones(len(ids), bool)),
            ):
                next(batches)
                with pytest.raises(type(error), match="mine"):
                    batches.throw(error)


def vars_of(shard: Shard) -> dict[str, Any]:
    return {name: getattr(shard, name) for name in Shard.__dataclass_fields__}

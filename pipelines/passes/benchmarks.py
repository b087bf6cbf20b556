"""The items of the benchmarks a recipe names, and the index that is made of them."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.building import PARTS
from curate.contamination.guards import Guards
from curate.contamination.index import BenchmarkIndex
from curate.contamination.methods import METHODS
from curate.corpus.errors import InputError
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.readers.discover import open_stream
from curate.readers.registry import reader_for
from pipelines.passes.base import Parts, Workspace

__all__ = ["build_index", "open_index", "read_items"]

_MAX_ITEM_BYTES = 10_000_000
_MAX_HELD_OUT_BYTES = 256_000_000  # of text; its index is some ten times as large
_OPEN = 2
_READ: Any = {
    "file": pl.Int64(),
    "position": pl.Int64(),
    "text": pl.String(),
    "key": pl.String(),
}


def read_items(benchmark: Mapping[str, Any], files: Sequence[Any]) -> pl.DataFrame:
    """Return a benchmark's items: benchmark, item, text, question, answer, passage.

    An item is named by its record's key, or else by its number. With parts, the text is that of
    question and answer; without, that of all columns.

    Raises:
        InputError: a record that cannot be read, or none at all.
    """
    parts = benchmark.get("parts")
    if not parts:
        found = _read(benchmark, files, benchmark["columns"])
        frame = found.with_columns(pl.lit(None, pl.String).alias(name) for name in PARTS)
    else:
        asked = [*parts["question"], *parts.get("answer", ())]
        frame = _read(benchmark, files, asked)
        for name in PARTS:
            if name not in parts:
                frame = frame.with_columns(pl.lit(None, pl.String).alias(name))
            else:
                told = _read(benchmark, files, parts[name], partial=True)
                told = told.select("file", "position", pl.col("text").alias(name))
                frame = frame.join(told, on=["file", "position"], how="left", maintain_order="left")
    if not frame.height:
        raise InputError(f"benchmark {benchmark['name']!r} has no items")
    item = pl.coalesce("key", pl.int_range(pl.len()).cast(pl.String))
    named = frame.with_columns(item.alias("item"), pl.lit(benchmark["name"]).alias("benchmark"))
    return named.select("benchmark", "item", "text", *PARTS)


def _read(
    benchmark: Mapping[str, Any],
    files: Sequence[Any],
    columns: Sequence[str],
    *,
    partial: bool = False,
) -> pl.DataFrame:
    """Return file, position, text and key of every record; of some records only if `partial`."""
    frames = [pl.DataFrame(schema=_READ)]
    options = {
        "columns": {"text": list(columns) if len(columns) > 1 or partial else columns[0]},
        "delimiter": benchmark["delimiter"],
        "max_document_bytes": _MAX_ITEM_BYTES,
        "options": {},
    }
    for number, file in enumerate(files):
        reader, compression = reader_for(file.path, benchmark["format"])
        for piece in reader.split(file, 1 << 62):
            opener = functools.partial(open_stream, file, compression, None)
            for batch in reader.read(piece, opener, options):
                for reject in batch.rejects:
                    if not (partial and reject.reason == "no_text"):
                        raise InputError(
                            f"benchmark {benchmark['name']!r}: {file.path} record "
                            f"{reject.position} cannot be read "
                            f"({reject.reason}: {reject.detail}); a test set must be whole"
                        )
                records = batch.records.select(["position", "text", "key"])
                read = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([records])))
                frames.append(read.select(pl.lit(number).alias("file"), pl.all()).cast(_READ))
    return pl.concat(frames)


def build_index(
    workspace: Workspace,
    inputs: Sequence[tuple[Mapping[str, Any], Sequence[Any]]],
    settings: Mapping[str, Any],
    held_out: tuple[str, Sequence[tuple[Shard, Shard]]] = ("", ()),
) -> Parts:
    """Job: read the benchmarks' items and build their index.

    Args:
        workspace: where it goes.
        inputs: each benchmark with its files.
        settings: `methods` and `guards`.
        held_out: name, and (documents, verdicts) of the versions whose validation and test
            documents are items too.
    """
    frames = [read_items(benchmark, files) for benchmark, files in inputs]
    if held_out[0]:
        frames.append(_held_out_items(workspace.storage, *held_out))
    index = BenchmarkIndex.build(
        pl.concat(frames),
        guards=Guards(**settings["guards"]),
        methods=[METHODS[name](**asked) for name, asked in settings["methods"].items()],
    )
    table = index.to_table()
    with workspace.writer("index", table.schema) as writer:
        writer.write(table)
        return Parts({"index": [writer.commit()]}, {}, {"coverage": index.coverage().to_dicts()})


def _held_out_items(
    storage: Storage, name: str, shards: Sequence[tuple[Shard, Shard]]
) -> pl.DataFrame:
    """Return the documents that were kept for validation or test, as items named by their id."""
    found: dict[str, str] = {}
    num_bytes = 0
    for documents, verdicts in shards:
        judged = read_shard(storage, verdicts, ["kept", "split"])
        held = pc.and_(judged["kept"], pc.not_equal(judged["split"], "train")).combine_chunks()
        position = 0
        for batch in iter_batches(storage, documents, ["doc_id", "text"]):
            mine = batch.filter(held.slice(position, batch.num_rows))
            position += batch.num_rows
            for doc_id, text in zip(*(column.to_pylist() for column in mine.columns), strict=True):
                found[doc_id.hex()] = text
                num_bytes += len(text)
        if num_bytes > _MAX_HELD_OUT_BYTES:
            raise InputError(
                f"the held-out documents of earlier versions are more than "
                f"{_MAX_HELD_OUT_BYTES:,} characters, too many for an index in memory; switch "
                "`decontaminate.held_out` off and compare with `preceptor overlap`"
            )
    columns = {"item": list(found), "text": list(found.values())}
    frame = pl.DataFrame(columns, schema={"item": pl.String, "text": pl.String})
    frame = frame.with_columns(pl.lit(None, pl.String).alias(part) for part in PARTS)
    return frame.select(pl.lit(name).alias("benchmark"), "item", "text", *PARTS)


_indexes: dict[tuple[str, str], BenchmarkIndex] = {}  # the last ones opened in this process


def open_index(storage: Storage, shard: Shard) -> BenchmarkIndex:
    """Return an index; the jobs of one process share it."""
    key = (storage.uri, shard.sha256)
    found = _indexes.get(key)
    if found is None:
        found = BenchmarkIndex.from_table(pa.table(read_shard(storage, shard)))
        while len(_indexes) >= _OPEN:
            _indexes.pop(next(iter(_indexes)), None)
        _indexes[key] = found
    return found

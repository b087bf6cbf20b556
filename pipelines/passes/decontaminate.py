"""Decontaminate: documents x benchmarks -> evidence: which test item, which span, how much."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.contamination.index import BenchmarkIndex
from curate.corpus.errors import InputError
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.readers.discover import expand, open_stream
from curate.readers.registry import reader_for
from pipelines.digest import code_digest
from pipelines.evidence import Benchmark
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    add_counts,
    finish,
    part_key,
    run_parts,
    tables_of,
)

__all__ = ["build_index", "match_shard", "run"]

_RECORD_ABOVE = (
    0.2  # matches weaker than this are no evidence for anybody; judge applies the threshold
)
_MAX_ITEM_BYTES = 10_000_000


def run(context: Context) -> Manifest:
    """Match every document against the benchmarks."""
    began = time.monotonic()
    cleaned = context.manifests["clean"]
    asked = context.recipe.decontaminate
    code = code_digest(__name__)
    floor = min(_RECORD_ABOVE, asked.method.ngram.overlap)
    settings = {
        "against": [benchmark.model_dump(mode="json") for benchmark in asked.against],
        "words": asked.method.ngram.words,
        "record_above": floor,
    }
    parts: list[Parts] = []
    info: dict[str, Any] = {"coverage": []}
    tables: dict[str, tuple[Shard, ...]] = {"contamination": ()}
    if asked.against:
        (built,) = run_parts(
            context,
            "decontaminate",
            "index",
            [_index_job(code, asked.against, context.recipe.base, settings)],
        )
        (index,) = built.tables["index"]
        info["coverage"] = built.info["coverage"]
        jobs = [
            PartJob(
                part_key(code, settings, shard.sha256, index.sha256),
                match_shard,
                (shard, index, floor),
            )
            for shard in cleaned.tables["documents"]
        ]
        parts = run_parts(context, "decontaminate", "match", jobs)
        tables = {**tables_of(parts, "contamination"), "index": (index,)}
    manifest = Manifest(
        name="decontaminate",
        settings=settings,
        code=code,
        parents={"clean": cleaned.fingerprint},
        tables=tables,
        counts=add_counts(parts),
        info=info,
    )
    return finish(context, manifest, began)


def _index_job(
    code: str, against: Sequence[Benchmark], base: str, settings: Mapping[str, Any]
) -> PartJob:
    inputs = [(b.model_dump(mode="json"), expand(b.paths, base, b.format)) for b in against]
    identity = [f"{f.uri}|{f.size}|{f.version}" for _, files in inputs for f in files]
    used = {
        reader_for(f.path, b["format"])[0].read.__module__ for b, files in inputs for f in files
    }
    key = part_key(code, settings, *identity, *(code_digest(name) for name in sorted(used)))
    return PartJob(key, build_index, (inputs, settings["words"]))


def build_index(
    workspace: Workspace, inputs: Sequence[tuple[Mapping[str, Any], Sequence[Any]]], words: int
) -> Parts:
    """Job: read the benchmarks' items and build their n-gram index."""
    import polars as pl

    frames = []
    for benchmark, files in inputs:
        texts: list[str] = []
        keys: list[str | None] = []
        for file in files:
            reader, compression = reader_for(file.path, benchmark["format"])
            options = {
                "columns": {
                    "text": benchmark["columns"]
                    if len(benchmark["columns"]) > 1
                    else benchmark["columns"][0]
                },
                "delimiter": benchmark["delimiter"],
                "max_document_bytes": _MAX_ITEM_BYTES,
            }
            for piece in reader.split(file, 1 << 62):
                for batch in reader.read(
                    piece, functools.partial(open_stream, file, compression, None), options
                ):
                    if batch.rejects:
                        first = batch.rejects[0]
                        raise InputError(
                            f"benchmark {benchmark['name']!r}: {file.path} record "
                            f"{first.position} cannot be read "
                            f"({first.reason}: {first.detail}); a test set must be whole"
                        )
                    texts += batch.records.column("text").to_pylist()
                    keys += batch.records.column("key").to_pylist()
        if not texts:
            raise InputError(f"benchmark {benchmark['name']!r} has no items")
        names = [str(number) if key is None else key for number, key in enumerate(keys)]
        frames.append(
            pl.DataFrame(
                {"benchmark": [benchmark["name"]] * len(texts), "item": names, "text": texts}
            )
        )
    index = BenchmarkIndex.build(pl.concat(frames), words=words)
    table = index.to_table()
    with workspace.writer("index", table.schema) as writer:
        writer.write(table)
        return Parts({"index": [writer.commit()]}, {}, {"coverage": index.coverage().to_dicts()})


def match_shard(
    workspace: Workspace, shard: Shard, index_shard: Shard, record_above: float
) -> Parts:
    """Job: match one shard's documents."""
    index = BenchmarkIndex.from_table(read_shard(workspace.storage, index_shard))
    documents = 0
    with workspace.writer("contamination") as writer:
        for batch in iter_batches(workspace.storage, shard, ["doc_id", "text_hash", "text"]):
            documents += batch.num_rows
            found = index.match(batch.column("text"), record_above=record_above)
            if found.height:
                rows = found["document"].to_arrow()
                columns = {
                    "doc_id": batch.column("doc_id").take(rows),
                    "text_hash": batch.column("text_hash").take(rows),
                }
                columns |= {
                    name: found[name].to_arrow() for name in found.columns if name != "document"
                }
                writer.write(
                    pa.table({name: columns[name] for name in SCHEMAS["contamination"].names})
                )
        written = writer.commit()
    return Parts({"contamination": [written]}, {"documents": documents, "matches": written.rows})

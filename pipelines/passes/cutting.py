"""What is cut from the documents before they become tokens: repeated lines, contaminated spans.

`deduplicate` finds the lines and `decontaminate` the spans; here they become one list of spans for
each shard of documents, and its texts without them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.thresholds import enough
from curate.corpus.errors import IntegrityError
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.tokens.cuts import cut_spans
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    check_text_hash,
    part_key,
    run_parts,
)

__all__ = [
    "all_cuts",
    "cut_batches",
    "cuts_asked",
    "cuts_content",
    "document_cuts",
    "merge_cuts",
    "shard_cuts",
]

_SPANS = pa.schema([SCHEMAS["cuts"].field(n) for n in ("doc_id", "text_hash", "start", "length")])


def shard_cuts(manifest: Manifest, num_shards: int) -> list[Shard | None]:
    """Return for each shard of documents what is cut from it, None where there is nothing.

    `deduplicate` tells the repeated lines. Where contaminated spans are cut too, `tokenize` tells
    both together.
    """
    cuts: list[Shard | None] = [None] * num_shards
    found = manifest.tables.get("cuts", ())
    for number, shard in zip(manifest.info.get("cut_documents", ()), found, strict=True):
        cuts[number] = shard
    return cuts


def document_cuts(
    deduplicated: Manifest, tokenized: Manifest, num_shards: int
) -> list[Shard | None]:
    """Return for each shard of documents all that is cut from it: lines and contaminated spans."""
    told = tokenized if "cut_documents" in tokenized.info else deduplicated
    return shard_cuts(told, num_shards)


def cuts_asked(context: Context) -> dict[str, Any]:
    """Return what says which contaminated spans are cut, empty where none are."""
    settings = context.manifests["judge"].settings["contamination"]
    names = sorted(name for name, action in settings["actions"].items() if action == "cut")
    return {"thresholds": settings["thresholds"], "benchmarks": names} if names else {}


def all_cuts(context: Context, code: str, documents: Sequence[Shard]) -> list[Shard | None]:
    """Return the repeated lines of each shard, or these and its contaminated spans in one list."""
    lines = shard_cuts(context.manifests["deduplicate"], len(documents))
    settings, matched = cuts_asked(context), context.manifests["decontaminate"]
    if not settings or not matched.tables["contamination"]:
        return lines
    jobs = []
    numbers = matched.info["contaminated"]
    for number, found in zip(numbers, matched.tables["contamination"], strict=True):
        line = lines[number]
        key = part_key(code, settings, documents[number].sha256, found.sha256, *cuts_content(line))
        jobs.append(PartJob(key, merge_cuts, (documents[number], found, line, settings)))
    parts = run_parts(context, "tokenize", "cuts", jobs)
    for number, part in zip(numbers, parts, strict=True):
        (merged,) = part.tables["cuts"]
        lines[number] = merged if merged.rows else None
    return lines


def merge_cuts(
    workspace: Workspace,
    shard: Shard,
    contamination: Shard,
    lines: Shard | None,
    settings: Mapping[str, Any],
) -> Parts:
    """Job: the spans that are cut from one shard's documents, ordered, without overlaps."""
    storage = workspace.storage
    rows = pl.DataFrame(pl.from_arrow(read_shard(storage, contamination)))
    rows = rows.filter(
        enough(rows, settings["thresholds"]) & rows["benchmark"].is_in(settings["benchmarks"])
    )
    spans = rows.select("doc_id", "text_hash", "spans").explode("spans").unnest("spans")
    if lines is not None:
        table = pl.DataFrame(pl.from_arrow(read_shard(storage, lines, spans.columns)))
        spans = pl.concat([spans, table])
    ids = pl.DataFrame(pl.from_arrow(read_shard(storage, shard, ["doc_id"])))
    own = ids.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    placed = spans.join(own, on="doc_id", how="left").sort("row", "start", "length")
    assert not placed["row"].null_count(), "evidence belongs to its shard of documents"
    stop = pl.col("start") + pl.col("length")
    reach = stop.cum_max().shift(1).over("row")
    whole = placed.with_columns(piece=(pl.col("start") > reach).fill_null(True).cum_sum())
    merged = whole.group_by("row", "piece", maintain_order=True).agg(
        pl.col("doc_id", "text_hash", "start").first(), length=stop.max() - pl.col("start").first()
    )
    with workspace.writer("cuts", _SPANS) as writer:
        writer.write(merged.select(_SPANS.names).to_arrow().cast(_SPANS))
        return Parts({"cuts": [writer.commit()]})


def cuts_content(*cuts: Shard | None) -> list[str]:
    """Return what the cuts add to a part's key."""
    return [f"cuts:{shard.sha256}" for shard in cuts if shard is not None]


def cut_batches(
    storage: Storage, shard: Shard, cut: Shard | None, columns: list[str], max_rows: int = 4096
) -> Iterator[Any]:
    """Yield batches of a shard's documents, `text` without the spans to cut, and `columns`.

    Raises:
        IntegrityError: the spans were found in another revision of the texts, or in others.
    """
    if cut is None:
        yield from iter_batches(storage, shard, [*columns, "text"], max_rows)
        return
    spans = read_shard(storage, cut, ["doc_id", "text_hash", "start", "length"]).combine_chunks()
    ids = read_shard(storage, shard, ["doc_id"])["doc_id"].combine_chunks()
    where = pc.index_in(spans["doc_id"].combine_chunks(), value_set=ids)
    if where.null_count:
        raise IntegrityError(f"{cut.path} cuts lines from documents that {shard.path} lacks")
    rows = where.to_numpy().astype(np.int64)
    hashes = spans["text_hash"].combine_chunks()
    starts, lengths = spans["start"].to_numpy(), spans["length"].to_numpy()
    position = low = 0
    for batch in iter_batches(storage, shard, [*columns, "text_hash", "text"], max_rows):
        high = int(np.searchsorted(rows, position + batch.num_rows))
        here = rows[low:high] - position
        found = batch.column("text_hash").take(pa.array(here))
        check_text_hash("a cut", hashes.slice(low, high - low), found)
        texts = cut_spans(batch.column("text"), here, starts[low:high], lengths[low:high])
        position, low = position + batch.num_rows, high
        arrays = [batch.column(name) for name in columns]
        yield pa.record_batch([*arrays, texts], names=[*columns, "text"])

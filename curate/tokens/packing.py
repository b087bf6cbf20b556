"""The pack plan: documents laid end to end and cut into rows of equal length, nothing lost.

The copies of a document lie in different layers, and every layer starts a new row, so no row holds
a document twice. Inside a layer the documents follow a keyed order and fill rows to the brim; one
that does not fit goes on in the next row. Only the last row of a layer may be short: that is all
the waste there is. Held-out splits are packed by the same function with one copy of each document.

>>> import pyarrow as pa
>>> ids = pa.array([bytes([i]) * 16 for i in range(2)], pa.binary(16))
>>> plan = pack(
...     np.array([5, 6]), np.array([1, 1]), ids, shard=np.array([0, 0]),
...     document=np.array([0, 1]), source=np.array([0, 0]), row_tokens=8, seed=7,
... )
>>> [sum(span["length"] for span in row["spans"]) for row in plan.to_pylist()]
[8, 3]
>>> pack_stats(plan, 8).waste_tokens
5
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.schema import SPAN, schema_of
from curate.mixture.keyed import keyed_order

__all__ = ["PackStats", "pack", "pack_stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackStats:
    """What a plan holds.

    Attributes:
        rows: training rows.
        spans: pieces of documents.
        tokens: sum of the spans' lengths, every copy counted.
        waste_tokens: rows * row_tokens - tokens, the padding a trainer would need.
    """

    rows: int
    spans: int
    tokens: int
    waste_tokens: int


def pack(
    lengths: np.ndarray,
    copies: np.ndarray,
    doc_ids: Any,
    *,
    shard: np.ndarray,
    document: np.ndarray,
    source: np.ndarray,
    row_tokens: int,
    seed: int,
) -> Any:
    """Pack the documents of one group of shards.

    A group is packed on its own, so a document that changes moves the rows of its group only.

    Args:
        lengths: int64 [n], tokens of each document, bos and eos included.
        copies: int [n], how often each is read; 0 leaves it out.
        doc_ids: `binary(16)` array of n ids; equal input in another order gives the same rows.
        shard: int32 [n], ordinal of the token shard in the manifest's order.
        document: int32 [n], row of the document inside that shard.
        source: int16 [n], code of its source.
        row_tokens: length of a row, 1 or more.
        seed: the recipe's seed.

    Returns:
        A `plan` table: one row per training row, `spans` in order.

    Raises:
        InputError: `row_tokens` below 1.
    """
    if row_tokens < 1:
        raise InputError(f"pack.row_tokens must be 1 or more, got {row_tokens}")
    lengths = np.asarray(lengths, dtype=np.int64)
    columns = (shard, document, source)
    assert all(len(column) == len(lengths) for column in (copies, doc_ids, *columns))
    assert len(lengths) == 0 or int(lengths.min()) >= 0, "lengths cannot be negative"
    remaining = np.flatnonzero((np.asarray(copies) > 0) & (lengths > 0))
    layers: list[tuple[np.ndarray, ...]] = []
    num_rows = layer = 0
    while len(remaining):
        ids = doc_ids.take(pa.array(remaining))
        members = remaining[keyed_order(ids, seed, f"pack:{layer}")]
        which, row, start, length = _cut(lengths[members], row_tokens)
        layers.append((members[which], row + num_rows, start, length))
        num_rows += int(row[-1]) + 1
        layer += 1
        remaining = remaining[np.asarray(copies)[remaining] > layer]
    return _plan(layers, num_rows, columns)


def _cut(lengths: np.ndarray, row_tokens: int) -> tuple[np.ndarray, ...]:
    """Cut documents that lie end to end at every multiple of `row_tokens`.

    Args:
        lengths: int64 [n], in order, all positive.
        row_tokens: where to cut.

    Returns:
        Per span: index of its document, row, first token inside the document, tokens.
    """
    stops = np.cumsum(lengths)
    starts = stops - lengths
    first_row = starts // row_tokens
    num_spans = (stops - 1) // row_tokens - first_row + 1
    which = np.repeat(np.arange(len(lengths)), num_spans)
    piece = np.arange(len(which)) - np.repeat(np.cumsum(num_spans) - num_spans, num_spans)
    row = first_row[which] + piece
    start = np.maximum(starts[which], row * row_tokens)
    length = np.minimum(stops[which], (row + 1) * row_tokens) - start
    return which, row, start - starts[which], length


def _plan(
    layers: list[tuple[np.ndarray, ...]], num_rows: int, columns: tuple[np.ndarray, ...]
) -> Any:
    """Assemble the Arrow table."""
    if layers:
        which, row, start, length = (np.concatenate(part) for part in zip(*layers, strict=True))
    else:
        which = row = start = length = np.empty(0, dtype=np.int64)
    shard, document, source = columns
    values = {
        "shard": np.asarray(shard, dtype=np.int32)[which],
        "document": np.asarray(document, dtype=np.int32)[which],
        "start": start,
        "length": length,
        "source": np.asarray(source, dtype=np.int16)[which],
    }
    fields = list(SPAN)
    arrays = [pa.array(values[field.name]).cast(field.type) for field in fields]
    spans = pa.StructArray.from_arrays(arrays, fields=fields)
    offsets = np.zeros(num_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=num_rows), out=offsets[1:])
    schema = schema_of("plan")
    kind = schema.field("spans").type
    rows = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), spans, type=kind)
    return pa.table([rows], schema=schema)


def pack_stats(plan: Any, row_tokens: int) -> PackStats:
    """Count the rows, spans, tokens and waste of a plan."""
    spans = pc.list_flatten(plan.column("spans"))
    lengths = pc.struct_field(spans, "length").cast(pa.int64())
    tokens = int(pc.sum(lengths, min_count=0).as_py())
    return PackStats(
        rows=plan.num_rows,
        spans=len(spans),
        tokens=tokens,
        waste_tokens=plan.num_rows * row_tokens - tokens,
    )

"""The pack plan: which pieces of which documents make up each row; nothing is lost in silence.

Rows hold `row_tokens` tokens in one of four layouts (`curate.tokens.layouts`); no row holds two
copies of a document. Held-out splits are packed by the same function with one copy of each.

>>> import pyarrow as pa
>>> ids = pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16))
>>> plan = pack(
...     np.array([5, 12, 4]), np.array([1, 1, 1]), ids, shard=np.array([0, 0, 0]),
...     document=np.array([0, 1, 2]), source=np.array([0, 0, 0]), row_tokens=9, seed=7,
... )
>>> sorted(sorted((s["document"], s["length"]) for s in row["spans"]) for row in plan.to_pylist())
[[(0, 5), (2, 4)], [(1, 3)], [(1, 9)]]
>>> pack_stats(plan, 9).waste_tokens
6
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, one_of
from curate.corpus.schema import SPAN, schema_of
from curate.tokens.layouts import LAYOUTS, Spans, lay

__all__ = ["PackStats", "pack", "pack_stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackStats:
    """What a plan holds.

    Attributes:
        rows: training rows.
        spans: pieces of documents.
        tokens: sum of the spans' lengths, every copy counted.
        waste_tokens: rows * row_tokens - tokens, the padding a trainer would need.
        continued: spans that go on with a document from an earlier row.
    """

    rows: int
    spans: int
    tokens: int
    waste_tokens: int
    continued: int


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
    layout: str = "packed",
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
        layout: packed, stream, padded or document.

    Returns:
        A `plan` table: one row per training row, `spans` in order.

    Raises:
        InputError: `row_tokens` below 1, or an unknown layout.
    """
    if row_tokens < 1:
        raise InputError(f"pack.row_tokens must be 1 or more, got {row_tokens}")
    lengths = np.asarray(lengths, dtype=np.int64)
    if layout not in LAYOUTS:
        raise InputError(one_of("pack.layout", layout, LAYOUTS))
    columns = (shard, document, source)
    assert all(len(column) == len(lengths) for column in (copies, doc_ids, *columns))
    assert len(lengths) == 0 or int(lengths.min()) >= 0, "lengths cannot be negative"
    spans = lay(layout, lengths, copies, doc_ids, row_tokens=row_tokens, seed=seed)
    return _plan(spans, columns)


def _plan(spans: Spans, columns: tuple[np.ndarray, ...]) -> Any:
    """Assemble the Arrow table."""
    shard, document, source = columns
    values = {
        "shard": np.asarray(shard, dtype=np.int32)[spans.which],
        "document": np.asarray(document, dtype=np.int32)[spans.which],
        "start": spans.start,
        "length": spans.length,
        "source": np.asarray(source, dtype=np.int16)[spans.which],
    }
    fields = list(SPAN)
    arrays = [pa.array(values[field.name]).cast(field.type) for field in fields]
    items = pa.StructArray.from_arrays(arrays, fields=fields)
    offsets = np.zeros(int(spans.row.max(initial=-1)) + 2, dtype=np.int64)
    np.cumsum(np.bincount(spans.row), out=offsets[1:])
    schema = schema_of("plan")
    kind = schema.field("spans").type
    rows = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=kind)
    return pa.table([rows], schema=schema)


def pack_stats(plan: Any, row_tokens: int) -> PackStats:
    """Count the rows, spans, tokens, waste and continuations of a plan."""
    spans = pc.list_flatten(plan.column("spans"))
    lengths = pc.struct_field(spans, "length").cast(pa.int64())
    tokens = int(pc.sum(lengths, min_count=0).as_py())
    return PackStats(
        rows=plan.num_rows,
        spans=len(spans),
        tokens=tokens,
        waste_tokens=plan.num_rows * row_tokens - tokens,
        continued=int(pc.sum(pc.greater(pc.struct_field(spans, "start"), 0), min_count=0).as_py()),
    )

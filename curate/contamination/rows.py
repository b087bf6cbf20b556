"""Matches as a table for people and for the store: which item, how much, at which bytes."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from curate.contamination.matching import Matches, merged

__all__ = ["MATCHES", "match_rows"]

_SPAN = pl.Struct({"start": pl.Int64(), "length": pl.Int64()})
MATCHES = {
    "document": pl.Int64(),
    "benchmark": pl.String(),
    "item": pl.String(),
    "method": pl.String(),
    "overlap": pl.Float64(),
    "strictness": pl.Float64(),
    "span_start": pl.Int64(),
    "span_length": pl.Int64(),
    "spans": pl.List(_SPAN),
}


def match_rows(
    matches: Mapping[str, Matches], index: Any, strictness: Callable[[str, Any], Any]
) -> pl.DataFrame:
    """Return one row per document, item and method, with byte spans.

    Args:
        matches: by kind of evidence.
        index: table of the items, benchmark and item.
        strictness: (kind, items) -> how far they have to be above the threshold.
    """
    frames = [pl.DataFrame(schema=MATCHES)]
    for name, found in matches.items():
        if not found.document.size:
            continue
        bounds, begin, end = merged(found.pieces, found.begin, found.end)
        first = begin[bounds[:-1]]
        spans = pa.StructArray.from_arrays([begin, end - begin], ["start", "length"])
        names = index.select(["benchmark", "item"]).take(pa.array(found.item))
        columns = {
            "document": found.document,
            "benchmark": pl.from_arrow(names["benchmark"]),
            "item": pl.from_arrow(names["item"]),
            "method": [name] * found.document.size,
            "overlap": found.overlap,
            "strictness": strictness(name, found.item),
            "span_start": first,
            "span_length": end[bounds[1:] - 1] - first,
            "spans": pl.from_arrow(pa.LargeListArray.from_arrays(bounds, spans)),
        }
        frames.append(pl.DataFrame(columns, schema=MATCHES))
    return pl.concat(frames).sort("document", "benchmark", "item", "method")

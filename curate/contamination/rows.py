"""Matches as a table for people and for the store: which item, how much, at which bytes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.contamination.matching import Matches, merged
from curate.contamination.spans import word_spans

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
    matches: Mapping[str, Matches],
    index: Any,
    strictness: Callable[[str, Any], Any],
    texts_of: Callable[[Any], Any],
) -> pl.DataFrame:
    """Return one row per document, item and method, with byte spans.

    Args:
        matches: by kind of evidence.
        index: table of the items, benchmark and item.
        strictness: (kind, items) -> how far they have to be above the threshold.
        texts_of: sorted ordinals of documents -> their texts.
    """
    frames = [pl.DataFrame(schema=MATCHES)]
    documents = np.concatenate([np.empty(0, np.int64), *(m.document for m in matches.values())])
    rows = np.unique(documents)
    spans = _Spans(rows, texts_of(rows)) if rows.size else None
    for name, found in matches.items():
        if not found.document.size:
            continue
        assert spans is not None
        starts, lengths, pieces = spans.of(found)
        names = index.select(["benchmark", "item"]).take(pa.array(found.item))
        columns = {
            "document": found.document,
            "benchmark": pl.from_arrow(names["benchmark"]),
            "item": pl.from_arrow(names["item"]),
            "method": [name] * found.document.size,
            "overlap": found.overlap,
            "strictness": strictness(name, found.item),
            "span_start": starts,
            "span_length": lengths,
            "spans": pl.Series(pieces, dtype=pl.List(_SPAN)),
        }
        frames.append(pl.DataFrame(columns, schema=MATCHES))
    return pl.concat(frames).sort("document", "benchmark", "item", "method")


class _Spans:
    """Bytes of words, for the documents that match."""

    def __init__(self, rows: Any, texts: Any) -> None:
        self._rows, self._texts = rows, texts

    def of(self, found: Matches) -> tuple[Any, Any, list[list[dict[str, int]]]]:
        """Return span_start, span_length and spans of each match, which are by document."""
        number = found.document.size
        starts, lengths = np.zeros(number, np.int64), np.zeros(number, np.int64)
        pieces: list[list[dict[str, int]]] = []
        begins = ends = np.empty(0, np.int64)
        last = -1
        for one in range(number):
            document = int(found.document[one])
            if document != last:
                at = int(np.searchsorted(self._rows, document))
                begins, ends = word_spans(self._texts[at].as_py())
                last = document
            mine = slice(int(found.pieces[one]), int(found.pieces[one + 1]))
            low, high = begins[found.first[mine]].tolist(), ends[found.last[mine]].tolist()
            together = merged(zip(low, high, strict=True))
            starts[one] = together[0][0]
            lengths[one] = together[-1][1] - together[0][0]
            pieces.append([{"start": a, "length": b - a} for a, b in together])
        return starts, lengths, pieces

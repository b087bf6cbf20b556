"""How documents are laid in rows, as arrays: which document, which row, from where, how much.

Four layouts, all deterministic, none dependent on the order of the input:

- `packed`: no document that fits into a row is cut; a longer one fills rows of its own, and its end
  is placed like a short document. Best-fit decreasing (Ding et al. 2024) leaves little space.
- `stream`: end to end, cut wherever a row ends; no space is left but at the very end.
- `padded`: one document per row, going on in the next row where it is longer.
- `document`: one document per row, and what is longer than the row is left out (and counted).

Every layout takes the same documents in the same keyed order, the first copies of all, then the
second ones, and so on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.mixture.keyed import keyed_order

__all__ = ["LAYOUTS", "Spans", "lay"]

Ints = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Pieces of documents in the order of the rows, and inside a row in its order.

    Attributes:
        which: int64 [k] index of the document.
        row: int64 [k], never falling.
        start: int64 [k] first token, in tokens of the document.
        length: int64 [k] tokens, 1 or more.
    """

    which: Ints
    row: Ints
    start: Ints
    length: Ints


def lay(
    layout: str, lengths: Ints, copies: Ints, doc_ids: Any, *, row_tokens: int, seed: int
) -> Spans:
    """Lay documents in rows.

    Args:
        layout: a key of `LAYOUTS`.
        lengths: int64 [n] tokens.
        copies: int [n], how often each document is laid.
        doc_ids: `binary(16)` array of n ids.
        row_tokens: length of a row, 1 or more.
        seed: the recipe's seed.
    """
    copies = np.asarray(copies)
    remaining = np.flatnonzero((copies > 0) & (lengths > 0))
    layers: list[Ints] = []
    while len(remaining):
        ids = doc_ids.take(pa.array(remaining))
        layers.append(remaining[keyed_order(ids, seed, f"pack:{len(layers)}")])
        remaining = remaining[copies[remaining] > len(layers)]
    return LAYOUTS[layout](lengths, layers, row_tokens)


def _stream(lengths: Ints, layers: list[Ints], row_tokens: int) -> Spans:
    """Lay the documents of each layer end to end; every layer starts a new row."""
    parts, num_rows = [], 0
    for members in layers:
        which, row, start, length = _cut(lengths[members], row_tokens)
        parts.append((members[which], row + num_rows, start, length))
        num_rows += int(row[-1]) + 1
    return _joined(parts)


def _cut(lengths: Ints, row_tokens: int) -> tuple[Ints, ...]:
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
    which, piece = _pieces(num_spans)
    row = first_row[which] + piece
    start = np.maximum(starts[which], row * row_tokens)
    length = np.minimum(stops[which], (row + 1) * row_tokens) - start
    return which, row, start - starts[which], length


def _padded(lengths: Ints, layers: list[Ints], row_tokens: int) -> Spans:
    """Give every document rows of its own."""
    members = _sequence(layers)
    which, piece = _pieces(-(-lengths[members] // row_tokens))
    start = piece * row_tokens
    length = np.minimum(lengths[members][which] - start, row_tokens)
    return Spans(which=members[which], row=np.arange(len(which)), start=start, length=length)


def _document(lengths: Ints, layers: list[Ints], row_tokens: int) -> Spans:
    """Give every document one row."""
    members = _sequence(layers)
    length = np.minimum(lengths[members], row_tokens)
    return Spans(
        which=members, row=np.arange(len(members)), start=np.zeros_like(length), length=length
    )


def _packed(lengths: Ints, layers: list[Ints], row_tokens: int) -> Spans:
    """Fill rows by best fit; the rows a document fills alone stand before the row of its end."""
    members = _sequence(layers)
    full, tail = np.divmod(lengths[members], row_tokens)
    family = _families(members, tail, row_tokens)
    # Families in the order of the first document of each; a document's own rows in its family.
    num = len(members)
    opens = np.empty(int(family.max(initial=-1)) + 1, np.int64)
    opens[family[::-1]] = np.arange(num)[::-1]
    rank = np.empty_like(opens)
    rank[np.argsort(opens)] = np.arange(len(opens))
    order = np.argsort(rank[family], kind="stable")
    members, full, tail = members[order], full[order], tail[order]
    family = rank[family[order]]

    own = np.bincount(family, weights=full, minlength=len(opens)).astype(np.int64)
    ends = np.bincount(family, weights=tail > 0, minlength=len(opens)) > 0
    first = np.cumsum(own + ends) - own - ends
    before = np.cumsum(full) - full  # full rows of all documents before this one
    before -= (np.cumsum(own) - own)[family]  # of those in its family
    which, piece = _pieces(full)
    with_tail = np.flatnonzero(tail)
    parts = [
        (
            members[which],
            (first[family] + before)[which] + piece,
            piece * row_tokens,
            np.full(len(which), row_tokens, dtype=np.int64),
        ),
        (
            members[with_tail],
            (first + own)[family[with_tail]],
            full[with_tail] * row_tokens,
            tail[with_tail],
        ),
    ]
    spans = _joined(parts)
    in_rows = np.argsort(spans.row, kind="stable")
    return Spans(
        which=spans.which[in_rows],
        row=spans.row[in_rows],
        start=spans.start[in_rows],
        length=spans.length[in_rows],
    )


def _families(members: Ints, tail: Ints, row_tokens: int) -> Ints:
    """Return int64 [n]: the row a document's end is in; a number of its own where it has none."""
    from curate.kernels.bestfit import best_fit

    family = np.empty(len(members), np.int64)
    with_tail = np.flatnonzero(tail)
    # Longest first; equal ones in keyed order. Small integers are sorted by radix.
    space = (row_tokens - tail[with_tail]).astype(np.uint16 if row_tokens < 1 << 16 else np.int64)
    placed = with_tail[np.argsort(space, kind="stable")]
    rows = np.empty(len(placed), np.int64)
    num_rows = best_fit(tail[placed], _earlier(members[placed]), row_tokens, rows)
    family[placed] = rows
    without = np.flatnonzero(tail == 0)
    family[without] = num_rows + np.arange(len(without))
    return family


def _earlier(members: Ints) -> Ints:
    """Return int64 [n]: where the same document stood last before, or -1.

    >>> _earlier(np.array([4, 7, 4, 4])).tolist()
    [-1, -1, 0, 2]
    """
    order = np.argsort(members, kind="stable")
    same = members[order[1:]] == members[order[:-1]]
    earlier = np.full(len(members), -1, np.int64)
    earlier[order[1:][same]] = order[:-1][same]
    return earlier


def _pieces(counts: Ints) -> tuple[Ints, Ints]:
    """Return which item each of its pieces is of, and the piece's number.

    >>> [part.tolist() for part in _pieces(np.array([2, 0, 1]))]
    [[0, 0, 2], [0, 1, 0]]
    """
    which = np.repeat(np.arange(len(counts)), counts)
    piece = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, piece


def _sequence(layers: list[Ints]) -> Ints:
    return np.concatenate(layers) if layers else np.empty(0, dtype=np.int64)


def _joined(parts: Sequence[tuple[Ints, ...]]) -> Spans:
    if not parts:
        parts = [tuple(np.empty(0, dtype=np.int64) for _ in range(4))]
    which, row, start, length = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Spans(which=which, row=row, start=start, length=length)


LAYOUTS: dict[str, Callable[[Ints, list[Ints], int], Spans]] = {
    "packed": _packed,
    "stream": _stream,
    "padded": _padded,
    "document": _document,
}

r"""Lines that many documents have: boilerplate of sites, licence headers, navigation.

A line ends with "\n" (which is part of it) or with its text. Two lines are the same if they have
the same words: letters and numbers after `curate.kernels.fold` (case, accents), whatever stands
between them (white space, punctuation, "\r"). With `numbers="zero"` all numbers are alike, as in
CCNet (Wenzek et al. 2020). Lines with few letters and digits (`}`, `return None`) are no
boilerplate and are not looked at: `min_characters`.

A line is known by a 64-bit hash (`curate.kernels.lines`). Among n lines of a corpus and m repeated
ones, n * m / 2^64 lines are expected to be taken for a repeated one by accident: 0.0005 for 10^9
lines and 10^7 repeated ones.

>>> texts = pa.array(["All rights reserved by ACME.\nOne\n", "all  rights reserved by Acme"])
>>> found = find_lines(texts.cast(pa.large_string()), LineRule())
>>> found.document.tolist(), found.start.tolist(), found.length.tolist()
([0, 1], [0, 0], [29, 28])
>>> found.line[0] == found.line[1]
np.True_
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.cleaning.slices import slices
from curate.corpus.errors import InputError
from curate.kernels.buffers import text_buffers
from curate.kernels.fold import fold_utf8

__all__ = [
    "LineRule",
    "Lines",
    "contained",
    "distinct",
    "documents_per_line",
    "find_lines",
    "frequent",
    "line_keys",
    "line_values",
    "sorted_unique",
]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

_NEWLINE = 10
_SLICE_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class LineRule:
    """Which lines are looked at, and when two are the same.

    Attributes:
        min_characters: letters and digits that a line has at least.
        numbers: `keep` them apart, or `zero`: every run of decimal digits is the number 0, and
            counts nothing towards `min_characters`.
    """

    min_characters: int = 20
    numbers: Literal["keep", "zero"] = "keep"

    def __post_init__(self) -> None:
        if self.min_characters < 1:
            raise InputError(f"min_characters is at least 1, got {self.min_characters}")


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Lines of a column of texts, in order: document i, bytes `start : start + length` of it."""

    document: I64
    start: I64
    length: I64
    line: U64

    def __len__(self) -> int:
        return len(self.line)

    def where(self, mask: npt.NDArray[np.bool_]) -> "Lines":
        """Return some of the lines."""
        return Lines(
            document=self.document[mask],
            start=self.start[mask],
            length=self.length[mask],
            line=self.line[mask],
        )


def find_lines(texts: Any, rule: LineRule) -> Lines:
    """Return every line with enough letters and digits, and its hash.

    Args:
        texts: large_string array (or chunked array) of n texts; a null has no lines.
        rule: which lines.
    """
    parts: list[Lines] = []
    row = 0
    for piece in slices(texts, _SLICE_BYTES):
        parts.append(_find(piece, row, rule))
        row += len(piece)
    return Lines(
        document=_joined([part.document for part in parts], np.int64),
        start=_joined([part.start for part in parts], np.int64),
        length=_joined([part.length for part in parts], np.int64),
        line=_joined([part.line for part in parts], np.uint64),
    )


def _find(texts: Any, first_row: int, rule: LineRule) -> Lines:
    from curate.kernels.lines import hash_lines  # numba: half a second

    data, offsets = text_buffers(texts)
    # A text begins a line, and so does every byte behind a newline; each of them ends one too.
    begins = np.concatenate([offsets, np.flatnonzero(data == _NEWLINE) + 1])
    begins.sort(kind="stable")  # two ascending runs: a merge
    bounds = begins[np.flatnonzero(np.diff(begins, prepend=-1))]
    zero = rule.numbers == "zero"
    folded, folded_bounds = fold_utf8(data, bounds, alone=False, zero=zero)
    hashes = np.empty(bounds.size - 1, dtype=np.uint64)
    sizes = np.empty(bounds.size - 1, dtype=np.int64)
    # A character that counts is a byte or more: a line of too few bytes has too few characters.
    hash_lines(folded, folded_bounds, zero, rule.min_characters, hashes, sizes)
    chosen = np.flatnonzero(sizes >= rule.min_characters)
    start = bounds[chosen]
    document = np.searchsorted(offsets, start, side="right") - 1
    return Lines(
        document=document + first_row,
        start=start - offsets[document],
        length=bounds[chosen + 1] - start,
        line=hashes[chosen],
    )


def distinct(line: U64, document: I64) -> tuple[U64, I32]:
    """Return each (line, document) once, sorted by line, then document.

    Args:
        line: uint64 [k].
        document: int64 [k], ascending.
    """
    order = np.argsort(line, kind="stable")
    line, document = line[order], document[order]
    new = np.ones(line.size, dtype=np.bool_)
    new[1:] = (line[1:] != line[:-1]) | (document[1:] != document[:-1])
    return line[new], document[new].astype(np.int32)


def sorted_unique(line: U64) -> U64:
    """Return the different values of a sorted array."""
    return line[np.concatenate([[True], line[1:] != line[:-1]])] if line.size else line


def frequent(runs: Sequence[U64], above: int) -> U64:
    """Return, sorted, the lines that occur in all runs together more than `above` times.

    Args:
        runs: arrays of line hashes, each naming a line once per document.
        above: how often is still allowed.
    """
    every = _joined(list(runs), np.uint64)
    every.sort()
    if every.size <= above:
        return np.empty(0, dtype=np.uint64)
    # In sorted order a line occurs more often than that if it is also found so many places on.
    return sorted_unique(every[: every.size - above][every[: every.size - above] == every[above:]])


def contained(line: U64, among: U64) -> npt.NDArray[np.bool_]:
    """Tell which lines are among some sorted ones, bool [k]."""
    if not among.size:
        return np.zeros(line.size, dtype=np.bool_)
    at = np.searchsorted(among, line)
    found: npt.NDArray[np.bool_] = among[np.minimum(at, among.size - 1)] == line
    return found


def documents_per_line(line: U64, group: U64) -> tuple[U64, I64, I64]:
    """Count documents and groups of documents per line.

    Args:
        line: uint64 [k], one entry per document that has the line.
        group: uint64 [k], what the document counts as: one number for all its duplicates.

    Returns:
        lines (sorted), documents per line, groups per line.
    """
    counted = (
        pl.DataFrame({"line": line, "group": group})
        .group_by("line")
        .agg(pl.len().cast(pl.Int64).alias("documents"), pl.col("group").n_unique().alias("groups"))
        .sort("line")
    )
    return (
        counted["line"].to_numpy(),
        counted["documents"].to_numpy(),
        counted["groups"].cast(pl.Int64).to_numpy(),
    )


def line_keys(line: U64) -> Any:
    """Return line hashes as the `binary(8)` of the tables; their hex digits sort as they do.

    >>> line_keys(np.array([1], dtype=np.uint64))[0].as_py().hex()
    '0000000000000001'
    """
    data = pa.py_buffer(line.astype(">u8").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), line.size, [None, data])


def line_values(keys: Any) -> U64:
    """Return the hashes of a `binary(8)` array or column without nulls; undoes `line_keys`."""
    chunks = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
    found = [
        np.frombuffer(chunk.buffers()[1] or b"", dtype=">u8")[chunk.offset :][: len(chunk)]
        for chunk in chunks
    ]
    values: U64 = _joined([part.astype(np.uint64) for part in found], np.uint64)
    return values


def _joined(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)

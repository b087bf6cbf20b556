"""How much of each document of one collection stands in another, both ways, in bounded memory.

A document's coverage is the share of its different word n-grams that any document of the other
collection has. The n-grams of both sides are written to files by ranges of their hash, one pass
over the texts; a range at a time is then sorted and compared, so memory is that of a range and some
40 bytes per document, and disk about twice the text.

Pairs of documents are found by the n-grams they share. Those of many documents make no pairs (they
are boilerplate), and of very many shared n-grams a sample by hash does.

Hashes are of 64 bits and compared as such: among 10^10 n-grams a handful are mistaken for others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.kernels.words import shingle_sets

__all__ = ["Overlap", "Side", "compare"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_ROW = np.dtype([("gram", "<u8"), ("document", "<u4")])
_BYTES_PER_RANGE = 64 << 20  # of text, of either side: some 500 MB while it is compared
_MAX_RANGES = 1024
_MOST_PAIRS = 1 << 21  # (document, document, n-gram) of all ranges
_COMMON = 64  # pairs of documents that an n-gram may make


class Side:
    """The n-grams of one collection, in files by ranges of their hash.

    Args:
        folder: an empty one of its own.
        ranges: a power of two.
        width: words of an n-gram.
    """

    def __init__(self, folder: Path, ranges: int, width: int) -> None:
        self._folder, self.ranges, self._width = folder, ranges, width
        self._sizes: list[I64] = []
        self.num_documents = 0

    def add(self, texts: Any) -> None:
        """Add documents: a large_string array, in the order that numbers them."""
        grams, offsets = shingle_sets(texts, self._width)
        sizes = np.diff(offsets)
        rows = np.empty(grams.size, dtype=_ROW)
        rows["gram"] = grams
        rows["document"] = np.repeat(np.arange(sizes.size) + self.num_documents, sizes)
        place = self._range_of(grams)
        order = np.argsort(place, kind="stable")
        rows = rows[order]
        edges = np.searchsorted(place[order], np.arange(self.ranges + 1))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            with self._path(number).open("ab") as stream:
                stream.write(rows[edges[number] : edges[number + 1]].tobytes())
        self._sizes.append(sizes)
        self.num_documents += sizes.size

    def sizes(self) -> I64:
        """Return the different n-grams of each document."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._sizes])

    def rows(self, number: int) -> Any:
        """Return one range, ordered by n-gram and document."""
        path = self._path(number)
        rows = np.fromfile(path, dtype=_ROW) if path.exists() else np.empty(0, dtype=_ROW)
        return rows[np.lexsort((rows["document"], rows["gram"]))]

    def _range_of(self, grams: U64) -> I64:
        bits = self.ranges.bit_length() - 1
        return (
            (grams >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(grams), int)
        )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}.grams"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two collections share.

    Attributes:
        found: for either side, int64 [documents]: n-grams that the other side has too.
        sizes: for either side, int64 [documents]: n-grams.
        pairs: left, right (numbers of documents), shared (n-grams, perhaps a sample), the most
            shared first.
    """

    found: tuple[I64, I64]
    sizes: tuple[I64, I64]
    pairs: pl.DataFrame

    def coverage(self, side: int) -> npt.NDArray[np.float64]:
        """Return the share of each document's n-grams that the other side has; 0 without any."""
        return self.found[side] / np.maximum(self.sizes[side], 1)


def num_ranges(num_bytes: int) -> int:
    """Return into how many ranges, a power of two, so much text (of both sides) is cut."""
    wanted = max(1, -(-num_bytes // _BYTES_PER_RANGE))
    return min(_MAX_RANGES, 1 << (wanted - 1).bit_length())


def compare(left: Side, right: Side, *, most: int = 1000) -> Overlap:
    """Compare two sides of equal ranges.

    Args:
        left, right: with all their documents.
        most: pairs to return.
    """
    assert left.ranges == right.ranges, "both sides are cut alike"
    sides = (left, right)
    found = tuple(np.zeros(side.num_documents, dtype=np.int64) for side in sides)
    parts = []
    for number in range(left.ranges):
        rows = [side.rows(number) for side in sides]
        own: list[U64] = [np.unique(one["gram"]) for one in rows]
        common = np.intersect1d(own[0], own[1], assume_unique=True)
        if not common.size:
            continue
        kept = []
        for one, counts in zip(rows, found, strict=True):
            mine = one[np.isin(one["gram"], common)]
            counts += np.bincount(mine["document"], minlength=counts.size)
            kept.append(mine)
        parts.append(_pairs(kept[0], kept[1], common, _MOST_PAIRS // left.ranges))
    schema = {"left": pl.Int64(), "right": pl.Int64(), "shared": pl.Int64()}
    pairs = pl.concat([pl.DataFrame(schema=schema), *parts])
    pairs = pairs.group_by("left", "right").agg(pl.col("shared").sum())
    best = pairs.sort(["shared", "left", "right"], descending=[True, False, False]).head(most)
    return Overlap(found=(found[0], found[1]), sizes=(left.sizes(), right.sizes()), pairs=best)


def _pairs(left: Any, right: Any, common: U64, most: int) -> pl.DataFrame:
    """Return (left, right, shared) of the documents that share n-grams of one range."""
    counts = [
        np.diff(np.append(np.searchsorted(one["gram"], common), one.size)) for one in (left, right)
    ]
    few = counts[0] * counts[1] <= _COMMON
    usable = common[few]
    expected = int((counts[0] * counts[1])[few].sum())
    if expected > most:  # the same n-grams whatever the order: those with zeros at the end
        bits = int(np.ceil(np.log2(expected / max(1, most))))
        usable = usable[usable & np.uint64((1 << bits) - 1) == 0]
    frames = [
        pl.DataFrame({"gram": one["gram"], name: one["document"].astype(np.int64)}).filter(
            pl.Series(np.isin(one["gram"], usable))
        )
        for one, name in ((left, "left"), (right, "right"))
    ]
    joined = frames[0].join(frames[1], on="gram")
    return joined.group_by("left", "right").agg(pl.len().cast(pl.Int64).alias("shared"))


def exact_coverage(texts: Iterable[Any], width: int) -> tuple[int, int, int]:
    """Return (shared, n-grams of the first, n-grams of the second) of two texts (arrays of one)."""
    first, second = (shingle_sets(text, width)[0] for text in texts)
    return int(np.isin(first, second).sum()), int(first.size), int(second.size)

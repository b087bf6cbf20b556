"""How many near-duplicates were found, measured on the corpus itself and not on a formula.

Some documents are drawn by a keyed hash of their ids. Their true twins among the probed documents
are searched exactly, without signatures or bands (`SampleIndex`), and compared with the edges that
the pass found: that is the recall; exact copies of one another do not count. Some edges are
counted again in plain Python, with no kernel and no hash (`curate.dedup.plain`): that is the
precision. Both come with an interval (`curate.dedup.intervals`).

>>> import numpy as np
>>> index = SampleIndex.build(np.array([1, 2, 3, 4], np.uint64), np.array([0, 4]), threshold=0.75)
>>> twins = index.probe(np.array([1, 2, 4, 7, 8], np.uint64), np.array([0, 3, 5]))
>>> twins.probed.tolist(), twins.sampled.tolist(), twins.similarity.tolist()
([0], [0], [0.75])
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.corpus.errors import InputError, one_of
from curate.corpus.identity import ids_to_numpy
from curate.dedup.verify import SIMILARITIES
from curate.mixture.keyed import keyed_hash, keyed_order

__all__ = [
    "NearestTwins",
    "SampleIndex",
    "Twins",
    "are_known",
    "between_classes",
    "choose",
    "draw_edges",
    "limit_of_sample",
    "limit_of_share",
    "nearest",
    "probe_keys",
    "sample_keys",
    "true_pairs",
]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ALL = 2**64 - 1  # a limit of keys that lets every document pass
SAMPLE, PROBE, CHECK = "deduplicate sample", "deduplicate probe", "deduplicate check"
MAX_BITS, MIN_BITS = 1 << 22, 1 << 12  # of the bitmap: 512 KiB stay in a core's cache
BLOCK_PAIRS = 1 << 16
SLACK = 1e-6  # as in curate.kernels.probe, which cannot be imported here


def _own_or_not(name: str) -> pl.Expr:
    """Return ids that differ from all of this corpus where `twin_corpus` names another one."""
    own, other = pl.col(name), pl.col(name) + pl.lit(b"of another corpus")
    return pl.when(pl.col("twin_corpus").is_null()).then(own).otherwise(other)


_TWIN = _own_or_not("twin_id")


def choose(ids: Any, count: int, seed: int = 0) -> I64:
    """Return the positions of the `count` documents with the smallest keyed hash, in that order.

    The chosen of a whole are those chosen among the chosen of its parts, whatever the parts are.

    Args:
        ids: `binary(16)` array of document ids.
        count: how many; all if there are not as many.
        seed: another seed draws other documents.
    """
    order: I64 = keyed_order(ids, seed, SAMPLE)[:count]
    return order


def sample_keys(ids: Any, seed: int = 0) -> U64:
    """Return the hash by which `choose` chooses, uint64 [n]."""
    keys: U64 = keyed_hash(ids, seed, SAMPLE)
    return keys


def probe_keys(ids: Any, seed: int = 0) -> U64:
    """Return the hash that decides which documents are probed, uint64 [n]; uniform."""
    keys: U64 = keyed_hash(ids, seed, PROBE)
    return keys


def limit_of_share(part: int, whole: int) -> int:
    """Return the greatest key of a share: about part / whole of uniform 64-bit keys are no greater.

    >>> limit_of_share(1, 1) == limit_of_share(9, 3) == 2**64 - 1
    True
    """
    return (part << 64) // whole if part < whole else ALL


def limit_of_sample(count: int, num_docs: int) -> int:
    """Return a key that more than `count` of uniform keys do not pass, save once in 10^8 corpora.

    It is a power of two less 1, so that a file more leaves it, and with it what was picked, alone.
    """
    limit, wanted = ALL, count + 6 * math.isqrt(count) + 16
    while (limit >> 1) * num_docs >= wanted << 64:
        limit >>= 1
    return limit


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Pairs of a probed and a sampled document.

    Attributes:
        probed: int64 [m], rows of the probed documents.
        sampled: int64 [m], rows of the sampled documents.
        similarity: float64 [m].
    """

    probed: I64
    sampled: I64
    similarity: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SampleIndex:
    """The sampled documents' shingle sets, and which of them have a shingle.

    Attributes:
        values, offsets: the sets, uint64 sorted per document, int64 [m + 1].
        threshold, similarity: what makes a pair; `jaccard` or `containment`.
        bits: uint64, a bitmap of the low bits of the indexed shingles.
        indexed, starts, members: uint64 sorted, int64 [len + 1], int32: shingle -> documents.
    """

    values: U64
    offsets: I64
    threshold: float
    similarity: str
    bits: U64
    indexed: U64
    starts: I64
    members: npt.NDArray[np.int32]

    @classmethod
    def build(
        cls, values: U64, offsets: I64, *, threshold: float, similarity: str = "jaccard"
    ) -> "SampleIndex":
        """Index the prefixes of the sets; for containment, which has no useful prefix, all of them.

        Args:
            values: uint64, each document's set of hashes, sorted.
            offsets: int64 [m + 1] into `values`.
            threshold: in (0, 1].
            similarity: `jaccard` (shared / union) or `containment` (shared / the smaller set).
        """
        if not 0.0 < threshold <= 1.0:
            raise InputError(f"threshold must be in (0, 1], got {threshold}; 0.8 is usual")
        if similarity not in SIMILARITIES:
            raise InputError(one_of("similarity", similarity, SIMILARITIES))
        values, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
        sizes = np.diff(offsets)
        reach = sizes
        if similarity == "jaccard":
            needed = np.ceil(threshold * sizes - SLACK).astype(np.int64)
            reach = np.minimum(sizes, sizes - needed + 1)
        owner = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes)
        inside = np.arange(values.size) - offsets[owner] < reach[owner]
        prefix, owner = values[inside], owner[inside]
        order = np.argsort(prefix, kind="stable")
        indexed, starts = np.unique(prefix[order], return_index=True)
        return cls(
            values=values,
            offsets=offsets,
            threshold=threshold,
            similarity=similarity,
            bits=_bitmap(indexed),
            indexed=indexed,
            starts=np.append(starts, prefix.size).astype(np.int64),
            members=owner[order],
        )

    def probe(
        self, values: U64, offsets: I64, keys: U64 | None = None, limits: U64 | None = None
    ) -> Twins:
        """Return all pairs of a document here and a sampled one with similarity >= threshold.

        Every such pair is returned and no other, in order of the probed document; a document that
        is sampled itself meets itself. Documents without shingles have no pairs.

        Args:
            values, offsets: the probed documents' sorted sets, as for `build`.
            keys, limits: uint64 [n], [m]; a pair with key > limit is left out, at no cost.
        """
        from curate.kernels.probe import count_shared, probe_prefixes  # numba: half a second

        num_docs, num_sets = offsets.size - 1, self.offsets.size - 1
        contained = self.similarity == "containment"
        probed, sampled, shared = np.empty((3, max(BLOCK_PAIRS, num_sets)), dtype=np.int64)
        keys = np.zeros(num_docs, dtype=np.uint64) if keys is None else keys
        limits = np.full(num_sets, ALL, dtype=np.uint64) if limits is None else limits
        scratch = np.full(num_sets, 0 if contained else -1, dtype=np.int64)
        parts, done = [np.empty((3, 0), dtype=np.int64)], 0
        while done < num_docs:
            if contained:
                done, count = count_shared(
                    values, offsets, keys, done, self.offsets, limits, self.bits, self.indexed,
                    self.starts, self.members, self.threshold, scratch, probed, sampled, shared,
                )  # fmt: skip
            else:
                done, count = probe_prefixes(
                    values, offsets, keys, done, self.values, self.offsets, limits, self.bits,
                    self.indexed, self.starts, self.members, self.threshold, scratch, probed,
                    sampled, shared,
                )  # fmt: skip
            parts.append(np.stack([probed[:count], sampled[:count], shared[:count]]))
        probed, sampled, shared = np.concatenate(parts, axis=1)
        sizes = np.diff(offsets)[probed], np.diff(self.offsets)[sampled]
        whole = np.minimum(*sizes) if contained else sizes[0] + sizes[1] - shared
        return Twins(probed=probed, sampled=sampled, similarity=shared / whole)


def _bitmap(indexed: U64) -> U64:
    """Return one bit of 64 or more for each value, so that one in 64 others is taken for one."""
    size = min(MAX_BITS, max(MIN_BITS, 1 << (64 * indexed.size).bit_length()))
    flags = np.zeros(size, dtype=bool)
    flags[(indexed & np.uint64(size - 1)).astype(np.int64)] = True
    return np.packbits(flags, bitorder="little").view("<u8").astype(np.uint64)


def nearest(sampled: I64, keys: U64, count: int) -> Bools:
    """Mark the `count` rows of each sampled document with the smallest keys.

    So a sampled document with a million twins stands for itself and not for the corpus; like
    `choose`, it may be applied to parts and then to what they gave.
    """
    order = np.lexsort((keys, sampled))
    ordered = sampled[order]
    first = np.searchsorted(ordered, ordered)  # where each document's rows begin
    marked = np.zeros(sampled.size, dtype=bool)
    marked[order[np.arange(sampled.size) - first < count]] = True
    return marked


class NearestTwins:
    """Gathers twins block by block; of each sampled document the `count` with the smallest keys.

    Attributes:
        limits: uint64 [m]; a twin with a greater key is not needed any more.
    """

    def __init__(self, names: Any, count: int, *, block: int = 1 << 18) -> None:
        self._names, self._count, self._block = ids_to_numpy(names), count, block
        self._ids = np.empty((0, 2), dtype=np.uint64)
        self._keys, self._sampled = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.limits = np.full(self._names.shape[0], ALL, dtype=np.uint64)

    def add(self, ids: Any, keys: U64, twins: Twins) -> None:
        """Add the twins that a block of documents with these ids has; nobody is its own twin."""
        own = ids_to_numpy(ids)[twins.probed]
        others = (own != self._names[twins.sampled]).any(axis=1)
        self._ids = np.concatenate([self._ids, own[others]])
        self._keys = np.concatenate([self._keys, keys[twins.probed][others]])
        self._sampled = np.concatenate([self._sampled, twins.sampled[others]])
        if self._keys.size > self._block:
            self._reduce()
            self._block = max(self._block, 2 * self._keys.size)

    def table(self) -> Any:
        """Return (doc_id, row of the sampled document), in order of row and key."""
        self._reduce()
        order = np.lexsort((self._keys, self._sampled))
        data = pa.py_buffer(np.ascontiguousarray(self._ids[order]).tobytes())
        ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), order.size, [None, data])
        return pa.table({"doc_id": ids, "sampled": pa.array(self._sampled[order].astype(np.int32))})

    def _reduce(self) -> None:
        kept = nearest(self._sampled, self._keys, self._count)
        self._ids, self._keys = self._ids[kept], self._keys[kept]
        self._sampled = self._sampled[kept]
        full = np.bincount(self._sampled, minlength=self.limits.size) >= self._count
        highest = np.zeros_like(self.limits)
        np.maximum.at(highest, self._sampled, self._keys)
        self.limits = np.where(full, highest, np.uint64(ALL))


def true_pairs(table: Any, names: Any, count: int) -> pl.DataFrame:
    """Return the pairs (low id, high id, sampled) of `NearestTwins.table` of all parts.

    A pair of two sampled documents is seen from both sides and counts once.

    Args:
        table: the parts' tables, in any order.
        names: ids of the sampled documents.
        count: as for `NearestTwins`.
    """
    keys = probe_keys(table["doc_id"])
    table = table.filter(pa.array(nearest(table["sampled"].to_numpy(), keys, count)))
    frame = pl.DataFrame(
        {
            "doc_id": pl.Series(table["doc_id"].to_pylist(), dtype=pl.Binary),
            "sample_id": pl.Series(names.take(table["sampled"]).to_pylist(), dtype=pl.Binary),
            "sampled": table["sampled"].to_numpy(),
        }
    )
    first = pl.col("doc_id") < pl.col("sample_id")
    ordered = frame.select(
        low=pl.when(first).then("doc_id").otherwise("sample_id"),
        high=pl.when(first).then("sample_id").otherwise("doc_id"),
        sampled="sampled",
    )
    return ordered.sort("low", "high", "sampled").unique(
        ["low", "high"], keep="first", maintain_order=True
    )


def between_classes(pairs: pl.DataFrame, edges: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the pairs of different exact classes, `low` and `high` now naming those classes.

    Copies are no near-duplicates: that they were found says nothing of signatures and bands. A
    class is named by the one who speaks for it: exact edges lead there, near edges join those.

    Args:
        pairs: `low` and `high`, ids, and any other columns.
        edges: frames of (doc_id, twin_id, kind, twin_corpus).
    """
    ends = pl.concat([pairs["low"], pairs["high"]]).unique().to_frame("doc_id")
    named = pl.DataFrame(schema={"doc_id": pl.Binary, "class": pl.Binary})
    for frame in edges:
        exact = frame.filter(pl.col("kind") == "exact").join(ends, on="doc_id", how="semi")
        named = pl.concat([named, exact.select("doc_id", **{"class": _TWIN})])
    for end in ("low", "high"):
        pairs = pairs.join(named.rename({"doc_id": end}), on=end, how="left", maintain_order="left")
        pairs = pairs.with_columns(pl.coalesce("class", end).alias(end)).drop("class")
    return pairs.filter(pl.col("low") != pl.col("high"))


def are_known(
    pairs: pl.DataFrame, edges: Iterable[pl.DataFrame], crowds: Iterable[pl.DataFrame] = ()
) -> Bools:
    """Say of each pair of `between_classes` whether an edge or a crowd holds both classes.

    A gap that is known: two classes that another corpus speaks for are never compared with each
    other, as both go anyway; a pair of theirs counts as missed.

    Args:
        pairs: `low` and `high`, names of classes.
        edges: frames of (doc_id, twin_id, kind, twin_corpus).
        crowds: frames of (bucket, doc_id, twin_corpus), the last null for documents of this
            corpus; pairs within a bucket are verified on demand.
    """
    known: Bools = np.zeros(pairs.height, dtype=bool)
    spoken = pairs.select("low", "high").with_row_index("row")
    either = pl.concat(
        [
            spoken.select("row", doc_id="low", twin_id="high"),
            spoken.select("row", doc_id="high", twin_id="low"),
        ]
    )
    for frame in edges:
        near = frame.filter(pl.col("kind") == "near").select("doc_id", twin_id=_TWIN)
        rows = either.join(near, on=["doc_id", "twin_id"], how="semi")["row"]
        known[rows.to_numpy()] = True
    known |= _in_one_crowd(spoken, crowds)
    return known


def _in_one_crowd(spoken: pl.DataFrame, crowds: Iterable[pl.DataFrame]) -> Bools:
    known = np.zeros(spoken.height, dtype=bool)
    ends = pl.concat([spoken["low"], spoken["high"]]).unique().to_frame("doc_id")
    for frame in crowds:  # a bucket lies in one of them
        named = frame.select("bucket", doc_id=_own_or_not("doc_id"))
        members = named.join(ends, on="doc_id", how="semi")
        for begin in range(0, spoken.height if members.height else 0, BLOCK_PAIRS):
            both = spoken[begin : begin + BLOCK_PAIRS].join(
                members.rename({"doc_id": "low"}), on="low"
            )
            both = both.join(members.rename({"doc_id": "high"}), on=["high", "bucket"], how="semi")
            known[both["row"].to_numpy()] = True
    return known


def draw_edges(edges: Iterable[pl.DataFrame], count: int, seed: int = 0) -> pl.DataFrame:
    """Return the `count` near edges (doc_id, twin_id) with the smallest keyed hashes, in order.

    They are of this corpus alone: another one may give the same id to another text.
    """
    drawn = pl.DataFrame(schema={"doc_id": pl.Binary, "twin_id": pl.Binary, "key": pl.UInt64})
    for frame in edges:
        own = (pl.col("kind") == "near") & pl.col("twin_corpus").is_null()
        near = frame.filter(own).select("doc_id", "twin_id")
        ends = (near[name].to_arrow().cast(pa.binary(16)) for name in ("doc_id", "twin_id"))
        keys = (keyed_hash(end, seed, f"{CHECK} {k}") for k, end in enumerate(ends))
        near = near.with_columns(key=pl.Series(np.bitwise_xor(*keys), dtype=pl.UInt64))
        drawn = pl.concat([drawn, near]).sort("key", "doc_id", "twin_id").head(count)
    return drawn.select("doc_id", "twin_id")

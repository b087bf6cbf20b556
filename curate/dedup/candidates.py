"""Candidate pairs: documents that share a band key, found by sorting.

The documents of one key form a bucket. A bucket of up to `max_bucket` documents gives all its
pairs. A larger one (templates, boilerplate) would give millions: it is *crowded*, and its documents
are banded again with more rows, which tells templates from duplicates. What is crowded still is
linked to hubs: its first documents, and each to the one before it.

>>> import numpy as np
>>> keys = np.array([[7, 1], [7, 2], [8, 2]], dtype=np.uint64)
>>> candidate_pairs(keys, np.ones(3, dtype=bool)).pairs.tolist()
[[0, 1], [1, 2]]
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = [
    "Buckets",
    "Candidates",
    "buckets",
    "candidate_pairs",
    "distinct",
    "hub_pairs",
    "unique_pairs",
]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
T = TypeVar("T", bound=np.generic)
Near = Callable[[I64, I64], npt.NDArray[np.bool_]]

NUM_HUBS = 8
# Pairs made at a time (some 100 MiB with temporaries) before repeats among them are removed.
BLOCK_PAIRS = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Documents by shared key: bucket i is `members[bounds[i] : bounds[i + 1]]`, at least two.

    Attributes:
        keys: uint64 [b], the key of each bucket, ascending.
        members: int64 [m], ordinals; ascending inside a bucket.
        bounds: int64 [b + 1] into `members`.
    """

    keys: U64
    members: I64
    bounds: I64

    @property
    def sizes(self) -> I64:
        """Documents of each bucket, int64 [b]."""
        return np.diff(self.bounds)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Buckets":
        """Return the chosen buckets (bool [b])."""
        sizes = self.sizes
        bounds = np.zeros(int(chosen.sum()) + 1, dtype=np.int64)
        np.cumsum(sizes[chosen], out=bounds[1:])
        return Buckets(
            keys=self.keys[chosen], members=self.members[np.repeat(chosen, sizes)], bounds=bounds
        )

    def pair_blocks(
        self, near: Near | None = None, *, block: int = BLOCK_PAIRS
    ) -> Iterator[tuple[I64, I64]]:
        """Yield all pairs (left < right) inside buckets, unique and sorted within a block.

        A block has about `block` pairs, at least those of one document; `near` says which of them
        (left, right) are worth it.
        """
        from curate.kernels.sets import bucket_pairs  # numba: half a second

        reach = np.repeat(self.bounds[1:], self.sizes)
        partners = reach - np.arange(self.members.size) - 1
        total = np.cumsum(partners)
        begin = 0
        while begin < self.members.size:
            done = int(total[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, done + block, side="right")))
            left = np.empty(int(total[end - 1]) - done, dtype=np.int64)
            right = np.empty_like(left)
            bucket_pairs(self.members, reach, begin, end, left, right)
            if near is not None:
                chosen = near(left, right)
                left, right = left[chosen], right[chosen]
            yield unique_pairs(left, right)
            begin = end


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pairs to verify.

    Attributes:
        pairs: int64 [m, 2] ordinals, i < j, unique, in lexicographic order.
        num_capped_buckets: buckets above the cap, over all bands.
        num_capped_documents: documents in at least one such bucket.
    """

    pairs: I64
    num_capped_buckets: int
    num_capped_documents: int


def buckets(keys: U64, members: I64) -> Buckets:
    """Group members by equal key; keys that only one row has are left out.

    Args:
        keys: uint64 [m].
        members: int64 [m], ordinals; a member stands at most once under one key.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(keys.size, dtype=bool)
    shared[1:] |= same
    shared[:-1] |= same
    ordered, found = ordered[shared], members[order[shared]]
    fresh = np.ones(ordered.size, dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(fresh)
    # argsort left the members of a bucket in any order.
    found = found[np.lexsort((found, np.cumsum(fresh)))] if found.size else found
    bounds = np.append(starts, ordered.size).astype(np.int64)
    return Buckets(keys=ordered[starts], members=found, bounds=bounds)


def distinct(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """Return the different values, ascending; np.unique would hash them first, which is slower."""
    ordered = np.sort(values)
    fresh = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    return ordered[fresh]


def unique_pairs(left: I64, right: I64) -> tuple[I64, I64]:
    """Return the different pairs in lexicographic order; ordinals may be any int64 >= 0."""
    if not left.size:
        return left, right
    known = distinct(np.concatenate([left, right]))
    codes = np.searchsorted(known, left).astype(np.uint64) << np.uint64(32)
    codes |= np.searchsorted(known, right).astype(np.uint64)
    codes = distinct(codes)
    low = (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return known[(codes >> np.uint64(32)).astype(np.int64)], known[low]


def hub_pairs(bucket: I64, num_hubs: int = NUM_HUBS) -> tuple[I64, I64]:
    """Link each member of a crowded bucket to the first `num_hubs` and to the one before it.

    The first member of a pair is the earlier one in the bucket's order, which the caller chooses.
    """
    lefts, rights = [bucket[:-1]], [bucket[1:]]
    for k in range(min(num_hubs, bucket.size - 1)):
        lefts.append(np.full(bucket.size - k - 1, bucket[k]))
        rights.append(bucket[k + 1 :])
    return np.concatenate(lefts), np.concatenate(rights)


def candidate_pairs(
    band_keys: U64,
    eligible: npt.NDArray[np.bool_],
    max_bucket: int = 1000,
    *,
    num_hubs: int = NUM_HUBS,
) -> Candidates:
    """Return the pairs of eligible documents that share a band key, all in memory.

    Args:
        band_keys: uint64 [n, bands]; equal keys meet within a column only.
        eligible: bool [n]; False for documents without shingles (whose signatures are all equal).
        max_bucket: the largest bucket that gives all its pairs.
        num_hubs: documents of a larger bucket that all others are linked to.
    """
    if max_bucket < 2:
        raise InputError(f"max_bucket must be at least 2 (one pair), got {max_bucket}")
    if band_keys.ndim != 2 or eligible.shape != band_keys.shape[:1]:
        raise InputError(
            f"band_keys [n, bands] and eligible [n] disagree: {band_keys.shape}, {eligible.shape}"
        )
    ordinals = np.flatnonzero(eligible)
    left, right = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    capped = np.zeros(band_keys.shape[0], dtype=bool)
    num_capped_buckets = 0
    for band in range(band_keys.shape[1]):
        found = buckets(band_keys[ordinals, band], ordinals)
        crowded = found.sizes > max_bucket
        large = found.only(crowded)
        capped[large.members] = True
        num_capped_buckets += large.keys.size
        waiting = [(left, right), *found.only(~crowded).pair_blocks()]
        for begin, end in zip(large.bounds[:-1], large.bounds[1:], strict=True):
            waiting.append(hub_pairs(large.members[begin:end], num_hubs))
        left, right = unique_pairs(
            np.concatenate([pair[0] for pair in waiting]),
            np.concatenate([pair[1] for pair in waiting]),
        )
    return Candidates(
        pairs=np.stack([left, right], axis=1),
        num_capped_buckets=num_capped_buckets,
        num_capped_documents=int(capped.sum()),
    )

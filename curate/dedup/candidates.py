"""Candidate pairs: documents that share a band key, found by sorting one band at a time.

The documents of one key form a bucket. A bucket of up to `max_bucket` documents gives all its
pairs; a larger one (templates, boilerplate) would give millions, so each of its documents is linked
only to the bucket's first `num_hubs` documents and to its neighbour, and that is counted.

>>> import numpy as np
>>> keys = np.array([[7, 1], [7, 2], [8, 2]], dtype=np.uint64)
>>> candidate_pairs(keys, np.ones(3, dtype=bool)).pairs.tolist()
[[0, 1], [1, 2]]
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = ["Candidates", "candidate_pairs"]

I64 = npt.NDArray[np.int64]

NUM_HUBS = 8
# Pairs made at a time (some 200 MiB of temporaries) before they are merged into the unique ones.
BLOCK_PAIRS = 1 << 22


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


def candidate_pairs(
    band_keys: npt.NDArray[np.uint64],
    eligible: npt.NDArray[np.bool_],
    max_bucket: int = 1000,
    *,
    num_hubs: int = NUM_HUBS,
) -> Candidates:
    """Return the pairs of eligible documents that share a band key.

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
    num_docs = band_keys.shape[0]
    ordinals = np.flatnonzero(eligible)
    found = _PairSet(num_docs)
    capped = np.zeros(num_docs, dtype=bool)
    num_capped_buckets = 0
    for band in range(band_keys.shape[1]):
        members, bounds = _buckets(band_keys[ordinals, band], ordinals)
        sizes = np.diff(bounds)
        for large in np.flatnonzero(sizes > max_bucket).tolist():
            bucket = members[bounds[large] : bounds[large + 1]]
            capped[bucket] = True
            num_capped_buckets += 1
            _add_hub_pairs(found, bucket, num_hubs)
        within = np.where(sizes <= max_bucket, bounds[1:], 0)
        _add_all_pairs(found, members, np.repeat(within, sizes))
    return Candidates(
        pairs=found.pairs(),
        num_capped_buckets=num_capped_buckets,
        num_capped_documents=int(capped.sum()),
    )


class _PairSet:
    """Unique pairs as codes i * n + j, merged whenever as many new ones as old ones wait."""

    def __init__(self, num_docs: int) -> None:
        self.num_docs = num_docs
        self.codes = np.empty(0, dtype=np.int64)
        self.waiting: list[I64] = []
        self.num_waiting = 0

    def add(self, left: I64, right: I64) -> None:
        """Add pairs with left < right (either may be a scalar)."""
        codes = left * self.num_docs + right
        self.waiting.append(codes)
        self.num_waiting += codes.size
        if self.num_waiting >= max(BLOCK_PAIRS, self.codes.size):
            self._merge()

    def pairs(self) -> I64:
        """Return int64 [m, 2] in lexicographic order."""
        self._merge()
        return np.stack(np.divmod(self.codes, max(self.num_docs, 1)), axis=1)

    def _merge(self) -> None:
        self.codes = np.unique(np.concatenate([self.codes, *self.waiting]))
        self.waiting, self.num_waiting = [], 0


def _buckets(keys: npt.NDArray[np.uint64], ordinals: I64) -> tuple[I64, I64]:
    """Return the documents that share their key, bucket by bucket, and the buckets' bounds."""
    order = np.argsort(keys, kind="stable")  # stable: ascending ordinals inside a bucket
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(keys.size, dtype=bool)
    shared[1:] |= same
    shared[:-1] |= same
    ordered = ordered[shared]
    fresh = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    bounds = np.concatenate([[0], fresh, [ordered.size]]) if ordered.size else np.zeros(1)
    return ordinals[order[shared]], bounds.astype(np.int64)


def _add_all_pairs(found: _PairSet, members: I64, reach: I64) -> None:
    """Add the pairs of positions (p, q) with p < q < reach[p], about BLOCK_PAIRS at a time."""
    num_partners = np.maximum(reach - np.arange(members.size) - 1, 0)
    total = np.cumsum(num_partners)
    begin = 0
    while begin < members.size:
        done = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + BLOCK_PAIRS, side="right")))
        counts = num_partners[begin:end]
        left = np.repeat(np.arange(begin, end), counts)
        # A left member's partners are the positions after it, in order.
        first = np.repeat(np.cumsum(counts) - counts, counts)
        right = left + np.arange(left.size) - first + 1
        found.add(members[left], members[right])
        begin = end


def _add_hub_pairs(found: _PairSet, bucket: I64, num_hubs: int) -> None:
    """Link each member of a large bucket to the first `num_hubs` and to the one before it."""
    found.add(bucket[:-1], bucket[1:])
    for k in range(min(num_hubs, bucket.size - 1)):
        found.add(bucket[k], bucket[k + 1 :])

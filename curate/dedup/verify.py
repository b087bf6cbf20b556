"""Exact Jaccard similarity of candidate pairs, from integer overlaps of their shingle sets.

>>> import numpy as np
>>> shingles, offsets = np.array([1, 2, 3, 2, 3, 4], dtype=np.uint64), np.array([0, 3, 6])
>>> jaccard(np.array([[0, 1]]), shingles, offsets).tolist()
[0.5]
"""

import itertools

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = ["jaccard", "overlaps"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def jaccard(pairs: I64, shingles: U64, offsets: I64) -> npt.NDArray[np.float64]:
    """Return |A and B| / |A or B| of each pair, float64 [m]; 0 where both sets are empty.

    Args:
        pairs: int64 [m, 2] ordinals of documents.
        shingles: uint64 [num_shingles], each document's set sorted and without repeats.
        offsets: int64 [n + 1] into `shingles`.
    """
    shared = overlaps(pairs, shingles, offsets)
    sizes = np.diff(offsets)
    union = sizes[pairs[:, 0]] + sizes[pairs[:, 1]] - shared
    return shared / np.maximum(union, 1)


def overlaps(pairs: I64, shingles: U64, offsets: I64) -> I64:
    """Return the number of shingles that both documents of each pair have, int64 [m].

    Arguments as for `jaccard`. Shingles of one document only cannot be shared and are put aside
    first; the others are numbered, so that a document is a row of flags and a pair is one gather.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"pairs must be [m, 2] ordinals, got the shape {pairs.shape}")
    shared = np.zeros(pairs.shape[0], dtype=np.int64)
    if pairs.shape[0] == 0:
        return shared
    docs, compact = np.unique(pairs, return_inverse=True)
    compact = compact.reshape(pairs.shape)
    ranks, bounds, num_ranks = _shared_ranks(docs, shingles, offsets)

    order = np.argsort(compact[:, 0], kind="stable")
    present = np.zeros(num_ranks, dtype=bool)
    limits = bounds.tolist()
    rights = compact[order, 1].tolist()
    lefts = compact[order, 0]
    groups = np.concatenate([[0], np.flatnonzero(np.diff(lefts)) + 1, [lefts.size]]).tolist()
    counts = np.zeros(lefts.size, dtype=np.int64)
    for begin, end in itertools.pairwise(groups):
        left = int(lefts[begin])
        mine = ranks[limits[left] : limits[left + 1]]
        present[mine] = True
        for k in range(begin, end):
            right = rights[k]
            counts[k] = np.count_nonzero(present[ranks[limits[right] : limits[right + 1]]])
        present[mine] = False
    shared[order] = counts
    itself = pairs[:, 0] == pairs[:, 1]
    shared[itself] = np.diff(offsets)[pairs[itself, 0]]
    return shared


def _shared_ranks(
    docs: I64, shingles: U64, offsets: I64
) -> tuple[npt.NDArray[np.int32] | I64, I64, int]:
    """Number the shingles that at least two of `docs` have.

    Returns the numbers of each document's shared shingles, their bounds [len(docs) + 1], and how
    many numbers there are.
    """
    sizes = (offsets[1:] - offsets[:-1])[docs]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    values = shingles[np.arange(bounds[-1]) + np.repeat(offsets[docs] - bounds[:-1], sizes)]
    order = np.argsort(values)
    values = values[order]
    same = values[1:] == values[:-1]
    twin = np.zeros(values.size, dtype=bool)
    twin[1:] |= same
    twin[:-1] |= same
    fresh = np.ones(values.size, dtype=bool)
    fresh[1:] = ~same
    rank = np.cumsum(fresh[twin]) - 1
    num_ranks = int(rank[-1]) + 1 if rank.size else 0
    numbers = np.full(values.size, -1, dtype=np.int32 if num_ranks < 2**31 else np.int64)
    numbers[order[twin]] = rank
    kept = numbers >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return numbers[kept], before[bounds], num_ranks

"""Verification: the exact similarity of shingle sets; an edge is never guessed from signatures.

>>> import numpy as np
>>> shingles = np.array([1, 2, 3, 2, 3, 4], dtype=np.uint64)
>>> jaccard(np.array([[0, 1]]), shingles, np.array([0, 3, 6])).tolist()
[0.5]
"""

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError, one_of

__all__ = ["SIMILARITIES", "jaccard", "overlaps", "similarity"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SIMILARITIES = ("jaccard", "containment", "perceptual")


def jaccard(pairs: I64, shingles: U64, offsets: I64) -> npt.NDArray[np.float64]:
    """Return |A and B| / |A or B| of each pair, float64 [m]; 0 where both sets are empty.

    Args:
        pairs: int64 [m, 2] ordinals of documents.
        shingles: uint64 [num_shingles], each document's set sorted and without repeats.
        offsets: int64 [n + 1] into `shingles`.
    """
    return similarity(pairs, shingles, offsets)


def similarity(
    pairs: I64, shingles: U64, offsets: I64, kind: str = "jaccard", floor: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return the similarity of each pair, float64 [m].

    Arguments as for `jaccard`; `containment` divides by the smaller set instead of the union, so
    that a document inside a longer one counts as its duplicate (Broder 1997). `perceptual` is that
    of images, whose views stand where texts have shingles (`curate.media.perceptual`); of a pair
    below `floor` it may be 0.
    """
    if kind not in SIMILARITIES:
        raise InputError(one_of("similarity", kind, SIMILARITIES))
    if kind == "perceptual":
        from curate.media.perceptual import similarities

        return similarities(pairs, shingles, offsets, floor)
    shared = overlaps(pairs, shingles, offsets)
    sizes = np.diff(offsets)
    left, right = sizes[pairs[:, 0]], sizes[pairs[:, 1]]
    whole = left + right - shared if kind == "jaccard" else np.minimum(left, right)
    result: npt.NDArray[np.float64] = shared / np.maximum(whole, 1)
    return result


def overlaps(pairs: I64, shingles: U64, offsets: I64) -> I64:
    """Return the number of shingles that both documents of each pair have, int64 [m].

    Arguments as for `jaccard`.
    """
    from curate.kernels.sets import shared_counts  # numba: half a second

    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"pairs must be [m, 2] ordinals, got the shape {pairs.shape}")
    shared = np.empty(pairs.shape[0], dtype=np.int64)
    columns = np.ascontiguousarray(pairs.astype(np.int64, copy=False).T)
    shared_counts(columns[0], columns[1], shingles, offsets.astype(np.int64, copy=False), shared)
    return shared

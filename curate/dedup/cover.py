"""Who stays: in order of preference, a document is kept unless it duplicates a kept one.

Only a verified edge to a kept document removes anything, so similarity never chains, and every
group of duplicates with a standing member keeps at least one.

>>> import numpy as np
>>> edges, similarity = np.array([[0, 1], [1, 2]]), np.array([0.9, 0.9])
>>> greedy_cover(np.array([0, 1, 2]), np.ones(3, dtype=bool), edges, similarity).tolist()
[-1, 0, -1]
"""

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = ["greedy_cover"]

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def greedy_cover(
    rank: I64,
    standing: Mask,
    pairs: I64,
    jaccard: npt.NDArray[np.float64],
    *,
    immune: Mask | None = None,
) -> I64:
    """Return for each document the kept document that makes it a duplicate, or -1.

    Args:
        rank: int64 [n], a permutation of 0 ... n - 1; 0 is kept first.
        standing: bool [n]; False for documents already removed for another reason: they are
            neither kept nor named as the one that is kept.
        pairs: int64 [m, 2] verified edges, in any order and direction.
        jaccard: float64 [m], similarity of each edge.
        immune: bool [n]; True for documents that are kept whatever they duplicate. They are kept
            first, so that what duplicates them goes.

    Returns:
        int64 [n]: -1 where the document is kept or not standing, else the ordinal of the kept
        document with an edge to it (the most similar one; of equals the better ranked).
    """
    from curate.kernels.sets import cover  # numba: half a second

    num_docs = rank.size
    if standing.shape != rank.shape or jaccard.shape != pairs.shape[:1]:
        raise InputError(
            f"rank {rank.shape} and standing {standing.shape}, or pairs {pairs.shape} and jaccard "
            f"{jaccard.shape}, differ in length"
        )
    if not np.array_equal(np.sort(rank), np.arange(num_docs)):
        raise InputError(
            f"rank must order the {num_docs} documents 0 ... n - 1; break ties by doc_id"
        )
    if immune is not None:
        rank = rank + np.where(immune, 0, num_docs)  # before all others, in their own order
    kept_by = np.full(num_docs, -1, dtype=np.int64)
    edge_stands = standing[pairs[:, 0]] & standing[pairs[:, 1]] & (pairs[:, 0] != pairs[:, 1])
    edges, similarity = pairs[edge_stands], jaccard[edge_stands]
    source = np.concatenate([edges[:, 0], edges[:, 1]])
    target = np.concatenate([edges[:, 1], edges[:, 0]])
    # Only a better ranked neighbour can have been kept before: edges point from worse to better.
    upward = rank[target] < rank[source]
    if immune is not None:
        upward &= ~immune[source]
    source, target = source[upward], target[upward]
    similarity = np.concatenate([similarity, similarity])[upward]
    # By rank of the source, then the best reason first: its first kept target is the answer.
    order = np.lexsort((rank[target], -similarity, rank[source]))
    cover(source[order], target[order], kept_by)
    return kept_by

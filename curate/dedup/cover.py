"""Who stays: in order of preference, a document is kept unless it duplicates a kept one.

Only a verified edge to a kept document removes anything, so similarity never chains, and every
group of duplicates with a standing member keeps at least one.

>>> import numpy as np
>>> edges, similarity = np.array([[0, 1], [1, 2]]), np.array([0.9, 0.9])
>>> greedy_cover(np.array([0, 1, 2]), np.ones(3, dtype=bool), edges, similarity).tolist()
[-1, 0, -1]
"""

import itertools

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = ["greedy_cover"]

I64 = npt.NDArray[np.int64]


def greedy_cover(
    rank: I64,
    standing: npt.NDArray[np.bool_],
    pairs: I64,
    jaccard: npt.NDArray[np.float64],
) -> I64:
    """Return for each document the kept document that makes it a duplicate, or -1.

    Args:
        rank: int64 [n], a permutation of 0 ... n - 1; 0 is kept first.
        standing: bool [n]; False for documents already removed for another reason: they are
            neither kept nor named as the one that is kept.
        pairs: int64 [m, 2] verified edges, in any order and direction.
        jaccard: float64 [m], similarity of each edge.

    Returns:
        int64 [n]: -1 where the document is kept or not standing, else the ordinal of the kept
        document with an edge to it (the most similar one; of equals the better ranked).
    """
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
    kept_id = np.full(num_docs, -1, dtype=np.int64)
    edge_stands = standing[pairs[:, 0]] & standing[pairs[:, 1]] & (pairs[:, 0] != pairs[:, 1])
    edges, similarity = pairs[edge_stands], jaccard[edge_stands]
    source = np.concatenate([edges[:, 0], edges[:, 1]])
    target = np.concatenate([edges[:, 1], edges[:, 0]])
    # Only a better ranked neighbour can have been kept before: edges point from worse to better.
    upward = rank[target] < rank[source]
    source, target = source[upward], target[upward]
    similarity = np.concatenate([similarity, similarity])[upward]
    # By rank of the source, then the best reason first: its first kept target is the answer.
    order = np.lexsort((rank[target], -similarity, rank[source]))
    source, target = source[order], target[order]
    groups = np.concatenate([[0], np.flatnonzero(np.diff(source)) + 1, [source.size]]).tolist()
    targets, sources = target.tolist(), source.tolist()
    removed: dict[int, int] = {}
    for begin, end in itertools.pairwise(groups):
        for k in range(begin, end):
            if targets[k] not in removed:
                removed[sources[begin]] = targets[k]
                break
    kept_id[list(removed.keys())] = list(removed.values())
    return kept_id

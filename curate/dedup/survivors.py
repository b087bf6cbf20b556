"""Who survives: exact classes first, then a greedy cover of the near edges between them.

Documents with the same normalised text are one class: whichever of them is standing and most
wanted represents it. Between classes the cover runs in keep order, so a document goes only when a
verified edge leads to a kept one, and no group with a standing member is lost.
"""

import numpy as np

from curate.dedup.clusters import components
from curate.dedup.cover import greedy_cover

__all__ = ["survivors"]


def survivors(
    rank: np.ndarray,
    standing: np.ndarray,
    *,
    exact: np.ndarray,
    near: np.ndarray,
    jaccard: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the survivors of every duplicate group.

    Args:
        rank: int64 [n], a permutation; 0 is the most wanted.
        standing: bool [n], documents that no rule and no benchmark has dropped.
        exact: int64 [e, 2], pairs with the same normalised text.
        near: int64 [m, 2], verified pairs.
        jaccard: float64 [m].

    Returns:
        exact_duplicate bool [n], near_duplicate bool [n], kept_by int64 [n]: the kept document that
        speaks for this one, -1 where there is none. Documents that are not standing are also told
        when a kept document says the same.
    """
    num_docs = len(rank)
    classes = components(num_docs, exact)
    best = np.full(num_docs, -1, dtype=np.int64)  # class -> its most wanted standing member
    rows = np.flatnonzero(standing)
    rows = rows[np.argsort(-rank[rows], kind="stable")]
    best[classes[rows]] = rows  # later writes win: the most wanted comes last
    class_rank = np.full(num_docs, num_docs, dtype=np.int64)
    has = best >= 0
    class_rank[has] = rank[best[has]]
    order = np.empty(num_docs, dtype=np.int64)
    order[np.lexsort((np.arange(num_docs), class_rank))] = np.arange(num_docs)
    pairs = classes[near]
    covered = greedy_cover(order, has, pairs, jaccard)
    class_kept = has & (covered < 0)

    keeper = np.full(num_docs, -1, dtype=np.int64)  # class -> the kept document that speaks for it
    keeper[class_kept] = best[class_kept]
    gone = has & (covered >= 0)
    keeper[gone] = best[covered[gone]]
    _fallen(keeper, has, class_kept, pairs, jaccard, best)

    kept_by = keeper[classes]
    own = np.arange(num_docs)
    kept = standing & (kept_by == own)
    kept_by = np.where(kept, -1, kept_by)
    is_exact = (kept_by >= 0) & class_kept[classes]
    is_near = (kept_by >= 0) & ~is_exact
    return is_exact, is_near, kept_by


def _fallen(
    keeper: np.ndarray,
    has: np.ndarray,
    class_kept: np.ndarray,
    pairs: np.ndarray,
    jaccard: np.ndarray,
    best: np.ndarray,
) -> None:
    """Tell classes without a standing member which kept neighbour is most like them."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    score = np.concatenate([jaccard, jaccard])
    useful = ~has[both[:, 0]] & class_kept[both[:, 1]]
    both, score = both[useful], score[useful]
    order = np.lexsort((-both[:, 1], score))  # the highest Jaccard is written last
    keeper[both[order, 0]] = best[both[order, 1]]

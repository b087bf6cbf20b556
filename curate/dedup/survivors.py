"""Who survives: exact classes first, then a greedy cover of the near edges between them.

Documents with the same normalised text are one class: whichever of them is standing and most
wanted represents it. Between classes the cover runs in keep order, so a document goes only when a
verified edge leads to a kept one, and no group with a standing member is lost. Where pairs count
only within or only across sources, a class is first divided by source.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError, one_of
from curate.dedup.clusters import components
from curate.dedup.cover import greedy_cover

__all__ = ["SCOPES", "Edges", "survivors"]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SCOPES = ("corpus", "within_source", "across_sources")


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Verified duplicates.

    Attributes:
        exact: int64 [e, 2], pairs with the same normalised text.
        near: int64 [m, 2], pairs of documents that stand for their exact classes.
        jaccard: float64 [m], similarity of the near pairs.
    """

    exact: I64
    near: I64
    jaccard: F64


def survivors(
    rank: I64,
    standing: Mask,
    edges: Edges,
    *,
    source: I64 | None = None,
    scope: str = "corpus",
    immune: Mask | None = None,
) -> tuple[Mask, Mask, I64]:
    """Choose the survivors of every duplicate group.

    Args:
        rank: int64 [n], a permutation; 0 is the most wanted.
        standing: bool [n], documents that no rule and no benchmark has dropped.
        edges: see `Edges`.
        source: int64 [n], needed for a scope other than `corpus`; -1 belongs to every source.
        scope: `corpus`: all pairs count; `within_source`: those of one source; `across_sources`:
            those of two.
        immune: bool [n], documents that duplication never removes.

    Returns:
        exact_duplicate bool [n], near_duplicate bool [n], kept_by int64 [n]: the kept document that
        speaks for this one, -1 where there is none. Documents that are not standing are also told
        when a kept document says the same.
    """
    if scope not in SCOPES:
        raise InputError(one_of("scope", scope, SCOPES))
    num_docs = len(rank)
    spared = np.zeros(num_docs, dtype=bool) if immune is None else immune
    classes = components(num_docs, edges.exact)
    if scope == "corpus" or source is None:
        node, pairs, score = classes, classes[edges.near], edges.jaccard
    else:
        node, pairs, score = _divided(classes, source, edges, scope)
    wanted = rank + np.where(spared, 0, num_docs)  # who must stay speaks for the others
    best, has = _best(node, wanted, standing)
    anchored = np.zeros(num_docs, dtype=bool)
    anchored[node[standing & spared]] = True
    order = _order(best, has, wanted)
    covered = greedy_cover(order, has, pairs, score, immune=anchored)
    kept_node = has & (covered < 0)

    keeper = np.full(num_docs, -1, dtype=np.int64)  # node -> the kept document that speaks for it
    keeper[kept_node] = best[kept_node]
    gone = has & (covered >= 0)
    keeper[gone] = best[covered[gone]]
    _fallen(keeper, has, kept_node, pairs, score, best)

    kept_by = keeper[node]
    kept = standing & (kept_by == np.arange(num_docs))
    kept |= standing & spared
    if scope == "across_sources":
        kept |= kept_node[node]  # twins inside a source are no duplicates here
    kept_by = np.where(kept, -1, kept_by)
    told = kept_by >= 0
    is_exact = told & (classes == classes[np.maximum(kept_by, 0)])
    return is_exact, told & ~is_exact, kept_by


def _best(node: I64, rank: I64, standing: Mask) -> tuple[I64, Mask]:
    """Return each node's most wanted standing document (-1: none), and whether it has one."""
    best = np.full(len(rank), -1, dtype=np.int64)
    rows = np.flatnonzero(standing)
    rows = rows[np.argsort(-rank[rows], kind="stable")]
    best[node[rows]] = rows  # later writes win: the most wanted comes last
    return best, best >= 0


def _order(best: I64, has: Mask, rank: I64) -> I64:
    """Return the place of each node in the order of their best documents."""
    num_docs = len(rank)
    node_rank = np.full(num_docs, 2 * num_docs, dtype=np.int64)
    node_rank[has] = rank[best[has]]
    order = np.empty(num_docs, dtype=np.int64)
    order[np.lexsort((np.arange(num_docs), node_rank))] = np.arange(num_docs)
    return order


def _divided(classes: I64, source: I64, edges: Edges, scope: str) -> tuple[I64, I64, F64]:
    """Divide classes by source into nodes (named by their first document), and edges with them.

    Returns node int64 [n], pairs [k, 2] and their similarity.
    """
    keys = np.stack([classes, source], axis=1)
    unique, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    node = first[inverse.reshape(-1)].astype(np.int64)
    begin = np.searchsorted(unique[:, 0], np.arange(len(classes) + 1))  # class -> its nodes
    own = np.unique(classes[edges.exact[:, 0]])  # parts of one class say the same
    left = np.concatenate([classes[edges.near[:, 0]], own])
    right = np.concatenate([classes[edges.near[:, 1]], own])
    score = np.concatenate([edges.jaccard, np.ones(len(own))])
    # All nodes of the left class with all of the right one.
    widths = begin[right + 1] - begin[right]
    counts = (begin[left + 1] - begin[left]) * widths
    pair = np.repeat(np.arange(len(left)), counts)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    a = begin[left[pair]] + inside // widths[pair]
    b = begin[right[pair]] + inside % widths[pair]
    source_a, source_b = unique[a, 1], unique[b, 1]
    counted = (source_a == source_b) == (scope == "within_source")
    counted |= (source_a < 0) | (source_b < 0)
    counted &= a != b
    pairs = np.stack([first[a], first[b]], axis=1)[counted].astype(np.int64)
    return node, pairs, score[pair[counted]]


def _fallen(keeper: I64, has: Mask, kept: Mask, pairs: I64, score: F64, best: I64) -> None:
    """Tell nodes without a standing member which kept neighbour is most like them."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    scores = np.concatenate([score, score])
    useful = ~has[both[:, 0]] & kept[both[:, 1]]
    both, scores = both[useful], scores[useful]
    order = np.lexsort((-both[:, 1], scores))  # the highest Jaccard is written last
    keeper[both[order, 0]] = best[both[order, 1]]

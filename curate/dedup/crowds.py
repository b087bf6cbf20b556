"""Crowds: buckets too large to verify all their pairs, verified only where it decides.

The greedy cover asks one thing of a group of similar documents: which of them duplicate a *kept*
one. So a crowd is compared lazily: each member that the cover keeps meets all members after it in
keep order, then the cover is made again with what was found, until every kept member has met all
that follow. The result is that of the cover over all true edges, at a cost of (kept members) x
(size) comparisons instead of size^2 / 2; a crowd of one template costs one round.

>>> import numpy as np
>>> crowds = Crowds([np.array([0, 1, 2])], lambda a, b: np.ones(a.size), threshold=0.8)
>>> pairs, similarity = crowds.more(np.ones(3, dtype=bool), np.array([2, 0, 1]))
>>> pairs.tolist()
[[1, 2], [1, 0]]
>>> crowds.more(np.array([False, True, False]), np.array([2, 0, 1]))[0].size
0
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.dedup.clusters import components
from curate.dedup.survivors import Edges, survivors

__all__ = ["Crowds", "group_crowds", "survivors_of_crowds"]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ROUNDS = 256  # comparisons for each document of a crowd, at most


class Crowds:
    """Groups of documents, and which of their members have met all that follow."""

    def __init__(
        self,
        groups: Sequence[I64],
        score: Callable[[I64, I64], F64],
        threshold: float,
        *,
        rounds: int = ROUNDS,
    ) -> None:
        """Remember groups of ordinals.

        Args:
            groups: int64 arrays of ordinals.
            score: exact similarity of pairs (left, right).
            threshold: from which on a pair is an edge.
            rounds: members of one group that are compared with all that follow, at most.
        """
        self._groups, self._score, self._threshold = list(groups), score, threshold
        self._met: list[set[int]] = [set() for _ in groups]
        self._left = [rounds for _ in groups]
        self.unreached = 0

    def more(self, kept: Mask, order: I64) -> tuple[I64, F64]:
        """Compare kept members with all that follow, and return the edges found.

        Args:
            kept: bool [n], whether the cover keeps a document (or another one of its exact class).
            order: int64 [n], its place in the keep order, -1 where nobody of its class stands.

        Returns:
            Pairs [m, 2] (the kept one first) and their similarity; none when every kept member has
            met all that follow, or has no rounds left (`unreached` counts those).
        """
        pairs, scores = [np.empty((0, 2), dtype=np.int64)], [np.empty(0)]
        self.unreached = 0
        for number, group in enumerate(self._groups):
            members = group[order[group] >= 0]
            members = members[np.argsort(order[members], kind="stable")]
            for place in np.flatnonzero(kept[members]).tolist():
                hub, rest = int(members[place]), members[place + 1 :]
                if hub in self._met[number] or not rest.size:
                    continue
                if not self._left[number]:
                    self.unreached += 1
                    continue
                self._left[number] -= 1
                self._met[number].add(hub)
                score = self._score(np.full(rest.size, hub), rest)
                good = score >= self._threshold
                pairs.append(np.stack([np.full(int(good.sum()), hub), rest[good]], axis=1))
                scores.append(score[good])
                if kept[rest[good]].any():
                    break  # who is kept has changed: the cover comes first
        return np.concatenate(pairs), np.concatenate(scores)


def survivors_of_crowds(
    crowds: Crowds, rank: I64, standing: Mask, edges: Edges, *, immune: Mask, **options: Any
) -> tuple[Mask, Mask, I64, I64, F64]:
    """Choose survivors as `survivors` does, verifying crowds as far as that needs it.

    Args:
        crowds: members stand for their exact classes.
        rank, standing, edges, immune, options: see `survivors`.

    Returns:
        exact_duplicate, near_duplicate and kept_by of `survivors`, and the edges that were found on
        the way: pairs [m, 2] and their similarity.
    """
    classes = components(len(rank), edges.exact)
    wanted = rank + np.where(immune, 0, len(rank))  # who must stay comes first
    place = np.full(len(rank), 2 * len(rank), dtype=np.int64)
    np.minimum.at(place, classes[standing], wanted[standing])
    order = np.where(place < 2 * len(rank), place, -1)[classes]
    found = [np.empty((0, 2), dtype=np.int64)]
    scores = [np.empty(0)]
    while True:
        exact, near, kept_by = survivors(rank, standing, edges, immune=immune, **options)
        kept = np.zeros(len(rank), dtype=bool)
        kept[classes[standing & (kept_by < 0)]] = True
        pairs, score = crowds.more(kept[classes], order)
        if not len(pairs):
            return exact, near, kept_by, np.concatenate(found), np.concatenate(scores)
        found.append(pairs)
        scores.append(score)
        edges = Edges(
            exact=edges.exact,
            near=np.concatenate([edges.near, pairs]),
            jaccard=np.concatenate([edges.jaccard, score]),
        )


def group_crowds(bucket: npt.NDArray[np.uint64], member: I64) -> list[I64]:
    """Return the members of buckets, those of buckets that share a member together, ascending.

    Args:
        bucket: uint64 [m], a bucket's key.
        member: int64 [m], a document in it.
    """
    members, local = np.unique(member, return_inverse=True)
    if not members.size:
        return []
    by = np.argsort(bucket, kind="stable")
    same = bucket[by][1:] == bucket[by][:-1]
    links = np.stack([local[by][:-1][same], local[by][1:][same]], axis=1)
    label = components(members.size, links.astype(np.int64))
    by = np.argsort(label, kind="stable")
    return np.split(members[by], np.flatnonzero(np.diff(label[by])) + 1)

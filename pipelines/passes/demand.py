"""Edges on demand: crowds are verified among the documents that still stand.

A crowd is a bucket that stayed too large to verify all its pairs. `deduplicate` links its documents
to a few hubs only; when the rules have dropped those, the others would all be kept. So `judge`
peels each crowd: the most wanted document is compared with all others, those that duplicate it are
taken out, and the next one follows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.shard import Shard, read_shard
from curate.dedup.clusters import components
from pipelines.passes.base import Workspace
from pipelines.passes.verifying import ShingleSets, scores

__all__ = ["edges_on_demand"]

_ROUNDS = 64  # comparisons for each document of a crowd, at most
_MAX_BYTES = 48 << 20


def edges_on_demand(
    workspace: Workspace,
    crowds: Sequence[Shard],
    shingles: ShingleSets,
    order: np.ndarray,
    near: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return more verified pairs [m, 2], their similarity, and how many documents were not reached.

    Args:
        workspace: of the job.
        crowds: rows of (bucket, position).
        shingles: where the sets are; positions of this corpus come first, and are its rows.
        order: int64 [n], the place of each document's class in the keep order, -1 where nobody of
            the class stands.
        near: the recipe's `threshold` and `similarity`.
    """
    pairs, found, missed = [np.empty((0, 2), dtype=np.int64)], [np.empty(0)], 0
    for group in _groups(workspace, crowds, len(order)):
        waiting = group[order[group] >= 0]
        waiting = waiting[np.argsort(order[waiting], kind="stable")]
        rounds = 0
        while waiting.size > 1 and rounds < _ROUNDS:
            rest = waiting[1:]
            hub = np.full(rest.size, waiting[0])
            score = scores(workspace, shingles, hub, rest, near["similarity"], _MAX_BYTES)
            good = score >= near["threshold"]
            pairs.append(np.stack([hub[good], rest[good]], axis=1))
            found.append(score[good])
            waiting = rest[~good]
            rounds += 1
        missed += waiting.size if waiting.size > 1 else 0
    return np.concatenate(pairs), np.concatenate(found), missed


def _groups(workspace: Workspace, crowds: Sequence[Shard], num_docs: int) -> list[np.ndarray]:
    """Return the documents of crowds that share members, as ascending positions."""
    tables = [read_shard(workspace.storage, shard, ["bucket", "position"]) for shard in crowds]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    bucket, position = table["bucket"].to_numpy(), table["position"].to_numpy()
    own = position < num_docs
    bucket, position = bucket[own], position[own]
    members, local = np.unique(position, return_inverse=True)
    if not members.size:
        return []
    by = np.argsort(bucket, kind="stable")
    same = bucket[by][1:] == bucket[by][:-1]
    links = np.stack([local[by][:-1][same], local[by][1:][same]], axis=1)
    label = components(members.size, links.astype(np.int64))
    by = np.argsort(label, kind="stable")
    return np.split(members[by], np.flatnonzero(np.diff(label[by])) + 1)

"""Kernels on sorted sets and on disjoint sets; import it where it is used (numba, half a second).

Ragged sets are flat `values` and `offsets` [n + 1]: set i is `values[offsets[i] : offsets[i + 1]]`,
ascending and without repeats.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = [
    "bucket_pairs",
    "cover",
    "number_roots",
    "roots",
    "shared_counts",
    "smallest",
    "unite",
]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@compiled
def shared_counts(left: I64, right: I64, values: U64, offsets: I64, out: I64) -> None:
    """Write |A and B| of each pair of sets (left[k], right[k]) into out[k].

    A merge whose steps are additions of comparisons: which of two random hashes is smaller cannot
    be predicted, and a wrong guess costs more than the whole step.
    """
    for k in range(left.size):
        i, i_end = offsets[left[k]], offsets[left[k] + 1]
        j, j_end = offsets[right[k]], offsets[right[k] + 1]
        shared = 0
        while i < i_end and j < j_end:
            a = values[i]
            b = values[j]
            shared += a == b
            i += a <= b
            j += b <= a
        out[k] = shared


@compiled
def bucket_pairs(members: I64, reach: I64, begin: int, end: int, left: I64, right: I64) -> int:
    """Write the pairs (members[p], members[q]), begin <= p < end and p < q < reach[p].

    The smaller member goes to `left`. Returns the number of pairs.
    """
    count = 0
    for p in range(begin, end):
        a = members[p]
        for q in range(p + 1, reach[p]):
            b = members[q]
            left[count] = min(a, b)
            right[count] = max(a, b)
            count += 1
    return count


@part_of_kernels
def _root(parent: npt.NDArray[np.int32], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]  # path halving
        node = parent[node]
    return node


@compiled
def unite(parent: npt.NDArray[np.int32], left: I64, right: I64) -> None:
    """Unite the sets of left[k] and right[k]; the smallest node of a set is its root."""
    for k in range(left.size):
        a = _root(parent, left[k])
        b = _root(parent, right[k])
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b


@compiled
def roots(parent: npt.NDArray[np.int32]) -> None:
    """Let every node point to its root. Parents are never larger than their children."""
    for node in range(parent.size):
        parent[node] = parent[parent[node]]


@compiled
def number_roots(parent: npt.NDArray[np.int32]) -> int:
    """Replace every node's root by the root's number 0, 1, ... in place; return how many there are.

    A node after its root reads there the number that has already replaced it.
    """
    count = 0
    for node in range(parent.size):
        if parent[node] == node:
            parent[node] = count
            count += 1
        else:
            parent[node] = parent[parent[node]]
    return count


@compiled
def smallest(label: npt.NDArray[np.int32], high: U64, low: U64, out: U64) -> None:
    """Let out[label[k]] = min of it and (high[k], low[k]); out is uint64 [c, 2]."""
    for k in range(label.size):
        mine = label[k]
        if high[k] < out[mine, 0] or (high[k] == out[mine, 0] and low[k] < out[mine, 1]):
            out[mine, 0] = high[k]
            out[mine, 1] = low[k]


@compiled
def cover(source: I64, target: I64, kept_by: I64) -> None:
    """Write into kept_by (all -1) the first kept target of each source.

    Edges stand in the order in which their sources are decided; a target was decided before.
    """
    for k in range(source.size):
        if kept_by[source[k]] < 0 and kept_by[target[k]] < 0:
            kept_by[source[k]] = target[k]

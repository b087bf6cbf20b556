"""Connected components of duplicate edges: for cluster ids, splits and statistics only.

Components chain (A~B~C joins A and C), so nothing is ever removed because of one; what is
removed is decided by `curate.dedup.cover`. A document without an edge is its own component and
costs no memory here (`Components`); one with an edge costs 12 bytes, and a component 8.

>>> import numpy as np
>>> components(5, np.array([[1, 4], [4, 2]])).tolist()
[0, 1, 1, 3, 1]
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError
from curate.dedup.candidates import distinct

__all__ = ["Components", "components", "sizes"]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Edges = tuple[I64, I64]

_MAX_NODES = 2**31 - 1


class Components:
    """Union-find over the documents that have an edge, whatever their ordinals are.

    Attributes:
        nodes: int64 [n], their ordinals, ascending.
        label: int32 [n], the component of each, 0 ... c - 1 in the order of their first nodes.
        sizes: int64 [c].
    """

    def __init__(
        self,
        edges: Callable[[], Iterable[Edges]],
        *,
        scratch: Path | None = None,
        max_bytes: int = 1 << 28,
    ) -> None:
        """Read the edges twice: first for their nodes, then to unite them.

        Args:
            edges: called twice; gives (left, right) arrays of ordinals, in any order.
            scratch: a file where the arrays go when they take more than `max_bytes`.
            max_bytes: of memory.
        """
        from curate.kernels.sets import number_roots, roots, unite  # numba: half a second

        self.nodes = _distinct(edges(), scratch, max_bytes)
        if self.nodes.size > _MAX_NODES:
            raise InputError(
                f"{self.nodes.size} documents have duplicates, more than the {_MAX_NODES} that "
                "one table of clusters holds; deduplicate shard groups first"
            )
        parent = _array(self.nodes.size, np.dtype(np.int32), scratch, max_bytes, "parent")
        parent[:] = np.arange(self.nodes.size, dtype=np.int32)
        for left, right in edges():
            unite(parent, np.searchsorted(self.nodes, left), np.searchsorted(self.nodes, right))
        roots(parent)
        count = number_roots(parent)  # in place: a root's number takes the place of the root
        self.label = parent
        self.sizes = np.bincount(self.label, minlength=count).astype(np.int64)

    def of(self, ordinals: I64) -> npt.NDArray[np.int32]:
        """Return the label of documents that have an edge."""
        found: npt.NDArray[np.int32] = self.label[np.searchsorted(self.nodes, ordinals)]
        return found


def _array(
    size: int, dtype: np.dtype[Any], scratch: Path | None, max_bytes: int, name: str
) -> npt.NDArray[Any]:
    """Return memory, or a mapped file where that would be too much of it."""
    if scratch is None or size * dtype.itemsize <= max_bytes:
        return np.empty(size, dtype=dtype)
    path = scratch.with_name(f"{scratch.name}.{name}")
    mapped = np.memmap(path, dtype=dtype, mode="w+", shape=(size,))
    path.unlink()  # the file lives as long as the mapping
    return mapped


def _distinct(edges: Iterable[Edges], scratch: Path | None, max_bytes: int) -> I64:
    """Return the ordinals in any edge, merged whenever as many new ones as old ones wait."""
    nodes = np.empty(0, dtype=np.int64)
    waiting: list[I64] = []
    size = 0
    for pair in edges:
        for side in pair:
            waiting.append(distinct(side))
            size += waiting[-1].size
        if size > max(1 << 20, nodes.size):
            nodes, waiting, size = distinct(np.concatenate([nodes, *waiting])), [], 0
    nodes = distinct(np.concatenate([nodes, *waiting]))
    if scratch is None or nodes.nbytes <= max_bytes:
        return nodes
    mapped = _array(nodes.size, nodes.dtype, scratch, max_bytes, "nodes")
    mapped[:] = nodes
    return mapped


def components(num_docs: int, pairs: I64) -> I64:
    """Label each document by the smallest ordinal of its component, int64 [num_docs].

    Args:
        num_docs: documents, with ordinals 0 ... num_docs - 1.
        pairs: int64 [m, 2] edges in any order; repeats and self-loops do no harm.
    """
    if num_docs == 0 or pairs.shape[0] == 0:
        return np.arange(num_docs, dtype=np.int64)
    from curate.kernels.sets import roots, unite  # numba: half a second

    parent = np.arange(num_docs, dtype=np.int32)
    columns = np.ascontiguousarray(pairs.astype(np.int64, copy=False).T)
    unite(parent, columns[0], columns[1])
    roots(parent)
    return parent.astype(np.int64)


def sizes(labels: I64) -> I64:
    """Return the size of each document's component, int64 [n].

    >>> sizes(np.array([0, 1, 1, 3, 1])).tolist()
    [1, 3, 3, 1, 3]
    """
    return np.bincount(labels, minlength=labels.size)[labels].astype(np.int64)

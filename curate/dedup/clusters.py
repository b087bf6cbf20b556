"""Connected components of duplicate edges: for cluster ids, splits and statistics only.

Components chain (A~B~C joins A and C), so nothing is ever removed because of one; what is
removed is decided by `curate.dedup.cover`.

>>> import numpy as np
>>> components(5, np.array([[1, 4], [4, 2]])).tolist()
[0, 1, 1, 3, 1]
"""

import numpy as np
import numpy.typing as npt

__all__ = ["components", "sizes"]

I64 = npt.NDArray[np.int64]


def components(num_docs: int, pairs: I64) -> I64:
    """Label each document by the smallest ordinal of its component, int64 [num_docs].

    Args:
        num_docs: documents, with ordinals 0 ... num_docs - 1.
        pairs: int64 [m, 2] edges in any order; repeats and self-loops do no harm.
    """
    if num_docs == 0 or pairs.shape[0] == 0:
        return np.arange(num_docs, dtype=np.int64)
    edges = (np.ones(pairs.shape[0], dtype=bool), (pairs[:, 0], pairs[:, 1]))
    from scipy.sparse import coo_array  # a quarter of a second, so where it is used
    from scipy.sparse.csgraph import connected_components

    graph = coo_array(edges, shape=(num_docs, num_docs))
    _, raw = connected_components(graph, directed=False)
    _, smallest = np.unique(raw, return_index=True)  # the first ordinal of each raw label
    labels: I64 = smallest[raw].astype(np.int64)
    return labels


def sizes(labels: I64) -> I64:
    """Return the size of each document's component, int64 [n].

    >>> sizes(np.array([0, 1, 1, 3, 1])).tolist()
    [1, 3, 3, 1, 3]
    """
    return np.bincount(labels, minlength=labels.size)[labels].astype(np.int64)

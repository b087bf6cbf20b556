"""The kernel that puts pieces into rows by best fit; import it where it is used (numba).

A piece goes into the fullest row that still has room for it, or opens a new one. Open rows lie in
stacks by their free space, and a tree of flags over the spaces finds the smallest one that is large
enough in O(log row_tokens), whatever the number of rows (Ding et al. 2024, Fewer Truncations
Improve Language Modeling, section 3: best-fit decreasing with a segment tree).
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["best_fit"]

I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]


@compiled
def best_fit(lengths: I64, earlier: I64, row_tokens: int, rows: I64) -> int:
    """Write the row of every piece to `rows` and return how many rows there are.

    Args:
        lengths: [n] of the pieces in the order they are placed, 1 to `row_tokens`; with the longest
            first, little space is left over.
        earlier: [n] the last piece before this one that it may not share a row with (which may
            have such a one itself), or -1: copies of a document.
        row_tokens: the size of a row.
        rows: [n], written; rows are numbered as they are opened.
    """
    size = 1
    while size <= row_tokens:
        size *= 2
    tree = np.zeros(2 * size, np.uint8)  # leaf size + s: is there an open row with space s
    newest = np.full(row_tokens + 1, -1, np.int64)  # of the open rows with so much space
    below = np.empty(lengths.size, np.int64)  # the row under this one in its stack
    num_rows = 0
    for i in range(lengths.size):
        space = int(lengths[i])
        aside = aside_space = row = -1
        while True:
            space = _smallest(tree, size, space)
            if space < 0:
                break
            row = _pop(tree, size, newest, below, space)
            if not _meets(rows, earlier, i, row):
                break
            if aside >= 0 and aside_space != space:
                _put_back(tree, size, newest, below, aside_space, aside)
                aside = -1
                # What was put back has less space than what is looked at now: it is not met again.
            below[row], aside, aside_space = aside, row, space
            row = -1
        if aside >= 0:
            _put_back(tree, size, newest, below, aside_space, aside)
        if row < 0:
            row, space = num_rows, row_tokens
            num_rows += 1
        rows[i] = row
        if space > lengths[i]:
            _push(tree, size, newest, below, space - lengths[i], row)
    return num_rows


@part_of_kernels
def _meets(rows: I64, earlier: I64, piece: int, row: int) -> bool:
    """Say whether a piece that `piece` must not meet is in `row`."""
    other = earlier[piece]
    while other >= 0:
        if rows[other] == row:
            return True
        other = earlier[other]
    return False


@part_of_kernels
def _smallest(tree: Flags, size: int, space: int) -> int:
    """Return the smallest space of an open row that is at least `space`, or -1."""
    node = size + space
    if tree[node]:
        return space
    while node > 1 and (node & 1 or not tree[node + 1]):
        node >>= 1
    if node == 1:
        return -1
    node += 1
    while node < size:
        node *= 2
        if not tree[node]:
            node += 1
    return node - size


@part_of_kernels
def _push(tree: Flags, size: int, newest: I64, below: I64, space: int, row: int) -> None:
    """Put an open row on the stack of its space."""
    below[row] = newest[space]
    newest[space] = row
    node = size + space
    while node and not tree[node]:
        tree[node] = 1
        node >>= 1


@part_of_kernels
def _pop(tree: Flags, size: int, newest: I64, below: I64, space: int) -> int:
    """Take the newest open row with exactly this space."""
    row = int(newest[space])
    newest[space] = below[row]
    if newest[space] < 0:
        node = size + space
        tree[node] = 0
        while node > 1 and not tree[node ^ 1]:
            node >>= 1
            tree[node] = 0
    return row


@part_of_kernels
def _put_back(tree: Flags, size: int, newest: I64, below: I64, space: int, row: int) -> None:
    """Push a chain of rows of one space back in the order they lay in."""
    while row >= 0:
        under = int(below[row])
        _push(tree, size, newest, below, space, row)
        row = under

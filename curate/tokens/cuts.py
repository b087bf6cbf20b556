"""Texts without some of their bytes: how spans found by another pass are taken out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.kernels.buffers import text_buffers

__all__ = ["cut_spans"]

I64 = npt.NDArray[np.int64]


def cut_spans(texts: Any, rows: I64, starts: I64, lengths: I64) -> Any:
    r"""Return the texts without the given spans.

    Args:
        texts: large_string array of n texts.
        rows: int64 [k], the text that a span belongs to.
        starts: int64 [k], first byte, in UTF-8 bytes of that text.
        lengths: int64 [k], bytes, at least 1. The spans are disjoint, ordered by (row, start), and
            begin and end between characters.

    >>> texts = pa.array(["head\nbody\n", "x"], pa.large_string())
    >>> cut_spans(texts, np.array([0]), np.array([0]), np.array([5])).to_pylist()
    ['body\n', 'x']
    """
    if not len(rows):
        return texts
    data, offsets = text_buffers(texts)
    begin = offsets[rows] + starts
    end = begin + lengths
    assert starts.min() >= 0, "a span begins inside its text"
    assert lengths.min() >= 1, "a span is not empty"
    assert (end <= offsets[rows + 1]).all(), "a span ends inside its text"
    assert (begin[1:] >= end[:-1]).all(), "spans are ordered and disjoint"
    steps = np.zeros(data.size + 1, dtype=np.int8)
    steps[begin] += 1
    steps[end] -= 1  # disjoint: no place begins two spans, or ends two
    kept = data[np.cumsum(steps[:-1], dtype=np.int8) == 0]
    cut = np.zeros(offsets.size, dtype=np.int64)
    np.add.at(cut, rows + 1, lengths)
    moved = offsets - np.cumsum(cut)
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(moved), pa.py_buffer(np.ascontiguousarray(kept))
    )

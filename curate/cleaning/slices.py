"""A text column in pieces of bounded size, without copying: memory follows the piece, not the file.

>>> import pyarrow as pa
>>> [len(piece) for piece in slices(pa.array(["aa", "b", "ccc"], pa.large_string()), max_bytes=3)]
[2, 1]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["MAX_SLICE_BYTES", "slices"]

MAX_SLICE_BYTES = 8 << 20


def slices(texts: Any, max_bytes: int = MAX_SLICE_BYTES) -> Iterator[Any]:
    """Yield consecutive LargeStringArray slices of at most `max_bytes` of text each.

    Args:
        texts: pa.LargeStringArray or a ChunkedArray of them (slices are fine).
        max_bytes: UTF-8 bytes; a longer document is a slice of its own.

    Yields:
        Non-empty zero-copy slices that together are `texts`, in order.
    """
    assert texts.type == pa.large_string(), f"text is {texts.type}, expected large_string"
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        if len(chunk) == 0:
            continue
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int64)
        ends = offsets[chunk.offset + 1 : chunk.offset + len(chunk) + 1]
        start, base = 0, int(offsets[chunk.offset])
        while start < len(chunk):
            stop = max(int(np.searchsorted(ends, base + max_bytes, side="right")), start + 1)
            yield chunk.slice(start, stop - start)
            start, base = stop, int(ends[stop - 1])

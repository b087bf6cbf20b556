"""The bytes behind a column of texts, without a copy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["text_buffers"]

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


def text_buffers(texts: Any) -> tuple[U8, I64]:
    r"""Return bytes and offsets [n + 1] of a large_string or large_binary array, or a slice of it.

    Text i is `data[offsets[i] : offsets[i + 1]]`; the offsets begin at 0. A null is empty.

    >>> data, offsets = text_buffers(pa.array(["ab", "c", None, "d"], pa.large_string())[1:])
    >>> data.tobytes(), offsets.tolist()
    (b'cd', [0, 1, 1, 2])
    """
    large = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    assert large, f"texts are large_string, not {texts.type}"
    if texts.null_count:
        texts = texts.fill_null("")  # a null may stand over any bytes
    if len(texts) == 0:
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64, count=texts.offset + len(texts) + 1)
    offsets = offsets[texts.offset :]
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]

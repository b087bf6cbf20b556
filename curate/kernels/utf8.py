"""Parts of kernels that read UTF-8 (numba, half a second).

Text is trusted to be UTF-8. Other bytes mean some character or other, and none is read past.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import part_of_kernels

__all__ = ["character_at", "character_width"]

U8 = npt.NDArray[np.uint8]


@part_of_kernels
def character_width(data: U8, i: int, stop: int) -> int:
    """Return the bytes of the character at `i`; 0 where it would end behind `stop`."""
    first = data[i]
    width = 1 + (first >= 0x80) + (first >= 0xE0) + (first >= 0xF0)
    return width if i + width <= stop else 0


@part_of_kernels
def character_at(data: U8, i: int, width: int) -> int:
    """Return the code point of the character of `width` bytes at `i`."""
    if width == 1:
        return int(np.int64(data[i]))
    if width == 2:
        return int(np.int64(data[i] & 0x1F) << 6 | np.int64(data[i + 1] & 0x3F))
    if width == 3:
        code = np.int64(data[i] & 0x0F) << 12 | np.int64(data[i + 1] & 0x3F) << 6
        return int(code | np.int64(data[i + 2] & 0x3F))
    code = np.int64(data[i] & 0x07) << 18 | np.int64(data[i + 1] & 0x3F) << 12
    return int(code | np.int64(data[i + 2] & 0x3F) << 6 | np.int64(data[i + 3] & 0x3F))

"""Which texts may hold a control character: a scan at the speed of memory (numba)."""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.ranges import between_64
from curate.kernels.simd import equal_64

__all__ = ["find_controls"]

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_NUL, _TAB, _NEWLINE, _UNIT, _BLANK = (np.uint8(n) for n in (0x00, 0x09, 0x0A, 0x1F, 0x20))
_DELETE, _HIGH, _C1_END, _C1_LEAD, _LAST = (np.uint8(n) for n in (0x7F, 0x80, 0xA0, 0xC2, 0xFF))
_MARK = (np.uint8(0xEF), np.uint8(0xBB), np.uint8(0xBF))  # U+FEFF


@compiled
def find_controls(data: U8, offsets: I64, found: npt.NDArray[np.bool_]) -> None:
    """Set `found` [n] for texts with a C0 (but tab and newline) or C1 code, or a leading U+FEFF."""
    for document in range(offsets.size - 1):
        i, stop = offsets[document], offsets[document + 1]
        codes, high = np.uint64(0), np.uint64(0)
        while i + 64 <= stop:
            usual = equal_64(data, i, _TAB) | equal_64(data, i, _NEWLINE)
            codes |= (between_64(data, i, _NUL, _UNIT) & ~usual) | equal_64(data, i, _DELETE)
            high |= between_64(data, i, _HIGH, _LAST)
            i += 64
        some = codes != 0
        while i < stop and not some:
            byte = data[i]
            some = (byte < _BLANK and byte not in (_TAB, _NEWLINE)) or byte == _DELETE
            high |= np.uint64(byte >= _HIGH)
            i += 1
        found[document] = some or (high != 0 and _beyond_ascii(data, offsets[document], stop))


@part_of_kernels
def _beyond_ascii(data: U8, start: int, stop: int) -> bool:
    """Say whether a text begins with U+FEFF or holds U+0080 to U+009F."""
    if stop - start >= 3:
        first, second, third = data[start], data[start + 1], data[start + 2]
        if first == _MARK[0] and second == _MARK[1] and third == _MARK[2]:
            return True
    for i in range(start, stop - 1):
        if data[i] == _C1_LEAD and _HIGH <= data[i + 1] < _C1_END:
            return True
    return False

"""The kernels of the fold; import them where they are used (numba, half a second).

What they compute is defined by `curate.kernels.fold`. ASCII goes 64 bytes at a time, all else one
character at a time through the table. Inputs are trusted to be UTF-8: other bytes fold to something
and are never read past.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.simd import fold_ascii_64, trailing_zeros
from curate.kernels.utf8 import character_at, character_width

__all__ = ["SLACK", "fold_document", "fold_documents"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Bytes that a kernel may write, or read, behind what it is asked for.
SLACK = 64

_LOW_PLANES, _PLANE_14, _TABLE_END = 0x40000, 0xE0000, 0x50000
_SEPARATOR = np.uint64(1 << 32)
_BYTE, _LENGTH_SHIFT, _LENGTH = np.uint64(0xFF), np.uint64(32), np.uint64(7)
_IS_ALONE, _IS_DIGIT, _IS_HANGUL = np.uint64(1 << 35), np.uint64(1 << 36), np.uint64(1 << 37)
_ZERO_DIGIT = np.uint8(ord("0"))


@part_of_kernels
def fold_document(
    data: U8, start: int, stop: int, table: U64, alone: bool, zero: bool, out: U8, place: int
) -> int:
    """Fold `data[start:stop]` to `out[place:]` and return where the folded text ends.

    `alone` sets letters of scripts without spaces between separators; `zero` makes every maximal
    run of decimal digits in the folded text one 0.
    """
    begin = place
    i = start
    while i < stop:
        if data[i] < 0x80 and i + 64 <= data.size:
            other = fold_ascii_64(data, i, out, place, zero)
            length = min(trailing_zeros(other), stop - i)
            i += length
            place += length
            continue
        entry, i = _next_entry(data, i, stop, table)
        if entry & _IS_HANGUL:
            place = _write_syllable(entry >> _LENGTH_SHIFT >> np.uint64(8), out, place)
            continue
        set_apart = alone and (entry & _IS_ALONE) != 0
        if set_apart and place > begin and out[place - 1] != 0:
            out[place] = 0
            place += 1
        for k in range(4):
            out[place + k] = (entry >> np.uint64(8 * k)) & _BYTE
        if zero and (entry & _IS_DIGIT) != 0:
            out[place] = _ZERO_DIGIT
            place += 1
        else:
            place = int(place + np.int64((entry >> _LENGTH_SHIFT) & _LENGTH))
        if set_apart:
            out[place] = 0
            place += 1
    return _join_zeros(out, begin, place) if zero else place


@compiled
def fold_documents(
    data: U8, starts: I64, stops: I64, table: U64, alone: bool, zero: bool, out: U8, bounds: I64
) -> None:
    """Fold each `data[starts[i]:stops[i]]` to `out[bounds[i]:bounds[i + 1]]`, writing `bounds`."""
    place = 0
    bounds[0] = 0
    for i in range(starts.size):
        place = fold_document(data, starts[i], stops[i], table, alone, zero, out, place)
        bounds[i + 1] = place


@part_of_kernels
def _next_entry(data: U8, i: int, stop: int, table: U64) -> tuple[np.uint64, int]:
    """Return the table's entry of the character at `i`, and where the next one starts.

    A syllable of Hangul brings its number in bits 40 and up.
    """
    width = character_width(data, i, stop)
    if width == 0:
        return _SEPARATOR, stop
    code = character_at(data, i, width)
    if code >= _LOW_PLANES:
        code -= _PLANE_14 - _LOW_PLANES
        if not _LOW_PLANES <= code < _TABLE_END:
            return _SEPARATOR, i + width
    entry = table[code]
    if entry & _IS_HANGUL:
        entry |= np.uint64(code - 0xAC00) << np.uint64(40)
    return entry, i + width


@part_of_kernels
def _write_syllable(number: np.uint64, out: U8, place: int) -> int:
    """Write the jamo of a Hangul syllable (Unicode 3.12) as UTF-8 and return where they end."""
    index = int(np.int64(number))
    tail = index % 28
    place = _write_jamo(0x1100 + index // 588, out, place)
    place = _write_jamo(0x1161 + index % 588 // 28, out, place)
    return _write_jamo(0x11A7 + tail, out, place) if tail else place


@part_of_kernels
def _write_jamo(code: int, out: U8, place: int) -> int:
    out[place] = 0xE1
    out[place + 1] = 0x80 | (code >> 6) & 0x3F
    out[place + 2] = 0x80 | code & 0x3F
    return place + 3


@part_of_kernels
def _join_zeros(out: U8, begin: int, end: int) -> int:
    """Keep one of each run of the digit 0 in `out[begin:end]`; return the new end."""
    place = begin
    last = np.uint8(0)
    for i in range(begin, end):
        byte = out[i]
        out[place] = byte
        place += not (byte == _ZERO_DIGIT and last == _ZERO_DIGIT)
        last = byte
    return place

"""The kernels of the fold; import them where they are used (numba, half a second).

What they compute is defined by `curate.kernels.fold`. ASCII goes 64 bytes at a time, all else one
character at a time through the table. Inputs are trusted to be UTF-8: other bytes fold to something
and are never read past.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.simd import copy_64, equal_64, fold_ascii_64, store_32, trailing_zeros
from curate.kernels.utf8 import character_at, character_width

__all__ = ["SLACK", "fold_document", "fold_documents", "fold_entry"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Bytes that a kernel may write, or read, behind what it is asked for.
SLACK = 64

_LOW_PLANES, _PLANE_14, _TABLE_END = 0x40000, 0xE0000, 0x50000
_SEPARATOR = np.uint64(1 << 32)
_LENGTH_SHIFT, _LENGTH = np.uint64(32), np.uint64(7)
_FLAGS_SHIFT, _NUMBER_SHIFT = np.uint64(35), np.uint64(40)
_IS_ALONE, _IS_DIGIT, _IS_HANGUL = np.uint64(1 << 35), np.uint64(1 << 36), np.uint64(1 << 37)
_ZERO_DIGIT = np.uint8(ord("0"))
_ONE, _TOP = np.uint64(1), np.uint64(63)


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
        # A single character of ASCII, as the space between two words of Greek, goes the other way.
        many = data[i] < 0x80 and (i + 1 >= stop or data[i + 1] < 0x80)
        if many and i + 64 <= data.size:
            other = fold_ascii_64(data, i, out, place, zero)
            length = min(trailing_zeros(other), stop - i)
            i += length
            place += length
            continue
        # Runs of characters of one width, so that where the next one starts is not waited for.
        if (data[i] & 0xE0) == 0xC0 and i + 2 <= stop:
            while i + 2 <= stop and (data[i] & 0xE0) == 0xC0:
                entry = table[character_at(data, i, 2)]
                if entry >> _FLAGS_SHIFT:
                    place = _write_special(entry, alone, zero, out, begin, place)
                else:
                    store_32(out, place, entry)
                    place = int(place + np.int64(entry >> _LENGTH_SHIFT))
                i += 2
        elif (data[i] & 0xF0) == 0xE0 and i + 3 <= stop:
            while i + 3 <= stop and (data[i] & 0xF0) == 0xE0:
                entry = fold_entry(character_at(data, i, 3), table)
                if entry >> _FLAGS_SHIFT:
                    place = _write_special(entry, alone, zero, out, begin, place)
                else:
                    store_32(out, place, entry)
                    place = int(place + np.int64(entry >> _LENGTH_SHIFT))
                i += 3
        else:
            width = character_width(data, i, stop)
            entry = fold_entry(character_at(data, i, width), table) if width else _SEPARATOR
            place = _write_special(entry, alone, zero, out, begin, place)
            i = i + width if width else stop
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
def fold_entry(code: int, table: U64) -> np.uint64:
    """Return the table's entry of a character; that of a Hangul syllable brings its number."""
    if code >= _LOW_PLANES:
        code -= _PLANE_14 - _LOW_PLANES
        if not _LOW_PLANES <= code < _TABLE_END:
            return _SEPARATOR
    entry: np.uint64 = table[code]
    if entry & _IS_HANGUL:
        entry |= np.uint64(code - 0xAC00) << _NUMBER_SHIFT
    return entry


@part_of_kernels
def _write_special(
    entry: np.uint64, alone: bool, zero: bool, out: U8, begin: int, place: int
) -> int:
    """Write what an entry says and return where it ends."""
    if entry & _IS_HANGUL:
        return _write_syllable(entry >> _NUMBER_SHIFT, out, place)
    if zero and (entry & _IS_DIGIT) != 0:
        out[place] = _ZERO_DIGIT
        return place + 1
    set_apart = alone and (entry & _IS_ALONE) != 0
    if set_apart and place > begin and out[place - 1] != 0:
        out[place] = 0
        place += 1
    store_32(out, place, entry)
    place = int(place + np.int64((entry >> _LENGTH_SHIFT) & _LENGTH))
    if set_apart:
        out[place] = 0
        place += 1
    return place


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
    place = i = begin
    carry = np.uint64(0)
    while i < end:
        zeros = equal_64(out, i, _ZERO_DIGIT)
        repeats = zeros & (zeros << _ONE | carry)
        carry = zeros >> _TOP
        length = min(64, end - i)
        if length < 64:
            repeats &= (_ONE << np.uint64(length)) - _ONE
        if repeats == 0:
            copy_64(out, i, out, place)  # backwards, so only over what is read
            place += length
        else:
            for k in range(length):
                out[place] = out[i + k]
                place += (repeats >> np.uint64(k)) & _ONE == 0
        i += length
    return place

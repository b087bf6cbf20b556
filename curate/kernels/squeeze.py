"""The kernel of exact duplicates: lower case, white space squeezed (numba, half a second).

What it computes is defined by `curate.dedup.exact`.
"""

import functools

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.simd import copy_64, equal_64, lower_ascii_64, store_32, trailing_zeros
from curate.kernels.utf8 import character_at, character_width

__all__ = ["BLOCK_BYTES", "lower_table", "squeeze_documents"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Size of the scratch that one vector is looked at in.
BLOCK_BYTES = 128

# Characters above have no case and are no white space, in every Unicode version so far.
_TABLE_SIZE = 0x20000
# White_Space of Unicode's PropList.txt, unchanged since Unicode 6.3.
_WHITE_SPACE = (
    *(*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680),
    *(*range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
)
_FINAL_SIGMA, _SIGMA = 0x3C2, 0x3C3

_OWN, _ONE, _BYTE = np.uint64(0), np.uint64(1), np.uint64(0xFF)
_LENGTH_SHIFT = np.uint64(32)
_SPACE = np.uint8(0x20)


@functools.cache
def lower_table() -> U64:
    """Return what a code point below 0x20000 becomes: UTF-8 in bits 0 to 31, its length above.

    0 means the character itself.
    """
    table = np.zeros(_TABLE_SIZE, dtype=np.uint64)
    for code in range(_TABLE_SIZE):
        character = chr(code)
        lowered = character.lower()
        if lowered != character:
            table[code] = _entry(lowered)
    table[_FINAL_SIGMA] = table[_SIGMA - 0x20]  # no context: the capital becomes plain sigma
    table[list(_WHITE_SPACE)] = _entry(" ")
    table.flags.writeable = False
    return table


def _entry(text: str) -> int:
    data = text.encode()
    assert len(data) <= 4
    return int.from_bytes(data, "little") | len(data) << 32


@compiled
def squeeze_documents(
    data: U8, starts: I64, stops: I64, table: U64, block: U8, out: U8, bounds: I64
) -> None:
    """Write each text to `out[bounds[i] : bounds[i + 1]]`; `block` is scratch of BLOCK_BYTES."""
    place = 0
    bounds[0] = 0
    for i in range(starts.size):
        place = _squeeze(data, starts[i], stops[i], table, block, out, place)
        bounds[i + 1] = place


@part_of_kernels
def _squeeze(data: U8, start: int, stop: int, table: U64, block: U8, out: U8, place: int) -> int:
    begin = place
    after_space = _ONE  # as if: no space at the beginning
    i = start
    while i < stop:
        # A single character of ASCII, as the space between two words of Greek, goes the other way.
        many = data[i] < 0x80 and (i + 1 >= stop or data[i + 1] < 0x80)
        if many and i + 64 <= data.size:
            other = lower_ascii_64(data, i, block, 0)
            length = min(trailing_zeros(other), stop - i)
            spaces = equal_64(block, 0, _SPACE)
            dropped = spaces & (spaces << _ONE | after_space)
            if length < 64:
                dropped &= (_ONE << np.uint64(length)) - _ONE
            if dropped == 0:
                copy_64(block, 0, out, place)
                place += length
            else:
                place = _copy_kept(block, length, dropped, out, place)
            after_space = (spaces >> np.uint64(length - 1)) & _ONE
            i += length
            continue
        width = character_width(data, i, stop)
        code = character_at(data, i, width) if width else 0x20
        entry = table[code] if code < table.size else _OWN
        if entry == _OWN:  # most characters are neither capitals nor white space
            for k in range(width):
                out[place + k] = data[i + k]
            place += width
            after_space = np.uint64(0)
        elif (entry & _BYTE) != _SPACE or not after_space:
            store_32(out, place, entry)
            place = int(place + np.int64(entry >> _LENGTH_SHIFT))
            after_space = np.uint64((entry & _BYTE) == _SPACE)
        i = i + width if width else stop
    return place - 1 if place > begin and out[place - 1] == _SPACE else place


@part_of_kernels
def _copy_kept(block: U8, length: int, dropped: np.uint64, out: U8, place: int) -> int:
    """Copy `block[:length]` without the bytes of the mask; whole vectors, run by run."""
    i = 0
    while True:
        run = min(trailing_zeros(dropped >> np.uint64(i)), length - i)
        copy_64(block, i, out, place)
        place += run
        i += run
        if i >= length:
            return place
        i += trailing_zeros(~(dropped >> np.uint64(i)))
        if i >= length:
            return place

"""Kernels that count the characters of texts: by class, and for entropies (numba, half a second).

`curate.signals.characters` makes the table of classes: the class of a code point below 0x40000 in
the low six bits, and a bit for what looks like the rest of a character that was decoded wrongly.
"""

import math

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.ranges import between_64, letters_64
from curate.kernels.simd import count_ones, equal_64
from curate.kernels.utf8 import character_at, character_width

__all__ = ["NUM_CLASSES", "character_entropy", "count_classes", "hash_entropy"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

NUM_CLASSES = 64
OTHER, CONTROL, REPLACEMENT, PRIVATE, UNASSIGNED, MOJIBAKE, LATIN = 0, 1, 2, 3, 4, 5, 6
CONTINUES = 64  # bit: looks like the second or third byte of a character
TABLE_SIZE = 0x40000

_NUL, _UNIT, _HIGH, _LAST = (np.uint8(n) for n in (0x00, 0x1F, 0x80, 0xFF))
_TAB, _NEWLINE, _RETURN, _DELETE = (np.uint8(n) for n in (0x09, 0x0A, 0x0D, 0x7F))


@compiled
def count_classes(data: U8, starts: I64, stops: I64, table: U8, counts: I64, totals: I64) -> None:
    """Count each document's characters by class: `counts` [n, 64], zeroed, and `totals` [n]."""
    for document in range(starts.size):
        i, stop = starts[document], stops[document]
        expected = length = 0
        while i < stop:
            if i + 64 <= stop and between_64(data, i, _HIGH, _LAST) == 0:
                counts[document, LATIN] += count_ones(letters_64(data, i))
                control = between_64(data, i, _NUL, _UNIT) | equal_64(data, i, _DELETE)
                usual = equal_64(data, i, _TAB) | equal_64(data, i, _NEWLINE)
                usual |= equal_64(data, i, _RETURN)
                counts[document, CONTROL] += count_ones(control & ~usual)
                totals[document] += 64
                expected = 0
                i += 64
                continue
            block = min(i + 64, stop)
            while i < block:
                width = max(character_width(data, i, stop), 1)
                code = character_at(data, i, width)
                i += width
                totals[document] += 1
                entry = table[code] if code < TABLE_SIZE else _beyond(code)
                counts[document, entry & 63] += 1
                if expected > 0 and entry & CONTINUES:
                    expected -= 1
                    length += 1
                    if expected == 0:
                        counts[document, MOJIBAKE] += length
                else:
                    expected, length = _expected(code), 1


@part_of_kernels
def _beyond(code: int) -> np.uint8:
    """Return the class of a code point of planes 4 to 16."""
    if code >= 0xF0000:
        return np.uint8(PRIVATE)
    return np.uint8(OTHER if code >= 0xE0000 else UNASSIGNED)


@part_of_kernels
def _expected(code: int) -> int:
    """Return how many bytes would follow, were this character the first byte of another one."""
    if code < 0xC2 or code > 0xEF:
        return 0
    if code >= 0xE2:
        return 2
    if code <= 0xC5 or 0xCE <= code <= 0xD1:
        return 1
    return 0


@compiled
def character_entropy(data: U8, starts: I64, stops: I64, seen: I32, out: F64) -> None:
    """Write the entropy of each document's characters in bits, NaN where it has none.

    `seen` is scratch of zeros, int32 [0x110000], and left as such.
    """
    for document in range(starts.size):
        stop = stops[document]
        total = 0
        i = starts[document]
        while i < stop:
            width = max(character_width(data, i, stop), 1)
            seen[character_at(data, i, width)] += 1
            total += 1
            i += width
        weighted = 0.0
        i = starts[document]
        while i < stop:
            width = max(character_width(data, i, stop), 1)
            code = character_at(data, i, width)
            count = seen[code]
            if count > 1:
                weighted += count * math.log2(count)
            seen[code] = 0
            i += width
        out[document] = _entropy(total, weighted)


@compiled
def hash_entropy(hashes: U64, offsets: I64, keys: U64, counts: I64, out: F64) -> None:
    """Write the entropy of each document's hashes in bits, NaN where it has none.

    `keys` and `counts` are scratch of 2^k slots, more than the hashes of the longest document.
    """
    for document in range(offsets.size - 1):
        total = offsets[document + 1] - offsets[document]
        size = 16
        while size < 2 * total:
            size *= 2
        counts[:size] = 0
        mask = np.uint64(size - 1)
        for k in range(offsets[document], offsets[document + 1]):
            slot = int(np.int64(hashes[k] & mask))
            while counts[slot] > 0 and keys[slot] != hashes[k]:
                slot = (slot + 1) & (size - 1)
            keys[slot] = hashes[k]
            counts[slot] += 1
        weighted = 0.0
        for slot in range(size):
            if counts[slot] > 1:
                weighted += counts[slot] * math.log2(counts[slot])
        out[document] = _entropy(total, weighted)


@part_of_kernels
def _entropy(total: int, weighted: float) -> float:
    """Return log2(total) - weighted / total, which rounding may not make negative."""
    if total == 0:
        return math.nan
    return max(math.log2(total) - weighted / total, 0.0)

"""The kernels that look the word n-grams of texts up in a table (numba, half a second).

An n-gram holds a shorter run of words at every place where it could stand, one of which begins at
a multiple of so many words: so only those runs are hashed, and a bitmap that fits a core's cache
says of nearly all that no n-gram of the table holds them. Around what passes another bitmap is
asked for every n-gram. The rest is looked up by its hash in an open table with linear probing, and
then compared word by word, so that a collision of n-gram hashes is never found.
`curate.contamination.grams` holds the tables.

Hashes are those of `curate.kernels.words.ngram_hashes`; the bitmaps are asked with their unmixed
form, the polynomial, times `GOLDEN`: most need no more than that.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.hashing import GOLDEN, NGRAM_MULTIPLIER

__all__ = ["BLOCK", "fill_table", "find_grams"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

# Scratch of `find_grams`: which of so many runs passed.
BLOCK = 256

_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_ONE, _SIX, _LOW = np.uint64(1), np.uint64(6), np.uint64(63)


@compiled
def fill_table(
    keys: U64, heads: I64, sequences: U64, width: int, runs: U64, bits: U64, shift: np.uint64,
    slots: I32,
) -> None:  # fmt: skip
    """Enter n-grams, all different, into the bitmaps (zeros) and the open table (all -1).

    The words of n-gram i are `sequences[heads[i] : heads[i] + width]`, their hash is `keys[i]`.
    `slots` is a power of two, and more than there are keys; so are `64 * runs.size` and as many
    `bits`.
    """
    mask = np.uint64(slots.size - 1)
    length = (width + 1) // 2
    for number in range(keys.size):
        for first in range(heads[number], heads[number] + width - length + 1):
            bit = (_polynomial(sequences, first, length) * GOLDEN) >> shift
            runs[bit >> _SIX] |= _ONE << (bit & _LOW)
        bit = (_polynomial(sequences, heads[number], width) * GOLDEN) >> shift
        bits[bit >> _SIX] |= _ONE << (bit & _LOW)
        slot = keys[number] & mask
        while slots[slot] >= 0:
            slot = (slot + _ONE) & mask
        slots[slot] = number


@compiled
def find_grams(
    words: U64, offsets: I64, width: int, runs: U64, bits: U64, shift: np.uint64, slots: I32,
    keys: U64, heads: I64, sequences: U64, block: I64, place: I64, key: I64,
) -> int:  # fmt: skip
    """Write where an n-gram of the table stands, and which it is; return how many there are.

    Args:
        words, offsets: the documents' word hashes, offsets [n + 1].
        width: words of an n-gram, at least 1.
        runs, bits, shift, slots, keys, heads, sequences: the table, see `fill_table`.
        block: scratch [BLOCK].
        place: [words], filled: number of the n-gram's first word in `words`.
        key: [words], filled: number of the n-gram in the table.
    """
    mask = np.uint64(slots.size - 1)
    length = (width + 1) // 2
    step = width - length + 1  # so many runs are in an n-gram, one of which is looked at
    count = 0
    number, after, following = -1, -1, 0
    for document in range(offsets.size - 1):
        base, stop = int(offsets[document]), int(offsets[document + 1])
        first, last = base, stop - length  # run
        while first <= last:
            size = min(BLOCK, (last - first) // step + 1)
            passed = 0
            for k in range(size):  # without a branch, which nobody could predict
                at = first + k * step
                bit = (_polynomial(words, at, length) * GOLDEN) >> shift
                block[passed] = at
                passed += int(np.int64((runs[bit >> _SIX] >> (bit & _LOW)) & _ONE))
            for j in range(passed):
                for at in range(max(base, block[j] - step + 1), min(stop - width, block[j]) + 1):
                    if at == after and words[at + width - 1] == sequences[following]:
                        number += 1  # it is side by side with the last one in the table too
                    else:
                        after = -1
                        total = _polynomial(words, at, width)
                        bit = (total * GOLDEN) >> shift
                        if not (bits[bit >> _SIX] >> (bit & _LOW)) & _ONE:
                            continue
                        gram = _fmix64(total)
                        slot = gram & mask
                        while slots[slot] >= 0 and keys[slots[slot]] != gram:
                            slot = (slot + _ONE) & mask
                        number = int(slots[slot])
                        if number < 0 or not _same(words, at, sequences, heads[number], width):
                            continue
                    place[count] = at
                    key[count] = number
                    count += 1
                    if number + 1 < keys.size and heads[number + 1] == heads[number] + 1:
                        after, following = at + 1, heads[number + 1] + width - 1
                    else:
                        after = -1
            first += size * step
    return count


@part_of_kernels
def _polynomial(words: U64, first: int, length: int) -> np.uint64:
    """Return the hash of some words in a row, not mixed yet."""
    total = np.uint64(0)
    for k in range(first, first + length):
        total = total * NGRAM_MULTIPLIER + words[k]
    return total


@part_of_kernels
def _same(words: U64, first: int, sequences: U64, head: int, width: int) -> bool:
    k = 0
    while k < width and words[first + k] == sequences[head + k]:
        k += 1
    return k == width


@part_of_kernels
def _fmix64(h: np.uint64) -> np.uint64:
    h ^= h >> _SHIFT
    h *= _FMIX_1
    h ^= h >> _SHIFT
    h *= _FMIX_2
    return h ^ (h >> _SHIFT)

"""The kernels that look the word n-grams of texts up in a table (numba, half a second).

A bitmap that fits a core's cache says "not in the table" of nearly all n-grams. What passes it is
looked up by its hash in an open table with linear probing, and then compared word by word, so that
a collision of n-gram hashes is never found. `curate.contamination.grams` holds the tables.

Hashes are those of `curate.kernels.words.ngram_hashes`; the bitmap is asked with their unmixed
form, the polynomial, times `GOLDEN`: most n-grams need no more than that.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.hashing import GOLDEN, NGRAM_MULTIPLIER

__all__ = ["BLOCK", "fill_table", "find_grams"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

# Scratch of `find_grams`: the hashes of so many n-grams, and then which of them passed.
BLOCK = 256

_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_ONE, _SIX, _LOW = np.uint64(1), np.uint64(6), np.uint64(63)


@compiled
def fill_table(
    keys: U64, heads: I64, sequences: U64, width: int, bits: U64, shift: np.uint64, slots: I32
) -> None:
    """Enter n-grams, all different, into the bitmap (zeros) and the open table (all -1).

    The words of n-gram i are `sequences[heads[i] : heads[i] + width]`, their hash is `keys[i]`.
    `slots` is a power of two, and more than there are keys; so is `64 * bits.size`.
    """
    mask = np.uint64(slots.size - 1)
    for number in range(keys.size):
        total = np.uint64(0)
        for k in range(heads[number], heads[number] + width):
            total = total * NGRAM_MULTIPLIER + sequences[k]
        bit = (total * GOLDEN) >> shift
        bits[bit >> _SIX] |= _ONE << (bit & _LOW)
        slot = keys[number] & mask
        while slots[slot] >= 0:
            slot = (slot + _ONE) & mask
        slots[slot] = number


@compiled
def find_grams(
    words: U64, offsets: I64, width: int, bits: U64, shift: np.uint64, slots: I32, keys: U64,
    heads: I64, sequences: U64, block: U64, place: I64, key: I64,
) -> int:  # fmt: skip
    """Write where an n-gram of the table stands, and which it is; return how many there are.

    Args:
        words, offsets: the documents' word hashes, offsets [n + 1].
        width: words of an n-gram, at least 1.
        bits, shift, slots, keys, heads, sequences: the table, see `fill_table`.
        block: scratch [2 * BLOCK].
        place: [words], filled: number of the n-gram's first word in `words`.
        key: [words], filled: number of the n-gram in the table.
    """
    mask = np.uint64(slots.size - 1)
    leaving = _ONE  # the multiplier of the word that leaves the window
    for _ in range(width):
        leaving *= NGRAM_MULTIPLIER
    count = 0
    for document in range(offsets.size - 1):
        base, last = int(offsets[document]), int(offsets[document + 1]) - width + 1
        if last <= base:
            continue
        total, before = np.uint64(0), np.uint64(0)
        for k in range(base, base + width - 1):
            total = total * NGRAM_MULTIPLIER + words[k]
        while base < last:
            size = min(BLOCK, last - base)
            for k in range(size):
                total = total * NGRAM_MULTIPLIER + words[base + k + width - 1] - leaving * before
                before = words[base + k]
                block[k] = total
            passed = 0
            for k in range(size):  # without a branch, which nobody could predict
                bit = (block[k] * GOLDEN) >> shift
                block[BLOCK + passed] = np.uint64(k)
                passed += int(np.int64((bits[bit >> _SIX] >> (bit & _LOW)) & _ONE))
            for j in range(BLOCK, BLOCK + passed):
                at = int(np.int64(block[j]))
                gram = _fmix64(block[at])
                slot = gram & mask
                while slots[slot] >= 0 and keys[slots[slot]] != gram:
                    slot = (slot + _ONE) & mask
                number = slots[slot]
                if number >= 0 and _same(words, base + at, sequences, heads[number], width):
                    place[count] = base + at
                    key[count] = number
                    count += 1
            base += size
    return count


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

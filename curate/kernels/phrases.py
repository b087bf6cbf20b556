"""The kernel that finds the phrases of a list among words; import it where it is used (numba).

A list is a trie whose nodes are the hashes of phrases and of their beginnings, in a table with open
addressing: most words of a text are at no beginning, and cost one look.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["IS_PHRASE", "IS_PREFIX", "count_phrases", "make_table"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

IS_PHRASE, IS_PREFIX = 1, 2
NGRAM_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)  # that of `curate.kernels.words`
_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_NO_KEY = np.uint64(0)


@part_of_kernels
def _fmix64(h: np.uint64) -> np.uint64:
    h ^= h >> _SHIFT
    h *= _FMIX_1
    h ^= h >> _SHIFT
    h *= _FMIX_2
    return h ^ (h >> _SHIFT)


@compiled
def make_table(keys: U64, flags: U8, slots: U64, marks: U8) -> None:
    """Put keys (none is 0) with their flags into a table of 2^k zeroed slots, k from their size."""
    mask = np.uint64(slots.size - 1)
    for i in range(keys.size):
        slot = np.int64(keys[i] & mask)
        while slots[slot] != _NO_KEY:
            slot = (slot + 1) & np.int64(mask)
        slots[slot] = keys[i]
        marks[slot] = flags[i]


@compiled
def count_phrases(hashes: U64, offsets: I64, slots: U64, marks: U8, counts: I64) -> None:
    """Count the phrases of each document: at each word the longest one, and on behind it."""
    mask = np.uint64(slots.size - 1)
    for document in range(offsets.size - 1):
        at, stop, found = offsets[document], offsets[document + 1], 0
        while at < stop:
            total = np.uint64(0)
            after = at
            for k in range(at, stop):
                total = total * NGRAM_MULTIPLIER + hashes[k]
                key = _fmix64(total)
                slot = np.int64(key & mask)
                while slots[slot] != key and slots[slot] != _NO_KEY:
                    slot = (slot + 1) & np.int64(mask)
                mark = marks[slot]  # 0 in an empty slot
                if mark & IS_PHRASE:
                    after = k + 1
                if mark & IS_PREFIX == 0:
                    break
            found += after > at
            at = max(after, at + 1)
        counts[document] = found

"""The kernel that says where the words of a text stand in its bytes (numba, half a second).

Word hashes know a word's number and not its place, for the fold changes lengths. Places are needed
where something was found only, so they are worked out again, from the text and its folded form.
`curate.contamination.spans` is the slow truth.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.fold import IS_ALONE, IS_HANGUL, LENGTH_SHIFT, SEPARATOR
from curate.kernels.folding import fold_entry
from curate.kernels.hashing import find_words
from curate.kernels.utf8 import character_at, character_width

__all__ = ["place_words"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ALONE, _HANGUL, _SEPARATOR = np.uint64(IS_ALONE), np.uint64(IS_HANGUL), np.uint64(SEPARATOR)
_LENGTH_SHIFT, _LENGTH, _NOTHING = np.uint64(LENGTH_SHIFT), np.uint64(7), np.uint64(0)
_HIGH = np.uint8(0x80)


@compiled
def place_words(
    data: U8, starts: I64, stops: I64, table: U64, folded: U8, bounds: I64, edges: I64, own: I64,
    document: I64, word: I64, length: I64, head: I64, letters: U8, letter_bounds: I64,
    begin: I64, end: I64, equal: Bools,
) -> None:  # fmt: skip
    """Write the bytes of runs of words, and whether they are spelled as others.

    Args:
        data, starts, stops, table: documents, as in `folding.fold_documents`.
        folded, bounds: what that has made of them.
        edges, own: scratch for twice the words of any document, and 8.
        document, word, length: int64 [n], the runs: in which document, in its order, from which
            word on, how many words.
        head: int64 [n], the first of the words to compare with; they have the same hashes.
        letters, letter_bounds: these words, folded.
        begin, end: int64 [n], filled: first byte, and that behind the last, from the document's.
        equal: bool [n], filled.
    """
    last = -1
    shift = np.int64(0)
    places = edges
    for i in range(document.size):
        one = document[i]
        if one != last:
            find_words(folded, bounds[one], bounds[one + 1], edges)
            places, shift = edges, bounds[one]
            if not _is_ascii(data, starts[one], stops[one]):
                _walk(data, starts[one], stops[one], table, own)
                places, shift = own, np.int64(0)
            last = one
        begin[i] = places[2 * word[i]] - shift
        end[i] = places[2 * (word[i] + length[i]) - 1] - shift
        same = True
        for k in range(length[i]):
            at, stop = edges[2 * (word[i] + k)], edges[2 * (word[i] + k) + 1]
            low, high = letter_bounds[head[i] + k], letter_bounds[head[i] + k + 1]
            same &= stop - at == high - low
            if high - low > 8:  # of up to 8 bytes, equal hashes are equal words
                for j in range(min(stop - at, high - low)):
                    same &= folded[at + j] == letters[low + j]
        equal[i] = same


@part_of_kernels
def _is_ascii(data: U8, start: int, stop: int) -> bool:
    every = np.uint8(0)
    for i in range(start, stop):
        every |= data[i]
    return bool(every < _HIGH)


@part_of_kernels
def _walk(data: U8, start: int, stop: int, table: U64, places: I64) -> None:
    """Write where each word starts and stops, from `start`."""
    num = 0
    is_open = is_behind = False  # may a letter, or a mark, go on with the last word?
    i = start
    while i < stop:
        width = character_width(data, i, stop)
        entry = fold_entry(character_at(data, i, width), table) if width else _SEPARATOR
        i = i + width if width else stop
        if entry == _SEPARATOR:
            is_open = is_behind = False
            continue
        is_letter = (entry >> _LENGTH_SHIFT) & _LENGTH != _NOTHING or entry & _HANGUL != _NOTHING
        is_alone = entry & _ALONE != _NOTHING
        if is_letter and (is_alone or not is_open):
            places[num] = i - width - start
            num += 2
            is_behind = True
            is_open = not is_alone
        if is_behind:
            places[num - 1] = i - start

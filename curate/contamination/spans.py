"""Where the words of a text are, in UTF-8 bytes of that text.

Word hashes know a word's number and not its place, for the fold changes lengths. Places are needed
for matched documents only, so they are worked out again from the text, with the same fold.
"""

import functools

import numpy as np
import numpy.typing as npt

from curate.kernels.fold import (
    ASSIGNED_RANGES,
    IS_ALONE,
    IS_HANGUL,
    LENGTH_SHIFT,
    SEPARATOR,
    fold_table,
)

__all__ = ["word_spans"]

_MARK, _SEPARATOR, _LETTER, _ALONE = 0, 1, 2, 3


def word_spans(text: str) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the first byte and the byte after the last of every word, int64 [num_words] each.

    Word i is the one whose hash is number i of `curate.kernels.words.word_hashes`. Combining marks
    at its end belong to it. A letter of a script without spaces is a word.

    >>> [span.tolist() for span in word_spans("\u00c9t\u00e9, 2nd")]
    [[0, 7], [5, 10]]
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    kind = _kinds()[points]
    width = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    stop = np.cumsum(width)
    start = stop - width
    solid = np.flatnonzero(kind != _MARK)
    is_letter = np.concatenate([[False], kind[solid] == _LETTER, [False]])
    alone = kind[solid] == _ALONE
    first = solid[np.flatnonzero(is_letter[1:-1] & ~is_letter[:-2] | alone)]
    last = solid[np.flatnonzero(is_letter[1:-1] & ~is_letter[2:] | alone)]
    # Marks that follow the last letter directly are part of the word.
    bare = np.concatenate([np.flatnonzero(kind != _MARK), [len(points)]])
    after = bare[np.searchsorted(bare, last, side="right")]
    return start[first], stop[after - 1]


@functools.cache
def _kinds() -> npt.NDArray[np.int8]:
    """Return what each code point is to a word, int8 [0x110000]."""
    table = fold_table()
    length = (table >> np.uint64(LENGTH_SHIFT)) & np.uint64(7)
    kind = np.where((length == 0) & (table & np.uint64(IS_HANGUL) == 0), _MARK, _LETTER)
    kind = np.where(table == np.uint64(SEPARATOR), _SEPARATOR, kind)
    kind = np.where(table & np.uint64(IS_ALONE) != 0, _ALONE, kind)
    every = np.full(0x110000, _SEPARATOR, dtype=np.int8)
    first = 0
    for codes in ASSIGNED_RANGES:
        every[codes.start : codes.stop] = kind[first : first + len(codes)]
        first += len(codes)
    return every

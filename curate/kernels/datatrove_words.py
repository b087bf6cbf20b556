"""What datatrove's filters count over spaCy's words, and its sentences (numba, half a second).

`GopherQualityFilter` (words, symbols, letters, stop words) and `GopherRepetitionFilter` (n-grams)
of datatrove 0.10, over texts that `spacy_tables.split_texts` has split; and the sentences of
spaCy's sentencizer: one ends behind a token that is a terminal mark, before the next token that is
no punctuation.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels import ngrams
from curate.kernels import spacy_classes as flag
from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.spacy_affixes import hash_chars

__all__ = ["NUM_COLUMNS", "NUM_OWN", "count_sentences", "count_words"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

# Columns: then those of `curate.kernels.ngrams`.
_CHARS, _WORDS, _PLAIN_WORDS, _PLAIN_CHARS, _LETTER_WORDS, _STOP_WORDS, _NEWLINES = range(7)
_HASHES, _ELLIPSES = 7, 8
NUM_OWN = 9
NUM_COLUMNS = NUM_OWN + ngrams.NUM_COLUMNS


@compiled
def count_words(
    chars: U32, char_bounds: I64, starts: I32, ends: I32, bounds: I64,
    classes: U32, stop_words: U64, words: U64, sums: I64,
    keys: U64, groups: U32, counts: U32, picked: U32, table: U64, out: I64,
) -> None:  # fmt: skip
    """Write one row of `out` int64 [n, NUM_COLUMNS] per text of `SplitTexts`.

    `stop_words` are hashes, at most 63. The scratch arrays have room for the longest text.
    """
    for i in range(bounds.size - 1):
        row = out[i]
        _count_chars(chars[char_bounds[i] : char_bounds[i + 1]], row)
        first, last = bounds[i], bounds[i + 1]
        size = _count_words(
            chars, starts[first:last], ends[first:last], classes, stop_words, words, sums, row
        )
        ngrams.measure_document(
            words, 0, size, sums, keys, groups, counts, picked, table, row[NUM_OWN:]
        )


@compiled
def count_sentences(
    chars: U32, char_bounds: I64, starts: I32, ends: I32, bounds: I64, classes: U32, out: I64
) -> None:
    """Write the sentences of each text of `SplitTexts` to `out` int64 [n]; an empty one has 1."""
    for i in range(bounds.size - 1):
        found = 1
        ended = False
        for k in range(bounds[i], bounds[i + 1]):
            start, end = starts[k], ends[k]
            if end - start == 1 and classes[chars[start]] & flag.SENTENCE:
                ended = True
            elif ended:
                punctuation = True
                for j in range(start, end):
                    punctuation &= (classes[chars[j]] & flag.PUNCTUATION) != 0
                if not punctuation:
                    found += 1
                    ended = False
        out[i] = found


@part_of_kernels
def _count_chars(chars: U32, row: I64) -> None:
    newlines = hashes = ellipses = dots = 0
    for char in chars:
        newlines += char == 0x0A
        hashes += char == 0x23
        dots = dots + 1 if char == 0x2E else 0
        if dots == 3:
            dots = 0
            ellipses += 1
        ellipses += char == 0x2026
    row[_CHARS] = chars.size
    row[_NEWLINES] = newlines
    row[_HASHES] = hashes
    row[_ELLIPSES] = ellipses


@part_of_kernels
def _count_words(
    chars: U32, starts: I32, ends: I32, classes: U32, stop_words: U64,
    words: U64, sums: I64, row: I64,
) -> int:  # fmt: skip
    """Fill `words` with mixed hashes, `sums` with the characters before each; return the number."""
    m = plain = plain_chars = letters = 0
    seen = np.uint64(0)
    sums[0] = 0
    for k in range(starts.size):
        start, end = starts[k], ends[k]
        if classes[chars[start]] & flag.SPACE:
            continue
        value = hash_chars(chars, start, end)
        words[m] = ngrams.mixed(value)
        sums[m + 1] = sums[m] + (end - start)
        m += 1
        is_plain = has_letter = False
        for j in range(start, end):
            is_plain |= (classes[chars[j]] & flag.SYMBOL) == 0
            has_letter |= (classes[chars[j]] & flag.LETTER) != 0
        if is_plain:
            plain += 1
            plain_chars += end - start
        letters += has_letter
        for j in range(stop_words.size):
            if stop_words[j] == value:
                seen |= np.uint64(1) << np.uint64(j)
    found = 0
    while seen:
        found += 1
        seen &= seen - np.uint64(1)
    row[_WORDS] = m
    row[_PLAIN_WORDS] = plain
    row[_PLAIN_CHARS] = plain_chars
    row[_LETTER_WORDS] = letters
    row[_STOP_WORDS] = found
    return m

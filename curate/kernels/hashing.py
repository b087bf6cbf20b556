"""The kernels from text to hashes of words and of n-grams; import them where they are used (numba).

What they compute is defined by `curate.kernels.words` and `curate.kernels.shingles`. They work
document by document, so that what one step writes is in a core's cache when the next one reads it.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.folding import fold_document
from curate.kernels.simd import count_ones, load_64, nonzero_64, trailing_zeros

__all__ = ["find_words", "hash_characters", "hash_ngrams", "hash_words"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NGRAM_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_ONE, _TOP, _ALL = np.uint64(1), np.uint64(63), np.uint64(0xFFFFFFFFFFFFFFFF)
_SPACE = np.uint8(0x20)


@compiled
def hash_words(
    data: U8, starts: I64, stops: I64, table: U64, zero: bool, width: int,
    folded: U8, edges: I64, longer: I64, words: U64, out: U64, offsets: I64,
) -> None:  # fmt: skip
    """Write the n-gram hashes of each document to `out`, and where each document's begin.

    A `width` of 0 asks for the hashes of the words themselves. `folded`, `edges`, `longer`
    and `words` are scratch for the longest document.
    """
    place = 0
    offsets[0] = 0
    for i in range(starts.size):
        end = fold_document(data, starts[i], stops[i], table, True, zero, folded, 0)
        num_words = find_words(folded, 0, end, edges)
        if width == 0:
            _hash_found(folded, edges, num_words, longer, out, place)
            place += num_words
        else:
            _hash_found(folded, edges, num_words, longer, words, 0)
            place = _ngrams(words, 0, num_words, width, out, place)
        offsets[i + 1] = place


@compiled
def hash_characters(
    data: U8, starts: I64, stops: I64, table: U64, zero: bool, width: int,
    folded: U8, letters: U64, out: U64, offsets: I64,
) -> None:  # fmt: skip
    """Do `hash_words` for n-grams of characters; `letters` is scratch."""
    place = 0
    offsets[0] = 0
    for i in range(starts.size):
        end = fold_document(data, starts[i], stops[i], table, False, zero, folded, 0)
        num_letters = _read_characters(folded, end, letters)
        for k in range(num_letters):
            letters[k] = _fmix64(letters[k] ^ GOLDEN)
        place = _ngrams(letters, 0, num_letters, width, out, place)
        offsets[i + 1] = place


@compiled
def hash_ngrams(hashes: U64, bounds: I64, width: int, out: U64, offsets: I64) -> None:
    """Write the n-gram hashes of documents whose words' hashes are given."""
    place = 0
    offsets[0] = 0
    for i in range(bounds.size - 1):
        place = _ngrams(hashes, bounds[i], bounds[i + 1], width, out, place)
        offsets[i + 1] = place


@part_of_kernels
def _fmix64(h: np.uint64) -> np.uint64:
    h ^= h >> _SHIFT
    h *= _FMIX_1
    h ^= h >> _SHIFT
    h *= _FMIX_2
    return h ^ (h >> _SHIFT)


@part_of_kernels
def find_words(folded: U8, begin: int, end: int, edges: I64) -> int:
    """Write where each run of non-zero bytes in `folded[begin:end]` starts and stops, and count.

    Eight edges are written at a time, so that the number of words in 64 bytes, which nobody can
    predict, decides less often where to go next; up to seven of them mean nothing.
    """
    count = 0
    carry = np.uint64(0)
    for base in range(begin, end, 64):
        inside = nonzero_64(folded, base)
        if end - base < 64:
            inside &= (_ONE << np.uint64(end - base)) - _ONE
        edge = inside ^ (inside << _ONE | carry)
        carry = inside >> _TOP
        here = count
        count += count_ones(edge)
        while here < count:
            for k in range(8):
                edges[here + k] = base + trailing_zeros(edge)
                edge &= edge - _ONE
            here += 8
    if count & 1:
        edges[count] = end
        count += 1
    return count >> 1


@part_of_kernels
def _hash_found(folded: U8, edges: I64, num_words: int, longer: I64, out: U64, place: int) -> None:
    """Write the hash of each word to `out[place:]`; `longer` is scratch for [num_words + 1].

    All first chunks at once, which is vectors, then what the words of over 8 bytes have besides.
    """
    num_longer = 0
    for k in range(num_words):
        start = edges[2 * k]
        length = edges[2 * k + 1] - start
        out[place + k] = _chunk(folded, start, length) ^ GOLDEN
        longer[num_longer] = k
        num_longer += length > 8
    for k in range(place, place + num_words):
        out[k] = _fmix64(out[k])
    for j in range(num_longer):
        k = longer[j]
        start = edges[2 * k] + 8
        length = edges[2 * k + 1] - start
        key = GOLDEN + GOLDEN
        total = _fmix64(_chunk(folded, start, length) ^ key)
        while length > 8:
            start += 8
            length -= 8
            key += GOLDEN
            total += _fmix64(_chunk(folded, start, length) ^ key)
        out[place + k] += total


@part_of_kernels
def _chunk(folded: U8, start: int, length: int) -> np.uint64:
    """Return up to 8 bytes as a little-endian number."""
    return load_64(folded, start) & (_ALL >> np.uint64(64 - 8 * min(length, 8)))


@part_of_kernels
def _ngrams(hashes: U64, start: int, stop: int, width: int, out: U64, place: int) -> int:
    """Write the n-grams of `hashes[start:stop]` to `out[place:]`; return where they end."""
    num_ngrams = stop - start - width + 1
    if num_ngrams <= 0:
        return place
    if width == 5:
        return _fives(hashes, start, num_ngrams, out, place)
    total = np.uint64(0)
    leaving = _ONE  # the multiplier of the word that leaves the window
    for k in range(width):
        total = total * NGRAM_MULTIPLIER + hashes[start + k]
        leaving *= NGRAM_MULTIPLIER
    out[place] = total
    for k in range(1, num_ngrams):
        total = total * NGRAM_MULTIPLIER + hashes[start + k + width - 1]
        total -= leaving * hashes[start + k - 1]
        out[place + k] = total
    for k in range(place, place + num_ngrams):
        out[k] = _fmix64(out[k])
    return place + num_ngrams


@part_of_kernels
def _fives(hashes: U64, start: int, num_ngrams: int, out: U64, place: int) -> int:
    """Do `_ngrams` for the usual width, without a chain from one n-gram to the next: vectors."""
    p = NGRAM_MULTIPLIER
    for k in range(start, start + num_ngrams):
        total = (hashes[k] * p + hashes[k + 1]) * p + hashes[k + 2]
        out[place + k - start] = _fmix64((total * p + hashes[k + 3]) * p + hashes[k + 4])
    return place + num_ngrams


@part_of_kernels
def _read_characters(folded: U8, end: int, letters: U64) -> int:
    """Write the UTF-8 of each character as a number; separators become one space, none outside."""
    count = 0
    i = 0
    while i < end:
        first = folded[i]
        if first == 0:
            if count and letters[count - 1] != _SPACE:
                letters[count] = _SPACE
                count += 1
            i += 1
            continue
        width = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
        letters[count] = load_64(folded, i) & (_ALL >> np.uint64(64 - 8 * width))
        count += 1
        i += width
    if count and letters[count - 1] == _SPACE:
        count -= 1
    return count

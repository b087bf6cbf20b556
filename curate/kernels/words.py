r"""Words, word hashes and n-gram (shingle) hashes of a column of texts, without a row in Python.

Texts are folded (`curate.kernels.fold`: lower case, NFD, combining marks removed) and a word is a
maximal run of Unicode letters and numbers; everything else separates. Scripts written without
spaces (Chinese, Japanese, Thai, ...) therefore form long runs, a clause or a line each: use
character n-grams for them where that matters (not built yet).

Results are ragged: flat values plus int64 offsets [n + 1]; document i owns
`values[offsets[i] : offsets[i + 1]]`. Every function gives the same values for any slicing of the
input, and works through about 4 MiB of text at a time.

The hash of a word is defined here and nowhere else, so that it can be computed from Arrow bytes 8
at a time by any kernel: cut the folded UTF-8 into little-endian 64-bit chunks c_0, c_1, ... (the
last one zero-padded; folded words hold no zero byte) and add up `fmix64(c_k ^ (k + 1) * GOLDEN)`
modulo 2^64. For words of up to 8 bytes this is a bijection.

>>> import pyarrow as pa
>>> words, offsets = normalise_words(pa.array(["The caf\u00e9, twice", None], pa.large_string()))
>>> words.to_pylist(), offsets.tolist()
(['the', 'cafe', 'twice'], [0, 3, 3])
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.fold import fold_utf8
from curate.kernels.mix import GOLDEN, fmix64

__all__ = ["ngram_hashes", "normalise_words", "shingle_sets", "unique_sorted", "word_hashes"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
T = TypeVar("T", bound=np.generic)

SLICE_BYTES = 4 << 20
# = 3 mod 8, so that P - 1 and P + 1 have few factors of two: swapped words do not collide.
NGRAM_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
LOW_BYTES = np.array([(1 << (8 * k)) - 1 for k in range(9)], dtype=np.uint64)


def normalise_words(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, I64]:
    """Return the words of all documents as one string array, and offsets [n + 1] into it.

    A null text has no words. Raises InputError if `texts` is not a string array.
    """
    parts: list[U8] = []
    lengths: list[I64] = []
    counts: list[I64] = []
    for data, offsets in _slices(texts):
        folded, bounds = fold_utf8(data, offsets)
        start, stop = _word_spans(folded, bounds)
        parts.append(folded[folded != 0])  # words are all that is not a separator
        lengths.append(stop - start)
        counts.append(np.diff(np.searchsorted(start, bounds)))
    sizes = _joined(lengths, np.int64)
    words = pa.LargeStringArray.from_buffers(
        sizes.size, pa.py_buffer(_offsets(sizes)), pa.py_buffer(_joined(parts, np.uint8))
    )
    return words, _offsets(_joined(counts, np.int64))


def word_hashes(texts: pa.LargeStringArray) -> tuple[U64, I64]:
    """Return the 64-bit hash of each word (see the module's docstring), and offsets [n + 1].

    A null text has no words. Raises InputError if `texts` is not a string array.
    """
    return _gathered(texts, lambda hashes, offsets: (hashes, offsets))


def shingle_sets(texts: pa.LargeStringArray, width: int) -> tuple[U64, I64]:
    """Return each document's set of word n-gram hashes, sorted, and offsets [n + 1].

    Equal to `unique_sorted(*ngram_hashes(*word_hashes(texts), width))`, but never holds the words
    of more than a slice of the text.
    """
    _check_width(width)
    return _gathered(
        texts, lambda hashes, offsets: unique_sorted(*ngram_hashes(hashes, offsets, width))
    )


def ngram_hashes(hashes: U64, offsets: I64, width: int) -> tuple[U64, I64]:
    """Hash every run of `width` consecutive words inside each document.

    The hash of words w_1 ... w_k is fmix64(w_1 P^(k-1) + ... + w_k) modulo 2^64. A document of
    fewer than `width` words has none.

    Args:
        hashes: uint64 [num_words].
        offsets: int64 [n + 1] into `hashes`.
        width: words per n-gram, at least 1.

    Returns:
        uint64 [num_ngrams] in document order, and int64 offsets [n + 1].
    """
    _check_width(width)
    counts = np.maximum(np.diff(offsets) - (width - 1), 0)
    new_offsets = _offsets(counts)
    num_windows = int(offsets[-1] - offsets[0]) - (width - 1)
    if num_windows <= 0:
        return np.empty(0, dtype=np.uint64), new_offsets
    first = int(offsets[0])
    mixed = hashes[first : first + num_windows].copy()
    for k in range(1, width):
        mixed *= NGRAM_MULTIPLIER
        mixed += hashes[first + k : first + k + num_windows]
    if new_offsets[-1] != num_windows:
        mixed = mixed[_inside_one_document(offsets - first, width, num_windows)]
    return fmix64(mixed), new_offsets


def unique_sorted(hashes: U64, offsets: I64) -> tuple[U64, I64]:
    """Return each document's hashes as a sorted set, and the new offsets [n + 1]."""
    first = int(offsets[0])
    values = hashes[first : int(offsets[-1])].copy()
    bounds = (offsets - first).tolist()
    for start, stop in itertools.pairwise(bounds):
        values[start:stop].sort()  # in place, 1 us a document; numpy's vectorised sort
    if values.size == 0:
        return values, np.zeros(len(bounds), dtype=np.int64)
    fresh = np.empty(values.size, dtype=bool)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    starts = np.array(bounds[:-1], dtype=np.int64)
    fresh[starts[starts < values.size]] = True
    num_before = np.zeros(values.size + 1, dtype=np.int64)
    np.cumsum(fresh, out=num_before[1:])
    return values[fresh], num_before[bounds]


def _inside_one_document(offsets: I64, width: int, num_windows: int) -> npt.NDArray[np.bool_]:
    """Mark the windows (by first word) that do not reach into the next document."""
    inside = np.ones(num_windows, dtype=bool)
    for k in range(1, width):
        last = offsets[1:] - k
        crossing = last[(last >= offsets[:-1]) & (last < num_windows)]
        inside[crossing] = False
    return inside


def _gathered(
    texts: pa.LargeStringArray, then: Callable[[U64, I64], tuple[U64, I64]]
) -> tuple[U64, I64]:
    """Hash the words slice by slice, apply `then` to each slice, and join the ragged results."""
    values: list[U64] = []
    counts: list[I64] = []
    for data, offsets in _slices(texts):
        folded, bounds = fold_utf8(data, offsets)
        start, stop = _word_spans(folded, bounds)
        hashes = _hash_spans(folded, start, stop)
        part, part_offsets = then(hashes, np.searchsorted(start, bounds))
        values.append(part)
        counts.append(np.diff(part_offsets))
    return _joined(values, np.uint64), _offsets(_joined(counts, np.int64))


def _word_spans(folded: U8, offsets: I64) -> tuple[I64, I64]:
    """Return starts and stops of the runs of non-zero bytes, cut at the documents' bounds."""
    inside = folded != 0
    if inside.size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    starting = inside.copy()
    np.greater(inside[1:], inside[:-1], out=starting[1:])
    ending = inside.copy()
    np.greater(inside[:-1], inside[1:], out=ending[:-1])
    cuts = offsets[(offsets > 0) & (offsets < folded.size)]
    starting[cuts] = inside[cuts]
    ending[cuts - 1] = inside[cuts - 1]
    return np.flatnonzero(starting), np.flatnonzero(ending) + 1


def _hash_spans(data: U8, start: I64, stop: I64) -> U64:
    """Hash the words `data[start : stop]`, none of which is empty or holds a zero byte."""
    padded = np.zeros(data.size + 8, dtype=np.uint8)
    padded[: data.size] = data
    # Every position as an unaligned little-endian 64-bit load.
    chunks: U64 = np.ndarray((data.size + 1,), dtype="<u8", buffer=padded, strides=(1,))
    length = stop - start
    hashes = fmix64((chunks[start] & LOW_BYTES[np.minimum(length, 8)]) ^ GOLDEN)
    long = np.flatnonzero(length > 8)
    if long.size:
        num_more = (length[long] - 1) // 8
        first = _offsets(num_more)[:-1]
        index = np.arange(num_more.sum()) - np.repeat(first, num_more) + 1
        position = np.repeat(start[long], num_more) + 8 * index
        left = np.repeat(stop[long], num_more) - position
        chunk = chunks[position] & LOW_BYTES[np.minimum(left, 8)]
        key = (index + 1).astype(np.uint64) * GOLDEN
        hashes[long] += np.add.reduceat(fmix64(chunk ^ key), first)
    return hashes


def _slices(texts: pa.LargeStringArray) -> Iterator[tuple[U8, I64]]:
    """Yield (bytes, offsets from 0) of consecutive documents, about SLICE_BYTES of text each."""
    data, offsets = _text_buffers(texts)
    num_texts = offsets.size - 1
    begin = 0
    while begin < num_texts:
        limit = offsets[begin] + SLICE_BYTES
        end = max(begin + 1, int(np.searchsorted(offsets, limit, side="right")) - 1)
        bounds = offsets[begin : end + 1]
        yield data[bounds[0] : bounds[-1]], bounds - bounds[0]
        begin = end


def _text_buffers(texts: pa.LargeStringArray) -> tuple[U8, I64]:
    """Return the bytes and offsets [n + 1] behind an array, copying only where nulls hide bytes."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if pa.types.is_string(texts.type) or pa.types.is_string_view(texts.type):
        texts = texts.cast(pa.large_string())
    if not pa.types.is_large_string(texts.type):
        raise InputError(
            f"texts must be an Arrow array of large_string, got {texts.type}; "
            "cast the column with `.cast(pyarrow.large_string())`"
        )
    if texts.null_count:
        texts = texts.fill_null("")  # a null may stand over any bytes
    if len(texts) == 0:
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64, count=len(texts) + 1 + texts.offset)
    data = np.frombuffer(data_buffer, dtype=np.uint8) if data_buffer else np.empty(0, np.uint8)
    return data, offsets[texts.offset :]


def _check_width(width: int) -> None:
    if width < 1:
        raise InputError(f"an n-gram has at least 1 word, got width {width}; use 5, for example")


def _offsets(counts: I64) -> I64:
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _joined(parts: list[npt.NDArray[T]], dtype: type[T]) -> npt.NDArray[T]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)

r"""Words, word hashes and n-gram hashes of a column of texts, without a row in Python.

Texts are folded (`curate.kernels.fold`: lower case, NFD, combining marks removed) and a word is a
maximal run of Unicode letters and numbers, or a single letter of a script without spaces (Chinese,
Japanese, Thai, ...); everything else separates.

Results are ragged: flat values plus int64 offsets [n + 1]; document i owns
`values[offsets[i] : offsets[i + 1]]`. Every function gives the same values for any slicing of the
input, and works through about 1 MiB of text at a time.

The hash of a word ("mix64") is defined here and nowhere else, so that it can be computed from Arrow
bytes 8 at a time by any kernel: cut the folded UTF-8 into little-endian 64-bit chunks c_0, c_1, ...
(the last one zero-padded; folded words hold no zero byte) and add up `fmix64(c_k ^ (k + 1) * G)`
modulo 2^64, with fmix64 and G = `GOLDEN` of `curate.kernels.mix`. For words of up to 8 bytes this
is a bijection. The hash of an n-gram w_1 ... w_k is fmix64(w_1 P^(k-1) + ... + w_k) modulo 2^64,
with P = 0xD6E8FEB86659FD93 (3 modulo 8, so that P - 1 and P + 1 have few factors of two: swapped
words do not collide).

>>> import pyarrow as pa
>>> words, offsets = normalise_words(pa.array(["The caf\u00e9, twice", None], pa.large_string()))
>>> words.to_pylist(), offsets.tolist()
(['the', 'cafe', 'twice'], [0, 3, 3])
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.scratch import TextSlice, borrowed_scratch, text_slices
from curate.kernels.shingles import hash_words, ragged_offsets, shingle_sets, unique_sorted

__all__ = ["ngram_hashes", "normalise_words", "shingle_sets", "unique_sorted", "word_hashes"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def normalise_words(texts: Any) -> tuple[pa.LargeStringArray, I64]:
    """Return the words of all documents as one string array, and offsets [n + 1] into it.

    A null text has no words. Raises InputError if `texts` is not a string array.
    """
    parts: list[U8] = [np.empty(0, dtype=np.uint8)]
    lengths: list[I64] = [np.empty(0, dtype=np.int64)]
    counts: list[I64] = [np.empty(0, dtype=np.int64)]
    for part in text_slices(texts):
        folded, bounds = _folded(part)
        start, stop = _word_spans(folded, bounds)
        parts.append(folded[folded != 0])  # words are all that is not a separator
        lengths.append(stop - start)
        counts.append(np.diff(np.searchsorted(start, bounds)))
    offsets = ragged_offsets(np.concatenate(lengths))
    words = pa.LargeStringArray.from_buffers(
        offsets.size - 1, pa.py_buffer(offsets), pa.py_buffer(np.concatenate(parts))
    )
    return words, ragged_offsets(np.concatenate(counts))


def word_hashes(texts: Any) -> tuple[U64, I64]:
    """Return the 64-bit hash of each word (see the module's docstring), and offsets [n + 1].

    A null text has no words. Raises InputError if `texts` is not a string array.
    """
    values, counts = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    with borrowed_scratch() as scratch:
        for part in text_slices(texts):
            offsets = scratch.int64("offsets", part.num_texts + 1)
            hashes = hash_words(part, 0, False, scratch, offsets)
            values.append(hashes[: offsets[-1]].copy())
            counts.append(np.diff(offsets))
    return np.concatenate(values), ragged_offsets(np.concatenate(counts))


def ngram_hashes(hashes: U64, offsets: I64, width: int) -> tuple[U64, I64]:
    """Hash every run of `width` consecutive words inside each document.

    A document of fewer than `width` words has none.

    Args:
        hashes: uint64 [num_words].
        offsets: int64 [n + 1] into `hashes`.
        width: words per n-gram, at least 1.

    Returns:
        uint64 [num_ngrams] in document order, and int64 offsets [n + 1].
    """
    if width < 1:
        raise InputError(f"an n-gram has at least 1 word, got width {width}; use 5, for example")
    from curate.kernels import hashing  # numba: half a second

    out = np.empty(int(offsets[-1] - offsets[0]), dtype=np.uint64)
    new_offsets = np.empty(offsets.size, dtype=np.int64)
    hashing.hash_ngrams(np.ascontiguousarray(hashes), offsets, width, out, new_offsets)
    return out[: new_offsets[-1]], new_offsets


def _folded(part: TextSlice) -> tuple[U8, I64]:
    from curate.kernels import folding

    bounds = np.empty(part.num_texts + 1, dtype=np.int64)
    size = part.num_bytes * (1 if part.is_ascii else 3) + folding.SLACK
    out = np.empty(size, dtype=np.uint8)
    folding.fold_documents(part.data, part.starts, part.stops, part.table, True, False, out, bounds)
    return out[: bounds[-1]], bounds


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

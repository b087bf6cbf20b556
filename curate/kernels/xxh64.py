"""The kernel that hashes runs of words with xxHash64 (numba, half a second).

The function is XXH64 with seed 0 of the xxHash specification (Collet), little-endian, bit for bit.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.simd import load_64

__all__ = ["hash_spans", "hash_word_runs"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_P1, _P2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P3, _P4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_LOW_HALF, _WORD = np.uint64(0xFFFFFFFF), np.uint64(64)
_SPACE = np.uint8(0x20)


@compiled
def hash_spans(data: U8, starts: I64, stops: I64, out: U64) -> None:
    """Write the hash of each `data[starts[i] : stops[i]]`; `data` has 8 bytes more behind."""
    for i in range(starts.size):
        out[i] = _xxh64(data, starts[i], stops[i])


@compiled
def hash_word_runs(data: U8, bounds: I64, width: int, starts: I64, out: U64, offsets: I64) -> None:
    """Hash every run of `width` words of each text `data[bounds[i] : bounds[i + 1]]`.

    Texts are words with single spaces between them, so that a run is a slice. `starts` is scratch
    for the words of the longest text.
    """
    place = 0
    offsets[0] = 0
    for i in range(bounds.size - 1):
        begin, end = bounds[i], bounds[i + 1]
        num_words = 0
        if end > begin:
            starts[0] = begin
            num_words = 1
            for k in range(begin, end):
                starts[num_words] = k + 1
                num_words += data[k] == _SPACE
            starts[num_words] = end + 1
        for k in range(num_words - width + 1):
            out[place] = _xxh64(data, starts[k], starts[k + width] - 1)
            place += 1
        offsets[i + 1] = place


@part_of_kernels
def _rotate(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> (_WORD - np.uint64(bits)))


@part_of_kernels
def _round(total: np.uint64, chunk: np.uint64) -> np.uint64:
    return _rotate(total + chunk * _P2, 31) * _P1


@part_of_kernels
def _merge(total: np.uint64, lane: np.uint64) -> np.uint64:
    return (total ^ _round(np.uint64(0), lane)) * _P1 + _P4


@part_of_kernels
def _xxh64(data: U8, start: int, stop: int) -> np.uint64:
    i = start
    if stop - start >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while i + 32 <= stop:
            a = _round(a, load_64(data, i))
            b = _round(b, load_64(data, i + 8))
            c = _round(c, load_64(data, i + 16))
            d = _round(d, load_64(data, i + 24))
            i += 32
        h = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        h = _merge(_merge(_merge(_merge(h, a), b), c), d)
    else:
        h = _P5
    h += np.uint64(stop - start)
    while i + 8 <= stop:
        h = _rotate(h ^ _round(np.uint64(0), load_64(data, i)), 27) * _P1 + _P4
        i += 8
    if i + 4 <= stop:
        h = _rotate(h ^ (load_64(data, i) & _LOW_HALF) * _P1, 23) * _P2 + _P3
        i += 4
    while i < stop:
        h = _rotate(h ^ np.uint64(data[i]) * _P5, 11) * _P1
        i += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))

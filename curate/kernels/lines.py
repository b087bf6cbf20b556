"""The kernel that hashes lines of folded text; import it where it is used (numba, half a second).

A line counts as its words: the runs of non-zero bytes of its folded text, joined by single zero
bytes. These bytes go into the hash 8 at a time, first byte highest:

    h = 0;  for every full chunk c:  h = mix(h ^ c),  mix(x) = y ^ (y >> 32) with y = x * MULTIPLIER
    hash = fmix64(mix(h ^ rest) + number of bytes)      (rest: the last 0 to 7 bytes as a number)

all modulo 2^64, MULTIPLIER being odd and fmix64 that of `curate.kernels.mix`.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled

__all__ = ["MULTIPLIER", "hash_lines"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_EIGHT, _HALF, _FMIX_SHIFT = np.uint64(8), np.uint64(32), np.uint64(33)
_NONE, _ZERO = np.uint8(0), np.uint8(ord("0"))
_TOP_BITS, _CONTINUATION = np.uint8(0xC0), np.uint8(0x80)


@compiled
def hash_lines(
    folded: U8, bounds: I64, zero: bool, min_bytes: int, hashes: U64, sizes: I64
) -> None:
    """Write the hash of every line, and how many letters and digits it has.

    Args:
        folded: bytes from `fold_utf8`, 0 between words.
        bounds: int64 [n + 1], line i is `folded[bounds[i] : bounds[i + 1]]`.
        zero: numbers have become 0, which counts nothing in `sizes`.
        min_bytes: of shorter lines the size is given as 0, and no hash.
        hashes: uint64 [n], filled; lines without words have the hash of no bytes.
        sizes: int64 [n], filled.
    """
    for i in range(hashes.size):
        sizes[i] = 0
        if bounds[i + 1] - bounds[i] < min_bytes:
            continue
        h = chunk = num_bytes = np.uint64(0)
        size = 0
        gap = False
        for k in range(bounds[i], bounds[i + 1]):
            byte = folded[k]
            if byte == _NONE:
                gap = bool(num_bytes > np.uint64(0))
                continue
            # The first byte of a character that counts.
            size += (byte & _TOP_BITS != _CONTINUATION) & ((not zero) | (byte != _ZERO))
            if gap:  # the zero byte between two words
                gap = False
                chunk <<= _EIGHT
                num_bytes += np.uint64(1)
                if num_bytes & np.uint64(7) == np.uint64(0):
                    h = (h ^ chunk) * MULTIPLIER
                    h ^= h >> _HALF
                    chunk = np.uint64(0)
            chunk = (chunk << _EIGHT) | np.uint64(byte)
            num_bytes += np.uint64(1)
            if num_bytes & np.uint64(7) == np.uint64(0):
                h = (h ^ chunk) * MULTIPLIER
                h ^= h >> _HALF
                chunk = np.uint64(0)
        h = (h ^ chunk) * MULTIPLIER
        h ^= h >> _HALF
        h += num_bytes
        h ^= h >> _FMIX_SHIFT
        h *= _FMIX_1
        h ^= h >> _FMIX_SHIFT
        h *= _FMIX_2
        h ^= h >> _FMIX_SHIFT
        hashes[i] = h
        sizes[i] = size

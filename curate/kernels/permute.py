"""The kernels from shingle hashes to MinHash signatures and band keys (numba, half a second).

Which permutations they apply is said in `curate.dedup.minhash`. All run across the permutations,
eight shingles at a time: a document of ten words costs no more per word than a long one.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["BLOCK", "glue_bands", "permute_affine32", "permute_affine64", "permute_mersenne"]

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Shingles premixed at a time; the scratch for them has 8 more.
BLOCK = 2048

_MERSENNE, _MERSENNE_BITS = np.uint64((1 << 61) - 1), np.uint64(61)
_FMIX32_1, _FMIX32_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_S13, _S16 = np.uint32(13), np.uint32(16)
_FMIX64_1, _FMIX64_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S33, _S32 = np.uint64(33), np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BAND_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


@compiled
def permute_affine32(shingles: U64, offsets: I64, a: U32, b: U32, mixed: U32, out: U32) -> None:
    """Lower each slot k of `out[i]` to min fmix32(low half) * a_k + b_k over document i."""
    for i in range(offsets.size - 1):
        for base in range(offsets[i], offsets[i + 1], BLOCK):
            size = min(BLOCK, offsets[i + 1] - base)
            for j in range(size):
                mixed[j] = _fmix32(np.uint32(shingles[base + j]))
            while size & 7:  # a shingle met again changes no minimum
                mixed[size] = mixed[size - 1]
                size += 1
            for j in range(0, size, 8):
                x0, x1, x2, x3 = mixed[j], mixed[j + 1], mixed[j + 2], mixed[j + 3]
                x4, x5, x6, x7 = mixed[j + 4], mixed[j + 5], mixed[j + 6], mixed[j + 7]
                for k in range(a.size):
                    m, n = a[k], b[k]
                    low = min(np.uint32(x0 * m + n), np.uint32(x1 * m + n))
                    low = min(low, min(np.uint32(x2 * m + n), np.uint32(x3 * m + n)))
                    high = min(np.uint32(x4 * m + n), np.uint32(x5 * m + n))
                    high = min(high, min(np.uint32(x6 * m + n), np.uint32(x7 * m + n)))
                    out[i, k] = min(out[i, k], min(low, high))


@compiled
def permute_affine64(shingles: U64, offsets: I64, a: U64, b: U64, mixed: U64, out: U64) -> None:
    """Lower each slot k of `out[i]` to min fmix64(shingle) * a_k + b_k over document i."""
    for i in range(offsets.size - 1):
        for base in range(offsets[i], offsets[i + 1], BLOCK):
            size = min(BLOCK, offsets[i + 1] - base)
            for j in range(size):
                mixed[j] = _fmix64(shingles[base + j])
            while size & 3:
                mixed[size] = mixed[size - 1]
                size += 1
            for j in range(0, size, 4):
                x0, x1, x2, x3 = mixed[j], mixed[j + 1], mixed[j + 2], mixed[j + 3]
                for k in range(a.size):
                    m, n = a[k], b[k]
                    low = min(x0 * m + n, x1 * m + n)
                    out[i, k] = min(out[i, k], min(low, min(x2 * m + n, x3 * m + n)))


@compiled
def permute_mersenne(
    shingles: U64, offsets: I64, a: U64, b: U64, bits: np.uint64, mixed: U64, out: U64
) -> None:
    """Lower each slot k of `out[i]` to min ((h a_k + b_k mod 2^64) mod 2^61 - 1) & bits.

    h is the shingle & `bits`: all ones, or the low half.
    """
    for i in range(offsets.size - 1):
        for base in range(offsets[i], offsets[i + 1], BLOCK):
            size = min(BLOCK, offsets[i + 1] - base)
            for j in range(size):
                mixed[j] = shingles[base + j] & bits
            while size & 3:
                mixed[size] = mixed[size - 1]
                size += 1
            for j in range(0, size, 4):
                x0, x1, x2, x3 = mixed[j], mixed[j + 1], mixed[j + 2], mixed[j + 3]
                for k in range(a.size):
                    m, n = a[k], b[k]
                    low = min(_mod(x0 * m + n) & bits, _mod(x1 * m + n) & bits)
                    high = min(_mod(x2 * m + n) & bits, _mod(x3 * m + n) & bits)
                    out[i, k] = min(out[i, k], min(low, high))


@compiled
def glue_bands(signatures: U32 | U64, rows: int, keys: U64) -> None:
    """Write a 64-bit key of each band of `rows` slots, the band's index mixed in."""
    for i in range(keys.shape[0]):
        for band in range(keys.shape[1]):
            key = _fmix64(np.uint64(band + 1) * _GOLDEN)
            for k in range(band * rows, (band + 1) * rows):
                key = (key ^ np.uint64(signatures[i, k])) * _BAND_MULTIPLIER
                key ^= key >> _S32
            keys[i, band] = _fmix64(key)


@part_of_kernels
def _mod(value: np.uint64) -> np.uint64:
    """Return value modulo 2^61 - 1, for 2^61 = 1 there; the second step is at most one."""
    folded = (value & _MERSENNE) + (value >> _MERSENNE_BITS)
    return min(folded, folded - _MERSENNE)  # the difference wraps to a large one below 2^61 - 1


@part_of_kernels
def _fmix32(h: np.uint32) -> np.uint32:
    h = np.uint32(h ^ (h >> _S16))
    h = np.uint32(h * _FMIX32_1)
    h = np.uint32(h ^ (h >> _S13))
    h = np.uint32(h * _FMIX32_2)
    return np.uint32(h ^ (h >> _S16))


@part_of_kernels
def _fmix64(h: np.uint64) -> np.uint64:
    h ^= h >> _S33
    h *= _FMIX64_1
    h ^= h >> _S33
    h *= _FMIX64_2
    return h ^ (h >> _S33)

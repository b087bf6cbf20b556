"""Bijective integer mixing on numpy arrays: the one place where our stable hashes come from.

The finalizers are those of MurmurHash3 (Appleby, public domain): `fmix64(0) == 0`, every input bit
reaches every output bit, and no two inputs share an output.

>>> import numpy as np
>>> [hex(x) for x in fmix64(np.array([1, 2], dtype=np.uint64))]
['0xb456bcfc34c2cb2c', '0x3abf2a20650683e7']
"""

import numpy as np
import numpy.typing as npt

__all__ = ["GOLDEN", "fmix32", "fmix64"]

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the increment of splitmix64


def fmix64(values: U64) -> U64:
    """Return the 64-bit finalizer of `values` (any shape) as a new array."""
    h = values ^ (values >> np.uint64(33))
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return h


def fmix32(values: U32) -> U32:
    """Return the 32-bit finalizer of `values` (any shape) as a new array."""
    h = values ^ (values >> np.uint32(16))
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h

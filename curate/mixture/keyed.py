"""Randomness without a state: an order of documents keyed by (seed, purpose, doc_id).

Where a document comes in such an order depends on nothing but its id, so another document, another
weight or another worker never moves it. A prefix of the order is a uniform sample, and a longer
prefix contains every shorter one.

>>> import pyarrow as pa
>>> ids = pa.array([bytes([i]) * 16 for i in range(4)], pa.binary(16))
>>> order = keyed_order(ids, 7, "draw")
>>> alone = keyed_order(ids.slice(1), 7, "draw") + 1
>>> order[order > 0].tolist() == alone.tolist()
True
"""

import hashlib
from typing import Any

import numpy as np

from curate.corpus.identity import ids_to_numpy
from curate.kernels.mix import fmix64

__all__ = ["apportion", "keyed_hash", "keyed_order", "nearest_prefix"]


def keyed_hash(doc_ids: Any, seed: int, purpose: str) -> np.ndarray:
    """Hash every id under a key.

    The ids are hashes already (blake2b), so a keyed 64-bit finaliser over their two halves is
    enough, and it runs on whole columns.

    Args:
        doc_ids: `binary(16)` array of n ids without nulls.
        seed: the recipe's seed, any integer.
        purpose: what the numbers are for; another purpose gives independent numbers.

    Returns:
        uint64 [n].
    """
    key = hashlib.blake2b(f"{int(seed)}\x00{purpose}".encode(), digest_size=16).digest()
    first, second = (np.uint64(int.from_bytes(key[i : i + 8], "little")) for i in (0, 8))
    halves = ids_to_numpy(doc_ids)
    return fmix64((fmix64(halves[:, 0] ^ first) ^ halves[:, 1]) + second)


def keyed_order(doc_ids: Any, seed: int, purpose: str) -> np.ndarray:
    """Return int64 [n]: the positions of the ids in keyed order; equal hashes go by id."""
    hashes = keyed_hash(doc_ids, seed, purpose)
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    if len(order) > 1 and bool((in_order[1:] == in_order[:-1]).any()):
        halves = ids_to_numpy(doc_ids)
        order = np.lexsort((halves[:, 0], halves[:, 1], hashes))
    return order


def nearest_prefix(sizes: np.ndarray, target: int) -> int:
    """Return how many leading items come nearest to a target in sum; of two, the fewer.

    A greater target never takes fewer items.

    Args:
        sizes: int64 [n], none negative.
        target: what the sum should be.

    >>> [nearest_prefix(np.array([4, 4, 4]), target) for target in (0, 2, 3, 6, 7, 99)]
    [0, 0, 1, 1, 2, 3]
    """
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    above = int(np.searchsorted(sums, target, side="left"))
    if above == 0:
        return 0
    if above == len(sums):
        return int(np.searchsorted(sums, sums[-1], side="left"))
    below = int(np.searchsorted(sums, sums[above - 1], side="left"))
    return below if target - int(sums[below]) <= int(sums[above]) - target else above


def apportion(total: int, shares: list[int]) -> list[int]:
    """Split a total into integers by integer shares: largest remainder, first of equals wins.

    >>> apportion(10, [1, 1, 1])
    [4, 3, 3]
    """
    whole = sum(shares)
    assert whole > 0, "apportion needs a positive share"
    parts = [total * share // whole for share in shares]
    remainders = [total * share % whole for share in shares]
    ranked = sorted(range(len(shares)), key=lambda i: (-remainders[i], i))
    for i in ranked[: total - sum(parts)]:
        parts[i] += 1
    return parts

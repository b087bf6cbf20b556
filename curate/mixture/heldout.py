"""Held-out documents: of each source so many bytes, so that its loss is as sure as another's.

The documents of a source stand in keyed order and are read up to the target: more bytes only add
documents, and a new source takes none away.
"""

from typing import Any

import numpy as np

from curate.mixture.keyed import keyed_order, nearest_prefix

__all__ = ["LEAST_BYTES", "choose_held_out", "target_bytes"]

LEAST_BYTES = 100_000  # some 25,000 tokens; a smaller source does not cut the others to its size
_PURPOSE = "held-out"


def target_bytes(available: list[int], asked: int | None = None) -> int:
    """Return how many bytes of each source are held out for the loss.

    As asked; else what the smallest source that has any can give, but not less than 100 kB.

    >>> target_bytes([5_000_000, 300_000, 0]), target_bytes([5_000_000, 900])
    (300000, 100000)
    """
    if asked is not None:
        return asked
    return max(min((n for n in available if n), default=0), LEAST_BYTES)


def choose_held_out(
    sources: np.ndarray, num_bytes: np.ndarray, doc_ids: Any, *, target: int, seed: int
) -> np.ndarray:
    """Return bool [n]: whose loss is measured.

    Of each source the documents whose bytes come nearest to the target, one at least; all of a
    source that has less.

    Args:
        sources: int [n], codes.
        num_bytes: int64 [n].
        doc_ids: `binary(16)` array of n ids.
        target: bytes of each source.
        seed: the recipe's seed.
    """
    chosen = np.zeros(len(sources), dtype=bool)
    order = keyed_order(doc_ids, seed, _PURPOSE)
    for code in np.unique(sources):
        members = order[sources[order] == code]
        whole = int(num_bytes[members].sum())
        if whole <= target:
            chosen[members] = True
        else:
            chosen[members[: max(nearest_prefix(num_bytes[members], target), 1)]] = True
    return chosen

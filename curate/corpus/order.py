"""The order of a plan's rows in training: a keyed permutation that can be inverted.

Sample number n of a run is a row of a plan, found by arithmetic: the phase that holds n, the epoch
in that phase, and a keyed permutation of the plan's rows. Its inverse traces a row to the steps
that saw it, without a scan. `train` reads rows by it, and whoever traces a document asks it back;
it stands here because both may read it.

>>> order = Permutation(10, key=(7, 0))
>>> sorted(order.row_of(np.arange(10)).tolist()) == list(range(10))
True
>>> order.position_of(order.row_of(np.arange(10))).tolist()
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Permutation", "samples_of"]

Ints = np.ndarray[Any, np.dtype[Any]]


def _mix(values: Ints, key: int) -> Ints:
    """Scramble uint64 values (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = values ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Permutation:
    """A keyed bijection of range(size): a Feistel network on a grid, with cycle walking.

    The grid is left x right >= size with about sqrt(size) on a side, so that few values fall
    outside and walk on (Black and Rogaway 2002, ciphers with arbitrary finite domains).
    """

    ROUNDS = 8

    def __init__(self, size: int, *, key: Sequence[int]) -> None:
        assert size > 0
        self.size = size
        self.left = math.isqrt(size - 1) + 1
        self.right = -(-size // self.left)
        digest = b"".join(
            hashlib.blake2b(repr((tuple(map(int, key)), i)).encode(), digest_size=8).digest()
            for i in range(self.ROUNDS)
        )
        self.keys = np.frombuffer(digest, dtype="<u8").tolist()

    def row_of(self, positions: Ints) -> Ints:
        """Return the rows [n] int64 that stand at `positions` [n]."""
        return self._walk(np.asarray(positions, dtype=np.int64), forward=True)

    def position_of(self, rows: Ints) -> Ints:
        """Return the positions [n] int64 at which `rows` [n] stand: the inverse of `row_of`."""
        return self._walk(np.asarray(rows, dtype=np.int64), forward=False)

    def _walk(self, values: Ints, *, forward: bool) -> Ints:
        assert not len(values) or (values.min() >= 0 and values.max() < self.size)
        out = self._pass(values, forward=forward)
        while (outside := np.flatnonzero(out >= self.size)).size:
            out[outside] = self._pass(out[outside], forward=forward)
        return out

    def _pass(self, values: Ints, *, forward: bool) -> Ints:
        sides = [values // self.right, values % self.right]
        bounds = (self.left, self.right)
        for i in range(self.ROUNDS) if forward else reversed(range(self.ROUNDS)):
            turn = i % 2
            shift = _mix(sides[1 - turn].astype(np.uint64), self.keys[i]) % np.uint64(bounds[turn])
            step = shift.astype(np.int64)
            sides[turn] = (sides[turn] + (step if forward else -step)) % bounds[turn]
        joined: Ints = sides[0] * self.right + sides[1]
        return joined


def samples_of(
    rows: Mapping[str, Ints],
    sizes: Mapping[str, int],
    phases: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    num_samples: int,
) -> Ints:
    """Return the samples of a run at which some rows of its plans are read, ascending, int64.

    Args:
        rows: plan -> distinct row numbers.
        sizes: plan -> its number of rows.
        phases: `first_row`, `plan`, `epoch`, as in `run.json`; the last goes on for good.
        seed: the run's.
        num_samples: how many the run reads in all.

    >>> two = [{"first_row": 0, "plan": "a", "epoch": 0}]
    >>> found = samples_of({"a": np.array([1])}, {"a": 3}, two, seed=7, num_samples=6)
    >>> [Permutation(3, key=(7, e)).row_of(np.array([n % 3]))[0].item()
    ...  for e, n in enumerate(found.tolist())]
    [1, 1]
    """
    found = [np.empty(0, dtype=np.int64)]
    ends = [*(phase["first_row"] for phase in phases[1:]), num_samples]
    for phase, stop in zip(phases, ends, strict=True):
        first, last = int(phase["first_row"]), min(int(stop), num_samples)
        wanted, size = rows.get(phase["plan"]), sizes[phase["plan"]]
        if wanted is None or not len(wanted) or last <= first:
            continue
        for turn in range(-(-(last - first) // size)):
            order = Permutation(size, key=(seed, int(phase["epoch"]) + turn))
            samples = first + turn * size + order.position_of(wanted)
            found.append(samples[samples < last])
    return np.sort(np.concatenate(found))

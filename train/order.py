"""Which row comes when: a pure function of the seed, the phases and a sample's number.

Sample number n of a run is a row of a plan, found by arithmetic: the phase that holds n, the
epoch in that phase, and a keyed permutation of the plan's rows. It can be inverted, so a document
can be traced to its step without a scan. World size, worker count and batch size never enter.

>>> order = Permutation(10, key=(7, 0))
>>> sorted(order.row_of(np.arange(10)).tolist()) == list(range(10))
True
>>> order.position_of(order.row_of(np.arange(10))).tolist()
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from curate.corpus.order import Permutation

__all__ = ["Order", "Permutation", "Phase"]

Ints = np.ndarray[Any, np.dtype[Any]]
STATE = ("seed", "sample", "phase", "epoch", "cursor")
_BLOCK = 4096  # positions permuted at once: a few numbers cost as much as some thousand


@dataclass(frozen=True, kw_only=True)
class Phase:
    """From sample `first_row` on, rows come from `plan`, beginning with `epoch`."""

    first_row: int
    plan: str
    epoch: int


class Order:
    """The endless sequence of a run's samples: phases of permuted epochs.

    Args:
        sizes: rows of each plan.
        phases: in order; the last one repeats its plan for ever.
        seed: the run's seed.
    """

    def __init__(self, sizes: Mapping[str, int], phases: Sequence[Phase], *, seed: int) -> None:
        firsts = [phase.first_row for phase in phases]
        if not phases or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise InputError(f"phases begin at rows {firsts}; they must rise strictly from 0")
        self.sizes, self.phases, self.seed = dict(sizes), list(phases), seed
        self._firsts = firsts
        self._orders: dict[tuple[str, int], Permutation] = {}
        self._blocks: dict[tuple[str, int, int], Ints] = {}

    def order(self, plan: str, epoch: int) -> Permutation:
        """Return the permutation of one epoch of a plan's rows."""
        if (plan, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != plan}
            self._orders[plan, epoch] = Permutation(self.sizes[plan], key=(self.seed, epoch))
        return self._orders[plan, epoch]

    def locate(self, sample: int) -> tuple[int, int, int]:
        """Return (phase, epoch, position in the epoch) of a sample number."""
        phase = bisect_right(self._firsts, sample) - 1
        turn = self.phases[phase]
        epochs, position = divmod(sample - turn.first_row, self.sizes[turn.plan])
        return phase, turn.epoch + epochs, position

    def rows(
        self, first: int, last: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[str, int, Ints]]:
        """Yield (plan, epoch, rows [n]) of samples `first` to `last`, cut where an epoch ends.

        With `world` ranks, `rank` gets every world-th of these samples.
        """
        skip = rank
        while first < last:
            phase, epoch, position = self.locate(first)
            plan = self.phases[phase].plan
            count = min(last - first, self.sizes[plan] - position)
            if phase + 1 < len(self.phases):
                count = min(count, self.phases[phase + 1].first_row - first)
            chosen = self._rows_at(plan, epoch, position, position + count)[skip::world]
            if len(chosen):
                yield plan, epoch, chosen
            skip = (skip - count) % world
            first += count

    def _rows_at(self, plan: str, epoch: int, start: int, stop: int) -> Ints:
        """Return the rows at positions `start` to `stop` of an epoch, from blocks that are kept."""
        parts = []
        for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
            key, first = (plan, epoch, block), block * _BLOCK
            if key not in self._blocks:
                while len(self._blocks) > len(self.sizes):
                    del self._blocks[next(iter(self._blocks))]
                positions = np.arange(first, min(first + _BLOCK, self.sizes[plan]))
                self._blocks[key] = self.order(plan, epoch).row_of(positions)
            parts.append(self._blocks[key][max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def state(self, sample: int) -> dict[str, int]:
        """Return the five numbers that say where the data stands before `sample`."""
        phase, epoch, cursor = self.locate(sample)
        return dict(zip(STATE, (self.seed, sample, phase, epoch, cursor), strict=True))

    def sample_of(self, state: Mapping[str, int]) -> int:
        """Return the sample that a state stands before.

        Raises:
            InputError: it is not a state, or not one of these phases, plans and seed.
        """
        if sorted(state) != sorted(STATE) or not all(type(state[k]) is int for k in STATE):
            raise InputError(f"a state is five integers, {', '.join(STATE)}; got {dict(state)!r}")
        sample = state["sample"]
        mine = self.state(sample) if sample >= 0 else {}
        if mine != dict(state):
            raise InputError(
                f"the state {dict(state)!r} was saved with another seed or other plans; here "
                f"sample {sample} is {mine!r}"
            )
        return sample

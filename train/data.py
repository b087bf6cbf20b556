"""Rows as tensors: what the training loop reads; `train.rows` builds them, without torch."""

from collections.abc import Sequence

import torch

from train.objectives.base import Rows
from train.order import Order, Permutation, Phase
from train.rows import Block, RowReader
from train.shards import Ints, Plan, Shards

__all__ = ["Permutation", "Phase", "Plan", "Reader", "Shards", "Stream", "as_rows"]


def as_rows(block: Block) -> Rows:
    """Return a block's arrays as tensors that share its memory."""
    return Rows(**{name: torch.from_numpy(array) for name, array in block.arrays().items()})


class Reader(RowReader):
    """A `RowReader` that gives tensors."""

    def rows(self, plan: Plan, rows: Ints, *, seed: int = 0, epoch: int = 0) -> Rows:
        """Return `Rows` [len(rows), row_tokens] on the CPU."""
        return as_rows(self.read(plan, rows, seed=seed, epoch=epoch))


class Stream(Order):
    """The endless sequence of training samples of a run: phases of permuted epochs."""

    def __init__(
        self, plans: dict[str, Plan], phases: Sequence[Phase], reader: Reader, *, seed: int
    ) -> None:
        super().__init__({k: p.num_rows for k, p in plans.items()}, phases, seed=seed)
        self.plans, self.reader = plans, reader

    def batch(self, step: int, batch_rows: int) -> Rows:
        """Return the rows of update `step`: samples step * batch_rows and the ones after it."""
        first = step * batch_rows
        parts = [
            self.reader.rows(self.plans[plan], rows, seed=self.seed, epoch=epoch)
            for plan, epoch, rows in self.rows(first, first + batch_rows)
        ]
        if len(parts) == 1:
            return parts[0]
        return Rows(**{k: torch.cat([vars(p)[k] for p in parts]) for k in vars(parts[0])})

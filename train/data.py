"""Rows as tensors: what the training loop reads; `train.rows` builds them, without torch.

On CUDA a thread builds the next batches in pinned memory while the device computes. On a CPU rows
are built where they are used: that takes half a millisecond of a step of 16,384 tokens (measured,
one Zen 4 core), and a thread would only take turns with the model.
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from train.objectives.base import Rows
from train.order import Order, Permutation, Phase
from train.parallel import Ranks
from train.rows import Block, RowReader
from train.shards import Ints, Plan, Shards

__all__ = ["Permutation", "Phase", "Plan", "Reader", "Shards", "Stream", "as_rows", "cu_seqlens"]

AHEAD = 2  # batches built before they are wanted


def as_rows(block: Block) -> Rows:
    """Return a block's arrays as tensors that share its memory."""
    return Rows(**{name: torch.from_numpy(array) for name, array in block.arrays().items()})


def cu_seqlens(documents: Tensor, size: int) -> Tensor:
    """Return where each document of [B, T] ordinals begins in the flat rows: [size] int32.

    Padding counts as a document. What is left of `size` says B * T: documents of no length, so
    that the shape is the same for every batch.

    >>> cu_seqlens(torch.tensor([[4, 4, 7], [7, 7, -1]]), 7).tolist()
    [0, 2, 3, 5, 6, 6, 6]
    """
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    places = begins.flatten().nonzero()[:, 0]
    if len(places) >= size:
        raise ValueError(f"{len(places)} documents in rows that were to hold {size - 1} at most")
    whole = torch.full((size,), documents.numel(), dtype=torch.int32)
    whole[: len(places)] = places
    return whole


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
        spans = [np.diff(plans[phase.plan].first) for phase in phases]
        #: Spans of the fullest row of any phase, its padding included.
        self.max_spans = 1 + int(np.concatenate(spans).max(initial=0))

    def batch(self, step: int, batch_rows: int, *, rank: int = 0, world: int = 1) -> Rows:
        """Return the rows of update `step`: samples step * batch_rows and the ones after it.

        Of them, `rank` of `world` gets every world-th.
        """
        first = step * batch_rows
        parts = [
            self.reader.rows(self.plans[plan], rows, seed=self.seed, epoch=epoch)
            for plan, epoch, rows in self.rows(first, first + batch_rows, rank=rank, world=world)
        ]
        if len(parts) == 1:
            return parts[0]
        names = (k for k, v in vars(parts[0]).items() if v is not None)
        return Rows(**{k: torch.cat([vars(p)[k] for p in parts]) for k in names})

    def feed(
        self,
        steps: range,
        batch_rows: int,
        ranks: Ranks,
        *,
        micro_rows: int | None = None,
        documents: bool = False,
    ) -> Generator[tuple[list[Rows], float]]:
        """Yield this rank's micro-batches of each step, on its device, and the seconds waited.

        Args:
            steps: consecutive updates.
            batch_rows: rows of a step over all ranks, which share them evenly.
            ranks: who this is.
            micro_rows: rows of a micro-batch (the last may have fewer); None: all of them.
            documents: whether `cu_seqlens` is wanted; it is made on CUDA only.
        """
        device = ranks.device

        def make(step: int) -> list[Rows]:
            batch = self.batch(step, batch_rows, rank=ranks.rank, world=ranks.world)
            parts = _split(batch, micro_rows or batch_rows)
            if device.type == "cpu":
                return parts
            if documents:
                size = min(micro_rows or batch_rows, len(batch.tokens)) * self.max_spans + 1
                parts = [replace(p, cu_seqlens=cu_seqlens(p.pieces, size)) for p in parts]
            return [_pinned(part) for part in parts]

        if device.type == "cpu":
            for step in steps:
                begin = time.perf_counter()
                made = make(step)
                yield made, time.perf_counter() - begin
            return
        with ThreadPoolExecutor(1, "rows") as thread:
            waiting = deque(thread.submit(make, step) for step in steps[:AHEAD])
            for step in steps:
                begin = time.perf_counter()
                made = waiting.popleft().result()
                seconds = time.perf_counter() - begin
                if step + AHEAD < steps.stop:
                    waiting.append(thread.submit(make, step + AHEAD))
                yield [part.to(device) for part in made], seconds


def _split(rows: Rows, size: int) -> list[Rows]:
    """Cut rows into parts of `size`, views."""
    tensors = {k: v.split(size) for k, v in vars(rows).items() if v is not None}
    parts = zip(*tensors.values(), strict=True)
    return [Rows(**dict(zip(tensors, part, strict=True))) for part in parts]


def _pinned(rows: Rows) -> Rows:
    """Copy to memory that the device reads by itself; torch keeps and reuses it safely."""
    return Rows(**{k: v.pin_memory() for k, v in vars(rows).items() if v is not None})

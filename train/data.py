"""Rows as tensors: what the training loop reads; `train.rows` builds them, without torch.

On CUDA a thread builds the next batches in pinned memory while the device computes. On a CPU rows
are built where they are used: that takes half a millisecond of a step of 16,384 tokens (measured,
one Zen 4 core), and a thread would only take turns with the model.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from train.media import MediaReader
from train.objectives.base import Rows
from train.order import Order, Permutation, Phase
from train.parallel import Ranks
from train.rows import Block, RowReader
from train.shards import Ints, Plan, Shards

__all__ = [
    "Permutation",
    "Phase",
    "Plan",
    "Reader",
    "Room",
    "Shards",
    "Stream",
    "as_rows",
    "cu_seqlens",
]

AHEAD = 2  # batches built before they are wanted
ROUND = 64  # bounds on pieces are multiples of it: fewer shapes for what is compiled


def as_rows(block: Block) -> Rows:
    """Return a block's arrays as tensors that share its memory."""
    return Rows(**{name: torch.from_numpy(array) for name, array in block.arrays().items()})


class Room:
    """How many pieces any rows of some plans can hold: the one bound of all fixed shapes.

    A piece is a span of a row, or its padding. Counted are the fullest rows, as often as a batch
    can meet them.
    """

    def __init__(self, plans: Iterable[Plan]) -> None:
        counts = [np.diff(plan.first) for plan in plans]
        self._least = max(1, min(map(len, counts)))
        self._of_size = np.bincount(np.concatenate(counts))  # rows by their number of spans
        self._found: dict[int, int] = {}

    def pieces(self, num_rows: int) -> int:
        """Return the most pieces of so many rows of a stream, rounded up."""
        if num_rows not in self._found:
            copies = num_rows // self._least + 2  # of a row, where an epoch ends among them
            fullest = np.minimum(self._of_size[::-1] * copies, num_rows)
            taken = np.diff(np.minimum(np.cumsum(fullest), num_rows), prepend=0)
            most = num_rows + int(taken @ np.arange(len(taken))[::-1])
            self._found[num_rows] = -(-most // ROUND) * ROUND
        return self._found[num_rows]


def cu_seqlens(documents: Tensor, size: int) -> Tensor:
    """Return where each piece of [B, T], equal numbers, begins in the flat rows: [size] int32.

    Padding counts as a piece. What is left of `size` says B * T: documents of no length, so
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
        self,
        plans: dict[str, Plan],
        phases: Sequence[Phase],
        reader: Reader | MediaReader,
        *,
        seed: int,
    ) -> None:
        super().__init__({k: p.num_rows for k, p in plans.items()}, phases, seed=seed)
        self.plans, self.reader = plans, reader
        self.room = Room(plans[phase.plan] for phase in phases)

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

    def make(
        self,
        step: int,
        batch_rows: int,
        ranks: Ranks,
        *,
        micro_rows: int | None = None,
        documents: bool = False,
    ) -> list[Rows]:
        """Build one step's micro-batches for `feed`, in pinned memory where the device is CUDA."""
        batch = self.batch(step, batch_rows, rank=ranks.rank, world=ranks.world)
        parts = _split(batch, micro_rows or batch_rows)
        if ranks.device.type == "cpu":
            return parts
        if documents:
            most = self.room.pieces(min(micro_rows or batch_rows, len(batch.tokens)))
            parts = [replace(p, cu_seqlens=cu_seqlens(p.pieces, most + 1)) for p in parts]
        return [_pinned(part) for part in parts]

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
            return self.make(step, batch_rows, ranks, micro_rows=micro_rows, documents=documents)

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

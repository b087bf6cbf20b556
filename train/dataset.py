"""The rows of a run for `torch.utils.data`: by number, or as the run's stream.

The stream's order is a pure function of the sample number, so there is nothing to keep in step: a
worker computes its own batches, and a batch carries the number of the sample behind it.

>>> rows = RowDataset("runs/5f0c/run.json", "validation")  # doctest: +SKIP
>>> DataLoader(rows, batch_size=16)  # doctest: +SKIP
>>> loader = RowLoader("runs/5f0c/run.json", rank=0, world=2, workers=3)  # doctest: +SKIP
>>> for batch in loader:  # doctest: +SKIP
...     batch["tokens"], batch["targets"]; state = loader.state_dict()
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from curate.corpus.errors import InputError
from train.rows import Block, Store, open_rows

__all__ = ["RowDataset", "RowLoader", "RowStream"]


class _Opened:
    """A store that every process opens for itself: what is mapped is not sent to workers."""

    def __init__(self, run_json: str | PathLike[str]) -> None:
        self.run_json = run_json
        self._store: Store | None = None
        self.store  # noqa: B018  a run that cannot be read fails here, not in a worker

    @property
    def store(self) -> Store:
        """The rows of the run."""
        if self._store is None:
            self._store = open_rows(self.run_json)
        return self._store

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}


class RowDataset(_Opened, Dataset[dict[str, Tensor]]):
    """A plan's rows by number: {tokens, targets, sources, documents: [T], key: [3]}, all int64."""

    def __init__(self, run_json: str | PathLike[str], plan: str = "train") -> None:
        super().__init__(run_json)
        self.plan = plan
        self._size = self.store.plan(plan).num_rows

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        size = len(self)
        if not -size <= row < size:  # an IndexError also ends `for row in dataset`
            raise IndexError(f"row {row} of {size}")
        return self.__getitems__([row % size])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return several rows, built at once; `DataLoader` asks for them so."""
        arrays = self.store.read(self.plan, np.asarray(rows)).arrays()
        arrays["key"] = arrays.pop("keys")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return [{name: t[i] for name, t in tensors.items()} for i in range(len(rows))]


class RowStream(_Opened, IterableDataset[dict[str, Tensor]]):
    """The run's stream in batches: {tokens, targets, sources, documents: [B, T], keys: [B, 3]}.

    Give it to a `DataLoader` with `batch_size=None`; each of its workers makes every n-th batch, so
    that they come out in order. `next` is the number of the sample behind the batch, over all
    ranks: what `state_dict` is made from. `RowLoader` does both.

    Args:
        run_json: the run file.
        batch_rows: rows of a batch over all ranks; by default the run's own.
        rank, world: of this process; by default `torch.distributed`'s, or 0 of 1.
        epochs: passes over the last phase's plan; None: the stream never ends.
    """

    def __init__(
        self,
        run_json: str | PathLike[str],
        *,
        batch_rows: int | None = None,
        rank: int | None = None,
        world: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(run_json)
        ranks = _ranks()
        self.rank = ranks[0] if rank is None else rank
        self.world = ranks[1] if world is None else world
        self.batch_rows, self.epochs = batch_rows, epochs
        self._sample = 0
        next(iter(self._steps()), None)  # refuses what does not fit

    def _steps(self) -> Iterator[tuple[int, int]]:
        return self.store.steps(
            self.batch_rows,
            rank=self.rank,
            world=self.world,
            state=self.state_dict(),
            epochs=self.epochs,
        )

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for block in self.blocks():
            yield {**_tensors(block), "next": torch.tensor(self._sample)}

    def blocks(self) -> Iterator[Block]:
        """Yield the batches as numpy arrays; inside a `DataLoader`'s worker, its share of them."""
        info = get_worker_info()
        mine, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for first, last in islice(self._steps(), mine, None, workers):
            block = self.store.batch(first, last, rank=self.rank, world=self.world)
            self._sample = last
            yield block

    def state_dict(self) -> dict[str, int]:
        """Return the five numbers that say where this process stands."""
        return self.store.order.state(self._sample)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a state was taken, whatever the ranks and workers were then.

        Raises:
            InputError: it is no state, or was saved with another seed or other plans.
        """
        self._sample = self.store.sample_of(state)


class RowLoader:
    """The run's stream through workers, which knows how far it was read: kill it and resume.

    Args:
        run_json: the run file.
        workers: processes that build rows; 0 builds them here, which costs microseconds a row.
        options: of `DataLoader`, such as `pin_memory` or `prefetch_factor`.

    The others are `RowStream`'s.
    """

    def __init__(
        self,
        run_json: str | PathLike[str],
        *,
        batch_rows: int | None = None,
        rank: int | None = None,
        world: int | None = None,
        epochs: int | None = None,
        workers: int = 0,
        **options: Any,
    ) -> None:
        for name in ("batch_size", "sampler", "batch_sampler", "shuffle", "collate_fn", "in_order"):
            if name in options:
                raise InputError(f"{name} would change the run's order; leave it out")
        self._stream = RowStream(
            run_json, batch_rows=batch_rows, rank=rank, world=world, epochs=epochs
        )
        self._options = {**options, "num_workers": workers}
        self._state = self._stream.state_dict()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._stream.load_state_dict(self._state)
        if self._options == {"num_workers": 0}:  # a `DataLoader` looks into every batch: slow
            for block in self._stream.blocks():
                assert block.state is not None, "a batch of a stream knows where it ends"
                self._state = dict(block.state)
                yield _tensors(block)
            return
        for batch in DataLoader(self._stream, batch_size=None, **self._options):
            self._state = self._stream.store.order.state(int(batch.pop("next")))
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return five numbers: where the last batch that was handed out ends."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on behind a state's last batch, whatever the ranks and workers were then."""
        self._stream.load_state_dict(state)
        self._state = dict(state)


def _tensors(block: Block) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in block.arrays().items()}


def _ranks() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1

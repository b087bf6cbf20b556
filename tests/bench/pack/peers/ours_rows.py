"""Ours: packed rows from shards of documents; NAME says whether with targets, sources, documents.

`ours` is `train.dataset.RowLoader`; `ours-tokens` gives what the others give.
"""

import time

BEGAN = time.perf_counter()

import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from stopwatch import BATCH_ROWS, main  # noqa: E402

from train.dataset import RowDataset, RowLoader  # noqa: E402
from train.rows import open_rows  # noqa: E402


class Everything:
    """Tokens, targets, sources and documents of every row."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        del row_tokens
        self.run = path.with_name("ours") / "run.json"
        self.dataset: RowDataset | None = None

    def row(self, number: int) -> torch.Tensor:
        if self.dataset is None:
            self.dataset = RowDataset(self.run)
        return self.dataset[number]["tokens"]

    def epoch(self) -> Iterator[torch.Tensor]:
        for batch in RowLoader(self.run, batch_rows=BATCH_ROWS, epochs=1):
            yield batch["tokens"]


class Tokens:
    """Tokens alone."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        del row_tokens
        self.store = open_rows(path.with_name("ours") / "run.json")

    def row(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self.store.tokens("train", [number])[0])

    def epoch(self) -> Iterator[torch.Tensor]:
        store = self.store
        for first, last in store.steps(BATCH_ROWS, epochs=1):
            ((plan, _, rows),) = store.order.rows(first, last)
            yield torch.from_numpy(store.tokens(plan, rows))


def prepare(rows: np.ndarray, path: Path) -> None:
    """Do nothing: the rows were made from our shards."""


if __name__ == "__main__":
    main(BEGAN, prepare, Tokens if sys.argv[3].endswith("tokens") else Everything)

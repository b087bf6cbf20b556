"""Hugging Face `datasets`: a saved Arrow table, shuffled, read in batches; NAME says the format."""

import time

BEGAN = time.perf_counter()

import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from stopwatch import BATCH_ROWS, main  # noqa: E402

FORMAT = sys.argv[3].split("-")[-1]  # torch or numpy


class Saved:
    """A dataset from disk."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        del row_tokens
        self.rows = datasets.load_from_disk(str(path)).with_format(FORMAT)

    def row(self, number: int) -> torch.Tensor:
        return _tensor(self.rows[number]["tokens"])

    def epoch(self) -> Iterator[torch.Tensor]:
        for batch in self.rows.shuffle(seed=7).iter(batch_size=BATCH_ROWS):
            yield _tensor(batch["tokens"])


def _tensor(tokens: object) -> torch.Tensor:
    return torch.as_tensor(tokens).long()


def prepare(rows: np.ndarray, path: Path) -> None:
    """Write rows as lists of a fixed size."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    datasets.Dataset(pa.table({"tokens": lists})).save_to_disk(str(path))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    main(BEGAN, prepare, Saved)

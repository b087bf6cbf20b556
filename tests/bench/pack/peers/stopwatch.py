"""One loader over one set of rows, in a process of its own: `LOADER.py TASK FOLDER NAME`.

FOLDER holds rows.npy, uint16 [rows, row_tokens]. `prepare` writes them as the loader wants them;
`measure` prints JSON: seconds to import and to the first batch, CPU seconds of an epoch in shuffled
order, of rows at random places. Batches are int64 tensors of 16 rows, in this process.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

BATCH_ROWS, RANDOM_ROWS = 16, 2_000


class Loader(Protocol):
    """What is measured."""

    def epoch(self) -> Iterator[torch.Tensor]:
        """Yield every row once, in shuffled order: [16, row_tokens] int64."""

    def row(self, number: int) -> torch.Tensor:
        """Return a row by its number: [row_tokens] int64."""


def main(
    began: float,
    prepare: Callable[[np.ndarray, Path], Any],
    opened: Callable[[Path, int], Loader],
) -> None:
    """Do what the command line says; `began` is when the script did."""
    task, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    if task == "prepare":
        prepare(rows, folder / name)
        return
    torch.set_num_threads(1)
    wall, imported = time.perf_counter(), time.perf_counter() - began
    loader = opened(folder / name, rows.shape[1])
    next(loader.epoch())
    start_s = time.perf_counter() - wall
    seen = [int(batch.sum()) for batch in loader.epoch()]  # warms, and checks
    assert sum(seen) == int(rows.sum(dtype=np.int64)), "other rows, or not all of them"
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = sum(batch.numel() for batch in loader.epoch())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert tokens == rows.size
    numbers = np.random.default_rng(1).integers(0, len(rows), RANDOM_ROWS).tolist()
    begin = time.process_time()
    for number in numbers:
        loader.row(number)
    random_s = (time.process_time() - begin) / RANDOM_ROWS
    assert all(len(loader.row(n)) == rows.shape[1] for n in numbers[:3])
    facts = {
        "import_s": imported,
        "start_s": start_s,
        "cpu_s": cpu,
        "wall_s": wall,
        "tokens_per_cpu_s": tokens / cpu,
        "row_us": 1e6 * random_s,
        "torch": torch.__version__,
    }
    print(json.dumps(facts))

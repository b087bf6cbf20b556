"""nanoGPT's way: one flat file of uint16, mapped; nothing but the tokens, and the floor for all."""

import time

BEGAN = time.perf_counter()

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from stopwatch import BATCH_ROWS, main  # noqa: E402


class Mapped:
    """Rows of a flat file."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        self.data = np.memmap(path, dtype=np.uint16, mode="r")
        self.row_tokens = row_tokens

    def row(self, number: int) -> torch.Tensor:
        start = number * self.row_tokens
        return torch.from_numpy(self.data[start : start + self.row_tokens].astype(np.int64))

    def epoch(self) -> Iterator[torch.Tensor]:
        order = np.random.default_rng(7).permutation(len(self.data) // self.row_tokens)
        for start in range(0, len(order), BATCH_ROWS):
            yield torch.stack([self.row(n) for n in order[start : start + BATCH_ROWS].tolist()])


if __name__ == "__main__":
    main(BEGAN, lambda rows, path: rows.tofile(path), Mapped)

"""mosaicml-streaming: MDS shards, a sample per row, arrays of a fixed shape."""

import time

BEGAN = time.perf_counter()

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from stopwatch import BATCH_ROWS, main  # noqa: E402
from streaming import MDSWriter, StreamingDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402


class Shards:
    """A streaming dataset of local shards."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        del row_tokens
        self.rows = StreamingDataset(
            local=str(path), shuffle=True, shuffle_seed=7, batch_size=BATCH_ROWS
        )

    def row(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self.rows[number]["tokens"].astype(np.int64))

    def epoch(self) -> Iterator[torch.Tensor]:
        yield from DataLoader(self.rows, batch_size=BATCH_ROWS, collate_fn=_together)


def _together(samples: list[dict[str, np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([one["tokens"] for one in samples]).astype(np.int64))


def prepare(rows: np.ndarray, path: Path) -> None:
    """Write MDS shards."""
    columns = {"tokens": f"ndarray:uint16:{rows.shape[1]}"}
    with MDSWriter(out=str(path), columns=columns) as writer:
        for row in rows:
            writer.write({"tokens": np.array(row)})


if __name__ == "__main__":
    main(BEGAN, prepare, Shards)

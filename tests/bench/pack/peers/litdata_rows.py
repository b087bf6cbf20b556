"""litdata: chunks of tokens, read in blocks by `TokensLoader`."""

import time

BEGAN = time.perf_counter()

from collections.abc import Iterator  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from litdata import StreamingDataLoader, StreamingDataset, TokensLoader, optimize  # noqa: E402
from stopwatch import BATCH_ROWS, main  # noqa: E402

PIECE = 256  # rows written at once


class Chunks:
    """A streaming dataset of local chunks."""

    def __init__(self, path: Path, row_tokens: int) -> None:
        loader = TokensLoader(block_size=row_tokens)
        self.rows = StreamingDataset(str(path), item_loader=loader, shuffle=True, seed=7)
        loader = TokensLoader(block_size=row_tokens)
        self.fixed = StreamingDataset(str(path), item_loader=loader)

    def row(self, number: int) -> torch.Tensor:
        return self.fixed[number].long()

    def epoch(self) -> Iterator[torch.Tensor]:
        for batch in StreamingDataLoader(self.rows, batch_size=BATCH_ROWS, num_workers=0):
            yield batch.long()


def piece(rows: np.ndarray, start: int) -> Iterator[torch.Tensor]:
    """Return some rows end to end."""
    yield torch.from_numpy(rows[start : start + PIECE].reshape(-1).astype(np.int32))


def prepare(rows: np.ndarray, path: Path) -> None:
    """Write chunks that hold whole rows."""
    optimize(
        fn=partial(piece, np.array(rows)),
        inputs=list(range(0, len(rows), PIECE)),
        output_dir=str(path),
        chunk_size=rows.shape[1] * 4096,
        item_loader=TokensLoader(),
        num_workers=1,
    )


if __name__ == "__main__":
    main(BEGAN, prepare, Chunks)

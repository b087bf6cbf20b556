"""MosaicML Streaming's own dataset."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = "mds"
PACKAGE = "mosaicml-streaming"
REQUIREMENTS = ("mosaicml-streaming==0.13.0", "setuptools<81")
NEEDS_TORCH = True


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """Yield the documents."""
    del facts
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(folder / "train"), batch_size=1, shuffle=False)
    for number in range(len(dataset)):
        sample = dataset[number]
        assert len(sample["id"]) == 32
        yield sample["tokens"].tolist()

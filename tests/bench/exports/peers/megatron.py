"""Megatron-LM's own `IndexedDataset`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = "megatron"
PACKAGE = "megatron-core"
REQUIREMENTS = ("megatron-core==0.16.1", "numpy<3", "packaging", "requests")
NEEDS_TORCH = True


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """Yield the documents."""
    del facts
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    dataset = IndexedDataset(str(folder / "train" / "tokens"))
    assert len(dataset.document_indices) == len(dataset) + 1
    for number in range(len(dataset)):
        yield dataset[number].tolist()

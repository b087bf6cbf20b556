"""Hugging Face datasets opens the folder by its card."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = "parquet"
PACKAGE = "datasets"
REQUIREMENTS = ("datasets==5.2.0",)
NEEDS_TORCH = False


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts."""
    del facts
    import datasets

    read = datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    yield from read["train"]["text"]

"""mlcroissant validates the metadata and reads the records through it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = "parquet"
PACKAGE = "mlcroissant"
REQUIREMENTS = ("mlcroissant[parquet]==1.1.1",)
NEEDS_TORCH = False


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts."""
    del facts
    import mlcroissant

    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.report()
    assert dataset.metadata.ctx.is_v1_1()
    for record in dataset.records("train"):
        yield record["train/text"].decode()

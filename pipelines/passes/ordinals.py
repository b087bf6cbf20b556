"""From ids to row numbers."""

import numpy as np
import polars as pl

__all__ = ["ordinals"]


def ordinals(known: pl.Series, values: pl.Series) -> np.ndarray:
    """Return the row of each value among the known ones."""
    rows = pl.DataFrame({"value": known, "row": np.arange(len(known))})
    joined = pl.DataFrame({"value": values}).join(
        rows, on="value", how="left", maintain_order="left"
    )
    assert joined["row"].null_count() == 0, "evidence names a document that does not exist"
    return joined["row"].to_numpy()

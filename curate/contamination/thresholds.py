"""Which matches reach what is wanted: the one place where evidence meets a threshold."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from curate.contamination.methods import required

__all__ = ["enough"]

_DIGITS = 9  # as `required` rounds


def enough(rows: pl.DataFrame, thresholds: Mapping[str, float]) -> pl.Series:
    """Say of each match whether it reaches its method's threshold.

    Args:
        rows: method, overlap and strictness.
        thresholds: method -> threshold; matches of other methods never do.

    >>> rows = pl.DataFrame({"method": ["decon"] * 2, "overlap": 0.9, "strictness": [0.5, 0.6]})
    >>> enough(rows, {"decon": 0.8}).to_list()
    [True, False]
    """
    found = np.zeros(rows.height, dtype=np.bool_)
    strictness = rows["strictness"].to_numpy()
    overlap = np.round(rows["overlap"].to_numpy(), _DIGITS)
    for method, threshold in thresholds.items():
        of_it = (rows["method"] == method).to_numpy()
        found |= of_it & (overlap >= required(threshold, strictness))
    return pl.Series("enough", found, dtype=pl.Boolean)

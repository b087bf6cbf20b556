r"""The cleaning pass over a text column: every step the settings switch on, in a fixed order.

>>> import pyarrow as pa
>>> texts, changed = clean(pa.array(["e\u0301\r\n", "plain", None], pa.large_string()), {})
>>> texts.to_pylist() == ["\xe9\n", "plain", None]
True
>>> {step: rows.tolist() for step, rows in changed.items()}
{'control': [True, False, False], 'unicode': [True, False, False]}
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

import curate.cleaning
from curate.cleaning.base import Step
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError, did_you_mean

__all__ = ["clean", "parse_settings", "steps"]

# Recipe keys that the design names and that no module provides yet: refused, never ignored.
NOT_BUILT_YET = ("redact", "repeated_lines")


@cache
def steps() -> Mapping[str, Step]:
    """Return every step of the package by name, in the order they run."""
    found: list[Step] = []
    for info in pkgutil.iter_modules(curate.cleaning.__path__):
        step = getattr(importlib.import_module(f"curate.cleaning.{info.name}"), "STEP", None)
        if step is not None:
            found.append(step)
    found.sort(key=lambda step: (step.order, step.name))
    assert len({step.name for step in found}) == len(found), "two cleaning steps share a name"
    return {step.name: step for step in found}


def parse_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check a recipe's `clean:` section and fill in the defaults.

    Returns:
        step name -> canonical JSON value, every step named, in the order they run.

    Raises:
        InputError: an unknown step, a step that is not built yet, or a bad value.
    """
    known = steps()
    for name in settings:
        if name in known:
            continue
        names = ", ".join(known)
        if name in NOT_BUILT_YET:
            raise InputError(
                f"clean: {name!r} is not built yet; remove it. Cleaning steps are: {names}."
            )
        near = did_you_mean(str(name), known)
        raise InputError(f"clean: unknown step {name!r}; cleaning steps are: {names}.{near}")
    return {name: step.parse(settings.get(name, step.default)) for name, step in known.items()}


def clean(texts: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, np.ndarray]]:
    """Apply the text revisions.

    Args:
        texts: pa.LargeStringArray (or ChunkedArray of large_string) of n texts; nulls stay null.
        settings: the recipe's `clean:` section; what is not named has its default.

    Returns:
        (pa.LargeStringArray of n texts, step name -> bool array [n], True where that step changed
        the text). A step that is switched off is absent from the second. Works in slices of about
        8 MB, is idempotent, and gives the same rows however the column is split.

    Raises:
        InputError: see `parse_settings`.
    """
    values = parse_settings(settings)
    active = [step for name, step in steps().items() if values[name] != step.off]
    changed = {step.name: np.zeros(len(texts), dtype=np.bool_) for step in active}
    pieces: list[Any] = []
    row = 0
    for piece in slices(texts):
        series, touched = _series(piece), False
        for step in active:
            revised = step.apply(series, values[step.name])
            flags = series.ne_missing(revised).to_numpy()
            if flags.any():
                changed[step.name][row : row + len(piece)] = flags
                series, touched = revised, True
        pieces.append(series.to_arrow(compat_level=pl.CompatLevel.oldest()) if touched else piece)
        row += len(piece)
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.large_string()), changed


def _series(piece: Any) -> pl.Series:
    series = pl.from_arrow(piece)
    assert isinstance(series, pl.Series)
    return series

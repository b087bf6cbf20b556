"""A signal of your own: a Python function that the recipe names and the command line allows.

    measure: {functions: {my_signal: mypkg.mymod:fn}}        and        --allow mypkg.mymod:fn

The function gets a list of texts and returns as many numbers (a list, a numpy array or an Arrow
array; null, None and NaN mean "undefined"; true is 1). It must be a pure function of each text: it
is given slices of any size, in any order, in any process. A function that has the attribute
`takes_arrow = True` gets an Arrow array (large_string) instead of a list. What it returned is
measured again when the file of its module is edited; what that file imports is its author's affair.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.making import Maker, Settings

__all__ = ["MAKER", "load_function"]


def _units(value: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"function": path} for name, path in value.items()}


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    return {unit: Signal(pa.float64(), f"what {settings['function']} returns")}


def load_function(path: str) -> Callable[..., Any]:
    """Import `package.module:function`; whoever calls has checked that it is allowed.

    Raises:
        InputError: no such module or function, or its import fails.
    """
    name, _, function = path.partition(":")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # somebody else's code may fail in any way
        raise InputError(
            f"measure.functions: cannot import {name}: {type(error).__name__}: {error}; is it "
            "installed, or on PYTHONPATH?"
        ) from None
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"measure.functions: {name} has no function {function!r}")
    return found  # type: ignore[no-any-return]


def _code(settings: Settings) -> str:
    """Return the digest of the file that the function's module is."""
    load_function(settings["function"])
    spec = importlib.util.find_spec(settings["function"].partition(":")[0])
    origin = spec.origin if spec is not None else None
    if origin is None or not Path(origin).is_file():
        return fingerprint(settings["function"])
    return fingerprint(settings["function"], Path(origin).read_bytes())


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    del artefact
    signals = _signals(unit, settings)
    path = settings["function"]
    found: list[Callable[..., Any]] = []

    def measure(texts: Any) -> Any:
        if not found:
            found.append(load_function(path))
        (function,) = found
        null = nulls_of(texts)
        present = texts.filter(pa.array(~null))
        out = np.full(len(texts), np.nan)
        if len(present):
            arrow = getattr(function, "takes_arrow", False)
            try:
                values = function(present if arrow else present.to_pylist())
            except Exception as error:
                raise InputError(
                    f"measure.functions.{unit}: {path} failed: {type(error).__name__}: {error}"
                ) from error
            out[~null] = _numbers(values, len(present), f"measure.functions.{unit}: {path}")
        return columns_table({unit: out}, signals, null)

    return Family(name=f"functions:{unit}", signals=signals, measure=measure)


def _numbers(values: Any, rows: int, where: str) -> Any:
    """Return what a function returned as float64 [rows], NaN for null.

    Raises:
        InputError: another number of values, or values that are no numbers.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray | np.ndarray):
        values = values.tolist() if isinstance(values, np.ndarray) else values.to_pylist()
    if not isinstance(values, list | tuple):
        raise InputError(f"{where} returned {type(values).__name__}, not a list of numbers")
    if len(values) != rows:
        raise InputError(f"{where} returned {len(values)} numbers for {rows} texts")
    try:
        return np.array([np.nan if one is None else float(one + 0) for one in values])
    except (TypeError, ValueError, OverflowError):
        wrong = next((v for v in values if not isinstance(v, int | float | None)), "too large")
        raise InputError(f"{where} returned {wrong!r:.60}, which is no number") from None


MAKER = Maker(
    name="functions",
    columns="<signal>",
    description="your own Python function, allowed by --allow on the command line",
    units=_units,
    signals=_signals,
    make=_make,
    code=_code,
)

"""Every family of signals, found by walking the package, and the one function that measures them.

>>> available_signals()["num_words"].description
'white-space words'
"""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import polars as pl
import pyarrow as pa

import curate.signals
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError, one_of
from curate.signals.base import Family, Signal

__all__ = ["available_columns", "available_signals", "families", "measure"]

POLARS_TYPES: tuple[tuple[Any, pl.DataType], ...] = (
    (pa.int64(), pl.Int64()),
    (pa.float64(), pl.Float64()),
    (pa.bool_(), pl.Boolean()),
    (pa.string(), pl.String()),
)


@cache
def families() -> Mapping[str, Family]:
    """Return every family by name, in alphabetical order."""
    found: dict[str, Family] = {}
    owners: dict[str, str] = {}
    for info in pkgutil.iter_modules(curate.signals.__path__):
        family = getattr(importlib.import_module(f"curate.signals.{info.name}"), "FAMILY", None)
        if family is None:
            continue
        found[family.name] = family
        for signal in family.signals:
            other = owners.setdefault(signal, family.name)
            assert other == family.name, f"{signal} is defined by {other} and {family.name}"
    return dict(sorted(found.items()))


def available_signals() -> dict[str, Signal]:
    """Return every signal by name, in the column order of `measure`."""
    return {
        name: signal for family in families().values() for name, signal in family.signals.items()
    }


def available_columns() -> dict[str, pl.DataType]:
    """Return the polars type of every signal, as `curate.rules.expression.parse_rule` wants it."""
    types = dict(POLARS_TYPES)
    return {name: types[signal.dtype] for name, signal in available_signals().items()}


def measure(texts: Any, family_names: Iterable[str] | None = None) -> Any:
    """Measure a text column.

    Args:
        texts: pa.LargeStringArray (or ChunkedArray of large_string) of n texts.
        family_names: which families; None for all. Their order does not matter.

    Returns:
        pa.Table of n rows: the signals of the families in alphabetical order of family; int64,
        float64, bool or string, null instead of NaN, all null for a null text. Works in slices of
        about 8 MB; the same row gives the same numbers however the column is split.

    Raises:
        InputError: an unknown family.
    """
    known = families()
    wanted = set(known if family_names is None else family_names)
    for name in sorted(wanted - set(known)):
        raise InputError(one_of("signal family", name, known))
    chosen = [family for name, family in known.items() if name in wanted]
    schema = pa.schema(
        [(name, signal.dtype) for family in chosen for name, signal in family.signals.items()]
    )
    tables = []
    for piece in slices(texts):
        columns = [column for family in chosen for column in family.measure(piece).columns]
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()

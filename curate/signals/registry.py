"""Every family of signals, found by walking the package, and the one function that measures them.

>>> available_signals()["num_words"].description
'white-space words'
>>> lists = {"word_lists": {"cooking": {"words": ["oven"], "paths": []}}}
>>> sorted(set(available_columns(lists)) - set(available_columns()))
['words_cooking']
"""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl
import pyarrow as pa

import curate.signals
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError, one_of
from curate.signals.base import Family, Signal
from curate.signals.making import Maker

__all__ = [
    "Unit",
    "available_columns",
    "available_signals",
    "families",
    "families_giving",
    "makers",
    "measure",
    "measure_families",
    "units",
]

POLARS_TYPES: tuple[tuple[Any, pl.DataType], ...] = (
    (pa.int64(), pl.Int64()),
    (pa.float64(), pl.Float64()),
    (pa.bool_(), pl.Boolean()),
    (pa.string(), pl.String()),
)


_COLUMN_TYPES = {"text_hash": pa.binary(16), "media": pa.large_binary()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One family that a recipe asks a maker for: a word list, a classifier, a model.

    Attributes:
        maker: the maker's name.
        name: as in the recipe; the maker's name where it makes one family only.
        settings: canonical, JSON.
    """

    maker: str
    name: str
    settings: Mapping[str, Any]

    @property
    def label(self) -> str:
        """How people see it."""
        return self.maker if self.name == self.maker else f"{self.maker}:{self.name}"

    @property
    def signals(self) -> Mapping[str, Signal]:
        """Its signals."""
        return makers()[self.maker].signals(self.name, self.settings)


@cache
def _published() -> tuple[Mapping[str, Family], Mapping[str, Maker]]:
    """Return the families and the makers of the package, by name, in alphabetical order."""
    found: dict[str, Family] = {}
    made: dict[str, Maker] = {}
    owners: dict[str, str] = {}
    for info in pkgutil.iter_modules(curate.signals.__path__):
        module = importlib.import_module(f"curate.signals.{info.name}")
        family, maker = getattr(module, "FAMILY", None), getattr(module, "MAKER", None)
        if maker is not None:
            assert maker.name == info.name, f"{info.name} publishes the maker {maker.name}"
            made[maker.name] = maker
        if family is None:
            continue
        assert family.name == info.name, f"{info.name} publishes the family {family.name}"
        found[family.name] = family
        for signal in family.signals:
            other = owners.setdefault(signal, family.name)
            assert other == family.name, f"{signal} is defined by {other} and {family.name}"
    return dict(sorted(found.items())), dict(sorted(made.items()))


def families() -> Mapping[str, Family]:
    """Return every family by name, in alphabetical order."""
    return _published()[0]


def families_giving(names: Iterable[str]) -> list[Family]:
    """Return the families that give any of these signals, in alphabetical order."""
    wanted = set(names)
    return [family for family in families().values() if not wanted.isdisjoint(family.signals)]


def makers() -> Mapping[str, Maker]:
    """Return every maker by name, in alphabetical order."""
    return _published()[1]


def units(asked: Mapping[str, Any] | None) -> list[Unit]:
    """Return what a recipe's section `measure` asks makers for, in the order of their columns.

    Raises:
        InputError: settings that mean nothing, or a signal that another family has.
    """
    listed = [
        Unit(maker=maker.name, name=name, settings=settings)
        for maker in makers().values()
        if (asked or {}).get(maker.name)
        for name, settings in sorted(maker.units((asked or {})[maker.name]).items())
    ]
    owners = {signal: name for name, family in families().items() for signal in family.signals}
    for unit in listed:
        for signal in unit.signals:
            other = owners.setdefault(signal, unit.label)
            if other != unit.label:
                raise InputError(
                    f"measure: {unit.label} would give the signal {signal!r}, which {other} gives "
                    "already; choose another name"
                )
    return listed


def available_signals(asked: Mapping[str, Any] | None = None) -> dict[str, Signal]:
    """Return every signal by name: those of all families, then those a recipe asks for.

    Args:
        asked: the recipe's section `measure`, as data.
    """
    found = {
        name: signal for family in families().values() for name, signal in family.signals.items()
    }
    for unit in units(asked):
        found |= unit.signals
    return found


def available_columns(asked: Mapping[str, Any] | None = None) -> dict[str, pl.DataType]:
    """Return the polars type of every signal, as `curate.rules.expression.parse_rule` wants it.

    Args:
        asked: the recipe's section `measure`, as data.
    """
    types = dict(POLARS_TYPES)
    return {name: types[signal.dtype] for name, signal in available_signals(asked).items()}


def measure(texts: Any, family_names: Iterable[str] | None = None) -> Any:
    """Measure a text column, or documents.

    Args:
        texts: pa.LargeStringArray (or ChunkedArray of large_string) of n texts; or a table of n
            documents, for families that read other columns (null where there is none).
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
    return measure_families(texts, chosen)


def measure_families(documents: Any, chosen: Sequence[Family]) -> Any:
    """Do `measure` for families given as they are, in their order."""
    schema = pa.schema(
        [(name, signal.dtype) for family in chosen for name, signal in family.signals.items()]
    )
    if not isinstance(documents, pa.Table | pa.RecordBatch):
        documents = pa.table({"text": documents})
    tables, start = [], 0
    for piece in slices(documents.column("text")):
        rows = documents.slice(start, len(piece))
        start += len(piece)
        columns = []
        for family in chosen:
            columns += family.measure(
                *(_column(rows, name, piece) for name in family.reads)
            ).columns
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _column(rows: Any, name: str, piece: Any) -> Any:
    """Return a column of some rows as one array; all null where the documents have no such one."""
    if name == "text":
        return piece
    if name not in rows.schema.names:
        return pa.nulls(len(piece), _COLUMN_TYPES.get(name, pa.string()))
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

r"""The cleaning pass over a text column: every step the settings switch on, in a fixed order.

>>> import pyarrow as pa
>>> cleaned = clean(pa.array(["e\u0301\r\n", "plain", None], pa.large_string()), {})
>>> cleaned.texts.to_pylist() == ["\xe9\n", "plain", None]
True
>>> cleaned.changed.tolist()
[True, False, False]
>>> [(one.step, one.kind, one.rows.tolist(), one.counts.tolist()) for one in cleaned.revisions]
[('control', 'line_breaks', [0], [1]), ('unicode', None, [0], [1])]
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

import curate.cleaning
from curate.cleaning.base import Change, Step
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError, one_of

__all__ = ["Cleaned", "Revision", "clean", "parse_settings", "steps"]

_FEW = 8  # one row in so many, or fewer


@dataclass(frozen=True, slots=True)
class Revision:
    """What one step did of one kind.

    Attributes:
        step: the step's name.
        kind: such as `email`; None where the step has no kinds.
        rows: int64 [k], ascending.
        counts: int64 [k], 1 or more; what is counted is `Step.counted`.
    """

    step: str
    kind: str | None
    rows: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A cleaned column.

    Attributes:
        texts: pa.LargeStringArray of n texts.
        changed: bool [n], where a text is another than before.
        revisions: by step in the order they ran, then kind.
    """

    texts: Any
    changed: np.ndarray
    revisions: tuple[Revision, ...]


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
        InputError: an unknown step or a bad value.
    """
    known = steps()
    for name in settings:
        if name not in known:
            raise InputError(f"clean: {one_of('step', str(name), known)}")
    return {name: step.parse(settings.get(name, step.default)) for name, step in known.items()}


def clean(texts: Any, settings: Mapping[str, Any], sources: Any = None) -> Cleaned:
    """Apply the text revisions.

    Args:
        texts: pa.LargeStringArray (or ChunkedArray of large_string) of n texts; nulls stay null.
        settings: the recipe's `clean:` section; what is not named has its default.
        sources: string array of n names, by which a step's `exempt` goes; None: no text is exempt.

    Returns:
        The cleaned column. Works in slices of about 8 MB, and gives the same rows however the
        column is split. Every step is idempotent; all of them together are, unless a later step
        makes what an earlier one looks for (a line that truncation has cut may now be one that
        `lines` removes).

    Raises:
        InputError: see `parse_settings`.
    """
    values = parse_settings(settings)
    active = {n: values[n] for n, step in steps().items() if values[n] != step.off}
    assert sources is None or len(sources) == len(texts), "one source per text"
    pieces: list[Any] = []
    changed = np.zeros(len(texts), dtype=np.bool_)
    found: dict[tuple[str, str | None], list[tuple[np.ndarray, np.ndarray]]] = {}
    row = 0
    for piece in slices(texts):
        series, touched = _series(piece), np.zeros(len(piece), dtype=np.bool_)
        before = series
        for name, value in active.items():
            step, rows = steps()[name], _admitted(value, sources, row, len(piece))
            if step.sieve is not None:
                may = step.sieve(piece) | touched
                rows = np.flatnonzero(may) if rows is None else rows[may[rows]]
                if not len(rows):
                    continue
            change = step.apply(series if rows is None else series.gather(rows), value)
            if change is None:
                continue
            at = change.rows if rows is None else rows[change.rows]
            series = series.clone().scatter(at, change.texts)
            touched[at] = True
            _count(found, step, change, at + row)
        if touched.any():
            touched &= series.ne_missing(before).to_numpy()
            changed[row : row + len(piece)] = touched
        pieces += _replaced(piece, series, np.flatnonzero(touched))
        row += len(piece)
    revisions = tuple(
        Revision(
            step, kind, np.concatenate([r for r, _ in parts]), np.concatenate([c for _, c in parts])
        )
        for name in active
        for (step, kind), parts in sorted(found.items(), key=lambda item: item[0][1] or "")
        if step == name
    )
    if not changed.any() and isinstance(texts, pa.Array):
        return Cleaned(texts, changed, revisions)
    whole = pa.concat_arrays(pieces) if pieces else pa.array([], pa.large_string())
    return Cleaned(whole, changed, revisions)


def _replaced(piece: Any, series: pl.Series, rows: np.ndarray) -> list[Any]:
    """Return a slice as arrays in a row, `rows` of it as a series has them.

    Where these are few, nothing else is copied.
    """
    if len(rows) * _FEW > len(piece):
        return [series.to_arrow(compat_level=pl.CompatLevel.oldest())]
    revised = series.gather(rows).to_arrow(compat_level=pl.CompatLevel.oldest())
    parts, start = [], 0
    for number, row in enumerate(rows.tolist()):
        parts += [piece.slice(start, row - start), revised.slice(number, 1)]
        start = row + 1
    return [*parts, piece.slice(start)]


def _count(
    found: dict[tuple[str, str | None], list[tuple[np.ndarray, np.ndarray]]],
    step: Step,
    change: Change,
    rows: np.ndarray,
) -> None:
    for kind, counts in change.counts.items():
        some = counts > 0
        if some.any():
            found.setdefault((step.name, kind), []).append((rows[some], counts[some]))


def _admitted(value: Any, sources: Any, row: int, length: int) -> np.ndarray | None:
    """Return the rows of a slice that a step may touch, None for all."""
    exempt = value.get("exempt") if isinstance(value, dict) else None
    if not exempt or sources is None:
        return None
    names = pl.Series(sources.slice(row, length)).cast(pl.String)
    return (~names.is_in(exempt)).arg_true().to_numpy().astype(np.int64)


def _series(piece: Any) -> pl.Series:
    series = pl.from_arrow(piece)
    assert isinstance(series, pl.Series)
    return series

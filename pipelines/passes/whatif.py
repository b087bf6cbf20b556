"""What a threshold decides: counts of documents by a signal's value, for every rule that has one.

Of each rule only those documents count that nothing else drops: no other rule, no contamination, no
duplicate as judged. So turning one threshold while all else stays is adding up cells; it is exact
at the edges, and it needs neither the signals nor this pass again.

Cells stand on the number line in turns: below the first edge, on it, between it and the second, on
the second, and so on; so `>=` and `>` are both exact.

>>> cells(np.array([1.0, 2.0, 2.5, 9.0]), np.array([2.0, 3.0])).tolist()
[0, 1, 2, 4]
>>> passing(">=", 0, 2), passing("<", 1, 2)
((1, 5), (0, 3))
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard
from curate.rules.dials import Dial, Handle, dials
from curate.rules.expression import Rule
from curate.rules.ruleset import RuleSet
from pipelines.passes.base import Workspace

__all__ = ["MAX_EDGES", "cells", "count_what_if", "passing"]

MAX_EDGES = 96
_LINEAR_STEPS = 40
_QUANTILES = 24
_TAIL = 0.002
_MANTISSAS = (1, 1.5, 2, 3, 4, 5, 6, 8)
_NEAR = (0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2)  # of a threshold
_EXACT = 2**53  # integers beyond that are not all float64


def cells(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the cell of each value.

    Args:
        values: float64 [n], no NaN.
        edges: float64 [k], rising.

    Returns:
        int64 [n], in 0 .. 2k: odd ones are the edges themselves.
    """
    above = np.searchsorted(edges, values, side="right")
    found: np.ndarray = 2 * above - (edges[np.maximum(above - 1, 0)] == values)
    return found


def passing(op: str, edge: int, count: int) -> tuple[int, int]:
    """Return the cells [first, end) that pass `value op edges[edge]`, of `count` edges."""
    if op[0] == ">":
        return 2 * edge + (1 if op == ">=" else 2), 2 * count + 1
    return 0, 2 * edge + (2 if op == "<=" else 1)


def count_what_if(
    workspace: Workspace, rules: RuleSet, frame: pl.DataFrame, reasons: Mapping[str, np.ndarray]
) -> tuple[list[Shard], list[dict[str, Any]]]:
    """Write the counts of every threshold that can be turned; return shards and descriptions.

    Args:
        workspace: judge's.
        rules: the recipe's.
        frame: the signals, `source` and `num_bytes`, one row a document.
        reasons: reason -> bool [n], True where it drops a document; all there are.

    Returns:
        The shards of table `whatif` (reason, column, source, cell, documents, num_bytes) and, for
        each dial, {reason, column, edges, handles: [{op, value, edge, start, sql, equal}]}.
    """
    dropping = np.zeros(frame.height, dtype=np.int32)
    for mask in reasons.values():
        dropping += mask
    codes = frame["source"].rank("dense").to_numpy().astype(np.int64) - 1
    names = frame["source"].unique().sort().to_list()
    num_bytes = frame["num_bytes"].to_numpy()
    found, tables = [], []
    for rule in rules.rules:
        for dial in dials(rule, frame.schema):
            rows = _movable(rule, dial, rules, frame, dropping - reasons[rule.reason] == 0)
            values = frame[dial.column].cast(pl.Float64).to_numpy()[rows]
            described = _described(rule, dial, values, frame.schema[dial.column].is_integer())
            if described is None:
                continue
            edges = np.asarray(described["edges"], dtype=np.float64)
            width = 2 * len(edges) + 1
            place = codes[rows] * width + cells(values, edges)
            size = len(names) * width
            counted = np.bincount(place, minlength=size)
            summed = np.bincount(place, weights=num_bytes[rows], minlength=size)  # exact to 2**53
            there = np.flatnonzero(counted)
            found.append(described)
            tables.append(
                pl.DataFrame(
                    {
                        "reason": [rule.reason] * len(there),
                        "column": [dial.column] * len(there),
                        "source": [names[code] for code in there // width],
                        "cell": there % width,
                        "documents": counted[there],
                        "num_bytes": summed[there].astype(np.int64),
                    }
                )
            )
    if not tables:
        return [], found
    with workspace.writer("whatif") as writer:
        writer.write(pl.concat(tables).to_arrow().cast(SCHEMAS["whatif"]))
        return [writer.commit()], found


def _movable(
    rule: Rule, dial: Dial, rules: RuleSet, frame: pl.DataFrame, others: np.ndarray
) -> np.ndarray:
    """Return the rows that this dial alone decides: not exempt, not null, nothing else drops them.

    A document without a value is kept or dropped by `on_null`, wherever the threshold is.
    """
    spared = sorted({*rules.exemptions.get(rule.reason, ()), *rule.overrides})
    if frame[dial.column].null_count():
        others &= frame[dial.column].is_not_null().to_numpy()
    if spared:
        others &= ~frame["source"].is_in(spared).to_numpy()
    if dial.rest is not None:
        rest = frame.select(dial.rest.alias("rest"))["rest"]
        others &= rest.fill_null(value=rule.on_null == "keep").to_numpy()
    return np.flatnonzero(others)


def _described(
    rule: Rule, dial: Dial, values: np.ndarray, is_integer: bool
) -> dict[str, Any] | None:
    """Return the dial's edges and where its thresholds stand; None where nothing can be turned."""
    if not len(values) or not np.isfinite(values).all() or values.min() == values.max():
        return None
    if any(handle.equal and values.min() < handle.value for handle in dial.handles):
        return None  # `n = 0` is no `n <= 0` here
    if is_integer and np.abs(values).max() >= _EXACT:
        return None
    edges = _edges(values, dial.handles, is_integer=is_integer)
    return {
        "reason": rule.reason,
        "column": dial.column,
        "edges": [int(edge) if edge.is_integer() else edge for edge in edges],
        "handles": [
            {
                "op": handle.op,
                "value": handle.value,
                "edge": edges.index(float(handle.value)),
                "start": handle.start,
                "sql": handle.sql,
                "equal": handle.equal,
            }
            for handle in dial.handles
        ],
    }


def _edges(values: np.ndarray, handles: Sequence[Handle], *, is_integer: bool) -> list[float]:
    """Return at most `MAX_EDGES` round numbers: the thresholds, their surroundings, and a grid."""
    marks = [float(handle.value) for handle in handles]
    ranks = np.linspace(_TAIL, 1 - _TAIL, _QUANTILES)
    places = np.unique((ranks * (len(values) - 1)).round().astype(np.int64))
    chosen = np.partition(values, places)[places]
    low, high = min(chosen[0], *marks), max(chosen[-1], *marks)
    ops = {handle.op for handle in handles}
    # With `<=`, what stands on the first edge is kept there, and wants a place to its left.
    below = ">" in ops or ("<=" in ops and (is_integer or values.min() in marks))
    ends = [
        _outward(min(values.min(), low), -1, strictly=below, whole=is_integer),
        _outward(max(values.max(), high), 1, strictly="<" in ops, whole=is_integer),
    ]
    fine = [_rounded(mark * factor, 3) for mark in marks for factor in _NEAR]
    dense = [_rounded(value, 2) for value in chosen.tolist()]
    grid = [*_grid(float(low), float(high), float(np.median(chosen))), *fine, *dense]
    if is_integer:
        whole = range(math.floor(low), math.floor(low) + MAX_EDGES // 2)
        grid = (
            [float(v) for v in whole]
            if high - low < MAX_EDGES // 2
            else [float(round(v)) for v in grid]
        )
    inside = sorted({float(v) for v in grid if ends[0] < v < ends[1]} - {*marks})
    fixed = {*marks, *ends}
    room = MAX_EDGES - len(fixed)
    if len(inside) > room:
        inside = [inside[i * len(inside) // room] for i in range(room)]
    return sorted({*inside, *fixed})


def _outward(value: float, side: int, *, strictly: bool, whole: bool) -> float:
    """Return a round number at the value or beyond it, on the lower (-1) or the upper side."""
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 1.0
    step = max(step, 1.0) if whole else step
    place = math.floor(value / step) if side < 0 else math.ceil(value / step)
    found = _rounded(step * place, 6)
    return _rounded(step * (place + side), 6) if strictly and found == value else found


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _grid(low: float, high: float, median: float) -> list[float]:
    """Return round numbers from low to high: by equal steps, or equal factors for a long tail."""
    if low >= 0 and high > 100 and high > 15 * max(median, 1):
        decades = range(-1, math.ceil(math.log10(high)) + 1)
        powers = [mantissa * 10.0**decade for decade in decades for mantissa in _MANTISSAS]
        found = [_rounded(value, 3) for value in powers if low <= value <= high]
        return [0.0, *found]
    span = high - low
    if span <= 0:
        return []
    step = 10.0 ** math.floor(math.log10(span / _LINEAR_STEPS))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (factor * step) <= _LINEAR_STEPS)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [_rounded(i * step, 6) for i in range(first, last + 1)]

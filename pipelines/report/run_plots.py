"""Where the lines of a run's charts stand: steps to the right, a measured number upwards.

A plot keeps the ends of what it shows: a run of a million steps becomes at most `MAX_POINTS` means,
each with the least and the most of what it stands for.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.report.charts import ticks
from pipelines.report.text import number, si

__all__ = ["MAX_POINTS", "plot", "thinned"]

MAX_POINTS = 200
_LEFT, _RIGHT, _TOP, _BELOW = 34.0, 6.0, 14.0, 18.0
_SIZES = {"small": (320.0, 132.0), "wide": (560.0, 208.0)}
_SETTLED = 0.04  # of the steps: what is higher before that is cut off at the top

Points = Sequence[Sequence[float]]


def thinned(points: Points) -> list[list[float]]:
    """Return [x, mean, least, most] of neighbouring points, at most `MAX_POINTS` of them.

    >>> thinned([[1, 4.0], [2, 2.0]])
    [[1.0, 4.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0]]
    """
    if not points:
        return []
    array = np.asarray(points, dtype=np.float64)
    starts = np.arange(min(len(array), MAX_POINTS)) * len(array) // min(len(array), MAX_POINTS)
    counts = np.diff(np.append(starts, len(array)))
    mean = np.add.reduceat(array, starts) / counts[:, None]
    least = np.minimum.reduceat(array[:, 1], starts)
    most = np.maximum.reduceat(array[:, 1], starts)
    columns = np.column_stack([mean, least, most])
    rows: list[list[float]] = [[float(f"{v:.5g}") for v in row] for row in columns.tolist()]
    return rows


def plot(
    lines: Sequence[Mapping[str, Any]],
    *,
    last: int,
    marks: Sequence[Mapping[str, Any]] = (),
    rules: Mapping[str, float] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    size: str = "small",
) -> dict[str, Any] | None:
    """Return the geometry of a chart; None where there is nothing to show.

    Args:
        lines: {kind, points}: a style class, and [x, y, ...] in `thinned` form; `with_band` draws
            what lies between least and most too, `with_dots` a dot at each point.
        last: the step at the right end.
        marks: {step, label}: vertical lines.
        rules: label -> value: horizontal lines, where they lie among what is shown.
        limits: the least and the most that the scale shows; by default what is measured.
        size: `small` or `wide`.
    """
    if not any(line["points"] for line in lines):
        return None
    width, height = _SIZES[size]
    wide, tall = width - _LEFT - _RIGHT, height - _TOP - _BELOW
    low, high = _range([line["points"] for line in lines], last, limits)

    def x(step: float) -> float:
        return round(wide * (step - 1) / max(last - 1, 1), 1)

    def y(value: float) -> float:
        return round(tall * (high - value) / (high - low), 1)

    def path(points: Iterable[tuple[float, float]]) -> str:
        return "M" + " L".join(f"{x(px)} {y(py)}" for px, py in points)

    return {
        "width": width,
        "height": height,
        "left": _LEFT,
        "top": _TOP,
        "inner": [wide, tall],
        "floor": _TOP + tall,
        "lines": [
            {
                "kind": line["kind"],
                "path": path((p[0], p[1]) for p in line["points"]),
                "band": path(
                    [
                        *((p[0], p[3]) for p in line["points"]),
                        *((p[0], p[2]) for p in reversed(line["points"])),
                    ]
                )
                + "Z"
                if line.get("with_band")
                else None,
                "dots": [
                    [round(_LEFT + x(p[0]), 1), round(_TOP + y(p[1]), 1)]
                    for p in line["points"]
                    if p[1] <= high
                ]
                if line.get("with_dots") or len(line["points"]) == 1
                else [],
            }
            for line in lines
            if line["points"]
        ],
        "ticks": [_label(_LEFT + x(v), v, width) for v in _steps(last)],
        "levels": [{"y": round(_TOP + y(v), 1), "label": _short(v)} for v in _levels(low, high)],
        "rules": [
            {"y": round(_TOP + y(value), 1), "label": label}
            for label, value in (rules or {}).items()
            if low < value < high
        ],
        "marks": [
            {**_label(_LEFT + x(mark["step"]), 0, width), "label": mark["label"]}
            for mark in marks
            if 1 < mark["step"] <= last
        ],
    }


def _range(
    lines: Sequence[Points], last: int, limits: tuple[float | None, float | None]
) -> tuple[float, float]:
    """Return the least and the most to show; a high start is cut off, the rest is not."""
    settled = [p for points in lines for p in points if p[0] >= 1 + _SETTLED * last]
    shown = settled or [p for points in lines for p in points]
    low = min(p[1] for p in shown) if limits[0] is None else limits[0]
    high = max(p[1] for p in shown) if limits[1] is None else limits[1]
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room if limits[0] is None else low, high + room)


def _levels(low: float, high: float) -> list[float]:
    """Return round values, at least three where the range has them at half steps."""
    found = ticks(low, high, log=False)
    if len(found) == 2:
        half = (found[1] - found[0]) / 2
        more = [found[0] - half, found[0], found[0] + half, found[1], found[1] + half]
        found = [float(f"{v:.6g}") for v in more if low <= v <= high]
    return found


def _steps(last: int) -> list[float]:
    return [1.0, float(max(last, 2))] if last < 8 else [v for v in ticks(0, last, log=False) if v]


def _label(at: float, value: float, width: float) -> dict[str, Any]:
    anchor = "start" if at < _LEFT + 14 else "end" if at > width - 30 else "middle"
    return {"x": round(at, 1), "label": _short(value), "anchor": anchor}


def _short(value: float) -> str:
    """Return a number of an axis: at most six characters.

    >>> _short(0.0004), _short(2500.0), _short(40000.0), _short(1.5e6)
    ('0.0004', '2,500', '40,000', '1.50M')
    """
    return si(round(value)) if value >= 100_000 else number(value)

"""Where the marks of a chart stand: plain numbers for the SVG templates.

All charts share one idea of size: a box of `WIDTH` x `HEIGHT` units that the page scales.
"""

import math
from typing import Any

from pipelines.report.text import number

__all__ = ["dial", "histogram", "line", "pictures", "ticks"]

WIDTH, HEIGHT = 320.0, 96.0
_LEFT, _RIGHT, _TOP = 4.0, 316.0, 14.0
_FLOOR = HEIGHT - 16.0
_GAP = 0.6  # between bars


def pictures(data: dict[str, Any]) -> dict[str, Any]:
    """Return the geometry of every chart of a report."""
    duplicates = data["duplicates"]
    return {
        "signals": [
            histogram(
                entry["edges"],
                entry["counts"],
                entry["kept"],
                marks=entry["thresholds"],
                log=entry["log"],
            )
            if entry["kind"] == "histogram"
            else None
            for entry in data["signals"]
        ],
        "jaccard": _jaccard(duplicates["jaccard"]),
        "s_curve": _curve(duplicates["near"]),
        "lengths": _lengths(data["contents"]["lengths"]),
        "dials": [dial(one) for one in data["what_if"]["dials"]],
    }


def _curve(near: dict[str, Any] | None) -> dict[str, Any] | None:
    found = near["s_curve"] if near else None
    if found is None:
        return None
    return line(found["points"], mark=found["threshold"], value=found["at_threshold"])


def _lengths(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return histogram(found["edges"], found["counts"], None, marks=[], log=True)


def _jaccard(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None or not any(found["counts"]):
        return None
    bins = len(found["counts"])
    width = (found["high"] - found["low"]) / bins or 1 / bins
    edges = [round(found["low"] + i * width, 4) for i in range(bins + 1)]
    return histogram(edges, found["counts"], None, marks=[], log=False)


def histogram(
    edges: list[float],
    counts: list[int],
    kept: list[int] | None,
    *,
    marks: list[float],
    log: bool,
) -> dict[str, Any]:
    """Return bars [x, y, width, height], tick labels and threshold lines.

    Heights grow with the square root of the count (Tukey's rootogram), so that a spike leaves the
    rest visible. Thresholds outside the range are named in `beyond`.
    """
    scale = math.log1p if log else float
    low, high = scale(edges[0]), scale(edges[-1])
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (scale(value) - low) / span, 2)

    tallest = math.sqrt(max(counts, default=0)) or 1.0

    def bars(values: list[int]) -> list[list[float]]:
        rows = []
        for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
            if value:
                tall = max(1.0, (_FLOOR - _TOP) * math.sqrt(value) / tallest)
                wide = max(0.5, x(right) - x(left) - _GAP)
                rows.append([x(left), round(_FLOOR - tall, 2), round(wide, 2), round(tall, 2)])
        return rows

    inside = [mark for mark in marks if edges[0] <= mark <= edges[-1]]
    return {
        "all": bars(counts),
        "kept": bars(kept) if kept is not None else [],
        "ticks": [_tick(x(value), value) for value in ticks(edges[0], edges[-1], log=log)],
        "marks": _marks(inside, x),
        "beyond": [number(mark) for mark in marks if mark not in inside],
        "most": max(counts, default=0),
    }


def _marks(marks: list[float], x: Any) -> list[dict[str, Any]]:
    """Return threshold lines; labels that would touch their left neighbour's are left out."""
    placed: list[dict[str, Any]] = []
    end = -math.inf
    for mark in marks:
        tick = _tick(x(mark), mark)
        half = 3.2 * len(tick["label"])
        left = {"start": tick["x"], "middle": tick["x"] - half, "end": tick["x"] - 2 * half}
        if left[tick["anchor"]] <= end + 4:
            tick["label"] = ""
        else:
            end = left[tick["anchor"]] + 2 * half
        placed.append(tick)
    return placed


def dial(data: dict[str, Any]) -> dict[str, Any]:
    """Return the histogram of a rule's threshold: one bar between two stops of its handle.

    Bars are equally wide, so that a stop is where its handle stands; heights as in `histogram`. A
    value on an edge goes to the side on which the nearest handle would have it.
    """
    edges, handles = data["edges"], data["handles"]
    counts = [0] * (len(edges) - 1)
    for row in data["cells"]:
        for cell, documents in zip(row[::3], row[1::3], strict=True):
            place = cell // 2
            nearest = min(handles, key=lambda handle: abs(handle["edge"] - place))
            right = cell % 2 and nearest["op"] in (">=", "<")
            counts[max(0, min(len(counts) - 1, place if right else place - 1))] += documents
    tallest = math.sqrt(max(counts)) or 1.0
    steps = []
    for i, count in enumerate(counts):
        if count:
            tall = max(2.0, 92 * math.sqrt(count) / tallest)
            steps.append(f"M{i}.5 100V{100 - tall:.3g}")  # a bar is one thick stroke: half the text
    last = len(edges) - 1
    places = {">": 0, "<": last} | {h["op"][0]: h["edge"] for h in handles}
    low, high = places[">"], places["<"]
    return {
        "bars": last,
        "path": "".join(steps),
        "low": low,
        "span": max(high - low, 0.001),
        "x": round(100 * low / last, 3),
        "width": round(max(0.0, 100 * (high - low) / last), 3),
        "lines": [round(100 * handle["edge"] / last, 3) for handle in handles],
        "ticks": [
            {
                "x": round(100 * place / last, 3),
                "label": number(edges[place]),
                "anchor": "start" if place == 0 else "end" if place == last else "middle",
            }
            for place in _round_places(edges)
        ],
    }


def _round_places(edges: list[float]) -> list[int]:
    """Return the first and last edge and, between them, up to three round ones."""
    last = len(edges) - 1
    # An edge below zero is there for what stands on zero; as a value it would mislead.
    chosen = {1 if edges[0] < 0 <= edges[1] and last > 1 else 0, last}
    for goal in (0.25, 0.5, 0.75) if last >= 8 else ():
        near = range(max(1, round(last * (goal - 0.07))), round(last * (goal + 0.07)) + 1)
        chosen.add(
            min(near, key=lambda i: (len(f"{edges[i]:g}".strip("0.")), abs(i - goal * last)))
        )
    return sorted(chosen)


def _tick(at: float, value: float) -> dict[str, Any]:
    anchor = "start" if at < 30 else "end" if at > WIDTH - 30 else "middle"
    return {"x": at, "label": number(value), "anchor": anchor}


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Return up to five round values within the range."""
    if log:
        powers = [10.0**k for k in range(16) if low <= 10.0**k <= high]
        step = max(1, -(-len(powers) // 5))
        return powers[::step] or [low, high]
    step = 10 ** math.floor(math.log10((high - low) / 3))
    for factor in (1, 2, 5, 10):
        if (high - low) / (factor * step) <= 4.5:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.6g}") for i in range(first, last + 1)]


def line(points: list[list[float]], *, mark: float | None, value: float | None) -> dict[str, Any]:
    """Return the path of a curve over the unit square, with one point marked on it if there is."""

    def place(px: float, py: float) -> tuple[float, float]:
        return (
            round(_LEFT + 22 + (_RIGHT - _LEFT - 22) * px, 2),
            round(_FLOOR - (_FLOOR - _TOP) * py, 2),
        )

    placed = [place(*point) for point in points]
    marked = None
    if mark is not None and value is not None:
        x, y = place(mark, value)
        marked = {**_tick(x, mark), "y": y}
    return {
        "path": "M" + " L".join(f"{x} {y}" for x, y in placed),
        "mark": marked,
        "left": place(0, 0)[0],
        "ticks": [_tick(place(v, 0)[0], v) for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)],
        "levels": [{"y": place(0, v)[1], "label": f"{v:.0%}"} for v in (0.0, 0.5, 1.0)],
    }

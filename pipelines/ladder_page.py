"""The page of a ladder: the rungs, the law through them with its interval, and the next rung."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.laddering import told
from pipelines.pages import render_page
from pipelines.report.charts import ticks
from pipelines.report.text import number, si

__all__ = ["render", "write_page"]

_WIDTH, _HEIGHT = 560.0, 240.0
_LEFT, _RIGHT, _TOP, _BELOW = 40.0, 8.0, 14.0, 18.0


def render(found: Mapping[str, Any]) -> str:
    """Return the page of a ladder (`pipelines.ladder.conclude`)."""
    data = {**found, "lines": told(found), "chart": chart(found)}
    return render_page("ladder.html.j2", data, "run.css")


def write_page(found: Mapping[str, Any], path: Path) -> None:
    """Write the page of a ladder."""
    path.write_text(render(found), encoding="utf-8")


def chart(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the geometry: sizes to the right and held-out nats upwards, both in logarithms."""
    curve, above = found["curve"], found["next"]
    seen = [(one["size"], one["nats"]) for one in found["rungs"]]
    nats = [*(value for _, value in seen), *(row[1] for row in curve)]
    low, high = 0.97 * min(nats), 1.03 * max(nats)  # a wide interval may leave the chart
    first, last = math.log(curve[0][0]), math.log(curve[-1][0])

    def x(size: float) -> float:
        share = (math.log(size) - first) / (last - first)
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (0.02 + 0.96 * share), 1)

    def y(value: float) -> float:
        share = math.log(max(value, low / 2) / low) / math.log(high / low)
        return round(_HEIGHT - _BELOW - (_HEIGHT - _TOP - _BELOW) * share, 1)

    def path(points: list[tuple[float, float]]) -> str:
        return "M" + " L".join(f"{x(size)} {y(value)}" for size, value in points)

    sizes = sorted({one["size"] for one in found["rungs"]} | {above["size"]})
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "top": _TOP,
        "floor": _HEIGHT - _BELOW,
        "right": _WIDTH - _RIGHT,
        "line": path([(row[0], row[1]) for row in curve]),
        "band": path([*((r[0], r[3]) for r in curve), *((r[0], r[2]) for r in reversed(curve))])
        + "Z",
        "dots": [(x(size), y(value)) for size, value in seen],
        "next": {"x": x(above["size"]), "y": y(above["nats"])},
        "ticks": [{"x": x(size), "label": si(size)} for size in sizes],
        "levels": [{"y": y(v), "label": number(v)} for v in ticks(low, high, log=False)],
    }

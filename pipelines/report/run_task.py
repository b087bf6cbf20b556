"""What a run's pretext task counts and measures, in words: for a page that is not always of tokens.

The next token is measured in bits per byte, against models that count. Every other task has a loss
of its own, in its own unit, and numbers beside it: accuracies, and the health of its features.

>>> task_of({"config": {"objective": "rotation"}, "media": {"kind": "image"}}, [], None)["per"]
'nats a target'
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.run_plots import plot, thinned

__all__ = ["held_rows", "pictures_of", "series_of", "task_of"]

_THINGS = {"text": "text", "image": "images", "audio": "sounds", "pair": "pairs"}
_UNITS = {"text": "tokens", "image": "patches", "audio": "frames"}

Lines = Sequence[Mapping[str, Any]]


def task_of(
    content: Mapping[str, Any], lines: Lines, result: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the words of a run's task.

    Keys: objective; next_token; unit of the loss; per (unit and what it is told for); things (what
    is trained on: text, images, ...); units (what a stem makes of them); chance, or None; shown
    (the metric to name first, or None).

    Args:
        content: of `run.json`.
        lines: of `metrics.jsonl`.
        result: of `result.json`, where there is one.
    """
    media = content.get("media") or {"kind": "text"}
    objective = str(content["config"].get("objective", "next_token"))
    told = (str(line["unit"]) for line in reversed(lines) if line.get("unit"))
    unit = str((result or {}).get("unit") or next(told, "nats"))
    names = [name for line in lines[-50:] for name in line.get("metrics", {})]
    return {
        "objective": objective,
        "next_token": objective == "next_token",
        "unit": unit,
        "per": f"{unit} a {'token' if objective == 'next_token' else 'target'}",
        "things": _THINGS[media["kind"]],
        "units": _UNITS[(media.get("of") or media)["kind"]],
        "chance": (result or {}).get("chance_nats"),
        "shown": min(names, key=lambda name: ("accuracy" not in name, names.index(name)))
        if names
        else None,
    }


def series_of(lines: Lines) -> dict[str, dict[str, Any]]:
    """Return `metrics`: name -> {train, held} and `health`: name -> points, all thinned."""

    def points(key: str, name: str) -> list[list[float]]:
        told = [(line["step"], line.get(key, {}).get(name)) for line in lines]
        return thinned([(step, value) for step, value in told if value is not None])

    def names(*keys: str) -> list[str]:
        return list(dict.fromkeys(n for line in lines for k in keys for n in line.get(k, {})))

    return {
        "metrics": {
            name: {"train": points("metrics", name), "held": points("held_out_metrics", name)}
            for name in names("metrics", "held_out_metrics")
        },
        "health": {name: points("health", name) for name in names("health")},
    }


def pictures_of(
    series: Mapping[str, Mapping[str, Any]], shown: str | None, last: int
) -> dict[str, dict[str, Any]]:
    """Return charts of `series_of`, by name; that of the metric `shown` is a wide one."""
    metrics = {
        name: plot(
            [
                {"kind": "train", "points": one["train"]},
                {"kind": "held", "points": one["held"], "with_dots": True},
            ],
            last=last,
            size="wide" if name == shown else "small",
        )
        for name, one in series["metrics"].items()
    }
    health = {
        name: plot([{"kind": "train", "points": points}], last=last)
        for name, points in series["health"].items()
    }
    return {
        "metrics": {name: chart for name, chart in metrics.items() if chart},
        "health": {name: chart for name, chart in health.items() if chart},
    }


def held_rows(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what was measured row by row, or None: chance, metrics, rows (`all` the last one)."""
    own = (result or {}).get("held_out")
    if not own or own.get("loss") is None:
        return None
    rows = [*own.get("sources", {}).items()]
    rows = [*(rows if len(rows) > 1 else []), ("all", own)]
    names = ("loss", "standard_error", "targets", "rows")
    return {
        "chance": own.get("chance"),
        "rows": [{"source": source, **{n: part.get(n) for n in names}} for source, part in rows],
        "metrics": {k: v for k, v in (own.get("metrics") or {}).items() if v is not None},
    }

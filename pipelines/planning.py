"""`preceptor plan`: what a run would do, and with `--forecast` what it would take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.corpus.errors import InputError
from pipelines.options import (
    STORE,
    AllowOption,
    LimitOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from pipelines.build import PassPlan
    from pipelines.forecast.model import Forecast

__all__ = ["plan"]

_SPARE = 1.2  # times the forecast must fit: it may be off, and a full disk stops a run


def plan(
    recipe: RecipeArgument,
    store: StoreOption = STORE,
    set_: SetOption = None,
    limit: LimitOption = None,
    allow: AllowOption = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast",
            help="Try the passes on a small sample, and say what time, memory and disk they take.",
        ),
    ] = False,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what a run would do and what is already done."""
    import os

    from pipelines.build import plan as look
    from pipelines.console import show_plan
    from pipelines.recipe import load_recipe, parse_override

    if forecast and limit is not None:
        raise InputError("--forecast is of the whole input; leave out --limit")
    overrides = dict(parse_override(pair) for pair in set_ or [])
    checked = load_recipe(recipe, overrides=overrides, limit=limit, allow=allow or ())
    plans = look(checked, store=store)
    told = None
    count = workers if workers is not None else (os.cpu_count() or 1)
    if forecast and any(one.state != "done" for one in plans):
        from pipelines.forecast.model import forecast as look_ahead

        jobs = next((one.total for one in plans if one.name == "collect"), 0)
        told = look_ahead(checked, workers=count, jobs=jobs or None)
    if as_json:
        _print_json(plans, told)
    elif told is None:
        show_plan(plans)
    else:
        _show_forecast(plans, told, store, count)


def _left(one: "PassPlan") -> float:
    """Return the share of a pass that is to do."""
    if one.state == "todo" and one.total:
        return one.todo / one.total
    return 0.0 if one.state == "done" else 1.0


def _print_json(plans: "Sequence[PassPlan]", told: "Forecast | None") -> None:
    import json
    from dataclasses import asdict

    data: dict[str, Any] = {"passes": [asdict(one) for one in plans], "forecast": None}
    if told is not None:
        data["forecast"] = {**asdict(told), "trials": None}
    typer.echo(json.dumps(data, indent=2))


def _show_forecast(plans: "Sequence[PassPlan]", told: "Forecast", store: str, workers: int) -> None:
    from pipelines.console import new_table, say, show

    table = new_table(
        ("pass", "left"),
        ("state", "left"),
        ("time", "right"),
        ("CPU", "right"),
        ("memory", "right"),
        ("disk", "right"),
    )
    states = {"done": "done", "unknown": "to do"}
    seconds, disk = told.start_s, 0.0
    for one, found in zip(plans, told.passes, strict=True):
        left = _left(one)
        seconds += left * found.wall_s
        disk += left * found.disk_bytes
        state = states.get(one.state, f"{one.todo} of {one.total} parts to do")
        cells = (
            (_time(left * found.wall_s), _time(left * found.cpu_s), _size(found.memory_bytes))
            if left
            else ("-", "-", "-")
        )
        table.add_row(one.name, state, *cells, _size(left * found.disk_bytes) if left else "-")
    show(table)
    peak = max((p.memory_bytes for o, p in zip(plans, told.passes, strict=True) if _left(o)))
    each = f"; {workers} workers may each hold as much" if workers > 1 else ""
    say(
        f"about {_time(seconds)} with {workers} worker{'s' * (workers > 1)}, {_size(disk)} of "
        f"disk, {_size(peak)} in a process{each}"
    )
    say(
        f"forecast from {_size(told.sampled_bytes)} of {_size(told.input_bytes)} in "
        f"{told.seconds:.0f} s: {100 * told.distinct_share:.0f} % of the documents have no twin "
        f"before them, {100 * told.kept_share:.0f} % of the text is kept. Mostly within 1.5x; "
        "duplicates that a sample does not show make the most of the rest"
    )
    for note in told.notes:
        say(f"note: {note}")
    _warn_of_disk(disk, store)


def _warn_of_disk(needed: float, store: str) -> None:
    import shutil
    from pathlib import Path

    from pipelines.console import say

    if "://" in store:
        return
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _SPARE * needed:
        say(
            f"warning: the disk of {store} has {_size(free)} free, the run wants about "
            f"{_size(needed)}; free some, or name another place with --store"
        )
    else:
        say(f"free there: {_size(free)}")


def _time(seconds: float) -> str:
    """Return seconds for people.

    >>> _time(0.04), _time(42), _time(600), _time(9000)
    ('0.1 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 10:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(num_bytes: float) -> str:
    """Return bytes for people.

    >>> _size(0), _size(2_500_000), _size(3.2e9)
    ('0.0 MB', '2.5 MB', '3.2 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e7 else f"{num_bytes / 1e6:.0f} MB"

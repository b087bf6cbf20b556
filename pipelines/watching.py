"""What a person sees of a training run: a line while it goes on, and what it came to."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from curate.corpus.errors import InputError, IntegrityError
from pipelines.console import console, plain, say
from pipelines.paths import shown

__all__ = ["progress_text", "show_result", "show_training"]

_EVERY_SECONDS = 10.0  # between lines where there is no terminal


def show_training(run_json: Path, *, store: str, processes: int = 1) -> dict[str, Any]:
    """Train with a progress line; print the held-out result and a sample, and write the report.

    Args:
        run_json: the run; its report is written when it stops, too.
        store: where its corpus is.
        processes: how many share the work.
    """
    from pipelines.training import finished, train_run

    done = finished(run_json)
    if done is not None:
        say(f"already trained: {shown(run_json.parent)}")
        return show_result(done)
    try:
        with _Line(console) as line:
            result = train_run(run_json, line.observe, processes=processes, tell=say)
    except InputError as error:
        page = _report(run_json, store)
        if page is not None:
            error.add_note(f"The run so far: {shown(page)}")
        raise
    show_result(result)
    page = _report(run_json, store)
    if page is not None:
        say(f"report: {shown(page)}")
    return result


def _report(run_json: Path, store: str) -> Path | None:
    """Write a run's report, unless nothing was trained yet; what hinders it is told."""
    from pipelines.report.run import write_run_report
    from pipelines.runs import find_run, metrics_of
    from pipelines.store import Store

    if not metrics_of(run_json.parent):
        return None
    opened = Store(store)
    try:
        return write_run_report(find_run(str(run_json), store=opened), opened)
    except (InputError, IntegrityError, OSError) as error:  # the model is there all the same
        say(f"no report: {error}")
        return None


class _Line:
    """A progress line; without a terminal, plain lines now and then."""

    def __init__(self, out: Console) -> None:
        self._out, self._said = out, -_EVERY_SECONDS
        self._progress: Progress | None = None
        if out.is_terminal:
            self._bar = BarColumn(bar_width=24)
            self._progress = Progress(
                SpinnerColumn(finished_text="[green]ok[/]"),
                self._bar,
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                console=out,
            )
            self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> "_Line":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def observe(self, step: int, steps: int, metrics: Mapping[str, Any]) -> None:
        """Show where the run is."""
        text = progress_text(metrics)
        if "held_out_nats" in metrics:
            nats, bits = (metrics.get(f"held_out_{k}") for k in ("nats", "bits_per_byte"))
            told = (
                "loss is not finite"
                if nats is None
                else f"{nats:.3f} {metrics.get('unit', 'nats')}"
            )
            told = told if bits is None else f"about {bits:.3f} bits/byte"
            told += "".join(f", {text}" for text in _metric(metrics.get("held_out_metrics", {})))
            say(f"step {step:,}: held-out {told}")
        elif self._progress is not None:
            told = f"{step:,}/{steps:,}  {text}"
            self._bar.bar_width = max(1, min(24, self._out.width - len(told) - 5))
            self._progress.update(self._task, completed=step, total=steps, description=told)
        elif step == steps or time.monotonic() - self._said >= _EVERY_SECONDS:
            self._said = time.monotonic()
            say(f"step {step:,} of {steps:,}: {text}")


def progress_text(metrics: Mapping[str, Any]) -> str:
    """Return what the trainer told of an interval, short enough for a line of 80 columns.

    >>> progress_text({"mean_loss": 3.8166, "bits_per_byte": 1.68, "tokens_per_s": 8766.9,
    ...                "mfu": 0.418, "eta_s": 65})
    'loss 3.817  1.680 bits/B  8.77K tok/s  42% MFU  1:05 left'
    >>> progress_text({"mean_loss": None, "eta_s": 3725, "skipped": 2})
    'no loss  2 skipped  1:02:05 left'
    >>> progress_text({"mean_loss": 1.2, "metrics": {"accuracy": 0.4}, "units": "patches",
    ...                "tokens_per_s": 5e4, "eta_s": 5})
    'loss 1.200  accuracy 0.400  50.0K patches/s  0:05 left'
    """
    from pipelines.report.text import si

    loss, bits, speed = (metrics.get(k) for k in ("mean_loss", "bits_per_byte", "tokens_per_s"))
    mfu, left, skipped = (metrics.get(k) for k in ("mfu", "eta_s", "skipped"))
    parts = ["no loss" if loss is None else f"loss {loss:.3f}"]
    parts += [] if bits is None else [f"{bits:.3f} bits/B"]
    parts += _metric(metrics.get("metrics") or {})
    parts += [] if speed is None else [f"{si(round(speed))} {metrics.get('units', 'tok')}/s"]
    parts += [] if mfu is None else [f"{mfu:.0%} MFU"]
    parts += [f"{skipped} skipped"] if skipped else []
    if left is not None:
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        parts.append(f"{clock} left")
    return "  ".join(parts)


def _metric(found: Mapping[str, float | None]) -> list[str]:
    """Return the number that tells most, an accuracy if there is one: a line has room for one."""
    told = {name: value for name, value in found.items() if value is not None}
    if not told:
        return []
    name = min(told, key=lambda name: "accuracy" not in name)
    return [f"{name.replace('_', ' ')} {told[name]:.3f}"]


def show_result(result: dict[str, Any]) -> dict[str, Any]:
    """Print what a training run achieved."""
    held_out = result.get("held_out")
    if held_out:
        say(held_out["text"])
    say(
        f"{result['parameters']:,} parameters, {result['steps']:,} steps, "
        f"{result['training_seconds']:.0f} s on {result['device']}"
    )
    say(f"model: {shown(result['model'])}")
    if result.get("sample"):
        say("a sample (blank lines left out):")
        lines = [line for line in plain(result["sample"]).splitlines() if line.strip()]
        for line in lines[:12]:
            say(f"  | {line}")
    return result

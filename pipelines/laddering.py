"""`preceptor ladder`: its options, and what it prints; imports that cost time are inside."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from curate.corpus.errors import InputError
from pipelines.checks.command import DespiteOption
from pipelines.options import STORE, CorpusOption, StoreOption

__all__ = ["ladder"]

_MANY_EPOCHS = 4  # more often read, text teaches clearly less (Muennighoff et al. 2023)
_VAGUE = 0.4  # of alpha, its standard error


def _numbers(kind: Callable[[str], Any], option: str, text: str | None) -> list[Any]:
    """Return the numbers of a list such as `1,2,4`, all above zero."""
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    try:
        found = [kind(part) for part in parts]
    except ValueError:
        found = [0]
    if not all(0 < number < float("inf") for number in found):
        raise InputError(f"{option} is {text!r}; give numbers above zero, such as 1,2,4")
    return found


def ladder(
    config: Annotated[Path, typer.Argument(help="The training config.", metavar="CONFIG.yaml")],
    corpus: CorpusOption,
    depths: Annotated[
        str, typer.Option("--depths", help="Sizes to train.", metavar="LIST")
    ] = "1,2,3,4",
    steps: Annotated[
        str | None,
        typer.Option("--steps", help="Steps of each; several make a grid.", metavar="LIST"),
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(
            "--tokens-per-parameter",
            help="In place of steps: tokens for each weight of a matrix product.",
            metavar="LIST",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Where runs go (default: in the store).", metavar="DIR"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The JSON file (default: beside the runs).", metavar="FILE"),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", help="Processes of each training (torchrun).", min=1)
    ] = 1,
    despite: DespiteOption = None,
    store: StoreOption = STORE,
) -> None:
    """Train a few sizes and fit how the loss falls with size and tokens, with its error."""
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.ladder import climb, conclude, plan_rungs
    from pipelines.ladder_page import write_page
    from pipelines.paths import shown
    from pipelines.training import load_config

    opened, settings = open_corpus(corpus, store=store), load_config(config)
    rungs, above = plan_rungs(
        opened,
        settings,
        _numbers(int, "--depths", depths),
        steps=_numbers(int, "--steps", steps),
        tokens_per_parameter=_numbers(float, "--tokens-per-parameter", ratio),
    )
    with _Watch(len(rungs)) as watch:
        climbed = climb(
            opened,
            settings,
            rungs,
            runs=runs,
            despite=despite,
            processes=processes,
            watch=watch.rung,
        )
    found = conclude(opened, settings, climbed, above)
    show_ladder(found)
    path = out or Path(climbed[0]["run"]).parent / "ladders" / f"{found['id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(found, path.with_suffix(".html"))
    say(f"ladder: {shown(path)} and {shown(path.with_suffix('.html'))}")


class _Watch:
    """A progress bar over the steps of the rung that is trained."""

    def __init__(self, count: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from pipelines.console import console

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
        )
        self._count, self._done = count, 0

    def __enter__(self) -> "_Watch":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def rung(self, rung: Any) -> Callable[[int, int, dict[str, Any]], None]:
        """Show that a rung begins; return what follows its steps."""
        self._done += 1
        name = f"{self._done} of {self._count}: depth {rung.depth}, {rung.size:,} weights"
        if not self._progress.console.is_terminal:
            self._progress.console.print(name)
        task = self._progress.add_task(name, total=rung.steps, told="")

        def observe(step: int, steps: int, metrics: Mapping[str, Any]) -> None:
            bits = metrics.get("bits_per_byte")
            told = "" if bits is None else f"{bits:.3f} bits/byte"
            self._progress.update(task, completed=step, total=steps, told=told)

        return observe


def show_ladder(found: Mapping[str, Any]) -> None:
    """Print the rungs, the law, the next rung and what would have been said of the largest."""
    from rich.table import Table

    from pipelines.console import say, show

    table = Table(box=None, pad_edge=False)
    for name in ("depth", "weights", "steps", "tokens", "held-out nats", "bits/byte", "seconds"):
        table.add_column(name, justify="right")
    for one in found["rungs"]:
        table.add_row(
            str(one["depth"]),
            f"{one['size']:,}",
            f"{one['steps']:,}",
            f"{one['tokens']:,}",
            f"{one['nats']:.4f}",
            f"{one['bits_per_byte']:.4f}",
            f"{one['seconds']:.0f}",
        )
    show(table)
    for line in told(found):
        say(line)


def told(found: Mapping[str, Any]) -> Sequence[str]:
    """Return what a ladder says, in lines for people."""
    law, above, held = found["law"], found["next"], found["held_back"]
    count = len(found["rungs"])
    few = {
        "power": f"{count} runs carry no floor of the loss: a power law alone; "
        "a fourth depth would tell more",
        "size": f"{count} runs, in which tokens are not told from size: the law holds along them",
        "size and tokens": f"{count} runs",
    }
    lines = [
        f"{law['text']}",
        f"fitted on {few[law['kind']]}; residual {law['residual']:.4f} of log L, "
        f"{law['freedom']} degree{'s' * (law['freedom'] != 1)} of freedom",
        f"next, depth {above['depth']} ({above['size']:,} weights, {above['tokens']:,} tokens): "
        f"{above['nats']:.3f} nats, 90 % between {above['low']:.3f} and {above['high']:.3f}",
    ]
    if held is not None:
        inside = held["low"] <= held["measured"] <= held["high"]
        lines.append(
            f"without depth {held['depth']} the law would say {held['nats']:.3f} "
            f"({held['low']:.3f} to {held['high']:.3f}) of it; measured {held['measured']:.3f}"
            + ("" if inside else ": OUTSIDE")
        )
    if law["standard_errors"]["alpha"] > _VAGUE * law["values"]["alpha"]:
        lines.append(
            "alpha is hardly told from noise, so do not plan by this law: train longer, or sizes "
            "further apart"
        )
    most = max(one["epochs"] for one in found["rungs"])
    if most > _MANY_EPOCHS:
        lines.append(
            f"the largest rung reads the corpus {most:.1f} times; repeated text teaches less, so "
            "the law is one of this corpus's size too"
        )
    return lines

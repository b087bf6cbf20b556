"""`preceptor evaluate`: a run's model against counting and compressing, as a table.

The measuring is the trainer's (`train.contest`), in a process of its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.corpus.errors import InputError
from pipelines.options import STORE, StoreOption

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's folder, its run.json, or the beginning of its id.", metavar="RUN"
        ),
    ],
    split: Annotated[
        str, typer.Option("--split", help="validation, test, or another plan of the run.")
    ] = "validation",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Another model of the same tokenizer, in place of the run's own: a folder of "
            "NanoChat, Qwen3 or Llama as transformers saves it.",
            metavar="DIR",
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", help="Score about this many tokens.", min=1)
    ] = 1_000_000,
    fit_tokens: Annotated[
        int,
        typer.Option(
            "--fit-tokens", help="Fit the n-grams on about this many tokens of training.", min=1
        ),
    ] = 20_000_000,
    compress: Annotated[
        bool,
        typer.Option("--compress/--no-compress", help="Compare with xz, zstd and zlib, too."),
    ] = True,
    tasks: Annotated[
        str,
        typer.Option("--tasks", help="Tasks of lm-eval, with commas between.", metavar="NAMES"),
    ] = "",
    tasks_dir: Annotated[
        Path | None,
        typer.Option(
            "--tasks-dir",
            help="Your own tasks for lm-eval: YAML files that name local data.",
            metavar="DIR",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Examples of each task.", min=1)
    ] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Measure a run's model on held-out text: bits per byte of each source, beside baselines."""
    from pipelines.runs import find_run
    from pipelines.store import Store

    found = find_run(run, store=Store(store))
    asked = ["--split", split, "--tokens", str(tokens), "--fit-tokens", str(fit_tokens)]
    asked += [] if compress else ["--no-compress"]
    asked += [] if model is None else ["--model", str(model.absolute())]
    asked += ["--tasks", tasks] if tasks else []
    asked += [] if tasks_dir is None else ["--tasks-dir", str(tasks_dir.absolute())]
    asked += [] if limit is None else ["--limit", str(limit)]
    result = measured(["evaluate", str(found.path), "--json", *asked], quiet=as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        show_evaluation(result)


def measured(arguments: list[str], *, quiet: bool = False) -> dict[str, Any]:
    """Let the trainer measure; what it is doing is shown unless `quiet`."""
    from rich.markup import escape

    from pipelines.console import console
    from pipelines.trainer import call

    lines: list[str] = []
    with console.status("reading the run") as status:
        if quiet:
            status.stop()

        def on_line(line: str) -> None:
            if line.startswith("... "):
                status.update(escape(line.removeprefix("... ")))
            else:
                lines.append(line)

        call(arguments, on_line=on_line)
    if not lines:
        raise InputError("the trainer ended without a result")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def show_evaluation(result: Mapping[str, Any]) -> None:
    """Print the tables of an evaluation: bits per byte by source, and the model's lead."""
    from rich.markup import escape

    from pipelines.console import new_table, plain, say, show

    corpus, scorers = result["corpus"], result["scorers"]
    whole = result["all"]
    title = (
        f"{corpus['name']}@{corpus['version']}, {result['split']}: bits per byte, lower is better"
    )
    columns = [("source", "left"), ("documents", "right"), ("bytes", "right")]
    table = new_table(*columns, *((name, "right") for name in scorers), title=escape(title))
    parts = [*result["sources"].items(), ("all", whole)]
    for name, part in parts if len(parts) > 2 else parts[:1]:
        best = min(part[scorer]["bits_per_byte"] for scorer in scorers)
        table.add_row(
            escape(plain(name, 40)),
            f"{part['documents']:,}",
            f"{part['bytes']:,}",
            *(_score(part[scorer]["bits_per_byte"], best) for scorer in scorers),
        )
    show(table)
    say("")
    leads = new_table(
        ("the model against", "left"),
        ("bits/byte", "right"),
        ("standard error", "right"),
        ("that is", "left"),
    )
    for name in scorers[1:]:
        entry = whole[name]
        error = entry["standard_error"]
        leads.add_row(
            name,
            f"{entry['difference']:+.3f}",
            "-" if error is None else f"{error:.3f}",
            _said(entry["difference"], error),
        )
    show(leads)
    say("")
    scored, planned = whole["documents"], result["documents_planned"]
    say(f"{scored:,} of {planned:,} documents. {result['protocol']}")
    if result["left_out"]:
        say(result["left_out"])
    if result.get("tasks"):
        say("")
        show(_tasks(result["tasks"]))


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> "Table":
    from rich.markup import escape

    from pipelines.console import new_table, plain

    table = new_table(("task of lm-eval", "left"), ("metric", "left"), ("value", "right"))
    for name, found in tasks.items():
        for metric, value in found.items():
            shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            table.add_row(escape(plain(name, 60)), escape(plain(metric, 60)), shown)
    return table


def _score(value: float, best: float) -> str:
    return f"[bold]{value:.3f}[/]" if value == best else f"{value:.3f}"


def _said(difference: float, error: float | None) -> str:
    """Return in words how sure a difference is; below 2 standard errors nothing is claimed."""
    if error is None:
        return "one document: nothing to tell by"
    if abs(difference) < 2 * error:
        return "no difference that can be told"
    side = "better" if difference < 0 else "[red]worse[/]"
    return f"{side}, by {abs(difference) / error:,.0f} standard errors" if error else side

"""`preceptor check`: run a version's checks, or try others; every costly import is inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.options import STORE, CorpusArgument, StoreOption

if TYPE_CHECKING:
    from pipelines.checking import Check

__all__ = ["DespiteOption", "check", "show_results"]

DespiteOption = Annotated[
    str | None,
    typer.Option(
        "--despite-checks",
        help="Train although checks fail; the reason is recorded.",
        metavar="REASON",
    ),
]


def check(
    corpus: CorpusArgument,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            help="Try the checks of this recipe instead of the version's own; nothing is stored.",
            metavar="RECIPE.yaml",
        ),
    ] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Run a corpus's data tests; exit code 1 when one fails."""
    import json

    from pipelines.checks.evaluate import evaluate, offenders
    from pipelines.checks.records import history, in_force, results
    from pipelines.console import say
    from pipelines.corpus import open_corpus

    opened = open_corpus(corpus, store=store)
    checks = in_force(opened) if recipe is None else _tried(recipe)
    found = results(opened) if recipe is None else evaluate(opened, checks)
    shown = [{**row, "documents": []} for row in found]
    for row in shown:
        if not row["passed"]:
            row["documents"] = offenders(opened, checks[row["name"]])
    past = history(opened)
    if as_json:
        told = {"corpus": str(opened.version), "checks": shown, "history": past}
        typer.echo(json.dumps(told, indent=2))
    elif not found:
        say(f"{opened.version} has no checks; give its recipe some, under `checks:`")
    else:
        show_results(str(opened.version), shown)
        _show_history(past)
    if not all(row["passed"] for row in found):
        raise SystemExit(1)


def _tried(path: Path) -> "Mapping[str, Check]":
    from pipelines.checks.evaluate import check_columns
    from pipelines.recipe import load_recipe

    recipe = load_recipe(path)
    check_columns(recipe)
    return recipe.checks


def show_results(corpus: str, results: Sequence[Mapping[str, Any]]) -> None:
    """Print what checks gave, failed ones with the documents they name."""
    from rich.markup import escape

    from pipelines.checks.evaluate import told_value
    from pipelines.console import new_table, plain, say, show

    table = new_table(("check", "left"), ("", "left"), ("found", "prose"), ("wanted", "left"))
    for row in results:
        mark = "[green]ok[/]" if row["passed"] else "[red]fails[/]"
        told = [told_value(row["found"]) if row["found"] is not None else "", row["message"]]
        found = ": ".join(text for text in reversed(told) if text) or "-"
        table.add_row(
            escape(row["name"]), mark, escape(plain(found)), escape(plain(row["wanted"], 60))
        )
    show(table)
    for row in results:
        if row.get("documents"):
            say(f"{row['name']}: such as {', '.join(row['documents'])}")
    failed = sum(not row["passed"] for row in results)
    if failed:
        say(f"{corpus} fails {failed} of its {len(results)} checks; it is not ready to train on")
    else:
        say(f"{corpus} passes all its checks")


def _show_history(past: Sequence[Mapping[str, Any]]) -> None:
    from pipelines.checks.records import listed
    from pipelines.console import say

    for record in past[-5:]:
        what = "was refused" if record["event"] == "refused" else "trained nevertheless"
        why = f': "{record["reason"]}"' if "reason" in record else ""
        say(f"{record['at']}: run {record['run']} {what} ({listed(record['failed'])}){why}")

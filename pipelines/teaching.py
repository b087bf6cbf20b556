"""`preceptor classify`, as the command line sees it; every import that costs time is inside."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import STORE, CorpusArgument, StoreOption

__all__ = ["classify"]


def _side(name: str) -> tuple[typer.models.OptionInfo, typer.models.OptionInfo]:
    file = typer.Option(f"--{name}", help=f"A file of ids of {name} documents.", metavar="FILE")
    where = typer.Option(
        f"--{name}-where",
        help=f"Or a condition in SQL over signals, verdicts and origin that {name} ones satisfy.",
        metavar="SQL",
    )
    return file, where


_GOOD, _GOOD_WHERE = _side("good")
_BAD, _BAD_WHERE = _side("bad")


def classify(
    corpus: CorpusArgument,
    name: Annotated[str, typer.Option("--name", help="What it is to tell, such as quality.")],
    out: Annotated[Path, typer.Option("--out", help="The Arrow file to write.", metavar="FILE")],
    good: Annotated[Path | None, _GOOD] = None,
    bad: Annotated[Path | None, _BAD] = None,
    good_where: Annotated[str | None, _GOOD_WHERE] = None,
    bad_where: Annotated[str | None, _BAD_WHERE] = None,
    store: StoreOption = STORE,
) -> None:
    """Train a quality classifier from two sets of documents, and say how good it is."""
    from pipelines.classify import classify as train
    from pipelines.classify import tell
    from pipelines.console import say

    facts = train(
        corpus,
        store=store,
        name=name,
        out=out,
        good=good,
        bad=bad,
        good_where=good_where,
        bad_where=bad_where,
    )
    for line in tell(facts, out):
        say(line)

"""Commands that ask a corpus about its evidence; every import that costs time is inside."""

from typing import Annotated

import typer

from pipelines.options import STORE, CorpusArgument, CorpusOption, StoreOption

__all__ = ["compare_rules", "overlap"]


def compare_rules(
    left: Annotated[str, typer.Argument(help="A preset, or a recipe's file.", metavar="A")],
    right: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    corpus: CorpusOption,
    examples: Annotated[
        int, typer.Option("--examples", help="Documents to show of each side.", min=0)
    ] = 3,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show where two presets disagree about the documents of a corpus, with examples."""
    from pipelines.comparison import show_comparison
    from pipelines.corpus import open_corpus

    opened = open_corpus(corpus, store=store)
    show_comparison(opened, left, right, examples=examples, as_json=as_json)


def overlap(
    a: CorpusArgument,
    b: CorpusArgument,
    words: Annotated[int, typer.Option("--words", help="Words of an n-gram.", min=3, max=64)] = 13,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", help="Share of a document's n-grams that count.", min=0.01, max=1
        ),
    ] = 0.5,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the documents that were dropped.")
    ] = False,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how much of one corpus stands in another, both ways, by source."""
    from pipelines.overlap import show_overlap

    show_overlap(
        a,
        b,
        store=store,
        words=words,
        threshold=threshold,
        everything=everything,
        as_json=as_json,
    )

"""`preceptor diff`: what two versions of a corpus hold; every import that costs time is inside."""

from pathlib import Path
from typing import Annotated

import typer

from curate.corpus.errors import InputError
from pipelines.options import STORE, CorpusArgument, StoreOption

__all__ = ["diff"]


def diff(
    a: CorpusArgument,
    b: CorpusArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page, both corpora side by side.", metavar="FILE"),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Documents to show of each cause.", min=0, max=50)
    ] = 3,
    store: StoreOption = STORE,
    other_store: Annotated[
        str | None,
        typer.Option("--other-store", help="The store of B (default: that of A).", metavar="DIR"),
    ] = None,
) -> None:
    """Show what was gained, lost and changed from A to B, and what in the recipe caused it."""
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.diff import compare, same_version
    from pipelines.diff.page import write_page
    from pipelines.diff.text import show_difference

    if html is not None and html.is_dir():
        raise InputError(f"--html {html} is a folder; name a file, such as {html / 'diff.html'}")
    sides = open_corpus(a, store=store), open_corpus(b, store=other_store or store)
    if same_version(*sides) and html is None and not as_json:
        say(f"{sides[0].version} and {sides[1].version} are identical")
        return
    found = compare(*sides, num_samples=samples)
    if html is not None:
        write_page(found, html)
    show_difference(found, as_json=as_json)
    if html is not None and not as_json:
        say(f"page: {html}")

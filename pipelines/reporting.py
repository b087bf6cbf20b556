"""`preceptor report`: the page of a version or of a training run, or a store in a browser here."""

from pathlib import Path
from typing import Annotated

import typer

from curate.corpus.errors import InputError
from pipelines.options import STORE, OptionalCorpusArgument, StoreOption

__all__ = ["report"]

_PORT = 8790


def report(
    corpus: OptionalCorpusArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The HTML file (default: in the store).", metavar="FILE"),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Report on a training run instead: its folder, or the beginning of its id.",
            metavar="RUN",
        ),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Show all corpora of the store in a browser, until Ctrl-C."),
    ] = False,
    port: Annotated[
        int,
        typer.Option("--port", help="Of --serve; 0 picks a free one.", min=0, max=65535),
    ] = _PORT,
    store: StoreOption = STORE,
) -> None:
    """Write the report of a corpus, or of a run: one HTML file; or serve a store's reports."""
    if out is not None and out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    if run is not None:
        if serve or corpus is not None:
            given = "--serve" if serve else f"the corpus {corpus!r}"
            raise InputError(f"--run is about one training run; leave out {given}")
        _report_run(run, out, store)
        return
    if serve:
        from pipelines.serving import serve as start

        if corpus is not None or out is not None:
            given = f"the corpus {corpus!r}" if corpus is not None else "--out"
            raise InputError(f"--serve shows the whole store; leave out {given}")
        start(store, port=port)
        return
    if corpus is None:
        raise InputError("name a corpus (`preceptor list` shows them), or --serve the whole store")
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.paths import report_path
    from pipelines.report import write_report

    opened = open_corpus(corpus, store=store)
    say(f"report: {write_report(opened, out or report_path(opened))}")


def _report_run(name: str, out: Path | None, store: str) -> None:
    from pipelines.console import say
    from pipelines.paths import shown
    from pipelines.report.run import write_run_report
    from pipelines.runs import find_run
    from pipelines.store import Store

    opened = Store(store)
    page = write_run_report(find_run(name, store=opened), opened, out)
    say(f"report: {shown(page)}")

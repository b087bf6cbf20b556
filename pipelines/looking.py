"""Commands that show what is stored, a table or a run's steps; every costly import is inside."""

from pathlib import Path
from typing import Annotated

import typer

from curate.corpus.errors import InputError
from pipelines.options import STORE, CorpusArgument, OptionalCorpusArgument, StoreOption

__all__ = ["runs", "table", "trace"]

_OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write all rows to a file: .csv, .jsonl or .parquet.", metavar="FILE"
    ),
]
_RunsOption = Annotated[
    list[Path] | None,
    typer.Option("--runs", help="A folder of runs beside the store's. Repeatable.", metavar="DIR"),
]


def table(
    corpus: CorpusArgument,
    name: Annotated[
        str,
        typer.Argument(
            help="documents, raw, revisions, signals, duplicates, lines, cuts, contamination, "
            "verdicts, tokens, draws, plan_train, quarantine, or feedback (the loss of each "
            "document at each step of the store's runs on this version).",
            metavar="TABLE",
        ),
    ],
    where: Annotated[
        str | None,
        typer.Option("--where", help="A condition in SQL over the table's columns.", metavar="SQL"),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="Put the columns of other tables beside it, by document: documents, signals, "
            "verdicts, or some with commas between; a name that is taken becomes TABLE_COLUMN. "
            "feedback adds what the latest run measured of each document: feedback_nats, "
            "feedback_bits_per_byte ...",
            metavar="TABLES",
        ),
    ] = None,
    out: _OutOption = None,
    rows: Annotated[int, typer.Option("--rows", help="Rows to show.", min=0)] = 20,
    store: StoreOption = STORE,
) -> None:
    """Show a table of a corpus, or write it to a file."""
    from pipelines.tables import check_out, select, show_table, write_frame

    if out is None:
        show_table(corpus, name, where=where, rows=rows, store=store, beside=beside)
    else:
        check_out(out)
        frame = select(corpus, name, where=where, store=store, beside=beside)
        write_frame(frame.collect(), out)


def runs(
    corpus: OptionalCorpusArgument = None,
    runs: _RunsOption = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List training runs: on which corpus, how far they came, their held-out bits per byte."""
    from pipelines.runs import show_runs

    show_runs(corpus, store=store, folders=runs or (), as_json=as_json)


def trace(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's folder, its run.json, or the beginning of its id.", metavar="RUN"
        ),
    ],
    step: Annotated[
        int | None,
        typer.Argument(help="The step, from 1; it need not be trained yet.", metavar="STEP", min=1),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(
            "--document",
            help="The other way round: every step that reads this document.",
            metavar="ID",
        ),
    ] = None,
    row: Annotated[
        int | None, typer.Option("--row", help="Only this row of the step, from 0.", min=0)
    ] = None,
    out: _OutOption = None,
    store: StoreOption = STORE,
    runs: _RunsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show which documents a training step reads, or which steps read a document."""
    if (step is None) == (document is None):
        raise InputError("say which: `preceptor trace RUN STEP`, or RUN --document ID")
    if document is not None and row is not None:
        raise InputError("--row is of a step; leave it out beside --document")
    from pipelines.runs import find_run
    from pipelines.store import Store
    from pipelines.tracing import show_document, show_step

    found = find_run(run, store=Store(store), folders=runs or ())
    if step is not None:
        show_step(found, step, row=row, out=out, store=store, as_json=as_json)
    else:
        assert document is not None, "one of the two is given"
        show_document(found, document, out=out, store=store, as_json=as_json)

"""`preceptor export` and `preceptor import`; every import that costs time is inside."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import STORE, CorpusArgument, StoreOption

__all__ = ["export", "import_"]


def export(
    corpus: CorpusArgument,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="parquet (with a dataset card and Croissant metadata), webdataset (of images, "
            "sounds and pairs), megatron, olmo, datatrove or mds.",
            metavar="FORMAT",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder.", metavar="DIR")],
    what: Annotated[
        str,
        typer.Option(
            "--what",
            help="kept: every kept document once; drawn: the mixture, copies repeated.",
            metavar="WHAT",
        ),
    ] = "kept",
    phase: Annotated[
        str | None,
        typer.Option("--phase", help="One phase of what is drawn (default: all).", metavar="NAME"),
    ] = None,
    bos: Annotated[
        bool, typer.Option("--bos", help="Documents of token formats keep their first token.")
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Write documents or their tokens in a format that other tools read."""
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.exchange import export as write

    done = write(
        open_corpus(corpus, store=store), format_, out, what=what, phase=phase, keep_bos=bos
    )
    tokens = f", {done.tokens:,} tokens" if done.tokens else ""
    files = f"{done.files:,} file{'s' * (done.files != 1)}"
    say(f"{out}: {done.documents:,} documents{tokens} in {files}")
    for split, one in done.splits.items():
        say(f"  {split}: {one['documents']:,} documents")
    if done.reads is not None:
        say(f"read it with: {done.reads.format(folder=out / next(iter(done.splits)))}")
    else:
        say(f"read it with: datasets.load_dataset('{out}')")


def import_(
    corpus: CorpusArgument,
    format_: Annotated[
        str,
        typer.Option("--format", help="table, dolma or datatrove.", metavar="FORMAT"),
    ],
    from_: Annotated[
        list[Path],
        typer.Option("--from", help="A file or folder; may be given again.", metavar="PATH"),
    ],
    name: Annotated[str, typer.Option("--name", help="What the numbers are called together.")],
    out: Annotated[Path, typer.Option("--out", help="The Arrow file to write.", metavar="FILE")],
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="The source whose keys or files are meant.", metavar="SOURCE"
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="Only this column or tag; may be given again."),
    ] = None,
    spans: Annotated[
        str,
        typer.Option("--spans", help="Spans of a document become: mean, max, sum or count."),
    ] = "mean",
    store: StoreOption = STORE,
) -> None:
    """Bring in numbers that another tool computed: they become signals of the next run."""
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.exchange.importing import import_signals, tell

    done = import_signals(
        open_corpus(corpus, store=store),
        format_,
        from_,
        name=name,
        out=out,
        source=source,
        columns=columns or (),
        spans=spans,
    )
    for line in tell(done):
        say(line)

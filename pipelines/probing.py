"""`preceptor probe`: what a run's representation is worth for people's own labels, as a table.

Labels come from a file, from a field of the documents' `meta`, or are the documents' sources. The
measuring is the trainer's (`train.probe`), in a process of its own.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.corpus.errors import InputError, one_of
from pipelines.options import STORE, StoreOption

if TYPE_CHECKING:
    import polars as pl

    from pipelines.runs import FoundRun
    from pipelines.store import Store

__all__ = ["labelled", "probe"]

_KINDS = (".csv", ".jsonl", ".ndjson", ".parquet")


def probe(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's folder, its run.json, or the beginning of its id.", metavar="RUN"
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="A file (CSV, JSONL, Parquet) with `label` and `doc_id` or `key`; `meta:FIELD` "
            "of the documents; or `source`.",
            metavar="FILE|meta:FIELD|source",
        ),
    ],
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="What must not be in two parts, such as a speaker: a column of the file, "
            "`meta:FIELD` or `source`.",
            metavar="COLUMN|meta:FIELD|source",
        ),
    ] = None,
    k: Annotated[
        str, typer.Option("--k", help="Labels of each class, with commas between.", metavar="LIST")
    ] = "1,10,all",
    draws: Annotated[int, typer.Option("--draws", help="Draws of labels.", min=2)] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and the draws.", min=0)] = 0,
    tune: Annotated[
        bool,
        typer.Option("--tune/--no-tune", help="Also train on the labels, from scratch and on."),
    ] = True,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Measure what a run has learnt with few labels of your own, beside honest controls."""
    from pipelines.evaluating import measured
    from pipelines.runs import find_run
    from pipelines.store import Store

    opened = Store(store)
    found = find_run(run, store=opened)
    asked = ["--k", k, "--draws", str(draws), "--seed", str(seed), *([] if tune else ["--no-tune"])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.parquet"
        labelled(found, labels, group, opened).write_parquet(path)
        told = ["probe", str(found.path), "--labels", str(path), *asked]
        result = measured(told, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        show_probe(result)


def labelled(run: "FoundRun", labels: str, group: str | None, store: "Store") -> "pl.DataFrame":
    """Return doc_id (hex), label and perhaps group, strings; documents without one are left out.

    Args:
        run: whose corpus has the documents.
        labels: a file, `meta:FIELD` or `source`.
        group: a column of the file, `meta:FIELD`, `source` or None.
        store: of the corpus, opened only where the file does not say it all.

    Raises:
        InputError: no such file, column or field; ids that are none; labels for no document.
    """
    import polars as pl

    if labels == "source" or labels.startswith("meta:"):
        frame = _documents(run, store, {"label": labels} | ({"group": group} if group else {}))
    else:
        table = _file(Path(labels))
        ours = group is not None and group not in table.columns
        if group is not None and not ours:
            table = table.with_columns(group=pl.col(group).cast(pl.String))
        if "doc_id" in table.columns and not ours:
            frame = table
        else:
            by = "doc_id" if "doc_id" in table.columns else "key"
            wanted = {"group": group} if group is not None and ours else {}
            documents = _documents(run, store, wanted, key=by == "key")
            frame = table.join(documents, on=by, how="inner")
    names = ["doc_id", "label", *(["group"] if group else [])]
    frame = frame.select(pl.col(name).cast(pl.String) for name in names).drop_nulls()
    bad = frame.filter(~pl.col("doc_id").str.contains("^[0-9a-fA-F]{32}$"))
    if bad.height:
        raise InputError(
            f"{labels}: {bad['doc_id'][0]!r:.60} is no doc_id, which has 32 hex digits"
        )
    if not frame.height:
        raise InputError(
            f"--labels {labels}: no document of {run.corpus} has such a label"
            + (" and a group" if group else "")
            + "; `preceptor table` shows the documents"
        )
    return frame.unique("doc_id", keep="first", maintain_order=True)


def _file(path: Path) -> "pl.DataFrame":
    import polars as pl

    if path.suffix not in _KINDS:
        raise InputError(
            f"--labels {path}: give a file that ends with {', '.join(_KINDS)}, `meta:FIELD` or "
            "`source`"
        )
    if not path.is_file():
        raise InputError(f"--labels {path}: there is no such file")
    try:
        if path.suffix == ".csv":
            table = pl.read_csv(path, infer_schema=False)
        elif path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_ndjson(path)
        if "doc_id" in table.columns and table.schema["doc_id"] == pl.Binary:
            table = table.with_columns(pl.col("doc_id").bin.encode("hex"))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"--labels {path} cannot be read: {str(error).splitlines()[0]}") from error
    if "label" not in table.columns:
        raise InputError(one_of("column", "label", table.columns) + f" (in {path})")
    if not {"doc_id", "key"} & set(table.columns):
        raise InputError(f"{path} has neither a column doc_id nor key, to tell the documents by")
    if "key" in table.columns:
        table = table.with_columns(pl.col("key").cast(pl.String))
    return table


def _documents(
    run: "FoundRun", store: "Store", wanted: Mapping[str, str], *, key: bool = False
) -> "pl.DataFrame":
    """Return doc_id, perhaps key, and what is wanted of the corpus's documents, by name."""
    import polars as pl

    from pipelines.corpus import open_corpus

    documents = open_corpus(run.corpus, store=store).table("documents")
    frame: pl.DataFrame = documents.select("doc_id", "key", "source", "meta").collect()
    found = frame.select("doc_id", *(["key"] if key else []))
    for name, where in wanted.items():
        if where == "source":
            values = frame["source"]
        elif where.startswith("meta:"):
            field = where.removeprefix("meta:")
            values = pl.Series([_told(meta, field) for meta in frame["meta"]], dtype=pl.String)
        else:
            raise InputError(
                f"--group {where}: give a column of the labels' file, `meta:FIELD` or `source`"
            )
        if values.null_count() == len(values):
            raise InputError(f"{where}: no document of {run.corpus} has it")
        found = found.with_columns(values.alias(name))
    return found


def _told(meta: str | None, field: str) -> str | None:
    """Return a field of a document's `meta` as text; None where it is not there, or no scalar."""
    value = json.loads(meta or "{}").get(field)
    return None if value is None or isinstance(value, dict | list) else str(value)


def show_probe(result: Mapping[str, Any]) -> None:
    """Print the table of a probe."""
    from rich.markup import escape

    from pipelines.console import new_table, say, show

    corpus, counts = result["corpus"], result["documents"]
    table = new_table(
        ("probe", "left"),
        ("labels", "right"),
        ("ours", "right"),
        ("control", "left"),
        ("its", "right"),
        ("difference", "right"),
        ("standard error", "right"),
        ("that is", "left"),
        title=escape(f"{result['objective']} on {corpus['name']}@{corpus['version']}: accuracy"),
    )
    for row in result["rows"]:
        table.add_row(
            row["probe"],
            "all" if row["shots"] is None else f"{row['shots']} a class",
            f"{row['ours']:.3f}",
            row["control"],
            f"{row['against']:.3f}",
            f"{row['difference']:+.3f}",
            f"{row['standard_error']:.3f}",
            "better" if row["better"] else "[red]worse[/]" if row["worse"] else "no difference",
        )
    show(table)
    say("")
    groups = f" of {result['groups']:,} groups" if result["groups"] else ""
    say(
        f"{len(result['classes'])} labels; {counts['train']:,} documents to learn from, "
        f"{counts['validation']:,} to choose by, {counts['test']:,} to measure on{groups}. "
        f"{result['protocol']}"
    )
    say(
        "With some number of labels it is above every control by two standard errors, and nowhere "
        "below the untrained encoder."
        if result["works"]
        else "It is NOT shown to be worth having: above every control somewhere, it was not."
    )

"""`preceptor table`: look at a table of a corpus, or write it to a file."""

from pathlib import Path
from typing import Any

import polars as pl
from rich.cells import cell_len
from rich.markup import escape

from curate.corpus.errors import InputError, one_of
from pipelines.console import console, new_table, plain, say, show
from pipelines.corpus import FEEDBACK, Corpus, open_corpus

__all__ = ["JOINED", "check_out", "select", "show_frame", "show_table", "write_frame"]

#: Tables with one row per document, which can stand beside any table that has documents; of the
#: feedback of the latest run, a row per document is made.
JOINED = ("documents", FEEDBACK, "signals", "verdicts")
_SUFFIXES = (".csv", ".jsonl", ".parquet")
_MAX_CELL = 60


def select(
    corpus: str, name: str, *, where: str | None, store: str, beside: str | None = None
) -> pl.LazyFrame:
    """Return a table, with columns of others beside it, filtered by a condition in SQL.

    Args:
        corpus: NAME or NAME@VERSION.
        name: the table.
        where: the condition.
        store: the store.
        beside: names of tables of `JOINED`, with commas between; they are joined by document.

    Raises:
        InputError: the condition does not parse, names another column, or is no row-wise condition;
            a table that cannot be joined.
    """
    from curate.rules.expression import parse_rule

    opened = open_corpus(corpus, store=store)
    frame = opened.table(name) if beside is None else _joined(opened, name, beside.split(","))
    if where is None:
        return frame
    schema = frame.collect_schema()
    columns = {
        column: dtype
        for column, dtype in schema.items()
        if not isinstance(dtype, pl.List | pl.Struct)
    }
    joined = [column for column, dtype in schema.items() if dtype == pl.List(pl.String)]
    columns |= dict.fromkeys(joined, pl.String())
    try:
        rule = parse_rule("where", where, columns)
    except InputError as error:
        told = str(error).replace("signals are", "columns are").replace("rule 'where'", "condition")
        raise InputError(f"--where: {told}") from None
    data = frame.collect()
    texts = data.lazy().with_columns(pl.col(column).list.join(" ") for column in joined)
    mask = texts.select(rule.expression.fill_null(value=False).alias("where")).collect().to_series()
    return data.filter(mask).lazy()


def _joined(corpus: Corpus, name: str, others: list[str]) -> pl.LazyFrame:
    """Return a table with the columns of others beside it, known by the document's id.

    A column that an earlier table has as well, and every one of feedback, is called TABLE_COLUMN;
    hashes of the text, and a source that stands there already, are left out.
    """
    frame = corpus.table(name, hex_ids=False)
    if "doc_id" not in frame.collect_schema():
        raise InputError(f"--with needs rows with documents, and the table {name!r} has none")
    for other in (word.strip() for word in others):
        if other not in JOINED:
            raise InputError("--with: " + one_of("table of one row per document", other, JOINED))
        there = set(frame.collect_schema())
        right = _of_documents(corpus, other).drop("text_hash", strict=False)
        names = set(right.collect_schema()) - {"doc_id"}
        right = right.drop({"source"} & names & there)
        same = sorted(names if other == FEEDBACK else (names & there) - {"source"})
        right = right.rename({column: f"{other}_{column}" for column in same})
        frame = frame.join(right, on="doc_id", how="left", maintain_order="left")
    binary = [column for column, dtype in frame.collect_schema().items() if dtype == pl.Binary]
    return frame.with_columns(pl.col(column).bin.encode("hex") for column in binary)


def _of_documents(corpus: Corpus, name: str) -> pl.LazyFrame:
    if name != FEEDBACK:
        return corpus.table(name, hex_ids=False)
    from pipelines.runs import document_losses, runs_of

    return document_losses(runs_of(corpus.store, corpus.version))


def show_table(
    corpus: str, name: str, *, where: str | None, rows: int, store: str, beside: str | None = None
) -> None:
    """Print the first rows of a table."""
    found = select(corpus, name, where=where, store=store, beside=beside)
    show_frame(found, rows)


def show_frame(found: pl.LazyFrame, rows: int) -> None:
    """Print the first rows of a frame, as a table where it fits, else a value on each line."""
    total = found.select(pl.len()).collect().item()
    frame = _sized(found.head(rows).collect())
    cells = [[_cell(value) for value in row] for row in frame.iter_rows()]
    if _width(frame.columns, cells) <= console.width:
        table = new_table(
            *(
                (column, "right" if dtype.is_numeric() else "left")
                for column, dtype in frame.schema.items()
            )
        )
        for row in cells:
            table.add_row(*map(escape, row))
        show(table)
    else:  # one line per value, as in psql: ids stay whole at any width
        names = [column.ljust(max(map(len, frame.columns))) for column in frame.columns]
        for row in cells:
            for name, cell in zip(names, row, strict=True):
                say(f"{name}  {cell}")
            say("")
    say(
        f"{min(rows, total):,} of {total:,} rows"
        + ("" if total <= rows else "; --rows N shows more, --out FILE writes all")
    )


def _sized(frame: pl.DataFrame) -> pl.DataFrame:
    """Tell the size of images and sounds instead of their bytes, which nobody can read."""
    if not {"media", "media_bytes"} <= set(frame.columns):
        return frame
    return frame.with_columns(media=pl.format("{} bytes", pl.col("media_bytes")))


def _width(columns: list[str], cells: list[list[str]]) -> int:
    widths = [
        max([cell_len(name), *(cell_len(row[index]) for row in cells)])
        for index, name in enumerate(columns)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return plain(", ".join(map(str, value)), _MAX_CELL)
    return plain(str(value).replace("\n", " "), _MAX_CELL)


def check_out(out: Path) -> None:
    """Refuse a file that no table can be written to.

    Raises:
        InputError: another suffix than .csv, .jsonl or .parquet, or a folder.
    """
    if out.suffix not in _SUFFIXES:
        raise InputError(one_of("file suffix", out.suffix, _SUFFIXES))
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file")


def write_frame(frame: pl.DataFrame, out: Path) -> None:
    """Write a frame to .csv, .jsonl or .parquet; images and sounds only to .parquet."""
    check_out(out)
    if "media_hash" in frame.columns and "media" in frame.columns:
        if out.suffix == ".parquet":
            frame = frame.with_columns(pl.col("media").str.decode("hex"))
        else:
            frame = frame.drop("media")
            say("the column media is left out: only a .parquet holds bytes")
    if out.suffix == ".csv":
        frame = _flat(frame)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        frame.write_parquet(out)
    elif out.suffix == ".jsonl":
        frame.write_ndjson(out)
    else:
        frame.write_csv(out)
    say(f"{out}: {frame.height:,} rows")


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Join lists with blanks; a CSV has no other nested values.

    Raises:
        InputError: a column of records.
    """
    for column, dtype in frame.schema.items():
        if isinstance(dtype, pl.Struct) or (
            isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct | pl.List)
        ):
            raise InputError(f"a CSV cannot hold the column {column!r}; use .jsonl or .parquet")
        if isinstance(dtype, pl.List):
            frame = frame.with_columns(pl.col(column).cast(pl.List(pl.String)).list.join(" "))
    return frame

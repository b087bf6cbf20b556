"""`preceptor table`: look at a table of a corpus, or write it to a file."""

from pathlib import Path
from typing import Any

import polars as pl
from rich.markup import escape

from curate.corpus.errors import InputError, one_of
from pipelines.console import _table, console, plain, say
from pipelines.corpus import open_corpus

__all__ = ["select", "show_table", "write_table"]

_SUFFIXES = (".csv", ".jsonl", ".parquet")
_MAX_CELL = 60


def select(corpus: str, name: str, *, where: str | None, store: str) -> pl.LazyFrame:
    """Return a table, filtered by a condition in SQL.

    Raises:
        InputError: the condition does not parse, names another column, or is no row-wise condition.
    """
    from curate.rules.expression import parse_rule

    frame = open_corpus(corpus, store=store).table(name)
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
        raise InputError(f"--where: {str(error).replace('signals are', 'columns are')}") from None
    texts = frame.with_columns(pl.col(column).list.join(" ") for column in joined)
    mask = texts.select(rule.expression.fill_null(value=False).alias("where")).collect().to_series()
    return frame.collect().filter(mask).lazy()


def show_table(corpus: str, name: str, *, where: str | None, rows: int, store: str) -> None:
    """Print the first rows of a table."""
    found = select(corpus, name, where=where, store=store)
    total = found.select(pl.len()).collect().item()
    frame = found.head(rows).collect()
    table = _table(
        *(
            (column, "right" if dtype.is_numeric() else "left")
            for column, dtype in frame.schema.items()
        )
    )
    for row in frame.iter_rows():
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)
    say(
        f"{min(rows, total):,} of {total:,} rows"
        + ("" if total <= rows else "; --rows N shows more, --out FILE writes all")
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return plain(", ".join(map(str, value)), _MAX_CELL)
    return plain(str(value).replace("\n", " "), _MAX_CELL)


def write_table(corpus: str, name: str, *, where: str | None, out: Path, store: str) -> None:
    """Write a table to .csv, .jsonl or .parquet."""
    if out.suffix not in _SUFFIXES:
        raise InputError(one_of("file suffix", out.suffix, _SUFFIXES))
    frame = select(corpus, name, where=where, store=store).collect()
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        frame.write_parquet(out)
    elif out.suffix == ".jsonl":
        frame.write_ndjson(out)
    else:
        nested = [
            column
            for column, dtype in frame.schema.items()
            if isinstance(dtype, pl.List | pl.Struct)
        ]
        texts = [
            pl.col(c).list.join(" ") if frame.schema[c] == pl.List(pl.String) else pl.lit("")
            for c in nested
        ]
        frame.with_columns(t.alias(c) for t, c in zip(texts, nested, strict=True)).write_csv(out)
    say(f"{out}: {frame.height:,} rows")

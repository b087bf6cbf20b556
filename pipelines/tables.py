"""`preceptor table`: look at a table of a corpus, or write it to a file."""

from pathlib import Path
from typing import Any

import polars as pl
from rich.cells import cell_len
from rich.markup import escape

from curate.corpus.errors import InputError, one_of
from pipelines.console import console, new_table, plain, say, show
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
        told = str(error).replace("signals are", "columns are").replace("rule 'where'", "condition")
        raise InputError(f"--where: {told}") from None
    texts = frame.with_columns(pl.col(column).list.join(" ") for column in joined)
    mask = texts.select(rule.expression.fill_null(value=False).alias("where")).collect().to_series()
    return frame.collect().filter(mask).lazy()


def show_table(corpus: str, name: str, *, where: str | None, rows: int, store: str) -> None:
    """Print the first rows of a table."""
    found = select(corpus, name, where=where, store=store)
    total = found.select(pl.len()).collect().item()
    frame = found.head(rows).collect()
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


def write_table(corpus: str, name: str, *, where: str | None, out: Path, store: str) -> None:
    """Write a table to .csv, .jsonl or .parquet."""
    if out.suffix not in _SUFFIXES:
        raise InputError(one_of("file suffix", out.suffix, _SUFFIXES))
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file")
    frame = select(corpus, name, where=where, store=store).collect()
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

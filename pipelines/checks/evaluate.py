"""Running checks: the corpus's tables as lazy frames, one query each, and what it gave.

Whatever goes wrong in a query is a failed check with its message, never a pass: no row, NULL, NaN,
a division by zero, text where a number is wanted.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import read_shard
from curate.tokens.shards import token_lengths, token_schema
from pipelines.checking import Check, Expectation
from pipelines.checks.select import Select
from pipelines.corpus import Corpus
from pipelines.demanded import families_of, signals_read
from pipelines.recipe import Recipe

__all__ = ["MAX_SHOWN", "check_columns", "evaluate", "offenders", "told_value", "wanted"]

MAX_SHOWN = 5  # documents, or values, of a check that fails
_MAX_CELL = 60
_CONVERSION = re.compile(
    r"conversion from `[^`\n]*` to `[^`\n]*` failed in column '[^'\n]*' for \d+ out of \d+ values"
)
_REWRITTEN = re.compile(
    r" at Line: \d+, Column: \d+| \(lhs: .*\)(?=;|$)| [-+*] CAST\([01] AS (?:HUGEINT|DOUBLE)\)"
)
_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "equals": operator.eq,
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}
_SIGNS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}


def check_columns(recipe: Recipe) -> None:
    """Refuse, before any work, checks that read what no table of this recipe's corpus will have.

    Raises:
        InputError: an unknown column, types that do not fit, or a ready-made query about evidence
            that the recipe does not collect.
    """
    if not recipe.checks:
        return
    schemas = _schemas(recipe)
    for name, check in recipe.checks.items():
        _check_evidence(name, check, recipe)
        queries = [check.query] + ([_shown(check)] if check.show else [])
        for query in queries:
            frames = {table: pl.LazyFrame(schema=schemas[table]) for table in query.tables}
            columns = [column for table in query.tables for column in schemas[table]]
            for column in query.names:
                if column not in columns:
                    raise InputError(_unknown(name, column, columns, query))
            try:
                _frame(query, frames).collect(engine="streaming")
            except _FAILURES as error:
                raise InputError(f"checks.{name} cannot be evaluated: {_told(error)}") from None


def evaluate(corpus: Corpus, checks: Mapping[str, Check]) -> list[dict[str, Any]]:
    """Run checks on a version.

    Returns:
        For each: `name`, `sql`, `passed`, `found` (a JSON value or a line of text), `wanted`, and
        `message`, which says why a check failed where `found` does not.

    Raises:
        IntegrityError, OSError: a file of the store cannot be read.
    """
    tables = {table for check in checks.values() for table in check.query.tables}
    frames = {table: _table(corpus, table) for table in sorted(tables)}
    results = []
    for name, check in checks.items():
        try:
            frame = _frame(check.query, frames)
            frame.collect_schema()
        except _FAILURES as error:  # no data has been looked at
            passed, found, message = False, None, _told(error)
        else:
            passed, found, message = _judged(check, frame)
        results.append(
            {
                "name": name,
                "sql": check.query.sql,
                "passed": passed,
                "found": found,
                "wanted": wanted(check),
                "message": message,
            }
        )
    return results


def offenders(corpus: Corpus, check: Check) -> list[str]:
    """Return up to `MAX_SHOWN` ids of documents that a failed check is about, if it can name them.

    They are those of its `show`, or the rows that a `SELECT COUNT(*) FROM ...` counts.
    """
    query = check.query
    if check.show is not None:
        query, text = _shown(check), _shown(check).text
    elif query.is_count and check.given[0] not in ("at_least", "above"):
        text = query.text.replace("COUNT ( * )", '"doc_id"', 1)
    else:
        return []
    try:
        frames = {table: _table(corpus, table) for table in query.tables}
        frame = pl.SQLContext(frames).execute(text, eager=False)
        found = frame.select(pl.col("doc_id").cast(pl.String).unique().bottom_k(MAX_SHOWN))
        return sorted(found.collect(engine="streaming")["doc_id"].drop_nulls().to_list())
    except _FAILURES:
        return []


def wanted(check: Expectation) -> str:
    """Say in a few words what a check wants.

    >>> wanted(Check(sql="SELECT COUNT(*) FROM tokens", between=[0.9, 1]))
    'between 0.9 and 1'
    >>> wanted(Check(sql="SELECT tokens FROM tokens", each={"at_most": 10}))
    'each <= 10'
    """
    name, value = check.given
    if name == "each":
        return f"each {wanted(value)}"
    if name == "between":
        return f"between {value[0]} and {value[1]}"
    if name in ("one_of", "within"):
        told = ", ".join("null" if one is None else str(one) for one in value)
        lead = "one of " if name == "one_of" else "all in "
        return lead + (told if len(told) <= _MAX_CELL else f"{len(value)} values")
    return f"{_SIGNS.get(name, '=')} {value}"


def _check_evidence(name: str, check: Check, recipe: Recipe) -> None:
    if check.use == "contaminated_documents" and not recipe.decontaminate.against:
        raise InputError(
            f"checks.{name}: decontaminate.against names no benchmark, so nothing would be found"
        )
    if check.use == "pii_per_million_tokens" and recipe.clean.redact is None:
        raise InputError(
            f"checks.{name} counts what clean.redact finds, and this recipe redacts nothing; add "
            "`clean: {redact: [email, ip]}`"
        )


def _unknown(name: str, column: str, columns: list[str], query: Select) -> str:
    known = list(dict.fromkeys(columns))
    return (
        f"checks.{name} reads {column!r}; columns of {', '.join(query.tables)} are: "
        f"{', '.join(known[:40])}{', ...' if len(known) > 40 else ''}.{did_you_mean(column, known)}"
    )


def _schemas(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return table -> column -> polars type, as `_table` will give them."""
    from curate.signals.registry import POLARS_TYPES, families, units

    found = {
        name: _typed(pl.DataFrame(pl.from_arrow(schema.empty_table())).schema)
        for name, schema in SCHEMAS.items()
    }
    found["tokens"] = {
        name: pl.Int64() if name in ("tokens", "num_bytes") else pl.String()
        for name in token_schema("uint16").names
    }
    types: dict[Any, Any] = dict(POLARS_TYPES)
    always, asked = families_of(recipe, signals_read(recipe))
    measured = [families()[name].signals for name in [*always, *asked]]
    measured += [unit.signals for unit in units(recipe.measure.model_dump(mode="json"))]
    found["signals"] = {"doc_id": pl.String(), "text_hash": pl.String()} | {
        name: types[signal.dtype] for signals in measured for name, signal in signals.items()
    }
    return found


def _typed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types a check sees: ids as text, integers of 64 bits (sums of 32 would wrap)."""

    def typed(dtype: Any) -> Any:
        if dtype == pl.Binary():
            return pl.String()
        return pl.Int64() if dtype.is_integer() else dtype

    return {name: typed(dtype) for name, dtype in schema.items()}


def _table(corpus: Corpus, name: str) -> pl.LazyFrame:
    """Return a table as checks see it; `tokens` has each document's number of them."""
    if name == "tokens":
        return _token_counts(corpus)
    frame = corpus.table(name)
    schema = frame.collect_schema()
    changed = {n: t for n, t in _typed(schema).items() if t != schema[n]}
    return frame.with_columns(pl.col(n).cast(t) for n, t in changed.items())


def _token_counts(corpus: Corpus) -> pl.LazyFrame:
    """Return the token shards without the tokens; a shard at a time is looked at.

    Forgotten documents are left out: their place in a shard holds padding.
    """
    gone = [one.hex() for one in corpus.forgotten()]
    schema = {name: pl.String() for name in ("doc_id", "source", "split")}
    parts = [pl.DataFrame(schema={**schema, "tokens": pl.Int64(), "num_bytes": pl.Int64()})]
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard)
        counted = pl.DataFrame({"tokens": token_lengths(table)}, schema={"tokens": pl.Int64()})
        named = pl.DataFrame(pl.from_arrow(table.select([*schema, "num_bytes"])))
        named = named.with_columns(pl.col("doc_id").bin.encode("hex"))
        parts.append(named.hstack(counted).select(parts[0].columns))
    return pl.concat(parts).lazy().filter(~pl.col("doc_id").is_in(gone))


def _frame(query: Select, frames: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    context = pl.SQLContext({table: frames[table] for table in query.tables})
    return context.execute(query.text, eager=False)


def _shown(check: Check) -> Select:
    from pipelines.checks.select import parse_select

    assert check.show is not None, "asked for what it shows"
    return parse_select(check.show)


def _judged(check: Check, frame: pl.LazyFrame) -> tuple[bool, Any, str]:
    """Do `_judge`; what the engine says of data is not passed on, since it quotes the data."""
    try:
        return _judge(check, frame)
    except _FAILURES as error:
        known = _CONVERSION.match(str(error))
        kind = type(error).__name__
        return False, None, known[0] if known else f"cannot be evaluated on this corpus ({kind})"


def _judge(check: Check, frame: pl.LazyFrame) -> tuple[bool, Any, str]:
    """Return whether a query's result is as wanted, what it is, and what is wrong with it."""
    name, value = check.given
    columns = frame.collect_schema()
    if name in ("within", "each"):
        return _judge_column(check, frame, columns)
    if len(columns) != 1:
        return False, None, f"gives {len(columns)} columns ({', '.join(columns)}); one is wanted"
    if problem := _nested(columns):
        return False, None, problem
    rows = frame.head(2).collect(engine="streaming")
    if rows.height != 1:
        return False, None, "gives no row" if not rows.height else "gives more than one row"
    found = _plain(rows.item())
    if found is None:
        return False, None, "gives NULL"
    if isinstance(found, float) and not math.isfinite(found):
        return False, str(found), "gives no finite number"
    if problem := _misfit(found, name, value):
        return False, _clipped(found), problem
    return _holds(found, name, value), _clipped(found), ""


def _judge_column(
    check: Check, frame: pl.LazyFrame, columns: Mapping[str, Any]
) -> tuple[bool, Any, str]:
    """Do `_judge` for `within` and `each`."""
    name, value = check.given
    most = 1 if name == "within" else 2
    if not 1 <= len(columns) <= most:
        return False, None, f"gives {len(columns)} columns ({', '.join(columns)}); too many"
    if problem := _nested(columns):
        return False, None, problem
    last = list(columns)[-1]
    if name == "within":
        bad = _not_in(pl.col(last), value, columns[last])
    else:
        inner, limit = value.given
        sample = limit[0] if isinstance(limit, list) else limit
        if problem := _misfit(_zero(columns[last]), inner, sample):
            return False, None, problem
        bad = ~_condition(pl.col(last), inner, limit, columns[last])
        if columns[last].is_float():
            bad |= ~pl.col(last).is_finite()
        bad = bad.fill_null(value=True)
    counts = frame.select(rows=pl.len(), bad=bad.sum()).collect(engine="streaming")
    total, wrong = counts.row(0)
    if not total:
        return check.empty == "passes", None, "gives no row"
    if not wrong:
        return True, f"all of {total:,}", ""
    worst = frame.filter(bad).unique().sort(list(columns)).head(MAX_SHOWN)
    rows = worst.collect(engine="streaming").rows()
    told = [_short(" ".join(map(_cell, row))) for row in rows]
    return False, f"{wrong:,} of {total:,} are not: {', '.join(told)}", ""


def _nested(columns: Mapping[str, Any]) -> str:
    """Say which column has no plain values."""
    found = [name for name, dtype in columns.items() if dtype.is_nested()]
    return f"{found[0]} is a list; one value is wanted, as of ARRAY_LENGTH" if found else ""


def _not_in(column: pl.Expr, allowed: Iterable[Any], dtype: Any) -> pl.Expr:
    """Return which values are not allowed; NULL is only where the list says so."""
    values = list(allowed)
    return (~_is_in(column, values, dtype)).fill_null(value=None not in values)


def _is_in(column: pl.Expr, values: Iterable[Any], dtype: Any) -> pl.Expr:
    """Return which values are listed; those of another kind than the column's are not looked at."""
    fitting = [v for v in values if v is not None and not _misfit(_zero(dtype), "equals", v)]
    if dtype.is_integer():
        fitting = [int(v) for v in fitting if v == int(v) and abs(v) < 2**127]
        column, dtype = column.cast(pl.Int128), pl.Int128()
    elif dtype.is_numeric():
        fitting = [float(v) for v in fitting]
        column, dtype = column.cast(pl.Float64), pl.Float64()
    return column.is_in(pl.Series(fitting, dtype=dtype).implode())


def _condition(column: pl.Expr, name: str, value: Any, dtype: Any) -> pl.Expr:
    if name == "between":
        return column.is_between(value[0], value[1])
    return _is_in(column, value, dtype) if name == "one_of" else _COMPARED[name](column, value)


def _holds(found: Any, name: str, value: Any) -> bool:
    if name == "between":
        return bool(value[0] <= found <= value[1])
    if name == "one_of":
        return found in [one for one in value if not _misfit(found, "equals", one)]
    return bool(_COMPARED[name](found, value))


def _misfit(found: Any, name: str, value: Any) -> str:
    """Say what is wrong with comparing a value of this kind; truth is no number here."""
    if name == "one_of":
        return ""
    sample = value[0] if isinstance(value, list) else value
    if _kind(found) == _kind(sample):
        return ""
    return f"gives {_kind(found)} where {_kind(sample)} is wanted"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "something else"


def _zero(dtype: Any) -> Any:
    """Return some value of a column's kind."""
    if dtype == pl.Boolean():
        return False
    if dtype.is_numeric():
        return 0
    return "" if dtype == pl.String() else None


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _clipped(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else _cell(value)


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    text = f"{_plain(value):.6g}" if isinstance(value, float | Decimal) else str(value)
    return _short(text)


def _short(text: str) -> str:
    """Return a line of at most `_MAX_CELL` characters: results are kept, corpus text is not."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CELL else line[: _MAX_CELL - 3] + "..."


def _told(error: BaseException) -> str:
    """Return what the engine says of a query, without what is about the text that it was given."""
    lines = str(error).splitlines() or [type(error).__name__]
    if "recursion limit" in lines[0]:
        return "it is nested too deeply"
    return _REWRITTEN.sub("", lines[0])[:200]


def told_value(value: Any) -> str:
    """Return a found value as people read it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # a product of integers
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

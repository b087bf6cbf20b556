"""A rule: one named KEEP predicate over signals, in SQL, checked before any work starts.

>>> import polars as pl
>>> rule = parse_rule("words", "num_words BETWEEN 3 AND 100", {"num_words": pl.Int64()})
>>> rule.reads, rule.reason
(('num_words',), 'rule:recipe.words')
>>> margin(rule, pl.DataFrame({"num_words": [1, 5, 99]})).to_list()
[-2.0, 2.0, 1.0]
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from curate.rules.compile import Node, NotAllowedError, column_kind, compile_tree

__all__ = [
    "MAX_SQL_CHARS",
    "OWN",
    "OnNull",
    "Rule",
    "Value",
    "by_source",
    "margin",
    "parse_rule",
    "parse_value",
    "reason",
]

OnNull = Literal["keep", "drop", "refuse"]
OWN = "recipe"  # the preset's name for the rules a recipe adds itself
MAX_SQL_CHARS = 20_000
_MAX_OPERATORS = 500  # thousands in a row overflow polars' stack, and the process is gone
_STRINGS = re.compile(r"'(?:[^']|'')*'")
_OPERATORS = re.compile(r"[-+*/%<>=!|&^(]+|\b(?:and|or|not|between|like|ilike|is)\b", re.IGNORECASE)
MAX_NAMES_SHOWN = 40

# polars opens the file of `(SELECT ... FROM read_csv('x'))` while it parses, so this comes first.
# It looks inside strings too: a false alarm is better than a way around it.
READS_TABLES = re.compile(r"\bselect\b|\b(?:read|scan)_\w+\s*\(|\(\s*from\b", re.IGNORECASE)
WINDOW = re.compile(r"\bover\s*\(", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A predicate that a document must satisfy to be kept.

    Attributes:
        name: the rule's own name, unique inside its preset.
        sql: as written.
        reads: the columns it reads, sorted.
        expression: the compiled row-wise boolean expression.
        on_null: what a null outcome means: keep, drop, or refuse to go on.
        preset: the preset it belongs to, `recipe` for a recipe's own rules.
        distance: float64 distance to the nearest threshold (see `margin`), None if undefined.
        overrides: source -> the rule that its documents must satisfy instead, of the same reason.
    """

    name: str
    sql: str
    reads: tuple[str, ...]
    expression: pl.Expr = field(compare=False, repr=False)
    on_null: OnNull = "refuse"
    preset: str = OWN
    distance: pl.Expr | None = field(default=None, compare=False, repr=False)
    overrides: Mapping[str, "Rule"] = field(default_factory=dict, compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read: its own and its overrides', sorted."""
        others = (name for rule in self.overrides.values() for name in rule.reads)
        return tuple(sorted({*self.reads, *others}))

    def of(self, source: str) -> "Rule":
        """Return the rule as it stands for a source's documents."""
        return self.overrides.get(source, self)

    @property
    def reason(self) -> str:
        """The reason a verdict gives when this rule drops a document."""
        return reason(self.preset, self.name)


def reason(preset: str, rule: str) -> str:
    """Return `rule:<preset>.<name>`.

    >>> reason("gopher_quality@paper", "num_words")
    'rule:gopher_quality@paper.num_words'
    """
    return f"rule:{preset}.{rule}"


def parse_rule(
    name: str,
    sql: str,
    columns: Mapping[str, Any],
    *,
    on_null: str = "refuse",
    preset: str = OWN,
) -> Rule:
    """Parse, check and compile one rule.

    Args:
        name: letters, digits and underscores.
        sql: a boolean SQL expression, row-wise; see `curate.rules.compile` for what it may hold.
        columns: column name -> polars type of everything a rule may read.
        on_null: keep, drop or refuse.
        preset: whose rule it is.

    Returns:
        The compiled rule, already run on an empty frame, an all-null row and a row of zeros.

    Raises:
        InputError: an unknown column, a predicate that is not boolean or not row-wise (aliases,
            aggregates, windows, sub-queries, the clock, tables), or one whose types do not fit.
    """
    label = f"rule {name!r}" if preset == OWN else f"rule {name!r} of {preset}"
    if not NAME.fullmatch(str(name)):
        raise InputError(f"{label}: a rule's name is letters, digits and underscores")
    if on_null not in get_args(OnNull):
        near = did_you_mean(str(on_null), get_args(OnNull))
        raise InputError(f"{label}: on_null is {on_null!r}; choices are keep, drop, refuse.{near}")
    node, reads = _compiled(label, sql, columns)
    if node.kind != "boolean":
        hint = "; write a comparison, such as `num_words >= 50`"
        raise InputError(f"{label} gives a {node.kind}, not true or false: {sql!r}{hint}")
    if not reads:
        raise InputError(f"{label} reads no signal, so it is the same for all documents: {sql!r}")
    _dry_run(label, node, {column: columns[column] for column in reads})
    return Rule(
        name=name,
        sql=sql,
        reads=reads,
        expression=node.expr,
        on_null=cast(OnNull, on_null),
        preset=preset,
        distance=node.margin,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An expression that gives each document a value.

    Attributes:
        sql: as written.
        kind: integer, float, string or boolean.
        reads: the columns it reads, sorted.
        expression: the compiled row-wise expression.
    """

    sql: str
    kind: str
    reads: tuple[str, ...]
    expression: pl.Expr = field(compare=False, repr=False)


def parse_value(label: str, sql: str, columns: Mapping[str, Any]) -> Value:
    """Parse, check and compile an expression of any kind, as `parse_rule` does a predicate.

    Args:
        label: what the message of an error begins with, such as `mix.domains`.
        sql: a row-wise SQL expression that reads a column at least.
        columns: column name -> polars type of everything it may read.

    Raises:
        InputError: as `parse_rule`; or it is always null.
    """
    node, reads = _compiled(label, sql, columns)
    if node.kind in ("null", "other"):
        raise InputError(f"{label} gives no number, string or truth value: {sql!r}")
    if not reads:
        raise InputError(f"{label} reads no signal, so it is the same for all documents: {sql!r}")
    _dry_run(label, node, {column: columns[column] for column in reads})
    return Value(sql=sql, kind=node.kind, reads=reads, expression=node.expr)


def margin(rule: Rule, frame: pl.DataFrame) -> pl.Series:
    """Return how far each document is from the rule's nearest threshold, in the signal's unit.

    Defined for comparisons (`<`, `<=`, `>`, `>=`, BETWEEN) of one numeric column with one literal,
    and for AND of those. Positive: the rule passes; negative: it drops; zero: on the threshold.
    Parts of an AND have different units, and the smallest distance is taken as it is.

    Returns:
        float64 [rows], null where a value is null or the rule has no such form.
    """

    def distance(one: Rule) -> pl.Expr:
        return pl.lit(None, pl.Float64) if one.distance is None else one.distance

    return by_source(rule, frame, distance).rename(rule.reason)


def by_source(rule: Rule, frame: pl.DataFrame, what: Callable[[Rule], pl.Expr]) -> pl.Series:
    """Return `what` of the rule for each row, or of the override for the rows of its source."""
    found = what(rule)
    for source, other in sorted(rule.overrides.items()):
        found = pl.when(pl.col("source") == source).then(what(other)).otherwise(found)
    column = frame.select(found.alias("found")).to_series()
    # A literal has one row, whatever the frame's height.
    return column if len(column) == frame.height else column.new_from_index(0, frame.height)


def _compiled(label: str, sql: Any, columns: Mapping[str, Any]) -> tuple[Node, tuple[str, ...]]:
    """Return the compiled SQL and the columns it reads, sorted."""
    tree = _parse(label, sql)
    reads = tuple(sorted(_columns_of(tree)))
    for column in reads:
        if column not in columns:
            raise InputError(_unknown_column(label, column, columns))
    kinds = {column: column_kind(columns[column]) for column in reads}
    try:
        return compile_tree(tree, kinds), reads
    except NotAllowedError as error:
        raise InputError(f"{label} {_window(sql) or error}: {sql!r}") from None
    except RecursionError:
        raise InputError(f"{label} is nested too deeply; split it into several rules") from None


def _parse(label: str, sql: Any) -> Any:
    """Return the JSON tree of the SQL, as polars parses it."""
    if not isinstance(sql, str) or not sql.strip():
        raise InputError(
            f"{label}: found {sql!r}; write a SQL condition, such as 'num_words >= 50'"
        )
    if len(sql) > MAX_SQL_CHARS:
        raise InputError(f"{label} is {len(sql)} characters long; the limit is {MAX_SQL_CHARS}")
    if len(_OPERATORS.findall(_STRINGS.sub("''", sql))) > _MAX_OPERATORS:
        raise InputError(
            f"{label} has more than {_MAX_OPERATORS} operators; split it into several rules"
        )
    if READS_TABLES.search(sql):
        raise InputError(
            f"{label} has a sub-query or a table function; a rule reads the columns of one "
            f"document only: {sql!r}"
        )
    try:
        return json.loads(pl.sql_expr(sql).meta.serialize(format="json"))
    except RecursionError:
        raise InputError(f"{label} is nested too deeply; split it into several rules") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        first_line = str(error).splitlines()[0][:200]
        raise InputError(f"{label} is no SQL condition: {sql!r} ({first_line})") from None


def _columns_of(tree: Any) -> set[str]:
    found: set[str] = set()
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if isinstance(part.get("Column"), str):
                found.add(part["Column"])
            stack.extend(value for key, value in part.items() if key not in ("Literal", "SubPlan"))
        elif isinstance(part, list):
            stack.extend(part)
    return found


def _unknown_column(label: str, column: str, columns: Mapping[str, Any]) -> str:
    names = list(columns)
    shown = ", ".join(names[:MAX_NAMES_SHOWN]) + (", ..." if len(names) > MAX_NAMES_SHOWN else "")
    return f"{label} reads {column!r}; signals are: {shown}.{did_you_mean(column, names)}"


def _window(sql: str) -> str:
    over = WINDOW.search(sql)
    return "has a window (OVER), but a rule judges one document by itself" if over else ""


def _dry_run(label: str, node: Node, types: Mapping[str, Any]) -> None:
    """Run on no rows, on nulls and on zeros: what polars would refuse on data, it refuses now."""
    zeros = {"integer": 0, "float": 0.0, "string": "", "boolean": False}
    values: list[dict[str, list[Any]]] = [
        {column: [] for column in types},
        {column: [None] for column in types},
        {column: [zeros.get(column_kind(dtype))] for column, dtype in types.items()},
    ]
    outputs = [node.expr] if node.margin is None else [node.expr, node.margin]
    for rows in values:
        frame = pl.DataFrame(rows, schema=dict(types))
        for output in outputs:
            try:
                result = frame.select(output.alias("outcome")).to_series()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                first_line = str(error).splitlines()[0][:200]
                raise InputError(f"{label} cannot be evaluated: {first_line}") from None
            assert len(result) == frame.height, f"{label} is not row-wise"
            expected = node.kind if output is node.expr else "float"
            assert column_kind(result.dtype) == expected, f"{label} gives {result.dtype}"

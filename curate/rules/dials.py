"""The thresholds of a rule that can be turned: a column against a literal, in AND with the rest.

>>> import polars as pl
>>> from curate.rules.expression import parse_rule
>>> columns = {"n": pl.Int64(), "language": pl.String()}
>>> (dial,) = dials(parse_rule("r", "language = 'en' AND n BETWEEN 3 AND 9", columns), columns)
>>> [(handle.op, handle.value, handle.sql) for handle in dial.handles]
[('>=', 3, '3'), ('<=', 9, '9')]
>>> turned("language = 'en' AND n BETWEEN 3 AND 9", dial.handles, [4, 8.5])
"language = 'en' AND n BETWEEN 4 AND 8.5"
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from curate.rules.compile import NUMBERS, NotAllowedError, column_kind, compile_tree
from curate.rules.expression import Rule

__all__ = ["Dial", "Handle", "dials", "turned", "written"]

_OPS = {"GtEq": ">=", "Gt": ">", "LtEq": "<=", "Lt": "<", "Eq": "="}
_MIRROR = {"GtEq": "LtEq", "Gt": "Lt", "LtEq": "GtEq", "Lt": "Gt", "Eq": "Eq"}
_LITERAL = re.compile(r"(=\s*)?(?<![\w.])(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])")
_SENTINEL = 918273645.25  # no one's threshold
_MAX_LITERALS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """One threshold.

    Attributes:
        op: `>=`, `>`, `<=` or `<`, with the column on the left. `n = 0` is taken as `n <= 0`: the
            same for values that are never below the literal (`equal` says to check that).
        value: the literal.
        start, sql: where the literal stands in the rule's SQL, and what stands there.
        equal: the SQL says `=`, and the piece that is replaced begins with that sign.
    """

    op: str
    value: float
    start: int
    sql: str
    equal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """The thresholds of a rule on one column: a lower, an upper, or one of each.

    Attributes:
        column: the numeric column.
        handles: one, or the lower and then the upper.
        rest: what the rule asks beside it (null where it asks nothing).
    """

    column: str
    handles: tuple[Handle, ...]
    rest: pl.Expr | None = field(default=None, compare=False, repr=False)


def dials(rule: Rule, columns: Mapping[str, Any]) -> tuple[Dial, ...]:
    """Return the rule's dials by column; none where no threshold can be turned by itself.

    Args:
        rule: as compiled; its overrides are other rules.
        columns: column -> polars type.
    """
    kinds = {name: column_kind(columns[name]) for name in rule.reads}
    terms = _terms(_tree(rule.sql))
    handles: dict[str, list[tuple[int, Handle]]] = {}
    for column, place, handle in _handles(rule.sql, terms, kinds):
        handles.setdefault(column, []).append((place, handle))
    made = []
    for column, mine in handles.items():
        mine.sort(key=lambda pair: pair[1].op[0] == "<")
        sides = [handle.op[0] for _, handle in mine]
        if len(set(sides)) < len(sides):
            continue  # two lower bounds: neither is the threshold by itself
        others = [term for place, term in enumerate(terms) if place not in dict(mine)]
        try:
            rest = [compile_tree(term, kinds).expr for term in others]
        except NotAllowedError:  # pragma: no cover - the whole rule was compiled from these
            continue
        made.append(
            Dial(
                column=column,
                handles=tuple(handle for _, handle in mine),
                rest=pl.all_horizontal(rest) if rest else None,
            )
        )
    return tuple(made)


def turned(sql: str, handles: Sequence[Handle], values: Sequence[float]) -> str:
    """Return the rule's SQL with other thresholds."""
    for handle, value in sorted(zip(handles, values, strict=True), key=lambda pair: -pair[0].start):
        new = f"<= {written(value)}" if handle.equal else written(value)
        sql = sql[: handle.start] + new + sql[handle.start + len(handle.sql) :]
    return sql


def written(value: float) -> str:
    """Return a number as SQL: no exponent that a person would have to read twice.

    >>> written(50.0), written(0.15), written(1e-7), written(100000)
    ('50', '0.15', '0.0000001', '100000')
    """
    if float(value).is_integer():
        return str(int(value))
    return f"{value:.12f}".rstrip("0")


def _tree(sql: str) -> Any:
    return json.loads(pl.sql_expr(sql).meta.serialize(format="json"))


def _terms(tree: Any) -> list[Any]:
    """Return the parts of a conjunction, from left to right."""
    body = tree.get("BinaryExpr") if isinstance(tree, dict) else None
    if body and body["op"] == "And":
        return _terms(body["left"]) + _terms(body["right"])
    return [tree]


def _comparison(term: Any, kinds: Mapping[str, str]) -> tuple[str, str, float] | None:
    """Return (column, op, literal) of a comparison of a numeric column with a number."""
    body = term.get("BinaryExpr")
    if body:
        op, left, right = body["op"], body["left"], body["right"]
    else:
        call = term.get("Function", {})
        path = call.get("function")
        sql = path.get("Sql", {}) if isinstance(path, dict) else {}
        op = sql.get("Binary") if isinstance(sql, dict) else None
        if op is None:
            return None
        left, right = call["input"]
    if op not in _OPS:
        return None
    nodes = [compile_tree(side, kinds) for side in (left, right)]
    if nodes[0].literal is not None:
        nodes.reverse()
        op = _MIRROR[op]
    column, literal = nodes[0].column, nodes[1].literal
    if column is None or kinds[column] not in NUMBERS or not isinstance(literal, int | float):
        return None
    return column, op, literal


def _handles(
    sql: str, terms: Sequence[Any], kinds: Mapping[str, str]
) -> list[tuple[str, int, Handle]]:
    """Return (column, place of its term, handle), each found by writing another number there.

    What changes in the parsed form is what the number is; nothing is guessed from the text.
    """
    found = []
    literals = list(_LITERAL.finditer(sql))
    for match in literals if len(literals) <= _MAX_LITERALS else []:
        for equal in (False, True):
            start = match.start() if equal else match.start(2)
            if equal and (not match[1] or sql[max(0, start - 1) : start] in ("<", ">", "!", "=")):
                continue
            piece = sql[start : match.end()]
            new = f"<= {_SENTINEL}" if equal else str(_SENTINEL)
            changed = _changed(sql[:start] + new + sql[match.end() :], terms)
            if changed is None:
                continue
            place, term = changed
            before, after = _comparison(terms[place], kinds), _comparison(term, kinds)
            if before is None or after is None or before[0] != after[0]:
                continue
            column, op, value = before
            ops = (op, after[1]) in ((("Eq", "LtEq"),) if equal else ((op, op),))
            if after[2] != _SENTINEL or not ops or (op == "Eq") != equal:
                continue
            name = "<=" if equal else _OPS[op]
            handle = Handle(op=name, value=value, start=start, sql=piece, equal=equal)
            found.append((column, place, handle))
    return found


def _changed(sql: str, terms: Sequence[Any]) -> tuple[int, Any] | None:
    """Return the one part of the conjunction that another text changes, and its new form."""
    try:
        others = _terms(_tree(sql))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if len(others) != len(terms):
        return None
    places = [i for i, (a, b) in enumerate(zip(terms, others, strict=True)) if a != b]
    return (places[0], others[places[0]]) if len(places) == 1 else None

"""polars parses the SQL, we compile what it parsed: the whitelist is the compiler.

`pl.sql_expr` accepts much that must never judge a document: aliases (`n >= 1_000` is
`n >= 1 AS _000`), aggregates, windows, sub-queries, the clock. So the parsed form, as
`Expr.meta.serialize(format="json")` gives it, is walked, and a new expression is built from the
node kinds known here, all of them row-wise; any other node is refused by name. What polars 2.1
writes there is an enum tree: `{"Column": "n"}`, `{"Literal": {"Dyn": {"Int": 1}}}`,
`{"BinaryExpr": {"left": ..., "op": "GtEq", "right": ...}}`, `{"Function": {"input": [...],
"function": ...}}`, `{"Cast": ...}`, `{"Ternary": ...}`. Another version that writes another tree is
refused, not misread.

Because the expression is ours, so is its meaning: arithmetic is done in float64 (nothing wraps,
and it is exact to 2**53), division by zero and overflow are null, a decimal literal is the nearest
float64, a comparison of unlike kinds is an error, and no operation makes NaN.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

__all__ = ["Node", "NotAllowedError", "column_kind", "compile_tree"]

NUMBERS = ("integer", "float")

INTEGER_TYPES = {"Int8": pl.Int8(), "Int16": pl.Int16(), "Int32": pl.Int32(), "Int64": pl.Int64()}

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Gt": operator.gt,
    "GtEq": operator.ge,
    "EqValidity": lambda left, right: left.eq_missing(right),
    "NotEqValidity": lambda left, right: left.ne_missing(right),
}
MIRROR = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Plus": operator.add,
    "Minus": operator.sub,
    "Mul": operator.mul,
    "Multiply": operator.mul,
    "Div": operator.truediv,
    # SQL's remainder has the dividend's sign, polars' own the divisor's.
    "Rem": lambda left, right: (left.abs() % right.abs()) * left.sign(),
}


BEYOND = "has a number beyond the range of float64"
ARTICLES = {"integer": "an integer", "other": "a value that is no number, string or boolean"}


class NotAllowedError(Exception):
    """The parsed rule holds something a rule may not hold; the message ends a sentence on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A compiled part of a rule.

    Attributes:
        expr: the row-wise polars expression.
        kind: integer, float, string, boolean, null or other.
        column: the column's name where the part is a bare column.
        literal: the value where the part is a literal number or string.
        margin: float64 signed distance to the nearest threshold, where that is defined.
    """

    expr: pl.Expr
    kind: str
    column: str | None = None
    literal: Any = None
    margin: pl.Expr | None = None


def column_kind(dtype: Any) -> str:
    """Return the kind of a polars type: integer, float, string, boolean or other."""
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "float"
    return {pl.String(): "string", pl.Boolean(): "boolean"}.get(dtype, "other")


def compile_tree(tree: Any, kinds: Mapping[str, str]) -> Node:
    """Compile a parsed expression; `kinds` maps each column to its kind."""
    if not (isinstance(tree, dict) and len(tree) == 1):
        raise NotAllowedError(_refusal(str(tree)))
    ((name, body),) = tree.items()
    if name == "Column":
        return Node(expr=pl.col(body), kind=kinds[body], column=body)
    if name == "Literal":
        return _literal(body)
    if name == "BinaryExpr":
        left, right = compile_tree(body["left"], kinds), compile_tree(body["right"], kinds)
        return _binary(body["op"], left, right)
    if name == "Cast":
        return _cast(compile_tree(body["expr"], kinds), body["dtype"], body["options"])
    if name == "Ternary":
        parts = [compile_tree(body[key], kinds) for key in ("predicate", "truthy", "falsy")]
        return _ternary(*parts)
    if name == "Function":
        path, options = _function_path(body["function"])
        if path == "Sql.IsIn" and _holds_series(body["input"][1]):
            return _is_in(compile_tree(body["input"][0], kinds), body["input"][1])
        known = path in FUNCTIONS or path.startswith("Sql.Binary.")
        if not known:
            group, _, last = path.partition(".")
            raise NotAllowedError(_refusal(group if group == "StructExpr" else last or group))
        inputs = [compile_tree(part, kinds) for part in body["input"]]
        if path.startswith("Sql.Binary."):
            return _binary(path.removeprefix("Sql.Binary."), inputs[0], inputs[1])
        return FUNCTIONS[path](inputs, options)
    raise NotAllowedError(_refusal(name, body))


def _refusal(name: str, body: Any = None) -> str:
    if name == "Alias":
        return (
            f"has an alias (AS {body[-1]!r}), but a rule is one predicate; "
            "write numbers without underscores (1000, not 1_000)"
        )
    if name in ("Agg", "Len"):
        return "has an aggregate, but a rule judges one document by itself"
    if name in ("Over", "Rolling", "Rank", "FillNull"):
        return "has a window or search function that is not row-wise; compare columns directly"
    if name == "SubPlan":
        return "has a sub-query; a rule reads the columns of one document only"
    if name in ("Selector", "Explode"):
        return "selects several columns or rows at once; name one column"
    if name == "StructExpr":
        return "has a qualified name (table.column); write the column alone"
    return (
        f"uses {name!r}, which is not one of: comparisons, BETWEEN, IN, LIKE, IS NULL, AND, OR, "
        "NOT, + - * / %, CASE, COALESCE, CAST, ABS, ROUND, FLOOR, CEIL, LEAST, GREATEST, LENGTH, "
        "LOWER, UPPER, TRIM, SUBSTR, STARTS_WITH, ENDS_WITH, REGEXP_LIKE"
    )


def _literal(body: Any) -> Node:
    (kind, value) = next(iter(body.items()))
    if kind in ("Dyn", "Scalar"):
        (kind, value) = next(iter(value.items()))
    if kind == "Decimal":
        unscaled, _precision, scale = value
        kind, value = "Float", int(unscaled) / 10**scale  # correctly rounded
    if kind == "Boolean":
        return Node(expr=pl.lit(value, dtype=pl.Boolean), kind="boolean")
    if kind == "Null":
        return Node(expr=pl.lit(None), kind="null")
    if kind in ("String", "Str"):
        return Node(expr=pl.lit(value, dtype=pl.String), kind="string", literal=value)
    if kind.startswith("Float"):
        # 1e400 is infinite to polars, and JSON has no infinity: it comes as null.
        number = math.inf if value is None else float(value)
        if not math.isfinite(number):
            raise NotAllowedError(BEYOND)
        return Node(expr=pl.lit(number, dtype=pl.Float64), kind="float", literal=number)
    if kind == "Int" or kind in INTEGER_TYPES:
        return Node(expr=pl.lit(value, dtype=pl.Int64), kind="integer", literal=value)
    raise NotAllowedError(_refusal(f"a literal of type {kind}"))


def _a(node: Node) -> str:
    return ARTICLES.get(node.kind, f"a {node.kind}")


def _no_null(*nodes: Node) -> None:
    if any(node.kind == "null" for node in nodes):
        raise NotAllowedError("compares with NULL, which is never true; write IS NULL")


def _number(node: Node) -> pl.Expr:
    _no_null(node)
    if node.kind not in NUMBERS:
        raise NotAllowedError(f"does arithmetic on {_a(node)}; numbers only")
    return node.expr.cast(pl.Float64)


def _boolean(node: Node, where: str) -> pl.Expr:
    if node.kind != "boolean":
        raise NotAllowedError(f"has {_a(node)} where {where} needs a condition")
    return node.expr


def _string(node: Node, where: str) -> pl.Expr:
    if node.kind != "string":
        raise NotAllowedError(f"has {_a(node)} where {where} needs a string")
    return node.expr


def _binary(op: str, left: Node, right: Node) -> Node:
    if op in ("And", "Or"):
        both = _boolean(left, op.upper()), _boolean(right, op.upper())
        if op == "Or":
            return Node(expr=both[0] | both[1], kind="boolean")
        return Node(expr=both[0] & both[1], kind="boolean", margin=_nearest(left, right))
    if op in COMPARISONS:
        _no_null(left, right)
        if _class(left) != _class(right) or left.kind == "other":
            raise NotAllowedError(f"compares {_a(left)} with {_a(right)}")
        if left.kind == "boolean" and op in MIRROR:
            raise NotAllowedError("orders booleans; write the condition or NOT the condition")
        expr = COMPARISONS[op](left.expr, right.expr)
        return Node(expr=expr, kind="boolean", margin=_distance(op, left, right))
    if op == "Plus" and left.kind == right.kind == "string":
        return Node(expr=left.expr + right.expr, kind="string")
    if op not in ARITHMETIC:
        raise NotAllowedError(_refusal(op))
    over, by = _number(left), _number(right)
    if op in ("Div", "Rem"):
        by = pl.when(by != 0).then(by)
    result = ARITHMETIC[op](over, by)
    return Node(expr=pl.when(result.is_finite()).then(result), kind="float")


def _class(node: Node) -> str:
    return "number" if node.kind in NUMBERS else node.kind


def _distance(op: str, left: Node, right: Node) -> pl.Expr | None:
    """Return the margin of column-against-literal comparisons of numbers."""
    if op not in MIRROR or _class(left) != "number":
        return None
    if right.column is not None and left.literal is not None:
        return _distance(MIRROR[op], right, left)
    if left.column is None or right.literal is None:
        return None
    value, threshold = left.expr.cast(pl.Float64), pl.lit(float(right.literal), dtype=pl.Float64)
    return value - threshold if op in ("Gt", "GtEq") else threshold - value


def _nearest(left: Node, right: Node) -> pl.Expr | None:
    if left.margin is None or right.margin is None:
        return None
    known = left.margin.is_not_null() & right.margin.is_not_null()
    return pl.when(known).then(pl.min_horizontal(left.margin, right.margin))


def _cast(node: Node, dtype: Any, options: str) -> Node:
    target = dtype.get("Literal") if isinstance(dtype, dict) else None
    if node.kind == "null":
        _no_null(node)
    if target == "Boolean" and node.kind == "boolean":
        return Node(expr=node.expr, kind="boolean")
    if target == "Boolean":
        _boolean(node, "NOT")
    if target == "String" and node.kind != "other":
        return Node(expr=node.expr.cast(pl.String), kind="string")
    numeric = target in INTEGER_TYPES or target in ("Float32", "Float64")
    if not numeric or node.kind == "other":
        raise NotAllowedError(_refusal(f"CAST to {target or dtype}"))
    safe = (target == "Float64" and node.kind in (*NUMBERS, "boolean")) or (
        target == "Int64" and node.kind in ("integer", "boolean")
    )
    if options == "Strict" and not safe:
        raise NotAllowedError(
            f"has a CAST from {_a(node)} that can fail on data; write TRY_CAST, which gives null"
        )
    if target in INTEGER_TYPES:
        return Node(expr=node.expr.cast(INTEGER_TYPES[str(target)], strict=False), kind="integer")
    value = node.expr.cast(pl.Float64, strict=False)
    # 'nan' and 'inf' are numbers to a parser and no number to a rule.
    finite = value if safe else pl.when(value.is_finite()).then(value)
    return Node(expr=finite, kind="float")


def _common_kind(nodes: list[Node], where: str) -> str:
    kinds = {node.kind for node in nodes} - {"null"}
    if kinds == {"integer", "float"}:
        return "float"
    if len(kinds) != 1:
        raise NotAllowedError(f"mixes {' and '.join(sorted(kinds)) or 'only NULLs'} in {where}")
    return kinds.pop()


def _ternary(predicate: Node, truthy: Node, falsy: Node) -> Node:
    kind = _common_kind([truthy, falsy], "CASE or NULLIF")
    condition = _boolean(predicate, "CASE")
    return Node(expr=pl.when(condition).then(truthy.expr).otherwise(falsy.expr), kind=kind)


def _holds_series(tree: Any) -> bool:
    return isinstance(tree, dict) and "Series" in (tree.get("Literal") or {})


def _is_in(node: Node, tree: Any) -> Node:
    """Compile IN over literals, which polars stores as one Arrow IPC stream of one list."""
    values = pl.read_ipc_stream(bytes(tree["Literal"]["Series"])).to_series().explode()
    if values.dtype.is_decimal():
        values = pl.Series([float(value) for value in values], dtype=pl.Float64)
    kind = column_kind(values.dtype)
    if kind == "float" and not values.drop_nulls().is_finite().all():
        raise NotAllowedError(BEYOND)
    if _class(node) != ("number" if kind in NUMBERS else kind):
        raise NotAllowedError(f"asks whether {_a(node)} is IN a list of {kind}s")
    expr = node.expr
    if kind in NUMBERS and node.kind != kind:
        expr, values = expr.cast(pl.Float64), values.cast(pl.Float64)
    return Node(expr=expr.is_in(pl.lit(values).implode(), nulls_equal=False), kind="boolean")


def _function_path(function: Any) -> tuple[str, dict[str, Any]]:
    """Split `{"StringExpr": {"Contains": {"literal": false}}}` into its path and its options."""
    path: list[str] = []
    while isinstance(function, dict) and len(function) == 1:
        (name, inner) = next(iter(function.items()))
        if not name[:1].isupper():
            break
        path.append(name)
        function = inner
    if isinstance(function, str):
        path.append(function)
    return ".".join(path), function if isinstance(function, dict) else {}


def _pattern(node: Node) -> Any:
    if not isinstance(node.literal, str):
        raise NotAllowedError("matches against a pattern that is not a literal string")
    return node.literal


def _slice(inputs: list[Node], _options: Any) -> Node:
    text, *bounds = inputs
    numbers = [bound.literal for bound in bounds if bound.kind != "null"]
    if not all(isinstance(number, int) for number in numbers):
        raise NotAllowedError("takes a SUBSTR whose bounds are not literal integers")
    expr = _string(text, "SUBSTR").str.slice(numbers[0], *numbers[1:])
    return Node(expr=expr, kind="string")


def _trim(inputs: list[Node], _options: Any) -> Node:
    return Node(expr=_string(inputs[0], "TRIM").str.strip_chars(inputs[1].literal), kind="string")


def _coalesce(inputs: list[Node], _options: Any) -> Node:
    kind = _common_kind(inputs, "COALESCE")
    return Node(expr=pl.coalesce([node.expr for node in inputs]), kind=kind)


def _extreme(pick: Callable[..., pl.Expr]) -> Callable[[list[Node], Any], Node]:
    return lambda inputs, _options: Node(expr=pick(*map(_number, inputs)), kind="float")


def _numeric(apply: Callable[[pl.Expr], pl.Expr]) -> Callable[[list[Node], Any], Node]:
    return lambda inputs, _options: Node(expr=apply(_number(inputs[0])), kind="float")


def _textual(where: str, apply: Callable[[pl.Expr], pl.Expr], kind: str) -> Any:
    return lambda inputs, _options: Node(expr=apply(_string(inputs[0], where)), kind=kind)


def _matching(where: str, apply: Callable[[pl.Expr, str], pl.Expr]) -> Any:
    return lambda inputs, _options: Node(
        expr=apply(_string(inputs[0], where), _pattern(inputs[1])), kind="boolean"
    )


FUNCTIONS: dict[str, Callable[[list[Node], Any], Node]] = {
    "Boolean.Not": lambda inputs, _: Node(expr=_boolean(inputs[0], "NOT").not_(), kind="boolean"),
    "Boolean.IsNull": lambda inputs, _: Node(expr=inputs[0].expr.is_null(), kind="boolean"),
    "Boolean.IsNotNull": lambda inputs, _: Node(expr=inputs[0].expr.is_not_null(), kind="boolean"),
    "Coalesce": _coalesce,
    "Abs": _numeric(pl.Expr.abs),
    "Floor": _numeric(pl.Expr.floor),
    "Ceil": _numeric(pl.Expr.ceil),
    "Sql.Round": lambda inputs, options: Node(
        expr=_number(inputs[0]).round(options["decimals"]), kind="float"
    ),
    "MinHorizontal": _extreme(pl.min_horizontal),
    "MaxHorizontal": _extreme(pl.max_horizontal),
    # Lengths are unsigned in polars, and `LENGTH(x) - 5` would wrap.
    "StringExpr.LenChars": _textual(
        "LENGTH", lambda e: e.str.len_chars().cast(pl.Int64), "integer"
    ),
    "StringExpr.LenBytes": _textual(
        "LENGTH", lambda e: e.str.len_bytes().cast(pl.Int64), "integer"
    ),
    "StringExpr.Lowercase": _textual("LOWER", lambda e: e.str.to_lowercase(), "string"),
    "StringExpr.Uppercase": _textual("UPPER", lambda e: e.str.to_uppercase(), "string"),
    "StringExpr.StripChars": _trim,
    "StringExpr.Slice": _slice,
    "StringExpr.StartsWith": _matching("LIKE", lambda e, p: e.str.starts_with(p)),
    "StringExpr.EndsWith": _matching("LIKE", lambda e, p: e.str.ends_with(p)),
    "StringExpr.Contains": lambda inputs, options: Node(
        expr=_string(inputs[0], "LIKE").str.contains(
            _pattern(inputs[1]), literal=options.get("literal", False)
        ),
        kind="boolean",
    ),
}

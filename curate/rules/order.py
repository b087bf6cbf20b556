"""Order lists, such as who survives in a group of duplicates: `keep: "num_words DESC, doc_id"`.

A parser of its own, because an ORDER BY list is no SQL expression: polars would read
`num_words DESC` as an alias.

>>> parse_order("num_words DESC", ["num_words", "doc_id"])
[('num_words', True), ('doc_id', False)]
"""

import re
from collections.abc import Iterable

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["TIE_BREAKER", "parse_order"]

TIE_BREAKER = "doc_id"
ITEM = re.compile(r'\s*(?:"([^"]+)"|([A-Za-z_][A-Za-z0-9_]*))(?:\s+(asc|desc))?\s*', re.IGNORECASE)


def parse_order(text: str, columns: Iterable[str]) -> list[tuple[str, bool]]:
    """Parse a comma-separated list of columns, each with ASC (default) or DESC.

    Args:
        text: such as `num_words DESC, doc_id`; a name may stand in double quotes.
        columns: the names there are; `doc_id` is always one of them.

    Returns:
        (column, descending) in order; `doc_id` is last, so that no two documents are equal.

    Raises:
        InputError: an unknown or repeated column, anything after `doc_id`, or another syntax.
    """
    names = list(dict.fromkeys([*columns, TIE_BREAKER]))
    order: dict[str, bool] = {}
    for item in str(text).split(","):
        match = ITEM.fullmatch(item)
        if match is None:
            raise InputError(
                f"keep: {text!r}: {item.strip()!r} is no column with ASC or DESC; "
                "write a list such as 'num_words DESC, doc_id'"
            )
        column, descending = match[1] or match[2], (match[3] or "").lower() == "desc"
        if column not in names:
            raise InputError(
                f"keep: {text!r} reads {column!r}; columns are: {', '.join(names)}."
                f"{did_you_mean(column, names)}"
            )
        if column in order:
            raise InputError(f"keep: {text!r} names {column!r} twice")
        if TIE_BREAKER in order:
            raise InputError(
                f"keep: {text!r}: {column!r} stands after {TIE_BREAKER!r} and never counts; "
                f"put {TIE_BREAKER!r} last"
            )
        order[column] = descending
    order.setdefault(TIE_BREAKER, False)
    return list(order.items())

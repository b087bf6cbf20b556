r"""Blanks: runs of them inside a line become one, line ends lose theirs, blank lines stand alone.

A blank is a tab or any space of Unicode (general category Zs). What a line begins with stays:
it is the structure of lists, verse and code; a single tab between words stays too, so that tables
remain tables. Blank lines before the text go, those after it become one line end. Sources of code
are better exempted: `whitespace: {exempt: [code]}`.

>>> import polars as pl
>>> STEP.apply(pl.Series(["a  b \n\n\n\n  c\t\td\n\n"]), {"exempt": []}).texts.to_list()
['a b\n\n  c d\n']
"""

from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, exempt_of, mapping_of, rewritten

__all__ = ["STEP"]

BLANK = r"[\t\p{Zs}]"
INNER = rf"([^\n\t\p{{Zs}}]){BLANK}{{2,}}"
ENDS = rf"(?m){BLANK}+$"
MAY_CHANGE = rf"{BLANK}{{2,}}|{BLANK}\n|{BLANK}\z|\n\n\n|\A{BLANK}*\n|\n\n\z"


def _parse(value: Any) -> dict[str, Any] | None:
    if value is None or value is False:
        return None
    if value is True:
        return {"exempt": []}
    given = mapping_of("whitespace", value, ("exempt",))
    return {"exempt": exempt_of("whitespace", given.get("exempt"))}


def _apply(texts: pl.Series, setting: dict[str, Any] | None) -> Change | None:
    if setting is None:
        return None
    rows = texts.str.contains(MAY_CHANGE).fill_null(value=False).arg_true()
    if len(rows) == 0:
        return None
    revised = (
        texts.gather(rows)
        .str.replace_all(ENDS, "")
        .str.replace_all(INNER, "${1} ")
        .str.replace_all(r"\n{3,}", "\n\n")
        .str.replace(r"\A\n+", "")
        .str.replace(r"\n{2,}\z", "\n")
    )
    return rewritten(texts, rows.to_numpy().astype(np.int64), revised)


STEP = Step(
    name="whitespace",
    order=40,
    default=None,
    off=None,
    parse=_parse,
    apply=_apply,
    counted="characters",
)

r"""Control characters: line breaks become `\n`, the other C0 and C1 codes and a leading BOM go.

CR LF, CR, VT, FF and NEL are line breaks (Unicode 5.8, Newline Guidelines): each becomes one `\n`,
so that no two words are joined by removing what stood between them. Tab and `\n` stay. Bidi marks,
zero-width joiners and every other format character stay too: scripts and emoji need them.

>>> import polars as pl
>>> STEP.apply(pl.Series(["\ufeffa\r\nb\x00c\x0cd\te"]), True).to_list()
['a\nbc\nd\te']
"""

from typing import Any

import polars as pl

from curate.cleaning.base import Step
from curate.corpus.errors import InputError

__all__ = ["STEP"]

LINE_BREAKS = r"\r\n?|[\x0B\x0C\x{85}]"
CONTROLS = r"[\x00-\x08\x0E-\x1F\x7F-\x{9F}]"
LEADING_MARKS = r"^\x{FEFF}+"


def _parse(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InputError(f"clean: control: found {value!r}; write `control: true` or `control: false`.")


def _apply(texts: pl.Series, setting: bool) -> pl.Series:
    if not setting:
        return texts
    # The mark goes last: a control character may stand before it.
    return (
        texts.str.replace_all(LINE_BREAKS, "\n")
        .str.replace_all(CONTROLS, "")
        .str.replace(LEADING_MARKS, "")
    )


STEP = Step(name="control", order=10, default=True, off=False, parse=_parse, apply=_apply)

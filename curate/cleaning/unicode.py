r"""Unicode normalisation (UAX 15): the same text has the same bytes, whoever typed it.

NFC is the default: it never changes what a reader sees. NFKC also folds ligatures, full-width and
superscript forms, which loses meaning in formulas (`x^2` written with a superscript becomes `x2`).

>>> import polars as pl
>>> STEP.apply(pl.Series(["e\u0301", "\ufb01"]), "NFC").to_list() == ["\xe9", "\ufb01"]
True
>>> STEP.apply(pl.Series(["e\u0301", "\ufb01"]), "NFKC").to_list() == ["\xe9", "fi"]
True
"""

from typing import Any, Literal, cast

import polars as pl

from curate.cleaning.base import Step, one_choice

__all__ = ["STEP"]

# Texts without these characters are already normal (UAX 15, quick check), as most texts are;
# asking is seven times as fast as normalising.
MAY_CHANGE = {"NFC": r"[\x{300}-\x{10FFFF}]", "NFKC": r"[^\x00-\x7F]"}


def _parse(value: Any) -> str:
    return one_choice("unicode", value, ("NFC", "NFKC", "none"))


def _apply(texts: pl.Series, setting: str) -> pl.Series:
    if setting == "none":
        return texts
    rows = texts.str.contains(MAY_CHANGE[setting]).fill_null(value=False).arg_true()
    if len(rows) == 0:
        return texts
    form = cast(Literal["NFC", "NFKC"], setting)
    return texts.clone().scatter(rows, texts.gather(rows).str.normalize(form))


STEP = Step(name="unicode", order=20, default="NFC", off="none", parse=_parse, apply=_apply)

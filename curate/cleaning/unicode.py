r"""Unicode normalisation (UAX 15): the same text has the same bytes, whoever typed it.

NFC is the default: it never changes what a reader sees. NFKC also folds ligatures, full-width and
superscript forms, which loses meaning in formulas (`x^2` written with a superscript becomes `x2`).

>>> import polars as pl
>>> STEP.apply(pl.Series(["e\u0301", "\ufb01"]), "NFC").texts.to_list() == ["\xe9"]
True
>>> STEP.apply(pl.Series(["e\u0301", "\ufb01"]), "NFKC").texts.to_list() == ["\xe9", "fi"]
True
"""

from typing import Any, Literal, cast

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, one_choice

__all__ = ["STEP"]

# A text without these characters is already normal, as most texts are; asking is seven times as
# fast as normalising. NFC: marks, what a character before it may absorb (Hangul jamo, Kirat Rai
# vowels), and letters that are always written otherwise (UAX 15, quick check, rounded up).
_NFC = (
    r"[\p{M}\x{374}\x{37E}\x{387}\x{958}-\x{F69}\x{1100}-\x{11FF}\x{1F71}-\x{1FFD}"
    r"\x{2000}\x{2001}\x{2126}\x{212A}\x{212B}\x{2329}\x{232A}\x{2ADC}\x{F900}-\x{FAD9}"
    r"\x{FB1D}-\x{FB4E}\x{16D63}-\x{16D6A}\x{1D15E}-\x{1D1C0}\x{2F800}-\x{2FA1D}]"
)
MAY_CHANGE = {"NFC": _NFC, "NFKC": r"[^\x00-\x7F]"}


def _parse(value: Any) -> str:
    return one_choice("unicode", value, ("NFC", "NFKC", "none"))


def _apply(texts: pl.Series, setting: str) -> Change | None:
    if setting == "none":
        return None
    # ASCII is normal; counting its characters is a good ten times as fast as the expression.
    beyond = (texts.str.len_bytes() != texts.str.len_chars()).fill_null(value=False).arg_true()
    if len(beyond) == 0:
        return None
    found = beyond.filter(texts.gather(beyond).str.contains(MAY_CHANGE[setting]))
    before = texts.gather(found)
    revised = before.str.normalize(cast(Literal["NFC", "NFKC"], setting))
    differs = before != revised
    if not differs.any():
        return None
    rows = found.filter(differs).to_numpy().astype(np.int64)
    return Change(rows=rows, texts=revised.filter(differs), counts={None: np.ones_like(rows)})


STEP = Step(name="unicode", order=20, default="NFC", off="none", parse=_parse, apply=_apply)

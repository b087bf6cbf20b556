r"""Mojibake: text that was decoded with the wrong encoding gets its characters back, by ftfy.

Speer, ftfy 6.3 (doi 10.5281/zenodo.2591652). Only what repairs an encoding is switched on, and
terminal escapes go: quotes, ligatures, widths, HTML entities and line breaks stay as they are.
ftfy looks at every line by itself. A text without a character beyond ASCII and without an escape
cannot change, and one that ftfy's own test finds sound, without C1 codes, cannot either: neither
is sent through its repair.

>>> import polars as pl
>>> STEP.apply(pl.Series(["caf\xc3\xa9", "caf\xe9"]), True).texts.to_list() == ["caf\xe9"]
True
"""

import re
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, flag

__all__ = ["STEP"]

MAY_CHANGE = r"[^\x00-\x7F]|\x1B"
ESCAPES = r"[\x1B\x{80}-\x{9F}]"
# ftfy cuts longer lines wherever this falls, and each piece is judged by itself.
MAX_LINE = 1_000_000


@cache
def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=True,
        fix_encoding=True,
        restore_byte_a0=True,
        replace_lossy_sequences=True,
        decode_inconsistent_utf8=True,
        fix_c1_controls=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        max_decode_length=MAX_LINE,
        explain=False,
    )


@cache
def _bad() -> re.Pattern[str]:
    """Return ftfy's test of a line as one of whole texts: `^` is the beginning of any line."""
    from ftfy.badness import BADNESS_RE

    return re.compile(BADNESS_RE.pattern, BADNESS_RE.flags | re.MULTILINE)


def _parse(value: Any) -> bool:
    return flag("ftfy", value)


def _apply(texts: pl.Series, setting: bool) -> Change | None:
    if not setting:
        return None
    rows = texts.str.contains(MAY_CHANGE).fill_null(value=False).arg_true()
    if len(rows) == 0:
        return None
    import ftfy

    bad = _bad()
    before = texts.gather(rows)
    escapes = before.str.contains(ESCAPES).to_list()
    found: list[int] = []
    fixed: list[str] = []
    for row, text, escaped in zip(rows.to_list(), before.to_list(), escapes, strict=True):
        if escaped or len(text) > MAX_LINE or bad.search(text):
            new = ftfy.fix_text(text, _config())
            if new != text:
                found.append(row)
                fixed.append(new)
    if not found:
        return None
    at = np.array(found, dtype=np.int64)
    return Change(rows=at, texts=pl.Series(fixed), counts={None: np.ones_like(at)})


STEP = Step(name="ftfy", order=5, default=False, off=False, parse=_parse, apply=_apply)

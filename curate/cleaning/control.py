r"""Control characters: line breaks become `\n`, the other C0 and C1 codes and a leading BOM go.

CR LF, CR, VT, FF and NEL are line breaks (Unicode 5.8, Newline Guidelines): each becomes one `\n`,
so that no two words are joined by removing what stood between them. Tab and `\n` stay. Bidi marks,
zero-width joiners and every other format character stay too: scripts and emoji need them.

>>> import polars as pl
>>> STEP.apply(pl.Series(["\ufeffa\r\nb\x00c\x0cd\te"]), True).texts.to_list()
['a\nbc\nd\te']
"""

from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, flag
from curate.kernels.buffers import text_buffers

__all__ = ["STEP"]

LINE_BREAKS = r"\r\n?|[\x0B\x0C\x{85}]"
CONTROLS = r"[\x00-\x08\x0E-\x1F\x7F-\x{84}\x{86}-\x{9F}]"
LEADING_MARKS = r"^\x{FEFF}+"


def _parse(value: Any) -> bool:
    return flag("control", value)


def _apply(texts: pl.Series, setting: bool) -> Change | None:
    if not setting:
        return None
    rows = texts.str.contains(f"{LINE_BREAKS}|{CONTROLS}|{LEADING_MARKS}").arg_true()
    if len(rows) == 0:
        return None
    before = texts.gather(rows)
    # The mark goes last: a control character may stand before it.
    broken = before.str.replace_all(LINE_BREAKS, "\n")
    bare = broken.str.replace_all(CONTROLS, "")
    revised = bare.str.replace(LEADING_MARKS, "")
    counts: dict[str | None, pl.Series] = {
        "line_breaks": before.str.count_matches(LINE_BREAKS),
        "controls": broken.str.len_chars() - bare.str.len_chars(),
        "leading_marks": bare.str.len_chars() - revised.str.len_chars(),
    }
    return Change(
        rows=rows.to_numpy().astype(np.int64),
        texts=revised,
        counts={kind: each.to_numpy().astype(np.int64) for kind, each in counts.items()},
    )


def _sieve(texts: Any) -> np.ndarray:
    """Return bool [n]: the texts that may hold what `_apply` looks for."""
    from curate.kernels.controls import find_controls  # numba: half a second

    found = np.zeros(len(texts), dtype=np.bool_)
    find_controls(*text_buffers(texts), found)
    return found


STEP = Step(
    name="control",
    order=10,
    default=True,
    off=False,
    parse=_parse,
    apply=_apply,
    sieve=_sieve,
    counted="characters",
)

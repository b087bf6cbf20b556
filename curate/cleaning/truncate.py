r"""Truncation: a text longer than a limit ends at the last boundary before it.

The cut falls between paragraphs, lines or words, as asked; where the text has no such boundary
before the limit it falls at the next finer one, and inside a word only where there is nothing
else. Blanks before the cut go too. The characters lost are counted.

>>> import polars as pl
>>> setting = STEP.parse({"max_characters": 14, "at": "line"})
>>> STEP.apply(pl.Series(["one two\nthree four\n"]), setting).texts.to_list()
['one two']
"""

from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, exempt_of, mapping_of, one_choice, rewritten
from curate.corpus.errors import InputError

__all__ = ["STEP"]

KEYS = ("max_characters", "max_bytes", "at", "exempt")
BOUNDARIES = ("paragraph", "line", "word")


def _parse(value: Any) -> dict[str, Any] | None:
    if value is None or value is False:
        return None
    given = mapping_of("truncate", value, KEYS)
    limits = {key: given.get(key) for key in KEYS[:2]}
    said = [limit for limit in limits.values() if limit is not None]
    if len(said) != 1:
        raise InputError("clean: truncate: give either max_characters or max_bytes.")
    if isinstance(said[0], bool) or not isinstance(said[0], int) or said[0] < 1:
        raise InputError(f"clean: truncate: found {said[0]!r}; a limit is a whole number, 1 or up.")
    at = one_choice("truncate.at", given.get("at", "word"), BOUNDARIES)
    return {**limits, "at": at, "exempt": exempt_of("truncate", given.get("exempt"))}


def _apply(texts: pl.Series, setting: dict[str, Any] | None) -> Change | None:
    if setting is None:
        return None
    characters, size = setting["max_characters"], setting["max_bytes"]
    long = texts.str.len_bytes() > (size or characters)  # no fewer bytes than characters
    if characters is not None:
        long &= texts.str.len_chars() > characters
    rows = long.fill_null(value=False).arg_true().to_numpy().astype(np.int64)
    if len(rows) == 0:
        return None
    revised = [_cut(text, characters, size, setting["at"]) for text in texts.gather(rows)]
    return rewritten(texts, rows, pl.Series(revised, dtype=pl.String))


def _cut(text: str, max_characters: int | None, max_bytes: int | None, at: str) -> str:
    """Return the beginning of a text that is longer than allowed."""
    if max_bytes is not None:
        # No character is longer than its bytes, and a cut through one leaves no trace of it.
        max_characters = len(text[:max_bytes].encode()[:max_bytes].decode(errors="ignore"))
    assert max_characters is not None
    head, follows = text[:max_characters], text[max_characters : max_characters + 2]
    for boundary in BOUNDARIES[BOUNDARIES.index(at) :]:
        kept = _before(head, follows, boundary).rstrip()
        if kept:
            return kept
    return head.rstrip()


def _before(head: str, follows: str, boundary: str) -> str:
    """Return what stands before the last boundary in `head`, or all where it ends at one."""
    if boundary == "word":
        if follows[:1].isspace():
            return head
        last = head.rstrip()
        if last != head:
            return last
        words = last.rsplit(maxsplit=1)
        return last[: len(last) - len(words[-1])] if words else ""
    mark = "\n\n" if boundary == "paragraph" else "\n"
    at = (head + follows[: len(mark)]).rfind(mark)
    return head[: max(at, 0)]


STEP = Step(
    name="truncate",
    order=60,
    default=None,
    off=None,
    parse=_parse,
    apply=_apply,
    counted="characters",
)

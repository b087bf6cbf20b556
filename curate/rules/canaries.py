r"""Canaries: short texts that a rule must catch or must spare, written down in the preset's file.

A text is a string; or `{repeat: TEXT, times: N}`, where each `{n}` in TEXT becomes the number of
the copy, from 1; or a list of those, put one after the other. So a page is one line of YAML.

>>> canary_text([{"repeat": "line {n}. ", "times": 2}, "{end}"])
'line 1. line 2. {end}'
"""

from typing import Any

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["MAX_CANARY_CHARS", "canary_text"]

MAX_CANARY_CHARS = 4_000_000
KEYS = ("repeat", "times")


def canary_text(spec: Any) -> str:
    """Return the text that `spec` describes.

    Raises:
        InputError: it is none of the forms, or the text would pass `MAX_CANARY_CHARS` characters.
    """
    parts = [_part(part) for part in (spec if isinstance(spec, list) else [spec])]
    size = sum(map(len, parts))
    if size > MAX_CANARY_CHARS:
        raise InputError(f"a canary of {size} characters; the limit is {MAX_CANARY_CHARS}")
    return "".join(parts)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InputError(
            f"a canary holds {part!r}; write a text, or {{repeat: TEXT, times: N}}, or a list"
        )
    for key in part:
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS)
            raise InputError(f"a canary has the key {key!r}; keys are repeat, times.{near}")
    text, times = part.get("repeat"), part.get("times")
    if not isinstance(text, str) or type(times) is not int or times < 0:
        raise InputError(
            f"a canary repeats {text!r} {times!r} times; write {{repeat: TEXT, times: N}}, N >= 0"
        )
    if (len(text) + 7) * times > MAX_CANARY_CHARS * 2:
        raise InputError(f"a canary repeats {times} times; the limit is {MAX_CANARY_CHARS} chars")
    if "{n}" not in text:
        return text * times
    return "".join(text.replace("{n}", str(n)) for n in range(1, times + 1))

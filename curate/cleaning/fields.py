"""What stands beside a text: its address and its meta data lose what redaction takes from the text.

Headers of mail name people, addresses of pages carry e-mail addresses. There a match is only
hidden, not numbered: these fields are for people, and no model reads them. In meta data (JSON) the
strings are looked at one by one, each after its name, which may announce a telephone number.

>>> import polars as pl
>>> setting = {"kinds": ["email", "phone"], "exempt": []}
>>> hide_json(pl.Series(['{"from":"Jo <jo@site.org>","tel":"4155551234"}']), setting).to_list()
['{"from":"Jo <********>","tel":"********"}']
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import polars as pl

from curate.cleaning.redact import MASK, mask

__all__ = ["FIELDS", "hide_field", "hide_json"]

FIELDS = ("url", "meta")
_DEPTH = 250  # orjson writes no deeper


def hide_field(
    name: str, values: pl.Series, setting: Mapping[str, Any] | None, sources: pl.Series
) -> pl.Series:
    """Return a field with everything hidden that `setting` redacts.

    Args:
        name: `meta`, which is JSON, or that of any other field (`url`, `key`).
        values: n strings, nulls stay.
        setting: the canonical setting of `redact`; None: nothing is redacted.
        sources: n names; what belongs to an exempt source stays.
    """
    if setting is None or values.null_count() == len(values):
        return values
    hidden = hide_json(values, setting) if name == "meta" else mask(values, setting)
    exempt = sources.is_in(setting["exempt"]).fill_null(value=False)
    return hidden if not exempt.any() else hidden.zip_with(~exempt, values)


def hide_json(texts: pl.Series, setting: Mapping[str, Any]) -> pl.Series:
    """Return JSON texts in whose strings everything is hidden that `setting` redacts."""
    rows = texts.is_not_null().arg_true()
    values = [_json(text) for text in texts.gather(rows)]
    names: list[str] = []
    strings: list[str] = []
    ends: list[int] = []

    def collect(name: str, text: str) -> str:
        names.append(f"{name}: ")
        strings.append(text)
        return text

    for value in values:
        _walk(value, "", collect)
        ends.append(len(strings))
    announced = [name + text for name, text in zip(names, strings, strict=True)]
    found = mask(pl.Series(announced, dtype=pl.String), setting).to_list()
    hidden = [
        text.removeprefix(name) if text.startswith(name) else MASK
        for name, text in zip(names, found, strict=True)
    ]
    changed: dict[int, str] = {}
    begin, these = 0, iter(hidden)
    for row, value, end in zip(rows.to_list(), values, ends, strict=True):
        revised = _walk(value, "", lambda name, text: next(these))
        if hidden[begin:end] != strings[begin:end]:
            changed[row] = orjson.dumps(revised, option=orjson.OPT_SORT_KEYS).decode()
        begin = end
    return texts.clone().scatter(list(changed), list(changed.values())) if changed else texts


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:  # no reader writes that; a string is hidden as a whole
        return text


def _walk(value: Any, name: str, change: Callable[[str, str], str], depth: int = 0) -> Any:
    """Return a JSON value whose strings are changed, in the order they stand."""
    if isinstance(value, str):
        return change(name, value)
    if depth < _DEPTH and isinstance(value, dict):
        return {key: _walk(one, key, change, depth + 1) for key, one in value.items()}
    if depth < _DEPTH and isinstance(value, list):
        return [_walk(one, name, change, depth + 1) for one in value]
    return value

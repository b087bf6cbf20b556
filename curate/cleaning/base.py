"""What a cleaning step is: a pure function text column -> the rows it changes, and how often.

A step returns only what it changed, so that a text nobody touches is never copied or hashed again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from curate.corpus.errors import InputError, did_you_mean, one_of

__all__ = ["Change", "Step", "exempt_of", "flag", "mapping_of", "one_choice", "rewritten"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a step did to a column.

    Attributes:
        rows: int64 [k], the rows whose text changed, ascending.
        texts: k new texts.
        counts: kind -> int64 [k], how often (what is counted is the step's own: matches, lines,
            characters); a step without kinds counts under None.
    """

    rows: np.ndarray
    texts: pl.Series
    counts: Mapping[str | None, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One text revision; a module of this package publishes it as `STEP`.

    Attributes:
        name: the key under `clean:` in a recipe.
        order: steps run in ascending order: mojibake is read before control characters go (they
            are evidence of it), control characters go before normalisation (removing one can put
            a letter beside its accent), lines before blank lines, and the length is cut last.
        default: the setting when the recipe does not name the step.
        off: the setting that leaves every text as it is.
        parse: setting as written -> canonical setting (JSON value); raises InputError. Where that
            is a mapping with `exempt`, texts of those sources never reach `apply`.
        apply: (texts, canonical setting) -> Change, None where no text changed; nulls stay, the
            input is untouched; row-wise and idempotent, in linear time.
        sieve: Arrow texts [n] -> bool [n], false where `apply` is sure to change nothing; for a
            step that can tell from the bytes much faster than by looking for what it changes.
        counted: what a count of this step is, in the plural: `characters`, `matches`, `lines`.
    """

    name: str
    order: int
    default: Any
    off: Any
    parse: Callable[[Any], Any]
    apply: Callable[[pl.Series, Any], Change | None]
    sieve: Callable[[Any], np.ndarray] | None = None
    counted: str = field(default="texts")


def rewritten(
    texts: pl.Series, rows: np.ndarray, revised: pl.Series, kind: str | None = None
) -> Change | None:
    """Compare rows with what a step made of them; the count is the characters it took away.

    Args:
        texts: n texts.
        rows: int64 [k], ascending.
        revised: k texts, the new form of those rows.
        kind: under which the characters are counted.

    Returns:
        The rows that differ; a text that did not become shorter counts 1.
    """
    before = texts.gather(rows)
    differs = before.ne_missing(revised)
    if not differs.any():
        return None
    lost = (before.str.len_chars() - revised.str.len_chars().cast(pl.Int64)).filter(differs)
    counts = np.maximum(lost.to_numpy().astype(np.int64), 1)
    return Change(
        rows=rows[differs.to_numpy()], texts=revised.filter(differs), counts={kind: counts}
    )


def flag(step: str, value: object) -> bool:
    """Return a setting that is true or false; None (YAML `null`) is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InputError(f"clean: {step}: found {value!r}; write `{step}: true` or `{step}: false`.")


def one_choice(step: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`; None (YAML `null`) means 'none'.

    >>> one_choice("unicode", "NFC", ("NFC", "none"))
    'NFC'
    """
    word = "none" if value is None else value
    if isinstance(word, str) and word in choices:
        return word
    near = did_you_mean(str(value).upper(), choices)
    raise InputError(f"clean: {step}: found {value!r}; choices are: {', '.join(choices)}.{near}")


def mapping_of(step: str, value: object, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a setting that is a mapping, after refusing keys that it does not know."""
    if not isinstance(value, Mapping):
        raise InputError(f"clean: {step}: found {value!r}; write a mapping of {', '.join(keys)}.")
    for key in value:
        if key not in keys:
            raise InputError(f"clean: {step}: {one_of('key', str(key), keys)}")
    return dict(value)


def exempt_of(step: str, value: object) -> list[str]:
    """Return the sources a step leaves alone, each once, in order."""
    names = [value] if isinstance(value, str) else (value or [])
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return sorted(set(names))
    raise InputError(f"clean: {step}: exempt is {value!r}; write a list of sources.")

"""What a cleaning step is: a pure function text column -> text column, on or off by one setting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["Step", "one_choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One text revision; a module of this package publishes it as `STEP`.

    Attributes:
        name: the key under `clean:` in a recipe.
        order: steps run in ascending order (control characters go before normalisation, because
            removing one can put a letter beside its accent).
        default: the setting when the recipe does not name the step.
        off: the setting that leaves every text as it is.
        parse: setting as written -> canonical setting (JSON value); raises InputError.
        apply: (texts, canonical setting) -> texts of the same length, nulls kept, the input
            untouched; row-wise and idempotent.
    """

    name: str
    order: int
    default: Any
    off: Any
    parse: Callable[[Any], Any]
    apply: Callable[[pl.Series, Any], pl.Series]


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

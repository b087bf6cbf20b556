"""Errors as part of the product: what is wrong, what was found, what to do.

`InputError` is for what a person gave us (a recipe, a file, a name); `IntegrityError` for a
stored artefact that is not what its manifest says. The command line prints either without a
traceback and exits with code 2.

>>> did_you_mean("num_word", ["num_words", "num_lines"])
" Did you mean 'num_words'?"
>>> did_you_mean("zzz", ["num_words"])
''
"""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["InputError", "IntegrityError", "UnreadableFileError", "did_you_mean", "one_of"]


class InputError(ValueError):
    """Something a person gave is wrong; the message says what to do."""


class UnreadableFileError(InputError):
    """An input file cannot be read to its end.

    Attributes:
        offset: how far reading got, in records (or bytes for raw streams), -1 if unknown.
        reason: a short machine-readable word, such as `truncated` or `not_parquet`.
    """

    def __init__(self, message: str, *, reason: str, offset: int = -1) -> None:
        super().__init__(message)
        self.reason = reason
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions travel between processes; keyword-only arguments would get lost on the way.
        return _rebuild, (str(self), self.reason, self.offset)


def _rebuild(message: str, reason: str, offset: int) -> "UnreadableFileError":
    return UnreadableFileError(message, reason=reason, offset=offset)


class IntegrityError(RuntimeError):
    """A stored artefact contradicts its manifest (missing, cut short, altered)."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def one_of(what: str, word: str, choices: Iterable[str]) -> str:
    """Build the standard message for an unknown name.

    >>> one_of("reader", "jsnl", ["csv", "jsonl"])
    "unknown reader 'jsnl'; there are: csv, jsonl. Did you mean 'jsonl'?"
    """
    names = sorted(choices)
    return f"unknown {what} {word!r}; there are: {', '.join(names)}.{did_you_mean(word, names)}"

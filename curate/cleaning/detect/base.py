r"""A detector: an expression that proposes, in linear time, and plain Python that decides.

The expression runs in Rust over whole columns and asserts nothing about what stands around a match
(no `^`, no `\b`): so the first place at or after the last match where a matched string stands *is*
where it matched, and a list of strings is as good as a list of places. What stands around it is the
judge's business, who sees few matches and a few characters before and after.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Detector", "Span", "after", "before", "is_word"]

Span = tuple[int, int, str]  # start, end, what it is: the same for the same thing written otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One kind of thing to redact.

    Attributes:
        kind: its name in a recipe; in capitals in a placeholder.
        needs: a string without which the pattern cannot match, "" if there is none; looking for
            it is many times as fast.
        pattern: for polars; no assertions, no match may be empty.
        spans: (text, start, end of a match) -> what to redact there, in order, without overlap.
    """

    kind: str
    pattern: str
    spans: Callable[[str, int, int], Iterator[Span]]
    needs: str = ""


def before(text: str, start: int, characters: int) -> str:
    """Return what stands before a place, on its line."""
    return text[max(0, start - characters) : start].rpartition("\n")[2]


def after(text: str, end: int, characters: int) -> str:
    """Return what stands after a place, on its line."""
    return text[end : end + characters].partition("\n")[0]


def is_word(character: str) -> bool:
    """Say whether a character (or none, at the ends of a text) continues a word of ASCII."""
    return character.isascii() and (character.isalnum() or character == "_")

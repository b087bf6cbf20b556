"""The methods: which n-grams of an item count, and how much of the item they make.

`ngram`   The share of an item's n-grams that a document holds. 13 words: Brown et al. 2020,
          "Language Models are Few-Shot Learners", appendix C; the share: Tulu 3, 2024, and Marin's
          decontamination. Where it is known which part of an item is the question (`columns` is
          a mapping), the larger of two shares counts: that of the question's n-grams alone and
          that of question and answer together. A question too short for an n-gram has none.
`llama3`  The share of an item's words that 8-grams found in the document cover (Grattafiori et al.
          2024, "The Llama 3 Herd of Models", section 5.1.4). There it is tokens, any document of
          the corpus counts, and the threshold is chosen for each benchmark; here it is words, one
          document has to cover the share alone, and words that only n-grams without evidence
          could cover (a template's, digits) are not asked for.
`decon`   AI2's decon (github.com/allenai/decon, doc/simple.md and its default settings): see
          `curate.contamination.decon`.

An item without n-grams of its own is matched whole, by every method: all its words in a row.

A document is contaminated where its overlap reaches `required(threshold, strictness)`: the stricter
an item, the nearer to 1.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError

__all__ = [
    "FLOORS",
    "METHODS",
    "WHOLE",
    "Decon",
    "Llama3",
    "Method",
    "Ngram",
    "required",
    "strictness",
]

F64 = npt.NDArray[np.float64]

WHOLE = "whole"
_DIGITS = 9  # a sum of ratios may miss 1 by the last bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ngram:
    """Share of the item's n-grams: see the module's docstring."""

    name: ClassVar[str] = "ngram"
    words: int = 13

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3:
    """Share of the item's words that n-grams cover: see the module's docstring.

    Attributes:
        words: of an n-gram.
        perfect: items of so many words or fewer need all of them ...
        relaxed: ... and those of so many or more the threshold alone; between, linear.
    """

    name: ClassVar[str] = "llama3"
    words: int = 8
    perfect: int = 10
    relaxed: int = 30

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decon:
    """AI2's decon, in words where it counts tokens.

    Attributes:
        words: of an n-gram of the question.
        sample: every so many words of a document begin a search. decon takes every 10th, for
            speed; looking at all costs nothing here, and finds short questions too.
        misses: n-grams in a row that are not the item's and end a cluster.
        perfect: items of so many words or fewer need a perfect match ...
        relaxed: ... and those of so many or more the threshold alone; between, linear.
    """

    name: ClassVar[str] = "decon"
    words: int = 5
    sample: int = 1
    misses: int = 11
    perfect: int = 20
    relaxed: int = 50

    def __post_init__(self) -> None:
        _check(self)


Method = Ngram | Llama3 | Decon
# Weaker matches are no evidence for anybody; stronger ones are recorded, whatever the threshold.
FLOORS: dict[str, float] = {"ngram": 0.2, "llama3": 0.2, "decon": 0.5, WHOLE: 0.0}
METHODS: dict[str, type[Any]] = {kind.name: kind for kind in (Ngram, Llama3, Decon)}


def _check(method: Any) -> None:
    for name, value in asdict(method).items():
        if value < 1:
            raise InputError(
                f"decontaminate.method.{method.name}.{name} must be 1 or more, got {value}"
            )
    if getattr(method, "relaxed", 0) < getattr(method, "perfect", 0):
        raise InputError(
            f"decontaminate.method.{method.name}: perfect is {method.perfect} words and relaxed "
            f"{method.relaxed}; it must not be smaller"
        )


def strictness(perfect: int, relaxed: int, num_words: npt.NDArray[np.int64]) -> F64:
    """Return how far items have to be above the threshold: 1 up to `perfect` words, then less.

    >>> strictness(20, 50, np.array([20, 35, 50])).tolist()
    [1.0, 0.5, 0.0]
    """
    if relaxed == perfect:
        return np.where(num_words > perfect, 0.0, 1.0)
    return 1.0 - np.clip(num_words - perfect, 0, relaxed - perfect) / (relaxed - perfect)


def required(threshold: float, strictness: npt.ArrayLike) -> F64:
    """Return the overlap that items of some strictness (0 to 1) need.

    >>> required(0.8, [0.0, 0.5, 1.0]).tolist()
    [0.8, 0.9, 1.0]
    """
    strict = np.asarray(strictness, dtype=np.float64)
    found: F64 = np.round(threshold + (1.0 - threshold) * strict, _DIGITS)
    return found

"""Similarity of two texts said in plain Python: what checks the kernels must not share them.

No kernel, no hash and no table of ours: `unicodedata` and sets of words.

>>> from curate.kernels.shingles import Shingling
>>> plain_similarity("One, two THREE", "one two four", Shingling(width=2), "jaccard")
0.3333333333333333
"""

import functools
import re
import unicodedata

from curate.kernels.datatrove import simplify
from curate.kernels.fold import is_alone
from curate.kernels.shingles import Shingling

__all__ = ["plain_shingles", "plain_similarity"]

Shingles = set[tuple[str, ...]]


def plain_similarity(left: str, right: str, shingling: Shingling, similarity: str) -> float:
    """Return shared / union of two texts' shingles, or shared / the smaller set; 0 without any.

    Args:
        left, right: texts.
        shingling: what a shingle is.
        similarity: `jaccard` or `containment`.
    """
    one, two = plain_shingles(left, shingling), plain_shingles(right, shingling)
    shared = len(one & two)
    whole = min(len(one), len(two)) if similarity == "containment" else len(one | two)
    return shared / max(whole, 1)


def plain_shingles(text: str, shingling: Shingling) -> Shingles:
    """Return the set of a text's shingles, each a tuple of words or of characters."""
    data = text.encode()
    if 0 < shingling.max_document_bytes < len(data):
        text = data[: shingling.max_document_bytes].decode(errors="ignore")
    in_words = shingling.unit == "words"
    if shingling.normaliser == "datatrove":
        return _runs(simplify(text).split(), shingling.width)
    folded = " ".join(_fold(word, in_words) for word in text.split(" "))
    if shingling.numbers == "zero":
        folded = re.sub(r"\d+", "0", folded)
    words = folded.split()
    units = words if in_words else list(" ".join(words))
    return _runs(units, shingling.width)


def _runs(units: list[str], width: int) -> Shingles:
    return set(zip(*(units[k:] for k in range(width)), strict=False))


@functools.lru_cache(maxsize=1 << 16)
def _fold(word: str, in_words: bool) -> str:
    """Fold each character by itself: `curate.kernels.fold` says how; separators become spaces."""
    return "".join(map(_fold_in_words if in_words else _fold_character, word))


@functools.lru_cache(maxsize=1 << 16)
def _fold_in_words(character: str) -> str:
    folded = _fold_character(character)
    return f" {folded} " if is_alone(character) else folded


@functools.lru_cache(maxsize=1 << 16)
def _fold_character(character: str) -> str:
    lowered = character.lower().replace("\u03c2", "\u03c3")
    kinds = ((c, unicodedata.category(c)[0]) for c in unicodedata.normalize("NFD", lowered))
    return "".join(c if kind in "LN" else " " for c, kind in kinds if kind != "M")

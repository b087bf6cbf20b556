"""Similarity of two texts said in plain Python: what checks the kernels must not share them.

No kernel, no hash and no table of ours: `unicodedata` and sets of words.

>>> from curate.kernels.shingles import Shingling
>>> plain_similarity("One, two THREE", "one two four", Shingling(width=2), "jaccard")
0.3333333333333333
"""

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
    folded = text.translate(_IN_WORDS if in_words else _IN_CHARACTERS)
    if shingling.numbers == "zero":
        folded = re.sub(r"\d+", "0", folded)
    words = folded.split()
    units = words if in_words else list(" ".join(words))
    return _runs(units, shingling.width)


def _runs(units: list[str], width: int) -> Shingles:
    return set(zip(*(units[k:] for k in range(width)), strict=False))


class _Fold(dict[int, str]):
    """What `str.translate` makes of each character, as `curate.kernels.fold` says it.

    Separators become spaces. In words, letters of scripts without spaces stand alone.
    """

    def __init__(self, *, in_words: bool) -> None:
        super().__init__()
        self._in_words = in_words

    def __missing__(self, code: int) -> str:
        lowered = chr(code).lower().replace("\u03c2", "\u03c3")
        kinds = ((c, unicodedata.category(c)[0]) for c in unicodedata.normalize("NFD", lowered))
        folded = "".join(c if kind in "LN" else " " for c, kind in kinds if kind != "M")
        if self._in_words and is_alone(chr(code)):
            folded = f" {folded} "
        self[code] = folded
        return folded


_IN_WORDS, _IN_CHARACTERS = _Fold(in_words=True), _Fold(in_words=False)

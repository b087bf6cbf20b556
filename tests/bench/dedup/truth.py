"""Near-duplicates with a known answer: word edits, and the exact Jaccard similarity they leave.

Everything here is plain Python on purpose: it judges the kernels, so it shares nothing with them.
"""

import random
import re
import unicodedata
from dataclasses import dataclass

WIDTH = 5
# What a tool may mean by a word. The first is the truth's; the others tell how much of a tool's
# recall is due to its other words: an edit costs more shingles where words are longer.
LETTERS = re.compile(r"[^\W_]+")
IDENTIFIERS = re.compile(r"\w+")
SPACES = re.compile(r"[^ ]+")
# From Thai on, many scripts are written without spaces, and tools differ in what a word of them is.
FIRST_WITHOUT_SPACES = "\u0e00"
MAX_TRIES = 12
MIN_WORDS = 60


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A range of similarity [low, high) and its share of the injected copies."""

    name: str
    low: float
    high: float
    share: float
    at_least: int


BINS = (
    Bin(name="0.55-0.80", low=0.55, high=0.80, share=0.130, at_least=1_000),
    Bin(name="0.80-0.85", low=0.80, high=0.85, share=0.268, at_least=2_000),
    Bin(name="0.85-0.90", low=0.85, high=0.90, share=0.268, at_least=2_000),
    Bin(name="0.90-1.00", low=0.90, high=1.00, share=0.268, at_least=2_000),
    Bin(name="exact copy", low=1.00, high=1.01, share=0.066, at_least=500),
)
DECOY, EXACT = BINS[0], BINS[-1]


def has_spaces(text: str) -> bool:
    """Return whether all letters are of scripts that put spaces between words."""
    return text.isascii() or not any(one >= FIRST_WITHOUT_SPACES and one.isalpha() for one in text)


def folded(text: str) -> str:
    """Return the text in lower case without combining marks."""
    text = text.lower()
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(one for one in decomposed if unicodedata.category(one)[0] != "M")


def shingles(text: str, word: re.Pattern[str] = LETTERS) -> set[tuple[str, ...]]:
    """Return the set of runs of `WIDTH` consecutive words."""
    words = word.findall(folded(text))
    return set(zip(*(words[k:] for k in range(WIDTH)), strict=False))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """Return |one & other| / |one | other|, and 0 for two empty sets."""
    shared = len(one & other)
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def copy_of(text: str, wanted: Bin, vocabulary: list[str], draw: random.Random) -> str | None:
    """Return an edited copy whose similarity lies in the bin; None where the text is not fit.

    Words are replaced (60 %), removed (20 %) or inserted (20 %) at random places; the number of
    edits is corrected from one try to the next.
    """
    if not has_spaces(text):
        return None
    if wanted is EXACT:
        return text
    original = shingles(text)
    spans = [found.span() for found in LETTERS.finditer(text)]
    if len(spans) < MIN_WORDS or len(original) < MIN_WORDS:
        return None
    margin = 0.1 * (wanted.high - wanted.low)
    target = draw.uniform(wanted.low + margin, wanted.high - margin)
    # An edit far from any other costs WIDTH shingles on either side.
    num_edits = len(original) * (1 - target) / (WIDTH * (1 + target))
    for _ in range(MAX_TRIES):
        count = min(max(1, round(num_edits)), len(spans))
        copy = _edited(text, sorted(draw.sample(spans, count)), vocabulary, draw)
        found = jaccard(original, shingles(copy))
        if wanted.low <= found < wanted.high:
            return copy
        num_edits *= (1 - target) / max(1 - found, 0.01)
    return None


def _edited(
    text: str, spans: list[tuple[int, int]], vocabulary: list[str], draw: random.Random
) -> str:
    """Edit the words at these places."""
    parts = []
    after = 0
    for start, stop in spans:
        chance = draw.random()
        parts.append(text[after:start])
        if chance < 0.6:
            parts.append(draw.choice(vocabulary))
        elif chance >= 0.8:
            parts.append(f"{text[start:stop]} {draw.choice(vocabulary)}")
        after = stop
    return "".join([*parts, text[after:]])

"""What is no evidence, whatever the method: chance, templates, and texts that say too little.

- An n-gram with fewer than two different telling words. Digits and single characters tell nothing:
  `0 1 2 ... 9 a b c` is in HumanEval and in much code that has never seen it.
- An n-gram that more than `max_items` different items of one benchmark share. It is the benchmark's
  template (BIG-Bench Hard has a few dozen) or a common passage, and says nothing of an item.
  Items with the same words count once here, so a benchmark that repeats items loses nothing.
- An n-gram that too many documents of the corpus hold: licences, legal boilerplate, idioms. That
  needs a count over the whole corpus first (`common_keys`); what it silences is told.
- An item that is too short to be matched whole: fewer than `min_words` words or `min_chars`
  characters.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.corpus.errors import InputError
from curate.kernels.mix import GOLDEN, fmix64

__all__ = ["Guards", "common_keys", "evidence_mask", "sums", "telling_words", "whole_mask"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What is too little, or too common, to be evidence.

    Attributes:
        min_words: shortest item that is matched whole.
        min_chars: the same, in characters of its words joined by spaces.
        max_items: an n-gram of more different items of a benchmark than this is its template; a
            short item whose words are those of more items than this is a phrase.
    """

    min_words: int = 5
    min_chars: int = 25
    max_items: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"decontaminate: {name} must be 1 or more, got {value}")


def telling_words(spelled: pl.Series) -> Bools:
    """Say of each word whether it tells something: it is no number and no single character."""
    found: Bools = (~spelled.str.contains(r"^(\p{N}+|.)$")).to_numpy()
    return found


def evidence_mask(
    grams: U64, gram_offsets: I64, offsets: I64, words: U64, telling: Bools, width: int,
    benchmark: I64, text_key: U64, max_items: int,
) -> Bools:  # fmt: skip
    """Say of each n-gram of each item whether it is evidence, see the module's docstring.

    Args:
        grams, gram_offsets: n-gram hashes of the items, offsets [n + 1].
        offsets, words, telling: the items' words, their hashes, and which of them tell something.
        width: words of an n-gram.
        benchmark: [n], number of the item's benchmark.
        text_key: [n], the same for items of the same words.
        max_items: of one benchmark, that may share an n-gram.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(gram_offsets))
    first = np.arange(len(grams)) - gram_offsets[owner] + offsets[owner]
    low = np.full(len(grams), ~np.uint64(0))
    high = np.zeros(len(grams), dtype=np.uint64)
    for k in range(width):
        word, tells = words[first + k], telling[first + k]
        low = np.where(tells, np.minimum(low, word), low)
        high = np.where(tells, np.maximum(high, word), high)
    pairs = pl.DataFrame({"b": benchmark[owner], "gram": grams, "text": text_key[owner]})
    shared = pairs.select(pl.col("text").n_unique().over("b", "gram")).to_series().to_numpy()
    mask: Bools = (low < high) & (shared <= max_items)
    return mask


def whole_mask(
    words: U64, offsets: I64, telling: Bools, letters: I64, benchmark: I64, text_key: U64,
    guards: Guards,
) -> Bools:  # fmt: skip
    """Say of each item whether all its words in a row are evidence; `letters` of each word."""
    num_words = np.diff(offsets)
    num_chars = sums(letters, offsets) + np.maximum(num_words - 1, 0)
    low, high = np.where(telling, words, ~np.uint64(0)), np.where(telling, words, 0)
    tells = _per_item(np.minimum, low, offsets) < _per_item(np.maximum, high, offsets)
    pairs = np.stack([benchmark.astype(np.uint64), text_key], axis=1)
    _, inverse, copies = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    rare = copies[inverse.ravel()] <= guards.max_items
    mask: Bools = (num_words >= guards.min_words) & (num_chars >= guards.min_chars) & tells & rare
    return mask


def sequence_keys(hashes: U64, offsets: I64) -> U64:
    """Return one hash for the words of an item in their order, uint64 [num_items]."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    position = (np.arange(len(hashes)) - offsets[owner] + 1).astype(np.uint64)
    keys: U64 = sums(fmix64(hashes ^ (position * GOLDEN)), offsets)
    return keys


def common_keys(counts: Mapping[str, I64], documents: int, most: int, share: float) -> Any:
    """Return for each kind of evidence the sorted keys that too many documents hold.

    Args:
        counts: kind -> [keys], documents that hold a key; sums over any parts of the corpus.
        documents: in the corpus.
        most: a key in so many documents is never common.
        share: nor one in so large a share of the documents.
    """
    limit = max(most, int(share * documents))
    return {name: np.flatnonzero(count > limit) for name, count in counts.items()}


def sums(values: npt.NDArray[Any], offsets: I64) -> Any:
    """Sum the values of each item, modulo the width of their type."""
    running = np.zeros(len(values) + 1, dtype=values.dtype)
    np.cumsum(values, out=running[1:])
    return running[offsets[1:]] - running[offsets[:-1]]


def _per_item(reduce: np.ufunc, values: npt.NDArray[Any], offsets: I64) -> npt.NDArray[Any]:
    """Reduce each item; 0 for one without words (which is refused for its length anyway)."""
    result = np.zeros(len(offsets) - 1, dtype=np.uint64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = reduce.reduceat(values, offsets[:-1][filled])
    return result

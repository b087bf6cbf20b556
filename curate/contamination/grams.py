"""The n-grams of many items as a table that texts are looked up in: one look-up per word.

Keys are the different n-grams, numbered by their hash; a hit is (document, word, key), and
`items_of` says whose n-gram it is. The kernels compare the words of what they find.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels.scratch import Scratch, borrowed_scratch, text_slices
from curate.kernels.shingles import hash_words
from curate.kernels.words import ngram_hashes

__all__ = ["Grams", "Hits", "hashed_words", "ranges"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_SPARE_BITS = 4  # the bitmap has 16 to 32 places per n-gram: 3 to 6 % pass it by chance
_MIN_BITS, _MAX_BITS = 12, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Where evidence stands, all int64 [num_hits], ordered by (document, word).

    Attributes:
        document: ordinal of the document.
        word: first word of the n-gram, counted inside the document.
        key: which n-gram.
    """

    document: I64
    word: I64
    key: I64

    def __len__(self) -> int:
        return int(self.key.size)

    def where(self, mask: Bools) -> "Hits":
        """Keep some of the hits."""
        return Hits(document=self.document[mask], word=self.word[mask], key=self.key[mask])

    @classmethod
    def joined(cls, parts: "list[Hits]") -> "Hits":
        """Put hits of consecutive documents together."""
        none = np.empty(0, dtype=np.int64)
        document, word, key = (
            np.concatenate([none, *(getattr(part, name) for part in parts)])
            for name in ("document", "word", "key")
        )
        return cls(document=document, word=word, key=key)


class Grams:
    """The n-grams that stand at some places of the items.

    Args:
        words: uint64 [total], word hashes of all items.
        offsets: int64 [num_items + 1].
        item: int64 [places].
        at: int64 [places], first word of the n-gram, counted inside the item.
        width: words of an n-gram.

    Attributes:
        width: words of an n-gram.
        item, at: the places, ordered by (key, item, at).
        pair_first: int64 [pairs + 1]: places pair_first[p] to pair_first[p + 1] share key and item.
        pair_key, pair_item: int64 [pairs].
        key_first: int64 [keys + 1]: the same for the pairs of a key.
    """

    def __init__(self, words: U64, offsets: I64, item: I64, at: I64, width: int) -> None:
        self.width = width
        self._words = np.require(words, np.uint64, ["C"])
        hashes, gram_offsets = ngram_hashes(words, offsets, width)
        keys = hashes[gram_offsets[item] + at]
        order = np.lexsort((at, item, keys))
        keys, item, at = keys[order], item[order], at[order]
        start = offsets[item] + at
        first = np.flatnonzero(_changes(keys))
        head = start[first][np.cumsum(_changes(keys)) - 1]
        same = np.ones(keys.size, dtype=np.bool_)
        for k in range(width if keys.size else 0):  # two n-grams of one hash: the first one stays
            same &= words[start + k] == words[head + k]
        keys, self.item, self.at, start = keys[same], item[same], at[same], start[same]
        new_key = _changes(keys)
        new_pair = new_key | _changes(self.item)
        first = np.flatnonzero(new_key)
        self._keys, self._heads = keys[first], start[first]
        pairs = np.flatnonzero(new_pair)
        self.pair_first = np.append(pairs, keys.size)
        self.pair_item = self.item[pairs]
        self.pair_key = (np.cumsum(new_key) - 1)[pairs]
        self.key_first = np.append(np.flatnonzero(new_key[pairs]), pairs.size)

    @property
    def num_keys(self) -> int:
        """Number of different n-grams."""
        return int(self._keys.size)

    @functools.cached_property
    def _table(self) -> tuple[Any, ...]:
        from curate.kernels import grams  # numba: half a second

        num_bits = min(max(self.num_keys.bit_length() + _SPARE_BITS, _MIN_BITS), _MAX_BITS)
        shift = np.uint64(64 - num_bits)
        bits = np.zeros((1 << num_bits) // 64, dtype=np.uint64)
        slots = np.full(1 << (self.num_keys.bit_length() + 1), -1, dtype=np.int32)
        grams.fill_table(self._keys, self._heads, self._words, self.width, bits, shift, slots)
        return bits, shift, slots, self._keys, self._heads, self._words

    def find(self, words: U64, offsets: I64, scratch: Scratch) -> Hits:
        """Find the n-grams in some documents.

        Args:
            words: uint64, the documents' word hashes.
            offsets: int64 [num_documents + 1].
            scratch: memory to use.
        """
        from curate.kernels import grams

        if not self.num_keys:
            return Hits.joined([])
        place = scratch.int64("gram places", int(offsets[-1]))
        key = scratch.int64("gram keys", int(offsets[-1]))
        block = scratch.uint64("gram block", 2 * grams.BLOCK)
        bits, shift, slots, keys, heads, own = self._table
        count = grams.find_grams(
            words, offsets, self.width, bits, shift, slots, keys, heads, own, block, place, key
        )
        document = np.searchsorted(offsets, place[:count], side="right") - 1
        return Hits(
            document=document, word=place[:count] - offsets[document], key=key[:count].copy()
        )

    def items_of(self, keys: I64) -> tuple[I64, I64]:
        """Return (position in `keys`, pair) of every item that has a key."""
        return ranges(self.key_first[keys], self.key_first[keys + 1])


def hashed_words(texts: Any) -> Iterator[tuple[int, U64, I64, Scratch]]:
    """Yield (first document, word hashes, offsets, scratch) of slices; all of it is scratch."""
    with borrowed_scratch() as scratch:
        for part in text_slices(texts):
            offsets = scratch.int64("offsets", part.num_texts + 1)
            yield part.first, hash_words(part, 0, False, scratch, offsets), offsets, scratch


def ranges(start: I64, stop: I64) -> tuple[I64, I64]:
    """Return (number of the range, value) of every value in ranges.

    >>> [found.tolist() for found in ranges(np.array([5, 2]), np.array([7, 3]))]
    [[0, 0, 1], [5, 6, 2]]
    """
    sizes = stop - start
    which = np.repeat(np.arange(sizes.size), sizes)
    within = np.arange(which.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return which, start[which] + within


def _changes(values: npt.NDArray[Any]) -> Bools:
    """Say where a value differs from the one before; the first does."""
    changed = np.ones(values.size, dtype=np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed

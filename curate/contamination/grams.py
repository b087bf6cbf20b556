"""The n-grams of many items as a table that texts are looked up in.

Keys are the different n-grams, numbered by their first place; a hit is (document, word, key) and
its bytes, and `items_of` says whose n-gram it is. The kernels compare what they find word by word,
by hash and then, for hits, letter by letter.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels.buffers import text_buffers
from curate.kernels.scratch import Scratch, TextSlice, borrowed_scratch, text_slices
from curate.kernels.shingles import hash_words
from curate.kernels.words import ngram_hashes, normalise_words, word_hashes

__all__ = ["Grams", "Hashed", "Hits", "Words", "hashed_words", "ranges"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_SPARE_BITS = 4  # a bitmap has 16 to 32 places per n-gram: 3 to 6 % pass it by chance
_MIN_BITS, _MAX_BITS = 12, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Where evidence stands, all int64 [num_hits], ordered by (document, word).

    Attributes:
        document: ordinal of the document.
        word: first word of the n-gram, counted inside the document.
        key: which n-gram.
        begin, end: its first byte and that behind its last one, counted inside the document.
    """

    document: I64
    word: I64
    key: I64
    begin: I64
    end: I64

    def __len__(self) -> int:
        return int(self.key.size)

    def where(self, mask: Bools) -> "Hits":
        """Keep some of the hits."""
        return Hits(**{item.name: getattr(self, item.name)[mask] for item in fields(self)})

    @classmethod
    def joined(cls, parts: "list[Hits]") -> "Hits":
        """Put hits of consecutive documents together."""
        none = np.empty(0, dtype=np.int64)
        names = [item.name for item in fields(cls)]
        return cls(**{n: np.concatenate([none, *(getattr(p, n) for p in parts)]) for n in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of some texts, in hashes and letters.

    Attributes:
        hashes, offsets: uint64 [num_words], int64 [n + 1].
        letters, bounds: uint8, int64 [num_words + 1]: how each word is spelled, folded.
    """

    hashes: U64
    offsets: I64
    letters: U8
    bounds: I64

    @classmethod
    def of(cls, texts: Any) -> "Words":
        """Return the words of a large_string array; a null text has none."""
        hashes, offsets = word_hashes(texts)
        letters, bounds = text_buffers(normalise_words(texts)[0])
        return cls(hashes=hashes, offsets=offsets, letters=letters, bounds=bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """The words of a slice of documents, all of it scratch memory.

    Attributes:
        part: the slice.
        words, offsets: uint64 [num_words], int64 [num_texts + 1].
        scratch: more of it.
    """

    part: TextSlice
    words: U64
    offsets: I64
    scratch: Scratch

    def hits(
        self, document: I64, word: I64, key: I64, length: Any, items: Words, head: I64
    ) -> Hits:
        """Say where runs of words that have the hashes of others' stand; leave out impostors.

        Args:
            document, word, key: of the slice, ordered by document.
            length: words, of each run or of all.
            items: the others.
            head: int64 [n], their first word in there.
        """
        from curate.kernels import folding, places  # numba: half a second

        part, scratch = self.part, self.scratch
        is_new = _changes(document)
        chosen, which = document[is_new], np.cumsum(is_new) - 1
        starts, stops = part.starts[chosen], part.stops[chosen]
        folded = scratch.uint8("folded", part.num_bytes * (1 if part.is_ascii else 3))
        bounds = np.empty(chosen.size + 1, dtype=np.int64)
        folding.fold_documents(part.data, starts, stops, part.table, True, False, folded, bounds)
        most = part.longest + 10
        begin, end = (np.empty(document.size, dtype=np.int64) for _ in range(2))
        equal = np.empty(document.size, dtype=np.bool_)
        places.place_words(
            part.data, starts, stops, part.table, folded, bounds,
            scratch.int64("edges", most), scratch.int64("places", most), which, word,
            np.broadcast_to(length, word.shape).copy(), head, items.letters, items.bounds,
            begin, end, equal,
        )  # fmt: skip
        found = Hits(document=document + part.first, word=word, key=key, begin=begin, end=end)
        return found if equal.all() else found.where(equal)


class Grams:
    """The n-grams that stand at some places of the items.

    Args:
        words: of all items.
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

    def __init__(self, words: Words, item: I64, at: I64, width: int) -> None:
        self.width = width
        self._items, own, offsets = words, words.hashes, words.offsets
        hashes, gram_offsets = ngram_hashes(own, offsets, width)
        keys = hashes[gram_offsets[item] + at]
        order = np.lexsort((at, item, keys))
        keys, item, at = keys[order], item[order], at[order]
        start = offsets[item] + at
        first = np.flatnonzero(_changes(keys))
        head = start[first][np.cumsum(_changes(keys)) - 1]
        same = np.ones(keys.size, dtype=np.bool_)
        for k in range(width if keys.size else 0):  # two n-grams of one hash: the first one stays
            same &= own[start + k] == own[head + k]
        # By place, so that what stands side by side in a text is side by side in memory too.
        order = np.flatnonzero(same)[np.argsort(head[same], kind="stable")]
        keys, self.item, self.at, start = keys[order], item[order], at[order], start[order]
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
        runs, bits = np.zeros((2, (1 << num_bits) // 64), dtype=np.uint64)
        slots = np.full(1 << (self.num_keys.bit_length() + 1), -1, dtype=np.int32)
        own = self._items.hashes
        grams.fill_table(self._keys, self._heads, own, self.width, runs, bits, shift, slots)
        return runs, bits, shift, slots, self._keys, self._heads, own

    def find(self, texts: Hashed) -> Hits:
        """Find the n-grams in some documents."""
        document, word, key = self.look_up(texts)
        if not key.size:
            return Hits.joined([])
        return texts.hits(document, word, key, self.width, self._items, self._heads[key])

    def look_up(self, texts: Hashed) -> tuple[I64, I64, I64]:
        """Return document, word and key of what has the hashes of an n-gram, see `Hits`."""
        from curate.kernels import grams

        offsets, scratch = texts.offsets, texts.scratch
        if not self.num_keys:
            return (np.empty(0, dtype=np.int64),) * 3
        place = scratch.int64("gram places", int(offsets[-1]))
        key = scratch.int64("gram keys", int(offsets[-1]))
        block = scratch.int64("gram block", grams.BLOCK)
        runs, bits, shift, slots, keys, heads, own = self._table
        count = grams.find_grams(
            texts.words, offsets, self.width, runs, bits, shift, slots, keys, heads, own, block,
            place, key,
        )  # fmt: skip
        document = np.searchsorted(offsets, place[:count], side="right") - 1
        return document, place[:count] - offsets[document], key[:count].copy()

    def items_of(self, keys: I64) -> tuple[I64, I64]:
        """Return (position in `keys`, pair) of every item that has a key."""
        return ranges(self.key_first[keys], self.key_first[keys + 1])


def hashed_words(texts: Any) -> Iterator[Hashed]:
    """Yield the words of slices of a large_string array, each until the next is asked for."""
    with borrowed_scratch() as scratch:
        for part in text_slices(texts):
            offsets = scratch.int64("offsets", part.num_texts + 1)
            words = hash_words(part, 0, False, scratch, offsets)
            yield Hashed(part=part, words=words, offsets=offsets, scratch=scratch)


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

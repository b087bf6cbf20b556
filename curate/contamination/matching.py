"""Find the evidence of many items in many documents at once: one table look-up per word.

The n-grams of the documents are tested against a bitmap of the index's n-grams, which most fail;
the few that pass are looked up exactly. Short items are found by their first words and then
compared word by word. Both run on whole columns.
"""

from dataclasses import dataclass

import numpy as np

from curate.kernels.words import ngram_hashes

__all__ = ["Hits", "Postings", "find_ngrams", "find_sequences"]

_SPARE_BITS = 5  # the bitmap has 32 to 64 places per n-gram: 2 to 3 % pass it by chance
_MIN_BITS, _MAX_BITS = 12, 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Evidence found, one entry per (document, item), all int64 [num_hits].

    Attributes:
        document: ordinal of the document.
        item: row of the item in the index.
        count: distinct n-grams (for whole sequences: 1).
        first: first matched word, counted inside the document.
        last: last matched word.
    """

    document: np.ndarray
    item: np.ndarray
    count: np.ndarray
    first: np.ndarray
    last: np.ndarray


class Postings:
    """Which items a hash belongs to.

    Args:
        hashes: uint64 [num_pairs].
        items: int64 [num_pairs], the item of each hash.
    """

    def __init__(self, hashes: np.ndarray, items: np.ndarray) -> None:
        order = np.lexsort((items, hashes))
        self._items = items[order]
        self._keys, first = np.unique(hashes[order], return_index=True)
        self._first = np.append(first, len(hashes))
        bits = len(self._keys).bit_length() + _SPARE_BITS
        self._shift = np.uint64(64 - min(max(bits, _MIN_BITS), _MAX_BITS))
        self._bitmap = np.zeros(1 << (64 - int(self._shift)), dtype=np.bool_)
        self._bitmap[self._keys >> self._shift] = True

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (position in `hashes`, rank of the key) of every hash that has items."""
        if not len(self._keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        passed = np.flatnonzero(self._bitmap[hashes >> self._shift])
        rank = np.searchsorted(self._keys, hashes[passed])
        found = self._keys[np.minimum(rank, len(self._keys) - 1)] == hashes[passed]
        return passed[found], rank[found]

    def items_of(self, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (position in `ranks`, item) of every item of every key."""
        num_items = self._first[ranks + 1] - self._first[ranks]
        position = np.repeat(np.arange(len(ranks)), num_items)
        ends = np.cumsum(num_items)
        within = np.arange(len(position)) - np.repeat(ends - num_items, num_items)
        return position, self._items[self._first[ranks][position] + within]


def find_ngrams(hashes: np.ndarray, offsets: np.ndarray, width: int, postings: Postings) -> Hits:
    """Count each item's distinct n-grams in each document.

    Args:
        hashes: uint64 [num_words], the documents' word hashes.
        offsets: int64 [num_documents + 1].
        width: words per n-gram.
        postings: n-gram -> items.
    """
    grams, gram_offsets = ngram_hashes(hashes, offsets, width)
    position, rank = postings.find(grams)
    document = np.searchsorted(gram_offsets, position, side="right") - 1
    word = position - gram_offsets[document]
    which, item = postings.items_of(rank)
    return _grouped(document[which], item, rank[which], word[which], width)


def _grouped(
    document: np.ndarray, item: np.ndarray, rank: np.ndarray, word: np.ndarray, width: int
) -> Hits:
    """Reduce single n-gram hits to one entry per (document, item)."""
    order = np.lexsort((word, rank, item, document))
    document, item, rank, word = document[order], item[order], rank[order], word[order]
    new_pair = np.ones(len(order), dtype=np.bool_)
    new_pair[1:] = (document[1:] != document[:-1]) | (item[1:] != item[:-1])
    new_gram = new_pair.copy()
    new_gram[1:] |= rank[1:] != rank[:-1]
    start = np.flatnonzero(new_pair)
    if not len(start):
        empty = np.empty(0, np.int64)
        return Hits(document=empty, item=empty, count=empty, first=empty, last=empty)
    return Hits(
        document=document[start],
        item=item[start],
        count=np.add.reduceat(new_gram.astype(np.int64), start),
        first=np.minimum.reduceat(word, start),
        last=np.maximum.reduceat(word, start) + width - 1,
    )


def find_sequences(
    hashes: np.ndarray,
    offsets: np.ndarray,
    *,
    anchor_words: int,
    anchors: Postings,
    sequences: np.ndarray,
    sequence_offsets: np.ndarray,
) -> Hits:
    """Find the first place where all words of an item stand in a row.

    Args:
        hashes: uint64 [num_words], the documents' word hashes.
        offsets: int64 [num_documents + 1].
        anchor_words: every item has at least so many words.
        anchors: n-gram of an item's first `anchor_words` words -> items.
        sequences: uint64 [total], word hashes of the items.
        sequence_offsets: int64 [num_items + 1]; items that are not searched may be empty.
    """
    grams, gram_offsets = ngram_hashes(hashes, offsets, anchor_words)
    position, rank = anchors.find(grams)
    document = np.searchsorted(gram_offsets, position, side="right") - 1
    start = position - gram_offsets[document] + offsets[document]
    which, item = anchors.items_of(rank)
    document, start = document[which], start[which]
    length = np.diff(sequence_offsets)[item]
    alive = np.flatnonzero(start + length <= offsets[document + 1])
    for word in range(int(length[alive].max(initial=0))):
        # An anchor is a hash too: its words are compared like the rest.
        reached = word < length[alive]
        mine = hashes[np.minimum(start[alive] + word, len(hashes) - 1)]
        place = np.minimum(sequence_offsets[item[alive]] + word, len(sequences) - 1)
        alive = alive[~reached | (mine == sequences[place])]
    document, item, start, length = document[alive], item[alive], start[alive], length[alive]
    order = np.lexsort((start, item, document))
    keep = np.ones(len(order), dtype=np.bool_)
    keep[1:] = (np.diff(document[order]) != 0) | (np.diff(item[order]) != 0)
    chosen = order[keep]
    first = start[chosen] - offsets[document[chosen]]
    return Hits(
        document=document[chosen],
        item=item[chosen],
        count=np.ones(len(chosen), dtype=np.int64),
        first=first,
        last=first + length[chosen] - 1,
    )

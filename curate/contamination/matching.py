"""From hits of n-grams to one match for each (document, item): how much, and where.

Everything is columns: hits become pairs of (document, item), each a run of rows ordered by place.
A match has pieces: stretches of the document between whose matched words less than an n-gram is
missing. What is counted are integers; ratios come last.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.contamination.grams import Grams, Hashed, Hits, Words, ranges

__all__ = [
    "Matches",
    "Runs",
    "Shares",
    "cover_matches",
    "cover_sizes",
    "merged",
    "question_words",
    "share_matches",
    "share_sizes",
    "whole_items",
    "whole_matches",
]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Items found in documents, one entry per (document, item), ordered by them.

    Attributes:
        document, item: int64 [n].
        overlap: float64 [n], 0 to 1.
        pieces: int64 [n + 1]: the pieces of match i are begin[pieces[i] : pieces[i + 1]] ...
        begin, end: int64 [pieces]: first byte and that behind the last, inside the document.
    """

    document: I64
    item: I64
    overlap: F64
    pieces: I64
    begin: I64
    end: I64

    def where(self, mask: Bools) -> "Matches":
        """Keep some of the matches."""
        rows = np.flatnonzero(mask)
        _, kept = ranges(self.pieces[rows], self.pieces[rows + 1])
        sizes = np.diff(self.pieces)[rows]
        return Matches(
            document=self.document[rows],
            item=self.item[rows],
            overlap=self.overlap[rows],
            pieces=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            begin=self.begin[kept],
            end=self.end[kept],
        )


class Runs:
    """Hits as runs of rows, one for each (document, item), ordered by (document, item, word).

    Attributes:
        document, item, word, begin, end, pair: int64 [rows]; `pair` is the (n-gram, item) of
            `Grams`, the others are those of `Hits`.
        start: int64 [runs + 1].
    """

    def __init__(self, grams: Grams, hits: Hits) -> None:
        which, pair = grams.items_of(hits.key)
        document, word, item = hits.document[which], hits.word[which], grams.pair_item[pair]
        order = np.lexsort((word, item, document))
        self.document, self.item, self.word = document[order], item[order], word[order]
        self.begin, self.end = hits.begin[which[order]], hits.end[which[order]]
        self.pair = pair[order]
        new = np.ones(order.size, dtype=np.bool_)
        new[1:] = np.diff(self.document) != 0
        new[1:] |= np.diff(self.item) != 0
        self.start = np.append(np.flatnonzero(new), order.size)

    def __len__(self) -> int:
        return self.start.size - 1

    @property
    def items(self) -> I64:
        """The item of each run."""
        found: I64 = self.item[self.start[:-1]]
        return found

    @property
    def run(self) -> I64:
        """The run of each row."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def different(self) -> tuple[I64, I64]:
        """Return (run, pair) of the different n-grams of each run."""
        order = np.lexsort((self.pair, self.run))
        run, pair = self.run[order], self.pair[order]
        new = np.ones(run.size, dtype=np.bool_)
        new[1:] = (np.diff(run) != 0) | (np.diff(pair) != 0)
        return run[new], pair[new]

    def split(self, gap: int, missing: I64 | None = None) -> I64:
        """Return where pieces start [pieces + 1]: at a run's, or `gap` words behind the last.

        Args:
            gap: words.
            missing: [pairs], n-grams before it in the item that could not have been found; what
                lies between two hits is not held against them.
        """
        new = np.zeros(self.word.size, dtype=np.bool_)
        new[self.start[:-1]] = True
        steps = np.diff(self.word)
        if missing is not None:
            steps -= np.maximum(np.diff(missing[self.pair]), 0)
        new[1:] |= steps >= gap
        return np.append(np.flatnonzero(new), new.size)

    def matches(self, overlap: F64, width: int) -> Matches:
        """Make matches of all runs, with an overlap each."""
        edges = self.split(2 * width)
        return Matches(
            document=self.document[self.start[:-1]],
            item=self.items,
            overlap=overlap,
            pieces=np.searchsorted(edges, self.start).astype(np.int64),
            begin=self.begin[edges[:-1]],
            end=self.end[edges[1:] - 1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What shares are of: different n-grams that are evidence.

    Attributes:
        item, question: int64 [num_items], how many an item has, and how many its question alone.
        in_question: [pairs], whether an n-gram stands in the question of the item.
    """

    item: I64
    question: I64
    in_question: Bools


def question_words(words: U64, offsets: I64, questions: U64, question_offsets: I64) -> I64:
    """Return of each item with how many words its question begins it; 0 if it does not.

    Args:
        words, offsets: word hashes of the items.
        questions, question_offsets: those of their questions; empty where none is told.
    """
    lengths = np.diff(question_offsets)
    if not words.size:
        return np.zeros_like(lengths)
    which, place = ranges(question_offsets[:-1], question_offsets[1:])
    own = offsets[which] + place - question_offsets[which]
    differs = own >= offsets[which + 1]
    differs |= words[np.minimum(own, words.size - 1)] != questions[place]
    lengths[which[differs]] = 0
    return lengths


def share_sizes(grams: Grams, common: Bools, lengths: I64) -> Shares:
    """Count the n-grams that are evidence; `lengths` are those of `question_words`."""
    inside = grams.at[grams.pair_first[:-1]] + grams.width <= lengths[grams.pair_item]
    usable = ~common[grams.pair_key]
    return Shares(
        item=np.bincount(grams.pair_item[usable], minlength=lengths.size),
        question=np.bincount(grams.pair_item[usable & inside], minlength=lengths.size),
        in_question=inside,
    )


def share_matches(grams: Grams, hits: Hits, sizes: Shares) -> Matches:
    """Return the share of different n-grams of each item or of its question, the larger one."""
    runs = Runs(grams, hits)
    run, pair = runs.different()
    found = np.bincount(run, minlength=len(runs)) / sizes.item[runs.items]
    asked = np.bincount(run[sizes.in_question[pair]], minlength=len(runs))
    overlap = np.maximum(found, asked / np.maximum(sizes.question[runs.items], 1))
    return runs.matches(overlap, grams.width)


def cover_sizes(grams: Grams, common: Bools, num_items: int) -> I64:
    """Return how many words of each item n-grams that are evidence can cover, [num_items]."""
    usable = ~common[np.repeat(grams.pair_key, np.diff(grams.pair_first))]
    return _covered(grams.item[usable], grams.at[usable], grams.width, num_items)


def cover_matches(grams: Grams, hits: Hits, sizes: I64) -> Matches:
    """Return the share of each item's coverable words that a document's n-grams cover."""
    runs = Runs(grams, hits)
    run, pair = runs.different()
    which, place = ranges(grams.pair_first[pair], grams.pair_first[pair + 1])
    found = _covered(run[which], grams.at[place], grams.width, len(runs))
    return runs.matches(found / sizes[runs.items], grams.width)


def _covered(owner: I64, at: I64, width: int, num_owners: int) -> I64:
    """Return how many words of each owner are in one of its n-grams, [num_owners]."""
    order = np.lexsort((at, owner))
    owner, at = owner[order], at[order]
    added = np.full(owner.size, width, dtype=np.int64)
    same = owner[1:] == owner[:-1]
    added[1:][same] = np.minimum(np.diff(at)[same], width)
    # Sums of integers far below 2^53 are exact in floats.
    return np.bincount(owner, weights=added, minlength=num_owners).astype(np.int64)


def whole_matches(hits: Hits) -> Matches:
    """Make matches of the places where all words of an item stand; a hit's key is the item."""
    order = np.lexsort((hits.word, hits.key, hits.document))
    document, item = hits.document[order], hits.key[order]
    new = np.ones(order.size, dtype=np.bool_)
    new[1:] = (np.diff(document) != 0) | (np.diff(item) != 0)
    start = np.flatnonzero(new)
    return Matches(
        document=document[start],
        item=item[start],
        overlap=np.ones(start.size),
        pieces=np.append(start, order.size).astype(np.int64),
        begin=hits.begin[order],
        end=hits.end[order],
    )


def whole_items(grams: Grams, texts: Hashed, items: Words) -> Hits:
    """Find the places where all words of an item stand in some documents; a hit's key is the item.

    Args:
        grams: the first words of the items.
        texts: the documents.
        items: all their words.
    """
    document, word, key = grams.look_up(texts)
    which, pair = grams.items_of(key)
    document, word, item = document[which], word[which], grams.pair_item[pair]
    start, length = texts.offsets[document] + word, np.diff(items.offsets)[item]
    alive = np.flatnonzero(start + length <= texts.offsets[document + 1])
    for k in range(grams.width, int(length[alive].max(initial=0))):
        reached = k < length[alive]
        mine = texts.words[np.minimum(start[alive] + k, texts.offsets[-1] - 1)]
        place = np.minimum(items.offsets[item[alive]] + k, len(items.hashes) - 1)
        alive = alive[~reached | (mine == items.hashes[place])]
    if not alive.size:
        return Hits.joined([])
    item = item[alive]
    head = items.offsets[item]
    return texts.hits(document[alive], word[alive], item, length[alive], items, head)


def merged(owners: I64, begin: I64, end: I64) -> tuple[I64, I64, I64]:
    """Return offsets, begin and end of the pieces of each owner, in order and without overlaps.

    >>> spans = np.array([5, 0, 2, 9, 3]), np.array([9, 3, 4, 10, 4])
    >>> [found.tolist() for found in merged(np.array([0, 4, 5]), *spans)]
    [[0, 2, 3], [0, 5, 3], [4, 10, 4]]
    """
    owner = np.repeat(np.arange(owners.size - 1), np.diff(owners))
    order = np.lexsort((begin, owner))
    owner, begin, end = owner[order], begin[order], end[order]
    room = int(end.max(initial=0)) + 2  # each owner's places behind those of the one before
    reach = np.maximum.accumulate(end + owner * room)
    new = np.ones(owner.size, dtype=np.bool_)
    new[1:] = begin[1:] + owner[1:] * room > reach[:-1]
    first = np.flatnonzero(new)
    last = np.append(first[1:], owner.size)[: first.size] - 1
    bounds = np.searchsorted(owner[first], np.arange(owners.size)).astype(np.int64)
    return bounds, begin[first], reach[last] - owner[last] * room

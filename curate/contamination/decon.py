r"""AI2's decon, in words: clusters of short n-grams, weighted by how rare they are.

Formulas and numbers are those of github.com/allenai/decon (doc/simple.md, doc/simple-details.md and
the defaults of its detector, 2025); the code is ours, and the differences are named here.

1. Every `sample`-th word of a document (decon: 10th; here: each) is looked up as the beginning of a
   5-gram of a question. A hit grows to both sides, for each item by itself, until `misses` n-grams
   in a row are not the item's. That is the cluster: a maximal run of an item's hits with smaller
   gaps, one of them at a sampled place.
2. The cluster's overlap is the sum of idf of its different n-grams over that of the question's,
   with idf = ln((N + 1) / items that have it) of N items. (decon: ln(N / items), which would make
   nothing of a benchmark of one item.) Sums are of integers, so a perfect match is 1.
3. An answer is looked for behind the question: one of up to 3 words as it is, within 50 words; a
   longer one by the idf-weighted share of its 3-grams within max(100, twice its length) words.
   (decon weighs single tokens there.) A passage is looked for around the cluster, by the share of
   its 4-grams, within 100 words and twice its length.
4. The score adds them up: 0.7 question + 0.2 answer + 0.1 passage; 0.75 + 0.25 without a passage;
   0.85 + 0.15 without an answer; the question alone otherwise. A question of fewer than 20 n-grams
   (n) keeps the share 0.5 + 0.5 n / 20 of its weight and gives the rest to the others; so does,
   with all three, an answer of fewer than 4 words to the passage.
5. Short items have to be more alike: of L words in all, the required score goes linearly from 1 at
   `perfect` words to the threshold at `relaxed`. (`strictness` says how far from the threshold.)

N-grams that are everywhere decon passes over while it walks; here they are no evidence in the first
place (`curate.contamination.guards`). Where an item has such n-grams they count neither as hits nor
as misses, or its template would tear every cluster apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.contamination.grams import Grams, Hits
from curate.contamination.matching import Matches, Runs
from curate.contamination.methods import Decon
from curate.kernels.words import ngram_hashes

__all__ = ["Part", "Questions", "decon_matches", "weigh"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_UNIT = float(1 << 24)
_ROUNDING = 1e-8  # of `weigh`, and more
_INFORMATIVE = 20  # n-grams of a question
_INFORMATIVE_ANSWER = 4  # words
_SHORT_ANSWER, _SHORT_WINDOW, _LONG_WINDOW, _ANSWER_WORDS = 3, 50, 100, 3
_PASSAGE_DISTANCE, _PASSAGE_WORDS = 100, 4


def _idf(num_items: int, frequency: I64) -> I64:
    """Return ln((N + 1) / frequency) in units of 2^-24, as integers that add up in any order."""
    return np.round(np.log((num_items + 1) / np.maximum(frequency, 1)) * _UNIT).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Answers or passages: word hashes of each item, and the weights of their n-grams.

    Attributes:
        words, offsets: uint64 [total], int64 [num_items + 1].
        width: words of an n-gram.
        keys, idf: the different n-grams, sorted, and their weights.
    """

    words: U64
    offsets: I64
    width: int
    keys: U64
    idf: I64

    @classmethod
    def of(cls, words: U64, offsets: I64, width: int) -> "Part":
        """Weigh the n-grams of some texts."""
        grams, gram_offsets = ngram_hashes(words, offsets, width)
        owner = np.repeat(np.arange(offsets.size - 1), np.diff(gram_offsets))
        order = np.lexsort((owner, grams))
        grams, owner = grams[order], owner[order]
        new = np.ones(grams.size, dtype=np.bool_)
        new[1:] = (grams[1:] != grams[:-1]) | (owner[1:] != owner[:-1])
        keys, frequency = np.unique(grams[new], return_counts=True)
        num_items = int(np.count_nonzero(np.diff(offsets)))
        return cls(
            words=words, offsets=offsets, width=width, keys=keys, idf=_idf(num_items, frequency)
        )

    def of_item(self, item: int) -> U64:
        """Return the words of one item."""
        return self.words[self.offsets[item] : self.offsets[item + 1]]

    def share(self, item: int, window: U64) -> float:
        """Return the idf-weighted share of an item's n-grams that stand in some words."""
        mine = np.unique(_grams(self.of_item(item), self.width))
        if not mine.size:
            return float(_contains(window, self.of_item(item)))
        weights = self.idf[np.searchsorted(self.keys, mine)]
        found = np.isin(mine, _grams(window, self.width))
        return float(weights[found].sum() / weights.sum())


class Questions:
    """What decon knows of the items: weights of questions' n-grams, answers, passages.

    Args:
        grams: of the questions.
        common: [keys], n-grams that are no evidence.
        lengths: int64 [num_items], words of the questions.
        answers, passages: empty where an item has none.
    """

    def __init__(
        self, grams: Grams, common: Bools, lengths: I64, answers: Part, passages: Part
    ) -> None:
        self.grams, self.answers, self.passages = grams, answers, passages
        num_items = lengths.size
        frequency = np.bincount(grams.pair_key, minlength=grams.num_keys)
        num_questions = int(np.unique(grams.pair_item).size)
        self.idf = np.where(common, 0, _idf(num_questions, frequency))
        usable = ~common[grams.pair_key]
        first = grams.pair_first[:-1]
        self.missing = _missing(grams.pair_item, grams.at[first], usable)
        self.tail = lengths[grams.pair_item] - grams.at[first] - grams.width
        self.num_grams = np.bincount(grams.pair_item[usable], minlength=num_items)
        self.total_idf = np.zeros(num_items, dtype=np.int64)
        np.add.at(self.total_idf, grams.pair_item, self.idf[grams.pair_key])
        self.num_words = lengths + np.diff(answers.offsets) + np.diff(passages.offsets)
        self.is_alone = (np.diff(answers.offsets) + np.diff(passages.offsets)) == 0
        self.support = np.zeros(num_items)
        for one in np.flatnonzero(~self.is_alone).tolist():
            told, about = answers.of_item(one).size, passages.of_item(one).size
            self.support[one] = _support(told, about, int(self.num_grams[one]))


def _missing(item: I64, at: I64, usable: Bools) -> I64:
    """Return of each (n-gram, item) how many n-grams before it in the item are no evidence."""
    order = np.lexsort((at, item))
    own, counted = item[order], usable[order].astype(np.int64)
    rank: I64 = np.cumsum(counted) - counted
    new = np.ones(own.size, dtype=np.bool_)
    new[1:] = own[1:] != own[:-1]
    begin = np.flatnonzero(new)
    rank = rank - np.repeat(rank[begin], np.diff(np.append(begin, own.size)))
    missing = np.empty(item.size, dtype=np.int64)
    missing[order] = at[order] - rank
    return missing


def weigh(
    question: float, answer: float | None, passage: float | None, num_grams: int, num_words: int
) -> float:
    """Return the score of what was found of a question, its answer and its passage.

    Args:
        question, answer, passage: overlaps, 0 to 1; None: the item has none.
        num_grams: different n-grams of the question.
        num_words: words of the answer.

    >>> weigh(1.0, 0.0, None, 40, 2), weigh(1.0, 1.0, 0.0, 40, 9), weigh(1.0, 0.0, None, 10, 9)
    (0.75, 0.9, 0.5625)
    """
    sure = 0.5 + 0.5 * min(num_grams, _INFORMATIVE) / _INFORMATIVE
    if answer is None and passage is None:
        return question
    if passage is None:
        assert answer is not None
        mine = 0.75 * sure
        return round(question * mine + answer * (1.0 - mine), 9)
    if answer is None:
        mine = 0.85 * sure
        return round(question * mine + passage * (1.0 - mine), 9)
    mine, spare = 0.7 * sure, 0.7 * (1.0 - sure)
    sure_answer = 0.5 + 0.5 * min(num_words, _INFORMATIVE_ANSWER) / _INFORMATIVE_ANSWER
    theirs = (0.2 + 0.5 * spare) * sure_answer
    return round(question * mine + answer * theirs + passage * (1.0 - mine - theirs), 9)


def _support(answer_words: int, passage_words: int, num_grams: int) -> float:
    """Return what answer and passage bring to the score of an item at most, 0 to 1."""
    answer, passage = (1.0 if words else None for words in (answer_words, passage_words))
    return weigh(0.0, answer, passage, num_grams, answer_words)


def decon_matches(
    method: Decon,
    questions: Questions,
    hits: Hits,
    above: float,
    words_of: Callable[[int], tuple[U64, I64]],
) -> Matches:
    """Return the best cluster of each (document, item).

    Args:
        method: the settings.
        questions: of the items.
        hits: of the questions' n-grams, none of them common.
        above: scores below need not be exact: what cannot reach it has no answer looked for.
        words_of: document -> its word hashes, and the byte behind each word.
    """
    runs = Runs(questions.grams, hits)
    edges = runs.split(method.misses + 1, questions.missing)
    cluster = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    sampled = np.zeros(edges.size - 1, dtype=np.bool_)
    sampled[cluster[runs.word % method.sample == 0]] = True
    owner = np.searchsorted(runs.start, edges[:-1], side="right") - 1
    item, document = runs.item[edges[:-1]], runs.document[edges[:-1]]
    first = runs.word[edges[:-1]]
    begin, end = runs.begin[edges[:-1]], runs.end[edges[1:] - 1]
    score = _question_overlaps(questions, runs, cluster, item) * sampled
    support = questions.support[item]
    most = score * (1.0 - support) + support + _ROUNDING
    for one in np.flatnonzero((most >= above) & (score > 0) & ~questions.is_alone[item]).tolist():
        row = int(edges[one + 1]) - 1
        tail = int(questions.tail[runs.pair[row]])  # of the question, behind its last n-gram here
        last = int(runs.word[row]) + questions.grams.width - 1
        words, ends = words_of(int(document[one]))
        score[one], reached = _with_support(
            questions, int(item[one]), float(score[one]), words, int(first[one]), last, tail
        )
        end[one] = ends[reached] if reached > last else end[one]
    order = np.lexsort((first, -score, owner))
    best = order[np.r_[True, np.diff(owner[order]) != 0]] if order.size else order
    return Matches(
        document=document[best],
        item=item[best],
        overlap=score[best],
        pieces=np.arange(best.size + 1),
        begin=begin[best],
        end=end[best],
    )


def _question_overlaps(questions: Questions, runs: Runs, cluster: I64, item: I64) -> F64:
    """Return the share of idf that the different n-grams of each cluster hold."""
    order = np.lexsort((runs.pair, cluster))
    mine, pair = cluster[order], runs.pair[order]
    new = np.ones(mine.size, dtype=np.bool_)
    new[1:] = (np.diff(mine) != 0) | (np.diff(pair) != 0)
    found = np.zeros(item.size, dtype=np.int64)
    np.add.at(found, mine[new], questions.idf[questions.grams.pair_key[pair[new]]])
    return found / np.maximum(questions.total_idf[item], 1)


def _with_support(
    questions: Questions, item: int, overlap: float, words: U64, first: int, last: int, tail: int
) -> tuple[float, int]:
    """Return the score of a cluster, and where it ends: behind the answer if that was found."""
    answer = passage = None
    wanted = questions.answers.of_item(item)
    end = last
    if wanted.size:
        short = wanted.size <= _SHORT_ANSWER
        window = _SHORT_WINDOW if short else max(_LONG_WINDOW, 2 * wanted.size)
        behind = words[last + 1 : last + 1 + tail + window]
        answer = (
            float(_contains(behind, wanted)) if short else questions.answers.share(item, behind)
        )
        if answer == 1.0:
            end = last + 1 + _reach(behind, wanted)
    about = questions.passages.of_item(item)
    if about.size:
        reach = _PASSAGE_DISTANCE + 2 * about.size
        around = words[max(0, first - reach) : last + 1 + reach]
        passage = questions.passages.share(item, around)
    score = weigh(overlap, answer, passage, int(questions.num_grams[item]), wanted.size)
    return score, end


def _grams(words: U64, width: int) -> U64:
    found, _ = ngram_hashes(words, np.array([0, words.size], dtype=np.int64), width)
    return found


def _places(words: U64, wanted: U64) -> I64:
    """Return where a sequence of words begins in others."""
    if not 0 < wanted.size <= words.size:
        return np.empty(0, dtype=np.int64)
    found = np.flatnonzero(words[: words.size - wanted.size + 1] == wanted[0])
    for k in range(1, wanted.size):
        found = found[words[found + k] == wanted[k]]
    return found


def _contains(words: U64, wanted: U64) -> bool:
    return bool(_places(words, wanted).size)


def _reach(words: U64, wanted: U64) -> int:
    """Return the last word of the first place where the sequence stands, -1 without one."""
    found = _places(words, wanted)
    return int(found[0]) + wanted.size - 1 if found.size else -1

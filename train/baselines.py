"""What counting alone reaches: modified Kneser-Ney models of tokens, of any order.

Fitted on the training plan's documents, each ONCE however often it is drawn: copies would raise
every count and leave none at one, from which the discounts are estimated. They are evaluated on
the very targets that the model is (text tokens and the end of the document), and see what it sees:
the tokens before, in the same document.

>>> bigram = KneserNey.fit([np.array([0, 1, 2, 1, 2, 3])], vocab_size=4, order=2)
>>> round(float(np.exp(-bigram.nats([np.array([1, w]) for w in range(4)])).sum()), 12)
1.0
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KneserNey", "discounts"]

Array = np.ndarray[Any, np.dtype[Any]]


def discounts(counts: Array) -> Array:
    """Return D1, D2, D3+ [3] from how many events were seen 1, 2, 3 and 4 times.

    Chen and Goodman 1998, equation 17, with Y = n1 / (n1 + 2 n2). Where the counts are too few to
    tell, 1/2, 1 and 3/2 stand in (KenLM's fall-back).
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if (found >= 0).all():
            return found
    return np.array([0.5, 1.0, 1.5])


@dataclass(frozen=True, kw_only=True)
class Level:
    """The n-grams of one length as sorted numbers: context * vocab_size + token.

    A context is known by its place in `extended` of the level below: the sorted numbers of the
    context that is one token shorter * vocab_size + the token before it.

    Attributes:
        codes: [n] int64.
        kept: [n] float64, (count - D) / (the sum of the context's counts).
        freed: [contexts] float64, the share of probability that the discounts set free.
        extended: [longer contexts] int64; empty at the top.
    """

    codes: Array
    kept: Array
    freed: Array
    extended: Array


@dataclass(frozen=True, kw_only=True)
class KneserNey:
    """p(w | h) = (c(hw) - D) / c(h.) + (the share that the discounts free) * p(w | shorter h).

    Interpolated, with three discounts a level (Chen and Goodman 1998, section 3). Below the top, c
    counts the distinct tokens that come before, save for n-grams that begin a document: nothing
    precedes them, and they keep their counts (as in KenLM). Single tokens are interpolated with
    the uniform distribution, so every id has some probability in every context.

    Attributes:
        levels: of n-grams of 1, 2, ... tokens.
    """

    vocab_size: int
    levels: Sequence[Level]

    @classmethod
    def fit(cls, documents: Iterable[Array], *, vocab_size: int, order: int) -> "KneserNey":
        """Count inside each document [n] of ids, the first of which is context only.

        The caller bounds the text: an order of 5 takes about 100 bytes of memory for each token.
        """
        tokens, places = _joined(list(documents))
        contexts, extended = [np.zeros(len(tokens), np.int32)], []
        for length in range(order - 1):
            at = np.flatnonzero(places > length)
            codes = contexts[-1][at] * np.int64(vocab_size) + tokens[at - length - 1]
            distinct, numbers = np.unique(codes, return_inverse=True)
            contexts.append(np.full(len(tokens), -1, np.int32))
            contexts[-1][at] = numbers
            extended.append(distinct)
        extended.append(np.zeros(0, np.int64))
        levels: list[Level] = []
        reduced = np.zeros(0, np.int64)
        for below in range(order - 1, -1, -1):  # tokens of context
            # Where the n-gram begins the document, or at the top: these count as they occur.
            at = np.flatnonzero((places == below) if levels else (places >= below))
            at = at[places[at] > 0]
            codes = contexts.pop()[at] * np.int64(vocab_size) + tokens[at]
            codes, counts = np.unique(np.concatenate([reduced, codes]), return_counts=True)
            levels.append(_level(codes, counts, extended[below], vocab_size))
            if below:  # each distinct n-gram is one kind of predecessor of the shorter one
                context, token = np.divmod(codes, vocab_size)
                reduced = extended[below - 1][context] // vocab_size * vocab_size + token
        return cls(vocab_size=vocab_size, levels=levels[::-1])

    def nats(self, documents: Sequence[Array]) -> Array:
        """Return -ln p of each target, float64 [the sum of len(document) - 1], in order."""
        tokens, places = _joined(documents)
        at = np.flatnonzero(places > 0)
        targets = tokens[at].astype(np.int64)
        p = np.full(len(at), 1 / self.vocab_size)
        context = np.zeros(len(at), np.int64)  # -1: never seen before a target
        for before, level in enumerate(self.levels):
            known = np.flatnonzero(context >= 0)
            which = context[known]
            found = _find(level.codes, which * self.vocab_size + targets[known])
            p[known] *= level.freed[which]
            p[known[found >= 0]] += level.kept[found[found >= 0]]
            longer = known[places[at[known]] > before]
            preceding = tokens[at[longer] - before - 1]
            codes = context[longer] * self.vocab_size + preceding
            context = np.full(len(at), -1, np.int64)
            context[longer] = _find(level.extended, codes)
        nats: Array = -np.log(p)
        return nats


def _level(codes: Array, counts: Array, extended: Array, vocab_size: int) -> Level:
    """Discount the counts of sorted n-grams, and sum up what becomes free in each context."""
    context = codes // vocab_size
    taken = discounts(counts)[np.minimum(counts, 3) - 1]
    totals = np.bincount(context, weights=counts, minlength=1)
    freed = np.bincount(context, weights=taken, minlength=1) / np.maximum(totals, 1)
    return Level(
        codes=codes,
        kept=(counts - taken) / totals[context],
        freed=np.where(totals > 0, freed, 1.0),
        extended=extended,
    )


def _joined(documents: Sequence[Array]) -> tuple[Array, Array]:
    """Return the documents' tokens end to end and each token's place in its own, both int32."""
    if not documents:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    lengths = np.array([len(document) for document in documents])
    tokens = np.concatenate(documents, dtype=np.int32, casting="unsafe")
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return tokens, (np.arange(len(tokens)) - first).astype(np.int32)


def _find(codes: Array, wanted: Array) -> Array:
    """Return the places [n] of numbers among sorted ones, -1 where they are not."""
    if not len(codes):
        return np.full(len(wanted), -1)
    at = np.searchsorted(codes, wanted)
    at[at == len(codes)] = 0
    return np.where(codes[at] == wanted, at, -1)

"""What counting alone reaches: an interpolated Kneser-Ney bigram, and a unigram.

Fitted on the training plan's documents, each ONCE however often it is drawn: copies would raise
every count and leave none at one, from which the discount is estimated. It is evaluated on the
very targets that the model is (text tokens and the end of the document).

>>> bigram = KneserNey.fit([np.array([0, 1, 2, 1, 2, 3])], vocab_size=4)
>>> everything = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
>>> np.exp(-bigram.nats(*everything)).reshape(4, 4).sum(1).round(12).tolist()
[1.0, 1.0, 1.0, 1.0]
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KneserNey", "Unigram", "discount"]

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK_TOKENS = 1 << 22


def discount(counts: Array) -> float:
    """Return D = n1 / (n1 + 2 n2) (Ney, Essen and Kneser 1994; Chen and Goodman 1998, eq. 16).

    n1 and n2 are how many events were seen once and twice; 0.5 where neither occurs.
    """
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5


@dataclass(frozen=True, kw_only=True)
class Unigram:
    """Add-one smoothed frequencies of targets.

    Attributes:
        log_p: [V] float64 log probabilities.
    """

    log_p: Array

    def nats(self, targets: Array) -> Array:
        """Return -ln p of each target [n]."""
        return -self.log_p[targets]


@dataclass(frozen=True, kw_only=True)
class KneserNey:
    """p(w | v) = max(c(vw) - D, 0) / c(v) + D N(v.) / c(v) * q(w).

    N counts distinct neighbours. q is the continuation probability N(.w) / N(..), discounted in
    the same way and interpolated with the uniform distribution over V ids (Chen and Goodman
    1998, section 2.7 and 3), so that every id has some probability in every context.

    Attributes:
        codes: [n] int64 sorted `context * V + target` of the pairs seen.
        counts: [n] int64, how often.
        context_counts, context_kinds: [V] int64, c(v) and N(v.).
        lower: [V] float64, q.
        discount: D of the pairs.
    """

    vocab_size: int
    codes: Array
    counts: Array
    context_counts: Array
    context_kinds: Array
    lower: Array
    discount: float

    @classmethod
    def fit(cls, documents: Iterable[Array], *, vocab_size: int) -> "KneserNey":
        """Count the pairs inside each document [n] of ids; blocks are merged as they come."""
        codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        block: list[Array] = []
        size = 0
        for document in documents:
            ids = document.astype(np.int64)
            block.append(ids[:-1] * vocab_size + ids[1:])
            size += len(ids)
            if size >= BLOCK_TOKENS:
                codes, counts = _merge(codes, counts, block)
                block, size = [], 0
        codes, counts = _merge(codes, counts, block)
        contexts, targets = np.divmod(codes, vocab_size)
        return cls(
            vocab_size=vocab_size,
            codes=codes,
            counts=counts,
            context_counts=_tally(contexts, counts, vocab_size),
            context_kinds=np.bincount(contexts, minlength=vocab_size),
            lower=_continuation(np.bincount(targets, minlength=vocab_size)),
            discount=discount(counts),
        )

    def unigram(self) -> Unigram:
        """Return the unigram of the same targets."""
        seen = _tally(self.codes % self.vocab_size, self.counts, self.vocab_size)
        return Unigram(log_p=np.log((seen + 1) / (seen.sum() + self.vocab_size)))

    def nats(self, contexts: Array, targets: Array) -> Array:
        """Return -ln p(target | context) for arrays [n] of ids; V where nothing was seen: q."""
        wanted = contexts.astype(np.int64) * self.vocab_size + targets
        at = np.searchsorted(self.codes, wanted)
        at[at == len(self.codes)] = 0
        pairs = np.zeros(len(wanted), np.int64)
        if len(self.codes):
            pairs = np.where(self.codes[at] == wanted, self.counts[at], 0)
        total = self.context_counts[contexts]
        safe = np.maximum(total, 1)
        direct = np.maximum(pairs - self.discount, 0) / safe
        weight = np.where(total > 0, self.discount * self.context_kinds[contexts] / safe, 1.0)
        nats: Array = -np.log(direct + weight * self.lower[targets])
        return nats


def _tally(keys: Array, counts: Array, size: int) -> Array:
    """Sum integer counts per key [size] int64; float64 is exact below 2^53."""
    return np.bincount(keys, weights=counts, minlength=size).astype(np.int64)


def _merge(codes: Array, counts: Array, block: list[Array]) -> tuple[Array, Array]:
    """Add a block's pairs to sorted codes and their counts."""
    if not block:
        return codes, counts
    new_codes, new_counts = np.unique(np.concatenate(block), return_counts=True)
    both, place = np.unique(np.concatenate([codes, new_codes]), return_inverse=True)
    return both, _tally(place, np.concatenate([counts, new_counts]), len(both))


def _continuation(kinds: Array) -> Array:
    """Return q [V] from N(.w) [V]: discounted, interpolated with the uniform distribution."""
    total = kinds.sum()
    if not total:
        return np.full(len(kinds), 1 / len(kinds))
    taken = discount(kinds)
    rest = taken * int((kinds > 0).sum()) / total
    q: Array = np.maximum(kinds - taken, 0) / total + rest / len(kinds)
    return q

"""The queue of a domain: every copy of every document has one place, and a mixture is a cut in it.

Copies of a document = domain rate x document factor, rounded by floor + [hash < fraction]
(OLMo 3, 2025). Read the other way round: copy k (from 0) of a document with hash h in [0, 1) and
factor f is drawn from the rate (k + h) / f on. That rate is the copy's place. It holds no weight,
no budget and no other document, so another weight moves the cut and reshuffles nobody, a larger one
only adds copies, and the cut can be put where the domain's size is nearest to what was asked.

A factor may be a product with a quality curve, whose shape changes with the rate; the place is then
the rate at which the curve first gives (k + h) / f.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from curate.mixture.curves import Path
from curate.mixture.keyed import nearest_prefix

__all__ = ["Members", "capacity", "cut", "factor_size", "once", "over_limit"]

_HIGHEST = 2.0**40  # a rate at which every document is at its limit
_PARTS = 1000  # of a copy, in which excess is told
_HALVINGS = 20  # of the rate at which enough is queued; the rest is sorted in vain


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The documents of a domain in keyed order.

    Attributes:
        sizes: int64 [n], in the unit of the budget.
        hashes: uint64 [n], rising.
        factors: float64 [n], none negative.
        limits: float64 [n], most copies of each over all phases.
        used: int64 [n], copies that earlier phases drew.
        cap: the domain's repeat cap.
        path: the domain's quality curve, or None.
        buckets: int64 [n], the bucket of each document in that curve; empty without one.
    """

    sizes: np.ndarray
    hashes: np.ndarray
    factors: np.ndarray
    limits: np.ndarray
    used: np.ndarray
    cap: float
    path: Path | None = None
    buckets: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def plain(self) -> bool:
        """Whether all documents are alike and none was drawn before."""
        same = bool(len(self)) and bool((self.factors == self.factors[0]).all())
        return same and self.path is None and not self.used.any() and self.factors[0] > 0


def capacity(members: Members) -> int:
    """Return how much a domain can still give: each document to its limit, rounded down in sum.

    A limit such as 2.5 is met by the domain: of its documents some are read twice, some thrice.
    """
    used = np.minimum(members.used, np.ceil(members.limits))
    return max(math.floor(_scaled_sum(members.limits - used, members.sizes)), 0)


def factor_size(members: Members) -> Fraction:
    """Return the exact size of a domain at rate 1; its quality curve has mean 1."""
    return _scaled_sum(np.minimum(members.factors, members.cap), members.sizes)


def _scaled_sum(scales: np.ndarray, sizes: np.ndarray) -> Fraction:
    """Return sum(scales * sizes) exactly; scales have few values."""
    values, which = np.unique(scales, return_inverse=True)
    sums = np.zeros(len(values), dtype=np.int64)
    np.add.at(sums, which, sizes)
    exact = (
        Fraction(float(v)) * int(total) for v, total in zip(values, sums, strict=True) if total
    )
    return sum(exact, Fraction(0))


def once(members: Members) -> np.ndarray:
    """Return int64 [n]: the copies at rate 1, without a curve.

    Each document is rounded on its own; those at a limit such as 2.5 meet it together. Where all
    that comes to more epochs than the repeat cap, the last copies of the queue are left out, so
    that the domain is nearest to its cap.
    """
    wanted = np.minimum(members.factors, members.limits)
    whole = np.floor(wanted)
    rounded = whole.astype(np.int64) + (_fractions(members.hashes) < wanted - whole)
    bound = np.flatnonzero((members.factors >= members.limits) & (wanted > whole))
    sizes = members.sizes[bound]
    more = nearest_prefix(sizes, math.floor(_scaled_sum((wanted - whole)[bound], sizes)))
    rounded[bound] = whole[bound] + (np.arange(len(bound)) < more)
    copies = np.asarray(np.maximum(rounded - members.used, 0))
    most = math.floor(Fraction(members.cap) * int(members.sizes.sum()))
    left = max(most - int((members.used * members.sizes).sum()), 0)
    if int((copies * members.sizes).sum()) <= left:
        return copies
    return cut(replace(members, factors=wanted, limits=rounded), left)[0]


def cut(members: Members, want: int) -> tuple[np.ndarray, float]:
    """Draw copies whose size is nearest to what is wanted.

    Args:
        members: the domain.
        want: at most `capacity(members)`.

    Returns:
        int64 [n] copies, and the rate at the cut (0 where nothing is drawn).
    """
    copies = np.zeros(len(members), dtype=np.int64)
    if members.plain:
        return _plain_cut(members, want)
    counts = _enough(members, want)
    rank = np.repeat(np.arange(len(members)), counts)
    first = np.cumsum(counts) - counts
    nth = np.arange(len(rank)) - first[rank] + members.used[rank]
    place = _place(members, rank, nth)
    order = np.argsort(place, kind="stable")  # of equals the lower hash, then the earlier copy
    taken = order[: nearest_prefix(members.sizes[rank[order]], want)]
    np.add.at(copies, rank[taken], 1)
    return copies, float(place[taken[-1]]) if len(taken) else 0.0


def _plain_cut(members: Members, want: int) -> tuple[np.ndarray, float]:
    """Do `cut` where copy k of all documents comes before copy k + 1 of any."""
    whole = int(members.sizes.sum())
    copies = np.full(len(members), want // whole if whole else 0, dtype=np.int64)
    if whole and want % whole:
        copies[: nearest_prefix(members.sizes, want % whole)] += 1
    return copies, want / whole / float(members.factors[0]) if whole else 0.0


def _fractions(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes as float64 in [0, 1)."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _place(members: Members, rank: np.ndarray, nth: np.ndarray) -> np.ndarray:
    rate = (nth + _fractions(members.hashes)[rank]) / members.factors[rank]
    if members.path is None:
        return np.asarray(rate)
    place = np.empty(len(rate))
    for bucket in np.unique(members.buckets):
        here = members.buckets[rank] == bucket
        place[here] = members.path.epochs_at(int(bucket), rate[here])
    return place


def _enough(members: Members, want: int) -> np.ndarray:
    """Return how many of each document's next copies to queue: a stretch that `want` ends in.

    All copies up to some rate at which the sizes sum to well above `want`, so that what rounding
    does at the stretch's end does not matter.
    """
    most = np.maximum(np.ceil(members.limits).astype(np.int64) - members.used, 0)
    margin = 2 * int(members.sizes.max(initial=0)) + 1
    hashes = _fractions(members.hashes)

    def counts(rate: float) -> np.ndarray:
        given = 1.0 if members.path is None else members.path.rates_at(rate)[members.buckets]
        given = given * members.factors * (rate if members.path is None else 1.0)
        reached = np.floor(given - hashes).astype(np.int64) + 1
        return np.asarray(np.clip(reached - members.used, 0, most))

    def enough(rate: float) -> bool:
        return int((counts(rate) * members.sizes).sum()) >= want + margin

    if not enough(_HIGHEST):
        return np.asarray(most)
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return counts(high)


def over_limit(members: Members, rate: float) -> tuple[int, int]:
    """Return the documents whose factor asks for more than their limit, and the size not drawn."""
    if members.path is not None:
        rate_of = members.path.rates_at(rate)[members.buckets] * members.factors
    else:
        rate_of = rate * members.factors
    excess = np.round(np.maximum(rate_of - members.limits, 0.0) * _PARTS).astype(np.int64)
    return int((excess > 0).sum()), int((excess * members.sizes).sum()) // _PARTS

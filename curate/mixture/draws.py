"""A mixture is a number of copies for every document, exact to the token.

A strategy and a budget ask for so much of each domain (`shares`); the queue of the domain (`queue`)
is cut where its size comes nearest to that. A document's copies are the domain's rate times its
factor: 1, times its place on a quality curve (`curves`), times the copies its number of duplicates
earns (`steps`); rounded by floor + [hash < fraction], at most the repeat cap. Phases take turns at
the same queues: each goes on where the earlier ones stopped, so that what was read least comes
first and the repeat cap holds for all of them together.

>>> import pyarrow as pa
>>> ids = pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16))
>>> documents = Documents(codes=np.array([0, 0, 1]), tokens=np.array([60, 40, 50]), doc_ids=ids)
>>> (train,) = plan_draws(documents, [Phase(strategy=Strategy(
...     kind="weights", weights={"books": 0.5, "web": 0.5}, budget=200,
... ))], domains=["books", "web"], repeat_cap=4, seed=7)
>>> train.copies.tolist()
[1, 1, 2]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.corpus.errors import InputError, one_of
from curate.mixture.curves import Curve, buckets_of, places, rates
from curate.mixture.defaults import OTHERS, REPEAT_CAP
from curate.mixture.keyed import keyed_hash, keyed_order
from curate.mixture.queue import Members, capacity, cut, factor_size, once, over_limit
from curate.mixture.shares import Domains, Strategy, Unit, ask

__all__ = ["Documents", "Draws", "Phase", "plan_draws", "steps"]

_PURPOSE = "draw"
_MOST_COPIES = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What is drawn from, in columns of one length n.

    Attributes:
        codes: int [n], index into the domains.
        tokens: int64 [n], bos and eos included.
        doc_ids: `binary(16)` array of n ids.
        num_bytes: int64 [n], of the text; needed for budgets in bytes.
        alike: int64 [n], documents that each speaks for, itself included; needed for `copies`.
        qualities: name -> float64 [n], NaN where undefined; needed for curves.
    """

    codes: np.ndarray
    tokens: np.ndarray
    doc_ids: Any
    num_bytes: np.ndarray | None = None
    alike: np.ndarray | None = None
    qualities: Mapping[str, np.ndarray] = field(default_factory=dict)

    def sizes(self, unit: Unit) -> np.ndarray:
        """Return int64 [n]: what each document counts."""
        if unit == "documents":
            return np.ones(len(self.tokens), dtype=np.int64)
        counted = self.tokens if unit == "tokens" else self.num_bytes
        assert counted is not None, "a budget in bytes needs their number"
        return np.asarray(counted, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of a training run.

    Attributes:
        name: for people.
        strategy: what is asked of each domain.
        copies: documents alike, from so many on -> factor; empty: all 1 (see `steps`).
        curves: domain, or `*` -> its quality curve.
    """

    name: str = "train"
    strategy: Strategy = field(default_factory=Strategy)
    copies: Mapping[int, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How often each document is taken in one phase.

    Attributes:
        copies: int32 [n], in the order of the documents that were given.
        rows: one dict per domain, in order: domain, documents, drawn_documents (with at least one
            copy), available, asked, realised (in the budget's unit), asked_share, realised_share,
            epochs (realised / available; null for an empty domain), available_tokens,
            realised_tokens, asked_tokens (null for budgets in bytes and documents), factor_size
            (available with every document as often as its factor says), capacity (what could be
            asked at most), capped_documents and capped (what the repeat cap kept from being drawn),
            curve (the copies of each bucket of its quality curve, or null).
        longest: size of the longest document, in the budget's unit.
    """

    copies: np.ndarray
    rows: list[dict[str, Any]]
    longest: int


def steps(alike: np.ndarray, copies: Mapping[int, float]) -> np.ndarray:
    """Return float64 [n]: the factor of the largest step that each number reaches.

    >>> from curate.mixture.defaults import FINEWEB2
    >>> steps(np.array([1, 4, 99, 100, 5000]), FINEWEB2).tolist()
    [1.0, 3.0, 5.0, 8.0, 1.0]
    """
    starts = np.array(sorted(copies), dtype=np.int64)
    factors = np.array([copies[int(start)] for start in starts], dtype=np.float64)
    at = np.searchsorted(starts, alike, side="right") - 1
    return np.where(at >= 0, factors[np.maximum(at, 0)], 1.0)


def plan_draws(
    documents: Documents,
    phases: Sequence[Phase],
    *,
    domains: Sequence[str],
    repeat_cap: float | Mapping[str, float] = REPEAT_CAP,
    seed: int,
) -> list[Draws]:
    """Turn strategies and budgets into copies of documents.

    The size that is drawn of a domain differs from what was asked by at most half of the longest
    document.

    Args:
        documents: of the training split.
        phases: in the order of training.
        domains: the names.
        repeat_cap: the most epochs of a domain, and (rounded up) copies of a document, over all
            phases; or domain -> cap, `*` for all others.
        seed: the recipe's seed.

    Raises:
        InputError: see `shares.ask`; a repeat cap below 1 or of an unknown domain.
    """
    codes = np.asarray(documents.codes, dtype=np.int64)
    n = len(codes)
    assert n == len(documents.tokens) == len(documents.doc_ids), "one code, length, id per document"
    assert n == 0 or int(documents.tokens.min()) >= 0, "lengths cannot be negative"
    caps = [_cap_of(repeat_cap, name) for name in domains]
    for phase in phases:
        _check_known(phase.curves, domains)
    if isinstance(repeat_cap, Mapping):
        _check_known(repeat_cap, domains)
    hashes = keyed_hash(documents.doc_ids, seed, _PURPOSE)
    order = keyed_order(documents.doc_ids, seed, _PURPOSE)
    in_domain = order[np.argsort(codes[order], kind="stable")]
    stops = np.cumsum(np.bincount(codes, minlength=len(domains)))
    groups = np.split(in_domain, stops[:-1]) if len(domains) else []
    used = np.zeros(n, dtype=np.int64)
    drawn = []
    for phase in phases:
        sizes = documents.sizes(phase.strategy.unit)
        factors = np.ones(n)
        if phase.copies:
            assert documents.alike is not None, "copies by duplicates need their number"
            factors = steps(documents.alike, phase.copies)
        members = [
            _members(documents, phase, name, rows, sizes, hashes, factors, used, cap)
            for name, rows, cap in zip(domains, groups, caps, strict=True)
        ]
        try:
            found = _draw(documents, phase, domains, groups, members)
        except InputError as error:
            if len(phases) == 1:
                raise
            raise InputError(f"phase {phase.name!r}: {error}") from None
        used += found.copies
        drawn.append(found)
    return drawn


def _cap_of(repeat_cap: float | Mapping[str, float], name: str) -> float:
    if isinstance(repeat_cap, Mapping):
        cap = repeat_cap.get(name, repeat_cap.get(OTHERS, REPEAT_CAP))
    else:
        cap = repeat_cap
    if not cap >= 1 or math.isinf(cap):
        raise InputError(f"repeat_cap counts epochs and must be 1 or more, got {cap}")
    return float(cap)


def _check_known(named: Mapping[str, Any], domains: Sequence[str]) -> None:
    for name in named:
        if name not in domains and name != OTHERS:
            raise InputError(f"mix: {one_of('domain', name, domains)}")


def _members(
    documents: Documents,
    phase: Phase,
    name: str,
    rows: np.ndarray,
    sizes: np.ndarray,
    hashes: np.ndarray,
    factors: np.ndarray,
    used: np.ndarray,
    cap: float,
) -> Members:
    """Return one domain's queue, as a phase finds it."""
    mine = factors[rows]
    limits = np.where(mine > 0, cap, 0.0)
    path, buckets = None, np.empty(0, dtype=np.int64)
    curve = phase.curves.get(name, phase.curves.get(OTHERS))
    if curve is not None:
        path = rates(curve, cap)
        buckets = buckets_of(curve, places(documents.qualities[curve.by][rows], sizes[rows]))
        limits = np.minimum(cap, path.rates[-1][buckets] * mine)
    return Members(
        sizes=sizes[rows],
        hashes=hashes[rows],
        factors=mine,
        limits=limits,
        used=used[rows],
        cap=cap,
        path=path,
        buckets=buckets,
    )


def _draw(
    documents: Documents,
    phase: Phase,
    domains: Sequence[str],
    groups: Sequence[np.ndarray],
    members: Sequence[Members],
) -> Draws:
    """Draw one phase."""
    strategy = phase.strategy
    known = Domains(
        names=domains,
        available=[int(m.sizes.sum()) for m in members],
        sizes=[factor_size(m) for m in members],
        capacities=[capacity(m) for m in members],
    )
    asked = ask(known, strategy)
    # Nothing is asked but the factors themselves: no cut, also documents without a token are read.
    as_they_are = strategy.kind == "natural" and strategy.budget is None and not strategy.epochs
    copies = np.zeros(len(documents.tokens), dtype=np.int64)
    rows = []
    for i, (mine, own) in enumerate(zip(groups, members, strict=True)):
        if as_they_are and own.path is None:
            copies[mine], rate = once(own), 1.0
        else:
            copies[mine], rate = cut(own, asked[i])
        rows.append(_row(domains[i], known, i, asked[i], copies[mine], own, rate))
        tokens = documents.tokens[mine]
        rows[-1]["available_tokens"] = int(tokens.sum())
        rows[-1]["realised_tokens"] = int((tokens * copies[mine]).sum())
        rows[-1]["asked_tokens"] = asked[i] if strategy.unit == "tokens" else None
    assert int(copies.max(initial=0)) <= _MOST_COPIES, "copies fit in 32 bits"
    for column in ("asked", "realised"):
        whole = max(sum(row[column] for row in rows), 1)
        for row in rows:
            row[f"{column}_share"] = row[column] / whole
    longest = int(documents.sizes(strategy.unit).max(initial=0))
    return Draws(copies=copies.astype(np.int32), rows=rows, longest=longest)


def _row(
    name: str, known: Domains, i: int, asked: int, copies: np.ndarray, members: Members, rate: float
) -> dict[str, Any]:
    """Return one row of a phase's table, in the budget's unit."""
    realised = int((copies * members.sizes).sum())
    available = known.available[i]
    capped_documents, capped = over_limit(members, rate)
    curve = None if members.path is None else members.path.rates_at(rate).round(6).tolist()
    return {
        "domain": name,
        "documents": len(members),
        "drawn_documents": int((copies > 0).sum()),
        "available": available,
        "asked": asked,
        "realised": realised,
        "epochs": realised / available if available else None,
        "factor_size": math.floor(known.sizes[i]),
        "capacity": known.capacities[i],
        "capped_documents": capped_documents,
        "capped": capped,
        "curve": curve,
    }

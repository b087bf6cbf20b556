"""A mixture is a number of copies for every document, exact to the token.

Weights and a budget ask for so many tokens of each domain. A domain that holds `available` tokens
and is asked for `asked` gives each document `asked // available` copies, and one more to the first
documents of its keyed order, up to the cut that is nearest to the rest (Preceptor's token-exact
form of "fractional rates become floor(r) + [hash < frac(r)]", Olmo 3, 2025). The order of a domain
depends on the seed and the ids alone: another weight moves the cut and reshuffles nobody.

>>> import pyarrow as pa
>>> ids = pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16))
>>> draws = plan_draws(
...     np.array([0, 0, 1]), np.array([60, 40, 50]), ids, domains=["books", "web"],
...     weights={"books": 0.5, "web": 0.5}, budget_tokens=200, repeat_cap=4, seed=7,
... )
>>> draws.copies.tolist()
[1, 1, 2]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from curate.mixture.keyed import apportion, keyed_order, nearest_prefix

__all__ = ["Draws", "plan_draws"]

_PURPOSE = "draw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How often each document is taken.

    Attributes:
        copies: int32 [n], in the order of the documents that were given.
        table: one row per domain, in the order of `domains`: domain, documents, drawn_documents
            (with at least one copy), available_tokens, asked_share, asked_tokens,
            realised_tokens, realised_share, epochs (realised / available; null for an empty
            domain).
    """

    copies: np.ndarray
    table: pl.DataFrame


def plan_draws(
    domain_codes: np.ndarray,
    tokens: np.ndarray,
    doc_ids: Any,
    *,
    domains: Sequence[str],
    weights: Mapping[str, float] | None = None,
    budget_tokens: int | None = None,
    repeat_cap: float = 4,
    seed: int,
) -> Draws:
    """Turn weights and a budget into copies of documents.

    - Neither weights nor budget: every document once.
    - A budget alone: natural shares (each domain's share of the tokens), scaled to the budget.
    - Weights alone: the largest budget that repeats nothing, so that the scarcest domain is read
      once and the others in proportion.
    - Both: as asked. A domain may be repeated up to `repeat_cap` times (default 4, after
      Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").

    The realised tokens of a domain differ from the asked ones by at most half of the longest
    document. Weights need not sum to one; a weight of 0 leaves a domain out.

    Args:
        domain_codes: int [n], index into `domains`.
        tokens: int64 [n], length of each document, bos and eos included.
        doc_ids: `binary(16)` array of n ids.
        domains: the names.
        weights: name -> weight; must name every domain that has tokens.
        budget_tokens: tokens of the whole mixture.
        repeat_cap: epochs of a domain, at most; 1 or more.
        seed: the recipe's seed.

    Raises:
        InputError: unknown, missing, negative or all-zero weights; a weight on a domain that has
            no tokens; a budget that is not positive, or needs more than `repeat_cap` epochs (the
            message gives the largest budget that does not, and the domain that limits it).
    """
    codes = np.asarray(domain_codes, dtype=np.int64)
    lengths = np.asarray(tokens, dtype=np.int64)
    assert len(codes) == len(lengths) == len(doc_ids), "one code, length and id per document"
    assert len(lengths) == 0 or int(lengths.min()) >= 0, "lengths cannot be negative"
    documents = np.bincount(codes, minlength=len(domains))
    available = _sums(codes, lengths, len(domains))
    if budget_tokens is not None and budget_tokens <= 0:
        raise InputError(f"the budget must be a positive number of tokens, got {budget_tokens}")
    if not repeat_cap >= 1 or math.isinf(repeat_cap):
        raise InputError(f"repeat_cap counts epochs and must be 1 or more, got {repeat_cap}")
    if budget_tokens is not None and not sum(available):
        raise InputError(
            f"the mixture asks for {budget_tokens:,} tokens, but no document was kept; "
            "see the verdicts for the reasons"
        )
    shares = available if weights is None else _shares(weights, domains, available)
    asked = _asked(shares, domains, available, budget_tokens, weights is None, repeat_cap)
    copies = _copies(codes, lengths, doc_ids, available, asked, seed)
    realised = _sums(codes, lengths * copies, len(domains))
    drawn = np.bincount(codes[copies > 0], minlength=len(domains))
    table = _table(domains, documents, drawn, available, shares, asked, realised)
    return Draws(copies=copies, table=table)


def _sums(codes: np.ndarray, values: np.ndarray, num_domains: int) -> list[int]:
    """Integer sums per domain (np.bincount with weights would count in floats)."""
    sums = np.zeros(num_domains, dtype=np.int64)
    np.add.at(sums, codes, values)
    return [int(value) for value in sums]


def _shares(
    weights: Mapping[str, float], domains: Sequence[str], available: list[int]
) -> list[int]:
    """Weights as exact integer shares, in the order of `domains`."""
    unknown = sorted(set(weights) - set(domains))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise InputError(
            f"mix.weights names {names}, the domains are: {', '.join(sorted(domains))}."
            f"{did_you_mean(unknown[0], domains)}"
        )
    bad = [name for name, value in weights.items() if not 0 <= value < math.inf]
    if bad:
        raise InputError(
            f"mix.weights of {bad[0]!r} is {weights[bad[0]]}; a weight is a finite number >= 0"
        )
    empty = [d for d, n in zip(domains, available, strict=True) if not n and weights.get(d)]
    if empty:
        names = ", ".join(map(repr, empty))
        raise InputError(
            f"mix.weights asks for {names}, of which no token was kept; "
            "look at its verdicts, or set its weight to 0"
        )
    missing = [d for d, n in zip(domains, available, strict=True) if n and d not in weights]
    if missing:
        names = ", ".join(map(repr, missing))
        raise InputError(
            f"mix.weights says nothing about {names}; give each a weight, 0 leaves a domain out"
        )
    exact = [Fraction(weights.get(domain, 0)) for domain in domains]
    if not any(exact):
        raise InputError("mix.weights are all 0; at least one domain needs a positive weight")
    common = math.lcm(*(value.denominator for value in exact))
    return [int(value * common) for value in exact]


def _asked(
    shares: list[int],
    domains: Sequence[str],
    available: list[int],
    budget_tokens: int | None,
    natural: bool,
    repeat_cap: float,
) -> list[int]:
    """Tokens asked of each domain, or a refusal."""
    if budget_tokens is None and natural:
        return available
    once, _ = _largest_budget(shares, available, Fraction(1))
    if budget_tokens is None:
        return apportion(once, shares)
    most, scarcest = _largest_budget(shares, available, Fraction(repeat_cap))
    if budget_tokens > most:
        where = "of all the text" if natural else f"of {domains[scarcest]!r}"
        raise InputError(
            f"a budget of {budget_tokens:,} tokens needs more than {repeat_cap:g} epochs {where}; "
            f"the largest feasible budget is {most:,} tokens. "
            "Lower the budget or that weight, add text, or raise repeat_cap"
        )
    return apportion(budget_tokens, shares)


def _largest_budget(shares: list[int], available: list[int], epochs: Fraction) -> tuple[int, int]:
    """The largest budget within some epochs of every domain, and the domain that sets it."""
    whole = sum(shares)
    return min(
        (math.floor(epochs * have * whole / share), i)
        for i, (share, have) in enumerate(zip(shares, available, strict=True))
        if share
    )


def _copies(
    codes: np.ndarray,
    lengths: np.ndarray,
    doc_ids: Any,
    available: list[int],
    asked: list[int],
    seed: int,
) -> np.ndarray:
    """Copies of every document, int32 [n]."""
    copies = np.zeros(len(codes), dtype=np.int32)
    order = keyed_order(doc_ids, seed, _PURPOSE)
    in_domain = order[np.argsort(codes[order], kind="stable")]
    stops = np.cumsum(np.bincount(codes, minlength=len(available)))
    for i, (have, want) in enumerate(zip(available, asked, strict=True)):
        members = in_domain[(stops[i - 1] if i else 0) : stops[i]]
        if want == have:  # also keeps the empty documents of a domain that is read once
            copies[members] = 1
        elif have:
            copies[members] = want // have
            copies[members[: nearest_prefix(lengths[members], want % have)]] += 1
    return copies


def _table(
    domains: Sequence[str],
    documents: np.ndarray,
    drawn: np.ndarray,
    available: list[int],
    shares: list[int],
    asked: list[int],
    realised: list[int],
) -> pl.DataFrame:
    """One row per domain; the only floats of a mixture, each from two integers."""
    whole, total = max(sum(shares), 1), max(sum(realised), 1)
    columns = {
        "domain": list(domains),
        "documents": documents,
        "drawn_documents": drawn,
        "available_tokens": available,
        "asked_share": [share / whole for share in shares],
        "asked_tokens": asked,
        "realised_tokens": realised,
        "realised_share": [tokens / total for tokens in realised],
        "epochs": [n / have if have else None for n, have in zip(realised, available, strict=True)],
    }
    types = {name: pl.Int64() for name in columns if name.endswith(("documents", "tokens"))}
    floats = {name: pl.Float64() for name in ("asked_share", "realised_share", "epochs")}
    return pl.DataFrame(columns, schema_overrides={"domain": pl.String(), **types, **floats})

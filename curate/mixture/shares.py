"""What is asked of each domain: a strategy and a budget become integers, or a refusal.

- `natural`: in proportion to the domains' sizes.
- `uniform`: the same of each.
- `temperature` T: in proportion to size^(1/T); 1 is natural, a large T nearly uniform.
- `unimax`: as uniform as at most N epochs of each allow (Chung et al. 2023, "UniMax").
- `weights`: as said.

Domains with epochs of their own are read so often; the strategy shares out the rest of the budget.

>>> domains = Domains(names=["en", "de", "fo"], available=[900, 90, 10], sizes=[900, 90, 10],
...                   capacities=[3600, 360, 40])
>>> ask(domains, Strategy(kind="unimax", budget=210, epochs_at_most=2))
[95, 95, 20]
>>> ask(domains, Strategy(kind="natural", budget=2000))
[1800, 180, 20]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from curate.corpus.errors import InputError, did_you_mean
from curate.mixture.defaults import OTHERS
from curate.mixture.keyed import apportion

__all__ = ["Domains", "Kind", "Strategy", "Unit", "ask"]

Kind = Literal["natural", "uniform", "temperature", "unimax", "weights"]
Unit = Literal["tokens", "bytes", "documents"]
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How a budget is shared out.

    Attributes:
        kind: see the module.
        budget: in `unit`; None: natural shares read everything once, epochs what they say, others
            the largest budget that repeats nothing.
        unit: what the budget and all shares count.
        temperature: of the kind temperature.
        epochs_at_most: of unimax; None: the repeat cap.
        weights: domain -> weight; `*` is what all other domains share in natural proportions.
        epochs: domain -> how often it is read, whatever the strategy.
    """

    kind: Kind = "natural"
    budget: int | None = None
    unit: Unit = "tokens"
    temperature: float = 1.0
    epochs_at_most: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    epochs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domains:
    """Domains in columns.

    Attributes:
        names: of the domains.
        available: size of each domain, in the strategy's unit.
        sizes: the same with every document as often as its factor says, exactly.
        capacities: what can be drawn at most.
    """

    names: Sequence[str]
    available: Sequence[int]
    sizes: Sequence[int | Fraction]
    capacities: Sequence[int]


def ask(domains: Domains, strategy: Strategy) -> list[int]:
    """Return what is asked of each domain; the sum is the budget.

    Raises:
        InputError: weights or epochs that name no domain, not all of them, or nothing that was
            kept; or more than the domains hold, with the largest feasible budget.
    """
    budget = strategy.budget
    if budget is not None and budget <= 0:
        raise InputError(f"the budget must be a positive number of {strategy.unit}, got {budget}")
    if budget is not None and not sum(domains.available):
        raise InputError(
            f"the mixture asks for {budget:,} {strategy.unit}, but no document was kept; "
            "see the verdicts for the reasons"
        )
    asked = _by_epochs(domains, strategy)
    others = [i for i in range(len(domains.names)) if domains.names[i] not in strategy.epochs]
    if strategy.epochs and budget is None:
        unsaid = [domains.names[i] for i in others if domains.available[i]]
        if unsaid:
            raise InputError(
                f"mix.epochs says nothing about {_listed(unsaid)}; give each its epochs (0 leaves "
                "it out), or a budget that they share"
            )
        return asked
    left = None if budget is None else budget - sum(asked)
    if left is not None and left < 0:
        raise InputError(
            f"mix.epochs alone ask for {sum(asked):,} {strategy.unit}, more than the budget of "
            f"{budget:,}; raise the budget or lower the epochs"
        )
    if left is not None and strategy.epochs and not any(domains.available[i] for i in others):
        raise InputError(
            f"mix.epochs name every domain and ask for {sum(asked):,} {strategy.unit}; remove the "
            "budget, or the epochs of one domain"
        )
    for i, tokens in zip(others, _share_out(domains, others, strategy, left), strict=True):
        asked[i] = tokens
    return asked


def _by_epochs(domains: Domains, strategy: Strategy) -> list[int]:
    """Return what the domains with epochs are asked for, 0 for the others."""
    _check_names("epochs", strategy.epochs, domains)
    asked = [0] * len(domains.names)
    for i, name in enumerate(domains.names):
        wanted = strategy.epochs.get(name, 0)
        asked[i] = math.floor(Fraction(wanted) * domains.available[i])
        if wanted and not domains.available[i]:
            raise InputError(_nothing_kept("epochs", [name]))
        if asked[i] > domains.capacities[i]:
            raise InputError(
                f"mix.epochs reads {name!r} {wanted:g} times, but it can give at most "
                f"{_epochs([domains.capacities[i]], [domains.available[i]])}; {_WHY}"
            )
    return asked


def _share_out(
    domains: Domains, others: Sequence[int], strategy: Strategy, budget: int | None
) -> list[int]:
    """Return what the strategy asks of the domains that have no epochs of their own."""
    capacities = [domains.capacities[i] for i in others]
    available = [domains.available[i] for i in others]
    fixed = (strategy.budget or 0) - (budget or 0)
    if budget and not any(capacities):
        raise _nothing_left(strategy, fixed, read_out=any(domains.sizes[i] for i in others))
    if strategy.kind == "unimax":
        assert budget is not None, "unimax spreads a budget"
        bounds = capacities
        if strategy.epochs_at_most is not None:
            most = Fraction(strategy.epochs_at_most)
            bounds = [
                min(math.floor(most * have), room)
                for have, room in zip(available, capacities, strict=True)
            ]
        if budget > sum(bounds):
            raise _too_much(strategy, sum(bounds) + fixed, _epochs(bounds, available))
        return _unimax(bounds, budget)
    once = [min(domains.sizes[i], domains.capacities[i]) for i in others]
    if budget is None and strategy.kind == "natural":
        return [math.floor(size) for size in once]
    shares = _shares(domains, others, strategy)
    if not any(shares):
        return [0] * len(shares)
    if budget is None:
        return apportion(_largest(shares, once)[0], shares)
    largest, scarcest = _largest(shares, capacities)
    if budget > largest:
        # Natural shares of domains with one cap are limited by all of them at once.
        together = sum(capacities) - largest <= len(shares)
        name = None if together else domains.names[others[scarcest]]
        which = slice(None) if name is None else slice(scarcest, scarcest + 1)
        raise _too_much(
            strategy, largest + fixed, _epochs(capacities[which], available[which]), name
        )
    return apportion(budget, shares)


_WHY = "repeat_cap, copies, quality curves and what earlier phases read set that"


def _nothing_left(strategy: Strategy, most: int, *, read_out: bool) -> InputError:
    """Return the refusal of a budget for domains that can give nothing at all."""
    why = (
        f"nothing is left to draw from ({_WHY})"
        if read_out
        else "`copies` reads no document of the domains that share it; raise its factors"
    )
    return InputError(
        f"a budget of {strategy.budget:,} {strategy.unit} cannot be met: {why}. "
        f"The largest feasible budget is {most:,} {strategy.unit}"
    )


def _too_much(strategy: Strategy, most: int, epochs: str, name: str | None = None) -> InputError:
    assert strategy.budget is not None, "only a budget can be too much"
    scarce = "all the text" if name is None else repr(name)
    remedy = " or that weight" if name is not None and strategy.kind == "weights" else ""
    return InputError(
        f"a budget of {strategy.budget:,} {strategy.unit} needs more than {epochs} of {scarce}; "
        f"the largest feasible budget is {most:,} {strategy.unit}. "
        f"Lower the budget{remedy}, add text, or raise repeat_cap"
    )


def _epochs(rooms: Sequence[int], available: Sequence[int]) -> str:
    number = f"{sum(rooms) / max(sum(available), 1):.4g}"
    return f"{number} epoch{'' if number == '1' else 's'}"


def _largest(shares: Sequence[int], rooms: Sequence[int | Fraction]) -> tuple[int, int]:
    """Return the largest total whose exact shares fit, and the position that sets it."""
    whole = sum(shares)
    return min(
        (room * whole // share, i)
        for i, (share, room) in enumerate(zip(shares, rooms, strict=True))
        if share
    )


def _shares(domains: Domains, others: Sequence[int], strategy: Strategy) -> list[int]:
    """Return exact integer shares."""
    sizes = [domains.sizes[i] for i in others]
    if strategy.kind == "natural":
        return _integers([Fraction(size) for size in sizes])
    if strategy.kind == "uniform":
        return [int(size > 0) for size in sizes]
    if strategy.kind == "temperature":
        largest = max(sizes, default=0)
        # Rounded: the last digit of a power differs from one processor to the next.
        powers = [round((n / largest) ** (1 / strategy.temperature), 12) if n else 0 for n in sizes]
        return _integers([Fraction(power) for power in powers])
    return _integers(_weights(domains, others, strategy))


def _weights(domains: Domains, others: Sequence[int], strategy: Strategy) -> list[Fraction]:
    """Return the weights in the order of `others`, that of `*` shared among the unnamed."""
    weights = strategy.weights
    _check_names("weights", weights, domains)
    bad = [name for name, value in weights.items() if not 0 <= value < math.inf]
    if bad:
        raise InputError(
            f"mix.weights of {bad[0]!r} is {weights[bad[0]]}; a weight is a finite number >= 0"
        )
    names = [domains.names[i] for i in others]
    sizes = [domains.sizes[i] for i in others]
    empty = [i for i in others if not domains.sizes[i] and weights.get(domains.names[i])]
    lost = [domains.names[i] for i in empty if not domains.available[i]]
    if lost:
        raise InputError(_nothing_kept("weights", lost))
    if empty:
        raise InputError(
            f"mix.weights asks for {_listed([domains.names[i] for i in empty])}, of which `copies` "
            "reads no document; raise its factors, or set that weight to 0"
        )
    unnamed = [d for d, n in zip(names, sizes, strict=True) if n and d not in weights]
    rest = sum(n for d, n in zip(names, sizes, strict=True) if d in set(unnamed))
    if unnamed and OTHERS not in weights:
        raise InputError(
            f"mix.weights says nothing about {_listed(unnamed)}; give each a weight (0 leaves a "
            f"domain out), or all of them together one as '{OTHERS}'"
        )
    if weights.get(OTHERS) and not unnamed:
        raise InputError(f"mix.weights gives '{OTHERS}' a weight, but every domain is named")
    others_weight = Fraction(weights.get(OTHERS, 0))
    exact = [
        others_weight * size / rest if name in set(unnamed) else Fraction(weights.get(name, 0))
        for name, size in zip(names, sizes, strict=True)
    ]
    if not any(exact):
        raise InputError("mix.weights are all 0; at least one domain needs a positive weight")
    return exact


def _integers(exact: Sequence[Fraction]) -> list[int]:
    common = math.lcm(*(value.denominator for value in exact))
    return [int(value * common) for value in exact]


def _check_names(where: str, given: Mapping[str, float], domains: Domains) -> None:
    unknown = sorted(set(given) - {*domains.names, OTHERS})
    if unknown:
        raise InputError(
            f"mix.{where} names {_listed(unknown)}, the domains are: "
            f"{_listed(sorted(domains.names), plain=True)}."
            f"{did_you_mean(unknown[0], domains.names)}"
        )


def _nothing_kept(where: str, names: Sequence[str]) -> str:
    return (
        f"mix.{where} asks for {_listed(names)}, of which no token was kept; "
        "look at its verdicts, or set it to 0"
    )


def _listed(names: Sequence[str], *, plain: bool = False) -> str:
    shown = ", ".join(name if plain else repr(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _unimax(bounds: Sequence[int], budget: int) -> list[int]:
    """Share a budget out evenly among domains that can give at most `bounds` each."""
    asked = [0] * len(bounds)
    waiting = sorted(range(len(bounds)), key=lambda i: (bounds[i], i))
    while waiting and bounds[waiting[0]] * len(waiting) < budget:
        scarcest = waiting.pop(0)
        asked[scarcest] = bounds[scarcest]
        budget -= bounds[scarcest]
    if waiting:
        ordered = sorted(waiting)
        for i, part in zip(ordered, apportion(budget, [1] * len(ordered)), strict=True):
            asked[i] = part
    return asked

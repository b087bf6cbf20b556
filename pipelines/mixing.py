"""The section `mix` of a recipe: how often the model sees what, and what that reads of a corpus.

A number of copies is always domain rate x document factor (see `curate.mixture.draws`). `strategy`,
`weights`, `epochs` and `budget` set the rates; `quality` and `copies` the factors.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from curate.corpus.errors import InputError
from curate.mixture.defaults import FINEWEB2, OTHERS, REPEAT_CAP
from pipelines.section import Name, Section

if TYPE_CHECKING:
    from pipelines.sections import Recipe

__all__ = ["Mix", "check_mixture", "mixture_reads", "parse_budget"]

_TOKENS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BYTES = {"bytes": 1, "byte": 1, "B": 1} | {
    f"{prefix}{end}": base**power
    for end, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("kMGTP", 1)
}
_BYTES |= {"KB": 1000, "KiB": 1024}
_UNITS = {
    word: unit
    for one, unit in (
        *(("token", "tokens"), ("document", "documents")),
        *(("patch", "patches"), ("frame", "frames"), ("pair", "pairs")),
    )
    for word in (one, unit)
}
_NUMBER = r"([0-9][0-9_]{0,29}(?:\.[0-9]{1,15})?)"
_FORMS = "'20M tokens', '5 GB' or '10k documents'"


def parse_budget(value: str) -> tuple[int, str]:
    """Return (amount, unit) of '20M tokens', '5 GB' or '10k documents'.

    >>> parse_budget("20M tokens"), parse_budget("1.5 GB"), parse_budget("10k documents")
    ((20000000, 'tokens'), (1500000000, 'bytes'), (10000, 'documents'))

    Media has no tokens but patches, frames or pairs, and a budget says which.

    Raises:
        ValueError: the text has another form.
    """
    exact, unit = _exact_budget(value)
    return math.floor(exact), unit


def _exact_budget(value: str) -> tuple[Decimal, str]:
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([kKMBT]?)\s*({'|'.join(_UNITS)})\s*", value)
    if match:
        return Decimal(match[1]) * _TOKENS[match[2]], _UNITS[match[3]]
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([A-Za-z]+)\s*", value)
    if match and match[2] in _BYTES:
        return Decimal(match[1]) * _BYTES[match[2]], "bytes"
    raise ValueError(f"write a budget as {_FORMS}")


def _budget(value: Any) -> Any:
    if value is not None:
        if not isinstance(value, str):
            raise ValueError(f"write a budget as {_FORMS}")
        amount, unit = _exact_budget(value)
        if amount < 1:
            one = next(word for word, many in (_UNITS | {"byte": "bytes"}).items() if many == unit)
            raise ValueError(f"a budget is at least 1 {one}")
        if unit != "bytes" and amount % 1:
            raise ValueError(f"{unit} are whole; write so many of them")
    return value


def _held_out(value: Any) -> Any:
    if value not in (None, "all") and (
        not isinstance(value, str) or parse_budget(value)[1] != "bytes"
    ):
        raise ValueError("write the bytes of each source as '1 MB', or all")
    return value


def _strategy(value: Any) -> Any:
    """Turn `natural` and `{unimax: {epochs: 4}}` into what the section stores."""
    if isinstance(value, str):
        if value == "temperature":
            raise ValueError("write {temperature: T}, such as {temperature: 2}")
        if value not in ("weights", "natural", "uniform", "unimax"):
            raise ValueError(f"a strategy is one of {_STRATEGIES}")
        return {"kind": value, **({"unimax": {}} if value == "unimax" else {})}
    if isinstance(value, dict) and "kind" not in value and len(value) == 1:
        (kind,) = value
        if kind in ("temperature", "unimax"):
            return {"kind": kind, kind: {} if value[kind] is None else value[kind]}
        raise ValueError(f"a strategy is one of {_STRATEGIES}")
    return value


_STRATEGIES = "weights, natural, uniform, {temperature: T}, {unimax: {epochs: N}}"


class Unimax(Section):
    """As uniform as an epoch cap allows."""

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="of each domain at most; null: the repeat cap"
    )


class Strategy(Section):
    """How a budget is shared out: weights, natural, uniform, temperature or unimax."""

    kind: Literal["weights", "natural", "uniform", "temperature", "unimax"]
    temperature: Annotated[float, Field(gt=0, le=1000)] | None = None
    unimax: Unimax | None = None

    @model_validator(mode="after")
    def _own_options(self) -> "Strategy":
        for name in ("temperature", "unimax"):
            if (getattr(self, name) is not None) != (self.kind == name):
                raise ValueError(f"a strategy is one of {_STRATEGIES}")
        return self


class Quality(Section):
    """A quality curve inside a domain: zero below a percentile, then rising, capped at the top."""

    by: str = Field(description="SQL expression over signals; more is better")
    below: float = Field(0.4, ge=0, le=0.99, description="share of the tokens that is not read")
    top: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="mean copies of the best bucket; null: 7, or the repeat cap if lower"
    )
    power: float = Field(5.0, ge=0, le=50, description="steepest p in (x - below)^p exp(growth x)")
    growth: float = Field(2.0, ge=0, le=50, description="steepest growth")
    buckets: int = Field(20, ge=2, le=1000, description="each is read at one rate")


def _copies(value: Any) -> Any:
    """Turn `duplicates` into FineWeb-2's steps; YAML's and JSON's keys into integers."""
    if value == "duplicates":
        return FINEWEB2
    if isinstance(value, str):
        raise ValueError("write `duplicates`, or a mapping {1: 1, 2: 2, 5: 3}")
    if isinstance(value, dict):
        return {int(k) if isinstance(k, str) and k.isdigit() else k: v for k, v in value.items()}
    return value


def _kind_of_cap(value: Any) -> str:
    """Return which of the two a value is meant for; an error tells no step called [key]."""
    return "of" if isinstance(value, dict) else "[key]"


_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Cap = Annotated[float, Field(ge=1, le=1000)]
_Epochs = Annotated[float, Field(ge=0, le=1000)]
_Steps = dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0, le=1000)]]


#: What the short forms are, for the JSON schema of a recipe.
_STRATEGY = BeforeValidator(
    _strategy,
    json_schema_input_type=Literal["weights", "natural", "uniform", "unimax"]
    | dict[Literal["temperature"], Annotated[float, Field(gt=0, le=1000)]]
    | dict[Literal["unimax"], Unimax | None]
    | Strategy
    | None,
)
_COPIES = BeforeValidator(_copies, json_schema_input_type=Literal["duplicates"] | _Steps | None)


class Portion(Section):
    """What is drawn: of each domain, and of each document in it."""

    budget: Annotated[str | None, BeforeValidator(_budget)] = Field(
        None, description="such as '20M tokens', '5 GB' or '10k documents'"
    )
    strategy: Annotated[Strategy | None, _STRATEGY] = Field(
        None, description=f"{_STRATEGIES}; by default weights if there are any, else natural"
    )
    weights: dict[str, _Number] | None = Field(
        None, description="domain -> weight; '*': what all others share in natural proportions"
    )
    epochs: dict[str, _Epochs] | None = Field(
        None, description="domain -> how often it is read; the others share the rest of the budget"
    )
    quality: dict[str, Quality] | None = Field(
        None, description="domain or '*' -> quality curve {by: SQL expression over signals}"
    )
    copies: Annotated[_Steps | None, _COPIES] = Field(
        None,
        description="copies by the number of duplicates: `duplicates` for FineWeb-2's steps, or "
        "{1: 1, 2: 2, 5: 3}, from so many on",
    )

    @property
    def kind(self) -> str:
        """The strategy's name."""
        if self.strategy is not None:
            return self.strategy.kind
        return "weights" if self.weights is not None else "natural"

    @property
    def amount(self) -> tuple[int | None, str]:
        """The budget as a number, and its unit; tokens stand for patches, frames and pairs too."""
        if self.budget is None:
            return None, "tokens"
        amount, unit = parse_budget(self.budget)
        return amount, "tokens" if unit in ("patches", "frames", "pairs") else unit

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield (key, domain) for every domain that is named."""
        for key in ("weights", "epochs", "quality"):
            for name in getattr(self, key) or {}:
                if name != OTHERS:
                    yield key, name

    @model_validator(mode="after")
    def _agrees(self) -> "Portion":
        if self.weights is not None and self.kind != "weights":
            raise ValueError(f"weights and the strategy {self.kind} contradict; remove either")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("weights are all zero; give at least one a weight above 0")
        if self.epochs is not None:
            if not self.epochs:
                raise ValueError("epochs name no domain; name some, or remove the key")
            if OTHERS in self.epochs:
                raise ValueError("epochs name domains; '*' is for weights and quality")
            both = sorted(set(self.epochs) & set(self.weights or {}))
            if both:
                raise ValueError(f"{both[0]!r} has a weight and epochs; remove either")
        if self.copies is not None and 1 not in self.copies:
            raise ValueError("copies say what a document without duplicates gets: {1: 1, ...}")
        return self


class PhaseOf(Portion):
    """A stretch of training with a mixture of its own; what it does not say, `mix` says.

    `quality: {}` and `copies: {1: 1}` say that there is none.
    """

    name: Name


class Mix(Portion):
    """How often each document is read."""

    domains: str = Field(
        "source", description="source, language, or an SQL expression over signals; null is 'null'"
    )
    repeat_cap: Annotated[
        Annotated[_Cap, Tag("[key]")] | Annotated[dict[str, _Cap], Tag("of")],
        Discriminator(_kind_of_cap),
    ] = Field(REPEAT_CAP, description="most epochs of a domain, or {domain: most, '*': most}")
    phases: list[PhaseOf] | None = Field(
        None, min_length=1, max_length=100, description="a curriculum: {name, budget, weights, ...}"
    )
    held_out: Annotated[str | None, BeforeValidator(_held_out)] = Field(
        None,
        description="bytes of each source that validation and test hold: '1 MB', or all; null: as "
        "many as the smallest source has, 100 kB at least",
    )

    @property
    def budget_tokens(self) -> int | None:
        """The budget in tokens of all phases, None where there is none or it counts others."""
        amounts = [portion.amount for portion in self.portions().values()]
        if any(amount is None or unit != "tokens" for amount, unit in amounts):
            return None
        return sum(amount for amount, _ in amounts if amount is not None)

    def portions(self) -> dict[str, Portion]:
        """Return phase -> what it draws, with all that it leaves to `mix` filled in."""
        if self.phases is None:
            return {"train": self}
        filled: dict[str, Portion] = {}
        for phase in self.phases:
            shares = ("strategy", "weights", "epochs")
            left = [key for key in ("quality", "copies") if getattr(phase, key) is None]
            if all(getattr(phase, key) is None for key in shares):
                left += shares
            more = {key: getattr(self, key) for key in left}
            filled[phase.name] = phase.model_copy(update=more)
        return filled

    def cap_of(self, domain: str) -> float:
        """Return the repeat cap of a domain."""
        if isinstance(self.repeat_cap, dict):
            return self.repeat_cap.get(domain, self.repeat_cap.get(OTHERS, REPEAT_CAP))
        return self.repeat_cap

    def named_domains(self) -> Iterator[tuple[str, str]]:
        """Yield (where, domain) for every domain that is named."""
        for where, portion in [("mix", self), *_numbered(self.phases)]:
            yield from ((f"{where}.{key}", name) for key, name in portion.named())
        if isinstance(self.repeat_cap, dict):
            yield from (("mix.repeat_cap", name) for name in self.repeat_cap if name != OTHERS)

    @model_validator(mode="after")
    def _phases_agree(self) -> "Mix":
        if self.phases is not None:
            if self.budget is not None:
                raise ValueError("budget and phases contradict; each phase has its own budget")
            names = [phase.name for phase in self.phases]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two phases are called {twice[0]!r}")
        for name, portion in self.portions().items():
            where = "" if self.phases is None else f"phase {name!r}: "
            if self.phases is not None and portion.budget is None and not portion.epochs:
                raise ValueError(f"{where}has no budget; a phase has one, or epochs")
            self._check(where, portion)
        return self

    def _check(self, where: str, portion: Portion) -> None:
        """Refuse what the keys of a phase say against each other or against the repeat cap."""
        if portion.kind == "weights" and portion.weights is None:
            raise ValueError(f"{where}the strategy weights has no weights")
        if portion.kind == "unimax" and portion.budget is None:
            raise ValueError(f"{where}the strategy unimax spreads a budget; give one")
        if (
            portion.epochs is not None
            and portion.budget is None
            and (portion.weights is not None or portion.strategy is not None)
        ):
            raise ValueError(
                f"{where}epochs beside the strategy {portion.kind} need a budget that the other "
                "domains share; without one they name every domain"
            )
        unimax = portion.strategy.unimax if portion.strategy else None
        caps = self.repeat_cap.values() if isinstance(self.repeat_cap, dict) else [self.repeat_cap]
        highest = max(*caps, self.cap_of(OTHERS))
        if unimax and unimax.epochs is not None and unimax.epochs > highest:
            raise ValueError(
                f"{where}unimax reads up to {unimax.epochs:g} epochs, repeat_cap allows "
                f"{highest:g}; raise repeat_cap or lower the epochs"
            )
        for domain, quality in (portion.quality or {}).items():
            if quality.top is not None and quality.top > self.cap_of(domain):
                raise ValueError(
                    f"{where}quality of {domain!r} reads its best up to {quality.top:g} times, "
                    f"repeat_cap allows {self.cap_of(domain):g}; raise repeat_cap or lower top"
                )


def _numbered(phases: Iterable[PhaseOf] | None) -> Iterator[tuple[str, Portion]]:
    return ((f"mix.phases.{number}", phase) for number, phase in enumerate(phases or ()))


def mixture_reads(recipe: "Recipe") -> frozenset[str]:
    """Return the signals (and `source`) that domains and quality curves read.

    Raises:
        InputError: an expression that does not parse, or reads what no signal is called.
    """
    from curate.rules.expression import parse_value
    from curate.rules.ruleset import readable_columns

    columns = readable_columns(recipe.measure.asked)
    reads: set[str] = set()
    if recipe.mix.domains != "source":
        reads.update(parse_value("mix.domains", recipe.mix.domains, columns).reads)
    for where, portion in [("mix", recipe.mix), *_numbered(recipe.mix.phases)]:
        for domain, quality in (portion.quality or {}).items():
            label = f"{where}.quality.{domain}"
            value = parse_value(label, quality.by, columns)
            if value.kind == "string":
                raise InputError(f"{label} gives a string, not a number: {quality.by!r}")
            reads.update(value.reads)
    return frozenset(reads)


def check_mixture(recipe: "Recipe", most_bytes: int) -> None:
    """Refuse, before any work, a mixture that cannot come true.

    Args:
        recipe: its section `mix`.
        most_bytes: what its sources hold at most.

    Raises:
        InputError: an expression that names no signal, or budgets beyond the sources' size.
    """
    mixture_reads(recipe)
    cap = recipe.mix.repeat_cap
    highest = max(*cap.values(), recipe.mix.cap_of(OTHERS)) if isinstance(cap, Mapping) else cap
    for unit in ("tokens", "bytes"):
        amounts = [portion.amount for portion in recipe.mix.portions().values()]
        asked = sum(amount or 0 for amount, counted in amounts if counted == unit)
        if asked > highest * most_bytes:
            raise InputError(
                f"mix.budget asks for {asked:,} {unit}, but the sources hold at most "
                f"{most_bytes:,} bytes and repeat_cap is {highest:g}; lower the budget or add "
                "sources"
            )

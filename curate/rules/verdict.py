"""The verdict query: every rule on every document, so that a document has all its reasons.

Nothing short-circuits. A rule's column is named by its reason, `rule:<preset>.<name>`.

>>> import polars as pl
>>> from curate.rules.expression import parse_rule
>>> rules = [parse_rule("long", "n >= 3", {"n": pl.Int64()})]
>>> evaluate(rules, pl.DataFrame({"n": [1, 5]})).to_dict(as_series=False)
{'rule:recipe.long': [False, True]}
"""

from collections.abc import Mapping, Sequence

import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from curate.rules.expression import OWN, Rule, by_source, margin

__all__ = [
    "Exemptions",
    "evaluate",
    "known_source",
    "margins",
    "named_rules",
    "parse_exemptions",
]

Exemptions = Mapping[str, frozenset[str]]
"""Reason -> the sources whose documents that rule lets pass."""


def evaluate(
    rules: Sequence[Rule], frame: pl.DataFrame, exemptions: Exemptions | None = None
) -> pl.DataFrame:
    """Return one boolean column per rule, True where the document passes; no nulls.

    Args:
        rules: any number, of distinct reasons.
        frame: the signals the rules read, and `source` if there are exemptions; one row a document.
        exemptions: see `parse_exemptions`.

    Raises:
        InputError: a null outcome under `on_null: refuse` (of a document that is not exempt), a
            column that is missing or of another type, or a signal that is NaN.
    """
    reasons = [rule.reason for rule in rules]
    assert len(set(reasons)) == len(reasons), f"rules share a name: {reasons}"
    _check_columns(rules, frame)
    return pl.DataFrame([_outcome(rule, frame, exemptions or {}) for rule in rules])


def margins(rules: Sequence[Rule], frame: pl.DataFrame) -> pl.DataFrame:
    """Return each rule's `margin` as a float64 column, named as in `evaluate`."""
    return pl.DataFrame([margin(rule, frame) for rule in rules])


def named_rules(rules: Sequence[Rule]) -> dict[str, set[str]]:
    """Return name -> the reasons it stands for: a preset, one of its rules, or an own rule."""
    targets: dict[str, set[str]] = {}
    for rule in rules:
        own = rule.name if rule.preset == OWN else rule.preset
        targets.setdefault(own, set()).add(rule.reason)
        targets.setdefault(rule.reason.removeprefix("rule:"), set()).add(rule.reason)
    return targets


def known_source(where: str, source: str, sources: Sequence[str]) -> None:
    """Refuse a source that the recipe does not have.

    Raises:
        InputError: with the sources there are and the nearest.
    """
    if source not in sources:
        near = did_you_mean(str(source), sources)
        listed = ", ".join(sources)
        raise InputError(f"{where}: unknown source {source!r}; sources are: {listed}.{near}")


def parse_exemptions(
    exempt: Mapping[str, Sequence[str]], rules: Sequence[Rule], sources: Sequence[str]
) -> dict[str, frozenset[str]]:
    """Resolve a recipe's `exempt: {source: [names]}`.

    A name is a preset (`gopher_quality@paper`), one rule of a preset
    (`gopher_quality@paper.num_words`) or a rule of the recipe (`long_enough`).

    Returns:
        reason -> the exempt sources; rules without exemption are absent.

    Raises:
        InputError: an unknown source or an unknown name.
    """
    targets = named_rules(rules)
    found: dict[str, set[str]] = {}
    for source, names in exempt.items():
        known_source("exempt", source, sources)
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise InputError(f"exempt: {source}: found {names!r}; write a list of presets or rules")
        for name in names:
            if name not in targets:
                near = did_you_mean(str(name), targets)
                listed = ", ".join(targets)
                raise InputError(
                    f"exempt: {source}: unknown rule {name!r}; there are: {listed}.{near}"
                )
            for reason in targets[name]:
                found.setdefault(reason, set()).add(source)
    return {reason: frozenset(exempt_sources) for reason, exempt_sources in sorted(found.items())}


def _check_columns(rules: Sequence[Rule], frame: pl.DataFrame) -> None:
    for rule in rules:
        for column in rule.columns:
            if column not in frame.columns:
                raise InputError(
                    f"{rule.reason} reads {column!r}, which is not among the columns: "
                    f"{', '.join(frame.columns)}.{did_you_mean(column, frame.columns)}"
                )
    for column in sorted({column for rule in rules for column in rule.columns}):
        series = frame.get_column(column)
        # NaN is greater than everything in polars: `score >= 0.5` would keep it.
        if series.dtype.is_float() and series.is_nan().any():
            raise InputError(f"signal {column!r} has NaN; a signal that is undefined is null")


def _outcome(rule: Rule, frame: pl.DataFrame, exemptions: Exemptions) -> pl.Series:
    try:
        outcome = by_source(rule, frame, lambda one: one.expression).rename(rule.reason)
    except pl.exceptions.PolarsError as error:
        first_line = str(error).splitlines()[0][:200]
        raise InputError(f"{rule.reason} cannot be evaluated: {first_line}") from None
    exempt_sources = exemptions.get(rule.reason)
    if exempt_sources:
        spared = frame.get_column("source").is_in(sorted(exempt_sources)).fill_null(value=False)
        outcome = (outcome | spared).rename(rule.reason)
    if rule.on_null == "refuse" and outcome.null_count():
        raise InputError(_null_message(rule, frame.filter(outcome.is_null())))
    return outcome.fill_null(value=rule.on_null == "keep")


def _null_message(rule: Rule, unanswered: pl.DataFrame) -> str:
    nulls = [name for name in rule.columns if unanswered.get_column(name).null_count()]
    names = " and ".join(map(repr, nulls))
    cause = (
        f"{names} {'are' if len(nulls) > 1 else 'is'} null there"
        if nulls
        else "it is undefined there"
    )
    docs = "1 document" if unanswered.height == 1 else f"{unanswered.height} documents"
    first = (nulls or rule.columns)[0]
    blank = "''" if unanswered.schema[first] == pl.String else "0"
    return (
        f"{rule.reason} ({rule.sql}) has no answer for {docs}: {cause}. Set `rules.on_null` to "
        f"keep or drop, or write COALESCE({first}, {blank})"
    )

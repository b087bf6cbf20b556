"""The rules of a recipe: its presets' and its own, who is exempt, and who must satisfy another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from curate.rules.expression import OnNull, Rule, parse_rule
from curate.rules.preset import load_preset, preset_rules
from curate.rules.verdict import Exemptions, known_source, named_rules, parse_exemptions
from curate.signals.registry import available_columns

__all__ = ["RuleSet", "build_rules", "readable_columns"]


def readable_columns(asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the polars type of every column a rule may read: the signals, and the source.

    Args:
        asked: the recipe's section `measure`, as data.
    """
    return {**available_columns(asked), "source": pl.String()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Compiled rules in order, and `reason -> exempt sources`."""

    rules: tuple[Rule, ...]
    exemptions: Exemptions

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest records: every predicate as it was evaluated."""
        return {
            "rules": [
                {
                    "reason": rule.reason,
                    "keep": rule.sql,
                    "reads": list(rule.columns),
                    "on_null": rule.on_null,
                    "overrides": {
                        source: other.sql for source, other in sorted(rule.overrides.items())
                    },
                }
                for rule in self.rules
            ],
            "exempt": {
                reason: sorted(sources) for reason, sources in sorted(self.exemptions.items())
            },
        }


def build_rules(
    *,
    use: Sequence[str],
    add: Mapping[str, str],
    exempt: Mapping[str, Sequence[str]],
    override: Mapping[str, Mapping[str, str]],
    on_null: OnNull,
    columns: Mapping[str, Any],
    sources: Sequence[str],
) -> RuleSet:
    """Compile a recipe's rules.

    Args:
        use: preset names; each preset has its own `on_null`.
        add: name -> KEEP predicate of the recipe.
        exempt: source -> presets or rules.
        override: source -> rule -> the KEEP predicate that its documents must satisfy instead.
        on_null: for the recipe's own rules.
        columns: signal -> polars type; `source` may be read as well.
        sources: names of the recipe's sources.

    Raises:
        InputError: an unknown preset, source, rule or column; SQL that is no row-wise predicate.
    """
    if len(set(use)) < len(use):
        raise InputError(f"rules.use names a preset twice: {', '.join(use)}")
    for name in use:
        load_preset(name)
    rules = [rule for name in use for rule in preset_rules(name, columns)]
    rules += [parse_rule(name, sql, columns, on_null=on_null) for name, sql in add.items()]
    rules = _overridden(rules, override, columns, sources)
    return RuleSet(rules=tuple(rules), exemptions=parse_exemptions(exempt, rules, sources))


def _overridden(
    rules: Sequence[Rule],
    override: Mapping[str, Mapping[str, str]],
    columns: Mapping[str, Any],
    sources: Sequence[str],
) -> list[Rule]:
    """Return the rules with what single sources must satisfy instead."""
    targets = named_rules(rules)
    others: dict[str, dict[str, Rule]] = {}
    by_reason = {rule.reason: rule for rule in rules}
    for source, changes in override.items():
        known_source("override", source, sources)
        for name, sql in changes.items():
            reasons = targets.get(name, set())
            if len(reasons) != 1:
                single = [key for key, found in targets.items() if len(found) == 1]
                what = "names a whole preset" if reasons else "unknown rule"
                near = did_you_mean(str(name), single)
                raise InputError(
                    f"override: {source}: {what} {name!r}; rules are: {', '.join(single)}.{near}"
                )
            (reason,) = reasons
            old = by_reason[reason]
            new = parse_rule(old.name, sql, columns, on_null=old.on_null, preset=old.preset)
            others.setdefault(reason, {})[source] = new
    return [replace(rule, overrides=others.get(rule.reason, {})) for rule in rules]

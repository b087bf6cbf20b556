"""The rules of a recipe: its presets' and its own, with who is exempt from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.corpus.errors import InputError
from curate.rules.expression import OnNull, Rule, parse_rule
from curate.rules.preset import load_preset, preset_rules
from curate.rules.verdict import Exemptions, parse_exemptions

__all__ = ["RuleSet", "build_rules"]


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
                    "reads": list(rule.reads),
                    "on_null": rule.on_null,
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
    on_null: OnNull,
    columns: Mapping[str, Any],
    sources: Sequence[str],
) -> RuleSet:
    """Compile a recipe's rules.

    Args:
        use: preset names; each preset has its own `on_null`.
        add: name -> KEEP predicate of the recipe.
        exempt: source -> presets or rules.
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
    return RuleSet(rules=tuple(rules), exemptions=parse_exemptions(exempt, rules, sources))

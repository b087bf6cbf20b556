"""Presets: sets of rules that name their reference, kept as data files beside this module.

"Gopher" is not one thing: every tool counts other words, bullets and occurrences. So a preset's
name ends in `@reference`, and its file states the dialect.

>>> "gopher_quality@paper" in preset_names()
True
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from curate.corpus.errors import InputError, one_of
from curate.rules.expression import OnNull, Rule, parse_rule

__all__ = ["Preset", "PresetRule", "load_preset", "preset_names", "preset_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRule:
    """One rule of a preset: the KEEP predicate in SQL, where it comes from, and its nulls."""

    keep: str
    source: str
    on_null: OnNull = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A set of rules with its source.

    Attributes:
        name: `<set>@<reference>`.
        reference: the paper or project and its version.
        dialect: how this reading differs from others of the same name.
        rules: rule name -> PresetRule, in order.
    """

    name: str
    reference: str
    dialect: str
    rules: Mapping[str, PresetRule]


@cache
def _all_presets() -> Mapping[str, Preset]:
    found: dict[str, Preset] = {}
    folder = resources.files("curate.rules") / "presets"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            preset = _preset(yaml.safe_load(entry.read_text(encoding="utf-8")))
            assert preset.name not in found, f"two files define {preset.name}"
            found[preset.name] = preset
    return found


def _preset(data: Mapping[str, Any]) -> Preset:
    extra = set(data) - {"name", "reference", "dialect", "rules"}
    assert not extra, f"preset {data.get('name')}: unknown keys {sorted(extra)}"
    rules = {name: PresetRule(**body) for name, body in data["rules"].items()}
    return Preset(
        name=data["name"],
        reference=data["reference"].strip(),
        dialect=data["dialect"].strip(),
        rules=rules,
    )


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(_all_presets())


def load_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        InputError: there is no such preset; the message lists those there are.
    """
    found = _all_presets().get(name)
    if found is None:
        raise InputError(one_of("preset", str(name), preset_names()))
    return found


def preset_rules(name: str, columns: Mapping[str, Any]) -> list[Rule]:
    """Return a preset's rules compiled against `columns` (see `parse_rule`).

    Raises:
        InputError: an unknown preset, or a signal it needs that is not among the columns.
    """
    return [
        parse_rule(rule_name, rule.keep, columns, on_null=rule.on_null, preset=name)
        for rule_name, rule in load_preset(name).rules.items()
    ]

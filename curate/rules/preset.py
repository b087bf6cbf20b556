"""Presets: sets of rules that name their reference, kept as data files beside this module.

"Gopher" is not one thing: every tool counts other words, bullets and occurrences. So a preset's
name ends in `@reference`, and its file states the dialect.

A file is a mapping of

    name, reference, dialect            texts
    rules: {RULE: {keep: SQL, source: TEXT, on_null: keep|drop|refuse}}
    canaries: {RULE: {catch: TEXT, spare: TEXT}}

where a canary's text may be written as `curate.rules.canaries` reads it: `{repeat: "word {n} ",
times: 60}`, or a list of texts and such. `catch` is a text that the rule must drop, `spare` one
that it must keep; either may be left out.

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
from curate.rules.canaries import canary_text
from curate.rules.expression import OnNull, Rule, parse_rule
from curate.rules.fineweb2 import LANGUAGES, settings_as_preset

__all__ = ["Preset", "PresetRule", "load_preset", "preset_names", "preset_rules"]

FINEWEB2 = "fineweb2:"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRule:
    """One rule of a preset.

    Attributes:
        keep: the KEEP predicate in SQL.
        source: where it comes from.
        on_null: what a null outcome means.
        catch: a text that the rule must drop, None where nobody wrote one.
        spare: a text that it must keep, None likewise.
    """

    keep: str
    source: str
    on_null: OnNull = "refuse"
    catch: str | None = None
    spare: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A set of rules with its source.

    Attributes:
        name: `<set>@<reference>`, `fineweb` or `fineweb2:<language or file>`.
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
    extra = set(data) - {"name", "reference", "dialect", "rules", "canaries"}
    assert not extra, f"preset {data.get('name')}: unknown keys {sorted(extra)}"
    canaries = data.get("canaries") or {}
    strangers = set(canaries) - set(data["rules"])
    assert not strangers, f"preset {data['name']}: canaries of no rule {sorted(strangers)}"
    rules = {
        name: PresetRule(**body, **_canaries(canaries.get(name) or {}))
        for name, body in data["rules"].items()
    }
    return Preset(
        name=data["name"],
        reference=data["reference"].strip(),
        dialect=data["dialect"].strip(),
        rules=rules,
    )


def _canaries(specs: Mapping[str, Any]) -> dict[str, Any]:
    assert not set(specs) - {"catch", "spare"}, f"canaries catch or spare, not {sorted(specs)}"
    return {kind: canary_text(spec) for kind, spec in specs.items()}


def preset_names() -> list[str]:
    """Return the names of all presets, sorted; `fineweb2:` also takes the path of a file."""
    return sorted([*_all_presets(), *(f"{FINEWEB2}{language}" for language in LANGUAGES)])


def load_preset(name: str) -> Preset:
    """Return a preset by name; `fineweb2:PATH.yml` reads a file of FineWeb-2's.

    Raises:
        InputError: there is no such preset (the message lists those there are), or no such file.
    """
    if str(name).startswith(FINEWEB2):
        return _preset(settings_as_preset(name.removeprefix(FINEWEB2)))
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

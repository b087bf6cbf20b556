"""Canaries: texts that each rule must catch or spare, run beside the corpus and never inside it.

They go through the same functions as documents do: the signals and the predicate, and the recipe's
own through its cleaning first (a preset's texts show what its reference does, whatever a recipe
cleans). A canary that fares otherwise stops the run: then a rule, a signal or a library does not do
what somebody relies on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate import cleaning, signals
from curate.cleaning.clean import clean
from curate.corpus.errors import InputError, did_you_mean
from curate.corpus.shard import Shard
from curate.rules.expression import OWN, Rule
from curate.rules.preset import load_preset
from curate.rules.ruleset import RuleSet, build_rules, readable_columns
from curate.rules.verdict import evaluate, named_rules
from curate.signals.registry import (
    Unit,
    families_giving,
    measure_families,
    units,
)
from pipelines.digest import code_digest
from pipelines.evidence import Canaries
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts
from pipelines.passes.fitting import unit_code
from pipelines.passes.measuring import family_of
from pipelines.passes.modules import submodules

__all__ = ["asked_canaries", "fly", "run_canaries"]

_EXCERPT = 160


def run_canaries(context: Context, rules: RuleSet) -> list[dict[str, Any]]:
    """Run every canary of the recipe and of its presets.

    Returns:
        One {reason, kind, text, values} for each, in the order of the rules; `values` are the
        signals that the rule reads.

    Raises:
        InputError: a canary is caught that must be spared, or the other way round; a canary of no
            rule.
    """
    recipe = context.recipe
    asked = asked_canaries(rules, recipe.rules.canaries)
    if not asked:
        return []
    read = {name for one in asked for name in one["reads"]}
    made = _made(context, read)
    settings = {
        "canaries": asked,
        "rules": [rule.sql for rule in rules.rules],
        "clean": recipe.clean.revisions,
        "made": [[unit.label, dict(unit.settings)] for unit, _ in made],
    }
    code = code_digest(__name__, *submodules(signals), *submodules(cleaning))
    content = [unit_code(unit) for unit, _ in made]
    content += [shard.sha256 for _, shard in made if shard is not None]
    own = {rule.name: rule.sql for rule in rules.rules if rule.preset == OWN}
    job = PartJob(
        part_key(code, settings, *content),
        fly,
        (asked, recipe.rules.use, own, recipe.clean.revisions, recipe.measure.asked, made),
    )
    (parts,) = run_parts(context, "judge", "canaries", [job])
    flown: list[dict[str, Any]] = parts.info["canaries"]
    for one in flown:
        if not one["passed"]:
            raise InputError(_failed(one))
    return flown


def asked_canaries(rules: RuleSet, own: Mapping[str, Canaries]) -> list[dict[str, Any]]:
    """Return {reason, kind, text, reads, cleaned} of every canary, in the order of the rules.

    Raises:
        InputError: the recipe's names a rule that there is not.
    """
    texts: dict[str, dict[str, str | None]] = {}
    mine: dict[str, set[str]] = {}
    for rule in rules.rules:
        if rule.preset != OWN:
            of_preset = load_preset(rule.preset).rules[rule.name]
            texts[rule.reason] = {"catch": of_preset.catch, "spare": of_preset.spare}
    targets = named_rules(rules.rules)
    for name, pair in own.items():
        if len(targets.get(name, ())) != 1:
            single = [key for key, found in targets.items() if len(found) == 1]
            raise InputError(
                f"rules.canaries: unknown rule {name!r}; rules are: "
                f"{', '.join(single) or 'none'}.{did_you_mean(name, single)}"
            )
        (reason,) = targets[name]
        given = pair.model_dump(exclude_none=True)
        texts[reason] = {**texts.get(reason, {}), **given}
        mine[reason] = set(given)
    return [
        {
            "reason": rule.reason,
            "kind": kind,
            "text": text,
            "reads": list(rule.reads),
            "cleaned": kind in mine.get(rule.reason, ()),
        }
        for rule in rules.rules
        for kind, text in texts.get(rule.reason, {}).items()
        if text is not None
    ]


def fly(
    workspace: Workspace,
    canaries: Sequence[Mapping[str, Any]],
    use: Sequence[str],
    own: Mapping[str, str],
    revisions: Mapping[str, Any],
    measured: Mapping[str, Any],
    made: Sequence[tuple[Unit, Shard | None]],
) -> Parts:
    """Job: clean and measure the canaries, and ask each one's rule."""
    rules = build_rules(
        use=use,
        add=own,
        exempt={},
        override={},
        on_null="drop",
        columns=readable_columns(measured),
        sources=[],
    )
    by_reason: dict[str, Rule] = {rule.reason: rule for rule in rules.rules}
    read = {name for one in canaries for name in one["reads"]}
    chosen = families_giving(read)
    chosen += [family_of(workspace, unit, artefact) for unit, artefact in made]
    raw = pa.array([one["text"] for one in canaries], pa.large_string())
    as_cleaned = pa.array([one["cleaned"] for one in canaries], pa.bool_())
    texts = pc.if_else(as_cleaned, clean(raw, revisions).texts, raw)
    frame = pl.DataFrame(pl.from_arrow(measure_families(texts, chosen)))
    frame = frame.with_columns(pl.lit(None, pl.String).alias("source"))  # of none of the recipe's
    flown = []
    for row, one in enumerate(canaries):
        rule = by_reason[one["reason"]]
        bird = frame[row]
        kept = bool(evaluate([rule], bird).item())
        flown.append(
            {
                "reason": one["reason"],
                "kind": one["kind"],
                "text": one["text"][:_EXCERPT],
                "values": {name: bird[name].item() for name in rule.reads},
                "passed": kept == (one["kind"] == "spare"),
            }
        )
    return Parts({}, {"canaries": len(flown)}, {"canaries": flown})


def _made(context: Context, read: set[str]) -> list[tuple[Unit, Shard | None]]:
    """Return the made families that give any of these signals, with their artefacts."""
    measure = context.manifests["measure"]
    shards = {shard.sha256: shard for shard in measure.tables.get("artefacts", ())}
    told = measure.info.get("artefacts", {})
    return [
        (unit, shards.get(told.get(unit.label, {}).get("sha256")))
        for unit in units(context.recipe.measure.asked)
        if not read.isdisjoint(unit.signals)
    ]


def _failed(one: Mapping[str, Any]) -> str:
    verb = "must drop its canary but keeps it" if one["kind"] == "catch" else "drops its canary"
    values = ", ".join(f"{name} = {value}" for name, value in one["values"].items())
    return (
        f"{one['reason']} {verb} ({values}): {one['text'][:60]!r}\n"
        f"Mend the rule, or write its canary under `rules.canaries`"
    )

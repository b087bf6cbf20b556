"""`preceptor compare-rules`: two sets of rules on the same documents, and where they disagree.

Every document of a corpus version is measured anew and judged by both, so a preset can be tried
that the corpus's own recipe does not use. Only rules are compared: duplicates and contamination
are the same on both sides.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.shard import iter_batches
from curate.rules.expression import OWN
from curate.rules.preset import preset_names
from curate.rules.ruleset import RuleSet, build_rules, readable_columns
from curate.rules.verdict import evaluate
from curate.signals.registry import families_giving, measure_families
from pipelines.corpus import Corpus

__all__ = ["Comparison", "compare", "rules_named", "show_comparison"]

_EXCERPT = 300
_COLUMNS = ["doc_id", "source", "text", "url", "license", "path", "meta", "key", "timestamp"]


def rules_named(name: str) -> RuleSet:
    """Return a preset's rules, or those of a recipe's file.

    Raises:
        InputError: neither; or a recipe whose rules read signals that only its own run measures.
    """
    columns = readable_columns()
    if name in preset_names() or not name.endswith((".yaml", ".yml")):
        return build_rules(
            use=[name], add={}, exempt={}, override={}, on_null="drop", columns=columns, sources=[]
        )
    from pipelines.recipe import load_recipe

    recipe = load_recipe(Path(name))
    return build_rules(
        use=recipe.rules.use,
        add=recipe.rules.add,
        exempt=recipe.rules.exempt,
        override=recipe.rules.override,
        on_null=recipe.rules.on_null,
        columns=columns,
        sources=[source.name for source in recipe.sources],
    )


@dataclass(kw_only=True)
class Comparison:
    """What two sets of rules say of the same documents.

    Attributes:
        left, right: their names.
        counts: (left keeps, right keeps) -> documents.
        rules: rule's name -> {left, right, both: documents it drops; None where a side has none}.
        sources: source -> documents on which the sides disagree.
        examples: documents that one side keeps and the other drops, by smallest id.
    """

    left: str
    right: str
    counts: dict[tuple[bool, bool], int] = field(default_factory=dict)
    rules: dict[str, dict[str, int | None]] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        sides = ("drop", "keep")
        return {
            "left": self.left,
            "right": self.right,
            "documents": {
                f"left_{sides[a]}s_right_{sides[b]}s": self.counts.get((bool(a), bool(b)), 0)
                for a in (1, 0)
                for b in (1, 0)
            },
            "rules": self.rules,
            "sources": self.sources,
            "examples": self.examples,
        }


def compare(corpus: Corpus, left: str, right: str, *, examples: int = 3) -> Comparison:
    """Judge every cleaned document of a corpus by two sets of rules.

    Args:
        corpus: the version.
        left, right: preset names or recipe files.
        examples: how many documents to show of those that only one side keeps, for each side.
    """
    if left == right:
        raise InputError(f"both sides are {left!r}; name two presets or recipes")
    sets = {"left": rules_named(left), "right": rules_named(right)}
    found = Comparison(left=left, right=right)
    names = {side: _names(rules) for side, rules in sets.items()}
    for name in dict.fromkeys([*names["left"].values(), *names["right"].values()]):
        found.rules[name] = {
            side: 0 if name in names[side].values() else None for side in ("left", "right")
        } | {"both": 0}
    asked = {column for rules in sets.values() for rule in rules.rules for column in rule.columns}
    wanted = families_giving(asked)
    gone = pa.array(corpus.forgotten(), pa.binary(16))
    for shard in corpus.shards("documents"):
        for batch in iter_batches(corpus.store.storage, shard, _COLUMNS):
            rows = batch.filter(pc.invert(pc.is_in(batch.column("doc_id"), value_set=gone)))
            _compare_batch(found, sets, names, rows, wanted, examples)
    found.sources = dict(sorted(found.sources.items(), key=lambda item: (-item[1], item[0])))
    return found


def _names(rules: RuleSet) -> dict[str, str]:
    """Return reason -> the name by which the same rule of another dialect is known."""
    return {
        rule.reason: rule.name if rule.preset != OWN else f"{OWN}.{rule.name}"
        for rule in rules.rules
    }


def _compare_batch(
    found: Comparison,
    sets: Mapping[str, RuleSet],
    names: Mapping[str, Mapping[str, str]],
    batch: Any,
    wanted: Sequence[Any],
    examples: int,
) -> None:
    frame = pl.DataFrame(pl.from_arrow(measure_families(batch, wanted)))
    frame = frame.with_columns(pl.Series("source", batch.column("source").to_pylist()))
    passed = {side: evaluate(rules.rules, frame, rules.exemptions) for side, rules in sets.items()}
    keeps = {side: _all(outcome, frame.height) for side, outcome in passed.items()}
    for a in (True, False):
        for b in (True, False):
            count = int(((keeps["left"] == a) & (keeps["right"] == b)).sum())
            found.counts[a, b] = found.counts.get((a, b), 0) + count
    dropped: dict[str, dict[str, np.ndarray]] = {"left": {}, "right": {}}
    for side, outcome in passed.items():
        for reason, name in names[side].items():
            mask = ~outcome[reason].to_numpy()
            dropped[side][name] = dropped[side].get(name, False) | mask
    for name, row in found.rules.items():
        for side in ("left", "right"):
            if row[side] is not None:
                row[side] = int(row[side] or 0) + int(dropped[side][name].sum())
        if row["left"] is not None and row["right"] is not None:
            both = dropped["left"][name] & dropped["right"][name]
            row["both"] = int(row["both"] or 0) + int(both.sum())
    differ = np.flatnonzero(keeps["left"] != keeps["right"])
    for name in frame["source"].gather(differ).to_list():
        found.sources[name] = found.sources.get(name, 0) + 1
    for side, other in (("left", "right"), ("right", "left")):
        only = np.flatnonzero(keeps[side] & ~keeps[other])
        _keep_examples(found, side, passed[other], sets[other], frame, batch, only, examples)


def _all(outcome: pl.DataFrame, height: int) -> np.ndarray:
    kept = np.ones(height, dtype=bool)
    for name in outcome.columns:
        kept &= outcome[name].to_numpy()
    return kept


def _keep_examples(
    found: Comparison,
    kept_by: str,
    dropping: pl.DataFrame,
    rules: RuleSet,
    frame: pl.DataFrame,
    batch: Any,
    rows: np.ndarray,
    most: int,
) -> None:
    """Keep the documents with the smallest ids: the same ones however the corpus is split."""
    ids = batch.column("doc_id")
    mine = [one for one in found.examples if one["kept_by"] == kept_by]
    for row in sorted(rows.tolist(), key=lambda row: ids[row].as_py())[:most]:
        broken = [rule for rule in rules.rules if not dropping[rule.reason][row]]
        mine.append(
            {
                "kept_by": kept_by,
                "doc_id": ids[row].as_py().hex(),
                "source": frame["source"][row],
                "dropped_for": {
                    rule.reason.removeprefix("rule:"): {
                        name: frame[name][row] for name in rule.of(frame["source"][row]).reads
                    }
                    for rule in broken
                },
                "text": batch.column("text")[row].as_py()[:_EXCERPT],
            }
        )
    mine = sorted(mine, key=lambda one: str(one["doc_id"]))[:most]
    others = [one for one in found.examples if one["kept_by"] != kept_by]
    found.examples = sorted([*mine, *others], key=lambda one: (one["kept_by"], one["doc_id"]))


def show_comparison(corpus: Corpus, left: str, right: str, *, examples: int, as_json: bool) -> None:
    """Print a comparison for people, or as JSON."""
    from rich.markup import escape

    from pipelines.console import new_table, plain, say, show

    found = compare(corpus, left, right, examples=examples)
    if as_json:
        say(json.dumps(found.to_dict(), indent=1, ensure_ascii=True))
        return
    whole = sum(found.counts.values())
    agree = found.counts.get((True, True), 0) + found.counts.get((False, False), 0)
    say(f"{whole:,} documents of {corpus.version}; the two agree on {agree:,}")
    table = new_table(("", "left"), (f"{right} keeps", "right"), (f"{right} drops", "right"))
    for a, told in ((True, f"{left} keeps"), (False, f"{left} drops")):
        table.add_row(escape(told), *(f"{found.counts.get((a, b), 0):,}" for b in (True, False)))
    show(table)
    table = new_table(
        ("rule", "left"), ("drops: left", "right"), ("right", "right"), ("both", "right")
    )
    for name, row in found.rules.items():
        cells = ["-" if row[side] is None else f"{row[side]:,}" for side in ("left", "right")]
        both = f"{row['both']:,}" if "-" not in cells else "-"
        table.add_row(escape(name), *cells, both)
    show(table)
    if found.sources:
        told = ", ".join(f"{name} {count:,}" for name, count in list(found.sources.items())[:10])
        say(f"disagreements by source: {told}")
    for one in found.examples:
        keeper = left if one["kept_by"] == "left" else right
        reasons = "; ".join(
            f"{reason} ({', '.join(f'{k} = {v}' for k, v in values.items())})"
            for reason, values in one["dropped_for"].items()
        )
        say(f"\n{one['doc_id']} ({one['source']}): kept by {keeper}, else dropped for {reasons}")
        say(f"  {plain(' '.join(one['text'].split()), 200)}")

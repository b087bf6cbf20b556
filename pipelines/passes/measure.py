"""Measure: documents -> signals; every number a rule may want, computed once.

The families that every run measures share one job per shard, and so one reading of its text. What
only some recipes want (an expensive family, a word list, a fitted model) is a group of its own, so
that a changed list or an edited family measures that group again and nothing else. A last, cheap
job puts the groups' columns side by side; where there is one group only, its shard is the result.
"""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.corpus.identity import fingerprint
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.shard import Shard
from curate.kernels.fold import UNICODE_VERSION
from curate.signals.registry import Unit, families, units
from pipelines.demanded import check_allowed, families_of, signals_read
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    PerShard,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.fitting import artefact_of, unit_code
from pipelines.passes.measuring import join_columns, measure_group
from pipelines.recipe import Recipe

__all__ = ["always", "run"]

_JOBS = "pipelines.passes.measuring"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Families measured together: those of `names`, or the one of `unit`."""

    label: str
    code: str
    names: tuple[str, ...] = ()
    unit: Unit | None = None
    artefact: Parts | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked, for the key."""
        made = {}
        if self.unit is not None:
            made = {"maker": self.unit.maker, "unit": self.unit.name, **self.unit.settings}
        return {"families": list(self.names), "made": made, "unicode": UNICODE_VERSION}

    @property
    def shard(self) -> Shard | None:
        """The artefact's shard."""
        return None if self.artefact is None else next(iter(self.artefact.tables["artefact"]))


def run(context: Context) -> Manifest:
    """Measure every shard of documents."""
    began = time.monotonic()
    cleaned = context.manifests["clean"]
    documents = cleaned.tables["documents"]
    groups = _groups(context, documents)
    columns = [_measured(context, group, documents) for group in groups]
    imported = _tell_imported(context, groups, columns)
    parts = columns[0]
    if len(groups) > 1:
        shards = [
            tuple(part.tables["signals"][0] for part in row) for row in zip(*columns, strict=True)
        ]
        code = code_digest(_JOBS)
        jobs = [
            PartJob(part_key(code, {}, *(one.sha256 for one in row)), join_columns, (row,))
            for row in shards
        ]
        parts = run_parts(context, "measure", "join", jobs)
    tables = tables_of(parts, "signals")
    conserve(context.store.storage, "measure", documents, tables["signals"])
    artefacts = {group.label: group for group in groups if group.artefact is not None}
    if artefacts:
        tables["artefacts"] = tuple(g.shard for g in artefacts.values() if g.shard is not None)
    manifest = Manifest(
        name="measure",
        settings={group.label: group.settings for group in groups},
        code=fingerprint(*(group.code for group in groups)),
        parents={"clean": cleaned.fingerprint},
        tables=tables,
        counts={"documents": sum(shard.rows for shard in tables["signals"])},
        info={
            "artefacts": {
                label: {
                    "sha256": group.shard.sha256 if group.shard else "",
                    **(group.artefact.info["facts"] if group.artefact else {}),
                }
                for label, group in artefacts.items()
            },
            **imported,
        },
    )
    return finish(context, manifest, began)


def _tell_imported(
    context: Context, groups: Sequence[_Group], columns: Sequence[Sequence[Parts]]
) -> dict[str, Any]:
    """Say how many documents have numbers of another tool; a file of other ids would say none."""
    matched = {
        group.label: sum(part.counts["measured"] for part in parts)
        for group, parts in zip(groups, columns, strict=True)
        if group.unit is not None and group.unit.maker == "imported"
    }
    total = sum(part.counts["documents"] for part in columns[0])
    for label, count in matched.items():
        context.note("measure", f"{label}: {count:,} of {total:,} documents have numbers")
    return {"imported": matched} if matched else {}


def _groups(context: Context, documents: Sequence[Shard]) -> list[_Group]:
    """Return what this recipe measures, the families of every run first."""
    recipe = context.recipe
    check_allowed(recipe)
    _, wanted = families_of(recipe, signals_read(recipe))
    groups = [_always(recipe)]
    groups += [_Group(label=name, names=(name,), code=_code([name])) for name in wanted]
    for unit in units(recipe.measure.asked):
        groups.append(
            _Group(
                label=unit.label,
                unit=unit,
                code=unit_code(unit, _JOBS),
                artefact=artefact_of(context, unit, documents),
            )
        )
    return groups


def _code(names: Sequence[str]) -> str:
    """Return the digest of some families: their sources, and the packages they need."""
    needs = sorted({package for name in names for package in families()[name].needs})
    return fingerprint(
        code_digest(_JOBS, *(f"curate.signals.{name}" for name in names)),
        *(f"{package}=={importlib.metadata.version(package)}" for package in needs),
    )


def always(context: Context) -> PerShard:
    """Return the stage that every run of this recipe has: the families measured together."""
    return _stage(_always(context.recipe))


def _always(recipe: Recipe) -> _Group:
    names, _ = families_of(recipe, signals_read(recipe))
    return _Group(label="always", names=tuple(names), code=_code(names))


def _stage(group: _Group) -> PerShard:
    """Return what is done to each shard of documents for a group's columns."""
    artefact = group.shard
    return PerShard(
        name="measure",
        code=group.code,
        settings=group.settings,
        content=() if artefact is None else (artefact.sha256,),
        function=measure_group,
        arguments=(group.names, group.unit, artefact),
    )


def _measured(context: Context, group: _Group, documents: Sequence[Shard]) -> list[Parts]:
    """Return a group's columns for each shard of documents."""
    label = "signals" if group.label == "always" else f"signals {group.label}"
    stage = _stage(group)
    return run_parts(context, "measure", label, [stage.job(shard) for shard in documents])

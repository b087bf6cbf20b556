"""The jobs of `measure`: one group of families over one shard of documents, and their joining."""

import functools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import IntegrityError
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.signals.base import Family
from curate.signals.registry import Unit, families, makers, measure_families
from pipelines.passes.base import Parts, Workspace

__all__ = ["family_of", "join_columns", "measure_group"]

_IDENTITY = ("doc_id", "text_hash")


def measure_group(
    workspace: Workspace,
    shard: Shard,
    names: Sequence[str],
    unit: Unit | None = None,
    artefact: Shard | None = None,
) -> Parts:
    """Job: measure families, or the one that a maker makes, on one shard of documents."""
    chosen = _families(workspace, names, unit, artefact)
    reads = {name for family in chosen for name in family.reads}
    columns = [*_IDENTITY, *sorted({"text", *reads} - set(_IDENTITY))]
    schema = pa.schema(
        [(name, pa.binary(16)) for name in _IDENTITY]
        + [(name, signal.dtype) for one in chosen for name, signal in one.signals.items()]
    )
    tables = []
    for batch in iter_batches(workspace.storage, shard, columns):
        measured = measure_families(pa.Table.from_batches([batch]), chosen)
        arrays = [batch.column(name) for name in _IDENTITY]
        tables.append(pa.table([*arrays, *measured.columns], schema=schema))
    with workspace.writer("signals", schema) as writer:
        if tables:
            writer.write(pa.concat_tables(tables))
        written = writer.commit()
    counts = {"documents": written.rows}
    if unit is not None:
        counts["measured"] = sum(_num_measured(table) for table in tables)
    return Parts({"signals": [written]}, counts)


def _num_measured(table: Any) -> int:
    """Count the documents that have any of a unit's signals."""
    valid = [pc.is_valid(table[name]) for name in table.column_names if name not in _IDENTITY]
    return int(pc.sum(functools.reduce(pc.or_, valid), min_count=0).as_py())


def _families(
    workspace: Workspace, names: Sequence[str], unit: Unit | None, artefact: Shard | None
) -> list[Family]:
    if unit is None:
        return [families()[name] for name in names]
    return [family_of(workspace, unit, artefact)]


def family_of(workspace: Workspace, unit: Unit, artefact: Shard | None) -> Family:
    """Return the family that a maker makes of what a recipe asks, and of its artefact."""
    table = None if artefact is None else read_shard(workspace.storage, artefact)
    return makers()[unit.maker].make(unit.name, unit.settings, table)


def join_columns(workspace: Workspace, shards: Sequence[Shard]) -> Parts:
    """Job: put the columns of all groups side by side, in the order of the groups.

    Raises:
        IntegrityError: the groups measured other documents, or other revisions of their texts.
    """
    tables = [read_shard(workspace.storage, shard) for shard in shards]
    columns: dict[str, Any] = {name: tables[0][name] for name in _IDENTITY}
    for shard, table in zip(shards, tables, strict=True):
        if any(not table[name].equals(columns[name]) for name in _IDENTITY):
            raise IntegrityError(
                f"{shard.path} was measured on other texts than {shards[0].path}; remove the "
                "store and run again"
            )
        columns |= {name: table[name] for name in table.column_names if name not in _IDENTITY}
    joined = pa.table(columns)
    with workspace.writer("signals", joined.schema.remove_metadata()) as writer:
        writer.write(joined)
        written = writer.commit()
    return Parts({"signals": [written]}, {"documents": written.rows})

"""Measure: documents -> signals; every number a rule may want, computed once."""

import time

from curate import signals
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.shard import Shard, iter_batches
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    add_counts,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.modules import submodules

__all__ = ["measure_shard", "run"]


def run(context: Context) -> Manifest:
    """Measure every shard of documents."""
    began = time.monotonic()
    cleaned = context.manifests["clean"]
    code = code_digest(__name__, *submodules(signals))
    jobs = [
        PartJob(part_key(code, {}, shard.sha256), measure_shard, (shard,))
        for shard in cleaned.tables["documents"]
    ]
    parts = run_parts(context, "measure", "signals", jobs)
    tables = tables_of(parts, "signals")
    conserve(context.store.storage, "measure", cleaned.tables["documents"], tables["signals"])
    manifest = Manifest(
        name="measure",
        settings={},
        code=code,
        parents={"clean": cleaned.fingerprint},
        tables=tables,
        counts=add_counts(parts),
    )
    return finish(context, manifest, began)


def measure_shard(workspace: Workspace, shard: Shard) -> Parts:
    """Job: measure one shard."""
    import pyarrow as pa

    from curate.signals.registry import measure

    tables = []
    for batch in iter_batches(workspace.storage, shard, ["doc_id", "text_hash", "text"]):
        measured = measure(batch.column("text"))
        identity = pa.table(
            {"doc_id": batch.column("doc_id"), "text_hash": batch.column("text_hash")}
        )
        for name in measured.column_names:
            identity = identity.append_column(name, measured[name])
        tables.append(identity)
    table = pa.concat_tables(tables)
    with workspace.writer("signals", table.schema) as writer:
        writer.write(table)
        written = writer.commit()
    return Parts({"signals": [written]}, {"documents": written.rows})

"""Clean: documents -> documents, a new revision of every text; nobody is dropped here."""

import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate import cleaning
from curate.corpus.identity import content_hash
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

__all__ = ["clean_shard", "run"]


def run(context: Context) -> Manifest:
    """Clean every shard of documents."""
    began = time.monotonic()
    collected = context.manifests["collect"]
    settings = context.recipe.clean.revisions
    code = code_digest(__name__, *submodules(cleaning))
    jobs = [
        PartJob(part_key(code, settings, shard.sha256), clean_shard, (shard, settings))
        for shard in collected.tables["documents"]
    ]
    parts = run_parts(context, "clean", "revise", jobs)
    tables = tables_of(parts, "documents")
    conserve(context.store.storage, "clean", collected.tables["documents"], tables["documents"])
    manifest = Manifest(
        name="clean",
        settings=settings,
        code=code,
        parents={"collect": collected.fingerprint},
        tables=tables,
        counts=add_counts(parts),
    )
    return finish(context, manifest, began)


def clean_shard(workspace: Workspace, shard: Shard, settings: Mapping[str, Any]) -> Parts:
    """Job: write one shard's next revision."""
    from curate.cleaning.clean import clean

    changed = 0
    with workspace.writer("documents") as writer:
        for batch in iter_batches(workspace.storage, shard):
            texts, by_step = clean(batch.column("text"), settings)
            hashes = [content_hash(text.encode()) for text in texts.to_pylist()]
            names = batch.schema.names
            columns = dict(zip(names, batch.columns, strict=True))
            columns |= {"text": texts, "text_hash": pa.array(hashes, pa.binary(16))}
            writer.write(pa.table({name: columns[name] for name in names}))
            changed += sum(int(flags.sum()) for flags in by_step.values())
        documents = writer.commit()
    return Parts({"documents": [documents]}, {"documents": documents.rows, "revisions": changed})

"""Mix: verdicts + weights + budget -> draws, the number of copies of each training document."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from curate.mixture.draws import plan_draws
from curate.tokens.shards import token_lengths
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.tally import check_draws

__all__ = ["draw", "run"]


def run(context: Context) -> Manifest:
    """Draw the mixture from the training split."""
    began = time.monotonic()
    tokenized = context.manifests["tokenize"]
    recipe = context.recipe
    code = code_digest(__name__)
    settings = {
        "mix": recipe.mix.model_dump(mode="json"),
        "budget_tokens": recipe.mix.budget_tokens,
        "domains": [source.name for source in recipe.sources],
        "seed": recipe.seed,
    }
    shards = tokenized.tables["tokens"]
    job = PartJob(
        part_key(code, settings, *(shard.sha256 for shard in shards)), draw, (shards, settings)
    )
    (parts,) = run_parts(context, "mix", "draw", [job])
    tables = tables_of([parts], "draws")
    check_draws(context.store.storage, shards, tables["draws"])
    manifest = Manifest(
        name="mix",
        settings=settings,
        code=code,
        parents={"tokenize": tokenized.fingerprint},
        tables=tables,
        counts=parts.counts,
        info=parts.info,
    )
    return finish(context, manifest, began)


def draw(workspace: Workspace, shards: Sequence[Shard], settings: Mapping[str, Any]) -> Parts:
    """Job: decide how often each training document is read."""
    names = settings["domains"]
    ids, codes, lengths = [], [], []
    for shard in shards:
        table = read_shard(workspace.storage, shard)
        train = pc.equal(table["split"], "train")
        ids.append(table["doc_id"].filter(train))
        sources = pc.index_in(table["source"].filter(train), pa.array(names))
        codes.append(sources.to_numpy())
        lengths.append(token_lengths(table)[train.to_numpy()])
    doc_ids = pa.chunked_array(
        [chunk for column in ids for chunk in column.chunks], pa.binary(16)
    ).combine_chunks()
    domain = np.concatenate(codes) if codes else np.empty(0, dtype=np.int64)
    tokens = np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64)
    draws = plan_draws(
        domain,
        tokens,
        doc_ids,
        domains=names,
        weights=settings["mix"]["weights"],
        budget_tokens=settings["budget_tokens"],
        repeat_cap=settings["mix"]["repeat_cap"],
        seed=settings["seed"],
    )
    table = pa.table(
        {
            "doc_id": doc_ids,
            "domain": pa.array(names).take(pa.array(domain)),
            "copies": pa.array(draws.copies, pa.int32()),
            "tokens": pa.array(tokens, pa.int64()),
        },
        schema=SCHEMAS["draws"],
    )
    with workspace.writer("draws") as writer:
        writer.write(table)
        written = writer.commit()
    counts = {
        "documents": len(tokens),
        "drawn_documents": int((draws.copies > 0).sum()),
        "drawn_tokens": int((draws.copies.astype(np.int64) * tokens).sum()),
    }
    return Parts({"draws": [written]}, counts, {"domains": draws.table.to_dicts()})

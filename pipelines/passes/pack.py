"""Pack: draws -> the pack plan, row -> spans of documents; held-out splits get a plan of their own.

Packed per group of token shards, so that a changed document moves the rows of its group only.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.identity import ids_to_numpy
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from curate.tokens.packing import pack, pack_stats
from curate.tokens.shards import token_lengths
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
from pipelines.passes.tally import check_plan, drawn_tokens, tokens_by_split

__all__ = ["SPLITS", "pack_group", "run"]

SPLITS = ("train", "validation", "test")
_GROUP_ROWS = 50_000


def run(context: Context) -> Manifest:
    """Pack every group of token shards."""
    began = time.monotonic()
    tokenized, mixed = context.manifests["tokenize"], context.manifests["mix"]
    code = code_digest(__name__)
    (draws,) = mixed.tables["draws"] or (None,)
    settings = {
        "row_tokens": context.recipe.pack.row_tokens,
        "seed": context.recipe.seed,
        "sources": [source.name for source in context.recipe.sources],
    }
    jobs = []
    for first, group in _groups(tokenized.tables["tokens"]):
        content = [shard.sha256 for shard in group] + ([draws.sha256] if draws else [])
        jobs.append(
            PartJob(
                part_key(code, [settings, first], *content),
                pack_group,
                (first, group, draws, settings),
            )
        )
    parts = run_parts(context, "pack", "rows", jobs)
    tables = tables_of(parts, *(f"plan_{split}" for split in SPLITS))
    storage = context.store.storage
    asked = tokens_by_split(storage, tokenized.tables["tokens"])
    asked["train"] = drawn_tokens(storage, mixed.tables["draws"])
    for split in SPLITS:
        check_plan(storage, split, asked.get(split, 0), tables[f"plan_{split}"])
    manifest = Manifest(
        name="pack",
        settings=settings,
        code=code,
        parents={"tokenize": tokenized.fingerprint, "mix": mixed.fingerprint},
        tables=tables,
        counts=add_counts(parts),
    )
    return finish(context, manifest, began)


def _groups(shards: Sequence[Shard]) -> list[tuple[int, list[Shard]]]:
    """Return [(ordinal of the first shard, shards), ...] of at most _GROUP_ROWS documents."""
    groups: list[tuple[int, list[Shard]]] = []
    rows = _GROUP_ROWS
    for ordinal, shard in enumerate(shards):
        if rows + shard.rows > _GROUP_ROWS:
            groups.append((ordinal, []))
            rows = 0
        groups[-1][1].append(shard)
        rows += shard.rows
    return groups


def pack_group(
    workspace: Workspace,
    first: int,
    shards: Sequence[Shard],
    draws: Shard | None,
    settings: Mapping[str, Any],
) -> Parts:
    """Job: pack the documents of one group, each split into its own plan."""
    storage = workspace.storage
    columns: dict[str, list[np.ndarray]] = {
        "length": [],
        "shard": [],
        "document": [],
        "source": [],
        "split": [],
    }
    ids: list[Any] = []
    for ordinal, shard in enumerate(shards, first):
        table = read_shard(storage, shard)
        ids += table["doc_id"].chunks
        columns["length"].append(token_lengths(table))
        columns["shard"].append(np.full(table.num_rows, ordinal, dtype=np.int32))
        columns["document"].append(np.arange(table.num_rows, dtype=np.int32))
        codes = pc.index_in(table["source"], pa.array(settings["sources"]))
        columns["source"].append(codes.to_numpy().astype(np.int16))
        columns["split"].append(pc.index_in(table["split"], pa.array(SPLITS)).to_numpy())
    doc_ids = pa.chunked_array(ids, pa.binary(16)).combine_chunks()
    where = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    copies = _copies(storage, draws, doc_ids)
    tables: dict[str, list[Shard]] = {}
    counts: dict[str, int] = {}
    for code, split in enumerate(SPLITS):
        chosen = where["split"] == code
        plan = pack(
            where["length"][chosen],
            copies[chosen] if split == "train" else np.ones(int(chosen.sum()), dtype=np.int32),
            doc_ids.filter(pa.array(chosen)),
            shard=where["shard"][chosen],
            document=where["document"][chosen],
            source=where["source"][chosen],
            row_tokens=settings["row_tokens"],
            seed=settings["seed"],
        )
        stats = pack_stats(plan, settings["row_tokens"])
        counts |= {
            f"{split}_rows": stats.rows,
            f"{split}_tokens": stats.tokens,
            f"{split}_waste": stats.waste_tokens,
        }
        with workspace.writer(f"plan_{split}", SCHEMAS["plan"], kind="arrow") as writer:
            writer.write(plan)
            tables[f"plan_{split}"] = [writer.commit()]
    return Parts(tables, counts)


def _copies(storage: Any, draws: Shard | None, doc_ids: Any) -> np.ndarray:
    """Return the copies of each document, 0 where it was not drawn."""
    copies = np.zeros(len(doc_ids), dtype=np.int32)
    if draws is None:
        return copies
    table = read_shard(storage, draws, ["doc_id", "copies"])
    drawn, mine = ids_to_numpy(table["doc_id"]), ids_to_numpy(doc_ids)
    pair = np.dtype([("a", "<u8"), ("b", "<u8")])
    drawn_keys, my_keys = (np.ascontiguousarray(a).view(pair).reshape(-1) for a in (drawn, mine))
    order = np.argsort(drawn_keys, order=("a", "b"))
    at = np.searchsorted(drawn_keys[order], my_keys)
    found = at < len(order)
    found[found] = drawn_keys[order][at[found]] == my_keys[found]
    copies[found] = table["copies"].to_numpy()[order[at[found]]]
    return copies

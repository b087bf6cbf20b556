"""Pack: draws -> the pack plan, row -> spans of documents; held-out splits get a plan of their own.

Training documents are packed per group of token shards, so that a changed document moves the rows
of its group only, and once for every phase of a curriculum. Held-out documents are few: they are
packed together, each source in rows of its own, so that a loss per source reads no other text.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
from pipelines.passes.tally import asked_tokens, check_plan, longest_read

__all__ = ["HELD_OUT", "SPLITS", "pack_group", "pack_held_out", "plan_of_phase", "run"]

SPLITS = ("train", "validation", "test")
HELD_OUT = SPLITS[1:]
_COUNTED = ("rows", "tokens", "waste", "continued", "left_out")
_GROUP_ROWS = 50_000


def plan_of_phase(phase: int) -> str:
    """Return the name of a phase's plan: train, train_1, train_2, ..."""
    return f"train_{phase}" if phase else "train"


def run(context: Context) -> Manifest:
    """Pack every group of token shards, and the held-out documents."""
    began = time.monotonic()
    tokenized, mixed = context.manifests["tokenize"], context.manifests["mix"]
    code = code_digest(__name__)
    phases = [phase["name"] for phase in mixed.settings["phases"]]
    settings = {
        "row_tokens": context.recipe.pack.row_tokens,
        "layout": context.recipe.pack.layout,
        "seed": context.recipe.seed,
        "sources": [source.name for source in context.recipe.sources],
        "phases": phases,
    }
    shards, draws = tokenized.tables["tokens"], mixed.tables["draws"]
    held_out = mixed.tables["held_out"]
    jobs = []
    for first, group in _groups(shards):
        content = [shard.sha256 for shard in (*group, *draws)]
        key = part_key(code, [settings, first], *content)
        jobs.append(PartJob(key, pack_group, (first, group, draws, settings)))
    if held_out:
        content = [shard.sha256 for shard in (*shards, *held_out)]
        key = part_key(code, [settings, "held out"], *content)
        jobs.append(PartJob(key, pack_held_out, (shards, held_out, settings)))
    parts = run_parts(context, "pack", "rows", jobs)
    plans = [*map(plan_of_phase, range(len(phases))), *HELD_OUT]
    tables = tables_of(parts, *(f"plan_{plan}" for plan in plans))
    if not context.peek:
        storage = context.store.storage
        asked = asked_tokens(storage, shards, mixed, longest=longest_read(settings))
        for plan in plans:
            check_plan(storage, plan, asked[plan], tables[f"plan_{plan}"])
    none = {f"{plan}_{what}": 0 for plan in plans for what in _COUNTED}
    counts = none | add_counts(parts)
    manifest = Manifest(
        name="pack",
        settings=settings,
        code=code,
        parents={"tokenize": tokenized.fingerprint, "mix": mixed.fingerprint},
        tables=tables,
        counts=counts,
        info={
            "phases": [
                {
                    "name": name,
                    "plan": plan_of_phase(phase),
                    "rows": counts[f"{plan_of_phase(phase)}_rows"],
                }
                for phase, name in enumerate(phases)
            ]
        },
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
    draws: Sequence[Shard],
    settings: Mapping[str, Any],
) -> Parts:
    """Job: pack the training documents of one group, for every phase."""
    storage = workspace.storage
    doc_ids, where = _documents(storage, shards, first, settings["sources"])
    tables: dict[str, list[Shard]] = {}
    counts: dict[str, int] = {}
    drawn = [read_shard(storage, shard, ["doc_id", "phase", "copies"]) for shard in draws]
    for phase in range(len(settings["phases"])):
        mine = [table.filter(pc.equal(table["phase"], phase)) for table in drawn]
        copies = _copies(mine, doc_ids)
        plan = pack(
            where["length"],
            copies,
            doc_ids,
            shard=where["shard"],
            document=where["document"],
            source=where["source"],
            row_tokens=settings["row_tokens"],
            seed=settings["seed"],
            layout=settings["layout"],
        )
        asked = int((where["length"] * copies).sum())
        _write(workspace, plan_of_phase(phase), plan, asked, settings, tables, counts)
    return Parts(tables, counts)


def pack_held_out(
    workspace: Workspace,
    shards: Sequence[Shard],
    held_out: Sequence[Shard],
    settings: Mapping[str, Any],
) -> Parts:
    """Job: pack the held-out documents that are listed, source by source."""
    storage = workspace.storage
    tables: dict[str, list[Shard]] = {}
    counts: dict[str, int] = {}
    for split in HELD_OUT:
        listed = [read_shard(storage, shard, ["doc_id", "split"]) for shard in held_out]
        ids = [table["doc_id"].filter(pc.equal(table["split"], split)) for table in listed]
        wanted = _joined(ids)
        doc_ids, where = _documents(storage, shards, 0, settings["sources"], wanted)
        plans = [SCHEMAS["plan"].empty_table()]
        for source in range(len(settings["sources"])):
            chosen = np.flatnonzero(where["source"] == source)
            plan = pack(
                where["length"][chosen],
                np.ones(len(chosen), dtype=np.int32),
                doc_ids.take(pa.array(chosen)),
                shard=where["shard"][chosen],
                document=where["document"][chosen],
                source=where["source"][chosen],
                row_tokens=settings["row_tokens"],
                seed=settings["seed"],
                layout=settings["layout"],
            )
            plans.append(plan.replace_schema_metadata(None))
        asked = int(where["length"].sum())
        _write(workspace, split, pa.concat_tables(plans), asked, settings, tables, counts)
    return Parts(tables, counts)


def _documents(
    storage: Any,
    shards: Sequence[Shard],
    first: int,
    sources: Sequence[str],
    wanted: Any = None,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the ids of the shards' documents, or of those in `wanted`, and their columns."""
    columns: dict[str, list[np.ndarray]] = {
        "length": [np.empty(0, dtype=np.int64)],
        "shard": [np.empty(0, dtype=np.int32)],
        "document": [np.empty(0, dtype=np.int32)],
        "source": [np.empty(0, dtype=np.int16)],
    }
    ids: list[Any] = []
    for ordinal, shard in enumerate(shards, first):
        table = read_shard(storage, shard)
        chosen = (
            np.arange(table.num_rows)
            if wanted is None
            else np.flatnonzero(pc.is_in(table["doc_id"], wanted).to_numpy())
        )
        ids.append(table["doc_id"].take(pa.array(chosen)))
        columns["length"].append(token_lengths(table)[chosen])
        columns["shard"].append(np.full(len(chosen), ordinal, dtype=np.int32))
        columns["document"].append(chosen.astype(np.int32))
        codes = pc.index_in(table["source"], pa.array(sources)).to_numpy()
        columns["source"].append(codes[chosen].astype(np.int16))
    return _joined(ids), {name: np.concatenate(arrays) for name, arrays in columns.items()}


def _joined(ids: Sequence[Any]) -> Any:
    """Return one array of ids."""
    chunks = [chunk for column in ids for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.binary(16)).combine_chunks()


def _copies(draws: Sequence[Any], doc_ids: Any) -> np.ndarray:
    """Return the copies of each document, 0 where it was not drawn."""
    copies = np.zeros(len(doc_ids), dtype=np.int32)
    for table in draws:
        at = pc.index_in(doc_ids, table["doc_id"].combine_chunks()).fill_null(-1).to_numpy()
        found = at >= 0
        copies[found] = table["copies"].to_numpy()[at[found]]
    return copies


def _write(
    workspace: Workspace,
    name: str,
    plan: Any,
    asked: int,
    settings: Mapping[str, Any],
    tables: dict[str, list[Shard]],
    counts: dict[str, int],
) -> None:
    """Write a plan and count what it holds, and what of the tokens `asked` for it leaves out."""
    stats = pack_stats(plan, settings["row_tokens"])
    counts |= {
        f"{name}_rows": stats.rows,
        f"{name}_tokens": stats.tokens,
        f"{name}_waste": stats.waste_tokens,
        f"{name}_continued": stats.continued,
        f"{name}_left_out": asked - stats.tokens,
    }
    with workspace.writer(f"plan_{name}", SCHEMAS["plan"], kind="arrow") as writer:
        writer.write(plan)
        tables[f"plan_{name}"] = [writer.commit()]

"""Identify: records that share an identity get their own, or go to quarantine; collect's 2nd stage.

Identical records get an occurrence number. Of several texts under one key one stays. Only the
shards concerned are written again.
"""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curate.corpus.identity import document_id, ids_to_numpy
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from pipelines.digest import code_digest
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts
from pipelines.store import Store

__all__ = ["apply_identity", "identify", "identity_key"]


def identity_key(key: str | None, digest: bytes) -> bytes:
    """Return what a record is known by: its own key, or else the hash of its content."""
    return b"c" + digest if key is None else b"k" + key.encode()


def identify(
    context: Context, source: str, parts: Sequence[Parts], limit: int | None
) -> list[Parts]:
    """Give records that share an identity their own; return the source's final parts."""
    shards = [shard for part in parts for shard in part.tables.get("documents", ())]
    heads = _heads(shards, limit)
    actions = _collisions(context.store, shards, heads)
    reads = [
        Parts({"quarantine": part.tables.get("quarantine", ())}, part.counts) for part in parts
    ]
    code = code_digest(__name__)
    jobs: list[PartJob] = []
    chosen: list[Parts | int] = []
    for shard, head, action in zip(shards, heads, actions, strict=True):
        if head == shard.rows and not action:
            chosen.append(Parts({"documents": [shard]}))
        else:
            key = part_key(code, [source, head, action], shard.sha256)
            chosen.append(len(jobs))
            jobs.append(PartJob(key, apply_identity, (source, shard, head, action)))
    rewritten = run_parts(context, "collect", f"identify {source}", jobs) if jobs else []
    return [*reads, *(rewritten[c] if isinstance(c, int) else c for c in chosen)]


def _heads(shards: Sequence[Shard], limit: int | None) -> list[int]:
    heads, left = [], limit
    for shard in shards:
        head = shard.rows if left is None else min(shard.rows, left)
        heads.append(head)
        left = None if left is None else left - head
    return heads


def _collisions(
    store: Store, shards: Sequence[Shard], heads: Sequence[int]
) -> list[list[list[int]]]:
    """Return [[row, occurrence or -1 for another text], ...] of each shard's collisions.

    Of several texts under one key the one with the smallest hash stays: which file came first says
    nothing about a document.
    """
    actions: list[list[list[int]]] = [[] for _ in shards]
    if not shards:
        return actions
    ids, raws, where = [], [], []
    for index, (shard, head) in enumerate(zip(shards, heads, strict=True)):
        table = read_shard(store.storage, shard, ["doc_id", "raw_hash"]).slice(0, head)
        ids.append(ids_to_numpy(table["doc_id"]))
        raws.append(ids_to_numpy(table["raw_hash"]))
        where.append(np.stack([np.full(head, index), np.arange(head)], axis=1))
    id_rows, raw_rows, places = np.concatenate(ids), np.concatenate(raws), np.concatenate(where)
    order = np.lexsort((raw_rows[:, 1], raw_rows[:, 0], id_rows[:, 1], id_rows[:, 0]))
    same = (id_rows[order][1:] == id_rows[order][:-1]).all(axis=1)
    if not same.any():
        return actions
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    sizes = np.diff(np.concatenate([starts, [len(order)]]))
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        members = order[start : start + size]
        occurrence = 0
        for member in members[1:]:
            shard_index, row = places[member].tolist()
            if (raw_rows[member] == raw_rows[members[0]]).all():
                occurrence += 1
                actions[shard_index].append([row, occurrence])
            else:
                actions[shard_index].append([row, -1])
    return [sorted(action) for action in actions]


def apply_identity(
    workspace: Workspace, source: str, shard: Shard, head: int, actions: Sequence[Sequence[int]]
) -> Parts:
    """Job: write a shard again with occurrence numbers, without the records marked -1."""
    table = read_shard(workspace.storage, shard).slice(0, head)
    ids = table["doc_id"].to_pylist()
    keys, raws = table["key"].to_pylist(), table["raw_hash"].to_pylist()
    keep = np.ones(head, dtype=bool)
    rows = []
    for row, occurrence in actions:
        if occurrence < 0:
            keep[row] = False
            record = table.slice(row, 1)
            rows.append(
                {
                    "source": source,
                    "uri": record["path"][0].as_py(),
                    "offset": record["position"][0].as_py(),
                    "reason": "duplicate_key",
                    "detail": f"key {json.dumps(keys[row])[:200]} is also that of another text",
                }
            )
        else:
            key = identity_key(keys[row], raws[row])
            if keys[row] is None and ids[row] != document_id(source, key=key):
                key = b"p" + ids[row]  # a purge has taken its key
            ids[row] = document_id(source, key=key, occurrence=occurrence)
    column = table.schema.get_field_index("doc_id")
    table = table.set_column(column, table.schema.field("doc_id"), pa.array(ids, pa.binary(16)))
    tables: dict[str, list[Shard]] = {}
    with workspace.writer("documents", table.schema) as writer:
        writer.write(table.filter(pa.array(keep)))
        tables["documents"] = [writer.commit()]
    counts = {"documents": -len(rows), "quarantined": len(rows)} if rows else {}
    if rows:
        counts["quarantined:duplicate_key"] = len(rows)
        with workspace.writer("quarantine") as writer:
            writer.write(pa.Table.from_pylist(rows, SCHEMAS["quarantine"]))
            tables["quarantine"] = [writer.commit()]
    return Parts(tables, counts)

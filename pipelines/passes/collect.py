"""Collect: any archive -> documents with a stable identity; what cannot be read -> quarantine.

Two stages. `read` turns each slice of input into shards, giving every record the identity of its
key (or content). `identify` looks for records that share one: identical ones get an occurrence
number, and a key that comes back with another text goes to quarantine; only the shards concerned
are written again.
"""

import functools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import InputError, IntegrityError, UnreadableFileError
from curate.corpus.identity import content_hash, document_id, ids_to_numpy
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, ShardWriter, footer, read_shard
from curate.readers.base import Batch, Reader, Slice
from curate.readers.discover import expand, group, open_stream
from curate.readers.registry import reader_for, readers
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
from pipelines.recipe import Collect, Source
from pipelines.store import Store

__all__ = ["read_slices", "run"]

_SHARD_ROWS = 200_000
_BIN_BYTES = 8 << 20  # small files are binned finer than large inputs are cut


def run(context: Context) -> Manifest:
    """Read every source of the recipe."""
    began = time.monotonic()
    recipe = context.recipe
    jobs: list[PartJob] = []
    owner: list[str] = []
    files: dict[str, set[str]] = defaultdict(set)
    for source in recipe.sources:
        for slices in _groups(source, recipe.base, recipe.collect):
            files[source.name].update(piece.file.uri for piece in slices)
            jobs.append(_job(source, slices, recipe.collect, recipe.limit))
            owner.append(source.name)
    parts = run_parts(context, "collect", "read", jobs)
    by_source: dict[str, list[Parts]] = {
        source.name: [part for part, name in zip(parts, owner, strict=True) if name == source.name]
        for source in recipe.sources
    }
    for source in recipe.sources:
        _check_policy(source.name, by_source[source.name], len(files[source.name]), recipe.collect)
    identified = [
        part
        for source in recipe.sources
        for part in _identify(context, source.name, by_source[source.name], recipe.limit)
    ]
    tables = tables_of(identified, "documents", "quarantine")
    counts = add_counts(identified)
    _check_rows(context.store, tables, counts, limited=recipe.limit is not None)
    if not tables["documents"]:
        raise InputError(
            f"the sources of {recipe.name!r} hold no document ({counts.get('quarantined', 0)} "
            "records in quarantine)"
        )
    settings = {
        "sources": [source.model_dump(mode="json") for source in recipe.sources],
        "collect": recipe.collect.model_dump(mode="json"),
        "limit": recipe.limit,
    }
    manifest = Manifest(
        name="collect",
        settings=settings,
        code=code_digest(__name__),
        parents={},
        tables=tables,
        counts=counts,
    )
    return finish(context, manifest, began)


def _groups(source: Source, base: str, settings: Collect) -> list[list[Slice]]:
    """Return the slices of a source's input, grouped into jobs."""
    by_reader: dict[str, list[Any]] = defaultdict(list)
    found = readers()
    for file in expand(source.paths, base, source.format):
        by_reader[reader_for(file.path, source.format)[0].name].append(file)
    return [
        slices
        for name in sorted(by_reader)
        for slices in group(by_reader[name], found[name], _part_bytes(found[name], settings))
    ]


def _part_bytes(reader: Reader, settings: Collect) -> int:
    return (
        min(_BIN_BYTES, settings.part_bytes)
        if reader.one_document_per_file
        else settings.part_bytes
    )


def _job(source: Source, slices: Sequence[Slice], settings: Collect, limit: int | None) -> PartJob:
    reader = reader_for(slices[0].file.path, source.format)[0]
    code = code_digest(__name__, reader.read.__module__)
    spec = source.model_dump(mode="json", exclude={"paths"})
    options = {
        "max_document_bytes": settings.max_document_bytes,
        "limit": limit,
        "part_bytes": settings.part_bytes,
    }
    inputs = [
        f"{piece.file.uri}|{piece.file.path}|{piece.file.size}|{piece.file.version}|{piece.start}|{piece.stop}"
        for piece in slices
    ]
    return PartJob(
        part_key(code, [spec, options], *inputs), read_slices, (spec, list(slices), options)
    )


class _Shards:
    """Consecutive document shards of bounded size, and one quarantine shard."""

    def __init__(self, workspace: Workspace, max_bytes: int) -> None:
        self._workspace, self._max_bytes = workspace, max_bytes
        self._writer: ShardWriter | None = None
        self._bytes = 0
        self.documents: list[Shard] = []
        self.quarantined: list[dict[str, Any]] = []

    def write(self, table: Any) -> None:
        while table.num_rows:
            lengths = np.cumsum(pa.compute.binary_length(table["text"]).to_numpy())
            room = max(
                1, int(np.searchsorted(lengths, self._max_bytes - self._bytes, side="right"))
            )
            head = table.slice(0, room)
            if self._writer is None:
                self._writer = self._workspace.writer("documents").__enter__()
            self._writer.write(head)
            self._bytes += int(lengths[head.num_rows - 1])
            if (
                self._bytes >= self._max_bytes
                or self._writer.rows >= _SHARD_ROWS
                or head.num_rows < table.num_rows
            ):
                self.close()
            table = table.slice(head.num_rows)

    def close(self) -> None:
        if self._writer is not None:
            self.documents.append(self._writer.commit())
            self._writer = None
            self._bytes = 0

    def quarantine(self) -> list[Shard]:
        if not self.quarantined:
            return []
        with self._workspace.writer("quarantine") as writer:
            writer.write(pa.Table.from_pylist(self.quarantined, SCHEMAS["quarantine"]))
            return [writer.commit()]


def read_slices(
    workspace: Workspace,
    source: Mapping[str, Any],
    slices: Sequence[Slice],
    options: Mapping[str, Any],
) -> Parts:
    """Job: read slices of one source into document and quarantine shards."""
    shards = _Shards(workspace, options["part_bytes"])
    bad: list[dict[str, Any]] = []
    records = 0
    left = options["limit"]
    for piece in slices:
        if left is not None and left <= 0:
            break
        position = 0
        try:
            for batch in _batches(source, piece, options):
                cut = batch if left is None else _first(batch, left)
                table = _documents(source, piece, cut.records)
                shards.write(table)
                for reject in cut.rejects:
                    position = max(position, reject.position)
                    shards.quarantined.append(
                        _quarantine(source, piece, reject.position, reject.reason, reject.detail)
                    )
                count = cut.records.num_rows + len(cut.rejects)
                records += count
                if left is not None and (left := left - count) <= 0:
                    break
        except UnreadableFileError as error:
            bad.append({"path": piece.file.path, "uri": piece.file.uri, "message": str(error)})
            records += 1
            shards.quarantined.append(
                _quarantine(source, piece, error.offset, f"unreadable:{error.reason}", str(error))
            )
    shards.close()
    counts = {
        "records": records,
        "documents": sum(s.rows for s in shards.documents),
        "quarantined": len(shards.quarantined),
    }
    reasons = Counter(row["reason"] for row in shards.quarantined)
    counts |= {f"quarantined:{reason}": number for reason, number in sorted(reasons.items())}
    return Parts(
        {"documents": shards.documents, "quarantine": shards.quarantine()},
        counts,
        {"bad_files": bad},
    )


def _batches(
    source: Mapping[str, Any], piece: Slice, options: Mapping[str, Any]
) -> Iterator[Batch]:
    reader, compression = reader_for(piece.file.path, source["format"])
    settings = {
        "columns": source["columns"] or {},
        "delimiter": source["delimiter"],
        "max_document_bytes": options["max_document_bytes"],
    }
    opener = functools.partial(open_stream, piece.file, compression, None)
    return reader.read(piece, opener, settings)


def _first(batch: Batch, count: int) -> Batch:
    """Return the first `count` records of a batch (documents first, then rejects)."""
    records = batch.records.slice(0, count)
    return Batch(records, batch.rejects[: count - records.num_rows])


def _quarantine(
    source: Mapping[str, Any], piece: Slice, offset: int, reason: str, detail: str
) -> dict[str, Any]:
    return {
        "source": source["name"],
        "uri": piece.file.path,
        "offset": offset,
        "reason": reason,
        "detail": detail[:300],
    }


def _documents(source: Mapping[str, Any], piece: Slice, records: Any) -> Any:
    """Turn reader records into rows of `documents` (occurrence 0 everywhere)."""
    rows = records.num_rows
    name = source["name"]
    keys = records.column("key").to_pylist()
    hashes, ids = [], []
    for text, key in zip(_utf8(records.column("text")), keys, strict=True):
        digest = content_hash(text)
        hashes.append(digest)
        ids.append(document_id(name, key=_key(key, digest)))
    licenses = records.column("license")
    if source["license"] is not None:
        licenses = pa.compute.fill_null(licenses, source["license"])
    hash_column = pa.array(hashes, pa.binary(16))
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "source": pa.array([name] * rows, pa.string()),
        "key": records.column("key"),
        "text": records.column("text"),
        "url": records.column("url"),
        "license": licenses,
        "path": pa.array([piece.file.path] * rows, pa.string()),
        "position": records.column("position"),
        "meta": records.column("meta"),
        "raw_hash": hash_column,
        "text_hash": hash_column,
    }
    return pa.table(columns, schema=SCHEMAS["documents"])


def _utf8(texts: Any) -> Iterator[memoryview]:
    """Yield each text's UTF-8 bytes without making Python strings."""
    buffers = texts.buffers()
    offsets = np.frombuffer(buffers[1], dtype=np.int64, count=texts.offset + len(texts) + 1)[
        texts.offset :
    ]
    data = memoryview(buffers[2] if buffers[2] is not None else b"")
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield data[start:stop]


def _key(key: str | None, digest: bytes) -> bytes:
    return b"c" + digest if key is None else b"k" + key.encode()


def _identify(
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
            ids[row] = document_id(source, key=_key(keys[row], raws[row]), occurrence=occurrence)
    column = table.schema.get_field_index("doc_id")
    table = table.set_column(column, table.schema.field("doc_id"), pa.array(ids, pa.binary(16)))
    tables: dict[str, list[Shard]] = {}
    with workspace.writer("documents") as writer:
        writer.write(table.filter(pa.array(keep)))
        tables["documents"] = [writer.commit()]
    counts = {"documents": -len(rows), "quarantined": len(rows)} if rows else {}
    if rows:
        counts["quarantined:duplicate_key"] = len(rows)
        with workspace.writer("quarantine") as writer:
            writer.write(pa.Table.from_pylist(rows, SCHEMAS["quarantine"]))
            tables["quarantine"] = [writer.commit()]
    return Parts(tables, counts)


def _check_policy(source: str, parts: Sequence[Parts], num_files: int, settings: Collect) -> None:
    """Stop when more is unreadable than the recipe allows; nothing is lost."""
    bad = {row["uri"]: row for part in parts for row in part.info["bad_files"]}
    if len(bad) > settings.bad_files * num_files:
        told = "; ".join(f"{row['path']}: {row['message']}" for row in list(bad.values())[:3])
        raise InputError(
            f"source {source!r}: {len(bad)} of {num_files} files cannot be read ({told}).\n"
            "Mend or remove them, or allow a share with `collect: "
            f"{{bad_files: {-(-100 * len(bad) // num_files) / 100}}}`"
        )
    counts = add_counts(parts)
    quarantined, records = counts.get("quarantined", 0), counts.get("records", 0)
    if quarantined > settings.bad_records * records:
        raise InputError(
            f"source {source!r}: {quarantined} of {records} records cannot be read, more than "
            f"`collect.bad_records` = {settings.bad_records} allows; first: {_first_reason(counts)}"
        )


def _first_reason(counts: Mapping[str, int]) -> str:
    reasons = {
        k.removeprefix("quarantined:"): v for k, v in counts.items() if k.startswith("quarantined:")
    }
    return ", ".join(
        f"{name} {number}" for name, number in sorted(reasons.items(), key=lambda kv: -kv[1])[:3]
    )


def _check_rows(
    store: Store, tables: Mapping[str, Sequence[Shard]], counts: dict[str, int], *, limited: bool
) -> None:
    """Every record read is one document or one quarantine row, by the files' own footers."""
    found = {
        name: sum(int(footer(store.storage, shard)["rows"]) for shard in shards)
        for name, shards in tables.items()
    }
    counts["documents"], counts["quarantined"] = found["documents"], found["quarantine"]
    if limited:  # parts read ahead of the limit; the surplus is cut afterwards
        counts["records"] = found["documents"] + found["quarantine"]
    if found["documents"] + found["quarantine"] != counts["records"]:
        raise IntegrityError(
            f"conservation broken in collect: {counts['records']} records were read, "
            f"{found['documents']} became "
            f"documents and {found['quarantine']} went to quarantine; nothing was committed"
        )

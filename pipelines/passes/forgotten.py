"""What a takedown has forgotten stays forgotten: tombstones, and who of a corpus they name.

A tombstone knows a document in three ways: by its id, by the hash of what was read, and by the
hash of its normalised text (`curate.dedup.exact`: lower case, white space collapsed). Any of them
is enough, so that it comes back under no other name, source, key or corpus. Of an image or a sound
the third is the hash of its bytes, so that no other caption brings it back. Tombstones belong to
the store and not to one corpus: corpora of a store share their parts, and a takedown that a renamed
recipe evades would be none.

Near twins for which a forgotten document spoke are *held*: they stay out as its duplicates, unless
the takedown released them (`--restore-twin`). A store without tombstones costs nothing here; with
them, every shard is hashed once, and only who is named enters the verdicts' key.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.shard import Shard, is_media, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.dedup.exact import normalised_hashes
from pipelines.digest import code_digest
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts
from pipelines.passes.ordinals import ordinals
from pipelines.store import Store

__all__ = [
    "FORGOTTEN",
    "Named",
    "Tombstones",
    "forgotten_evidence",
    "hash_shard",
    "hash_shards",
    "hashes_of",
    "no_hash",
    "read_named",
]

FORGOTTEN = "forgotten"  # the reason in `verdicts`

_ID = pa.binary(16)
_HASHES = pa.schema(
    [pa.field(name, _ID, nullable=False) for name in ("doc_id", "raw_hash", "normal_hash")]
)
_NAMED = pa.schema([pa.field("doc_id", _ID, nullable=False), pa.field("twin_id", _ID)])


def no_hash() -> bytes:
    """Return the normalised hash of a text without words: it names nobody."""
    digest: bytes = normalised_hashes(pa.array([""], pa.large_string()))[0].as_py()
    return digest


@dataclass(frozen=True, kw_only=True)
class Tombstones:
    """All takedowns of a store, joined.

    Attributes:
        ids, raw, normal: 16-byte hashes; a document that has any of them is forgotten.
        held: near twin -> the forgotten document whose duplicate it stays.
    """

    ids: frozenset[bytes] = frozenset()
    raw: frozenset[bytes] = frozenset()
    normal: frozenset[bytes] = frozenset()
    held: Mapping[bytes, bytes]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Tombstones":
        """Join the records of a store's log, in their order."""
        ids: set[bytes] = set()
        raw: set[bytes] = set()
        normal: set[bytes] = set()
        held: dict[bytes, bytes] = {}
        for record in records:
            for doc_id, raw_hash, normals in record["tombstones"]:
                ids.add(bytes.fromhex(doc_id))
                raw |= {bytes.fromhex(raw_hash)} if raw_hash else set()
                normal.update(map(bytes.fromhex, normals))
            released = {bytes.fromhex(one) for one in record["released"]}
            held = {twin: spoke for twin, spoke in held.items() if spoke not in released}
            held |= {bytes.fromhex(twin): bytes.fromhex(spoke) for twin, spoke in record["held"]}
        held = {twin: spoke for twin, spoke in held.items() if twin not in ids}
        return cls(ids=frozenset(ids), raw=frozenset(raw), normal=frozenset(normal), held=held)

    def names(self, hashes: pl.DataFrame) -> pl.Series:
        """Return which documents are forgotten, bool [n]; `hashes` as `hash_shard` writes them."""
        return (
            _is_in(hashes["doc_id"], self.ids)
            | _is_in(hashes["raw_hash"], self.raw)
            | _is_in(hashes["normal_hash"], self.normal)
        )


def _is_in(values: pl.Series, known: Iterable[bytes]) -> pl.Series:
    return values.is_in(pl.Series(sorted(known), dtype=pl.Binary).implode())


def forgotten_evidence(context: Context) -> tuple[Shard, ...]:
    """Return the shard that names whom the store's tombstones forget or hold; none for nobody."""
    log = context.store.tombstones()
    records = list(log)
    if not records:
        return ()
    code = code_digest(__name__)
    hashes = hash_shards(context, context.manifests["clean"].tables["documents"])
    digest = fingerprint(canonical_json(records))
    job = PartJob(
        part_key(code, "forgotten", digest, *(shard.sha256 for shard in hashes)),
        find_named,
        (hashes, len(records)),
    )
    (found,) = run_parts(context, "judge", "forgotten", [job])
    _note_refit(context, records)
    return tuple(shard for shard in found.tables["named"] if shard.rows)


def _note_refit(context: Context, records: Sequence[Mapping[str, Any]]) -> None:
    """Say that the tokenizer in use was fitted on texts that are forgotten since."""
    version = context.store.current(context.recipe.name)
    if version is None or context.refit:
        return
    used = context.store.get_manifest("tokenize", version.manifests["tokenize"])
    path = (used.info["tokenizer"] or {}).get("path")
    if any(path in record["refit"] for record in records):
        context.note(
            "judge", "the tokenizer was fitted before a takedown; --refit fits it without the texts"
        )


def hash_shards(context: Context, documents: Sequence[Shard]) -> tuple[Shard, ...]:
    """Return for each shard of documents the shard of their hashes."""
    code = code_digest(__name__)
    jobs = [PartJob(part_key(code, "hash", s.sha256), hash_shard, (s,)) for s in documents]
    return tuple(part.tables["hashes"][0] for part in run_parts(context, "judge", "hash", jobs))


def hashes_of(store: Store, shard: Shard, *, look_only: bool = False) -> pl.DataFrame:
    """Return doc_id, raw_hash and normal_hash of a shard's documents, made once.

    `look_only`: what is not there is made and not written.
    """
    key = part_key(code_digest(__name__), "hash", shard.sha256)
    record = store.get_part("judge", key)
    if record is None and look_only:
        return pl.concat(pl.DataFrame(pl.from_arrow(t)) for t in _hashes(store.storage, shard))
    if record is None:
        record = store.put_part(
            "judge", key, hash_shard(Workspace(store, "judge"), shard).to_dict()
        )
    (found,) = Parts.from_dict(record).tables["hashes"]
    return pl.DataFrame(pl.from_arrow(read_shard(store.storage, found)))


def hash_shard(workspace: Workspace, shard: Shard) -> Parts:
    """Job: the three ways in which one shard's documents are known."""
    with workspace.writer("hashes", _HASHES) as writer:
        for table in _hashes(workspace.storage, shard):
            writer.write(table)
        return Parts({"hashes": [writer.commit()]})


def _hashes(storage: Storage, shard: Shard) -> Iterator[Any]:
    yield _HASHES.empty_table()
    content = "media_hash" if is_media(storage, shard) else "text"
    for batch in iter_batches(storage, shard, ["doc_id", "raw_hash", content]):
        known = [batch.column("doc_id"), batch.column("raw_hash")]
        normal = batch.column(content)
        normal = normal if content == "media_hash" else normalised_hashes(normal)
        yield pa.table([*known, normal], schema=_HASHES)


def find_named(workspace: Workspace, hashes: Sequence[Shard], num_records: int) -> Parts:
    """Job: the documents that are forgotten, and those held with the document they are held by."""
    log = workspace.store.tombstones()
    known = Tombstones.of(log.read(number) for number in range(1, num_records + 1))
    with workspace.writer("named", _NAMED) as writer:
        for shard in hashes:
            table = pl.DataFrame(pl.from_arrow(read_shard(workspace.storage, shard)))
            gone = table.filter(known.names(table))["doc_id"]
            ids = table["doc_id"]
            held = ids.filter(_is_in(ids, known.held) & ~_is_in(ids, set(gone)))
            twins = [*(None for _ in gone), *(known.held[one] for one in held)]
            named = pa.table([[*gone, *held], twins], schema=_NAMED)
            writer.write(named)
        return Parts({"named": [writer.commit()]})


@dataclass(frozen=True, kw_only=True)
class Named:
    """Whom the tombstones name, by row.

    Attributes:
        gone: bool [n], forgotten.
        held: bool [n], near twins of a forgotten document that stay out with it.
        held_by: that document's id for each held row, null elsewhere.
    """

    gone: np.ndarray
    held: np.ndarray
    held_by: pl.Series

    def kept_ids(self, kept_ids: pl.Series) -> pl.Series:
        """Return who speaks for each document: for a held one, at least the forgotten one."""
        return kept_ids.zip_with(kept_ids.is_not_null(), self.held_by)


def read_named(workspace: Workspace, shards: Sequence[Shard], ids: pl.Series) -> Named:
    """Return whom of these documents the evidence names."""
    gone, held = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    twins: list[bytes | None] = [None]
    spoke = np.zeros(len(ids), dtype=np.int64)  # place in `twins`
    for shard in shards:
        table = pl.DataFrame(pl.from_arrow(read_shard(workspace.storage, shard)))
        rows = ordinals(ids, table["doc_id"])
        is_held = table["twin_id"].is_not_null().to_numpy()
        gone[rows[~is_held]] = True
        held[rows[is_held]] = True
        spoke[rows[is_held]] = len(twins) + np.arange(int(is_held.sum()))
        twins += table["twin_id"].drop_nulls().to_list()
    held_by = pl.Series(twins, dtype=pl.Binary).gather(spoke)
    return Named(gone=gone, held=held, held_by=held_by)

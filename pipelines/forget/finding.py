"""What is the same as the documents named, and where all of it stands.

A document is the same if any of three hashes is: its id, what was read, its normalised text. They
are looked up in every version of every corpus of the store and among the tombstones, until nothing
more is found. So exact twins go with it, whatever they are called and whatever their source. Near
twins are told with their similarity, and stay or go as they did.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.identity import content_hash
from curate.corpus.shard import Shard, is_media, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.dedup.exact import normalised_hashes
from curate.tokens.shards import token_lengths
from pipelines.corpus import Corpus
from pipelines.forget.selecting import versions_of
from pipelines.passes.forgotten import FORGOTTEN, hashes_of, no_hash
from pipelines.store import Store

__all__ = ["Finding", "Tombstone", "find", "holdings", "near_twins", "places", "raw_normals"]

_PLAN_KEY = np.int64(1) << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """How a forgotten document is known again.

    Attributes:
        raw: hashes of what was read, in any version; none of an empty text.
        normal: hashes of its normalised text, as cleaned and as read; none of an empty text.
    """

    raw: frozenset[bytes]
    normal: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """All that is one and the same.

    Attributes:
        asked: the documents that the request named.
        documents: every document that goes, by id.
        known: those among them that have a tombstone already.
    """

    asked: frozenset[bytes]
    documents: Mapping[bytes, Tombstone]
    known: frozenset[bytes]

    @property
    def twins(self) -> list[bytes]:
        """Those that nobody named and whose text is the same."""
        return sorted(self.documents.keys() - self.asked)

    @property
    def raw(self) -> frozenset[bytes]:
        """The hashes of all that was read of them."""
        return frozenset[bytes]().union(*(stone.raw for stone in self.documents.values()))

    @property
    def normal(self) -> frozenset[bytes]:
        """The hashes of their normalised texts, of media those of the bytes."""
        return frozenset[bytes]().union(*(stone.normal for stone in self.documents.values()))


def find(corpus: Corpus, asked: Iterable[bytes], *, look_only: bool = False) -> Finding:
    """Return the documents named with all that are the same, in any corpus of the store.

    Every shard of documents is hashed once, and the hashes stay in the store unless `look_only`.
    """
    store, named = corpus.store, frozenset(asked)
    shards = list(_document_shards(store))
    buried = _buried(store)
    known = frozenset(buried["doc_id"])
    ids, raw, normal = set(named), set[bytes](), set[bytes]()
    nothing = {content_hash(b""), no_hash(), b""}
    rows = pl.DataFrame(schema=buried.schema)
    while True:
        before = (len(ids), len(raw), len(normal))
        tables = [buried, *(hashes_of(store, shard, look_only=look_only) for shard in shards)]
        found = [table.filter(_any_of(ids, raw, normal)) for table in tables]
        rows = pl.concat(found).unique(maintain_order=True)
        ids |= set(rows["doc_id"])
        raw |= set(rows["raw_hash"]) - nothing
        normal |= set(rows["normal_hash"]) - nothing
        if before == (len(ids), len(raw), len(normal)):
            break
    more = raw_normals(store, ids)
    documents: dict[bytes, Tombstone] = {}
    for (doc_id,), group in rows.sort("doc_id").group_by("doc_id", maintain_order=True):
        assert isinstance(doc_id, bytes), "ids are binary"
        raws = frozenset(group["raw_hash"]) - nothing
        normals = (set(group["normal_hash"]) | more.get(doc_id, set())) - nothing
        documents[doc_id] = Tombstone(raw=raws, normal=frozenset(normals))
    return Finding(asked=named, documents=documents, known=known & documents.keys())


def _any_of(ids: set[bytes], raw: set[bytes], normal: set[bytes]) -> pl.Expr:
    names = {"doc_id": ids, "raw_hash": raw, "normal_hash": normal}
    return pl.any_horizontal(
        pl.col(name).is_in(pl.Series(sorted(values), dtype=pl.Binary).implode())
        for name, values in names.items()
    )


def _buried(store: Store) -> pl.DataFrame:
    """Return the store's tombstones, a row for each hash of a normalised text."""
    rows = [
        (bytes.fromhex(doc_id), bytes.fromhex(raw_hash), bytes.fromhex(normal))
        for record in store.tombstones()
        for doc_id, raw_hash, normals in record["tombstones"]
        for normal in (normals or [""])
    ]
    schema = dict.fromkeys(("doc_id", "raw_hash", "normal_hash"), pl.Binary())
    return pl.DataFrame(rows, schema=schema, orient="row")


def _corpora(store: Store) -> Iterator[Corpus]:
    """Yield every version of every corpus whose texts are there, the newest first."""
    for name in store.corpora():
        current = store.current(name)
        if current is not None:
            for version in versions_of(Corpus(store, current)):
                yield Corpus(store, version)


def _document_shards(store: Store, table: str = "documents") -> Iterator[Shard]:
    seen: set[str] = set()
    for corpus in _corpora(store):
        for shard in corpus.shards(table):
            if shard.sha256 not in seen:
                seen.add(shard.sha256)
                yield shard


def raw_normals(store: Store, ids: set[bytes]) -> dict[bytes, set[bytes]]:
    """Return the normalised hashes of the texts as they were read, by document."""
    found: dict[bytes, set[bytes]] = {}
    for shard in _document_shards(store, "raw"):
        content = "media_hash" if is_media(store.storage, shard) else "text"
        for mine in rows_of(store.storage, shard, ids, ["doc_id", content]):
            known = mine[content].combine_chunks()
            normals = (known if content != "text" else normalised_hashes(known)).to_pylist()
            for doc_id, normal in zip(mine["doc_id"].to_pylist(), normals, strict=True):
                found.setdefault(doc_id, set()).add(normal)
    return found


def rows_of(
    storage: Storage, shard: Shard, ids: Iterable[bytes], columns: Sequence[str]
) -> Iterator[Any]:
    """Yield tables with the rows of some documents of a Parquet shard; none opens no text."""
    wanted = pa.array(sorted(ids), pa.binary(16))
    here = pc.is_in(read_shard(storage, shard, ["doc_id"])["doc_id"], value_set=wanted)
    if not pc.any(here).as_py():
        return
    for batch in iter_batches(storage, shard, list(columns)):
        mask = pc.is_in(batch.column("doc_id"), value_set=wanted)
        if pc.any(mask).as_py():
            yield pa.Table.from_batches([batch]).filter(mask)


def holdings(store: Store, ids: set[bytes]) -> list[dict[str, Any]]:
    """Return every version that has some of the documents: how many, kept, and masked already."""
    found = []
    for corpus in _corpora(store):
        mine = verdicts_of(corpus, ids)
        if not mine.height:
            continue
        masked = mine["reasons"].list.contains(FORGOTTEN)
        current = store.current(corpus.version.name)
        found.append(
            {
                "corpus": corpus.version.name,
                "version": corpus.version.number,
                "is_current": current is not None and current.number == corpus.version.number,
                "documents": mine.height,
                "kept": int(mine["kept"].sum()),
                "forgotten": int(masked.sum()),
            }
        )
    return found


def verdicts_of(corpus: Corpus, ids: Iterable[bytes]) -> pl.DataFrame:
    """Return the verdicts of some documents."""
    wanted = pl.Series(sorted(ids), dtype=pl.Binary).implode()
    verdicts = corpus.table("verdicts", hex_ids=False)
    return verdicts.filter(pl.col("doc_id").is_in(wanted)).collect()


def near_twins(corpus: Corpus, ids: set[bytes]) -> list[dict[str, Any]]:
    """Return the near twins of forgotten documents: whose, how similar, kept, and spoken for.

    `spoken_for`: a forgotten document is why it was dropped, so it would come back without it.
    """
    wanted = pl.Series(sorted(ids), dtype=pl.Binary).implode()
    columns = ["doc_id", "twin_id", "jaccard"]
    edges = corpus.table("duplicates", hex_ids=False).filter(kind="near").select(columns).collect()
    demanded = [
        pl.DataFrame(pl.from_arrow(read_shard(corpus.store.storage, shard)))
        for shard in corpus.manifest("judge").tables.get("demanded", ())
    ]
    edges = pl.concat([edges, *(table.select(columns) for table in demanded)])
    both = pl.concat(
        [
            edges,
            edges.select(
                pl.col("twin_id").alias("doc_id"), pl.col("doc_id").alias("twin_id"), "jaccard"
            ),
        ]
    )
    near = both.filter(pl.col("twin_id").is_in(wanted) & ~pl.col("doc_id").is_in(wanted))
    best = near.sort("doc_id", "jaccard", "twin_id", descending=[False, True, False])
    best = best.unique("doc_id", keep="first", maintain_order=True)
    verdicts = verdicts_of(corpus, best["doc_id"])
    told = best.join(verdicts, on="doc_id", how="inner", maintain_order="left")
    told = told.with_columns(spoken_for=pl.col("kept_id").is_in(wanted).fill_null(value=False))
    return [
        {
            "doc_id": row["doc_id"].hex(),
            "twin_of": (row["kept_id"] if row["spoken_for"] else row["twin_id"]).hex(),
            "jaccard": row["jaccard"],
            "source": row["source"],
            "kept": row["kept"],
            "spoken_for": row["spoken_for"],
        }
        for row in told.iter_rows(named=True)
    ]


def places(corpus: Corpus, ids: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
    """Return where documents stand among the tokens: shard, row, tokens, and spans by plan.

    A span is [row of the plan, first token in that row, first token of the document, tokens].
    """
    storage, wanted = corpus.store.storage, pa.array(sorted(ids), pa.binary(16))
    found: dict[bytes, dict[str, Any]] = {}
    at: dict[int, bytes] = {}
    for ordinal, shard in enumerate(corpus.shards("tokens")):
        table = read_shard(storage, shard)
        rows = np.flatnonzero(pc.is_in(table["doc_id"], value_set=wanted).to_numpy())
        mine = table.select(["doc_id"]).take(pa.array(rows))["doc_id"].to_pylist()
        lengths = token_lengths(table)
        for row, doc_id in zip(rows.tolist(), mine, strict=True):
            at[ordinal << 32 | row] = doc_id
            place = {"shard": shard.path, "row": row, "tokens": int(lengths[row])}
            found[doc_id] = {**place, "plans": {}}
    if not at:
        return found
    keys = np.sort(np.fromiter(at, dtype=np.int64))
    for name, shards in corpus.manifest("pack").tables.items():
        if not name.startswith("plan_"):
            continue
        for key, span in spans_of(storage, shards, keys):
            found[at[key]]["plans"].setdefault(name, []).append(span)
    return found


def spans_of(
    storage: Storage, plan: Sequence[Shard], keys: np.ndarray
) -> Iterator[tuple[int, list[int]]]:
    """Yield (key, span) of the documents at `keys` (ordinal of shard << 32 | row), in row order."""
    first = 0
    for shard in plan:
        for key, row, *rest in span_rows(read_shard(storage, shard)["spans"], keys):
            yield key, [first + row, *rest]
        first += shard.rows


def span_rows(spans: Any, keys: np.ndarray) -> list[list[int]]:
    """Return [key, row, first token in the row, first token of the document, tokens] of a plan.

    Args:
        spans: the column `spans` of a plan.
        keys: int64, sorted: ordinal of the token shard << 32 | row in it.
    """
    column = spans.combine_chunks()
    flat, parents = column.flatten(), pc.list_parent_indices(column).to_numpy()
    shard, document, start, length = (
        flat.field(name).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("shard", "document", "start", "length")
    )
    mine = np.flatnonzero(np.isin(shard * _PLAN_KEY + document, keys))
    ends = np.cumsum(length)
    begin = np.searchsorted(parents, parents[mine])  # the row's first span
    inside = ends[mine] - length[mine] - (ends[begin] - length[begin])
    key = (shard * _PLAN_KEY + document)[mine]
    return np.stack([key, parents[mine], inside, start[mine], length[mine]], axis=1).tolist()  # type: ignore[no-any-return]

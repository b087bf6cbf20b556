"""The next version of a corpus, in which some documents are masked in place.

Nothing else moves: every shard keeps its rows and every plan its bytes. A masked document keeps its
id, its source and its length; its tokens become the pad id, whose loss nobody counts, and its texts
become empty, so that no reader of this version can show them. Only shards that hold one of the
documents are written anew; every manifest after the first changed one gets its parents anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.identity import fingerprint
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import ARROW, PARQUET, Shard, ShardWriter, iter_batches, read_shard
from curate.corpus.storage import Storage
from pipelines.corpus import Corpus
from pipelines.evidence import HELD_OUT
from pipelines.forget.finding import rows_of
from pipelines.forget.quotes import Texts
from pipelines.passes.forgotten import FORGOTTEN
from pipelines.passes.purged import emptied, emptied_column

__all__ = [
    "blank_documents",
    "blank_values",
    "changed_tables",
    "mask_tokens",
    "masked_manifests",
    "texts_of",
]


def texts_of(storage: Storage, shards: Iterable[Shard], ids: set[bytes]) -> Texts:
    """Return the texts and keys of some documents."""
    texts: set[str] = set()
    keys: set[str] = set()
    for shard in shards:
        for table in rows_of(storage, shard, ids, ["doc_id", "text", "key"]):
            texts.update(table["text"].to_pylist())
            keys.update(key for key in table["key"].to_pylist() if key)
    return Texts(texts, keys)


def _rewritten(storage: Storage, shard: Shard, changes: Iterable[Any], schema: Any) -> Shard:
    """Write batches as a shard of the same table, beside the one they come from."""
    folder, kind = shard.path.rpartition("/")[0], shard.path.rpartition(".")[2]
    assert kind in (ARROW, PARQUET), "a shard is of one of two kinds"
    table = (schema.metadata or {}).get(b"preceptor.table", b"").decode()
    with ShardWriter(storage, folder, table, schema, kind=kind) as writer:
        for batch in changes:
            writer.write(batch)
        written = writer.commit()
    assert (written.rows, written.ids) == (shard.rows, shard.ids), "nobody comes and nobody goes"
    return written


def _schema_of(storage: Storage, shard: Shard) -> Any:
    import pyarrow.parquet as pq

    (*_, bottom) = shard.files
    with storage.open(bottom.path) as stream:
        return pq.read_schema(stream)


def blank_documents(storage: Storage, shard: Shard, ids: set[bytes]) -> Shard:
    """Return the shard with the documents' contents empty; itself where it has none of them."""
    wanted = pa.array(sorted(ids), pa.binary(16))
    here = pc.is_in(read_shard(storage, shard, ["doc_id"])["doc_id"], value_set=wanted)
    if not pc.any(here).as_py():
        return shard

    def changed() -> Any:
        for batch in iter_batches(storage, shard):
            mask = pc.is_in(batch.column("doc_id"), value_set=wanted)
            yield emptied(batch, mask)

    return _rewritten(storage, shard, changed(), _schema_of(storage, shard))


def mask_tokens(storage: Storage, shard: Shard, ids: set[bytes], pad: int) -> Shard:
    """Return the shard with the documents' tokens all `pad` and their bytes 0, in place.

    Other lists (pixels, marks) become zeros; lengths stay.
    """
    wanted = pa.array(sorted(ids), pa.binary(16))
    table = read_shard(storage, shard)
    if not pc.any(pc.is_in(table["doc_id"], value_set=wanted)).as_py():
        return shard

    def changed() -> Any:
        for batch in table.to_batches():
            mask = pc.is_in(batch.column("doc_id"), value_set=wanted).to_numpy(zero_copy_only=False)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for name, column in columns.items():
                value = pad if name in ("tokens", "caption") else 0
                if pa.types.is_fixed_size_list(column.type):
                    columns[name] = _masked_rows(column, mask, value)
                elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                    columns[name] = _masked_list(column, mask, value)
            sizes = columns["num_bytes"].to_numpy(zero_copy_only=False).copy()
            sizes[mask] = 0
            columns["num_bytes"] = pa.array(sizes)
            yield pa.table(columns)

    return _rewritten(storage, shard, changed(), table.schema)


def _masked_rows(column: Any, mask: np.ndarray, value: int) -> Any:
    """Return lists of one size, such as pixels, with some of them all `value`."""
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).copy()
    rows[mask] = value
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=column.type)


def _masked_list(column: Any, mask: np.ndarray, value: int) -> Any:
    offsets = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    numbers = values.to_numpy(zero_copy_only=False).copy()
    starts = offsets - offsets[0]
    for row in np.flatnonzero(mask).tolist():
        numbers[starts[row] : starts[row + 1]] = value
    kind = pa.LargeListArray if pa.types.is_large_list(column.type) else pa.ListArray
    place = pa.int64() if pa.types.is_large_list(column.type) else pa.int32()
    return kind.from_arrays(
        pa.array(starts, place), pa.array(numbers, values.type), type=column.type
    )


def masked_manifests(corpus: Corpus, ids: set[bytes], texts: Texts) -> list[Manifest]:
    """Return the manifests of the next version, in order; the unchanged ones as they are.

    Nothing is published but shards, which nobody reads until a manifest names them.
    """
    storage = corpus.store.storage
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]  # None of images and sounds
    pad = tokenizer["specials"]["pad"] if tokenizer else 0
    done: dict[str, Shard] = {}

    def each(shards: Sequence[Shard], change: Callable[[Shard], Shard]) -> tuple[Shard, ...]:
        for shard in shards:
            if shard.path not in done:
                done[shard.path] = change(shard)
        return tuple(done[shard.path] for shard in shards)

    changes: dict[tuple[str, str], Callable[[Shard], Shard]] = {
        ("collect", "documents"): lambda shard: blank_documents(storage, shard, ids),
        ("collect", "quarantine"): lambda shard: blank_values(
            storage, shard, "detail", texts.quoted
        ),
        ("clean", "documents"): lambda shard: blank_documents(storage, shard, ids),
        ("deduplicate", "lines"): lambda shard: blank_values(storage, shard, "text", texts.held),
        ("decontaminate", "index"): lambda shard: _blank_items(storage, shard, ids),
        ("judge", "verdicts"): lambda shard: _forget(storage, shard, ids),
        ("tokenize", "tokens"): lambda shard: mask_tokens(storage, shard, ids, pad),
    }
    renamed: dict[str, str] = {}
    manifests = []
    for name, digest in corpus.version.manifests.items():
        old = corpus.manifest(name)
        tables = {
            table: each(shards, changes[name, table]) if (name, table) in changes else shards
            for table, shards in old.tables.items()
        }
        parents = {one: renamed.get(one, print_) for one, print_ in old.parents.items()}
        new = replace(old, tables=tables, parents=parents)
        if name == "judge" and new.tables != old.tables:
            new = _judged(storage, old, new)
        if name == "tokenize" and new.tables != old.tables:
            new = _tokenized(storage, new)
        if new.fingerprint != digest:
            renamed[name] = new.fingerprint
        manifests.append(new)
    return manifests


def blank_values(
    storage: Storage, shard: Shard, column: str, is_told: Callable[[Sequence[str | None]], Any]
) -> Shard:
    """Return a small shard without the values that tell of a forgotten text."""
    table = read_shard(storage, shard)
    told = is_told(table[column].to_pylist())
    if not told.any():
        return shard
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    values = emptied_column(table[column].combine_chunks(), pa.array(told), field)
    changed = table.set_column(place, table.schema.field(place), values)
    return _rewritten(storage, shard, [changed], table.schema)


def _blank_items(storage: Storage, shard: Shard, ids: set[bytes]) -> Shard:
    """Return a benchmark index in which forgotten documents, once held out, have no text."""
    table = read_shard(storage, shard)
    names = pa.array(sorted(one.hex() for one in ids), pa.string())
    mask = pc.and_(
        pc.equal(table["benchmark"].cast(pa.string()), HELD_OUT),
        pc.is_in(table["item"].cast(pa.string()), value_set=names),
    ).combine_chunks()
    if not pc.any(mask, min_count=0).as_py():
        return shard
    place = table.schema.get_field_index("text")
    values = emptied_column(table["text"].combine_chunks(), mask, table.schema.field(place))
    changed = table.set_column(place, table.schema.field(place), values)
    return _rewritten(storage, shard, [changed], table.schema)


def _forget(storage: Storage, shard: Shard, ids: set[bytes]) -> Shard:
    """Return a shard of verdicts with the documents dropped as forgotten, nobody else changed."""
    table = pl.DataFrame(pl.from_arrow(read_shard(storage, shard)))
    wanted = pl.Series(sorted(ids), dtype=pl.Binary).implode()
    is_new = pl.col("doc_id").is_in(wanted) & ~pl.col("reasons").list.contains(FORGOTTEN)
    if not table.select(is_new.any()).item():
        return shard
    added = pl.concat_list("reasons", pl.lit([FORGOTTEN], pl.List(pl.String)))
    changed = table.with_columns(
        kept=pl.when(is_new).then(pl.lit(value=False)).otherwise("kept"),
        reasons=pl.when(is_new).then(added).otherwise("reasons"),
    )
    schema = SCHEMAS["verdicts"]
    new = changed.to_arrow().cast(schema)
    return _rewritten(storage, shard, [new], _schema_of(storage, shard))


def _judged(storage: Storage, old: Manifest, new: Manifest) -> Manifest:
    """Return the judge's manifest with its counts and what it says of each shard made anew."""
    counts, kept = dict(old.counts), list(old.info["kept"])
    pairs = zip(old.tables["verdicts"], new.tables["verdicts"], strict=True)
    for number, (before, after) in enumerate(pairs):
        if before == after:
            continue
        was, now = (pl.DataFrame(pl.from_arrow(read_shard(storage, s))) for s in (before, after))
        gone = was.filter(was["kept"] & ~now["kept"])
        counts["kept"] -= gone.height
        counts["dropped"] += gone.height
        for split, count in gone["split"].value_counts().iter_rows():
            counts[f"split:{split}"] -= count
        more = now["reasons"].list.contains(FORGOTTEN) & ~was["reasons"].list.contains(FORGOTTEN)
        name = f"reason:{FORGOTTEN}"
        counts[name] = counts.get(name, 0) + int(more.sum())
        left = now.filter("kept")
        kept[number] = fingerprint(*left["doc_id"].to_list(), *left["split"].to_list())
    return replace(new, counts=counts, info={**old.info, "kept": kept})


def _tokenized(storage: Storage, new: Manifest) -> Manifest:
    """Return the tokenizer's manifest with the bytes counted anew."""
    sizes = [read_shard(storage, shard, ["num_bytes"]) for shard in new.tables["tokens"]]
    total = sum(pc.sum(table["num_bytes"], min_count=0).as_py() for table in sizes)
    return replace(new, counts={**new.counts, "bytes": int(total)})


def changed_tables(old: Mapping[str, Manifest], new: Sequence[Manifest]) -> dict[str, int]:
    """Return PASS/TABLE -> how many shards are written anew."""
    told = {}
    for manifest in new:
        for table, shards in manifest.tables.items():
            before = set(old[manifest.name].tables[table])
            if count := sum(shard not in before for shard in shards):
                told[f"{manifest.name}/{table}"] = count
    return told

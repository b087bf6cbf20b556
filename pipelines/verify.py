"""Verify a corpus version: re-hash every file, re-count every row, check the conservation laws."""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import MultisetHash
from curate.corpus.shard import Shard, read_shard
from curate.corpus.storage import Storage, sha256_of
from pipelines.corpus import Corpus
from pipelines.passes.tally import asked_tokens, drawn_tokens, longest_read, planned_tokens
from pipelines.store import version_fingerprint

__all__ = ["verify"]

_LAWS = [  # (what, documents in, documents out): the same ids on both sides
    ("clean", ("collect", "documents"), ("clean", "documents")),
    ("measure", ("clean", "documents"), ("measure", "signals")),
    ("judge", ("clean", "documents"), ("judge", "verdicts")),
]


def verify(corpus: Corpus, on_file: Callable[[str], None] | None = None) -> list[str]:
    """Return what is wrong with a version, one line each; an empty list means all is well.

    Args:
        corpus: the version.
        on_file: called with the name of every file before it is read.
    """
    problems: list[str] = []
    seen: set[Shard] = set()  # a shard that cleaning left as it was serves two passes
    storage, version = corpus.store.storage, corpus.version
    if version_fingerprint(version.name, version.manifests) != version.fingerprint:
        problems.append(f"{version}: its log entry was altered; fingerprint and manifests disagree")
    sums: dict[tuple[str, str], MultisetHash] = {}
    rows: dict[tuple[str, str], int] = {}
    for name in corpus.version.manifests:
        try:
            manifest = corpus.manifest(name)
        except IntegrityError as error:
            problems.append(str(error))
            continue
        for table, shards in manifest.tables.items():
            ids = sums.setdefault((name, table), MultisetHash())
            for shard in shards:
                if shard in seen:
                    ids.merge(shard.ids or "0")
                    continue
                for file in shard.files:
                    if file not in seen and on_file is not None:
                        on_file(file.path)
                    if file not in seen:
                        problems += _check(storage, file, ids if file is shard else MultisetHash())
                    seen.add(file)
            rows[name, table] = sum(shard.rows for shard in shards)
        tokenizer = manifest.info["tokenizer"] if name == "tokenize" else None
        if tokenizer:
            if on_file is not None:
                on_file(tokenizer["path"])
            problems += _check_hash(storage, tokenizer["path"], tokenizer["sha256"])
    if problems:
        return problems
    for what, left, right in _LAWS:
        if sums[left].hexdigest() != sums[right].hexdigest() or rows[left] != rows[right]:
            problems.append(
                f"{what}: {rows[left]} documents in, {rows[right]} out, or not the same ones"
            )
    return [*problems, *_counts(corpus, rows, sums)]


def _check(storage: Storage, shard: Shard, ids: MultisetHash) -> list[str]:
    """Compare one file with what its manifest says of it."""
    try:
        size = storage.size(shard.path)
        if size != shard.bytes:
            return [f"{shard.path}: {size} bytes, its manifest says {shard.bytes}"]
        if problems := _check_hash(storage, shard.path, shard.sha256):
            return problems
        if shard.ids:
            own = MultisetHash()
            own.add(read_shard(storage, shard, ["doc_id"])["doc_id"])
            if own.hexdigest() != shard.ids:
                return [f"{shard.path}: its document ids are not those its manifest says"]
            ids.merge(shard.ids)
        else:
            read_shard(storage, shard)
    except (IntegrityError, pa.ArrowException, OSError) as error:
        return [f"{shard.path}: {error}"]
    return []


def _check_hash(storage: Storage, path: str, sha256: str) -> list[str]:
    """Compare a file's bytes with the hash its manifest says."""
    try:
        with storage.open(path) as stream:
            found = sha256_of(stream)
    except (IntegrityError, OSError) as error:
        return [f"{path}: {error}"]
    if found != sha256:
        return [f"{path}: sha256 is {found[:12]}..., its manifest says {sha256[:12]}..."]
    return []


def _masked(corpus: Corpus) -> tuple[Any, list[str]]:
    """Return the forgotten documents that keep a place among the tokens, and what is left of any.

    In a version that a takedown made they are masked in place: all pad, no bytes, no text.
    """
    gone = pa.array(corpus.forgotten(), pa.binary(16))
    found: list[Any] = [pa.array([], pa.binary(16))]
    problems: list[str] = []
    if not len(gone):
        return found[0], problems
    pad = corpus.tokenizer["specials"]["pad"] if corpus.tokenizer else 0
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard)
        mine = table.filter(pc.is_in(table["doc_id"], value_set=gone))
        found += mine["doc_id"].chunks
        left = any(
            pc.any(pc.not_equal(pc.list_flatten(mine[name]), value), min_count=0).as_py()
            for name, value in (("tokens", pad), ("caption", pad), ("pixels", 0), ("samples", 0))
            if name in mine.column_names
        )
        if left or pc.sum(mine["num_bytes"], min_count=0).as_py():
            problems.append(f"{shard.path}: a forgotten document has tokens that are not masked")
    return pa.chunked_array(found, pa.binary(16)).combine_chunks(), problems


def _counts(
    corpus: Corpus, rows: dict[tuple[str, str], int], sums: dict[tuple[str, str], MultisetHash]
) -> Iterable[str]:
    collect, judge, pack = (corpus.manifest(name) for name in ("collect", "judge", "pack"))
    records = rows["collect", "documents"] + rows.get(("collect", "quarantine"), 0)
    if records != collect.counts["records"]:
        yield (
            f"collect: {collect.counts['records']} records read, but documents and quarantine hold "
            f"{records}"
        )
    verdicts = corpus.table("verdicts", hex_ids=False)
    kept = MultisetHash()
    table = (
        verdicts.filter("kept").select("doc_id").collect().to_arrow()["doc_id"].cast(pa.binary(16))
    )
    kept.add(table)
    masked, problems = _masked(corpus)
    yield from problems
    kept.add(masked)
    if (
        kept.hexdigest() != sums["tokenize", "tokens"].hexdigest()
        or len(table) + len(masked) != rows["tokenize", "tokens"]
    ):
        yield (
            f"tokenize: {len(table)} documents are kept, {rows['tokenize', 'tokens']} are "
            f"tokenized ({len(masked)} of them masked), or not the same ones"
        )
    dropped = (
        verdicts.filter(~pl.col("kept"))
        .select((pl.col("reasons").list.len() == 0).sum())
        .collect()
        .item()
    )
    if dropped:
        yield f"judge: {dropped} documents are dropped without a reason"
    if rows["judge", "verdicts"] != judge.counts["kept"] + judge.counts["dropped"]:
        yield "judge: kept and dropped do not add up"
    storage, mix = corpus.store.storage, corpus.manifest("mix")
    tokens, draws = corpus.shards("tokens"), corpus.shards("draws")
    drawn = drawn_tokens(storage, draws)
    if drawn != mix.counts["drawn_tokens"]:
        yield (
            f"mix: the draws sum up to {drawn} tokens, its manifest says "
            f"{mix.counts['drawn_tokens']}"
        )
    asked = asked_tokens(storage, tokens, mix, longest=longest_read(pack.settings))
    for plan, wanted in asked.items():
        found = planned_tokens(storage, pack.tables[f"plan_{plan}"])
        if not found == wanted == pack.counts[f"{plan}_tokens"]:
            yield f"pack: the {plan} plan holds {found} tokens instead of {wanted}"
    if len(corpus.version.manifests) < 9:
        yield f"the version lacks passes; it has {', '.join(corpus.version.manifests)}"

"""Decontaminate: documents x benchmarks -> evidence: which test item, which span, how much.

    index   the benchmarks' items -> their n-grams that are evidence
    find    a shard of documents -> every place where one of them stands
    common  all places -> the n-grams that too many documents hold, which are no evidence
    score   the places in one shard -> the table `contamination`

A text is read once: `score` works on the places that `find` noted, and only `decon` looks for
answers in the few documents that hold a question. So an added file costs its own `find`, and
`common` and `score`, which are small. Where there are so few documents that no n-gram can be
common, one stage, `match`, does it.

Neither thresholds nor actions are part of it: those are `judge`'s.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.contamination.grams import Hits
from curate.contamination.guards import common_keys
from curate.contamination.methods import FLOORS, METHODS, WHOLE
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.readers.discover import expand
from curate.readers.registry import reader_for
from pipelines.digest import code_digest
from pipelines.evidence import HELD_OUT, Decontaminate
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    PerShard,
    Workspace,
    add_counts,
    finish,
    part_key,
    run_parts,
)
from pipelines.passes.benchmarks import build_index, open_index
from pipelines.passes.heldout import earlier_versions

__all__ = ["find_shard", "following", "join_counts", "match_shard", "run", "score_shard"]

_NAME = "decontaminate"
_KINDS = (*METHODS, WHOLE)
_HITS = pa.schema(
    [
        pa.field("kind", pa.int8(), nullable=False),  # number in _KINDS
        pa.field("row", pa.int64(), nullable=False),  # of the shard
        pa.field("word", pa.int64(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("begin", pa.int64(), nullable=False),  # bytes of the document
        pa.field("end", pa.int64(), nullable=False),
    ]
)
_COUNTS = pa.schema(
    [
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
    ]
)


def run(context: Context) -> Manifest:
    """Match every document against the benchmarks."""
    began = time.monotonic()
    asked, cleaned = context.recipe.decontaminate, context.manifests["clean"]
    code = code_digest(__name__)
    settings = _settings(asked)
    documents = cleaned.tables["documents"]
    held_out = earlier_versions(context, part_key(code, settings, cleaned.fingerprint))
    parts: list[Parts | None] = []
    info: dict[str, Any] = {"coverage": [], **held_out.info}
    tables: dict[str, tuple[Shard, ...]] = {"contamination": ()}
    counts: dict[str, int] = {}
    if asked.against or held_out.shards:
        job = _index_job(context, code, settings, held_out.shards)
        (built,) = run_parts(context, _NAME, "index", [job])
        (index,) = built.tables["index"]
        info["coverage"] = built.info["coverage"]
        parts = _matched(context, code, documents, index, settings, info, held_out.parts)
        counts = add_counts([part for part in parts if part is not None])
        counts = {"documents": sum(shard.rows for shard in documents), **counts}
        found = [part.tables["contamination"][0] if part else None for part in parts]
        info["contaminated"] = [number for number, s in enumerate(found) if s and s.rows]
        evidence = tuple(shard for shard in found if shard and shard.rows)
        tables = {"contamination": evidence, "index": (index,)}
    manifest = Manifest(
        name=_NAME,
        settings=settings,
        code=code,
        parents={"clean": cleaned.fingerprint},
        tables=tables,
        counts=counts,
        info=info,
    )
    return finish(context, manifest, began)


def _settings(asked: Decontaminate) -> dict[str, Any]:
    """Return what the evidence depends on: no action, no threshold, but a floor below it."""
    method = asked.method
    thresholds = {
        "ngram": method.ngram and method.ngram.overlap,
        "llama3": method.llama3 and method.llama3.coverage,
        "decon": method.decon and method.decon.score,
    }
    used = {name: getattr(method, name) for name in METHODS if getattr(method, name) is not None}
    floors = {name: min(FLOORS[name], value) for name, value in thresholds.items() if value}
    exclude = {"overlap", "coverage", "score"}
    return {
        "against": [one.model_dump(mode="json", exclude={"action"}) for one in asked.against],
        "methods": {n: one.model_dump(mode="json", exclude=exclude) for n, one in used.items()},
        "guards": asked.guards.model_dump(mode="json"),
        "record_above": {**floors, WHOLE: FLOORS[WHOLE]},
        "held_out": asked.held_out,
    }


def _index_job(
    context: Context, code: str, settings: Mapping[str, Any], held_out: Sequence[Any]
) -> PartJob:
    against, base = context.recipe.decontaminate.against, context.recipe.base
    inputs = [
        (b.model_dump(mode="json", exclude={"action"}), expand(b.paths, base, b.format))
        for b in against
    ]
    identity = [f"{f.uri}|{f.size}|{f.version}" for _, files in inputs for f in files]
    used = {
        reader_for(f.path, b["format"])[0].read.__module__ for b, files in inputs for f in files
    }
    own = {name: settings["guards"][name] for name in ("min_words", "min_chars", "max_items")}
    asked = {"methods": settings["methods"], "guards": own}
    more = [shard.sha256 for pair in held_out for shard in pair]
    key = part_key(
        code, {**asked, "against": settings["against"]}, *identity, *more,
        *(code_digest(name) for name in sorted(used)),
    )  # fmt: skip
    earlier = (HELD_OUT, tuple(held_out)) if held_out else ("", ())
    return PartJob(key, build_index, (inputs, asked, earlier))


def following(context: Context) -> PerShard | None:
    """Return what will be done to each shard of documents; None where that cannot be told yet.

    The benchmarks' index is built for it.
    """
    asked = context.recipe.decontaminate
    if not asked.against or asked.held_out:  # the latter asks which documents these are
        return None
    code, settings = code_digest(__name__), _settings(asked)
    (built,) = run_parts(context, _NAME, "index", [_index_job(context, code, settings, ())])
    (index,) = built.tables["index"]
    total = sum(shard.rows for shard in context.manifests["collect"].tables["documents"])
    if total <= settings["guards"]["max_documents"]:
        return _matching(code, settings["record_above"], index, ())
    return _finding(code, index)


def _matching(
    code: str, floors: Mapping[str, float], index: Shard, held_out: tuple[Shard, ...]
) -> PerShard:
    return PerShard(
        name=_NAME,
        code=code,
        settings=floors,
        content=tuple(shard.sha256 for shard in (index, *held_out)),
        function=match_shard,
        arguments=(index, floors, held_out),
    )


def _finding(code: str, index: Shard) -> PerShard:
    return PerShard(
        name=_NAME,
        code=code,
        settings="find",
        content=(index.sha256,),
        function=find_shard,
        arguments=(index,),
    )


def _matched(
    context: Context,
    code: str,
    documents: Sequence[Shard],
    index: Shard,
    settings: Mapping[str, Any],
    info: dict[str, Any],
    held_out: tuple[Shard, ...],
) -> list[Parts | None]:
    """Return the matches of each shard, None where none of its documents has any evidence."""
    floors, guards = settings["record_above"], settings["guards"]
    total = sum(shard.rows for shard in documents)
    own = [shard.sha256 for shard in (index, *held_out)]
    if total <= guards["max_documents"]:
        stage = _matching(code, floors, index, held_out)
        return list(run_parts(context, _NAME, "match", [stage.job(shard) for shard in documents]))
    stage = _finding(code, index)
    found = run_parts(context, _NAME, "find", [stage.job(shard) for shard in documents])
    counts = tuple(part.tables["gram_counts"][0] for part in found)
    limits = {"documents": total, "most": guards["max_documents"], "share": guards["max_share"]}
    content = [shard.sha256 for shard in (index, *counts)]
    job = PartJob(part_key(code, limits, *content), join_counts, (index, counts, limits))
    (joined,) = run_parts(context, _NAME, "common", [job])
    (common,) = joined.tables["common"]
    info["common"] = joined.info["common"]
    info["silenced"] = joined.info["silenced"]
    for name, count in info["silenced"].items():
        context.note(
            _NAME,
            f"{count:,} items of {name} cannot be recognised: all they say is in too many "
            "documents here, be it boilerplate or a leak (see decontaminate.guards)",
        )
    hits = [part.tables["hits"][0] for part in found]
    jobs = [
        PartJob(
            part_key(code, floors, shard.sha256, noted.sha256, common.sha256, *own),
            score_shard,
            (shard, noted, index, common, floors, held_out),
        )
        for shard, noted in zip(documents, hits, strict=True)
        if noted.rows
    ]
    scored = iter(run_parts(context, _NAME, "score", jobs))
    return [next(scored) if noted.rows else None for noted in hits]


def match_shard(
    workspace: Workspace,
    shard: Shard,
    index_shard: Shard,
    floors: Mapping[str, float],
    held_out: tuple[Shard, ...] = (),
) -> Parts:
    """Job: match one shard's documents."""
    index = open_index(workspace.storage, index_shard)
    frames, ids = [], []
    documents = 0
    for batch in iter_batches(workspace.storage, shard, ["doc_id", "text_hash", "text"]):
        found = index.match(batch.column("text"), record_above=floors)
        frames.append(found.with_columns(pl.col("document") + documents))
        ids.append(batch.select(["doc_id", "text_hash"]))
        documents += batch.num_rows
    return _written(workspace, frames, ids, held_out)


def find_shard(workspace: Workspace, shard: Shard, index_shard: Shard) -> Parts:
    """Job: note where evidence stands in one shard, and in how many documents each n-gram is."""
    index = open_index(workspace.storage, index_shard)
    sizes = index.num_keys()
    counts = {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    row = 0
    with workspace.writer("hits", _HITS, kind="arrow") as writer:
        for batch in iter_batches(workspace.storage, shard, ["text"]):
            for name, hits in index.find(batch.column("text")).items():
                if not len(hits):
                    continue
                different = np.unique(hits.document * sizes[name] + hits.key) % sizes[name]
                counts[name] += np.bincount(different, minlength=sizes[name])
                kind = np.full(len(hits), _KINDS.index(name), dtype=np.int8)
                columns = [kind, hits.document + row, hits.word, hits.key, hits.begin, hits.end]
                writer.write(pa.table([pa.array(one) for one in columns], schema=_HITS))
            row += batch.num_rows
        noted = writer.commit()
    with workspace.writer("gram_counts", _COUNTS, kind="arrow") as writer:
        for name, count in counts.items():
            key = np.flatnonzero(count)
            kind = np.full(key.size, _KINDS.index(name), dtype=np.int8)
            writer.write(pa.table([kind, key, count[key]], schema=_COUNTS))
        counted = writer.commit()
    return Parts({"hits": [noted], "gram_counts": [counted]})


def join_counts(
    workspace: Workspace, index_shard: Shard, shards: Sequence[Shard], limits: Mapping[str, Any]
) -> Parts:
    """Job: add up the counts of all shards; write the keys that too many documents hold."""
    index = open_index(workspace.storage, index_shard)
    counts = {name: np.zeros(size, dtype=np.int64) for name, size in index.num_keys().items()}
    for shard in shards:
        table = read_shard(workspace.storage, shard)
        kind, key, documents = (table[name].to_numpy() for name in _COUNTS.names)
        for name, total in counts.items():
            mine = kind == _KINDS.index(name)
            total[key[mine]] += documents[mine]
    common = common_keys(counts, limits["documents"], limits["most"], limits["share"])
    with workspace.writer("common", _COUNTS, kind="arrow") as writer:
        for name, keys in common.items():
            kind = np.full(keys.size, _KINDS.index(name), dtype=np.int8)
            writer.write(pa.table([kind, keys, counts[name][keys]], schema=_COUNTS))
        written = writer.commit()
    told = {name: int(keys.size) for name, keys in common.items() if keys.size}
    return Parts({"common": [written]}, {}, {"common": told, "silenced": index.silenced(common)})


def score_shard(
    workspace: Workspace,
    shard: Shard,
    hits_shard: Shard,
    index_shard: Shard,
    common_shard: Shard,
    floors: Mapping[str, float],
    held_out: tuple[Shard, ...] = (),
) -> Parts:
    """Job: make matches of the places in one shard, without the common n-grams."""
    storage = workspace.storage
    index = open_index(storage, index_shard)
    table = read_shard(storage, common_shard)
    common = {
        _KINDS[kind]: np.sort(table["key"].to_numpy()[table["kind"].to_numpy() == kind])
        for kind in range(len(_KINDS))
    }
    noted = read_shard(storage, hits_shard)
    kind, row, *places = (noted[name].to_numpy() for name in _HITS.names)
    found: dict[str, Hits] = {}
    for number, name in enumerate(_KINDS):
        mine = kind == number
        if mine.any():
            word, key, begin, end = (place[mine] for place in places)
            hits = Hits(document=row[mine], word=word, key=key, begin=begin, end=end)
            found[name] = hits.where(~np.isin(hits.key, common[name]))
    fetch = _fetcher(storage, shard, np.unique(row))
    frame = index.score(found, fetch, common=common, record_above=floors)
    ids = read_shard(storage, shard, ["doc_id", "text_hash"]).combine_chunks().to_batches()
    return _written(workspace, [frame], ids, held_out)


def _fetcher(storage: Storage, shard: Shard, rows: Any) -> Callable[[int], str]:
    """Return a function from a row of a shard, one of `rows`, to its text."""
    kept: list[Any] = []

    def fetch(asked: int) -> str:
        if not kept:
            position, parts = 0, [pa.array([], pa.large_string())]
            for batch in iter_batches(storage, shard, ["text"]):
                low, high = np.searchsorted(rows, [position, position + batch.num_rows])
                parts.append(batch.column("text").take(pa.array(rows[low:high] - position)))
                position += batch.num_rows
            kept.append(pa.concat_arrays(parts))
        text: str = kept[0][int(np.searchsorted(rows, asked))].as_py()
        return text

    return fetch


def _written(
    workspace: Workspace, frames: Sequence[pl.DataFrame], ids: Any, held_out: tuple[Shard, ...]
) -> Parts:
    """Write the matches of a shard; `document` is the row in it."""
    names = SCHEMAS["contamination"].names
    counts = {"documents_matched": 0, "matches": 0}
    with workspace.writer("contamination") as writer:
        known = pa.Table.from_batches(ids) if ids else None
        found = pl.concat(frames) if frames else None
        if found is not None and found.height:
            rows = found["document"].to_arrow()
            columns = {name: known[name].take(rows) for name in ("doc_id", "text_hash")}  # type: ignore[index]
            columns |= {n: found[n].to_arrow() for n in found.columns if n != "document"}
            table = pa.table({name: columns[name] for name in names})
            table = _without_own(workspace.storage, table, held_out)
            counts["matches"] = table.num_rows
            counts["documents_matched"] = len(table["doc_id"].unique())
            writer.write(table.cast(SCHEMAS["contamination"]))
        written = writer.commit()
    return Parts({"contamination": [written]}, counts)


def _without_own(storage: Storage, table: Any, held_out: tuple[Shard, ...]) -> Any:
    """Leave out held-out documents that match held-out documents: they stay held out together."""
    if not held_out:
        return table
    own: set[bytes] = set()
    for shard in held_out:
        table_of = read_shard(storage, shard, ["doc_id", "kept", "split"])
        held = pl.col("kept") & (pl.col("split") != "train")
        own |= set(pl.DataFrame(pl.from_arrow(table_of)).filter(held)["doc_id"])
    ids, benchmarks = table["doc_id"].to_pylist(), table["benchmark"].to_pylist()
    keep = [b != HELD_OUT or i not in own for i, b in zip(ids, benchmarks, strict=True)]
    return table.filter(pa.array(keep, pa.bool_()))

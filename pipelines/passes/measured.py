"""Measured recall and precision of `deduplicate`: four stages after its edges are there.

`sample` takes the documents with the smallest keyed hashes out of each part; `index` shingles them
and draws the edges to check; `probe` searches their twins among a keyed share of each part, exactly
and without signatures; `compare` looks the twins up in the edges. Who is sampled, probed or checked
depends on ids and totals alone, so files and workers leave no trace. What is in memory does not
grow with the corpus.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.shard import Shard, iter_batches, iter_chosen, read_shard
from curate.dedup.intervals import measured_rates
from curate.dedup.measured import (
    NearestTwins,
    SampleIndex,
    are_known,
    between_classes,
    choose,
    draw_edges,
    limit_of_sample,
    limit_of_share,
    probe_keys,
    sample_keys,
    true_pairs,
)
from curate.dedup.minhash import MinHashScheme
from curate.dedup.plain import plain_similarity
from curate.kernels.shingles import Shingling, shingle_sets
from pipelines.digest import code_digest
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts, tables_of

__all__ = ["build_index", "compare", "pick_sample", "probe_shard", "run"]

PASS = "deduplicate"
PROBE_BYTES, PROBE_SHARE = 64_000_000, 0.05  # probed: the greater of the two
MAX_TWINS = 1000  # looked at for one sampled document
CHECKED_EDGES, CHECKED_BYTES = 200, 2_000_000
CHECKED_PAIR_BYTES = 16_000_000  # of one edge; sets of longer texts take gigabytes of Python
SAMPLE_BYTES = 16 << 20  # of text; of long documents fewer are sampled than was asked
READ_DOCS, BLOCK_DOCS, BLOCK_BYTES = 4096, 1024, 4 << 20

_TEXTS = pa.schema(
    [
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)
_SAMPLED = pa.schema(
    [
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("shingles", pa.large_list(pa.uint64()), nullable=False),
    ]
)
_TWINS = pa.schema(
    [
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("sampled", pa.int32(), nullable=False),  # row of the sampled document
    ]
)


def run(
    context: Context,
    documents: Sequence[Shard],
    duplicates: Sequence[Shard],
    scheme: MinHashScheme,
    threshold: float,
    similarity: str,
    sample: int,
    crowds: Sequence[Shard] = (),
) -> dict[str, Any]:
    """Return what `curate.dedup.measured.measured_rates` tells, of these documents and edges.

    Args:
        context: of the pass that calls.
        documents: shards of the cleaned documents.
        duplicates: shards of the verified edges.
        scheme: its shingles are those of the edges.
        threshold: similarity of an edge.
        similarity: `jaccard` or `containment`.
        sample: documents to sample, up to 16 MiB of text; 0 measures nothing.
        crowds: shards of (bucket, position, doc_id), those of another corpus at positions after
            all documents. Pairs within a bucket, each bucket in one shard, are verified on demand
            and count as found.
    """
    num_docs = sum(shard.rows for shard in documents)
    if sample == 0 or num_docs == 0:
        return _nothing()
    code = code_digest(__name__)
    settings = {
        "shingling": scheme.to_dict()["shingling"],
        "threshold": threshold,
        "similarity": similarity,
        "sample": sample,
        "documents": num_docs,
    }
    limit = limit_of_sample(sample, num_docs)
    jobs = [
        PartJob(part_key(code, ["sample", limit], shard.sha256), pick_sample, (shard, limit))
        for shard in documents
    ]
    picked = tables_of(run_parts(context, PASS, "sample", jobs), "picked")["picked"]
    asked = (scheme.shingling, threshold, similarity)
    job = PartJob(
        part_key(code, ["index", settings], *_digests(picked, duplicates)),
        build_index,
        (picked, duplicates, scheme.shingling, sample, num_docs),
    )
    (index,) = run_parts(context, PASS, "index", [job])
    (sampled,) = index.tables["sampled"]
    share, edges = index.info["limit"], index.info["edges"]
    jobs = [
        PartJob(
            part_key(code, ["probe", settings, share, edges], sampled.sha256, shard.sha256),
            probe_shard,
            (shard, sampled, asked, share, edges),
        )
        for shard in documents
    ]
    probed = run_parts(context, PASS, "probe", jobs)
    tables = tables_of(probed, "twins", "checked")
    counts = sum(part.counts["probed"] for part in probed)
    job = PartJob(
        part_key(
            code,
            ["compare", settings, counts, edges],
            *_digests([sampled], tables["twins"], tables["checked"], duplicates, crowds),
        ),
        compare,
        (
            *(sampled, tables["twins"], tables["checked"], duplicates, crowds, asked, edges),
            *(num_docs, counts),
        ),
    )
    (measured,) = run_parts(context, PASS, "compare", [job])
    return dict(measured.info)


def _nothing() -> dict[str, Any]:
    none = np.empty(0, dtype=np.int64)
    return measured_rates(none, none, probed_documents=0, checked_edges=0, correct_edges=0)


def _digests(*tables: Sequence[Shard]) -> list[str]:
    """Return the tables' content, so that a shard of one is never taken for one of another."""
    return [
        text
        for number, shards in enumerate(tables)
        for text in (str(number), *(s.sha256 for s in shards))
    ]


def pick_sample(workspace: Workspace, shard: Shard, limit: int) -> Parts:
    """Job: copy the documents whose sample key is at most `limit`; only their groups are read."""
    with workspace.writer("picked", _TEXTS) as writer:
        for table in iter_chosen(
            workspace.storage,
            shard,
            ["doc_id", "text"],
            lambda ids: sample_keys(ids) <= np.uint64(limit),
        ):
            writer.write(table)
        return Parts({"picked": [writer.commit()]})


def build_index(
    workspace: Workspace,
    picked: Sequence[Shard],
    duplicates: Sequence[Shard],
    shingling: Shingling,
    sample: int,
    num_docs: int,
) -> Parts:
    """Job: the sampled documents' shingle sets, the share to probe, and the edges to check."""
    ids, lengths = _picked(workspace, picked)
    chosen = choose(ids, sample)
    num_chosen = max(1, int(np.searchsorted(np.cumsum(lengths[chosen]), SAMPLE_BYTES)))
    chosen = chosen[:num_chosen]
    num_bytes = int(lengths[chosen].sum())
    place = np.full(len(ids), -1, dtype=np.int64)
    place[chosen] = np.arange(chosen.size)  # row of the file -> row of the sample
    sets: list[Any] = [None] * chosen.size
    start = 0
    for shard in picked:
        for batch in iter_batches(workspace.storage, shard, ["text"], READ_DOCS):
            here = place[start : start + batch.num_rows]
            start += batch.num_rows
            texts = batch.column("text").filter(pa.array(here >= 0))
            values, offsets = shingle_sets(texts, shingling)
            for k, row in enumerate(here[here >= 0].tolist()):
                sets[row] = values[offsets[k] : offsets[k + 1]]
    offsets = np.concatenate([[0], np.cumsum([one.size for one in sets])]).astype(np.int64)
    shingles = pa.LargeListArray.from_arrays(
        pa.array(offsets), pa.array(np.concatenate(sets) if sets else [], pa.uint64())
    )
    with workspace.writer("sampled", _SAMPLED, kind="arrow") as writer:
        columns = {"doc_id": ids.take(pa.array(chosen)), "shingles": shingles}
        writer.write(pa.table(columns, schema=_SAMPLED))
        sampled = writer.commit()
    # The mean of a sample that no file decides; all texts are not read for their length.
    total = max(1, num_docs * num_bytes // max(chosen.size, 1))
    limit = limit_of_share(max(PROBE_BYTES, int(PROBE_SHARE * total)), total)
    drawn = draw_edges(_edges(workspace, duplicates), CHECKED_EDGES)
    edges = [[doc.hex(), twin.hex()] for doc, twin in drawn.iter_rows()]
    return Parts({"sampled": [sampled]}, {}, {"limit": limit, "edges": edges})


def _picked(workspace: Workspace, picked: Sequence[Shard]) -> tuple[Any, np.ndarray]:
    """Return ids, and bytes of text, of all documents that were picked."""
    ids, lengths = [], [np.empty(0, dtype=np.int64)]
    for shard in picked:
        for batch in iter_batches(workspace.storage, shard, ["doc_id", "text"], READ_DOCS):
            ids.append(batch.column("doc_id"))
            lengths.append(_lengths(batch.column("text")))
    return pa.chunked_array(ids, pa.binary(16)).combine_chunks(), np.concatenate(lengths)


def _lengths(texts: Any) -> np.ndarray:
    return np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), dtype=np.int64)


def _edges(workspace: Workspace, duplicates: Sequence[Shard]) -> Iterator[pl.DataFrame]:
    for shard in duplicates:
        columns = ["doc_id", "twin_id", "kind", "twin_corpus"]
        for batch in iter_batches(workspace.storage, shard, columns, max_rows=1 << 17):
            yield pl.DataFrame(pl.from_arrow(batch))


def _crowds(workspace: Workspace, crowds: Sequence[Shard], num_own: int) -> Iterator[pl.DataFrame]:
    for shard in crowds:
        table = read_shard(workspace.storage, shard, ["bucket", "position", "doc_id"])
        other = pl.when(pl.col("position") >= num_own).then(pl.lit("another"))
        yield pl.DataFrame(pl.from_arrow(table)).select("bucket", "doc_id", twin_corpus=other)


def probe_shard(
    workspace: Workspace,
    shard: Shard,
    sampled: Shard,
    asked: tuple[Shingling, float, str],
    limit: int,
    edges: Sequence[Sequence[str]],
) -> Parts:
    """Job: the twins of the sampled documents in one part, and the texts of the edges to check."""
    shingling, threshold, similarity = asked
    table = read_shard(workspace.storage, sampled)
    names = table["doc_id"].combine_chunks()
    values, offsets = _sets(table["shingles"].combine_chunks())
    index = SampleIndex.build(values, offsets, threshold=threshold, similarity=similarity)
    twins = NearestTwins(names, MAX_TWINS)
    wanted = pa.array(sorted({bytes.fromhex(one) for edge in edges for one in edge}), pa.binary(16))
    num_probed = 0
    with workspace.writer("checked", _TEXTS) as writer:
        for block in _blocks(workspace, shard, limit, wanted, writer):
            ids, texts = block["doc_id"].combine_chunks(), block["text"].combine_chunks()
            num_probed += len(ids)
            keys = probe_keys(ids)
            found = index.probe(*shingle_sets(texts, shingling), keys, twins.limits)
            twins.add(ids, keys, found)
        tables = {"checked": [writer.commit()]} if writer.rows else {}
    with workspace.writer("twins", _TWINS) as writer:
        writer.write(twins.table())
        if writer.rows:
            tables["twins"] = [writer.commit()]
    return Parts(tables, {"probed": num_probed})


def _sets(column: Any) -> tuple[np.ndarray, np.ndarray]:
    offsets = column.offsets.to_numpy()
    return column.values.to_numpy(), offsets.astype(np.int64)


def _blocks(
    workspace: Workspace, shard: Shard, limit: int, wanted: Any, checked: Any
) -> Iterator[Any]:
    """Yield the probed documents of a part a few MiB at a time, and write the wanted ones."""
    waiting: list[Any] = []
    rows = size = 0
    for batch in iter_batches(workspace.storage, shard, ["doc_id", "text"], READ_DOCS):
        ids = batch.column("doc_id")
        checked.write(batch.filter(pc.is_in(ids, wanted)))
        part = batch.filter(pa.array(probe_keys(ids) <= np.uint64(limit)))
        ends = np.cumsum(_lengths(part.column("text")))
        begin = 0
        while begin < part.num_rows:
            before = int(ends[begin - 1]) if begin else 0
            end = int(np.searchsorted(ends, before + BLOCK_BYTES - size, side="right"))
            end = max(begin + 1, min(end, begin + BLOCK_DOCS - rows))
            waiting.append(part.slice(begin, end - begin))
            rows, size = rows + end - begin, size + int(ends[end - 1]) - before
            begin = end
            if rows >= BLOCK_DOCS or begin < part.num_rows:
                yield pa.Table.from_batches(waiting)
                waiting, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(waiting)


def compare(
    workspace: Workspace,
    sampled: Shard,
    twins: Sequence[Shard],
    checked: Sequence[Shard],
    duplicates: Sequence[Shard],
    crowds: Sequence[Shard],
    asked: tuple[Shingling, float, str],
    edges: Sequence[Sequence[str]],
    num_docs: int,
    probed_documents: int,
) -> Parts:
    """Job: which of the true twins are known to the edges, and which edges are right."""
    names = read_shard(workspace.storage, sampled, ["doc_id"])["doc_id"].combine_chunks()
    tables = [_TWINS.empty_table(), *(read_shard(workspace.storage, shard) for shard in twins)]
    pairs = true_pairs(pa.concat_tables(tables).combine_chunks(), names, MAX_TWINS)
    pairs = between_classes(pairs, _edges(workspace, duplicates))
    crowded = _crowds(workspace, crowds, num_docs)
    known = are_known(pairs, _edges(workspace, duplicates), crowded)
    rows = pairs["sampled"].to_numpy()
    found, true = (
        np.bincount(some, minlength=len(names)).astype(np.int64) for some in (rows[known], rows)
    )
    num_checked, num_correct = _check(workspace, checked, asked, edges)
    rates = measured_rates(
        found,
        true,
        probed_documents=probed_documents,
        checked_edges=num_checked,
        correct_edges=num_correct,
    )
    return Parts({}, {}, rates)


def _check(
    workspace: Workspace,
    checked: Sequence[Shard],
    asked: tuple[Shingling, float, str],
    edges: Sequence[Sequence[str]],
) -> tuple[int, int]:
    """Return how many edges were counted again in plain Python, and how many are similar enough."""
    shingling, threshold, similarity = asked
    texts: dict[str, str] = {}
    for shard in checked:
        for batch in iter_batches(workspace.storage, shard, ["doc_id", "text"]):
            ids, bodies = (batch.column(name).to_pylist() for name in ("doc_id", "text"))
            texts |= {one.hex(): body for one, body in zip(ids, bodies, strict=True)}
    total = correct = size = 0
    for left, right in edges:
        here = len(texts[left].encode()) + len(texts[right].encode())
        if here > CHECKED_PAIR_BYTES:
            continue
        size += here
        if total and size > CHECKED_BYTES:
            break
        total += 1
        correct += plain_similarity(texts[left], texts[right], shingling, similarity) >= threshold
    return total, correct

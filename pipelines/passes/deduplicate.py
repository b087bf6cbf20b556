"""Deduplicate: documents -> verified duplicate edges and clusters; nobody is dropped here.

`sketch` works per shard (exact hash, LSH band keys). `join` works over all of them: identical
normalised texts are joined to their smallest id; of each such class one member goes on to the
near-duplicate candidates, whose exact shingle Jaccard is then computed from their texts. The
ordinals it works with are ranks of the document ids, so files and workers leave no trace.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.identity import ids_to_numpy
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.dedup.candidates import candidate_pairs
from curate.dedup.clusters import components
from curate.dedup.exact import normalised_hashes
from curate.dedup.minhash import MinHashScheme, band_keys, signatures
from curate.dedup.verify import jaccard
from curate.kernels.words import ngram_hashes, unique_sorted, word_hashes
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.sections import Near

__all__ = ["join_sketches", "run", "sketch_shard"]

_MIN_CANDIDATES = 1000  # below this the share that verifies says nothing


def run(context: Context) -> Manifest:
    """Find exact and near duplicates."""
    began = time.monotonic()
    cleaned = context.manifests["clean"]
    asked = context.recipe.deduplicate
    code = code_digest(__name__)
    near = asked.near.model_dump(mode="json") if asked.near else None
    sketch = {
        "near": {k: near[k] for k in ("shingle", "bands", "rows")} if near else None,
        "seed": 1,
    }
    jobs = [
        PartJob(part_key(code, sketch, shard.sha256), sketch_shard, (shard, near))
        for shard in cleaned.tables["documents"]
    ]
    sketches = run_parts(context, "deduplicate", "sketch", jobs)
    sketched = tables_of(sketches, "sketches")["sketches"]
    conserve(context.store.storage, "deduplicate", cleaned.tables["documents"], sketched)
    settings = {"exact": asked.exact, "near": near}
    key = part_key(
        code, settings, *(shard.sha256 for shard in (*sketched, *cleaned.tables["documents"]))
    )
    job = PartJob(key, join_sketches, (sketched, cleaned.tables["documents"], settings))
    (joined,) = run_parts(context, "deduplicate", "join", [job])
    _guard(joined.counts, asked.guardrails.cluster_size, asked.guardrails.verified_share)
    scheme = _scheme(asked.near)
    manifest = Manifest(
        name="deduplicate",
        settings=settings,
        code=code,
        parents={"clean": cleaned.fingerprint},
        tables=tables_of([joined], "duplicates"),
        counts=joined.counts,
        info={
            "scheme": scheme.to_dict() if scheme else None,
            "s_curve": [
                [j / 100, round(float(scheme.s_curve(j / 100)), 6)] for j in range(50, 101, 5)
            ]
            if scheme
            else [],
        },
    )
    return finish(context, manifest, began)


def _scheme(near: Near | None) -> MinHashScheme | None:
    if near is None:
        return None
    return MinHashScheme(shingle_words=near.shingle_words, bands=near.bands, rows=near.rows)


def _guard(
    counts: Mapping[str, int], cluster_size: int | None, verified_share: float | None
) -> None:
    """Stop before damage."""
    if cluster_size is not None and counts["largest_cluster"] > cluster_size:
        raise InputError(
            f"a duplicate cluster has {counts['largest_cluster']} documents, more than "
            f"{cluster_size}; look at "
            "`preceptor table CORPUS duplicates` of a smaller run, or raise "
            "`deduplicate.guardrails.cluster_size`"
        )
    candidates, verified = counts["candidates"], counts["near"]
    if (
        verified_share is not None
        and candidates >= _MIN_CANDIDATES
        and verified < verified_share * candidates
    ):
        raise InputError(
            f"only {verified} of {candidates} near-duplicate candidates verify, less than the "
            f"share {verified_share}; "
            "use more rows per band, or lower `deduplicate.guardrails.verified_share`"
        )


def _sketch_schema(scheme: MinHashScheme | None) -> Any:
    """Return the schema of `sketches`; without a scheme there are no band keys."""
    fields = [pa.field(name, pa.binary(16), nullable=False) for name in ("doc_id", "exact")]
    if scheme is not None:
        fields.append(pa.field("shingles", pa.int64(), nullable=False))
        fields.append(pa.field("bands", pa.list_(pa.uint64(), scheme.bands), nullable=False))
    return pa.schema(fields)


def sketch_shard(workspace: Workspace, shard: Shard, near: Mapping[str, Any] | None) -> Parts:
    """Job: exact hash and band keys of one shard's documents."""
    scheme = _scheme(Near.model_validate(near)) if near else None
    schema = _sketch_schema(scheme)
    with workspace.writer("sketches", schema) as writer:
        for batch in iter_batches(workspace.storage, shard, ["doc_id", "text"]):
            texts = batch.column("text")
            columns = {"doc_id": batch.column("doc_id"), "exact": normalised_hashes(texts)}
            if scheme is not None:
                words = word_hashes(texts)
                shingles, offsets = unique_sorted(*ngram_hashes(*words, scheme.shingle_words))
                keys = band_keys(signatures(shingles, offsets, scheme), scheme)
                flat = pa.array(keys.reshape(-1), pa.uint64())
                columns["shingles"] = pa.array(np.diff(offsets))
                columns["bands"] = pa.FixedSizeListArray.from_arrays(
                    flat, type=schema.field("bands").type
                )
            writer.write(pa.table(columns, schema=schema))
        return Parts({"sketches": [writer.commit()]})


def join_sketches(
    workspace: Workspace,
    sketches: Sequence[Shard],
    documents: Sequence[Shard],
    settings: Mapping[str, Any],
) -> Parts:
    """Job: join all sketches into verified edges and clusters."""
    storage = workspace.storage
    table = pa.concat_tables([read_shard(storage, shard) for shard in sketches])
    order = _order(ids_to_numpy(table["doc_id"]))
    table = table.take(pa.array(order)).combine_chunks()
    num_docs = table.num_rows
    twins = (
        _exact_pairs(ids_to_numpy(table["exact"]))
        if settings["exact"]
        else np.empty((0, 2), dtype=np.int64)
    )
    near, candidates, capped = np.empty((0, 2), dtype=np.int64), 0, 0
    scores = np.empty(0)
    if settings["near"]:
        asked = Near.model_validate(settings["near"])
        eligible = table["shingles"].to_numpy() > 0
        eligible[twins[:, 1]] = False  # the class goes on by its smallest id
        keys = _values(table["bands"], asked.bands)
        found = candidate_pairs(keys, eligible, asked.max_bucket)
        scores = _verify(workspace, documents, order, found.pairs, asked.shingle_words)
        good = scores >= asked.threshold
        near, scores = found.pairs[good], scores[good]
        candidates, capped = len(found.pairs), int(found.num_capped_buckets)
    edges = np.concatenate([twins, near])
    labels = components(num_docs, edges)
    sizes = np.bincount(labels, minlength=num_docs)
    largest = int(sizes.max(initial=0))
    written = _write(workspace, table["doc_id"], twins, near, scores, labels, sizes)
    counts = {
        "documents": num_docs,
        "exact": len(twins),
        "candidates": candidates,
        "near": len(near),
        "capped_buckets": capped,
        "clusters": int((sizes > 1).sum()),
        "clustered_documents": int(sizes[sizes > 1].sum()),
        "largest_cluster": largest,
    }
    return Parts({"duplicates": written}, counts)


def _order(ids: np.ndarray) -> np.ndarray:
    """Return the permutation that sorts ids as byte strings."""
    big = ids.astype("<u8").view(">u8").reshape(ids.shape)
    return np.lexsort((big[:, 1], big[:, 0]))


def _values(column: Any, width: int) -> np.ndarray:
    flat = (
        np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
        if column.num_chunks
        else np.empty(0)
    )
    return flat.reshape(-1, width).astype(np.uint64, copy=False)


def _exact_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return [smallest ordinal of the class, other member] for every class of equal hashes."""
    order = np.lexsort((np.arange(len(hashes)), hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = (
        np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
        if len(order)
        else np.empty(0, dtype=bool)
    )
    first = order[new][np.cumsum(new) - 1] if len(order) else order
    pairs = (
        np.stack([first[~new], order[~new]], axis=1)
        if len(order)
        else np.empty((0, 2), dtype=np.int64)
    )
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _verify(
    workspace: Workspace,
    documents: Sequence[Shard],
    order: np.ndarray,
    pairs: np.ndarray,
    width: int,
) -> np.ndarray:
    """Return the exact shingle Jaccard of candidate pairs, from their texts."""
    if not len(pairs):
        return np.empty(0)
    wanted = np.unique(pairs)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))  # position in the files -> ordinal
    is_wanted = np.zeros(len(order), dtype=bool)
    is_wanted[wanted] = True
    position, ordinals, hashes, lengths = 0, [], [], []
    for shard in documents:
        for batch in iter_batches(workspace.storage, shard, ["text"]):
            here = rank[position : position + batch.num_rows]
            position += batch.num_rows
            mask = is_wanted[here]
            if mask.any():
                texts = batch.column("text").filter(pa.array(mask))
                shingles, offsets = unique_sorted(*ngram_hashes(*word_hashes(texts), width))
                ordinals.append(here[mask])
                hashes.append(shingles)
                lengths.append(np.diff(offsets))
    local = np.full(len(order), -1, dtype=np.int64)
    local[np.concatenate(ordinals)] = np.arange(len(wanted))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return np.asarray(jaccard(local[pairs], np.concatenate(hashes), offsets))


def _write(
    workspace: Workspace,
    ids: Any,
    twins: np.ndarray,
    near: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    sizes: np.ndarray,
) -> list[Shard]:
    edges = np.concatenate([twins, near])
    kinds = np.array(["exact"] * len(twins) + ["near"] * len(near), dtype=object)
    values = np.concatenate([np.ones(len(twins)), scores])
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, kinds, values = edges[order], kinds[order], values[order]
    cluster = labels[edges[:, 0]]
    table = pa.table(
        {
            "doc_id": ids.take(pa.array(edges[:, 1])),
            "twin_id": ids.take(pa.array(edges[:, 0])),
            "kind": pa.array(kinds, pa.string()),
            "jaccard": pa.array(values, pa.float64()),
            "cluster_id": ids.take(pa.array(cluster)),
            "cluster_size": pa.array(sizes[cluster], pa.int64()),
        },
        schema=SCHEMAS["duplicates"],
    )
    with workspace.writer("duplicates") as writer:
        writer.write(table)
        return [writer.commit()]

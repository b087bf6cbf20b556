"""Jobs on candidate pairs: exact similarity, clusters, and the table `duplicates`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard
from curate.dedup.candidates import distinct, unique_pairs
from curate.dedup.clusters import Components
from curate.dedup.runs import Range, lookup, slices
from curate.dedup.verify import similarity
from pipelines.passes.base import Parts, Workspace
from pipelines.passes.joining import EDGES, Layout, by_shard, to_ids, write_run
from pipelines.passes.sketching import run_schema

__all__ = ["ShingleSets", "find_clusters", "scores", "verify_range", "write_range"]

CLUSTERS = run_schema(key=pa.uint64(), id_high=pa.uint64(), id_low=pa.uint64(), size=pa.int64())

_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ShingleSets:
    """The shingle sets of documents with candidates: one shard for each shard of documents."""

    shards: tuple[Shard, ...]
    rows: tuple[int, ...]

    @property
    def bases(self) -> np.ndarray:
        """The first position of each shard, and the end."""
        return np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64)


def verify_range(
    workspace: Workspace,
    pairs: Sequence[Shard],
    which: Range,
    layout: Layout,
    sets: Sequence[Shard],
    threshold: float,
    kind: str,
    max_bytes: int,
) -> Parts:
    """Job: the exact similarity of candidate pairs, each once; those above the threshold stay."""
    found = [c for _, c in slices(workspace.storage, pairs, which, ["left", "right"])]
    none = np.empty(0, dtype=np.int64)
    left, right = (
        unique_pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))
        if found
        else (none, none)
    )
    shingles = ShingleSets(shards=tuple(sets), rows=tuple(s.rows for s in layout.sketches))
    score = scores(workspace, shingles, left, right, kind, max_bytes, floor=threshold)
    good = score >= threshold
    left, right, score = left[good], right[good], score[good]
    candidates = good.size
    ids = layout.ids(workspace, known := distinct(np.concatenate([left, right])))
    a, b = ids[np.searchsorted(known, left)], ids[np.searchsorted(known, right)]
    # The twin is the one with the smaller id, or the one of another corpus.
    smaller = (a[:, 0] < b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] < b[:, 1]))
    smaller &= right < layout.num_own
    pick = smaller[:, None]
    twin_id, doc_id = np.where(pick, a, b), np.where(pick, b, a)
    edges = {
        "key": twin_id[:, 0],
        "twin_low": twin_id[:, 1],
        "doc_high": doc_id[:, 0],
        "doc_low": doc_id[:, 1],
        "twin": np.where(smaller, left, right),
        "doc": np.where(smaller, right, left),
        "jaccard": score,
    }
    written = write_run(workspace, "edges", EDGES, edges)
    return Parts({"edges": [written]}, {"candidates": candidates, "near": int(good.sum())})


def scores(
    workspace: Workspace,
    shingles: ShingleSets,
    left: np.ndarray,
    right: np.ndarray,
    kind: str,
    max_bytes: int,
    *,
    floor: float,
) -> np.ndarray:
    """Return the similarity of pairs of positions; sets of `max_bytes` are in memory at a time.

    That of a pair below `floor` may be 0.
    """
    result = np.empty(left.size)
    for begin, end in _chunks(workspace, shingles, left, right, max_bytes // 16):
        known, inverse = np.unique(
            np.concatenate([left[begin:end], right[begin:end]]), return_inverse=True
        )
        values, offsets = _load(workspace, shingles, known)
        local = inverse.reshape(2, -1).T
        result[begin:end] = similarity(local, values, offsets, kind, floor)
    return result


def _chunks(
    workspace: Workspace,
    shingles: ShingleSets,
    left: np.ndarray,
    right: np.ndarray,
    max_shingles: int,
) -> Iterator[tuple[int, int]]:
    """Cut pairs so that the shingle sets of a chunk's documents fit into memory."""
    waiting = [
        (begin, min(begin + _PAIRS_AT_ONCE, left.size))
        for begin in range(0, left.size, _PAIRS_AT_ONCE)
    ][::-1]
    while waiting:
        begin, end = waiting.pop()
        known = distinct(np.concatenate([left[begin:end], right[begin:end]]))
        size = 0
        for number, _, _, rows in by_shard(shingles.bases, known):
            (sizes,) = lookup(workspace.storage, shingles.shards[number], rows, ["size"])
            size += int(sizes.to_numpy().sum(dtype=np.int64))
        if size > max_shingles and end - begin > 1:
            middle = (begin + end) // 2
            waiting += [(middle, end), (begin, middle)]
        else:
            yield begin, end


def _load(
    workspace: Workspace, shingles: ShingleSets, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shingle sets of ascending positions: values, offsets [n + 1]."""
    values, sizes = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for number, _, _, rows in by_shard(shingles.bases, positions):
        (lists,) = lookup(workspace.storage, shingles.shards[number], rows, ["values"])
        values.append(lists.flatten().to_numpy())
        sizes.append(np.diff(lists.offsets.to_numpy()))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return np.concatenate(values), offsets


def find_clusters(workspace: Workspace, edges: Sequence[Shard], max_bytes: int) -> Parts:
    """Job: connected components of all edges, named by their smallest id."""
    from curate.kernels.sets import smallest  # numba: half a second

    storage = workspace.storage

    def both() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _, (twin, doc) in slices(storage, edges, (0, None), ["twin", "doc"]):
            yield twin, doc

    scratch: Path = storage.temporary()
    found = Components(both, scratch=scratch, max_bytes=max_bytes)
    ids = np.full((found.sizes.size, 2), np.iinfo(np.uint64).max, dtype=np.uint64)
    names = ["key", "twin_low", "doc_high", "doc_low", "twin", "doc"]
    for _, (high, low, doc_high, doc_low, twin, doc) in slices(storage, edges, (0, None), names):
        smallest(found.of(twin), high, low, ids)
        smallest(found.of(doc), doc_high, doc_low, ids)
    with workspace.writer("clusters", CLUSTERS, kind="arrow") as writer:
        for begin in range(0, found.nodes.size, _PAIRS_AT_ONCE):
            label = found.label[begin : begin + _PAIRS_AT_ONCE]
            columns = {
                "key": np.asarray(found.nodes[begin : begin + label.size]).astype(np.uint64),
                "id_high": ids[label, 0],
                "id_low": ids[label, 1],
                "size": found.sizes[label],
            }
            writer.write(pa.table(columns, schema=CLUSTERS))
        written = writer.commit()
    counts = {
        "clusters": int(found.sizes.size),
        "clustered_documents": int(found.nodes.size),
        "largest_cluster": int(found.sizes.max(initial=1)),
    }
    return Parts({"clusters": [written]}, counts)


def write_range(
    workspace: Workspace,
    exact: Sequence[Shard],
    near: Sequence[Shard],
    which: Range,
    clusters: Sequence[Shard],
    layout: Layout,
    against: str | None,
) -> Parts:
    """Job: a part of the table `duplicates`, in the order of (twin_id, doc_id)."""
    storage = workspace.storage
    names = ["key", "twin_low", "doc_high", "doc_low", "twin", "jaccard"]
    found = []
    for kind, shards in enumerate((exact, near)):
        for _, columns in slices(storage, shards, which, names):
            found.append([*columns, np.full(columns[0].size, kind)])
    if not found:
        return Parts({"duplicates": []})
    high, low, doc_high, doc_low, twin, jaccard, is_near = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )
    order = np.lexsort((doc_low, doc_high, low, high))
    known, inverse = np.unique(twin, return_inverse=True)
    names = ["id_high", "id_low", "size"]
    cluster = [
        np.concatenate(column)[inverse][order]
        for column in zip(*_clusters_of(workspace, clusters, known, names), strict=True)
    ]
    kinds = pa.array(["exact", "near"]).take(pa.array(is_near[order]))
    outside = pa.array(twin[order] >= layout.num_own)
    table = pa.table(
        {
            "doc_id": to_ids(doc_high[order], doc_low[order]),
            "twin_id": to_ids(high[order], low[order]),
            "kind": kinds,
            "jaccard": jaccard[order],
            "cluster_id": to_ids(cluster[0], cluster[1]),
            "cluster_size": cluster[2],
            "twin_corpus": pc.if_else(outside, pa.scalar(against, pa.string()), None),
        },
        schema=SCHEMAS["duplicates"],
    )
    with workspace.writer("duplicates") as writer:
        writer.write(table)
        return Parts({"duplicates": [writer.commit()]})


def _clusters_of(
    workspace: Workspace, clusters: Sequence[Shard], nodes: np.ndarray, names: list[str]
) -> Iterator[list[np.ndarray]]:
    """Yield columns of the clusters of ascending positions, all of which have one."""
    for shard in clusters:
        yield [
            column.to_numpy()
            for column in lookup(workspace.storage, shard, nodes.astype(np.uint64), names)
        ]

"""Jobs on a range of keys: exact classes and candidate pairs.

A document is known by its position here: its row, counted over all shards in order, the corpus's
own first and those it is compared `against` after them. Positions decide nothing: wherever an
order matters it is that of the document ids, so files and workers leave no trace.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.shard import Shard, read_shard
from curate.dedup.candidates import Buckets, buckets, distinct, hub_pairs, unique_pairs
from curate.dedup.runs import Range, read_rows, slices, sorted_run
from curate.kernels.mix import fmix64
from curate.media.perceptual import hamming
from pipelines.passes.base import Parts, Workspace
from pipelines.passes.sketching import big_endian, run_schema

__all__ = [
    "Layout",
    "by_shard",
    "exact_range",
    "mask_all",
    "mask_outside",
    "near_range",
    "to_ids",
    "write_run",
]

MASK = run_schema(bits=pa.uint8())
PAIRS = run_schema(key=pa.uint64(), left=pa.int64(), right=pa.int64())
POSITIONS = run_schema(key=pa.uint64())
CROWDS = run_schema(bucket=pa.uint64(), position=pa.int64(), doc_id=pa.binary(16))
EDGES = run_schema(
    key=pa.uint64(),  # the twin's id, first half; edges are written in the order of (twin, doc)
    twin_low=pa.uint64(),
    doc_high=pa.uint64(),
    doc_low=pa.uint64(),
    twin=pa.int64(),
    doc=pa.int64(),
    jaccard=pa.float64(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where every document stands.

    Attributes:
        sketches: one shard for each shard of documents, with its ids in order.
        num_own: documents of this corpus; positions from here on belong to another one.
    """

    sketches: tuple[Shard, ...]
    num_own: int

    @property
    def bases(self) -> np.ndarray:
        """The first position of each shard, and the end."""
        return np.concatenate([[0], np.cumsum([s.rows for s in self.sketches])]).astype(np.int64)

    @property
    def num_docs(self) -> int:
        """All documents."""
        return sum(shard.rows for shard in self.sketches)

    def ids(self, workspace: Workspace, positions: np.ndarray) -> np.ndarray:
        """Return the ids of ascending positions, uint64 [n, 2] in byte order."""
        result = np.empty((positions.size, 2), dtype=np.uint64)
        for number, begin, end, rows in by_shard(self.bases, positions):
            ids = read_rows(workspace.storage, self.sketches[number], rows, "doc_id")
            result[begin:end] = big_endian(ids)
        return result

    def looks(self, workspace: Workspace, positions: np.ndarray) -> np.ndarray:
        """Return the perceptual hashes of images at ascending positions, uint64 [n]."""
        result = np.empty(positions.size, dtype=np.uint64)
        for number, begin, end, rows in by_shard(self.bases, positions):
            found = read_rows(workspace.storage, self.sketches[number], rows, "look")
            result[begin:end] = found.to_numpy()
        return result


def by_shard(bases: np.ndarray, positions: np.ndarray) -> Iterator[tuple[int, int, int, Any]]:
    """Yield (shard, begin, end, rows in the shard) of ascending positions."""
    bounds = np.searchsorted(positions, bases)
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        begin, end = int(bounds[number]), int(bounds[number + 1])
        yield number, begin, end, positions[begin:end] - bases[number]


def mask_outside(
    workspace: Workspace, num_own: int, num_docs: int, verdicts: Sequence[Shard]
) -> Parts:
    """Job: mark the documents of another corpus that it has not kept; they count for nothing."""
    first, bits = num_own, np.zeros(-(-num_docs // 8), dtype=np.uint8)
    for shard in verdicts:
        kept = read_shard(workspace.storage, shard, ["kept"])["kept"].combine_chunks()
        _mark(bits, first + np.flatnonzero(~kept.to_numpy(zero_copy_only=False)))
        first += shard.rows
    return _write_mask(workspace, bits)


def mask_all(
    workspace: Workspace, num_docs: int, shut: Sequence[Shard], outside: Sequence[Shard]
) -> Parts:
    """Job: mark whose class goes on by another member, one bit for each document."""
    bits = _read_mask(workspace, outside, num_docs)
    for _, (positions,) in slices(workspace.storage, shut, (0, None), ["key"]):
        _mark(bits, positions.astype(np.int64))
    return _write_mask(workspace, bits)


def _mark(bits: np.ndarray, positions: np.ndarray) -> None:
    np.bitwise_or.at(bits, positions >> 3, (0x80 >> (positions & 7)).astype(np.uint8))


def _write_mask(workspace: Workspace, bits: np.ndarray) -> Parts:
    with workspace.writer("mask", MASK, kind="arrow") as writer:
        writer.write(pa.table({"bits": pa.array(bits)}, schema=MASK))
        return Parts({"mask": [writer.commit()]})


def _read_mask(workspace: Workspace, shards: Sequence[Shard], num_docs: int) -> np.ndarray:
    bits = np.zeros(-(-num_docs // 8), dtype=np.uint8)
    for shard in shards:
        found = read_shard(workspace.storage, shard)["bits"].to_numpy()
        bits[: found.size] |= found
    return bits


def _marked(bits: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the bit of each position, as bool."""
    shift = (7 - (positions & 7)).astype(np.uint8)
    marked: np.ndarray = ((bits[positions >> 3] >> shift) & 1).astype(bool)
    return marked


def exact_range(
    workspace: Workspace,
    runs: Sequence[Shard],
    which: Range,
    layout: Layout,
    outside: Sequence[Shard],
) -> Parts:
    """Job: join documents of one normalised text to the first of their class.

    That is one of another corpus if the class has any, else the smallest id.
    """
    names = ["key", "low", "id_high", "id_low", "row"]
    bases = layout.bases
    found = [
        [*columns[:-1], columns[-1].astype(np.int64) + bases[number]]
        for number, columns in slices(workspace.storage, runs, which, names)
    ]
    empty = [np.empty(0, dtype=np.uint64)] * 4 + [np.empty(0, dtype=np.int64)]
    key, low, high_id, low_id, position = (
        [np.concatenate(column) for column in zip(*found, strict=True)] if found else empty
    )
    is_outside = (position >= layout.num_own).astype(np.uint8)
    if is_outside.any():
        counts = ~_marked(_read_mask(workspace, outside, layout.num_docs), position)
        columns = (key, low, high_id, low_id, position, is_outside)
        key, low, high_id, low_id, position, is_outside = (c[counts] for c in columns)
    order = np.argsort(key, kind="stable")
    ties = key[order][1:] == key[order][:-1]
    tied = np.zeros(key.size, dtype=bool)
    tied[1:] |= ties
    tied[:-1] |= ties
    rows = order[tied]  # only they can have a twin
    rows = rows[
        np.lexsort((low_id[rows], high_id[rows], is_outside[rows] == 0, low[rows], key[rows]))
    ]
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (key[rows][1:] != key[rows][:-1]) | (low[rows][1:] != low[rows][:-1])
    first = rows[new][np.cumsum(new) - 1] if rows.size else rows
    member = ~new & (is_outside[rows] == 0)
    twin, doc = first[member], rows[member]
    edges = {
        "key": high_id[twin],
        "twin_low": low_id[twin],
        "doc_high": high_id[doc],
        "doc_low": low_id[doc],
        "twin": position[twin],
        "doc": position[doc],
        "jaccard": np.ones(twin.size),
    }
    # Members of another corpus have no edge, but their class goes on by its first as well.
    shut = position[rows[~new]]
    return Parts(
        {
            "edges": [write_run(workspace, "edges", EDGES, edges)],
            "shut": [write_run(workspace, "shut", POSITIONS, {"key": shut.astype(np.uint64)})],
        },
        {"exact": int(twin.size)},
    )


def write_run(workspace: Workspace, table: str, schema: Any, columns: dict[str, Any]) -> Shard:
    """Write columns as one sorted run."""
    with workspace.writer(table, schema, kind="arrow") as writer:
        writer.write(sorted_run(columns))
        return writer.commit()


def near_range(
    workspace: Workspace,
    runs: Sequence[Shard],
    which: Range,
    layout: Layout,
    mask: Sequence[Shard],
    max_bucket: int,
    level: int,
    distance: int | None = None,
) -> Parts:
    """Job: candidate pairs of the documents that share a band key.

    Of images only those whose hashes differ in at most `distance` bits: a bucket of drawings or
    digits holds thousands of pairs that only share a band, and a pair costs nanoseconds here.
    At level 1 the documents of crowded buckets are listed, to be banded again; at level 2 they
    are linked to hubs in the order of their ids, and told to `judge`.
    """
    bases = layout.bases
    found = [
        (keys, rows.astype(np.int64) + bases[number])
        for number, (keys, rows) in slices(workspace.storage, runs, which, ["key", "row"])
    ]
    key = np.concatenate([k for k, _ in found]) if found else np.empty(0, dtype=np.uint64)
    position = np.concatenate([p for _, p in found]) if found else np.empty(0, dtype=np.int64)
    del found
    open_ = ~_marked(_read_mask(workspace, mask, layout.num_docs), position)
    groups = buckets(key[open_], position[open_])
    del key, position
    groups = groups.only(_has_own(groups, layout.num_own))
    crowded = groups.sizes > max_bucket
    large = groups.only(crowded)
    tables: dict[str, list[Shard]] = {}
    touched: list[np.ndarray] = []
    with workspace.writer("pairs", PAIRS, kind="arrow") as writer:
        blocks = _pairs(workspace, groups.only(~crowded), layout, distance)
        if level == 2:
            crowds, hubs = _crowds(workspace, large, layout)
            tables["crowds"] = [crowds]
            touched.append(distinct(large.members))  # `judge` may compare any two of them
            blocks = itertools.chain(blocks, hubs)
        for left, right in blocks:
            own = left < layout.num_own  # left < right: then neither is
            left, right = left[own], right[own]
            key = fmix64(left.astype(np.uint64))
            writer.write(sorted_run({"key": key, "left": left, "right": right}))
            touched.append(distinct(np.concatenate([left, right])))
            if len(touched) > 8:
                touched = [distinct(np.concatenate(touched))]
        tables["pairs"] = [writer.commit()]
    wanted = distinct(np.concatenate(touched)) if touched else np.empty(0, dtype=np.int64)
    tables["wanted"] = [_positions(workspace, "wanted", wanted)]
    if level == 1:
        tables["crowded"] = [_positions(workspace, "crowded", np.unique(large.members))]
    return Parts(tables, {"hot_buckets": int(crowded.sum())})


def _pairs(
    workspace: Workspace, groups: Buckets, layout: Layout, distance: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of documents that share a bucket, of images those near enough."""
    if distance is None:
        yield from groups.pair_blocks()
        return
    known, local = np.unique(groups.members, return_inverse=True)
    looks = layout.looks(workspace, known)

    def near(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return hamming(looks[left], looks[right]) <= distance

    for left, right in replace(groups, members=local.astype(np.int64)).pair_blocks(near):
        yield known[left], known[right]


def _has_own(groups: Buckets, num_own: int) -> np.ndarray:
    """Say which buckets hold a document of this corpus: the first member is the smallest."""
    return np.asarray(groups.members[groups.bounds[:-1]] < num_own)


def _positions(workspace: Workspace, table: str, positions: np.ndarray) -> Shard:
    return write_run(workspace, table, POSITIONS, {"key": positions.astype(np.uint64)})


def _crowds(
    workspace: Workspace, large: Buckets, layout: Layout
) -> tuple[Shard, list[tuple[np.ndarray, np.ndarray]]]:
    """Write the buckets that stay crowded, and return their hub pairs."""
    members, inverse = np.unique(large.members, return_inverse=True)
    ids = layout.ids(workspace, members)[inverse]
    bucket = np.repeat(np.arange(large.keys.size), large.sizes)
    # Those of another corpus first: they stay whatever happens, so they make the best hubs.
    own = large.members < layout.num_own
    order = np.lexsort((ids[:, 1], ids[:, 0], own, bucket))
    ordered = large.members[order]
    table = pa.table(
        {
            "bucket": np.repeat(large.keys, large.sizes),
            "position": ordered,
            "doc_id": to_ids(ids[order, 0], ids[order, 1]),
        },
        schema=CROWDS,
    )
    with workspace.writer("crowds", CROWDS) as writer:
        writer.write(table)
        written = writer.commit()
    hubs = []
    for begin, end in zip(large.bounds[:-1].tolist(), large.bounds[1:].tolist(), strict=True):
        left, right = hub_pairs(ordered[begin:end])
        hubs.append(unique_pairs(np.minimum(left, right), np.maximum(left, right)))
    return written, hubs


def to_ids(high: np.ndarray, low: np.ndarray) -> Any:
    """Return binary(16) values of the two halves."""
    data = np.stack([high, low], axis=1).astype(">u8").tobytes()
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(high), [None, pa.py_buffer(data)]
    )

"""Parquet in, Parquet out: deduplicate files in one process, without a store or a recipe.

The input is read three times and never held: for exact hashes and band keys, for the shingle sets
of the candidates, and to write the survivors. Band keys and shingle sets go to a scratch folder;
memory holds some 150 bytes of each document while the survivors are chosen, and all candidate pairs
at once, some 100 bytes each. The pass `deduplicate` does the same with evidence, restarts, bounded
memory and clusters of machines; this is for a folder of files and a quick answer.
"""

import functools
import itertools
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.errors import InputError
from curate.corpus.identity import ids_to_numpy
from curate.dedup.candidates import Buckets, buckets, hub_pairs, unique_pairs
from curate.dedup.crowds import Crowds, group_crowds, survivors_of_crowds
from curate.dedup.exact import normalised_hashes
from curate.dedup.files import check_inputs, read_texts, whole_folder, write_rows
from curate.dedup.minhash import MinHashScheme, sketch
from curate.dedup.runs import Range, ranges
from curate.dedup.survivors import Edges
from curate.dedup.verify import similarity
from curate.kernels.shingles import shingle_sets

__all__ = ["Summary", "deduplicate_files"]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
T = TypeVar("T")

_MAX_ROWS = 4_000_000  # band keys joined at a time
_PAIRS_AT_ONCE = 1 << 18
_PAIRS_WAITING = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was found.

    Attributes:
        documents, kept: rows read and written.
        exact, near: rows removed, by reason.
        candidates, verified: pairs that were compared, and those above the threshold. They shared
            a band, or a crowd with a document that stays.
        crowded_unverified: documents that stay though not all of a crowd after them was compared
            with them: there were too many that stay.
        without_text: rows whose text is null; they stay.
        num_bytes: of text.
        scheme: of the signatures.
        threshold: of the verification.
    """

    documents: int
    kept: int
    exact: int
    near: int
    candidates: int
    verified: int
    crowded_unverified: int
    without_text: int
    num_bytes: int
    scheme: dict[str, Any]
    threshold: float


def deduplicate_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    scheme: MinHashScheme | None = None,
    threshold: float = 0.8,
    text: str = "text",
    max_bucket: int = 1000,
    threads: int = 1,
    verify: bool = True,
) -> Summary:
    """Write the surviving rows of Parquet files, the edges between rows, and a summary.

    The longest document of a group of duplicates survives, of equals the first. A row goes only
    when it has a verified edge to one that stays.

    Args:
        inputs: Parquet files with one schema.
        out: a new or empty folder: gets NAME.parquet for each input, duplicates.parquet (row,
            twin_row, kind, jaccard; rows are counted over all inputs) and summary.json.
        scheme: see `MinHashScheme`.
        threshold: exact Jaccard at which two documents are duplicates.
        text: the column of text.
        max_bucket: the largest LSH bucket that gives all its pairs. In a larger one, those that
            stay are compared with all after them (see `curate.dedup.crowds`).
        threads: that hash text.
        verify: False trusts the signatures. Only to show what that costs.

    Raises:
        InputError: no such file or column, or the folder holds something.
    """
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"threshold must be in (0, 1], got {threshold}; 0.8 is usual")
    scheme = scheme or MinHashScheme()
    check_inputs(inputs, out, text)
    with (
        whole_folder(out) as results,
        tempfile.TemporaryDirectory(prefix="preceptor-") as folder,
    ):
        scratch = Path(folder)
        rows = _sketch(inputs, text, scheme, scratch, threads)
        exact = _exact_pairs(rows)
        eligible = rows.shingled.copy()
        eligible[exact[:, 1]] = False  # the class goes on by its first member
        pairs, groups = _candidates(scratch, eligible, scheme.bands, max_bucket)
        score: _Verifier | _Trust
        if verify:
            wanted = np.unique(np.concatenate([pairs.reshape(-1), *groups]))
            score = _Verifier(
                wanted, _shingle(inputs, text, scheme, scratch, wanted, threads), scratch
            )
        else:
            score, groups = _Trust(), []
        jaccard = score(pairs[:, 0], pairs[:, 1])
        good = jaccard >= threshold
        edges = Edges(exact=exact, near=pairs[good], jaccard=jaccard[good])
        crowds = Crowds(groups, score, threshold)
        is_exact, is_near, edges = _survivors(rows.sizes, edges, crowds)
        write_rows(inputs, results, ~(is_exact | is_near))
        _write_edges(results / "duplicates.parquet", edges)
        summary = Summary(
            documents=rows.sizes.size,
            kept=int(rows.sizes.size - is_exact.sum() - is_near.sum()),
            exact=int(is_exact.sum()),
            near=int(is_near.sum()),
            candidates=score.compared,
            verified=len(edges.near),
            crowded_unverified=crowds.unreached,
            without_text=int((~rows.present).sum()),
            num_bytes=int(rows.sizes.sum()),
            scheme=scheme.to_dict(),
            threshold=threshold,
        )
        (results / "summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def _survivors(sizes: I64, edges: Edges, crowds: Crowds) -> tuple[Mask, Mask, Edges]:
    """Return exact and near duplicates, bool [n] each, and the edges with those of the crowds."""
    num_docs = sizes.size
    rank = np.empty(num_docs, dtype=np.int64)
    rank[np.lexsort((np.arange(num_docs), -sizes))] = np.arange(num_docs)
    standing = np.ones(num_docs, dtype=bool)
    is_exact, is_near, _, pairs, jaccard = survivors_of_crowds(
        crowds, rank, standing, edges, immune=~standing
    )
    pairs = np.concatenate([edges.near, np.sort(pairs, axis=1)])
    jaccard = np.concatenate([edges.jaccard, jaccard])
    # A crowd meets some pairs that its hubs gave before.
    _, first = np.unique(pairs[:, 0] * num_docs + pairs[:, 1], return_index=True)
    return is_exact, is_near, Edges(exact=edges.exact, near=pairs[first], jaccard=jaccard[first])


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What is known of the rows: exact hashes [n, 2], bytes, who has shingles, who has a text."""

    hashes: U64
    sizes: I64
    shingled: Mask
    present: Mask


class _Verifier:
    """The exact Jaccard of pairs of rows whose shingle sets are on disk."""

    def __init__(self, wanted: I64, offsets: I64, scratch: Path) -> None:
        """Take the rows (ascending) and the offsets of their sets in the scratch folder."""
        self._wanted, self._offsets, self.compared = wanted, offsets, 0
        self._values: Any = np.empty(0, dtype=np.uint64)
        if offsets[-1]:
            self._values = np.asarray(np.memmap(scratch / "shingles", dtype=np.uint64, mode="r"))

    def __call__(self, left: I64, right: I64) -> F64:
        """Return the similarity of each pair."""
        self.compared += left.size
        score = np.empty(left.size)
        for begin in range(0, left.size, _PAIRS_AT_ONCE):
            here = slice(begin, begin + _PAIRS_AT_ONCE)
            local = np.searchsorted(self._wanted, np.stack([left[here], right[here]], axis=1))
            score[here] = similarity(local, self._values, self._offsets)
        return score


class _Trust:
    """Every pair that shares a band is a duplicate."""

    compared = 0

    def __call__(self, left: I64, right: I64) -> F64:
        """Return ones."""
        self.compared += left.size
        return np.ones(left.size)


def _in_order(work: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """Run calls on threads and yield their results in order, a few ahead of the reader."""
    if threads == 1:
        for call in work:
            yield call()
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for call in work:
            waiting.append(pool.submit(call))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _sketch(
    inputs: Sequence[Path], text: str, scheme: MinHashScheme, scratch: Path, threads: int
) -> _Rows:
    """Return what is known of the rows; band keys go to a file."""

    def one(texts: Any) -> tuple[U64, I64, Mask, Mask, U64]:
        found = sketch(texts, scheme)
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        hashes = ids_to_numpy(normalised_hashes(texts))
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        return hashes, sizes.astype(np.int64), found.num_shingles > 0, present, found.keys

    hashes, sizes = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    shingled, present = [np.empty(0, dtype=bool)], [np.empty(0, dtype=bool)]
    work = (functools.partial(one, texts) for _, texts in read_texts(inputs, text))
    with (scratch / "keys").open("wb") as file:
        for h, s, e, p, keys in _in_order(work, threads):
            hashes.append(h)
            sizes.append(s)
            shingled.append(e)
            present.append(p)
            file.write(keys.data)
    return _Rows(
        hashes=np.concatenate(hashes),
        sizes=np.concatenate(sizes),
        shingled=np.concatenate(shingled),
        present=np.concatenate(present),
    )


def _exact_pairs(known: _Rows) -> I64:
    """Return [first row of the class, other row] for every class of equal hashes.

    A row without text is in no class.
    """
    hashes, having = known.hashes, np.flatnonzero(known.present)
    order = having[np.argsort(hashes[having, 0], kind="stable")]
    same = hashes[order[1:], 0] == hashes[order[:-1], 0]
    tied = np.zeros(order.size, dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    rows = order[tied]
    rows = rows[np.lexsort((rows, hashes[rows, 1], hashes[rows, 0]))]
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (hashes[rows][1:] != hashes[rows][:-1]).any(axis=1)
    first = rows[new][np.cumsum(new) - 1] if rows.size else rows
    return np.stack([first[~new], rows[~new]], axis=1)


def _candidates(
    scratch: Path, eligible: Mask, bands: int, max_bucket: int
) -> tuple[I64, list[I64]]:
    """Return the pairs of rows [m, 2] that share a band key, and the crowds.

    Keys are joined a range at a time. Of a crowded bucket the pairs are those with its hubs.
    """
    left, right = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(eligible)
    if not rows.size:
        return np.empty((0, 2), dtype=np.int64), []
    waiting: list[tuple[I64, I64]] = []
    size = 0
    crowds = [(np.empty(0, dtype=np.uint64), rows[:0])]
    keys = np.memmap(scratch / "keys", dtype=np.uint64, mode="r").reshape(-1, bands)
    for which in ranges(rows.size * bands, _MAX_ROWS):
        groups = buckets(*_range(keys, rows, which))
        crowded = groups.sizes > max_bucket
        large = groups.only(crowded)
        crowds.append((np.repeat(large.keys, large.sizes), large.members))
        for block in itertools.chain(groups.only(~crowded).pair_blocks(), _hubs(large)):
            waiting.append(block)
            size += block[0].size
            # As many new ones as old ones: so all are sorted some times, not once per block.
            if size > max(_PAIRS_WAITING, left.size):
                left, right = _merged((left, right), *waiting)
                waiting, size = [], 0
    left, right = _merged((left, right), *waiting)
    bucket, member = (np.concatenate(parts) for parts in zip(*crowds, strict=True))
    return np.stack([left, right], axis=1), group_crowds(bucket, member)


def _hubs(large: Buckets) -> Iterator[tuple[I64, I64]]:
    for begin, end in itertools.pairwise(large.bounds.tolist()):
        yield hub_pairs(large.members[begin:end])


def _merged(*blocks: tuple[I64, I64]) -> tuple[I64, I64]:
    left, right = (np.concatenate(side) for side in zip(*blocks, strict=True))
    return unique_pairs(left, right)


def _range(keys: U64, rows: I64, which: Range) -> tuple[U64, I64]:
    low, high = which
    if (low, high) == (0, None):
        return np.ascontiguousarray(keys[rows]).reshape(-1), np.repeat(rows, keys.shape[1])
    found_keys, found_rows = [], []
    for begin in range(0, rows.size, 1 << 16):
        mine = rows[begin : begin + (1 << 16)]
        block = keys[mine]
        inside = block >= np.uint64(low)
        if high is not None:
            inside &= block < np.uint64(high)
        found_keys.append(block[inside])
        found_rows.append(np.broadcast_to(mine[:, None], block.shape)[inside])
    return np.concatenate(found_keys), np.concatenate(found_rows)


def _shingle(
    inputs: Sequence[Path],
    text: str,
    scheme: MinHashScheme,
    scratch: Path,
    wanted: I64,
    threads: int,
) -> I64:
    """Write the shingle sets of the wanted rows, and return their offsets [n + 1]."""
    whole = replace(scheme.shingling, max_document_bytes=0)  # who goes is decided by all of it

    def one(row: int, texts: Any, begin: int, end: int) -> tuple[U64, I64]:
        return shingle_sets(texts.take(pa.array(wanted[begin:end] - row)), whole)

    def work() -> Iterator[Callable[[], tuple[U64, I64]]]:
        for row, texts in read_texts(inputs, text):
            begin, end = np.searchsorted(wanted, [row, row + len(texts)])
            if begin < end:
                yield functools.partial(one, row, texts, int(begin), int(end))

    sizes = [np.zeros(1, dtype=np.int64)]
    with (scratch / "shingles").open("wb") as file:
        for values, offsets in _in_order(work(), threads):
            file.write(values.data)
            sizes.append(np.diff(offsets))
    return np.cumsum(np.concatenate(sizes))


def _write_edges(path: Path, edges: Edges) -> None:
    pairs = np.concatenate([edges.exact, edges.near])
    kinds = pa.array(["exact", "near"]).take(
        pa.array((np.arange(len(pairs)) >= len(edges.exact)).astype(np.int8))
    )
    table = pa.table(
        {
            "row": pairs[:, 1],
            "twin_row": pairs[:, 0],
            "kind": kinds,
            "jaccard": np.concatenate([np.ones(len(edges.exact)), edges.jaccard]),
        }
    )
    pq.write_table(table, path, compression="zstd")

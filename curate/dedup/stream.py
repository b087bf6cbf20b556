"""Parquet in, Parquet out: deduplicate files in one process, without a store or a recipe.

The input is read three times and never held: for exact hashes and band keys, for the shingle sets
of the candidates, and to write the survivors. What is kept of a document in between is 40 bytes;
band keys and shingle sets go to a scratch folder. The pass `deduplicate` does the same with
evidence, restarts and clusters of machines; this is for a folder of files and a quick answer.
"""

import functools
import itertools
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.errors import InputError, did_you_mean
from curate.corpus.identity import ids_to_numpy
from curate.dedup.candidates import buckets, hub_pairs, unique_pairs
from curate.dedup.exact import normalised_hashes
from curate.dedup.minhash import MinHashScheme, sketch
from curate.dedup.runs import Range, ranges
from curate.dedup.survivors import Edges, survivors
from curate.dedup.verify import similarity
from curate.kernels.shingles import shingle_sets

__all__ = ["Summary", "deduplicate_files"]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
T = TypeVar("T")

_BATCH_ROWS = 2048
_MAX_ROWS = 4_000_000  # band keys joined at a time
_PAIRS_AT_ONCE = 1 << 18
_GROUP_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was found.

    Attributes:
        documents, kept: rows read and written.
        exact, near: rows removed, by reason.
        candidates, verified: near pairs that shared a band, and those above the threshold.
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
        max_bucket: the largest LSH bucket that gives all its pairs.
        threads: that hash text.
        verify: False trusts the signatures. Only to show what that costs.

    Raises:
        InputError: no such file or column, or the folder holds something.
    """
    scheme = scheme or MinHashScheme()
    _check(inputs, out, text)
    with tempfile.TemporaryDirectory(prefix="preceptor-") as folder:
        scratch = Path(folder)
        hashes, sizes, shingled = _sketch(inputs, text, scheme, scratch, threads)
        exact = _exact_pairs(hashes)
        eligible = shingled
        eligible[exact[:, 1]] = False  # the class goes on by its first member
        left, right = _candidates(scratch, eligible, scheme.bands, max_bucket)
        near, score = _verified(inputs, text, scheme, scratch, left, right, threads, verify)
    good = score >= threshold
    near, score = near[good], score[good]
    rank = np.empty(sizes.size, dtype=np.int64)
    rank[np.lexsort((np.arange(sizes.size), -sizes))] = np.arange(sizes.size)
    edges = Edges(exact=exact, near=near, jaccard=score)
    is_exact, is_near, _ = survivors(rank, np.ones(sizes.size, dtype=bool), edges)
    _write(inputs, out, ~(is_exact | is_near))
    _write_edges(out / "duplicates.parquet", edges)
    summary = Summary(
        documents=sizes.size,
        kept=int(sizes.size - is_exact.sum() - is_near.sum()),
        exact=int(is_exact.sum()),
        near=int(is_near.sum()),
        candidates=left.size,
        verified=len(near),
        num_bytes=int(sizes.sum()),
        scheme=scheme.to_dict(),
        threshold=threshold,
    )
    (out / "summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def _check(inputs: Sequence[Path], out: Path, text: str) -> None:
    if not inputs:
        raise InputError("no input files; name at least one Parquet file")
    if len({path.name for path in inputs}) < len(inputs):
        raise InputError(
            "two input files have the same name; the results would overwrite each other"
        )
    for path in inputs:
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"cannot read {path} as Parquet: {error}") from None
        if text not in names:
            raise InputError(
                f"{path} has no column {text!r}; columns are: {', '.join(names)}."
                f"{did_you_mean(text, names)}"
            )
        if path.name == "duplicates.parquet":
            raise InputError(f"{path}: the name duplicates.parquet is taken by the result")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)


def _texts(inputs: Sequence[Path], text: str) -> Iterator[tuple[int, Any]]:
    """Yield (first row, texts) over all files."""
    row = 0
    for path in inputs:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[text]):
            yield row, batch.column(0).cast(pa.large_string())
            row += batch.num_rows


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
) -> tuple[U64, I64, npt.NDArray[np.bool_]]:
    """Return exact hashes [n, 2], sizes in bytes and who has shingles; band keys go to a file."""

    def one(texts: Any) -> tuple[U64, I64, npt.NDArray[np.bool_], U64]:
        found = sketch(texts, scheme)
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        hashes = ids_to_numpy(normalised_hashes(texts))
        return hashes, sizes.astype(np.int64), found.num_shingles > 0, found.keys

    hashes, sizes, shingled = [], [], []
    work = (functools.partial(one, texts) for _, texts in _texts(inputs, text))
    with (scratch / "keys").open("wb") as file:
        for h, s, e, keys in _in_order(work, threads):
            hashes.append(h)
            sizes.append(s)
            shingled.append(e)
            file.write(keys.data)
    if not sizes:
        return np.empty((0, 2), np.uint64), np.empty(0, np.int64), np.empty(0, dtype=bool)
    return np.concatenate(hashes), np.concatenate(sizes), np.concatenate(shingled)


def _exact_pairs(hashes: U64) -> I64:
    """Return [first row of the class, other row] for every class of equal hashes."""
    order = np.argsort(hashes[:, 0], kind="stable")
    same = hashes[order][1:, 0] == hashes[order][:-1, 0]
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    rows = order[tied]
    rows = rows[np.lexsort((rows, hashes[rows, 1], hashes[rows, 0]))]
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (hashes[rows][1:] != hashes[rows][:-1]).any(axis=1)
    first = rows[new][np.cumsum(new) - 1] if rows.size else rows
    return np.stack([first[~new], rows[~new]], axis=1)


def _candidates(
    scratch: Path, eligible: npt.NDArray[np.bool_], bands: int, max_bucket: int
) -> tuple[I64, I64]:
    """Return the pairs of rows that share a band key, some ranges of keys at a time."""
    left, right = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(eligible)
    if not rows.size:
        return left, right
    keys = np.memmap(scratch / "keys", dtype=np.uint64, mode="r").reshape(-1, bands)
    for which in ranges(rows.size * bands, _MAX_ROWS):
        groups = buckets(*_range(keys, rows, which))
        crowded = groups.sizes > max_bucket
        large = groups.only(crowded)
        hubs = (
            hub_pairs(large.members[begin:end])
            for begin, end in zip(large.bounds[:-1], large.bounds[1:], strict=True)
        )
        for block in itertools.chain(groups.only(~crowded).pair_blocks(), hubs):
            left, right = unique_pairs(
                np.concatenate([left, block[0]]), np.concatenate([right, block[1]])
            )
    return left, right


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


def _verified(
    inputs: Sequence[Path],
    text: str,
    scheme: MinHashScheme,
    scratch: Path,
    left: I64,
    right: I64,
    threads: int,
    verify: bool,
) -> tuple[I64, F64]:
    """Return the candidate pairs [m, 2] and their exact Jaccard."""
    pairs = np.stack([left, right], axis=1)
    if not verify or not left.size:
        return pairs, np.ones(left.size)
    wanted, local = np.unique(pairs, return_inverse=True)
    offsets = _shingle(inputs, text, scheme, scratch, wanted, threads)
    values = np.asarray(np.memmap(scratch / "shingles", dtype=np.uint64, mode="r"))
    local = local.reshape(-1, 2)
    score = [
        similarity(local[begin : begin + _PAIRS_AT_ONCE], values, offsets)
        for begin in range(0, len(local), _PAIRS_AT_ONCE)
    ]
    return pairs, np.concatenate(score)


def _shingle(
    inputs: Sequence[Path],
    text: str,
    scheme: MinHashScheme,
    scratch: Path,
    wanted: I64,
    threads: int,
) -> I64:
    """Write the shingle sets of the wanted rows, and return their offsets [n + 1]."""

    def one(row: int, texts: Any, begin: int, end: int) -> tuple[U64, I64]:
        return shingle_sets(texts.take(pa.array(wanted[begin:end] - row)), scheme.shingling)

    def work() -> Iterator[Callable[[], tuple[U64, I64]]]:
        for row, texts in _texts(inputs, text):
            begin, end = np.searchsorted(wanted, [row, row + len(texts)])
            if begin < end:
                yield functools.partial(one, row, texts, int(begin), int(end))

    sizes = [np.zeros(1, dtype=np.int64)]
    with (scratch / "shingles").open("wb") as file:
        for values, offsets in _in_order(work(), threads):
            file.write(values.data)
            sizes.append(np.diff(offsets))
    return np.cumsum(np.concatenate(sizes))


def _write(inputs: Sequence[Path], out: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Write the kept rows of every file under its own name."""
    row = 0
    for path in inputs:
        file = pq.ParquetFile(path)
        with pq.ParquetWriter(
            out / path.name, file.schema_arrow, compression="zstd", compression_level=1
        ) as writer:
            waiting: list[Any] = []
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                mask = kept[row : row + batch.num_rows]
                row += batch.num_rows
                waiting.append(batch if mask.all() else batch.filter(pa.array(mask)))
                if sum(part.nbytes for part in waiting) > _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))


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

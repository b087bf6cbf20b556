"""Sorted runs: how rows larger than memory are joined, one range of their keys at a time.

A run is a record batch whose column `key` (uint64) ascends; a file holds one or several. Whoever
joins a range reads only that slice of every run: memory-mapped where the store is local, so that a
file costs a binary search. Ranges cut the space of keys evenly, because keys are hashes. They
decide how much is in memory at a time, and nothing about the result.

>>> ranges(3_000_000, 2_000_000)
[(0, 9223372036854775808), (9223372036854775808, None)]
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from curate.corpus.errors import IntegrityError
from curate.corpus.shard import Shard
from curate.corpus.storage import Storage

__all__ = ["Range", "lookup", "ranges", "read_rows", "slices", "sorted_run"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Range = tuple[int, int | None]

_KEYS = 1 << 64


def ranges(num_rows: int, max_rows: int) -> list[Range]:
    """Cut the keys into ranges [low, high) of about `max_rows` rows; None is the end of all."""
    count = max(1, -(-num_rows // max_rows))
    bounds = [i * _KEYS // count for i in range(count)]
    return list(zip(bounds, [*bounds[1:], None], strict=True))


def sorted_run(columns: dict[str, Any]) -> pa.Table:
    """Return a table of numpy columns sorted by `key` (then by the others, in their order)."""
    names = list(columns)
    assert names[0] == "key", "the first column of a run is its key"
    order = np.argsort(columns["key"])  # rows of one key are put in order below
    keys = columns["key"][order]
    same = keys[1:] == keys[:-1]
    if len(names) > 1 and same.any():
        tied = np.zeros(keys.size, dtype=bool)
        tied[1:] |= same
        tied[:-1] |= same
        rows = np.flatnonzero(tied)
        inner = np.lexsort([columns[name][order[rows]] for name in reversed(names)])
        order[rows] = order[rows][inner]
    return pa.table({name: pa.array(columns[name][order]) for name in names})


def _batches(storage: Storage, shard: Shard) -> Iterator[Any]:
    """Yield the record batches of an Arrow file."""
    if storage.is_local:
        try:
            with pa.memory_map(storage.full(shard.path)) as source:
                reader = ipc.open_file(source)
                for i in range(reader.num_record_batches):
                    yield reader.get_batch(i)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise IntegrityError(f"{shard.path} cannot be read: {error}") from error
        return
    with storage.open(shard.path) as stream:
        reader = ipc.open_file(stream)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)


def slices(
    storage: Storage, shards: Sequence[Shard], which: Range, names: Sequence[str]
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield (number of the shard, copies of the columns) of every run's rows in a range of keys."""
    low, high = which
    for number, shard in enumerate(shards):
        for batch in _batches(storage, shard):
            keys = batch.column("key").to_numpy()
            begin = int(np.searchsorted(keys, np.uint64(low)))
            end = keys.size if high is None else int(np.searchsorted(keys, np.uint64(high)))
            if begin < end:
                yield number, [np.array(batch.column(name).to_numpy()[begin:end]) for name in names]


def read_rows(storage: Storage, shard: Shard, rows: I64, name: str) -> Any:
    """Return one column of some rows (ascending) of an Arrow file, as one Arrow array."""
    found, first = [], 0
    for batch in _batches(storage, shard):
        begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
        if begin < end:
            found.append(batch.column(name).take(pa.array(rows[begin:end] - first)))
        first += batch.num_rows
    assert found, "rows lie inside the file"
    return pa.concat_arrays(found)


def lookup(
    storage: Storage, shard: Shard, keys: npt.NDArray[Any], names: Sequence[str]
) -> list[Any]:
    """Return columns of the rows with these keys (ascending, all of them there), in one run."""
    found: list[list[Any]] = [[] for _ in names]
    wanted = keys.astype(np.uint64, copy=False)
    for batch in _batches(storage, shard):
        have = batch.column("key").to_numpy()
        begin, end = np.searchsorted(wanted, [have[0], have[-1]], side="left")
        end += end < wanted.size and wanted[end] == have[-1]
        if begin < end:
            at = np.searchsorted(have, wanted[begin:end])
            assert np.array_equal(have[at], wanted[begin:end]), "every key is in the run"
            for column, name in zip(found, names, strict=True):
                column.append(batch.column(name).take(pa.array(at)))
    assert sum(len(chunk) for chunk in found[0]) == wanted.size, "every key is in the run"
    return [pa.concat_arrays(column) for column in found]

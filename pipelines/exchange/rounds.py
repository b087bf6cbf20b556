"""The texts that a mixture drew, in the order of its rounds, sorted outside memory.

A round's order goes through all shards, and their texts do not fit into memory. So the shards are
read once for each round, what is drawn goes to disk in sorted runs, and the round is put together
from these block by block. In memory are one run, one block and some numbers of each document.
"""

import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import Choice, copies_in, round_order

__all__ = ["write_rounds"]

_RUN_BYTES = 256 << 20
_BLOCK_BYTES = 32 << 20
_ROW_BYTES = 256  # what a document has beside `text` and `meta`, about
_FILE_BYTES = 1 << 30  # of text
_OPEN_RUNS = 256  # a mapped file is an open one
Tables = Callable[[int, np.ndarray], Iterator[Any]]


def write_rounds(
    corpus: Corpus, folder: Path, choice: Choice, tables: Tables, schema: Any
) -> tuple[list[str], int]:
    """Write the training split of a drawn choice; phase after phase, round after round of copies.

    Args:
        corpus: the version.
        folder: of the export; `data` is in it.
        choice: what is drawn.
        tables: number of a shard of documents, bool [n] -> those documents of it, in order, as
            tables of `schema`.
        schema: of the files, with columns `text` and `meta`.

    Returns:
        The files, in order, relative to the folder; how many documents should be in them.
    """
    ids, found = _training(corpus)
    bounds = np.cumsum([0, *map(len, found)])
    mine = np.concatenate([np.zeros(0, dtype=bool), *found])
    seed, expected = int(corpus.recipe["seed"]), 0
    files = _Files(folder, schema)
    for phase in choice.phases:
        copies = np.where(mine, copies_in(choice, phase)(ids), 0)
        expected += int(copies.sum())
        for number in range(int(copies.max(initial=0))):
            members = np.flatnonzero(copies > number)
            order = round_order(ids.take(pa.array(members)), seed, phase, number)
            places = np.full(len(copies), -1, dtype=np.int64)
            places[members[order]] = np.arange(len(members))
            drawn = _drawn(tables, np.split(places, bounds[1:-1]))
            for block in _in_order(folder / ".runs", drawn, len(members)):
                files.write(block)
    return files.close(), expected


def _training(corpus: Corpus) -> tuple[Any, list[np.ndarray]]:
    """Return the ids of all documents, and for each shard which are kept for training."""
    ids, mine = [], []
    for shard in corpus.shards("verdicts"):
        judged = read_shard(corpus.store.storage, shard, ["doc_id", "kept", "split"])
        ids += judged["doc_id"].chunks
        mine.append(judged["kept"].to_numpy() & (judged["split"].to_numpy() == "train"))
    return pa.chunked_array(ids, pa.binary(16)).combine_chunks(), mine


def _drawn(tables: Tables, places: Sequence[np.ndarray]) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the drawn documents of every shard that has some, and their places in the round."""
    for ordinal, mine in enumerate(places):
        here = mine >= 0
        if here.any():
            left = mine[here]
            for table in tables(ordinal, here):
                yield table, left[: table.num_rows]
                left = left[table.num_rows :]


def _in_order(scratch: Path, drawn: Iterator[tuple[Any, np.ndarray]], num: int) -> Iterator[Any]:
    """Yield `num` documents in the order of their places, as tables of some megabytes."""
    lengths = np.zeros(num, dtype=np.int64)
    runs: list[np.ndarray] = []  # places, ascending
    held: list[tuple[Any, np.ndarray]] = []
    size = 0
    scratch.mkdir()

    @functools.lru_cache(_OPEN_RUNS)
    def opened(number: int) -> Any:
        return ipc.open_file(pa.memory_map(str(scratch / f"{number}.arrow"))).read_all()

    for table, places in drawn:
        lengths[places] = _ROW_BYTES + sum(
            pc.binary_length(table[name]).fill_null(0).to_numpy() for name in ("text", "meta")
        )
        held.append((table, places))
        size += table.nbytes
        if size >= _RUN_BYTES:
            run, places = _sorted(held)
            with ipc.new_file(scratch / f"{len(runs)}.arrow", run.schema) as writer:
                writer.write_table(run)
            runs.append(places)
            held, size = [], 0
    last = _sorted(held) if held else None
    number = (np.cumsum(lengths) - lengths) // _BLOCK_BYTES
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), num]
    for first, stop in itertools.pairwise(edges):
        slices = []
        for n, places in enumerate([*runs, *([last[1]] if last else [])]):
            low, high = np.searchsorted(places, [first, stop]).tolist()
            if low < high:
                run = opened(n) if n < len(runs) else last[0]  # type: ignore[index]
                slices.append((run.slice(low, high - low), places[low:high]))
        yield _sorted(slices)[0]
    opened.cache_clear()
    shutil.rmtree(scratch)


def _sorted(parts: Sequence[tuple[Any, np.ndarray]]) -> tuple[Any, np.ndarray]:
    """Return some tables as one, ascending by place, and the places."""
    places = np.concatenate([some for _, some in parts])
    order = np.argsort(places)
    return pa.concat_tables([table for table, _ in parts]).take(pa.array(order)), places[order]


class _Files:
    """Parquet files of about `_FILE_BYTES` of text, named when it is known how many they are."""

    def __init__(self, folder: Path, schema: Any) -> None:
        self._folder, self._schema = folder, schema
        self._paths: list[Path] = []
        self._writer: Any = None
        self._bytes = 0

    def write(self, table: Any) -> None:
        """Append documents."""
        if self._writer is None:
            self._paths.append(self._folder / "data" / f"train-{len(self._paths):05d}.part")
            self._writer = pq.ParquetWriter(self._paths[-1], self._schema, compression="zstd")
        self._writer.write_table(table)
        self._bytes += int(pc.sum(pc.binary_length(table["text"]), min_count=0).as_py())
        if self._bytes >= _FILE_BYTES:
            self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0

    def close(self) -> list[str]:
        """Return the files' names, relative to the folder."""
        self._end()
        names = [f"{one.stem}-of-{len(self._paths):05d}.parquet" for one in self._paths]
        for path, name in zip(self._paths, names, strict=True):
            path.rename(path.with_name(name))
        return [f"data/{name}" for name in names]

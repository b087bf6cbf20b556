"""Jobs on one shard of documents: what of a document is compared, as sorted runs.

`sketch_shard` writes every document's exact hash and band keys; `sketch_crowded` bands those of a
few documents again, with a finer scheme; `shingle_shard` writes the shingle sets of the documents
that have candidates, for verification.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.identity import ids_to_numpy
from curate.corpus.shard import Shard, ShardWriter, is_media, iter_batches
from curate.dedup.candidates import distinct
from curate.dedup.comparing import Compared, Scheme, column_of, sets_of, sketch_of
from curate.dedup.exact import normalised_hashes
from curate.dedup.runs import slices, sorted_run
from curate.media.perceptual import PerceptualScheme
from pipelines.passes.base import Parts, Workspace

__all__ = ["shingle_shard", "sketch_crowded", "sketch_shard"]


def run_schema(**columns: Any) -> Any:
    """Return a schema of columns without nulls."""
    return pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in columns.items()])


SKETCHES = run_schema(doc_id=pa.binary(16))
LOOKS = run_schema(doc_id=pa.binary(16), look=pa.uint64())  # of images: their perceptual hashes
EXACT_RUNS = run_schema(
    key=pa.uint64(), low=pa.uint64(), id_high=pa.uint64(), id_low=pa.uint64(), row=pa.uint32()
)
BAND_RUNS = run_schema(key=pa.uint64(), row=pa.uint32())
SHINGLES = run_schema(key=pa.uint64(), size=pa.int32(), values=pa.large_list(pa.uint64()))

_RUN_ROWS = 1 << 19  # sorted in memory at a time
_BATCH_ROWS = 4096
_BATCH_MEDIA = 64  # files of a megabyte and more
_SLICE_BYTES = 4 << 20


class _Runs:
    """Collects rows and writes a sorted run whenever there are many."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer, self._rows = writer, 0
        self._waiting: list[list[np.ndarray]] = []

    def add(self, *columns: np.ndarray) -> None:
        self._waiting.append(list(columns))
        self._rows += columns[0].size
        if self._rows >= _RUN_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            joined = [np.concatenate(column) for column in zip(*self._waiting, strict=True)]
            self._writer.write(
                sorted_run(dict(zip(self._writer.schema.names, joined, strict=True)))
            )
        self._waiting, self._rows = [], 0


def big_endian(ids: Any) -> np.ndarray:
    """Return binary(16) values as uint64 [n, 2] whose numbers are ordered as the bytes are."""
    return ids_to_numpy(ids).view(">u8").astype(np.uint64)


def sketch_shard(workspace: Workspace, shard: Shard, exact: bool, scheme: Scheme | None) -> Parts:
    """Job: exact hashes and band keys of one shard's documents, each as sorted runs."""
    row = num_capped = num_shingled = 0
    schema = LOOKS if isinstance(scheme, PerceptualScheme) else SKETCHES
    with (
        workspace.writer("sketches", schema, kind="arrow") as sketches,
        workspace.writer("exact_runs", EXACT_RUNS, kind="arrow") as exact_file,
        workspace.writer("band_runs", BAND_RUNS, kind="arrow") as band_file,
    ):
        exact_runs, band_runs = _Runs(exact_file), _Runs(band_file)
        hashed = "media_hash" if is_media(workspace.storage, shard) else "text"
        column = None if scheme is None else column_of(scheme)
        wanted = {"doc_id", *([hashed] if exact else []), *([column] if column else [])}
        most = _BATCH_MEDIA if column == "media" else _BATCH_ROWS
        for batch in iter_batches(workspace.storage, shard, sorted(wanted), max_rows=most):
            known = {"doc_id": batch.column("doc_id")}
            rows = np.arange(row, row + batch.num_rows, dtype=np.uint32)
            row += batch.num_rows
            if exact:
                own = batch.column(hashed)
                hashes = big_endian(normalised_hashes(own) if hashed == "text" else own)
                ids = big_endian(batch.column("doc_id"))
                exact_runs.add(hashes[:, 0], hashes[:, 1], ids[:, 0], ids[:, 1], rows)
            if scheme is not None:
                found = sketch_of(batch.column(column_of(scheme)), scheme)
                shingled = found.num_shingles > 0
                num_shingled += int(shingled.sum())
                num_capped += int(found.is_capped.sum())
                keys = found.keys[shingled]
                band_runs.add(keys.reshape(-1), np.repeat(rows[shingled], scheme.bands))
                if found.hashes is not None:
                    known["look"] = pa.array(found.hashes)
            sketches.write(pa.table(known, schema=schema))
        exact_runs.flush()
        band_runs.flush()
        tables = {
            "sketches": [sketches.commit()],
            "exact_runs": [exact_file.commit()],
            "band_runs": [band_file.commit()],
        }
    counts = {"shingled_documents": num_shingled, "capped_documents": num_capped}
    return Parts(tables, counts)


def _chosen(workspace: Workspace, lists: Sequence[Shard], base: int, shard: Shard) -> np.ndarray:
    """Return the rows of a shard that any of these lists of positions names, ascending."""
    here = (base, base + shard.rows)
    found = [keys for _, (keys,) in slices(workspace.storage, lists, here, ["key"])]
    if not found:
        return np.empty(0, dtype=np.int64)
    return distinct(np.concatenate(found)).astype(np.int64) - base


def _values(
    workspace: Workspace, shard: Shard, rows: np.ndarray, column: str
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield (rows, their texts or media) of some rows of a shard."""
    first, most = 0, _BATCH_MEDIA if column == "media" else _BATCH_ROWS
    for batch in iter_batches(workspace.storage, shard, [column], max_rows=most):
        begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
        if begin < end:
            here = rows[begin:end]
            yield here, batch.column(column).take(pa.array(here - first))
        first += batch.num_rows


def sketch_crowded(
    workspace: Workspace, shard: Shard, base: int, crowded: Sequence[Shard], scheme: Scheme
) -> Parts:
    """Job: band the documents of crowded buckets again, with a finer scheme."""
    wanted = _chosen(workspace, crowded, base, shard)
    with workspace.writer("band_runs", BAND_RUNS, kind="arrow") as file:
        runs = _Runs(file)
        for rows, values in _values(workspace, shard, wanted, column_of(scheme)):
            keys = sketch_of(values, scheme).keys
            runs.add(keys.reshape(-1), np.repeat(rows.astype(np.uint32), scheme.bands))
        runs.flush()
        written = file.commit()
    return Parts({"band_runs": [written]}, {"hot_documents": len(wanted)})


def shingle_shard(
    workspace: Workspace, shard: Shard, base: int, lists: Sequence[Shard], compared: Compared
) -> Parts:
    """Job: the shingle sets of the documents in a candidate pair; of media their like."""
    wanted = _chosen(workspace, lists, base, shard)
    with workspace.writer("shingles", SHINGLES, kind="arrow") as writer:
        for rows, column in _values(workspace, shard, wanted, column_of(compared)):
            for begin, values, offsets in _pieces(column, compared):
                sizes = np.diff(offsets)
                columns = {
                    "key": pa.array(rows[begin : begin + sizes.size].astype(np.uint64)),
                    "size": pa.array(sizes.astype(np.int32)),
                    "values": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)),
                }
                writer.write(pa.table(columns, schema=SHINGLES))
        written = writer.commit()
    return Parts({"shingles": [written]})


def _pieces(texts: Any, compared: Compared) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (first text, shingle values, offsets), a bounded number of bytes of text at a time."""
    import pyarrow.compute as pc

    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    total = np.cumsum(sizes)
    begin = 0
    while begin < len(texts):
        done = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _SLICE_BYTES, side="right")))
        values, offsets = sets_of(texts.slice(begin, end - begin), compared)
        yield begin, values, offsets
        begin = end

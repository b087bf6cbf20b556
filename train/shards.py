"""Shards and plans, memory-mapped and checked against each other, known by number from then on.

Nothing here copies a token or imports torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from curate.corpus.errors import InputError, one_of

__all__ = ["Plan", "Shards", "list_views", "map_table"]

Ints = np.ndarray[Any, np.dtype[Any]]
SPAN_FIELDS = ("shard", "document", "start", "length", "source")


def map_table(path: Path, columns: Sequence[str], why: str = "") -> pa.Table:
    """Memory-map an Arrow IPC file that has `columns`, or raise `InputError`, ending with `why`."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable Arrow IPC file: {error}") from error
    for column in columns:
        if column not in table.column_names:
            known = one_of("column", column, table.column_names)
            raise InputError(f"{known} (in {path}){why}")
    return table


def _numbers(array: Any) -> Ints:
    """Return a numeric array's values, a view; `to_numpy` would import pandas (0.7 s)."""
    if array.null_count:
        raise InputError(f"{array.null_count} of {len(array)} numbers of a shard or plan are null")
    dtype = array.type.to_pandas_dtype()
    values = np.frombuffer(array.buffers()[1] or b"", dtype=dtype)
    return values[array.offset : array.offset + len(array)]


def _offsets(column: Any) -> tuple[Ints, Any]:
    """Return int64 offsets [n + 1] from 0 and the values of a (large) list array's slice."""
    offsets = _numbers(column.offsets).astype(np.int64)
    return offsets - offsets[0], column.values.slice(offsets[0], offsets[-1] - offsets[0])


def list_views(column: Any) -> tuple[Ints, Ints]:
    """Return int64 offsets [n + 1] and the values of an array of lists, fixed or not: views."""
    if column.null_count:
        raise InputError(f"{column.null_count} of {len(column)} lists of a shard are null")
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        return np.arange(len(column) + 1) * size, _numbers(column.flatten())
    offsets, values = _offsets(column)
    return offsets, _numbers(values)


class Shards:
    """All shards of a run, mapped, never copied; a document is known by its ordinal.

    A shard of text has `tokens`; one of images, sounds or pairs has `units` (patches, frames, pairs
    of each document) and columns of its own.

    Attributes:
        first: [num_shards + 1] int64, the ordinal of each shard's first document.
        lengths: [num_docs] int64 tokens, bos and eos included, or units.
        num_bytes: [num_docs] int64 bytes of text, or of media as collected; -1: not known.
        withdrawn: [num_docs] bool, whether nothing may be learnt from it: a document without text,
            as a takedown leaves it.
        values: the tokens of each piece (a batch of a file), uint16 or uint32; empty without.
        pieces, starts: [num_docs] the piece that holds a document and its first token there.
        begins: [num_pieces + 1] int64, the ordinal of each piece's first document.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.values: list[Ints] = []
        self.batches: list[pa.RecordBatch] = []
        pieces, starts, lengths, num_bytes, per_shard, sizes = [], [], [], [], [0], [0]
        for path in paths:
            table = map_table(path, [])
            per_shard.append(table.num_rows)
            media = "tokens" not in table.column_names and "units" in table.column_names
            for batch in (
                table if media else map_table(path, ["tokens", "num_bytes"])
            ).to_batches():
                rows = batch.num_rows
                offsets, values = (
                    (np.zeros(1, np.int64), np.zeros(0, np.uint16))
                    if media
                    else _tokens(batch["tokens"], path)
                )
                pieces.append(np.full(rows, len(self.batches), dtype=np.int32))
                starts.append(np.zeros(rows, np.int64) if media else offsets[:-1])
                lengths.append(_numbers(batch["units"]) if media else np.diff(offsets))
                num_bytes.append(
                    _numbers(batch["num_bytes"])
                    if "num_bytes" in batch.schema.names
                    else np.full(rows, -1)
                )
                self.values.append(values)
                self.batches.append(batch)
                sizes.append(rows)
        self.first = np.cumsum(per_shard)
        self.pieces, self.starts = _joined(pieces, np.int32), _joined(starts)
        self.lengths, self.num_bytes = _joined(lengths), _joined(num_bytes)
        self.withdrawn = self.num_bytes == 0
        self.begins = np.cumsum(sizes)
        self.dtype = np.result_type(np.uint16, *{values.dtype for values in self.values})

    def tokens(self, ordinal: int) -> Ints:
        """Return one document's tokens, a view into the mapped file."""
        start = self.starts[ordinal]
        return self.values[self.pieces[ordinal]][start : start + self.lengths[ordinal]]

    def column(self, name: str, ordinals: Ints | Sequence[int]) -> Any:
        """Return a column of some documents, in the order asked for.

        Returns:
            A numpy array for numbers [n] and lists of a fixed size [n, size]; else an Arrow array.
        """
        ordinals = np.asarray(ordinals, dtype=np.int64)
        order = np.argsort(self.pieces[ordinals], kind="stable")
        taken, parts = ordinals[order], []
        for piece in np.unique(self.pieces[taken]).tolist():
            batch = self.batches[piece]
            if name not in batch.schema.names:
                raise InputError(one_of("column", name, batch.schema.names))
            mine = taken[self.pieces[taken] == piece] - self.begins[piece]
            parts.append(batch[name].take(pa.array(mine)))
        if not parts:
            return np.zeros(0)
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        array = pa.concat_arrays(parts).take(pa.array(places))
        if pa.types.is_fixed_size_list(array.type):
            return _numbers(array.flatten()).reshape(len(array), array.type.list_size)
        numbers = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
        return _numbers(array) if numbers else array


def _tokens(column: Any, path: Path) -> tuple[Ints, Ints]:
    """Return a batch's offsets [n + 1] and its tokens, a view."""
    kind = column.type
    if not (pa.types.is_large_list(kind) or pa.types.is_list(kind)) or (
        kind.value_type not in (pa.uint16(), pa.uint32())
    ):
        raise InputError(f"{path}: tokens are {kind}; the trainer reads large_list<uint16|uint32>")
    offsets, values = _offsets(column)
    return offsets, _numbers(values)


def _joined(parts: Sequence[Ints], dtype: Any = np.int64) -> Ints:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


class Plan:
    """One split's pack plan: row i is the concatenation of spans first[i] to first[i + 1].

    Attributes:
        first: [rows + 1] int64 into the spans.
        ordinals, starts, lengths, sources: [num_spans] int64; `ordinals` as in `Shards`.
    """

    def __init__(self, paths: Sequence[Path], shards: Shards, *, num_sources: int) -> None:
        counts: list[Ints] = []
        columns: dict[str, list[Ints]] = {name: [] for name in SPAN_FIELDS}
        for path in paths:
            for chunk in map_table(path, ["spans"])["spans"].chunks:
                offsets, spans = _offsets(chunk)
                names = [field.name for field in spans.type]
                for name in SPAN_FIELDS:
                    if name not in names:
                        raise InputError(one_of("span field", name, names) + f" (in {path})")
                counts.append(np.diff(offsets))
                for name, values in zip(names, spans.flatten(), strict=True):
                    if name in columns:
                        columns[name].append(_numbers(values))
        flat = {name: _joined(values) for name, values in columns.items()}
        self.first = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
        self.starts, self.lengths, self.sources = flat["start"], flat["length"], flat["source"]
        self.ordinals = self._ordinals(flat, shards, num_sources, paths)
        self.num_rows = len(self.first) - 1
        if self.num_rows and int(np.diff(self.first).min()) < 1:
            row = int(np.diff(self.first).argmin())
            raise InputError(f"row {row} of the plan {paths[0]} is empty; pack this corpus again")

    def _ordinals(
        self, flat: dict[str, Ints], shards: Shards, num_sources: int, paths: Sequence[Path]
    ) -> Ints:
        """Check every span against the shards, once, and return document ordinals."""
        shard, document = flat["shard"], flat["document"]
        num_shards = len(shards.first) - 1
        bad = (shard < 0) | (shard >= num_shards) | (document < 0)
        ordinals = shards.first[np.where(bad, 0, shard)] + document
        bad |= ordinals >= shards.first[np.where(bad, 0, shard) + 1]
        ends = self.starts + self.lengths
        bad |= (self.starts < 0) | (self.lengths < 1)
        if len(shards.lengths):
            bad |= ends > shards.lengths[np.where(bad, 0, ordinals)]
        bad |= (self.sources < 0) | (self.sources >= num_sources)
        if bad.any():
            i = int(bad.argmax())
            found = ", ".join(f"{name} {flat[name][i]}" for name in SPAN_FIELDS)
            raise InputError(
                f"{', '.join(map(str, paths))}: span {i} ({found}) does not lie in the run's "
                f"{num_shards} shards and {num_sources} sources; pack this corpus again"
            )
        return ordinals

    def documents(self) -> Ints:
        """Return the ordinals of the distinct documents, sorted."""
        return np.unique(self.ordinals)

    def spans_of(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the spans of rows [n >= 1], in order, and where each row's end among them [n]."""
        first = self.first[rows]
        counts = self.first[rows + 1] - first
        ends = np.cumsum(counts)
        return np.repeat(first - ends + counts, counts) + np.arange(ends[-1]), ends

"""A shard: one committed, immutable file whose name is its content.

`ShardWriter` builds it under a temporary name, reads its footer back, hashes it and publishes it;
until then nobody can see it. The footer carries the number of rows and the multiset hash of the
document ids, so that conservation laws are checked from the files and not from anybody's counters.

A shard may lie over another one, its `base`: the file then holds the rows that are different, and
every reader here gives the whole. So a text revision that touches few texts writes those few.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import MultisetHash
from curate.corpus.schema import check_format, tagged
from curate.corpus.storage import Storage, sha256_of

__all__ = [
    "Patch",
    "Shard",
    "ShardWriter",
    "footer",
    "hold",
    "is_media",
    "iter_batches",
    "iter_chosen",
    "read_shard",
]

_ROWS_KEY = "preceptor.rows"
_BASE_KEY = "preceptor.base"
_ROW = "row"  # of the base, in a file that lies over another
_IDS_KEY = "preceptor.ids"
_ROW_GROUP_BYTES = 32 << 20
PARQUET, ARROW = "parquet", "arrow"


@dataclass(frozen=True, slots=True)
class Shard:
    """One committed file.

    Attributes:
        path: name relative to the store; ends in `.parquet` or `.arrow`.
        rows: number of rows.
        bytes: size of the file.
        sha256: of the file.
        ids: multiset hash of its `doc_id` column, "" where it has none.
        base: the shard under it, whose rows it replaces in part; `rows` and `ids` are of the whole,
            and `sha256` stands for it, because the file names its base.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    ids: str
    base: "Shard | None" = None

    @property
    def files(self) -> tuple["Shard", ...]:
        """This file and those under it, the top first."""
        return (self, *(self.base.files if self.base is not None else ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        data = asdict(self)
        if self.base is None:
            del data["base"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Shard":
        """Rebuild from the manifest's form."""
        base = data.get("base")
        return cls(**{**data, "base": None if base is None else cls.from_dict(base)})


class ShardWriter:
    """Write one shard: `with ShardWriter(...) as w: w.write(table); shard = w.commit()`.

    Leaving the block without `commit` discards everything.
    """

    def __init__(
        self, storage: Storage, folder: str, table: str, schema: Any, *, kind: str = PARQUET
    ) -> None:
        self._storage, self._folder, self._kind = storage, folder, kind
        self.schema = tagged(schema, table)
        self._path = storage.temporary(f".{kind}")
        self._has_ids = "doc_id" in schema.names
        self._ids = MultisetHash()
        self._writer: Any
        if kind == PARQUET:
            dictionary = [
                f.name
                for f in schema
                if f.type == pa.string() and f.name not in ("key", "url", "meta", "margins")
            ]
            self._writer = pq.ParquetWriter(
                self._path,
                self.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=dictionary,
                write_statistics=False,
            )
        else:
            self._writer = ipc.new_file(self._path, self.schema)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._path.unlink(missing_ok=True)

    def write(self, table: Any) -> None:
        """Append a table or record batch of this shard's schema."""
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if table.num_rows == 0:
            return
        table = table.select(self.schema.names).cast(self.schema)
        if self._has_ids:
            self._ids.add(table["doc_id"])
        if self._kind == PARQUET:
            groups = max(1, table.nbytes // _ROW_GROUP_BYTES)
            self._writer.write_table(table, row_group_size=-(-table.num_rows // groups))
        else:
            self._writer.write_table(table)
        self.rows += table.num_rows

    def commit(self, extra: Mapping[str, str] | None = None) -> Shard:
        """Finish, re-read the footer, publish under the content's name, return the shard."""
        ids = self._ids.hexdigest() if self._has_ids else ""
        if self._kind == PARQUET:
            self._writer.add_key_value_metadata(
                {_ROWS_KEY: str(self.rows), _IDS_KEY: ids, **(extra or {})}
            )
        self._writer.close()
        self._writer = None
        with self._path.open("rb") as stream:
            sha256 = sha256_of(stream)
        rows = _rows(self._path, self._kind)
        if rows != self.rows:
            raise IntegrityError(
                f"wrote {self.rows} rows but the footer of {self._path.name} says {rows}"
            )
        size = self._path.stat().st_size
        path = f"{self._folder}/{sha256[:32]}.{self._kind}"
        self._storage.publish(self._path, path)
        return Shard(path, self.rows, size, sha256, ids)

    @classmethod
    def over(cls, storage: Storage, folder: str, table: str, base: Shard, patch: "Patch") -> Shard:
        """Publish a shard that is `base`, a Parquet shard, but for some rows.

        The file tells the documents' ids too: whoever looks for a document finds its text here.
        """
        assert "doc_id" not in patch.columns, "a document keeps its identity"
        rows = pa.array(patch.rows)
        ids = read_shard(storage, base, ["doc_id"])["doc_id"].take(rows)
        data = pa.table({_ROW: rows, "doc_id": ids, **patch.columns})
        with cls(storage, folder, table, data.schema) as writer:
            writer.write(data)
            top = writer.commit({_BASE_KEY: base.sha256})
        return Shard(top.path, base.rows, top.bytes, top.sha256, base.ids, base)


def _rows(path: Path, kind: str) -> int:
    if kind == PARQUET:
        return int(pq.read_metadata(path).num_rows)
    with pa.memory_map(str(path)) as source:
        reader = ipc.open_file(source)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def footer(storage: Storage, shard: Shard) -> dict[str, str]:
    """Return what the file itself says: `rows`, `ids` and any extra footer entries.

    Raises:
        IntegrityError: the file is missing, cut short, or of another format version.
    """
    if shard.path.endswith(ARROW):
        table = read_shard(storage, shard, columns=["doc_id"] if shard.ids else None)
        ids = MultisetHash()
        if shard.ids:
            ids.add(table["doc_id"])
        return {"rows": str(table.num_rows), "ids": ids.hexdigest() if shard.ids else ""}
    with _reading(shard.path), storage.open(shard.path) as stream:
        metadata = pq.read_metadata(stream)
        schema = metadata.schema.to_arrow_schema()
    found = {
        k.decode(errors="replace"): v.decode(errors="replace")
        for k, v in (metadata.metadata or {}).items()
        if k != b"ARROW:schema"
    }
    check_format(schema, shard.path)
    if shard.base is not None:
        _check_base(shard, found.get(_BASE_KEY))
        return footer(storage, shard.base)
    return {**found, "rows": str(metadata.num_rows), "ids": found.get(_IDS_KEY, "")}


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Tell what Arrow or the system cannot read as one line; never put a `yield` in the block."""
    try:
        yield
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        pa.ArrowSerializationError,
        OSError,
    ) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise IntegrityError(f"{path} cannot be read: {why}") from error


@contextlib.contextmanager
def _parquet(storage: Storage, path: str) -> Iterator[Any]:
    """Open a Parquet file of this format version; what the block raises passes as it is."""
    with contextlib.ExitStack() as stack:
        with _reading(path):
            parquet = pq.ParquetFile(stack.enter_context(storage.open(path)))
            schema = parquet.schema_arrow
        check_format(schema, path)
        yield parquet


def _read_on(path: str, batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def is_media(storage: Storage, shard: Shard) -> bool:
    """Say whether a Parquet shard of documents holds images or sounds beside its texts.

    Raises:
        IntegrityError: as `read_shard`.
    """
    if (held := _held.get((storage.uri, shard.path))) is not None:
        return any("media_hash" in batch.schema.names for batch in held[:1])
    (*_, bottom) = shard.files
    with _parquet(storage, bottom.path) as parquet:
        return "media_hash" in parquet.schema_arrow.names


_held: dict[tuple[str, str], list[Any]] = {}


@contextlib.contextmanager
def hold(storage: Storage, shard: Shard, batches: list[Any]) -> Iterator[None]:
    """Read a shard of documents from memory while the block runs: `batches` are all of it."""
    place = (storage.uri, shard.path)
    _held[place] = batches
    try:
        yield
    finally:
        _held.pop(place, None)


def read_shard(storage: Storage, shard: Shard, columns: list[str] | None = None) -> Any:
    """Return a shard as an Arrow table (memory-mapped when it is a local `.arrow` file).

    Raises:
        IntegrityError: the file is missing, cut short, damaged, or not as its manifest says.
    """
    if shard.base is not None:
        table = read_shard(storage, shard.base, columns)
        patch = _patch(storage, shard, table.schema)
        return table if patch is None else pa.Table.from_batches([patch.applied(_whole(table), 0)])
    with _reading(shard.path):
        if shard.path.endswith(PARQUET):
            with storage.open(shard.path) as stream:
                table = pq.ParquetFile(stream).read(columns=columns)
        elif storage.is_local:
            table = ipc.open_file(pa.memory_map(storage.full(shard.path))).read_all()
        else:
            with storage.open(shard.path) as stream:
                table = ipc.open_file(stream).read_all()
    check_format(table.schema, shard.path)
    if table.num_rows != shard.rows:
        raise IntegrityError(
            f"{shard.path} has {table.num_rows} rows, its manifest says {shard.rows}"
        )
    return table.select(columns) if columns is not None else table


def iter_batches(
    storage: Storage, shard: Shard, columns: list[str] | None = None, max_rows: int = 4096
) -> Iterator[Any]:
    """Yield a Parquet shard's record batches in order, memory bounded by a row group.

    Raises:
        IntegrityError: as `read_shard`.
    """
    if (held := _held.get((storage.uri, shard.path))) is not None:
        for batch in held:
            chosen = batch if columns is None else batch.select(columns)
            for first in range(0, chosen.num_rows, max_rows):
                yield chosen.slice(first, max_rows)
        return
    if shard.base is None:
        with _parquet(storage, shard.path) as parquet:
            batches = parquet.iter_batches(batch_size=max_rows, columns=columns)
            yield from _read_on(shard.path, batches)
        return
    patch, row = None, 0
    for batch in iter_batches(storage, shard.base, columns, max_rows):
        if not row:
            patch = _patch(storage, shard, batch.schema)
        yield batch if patch is None else patch.applied(batch, row)
        row += batch.num_rows


def iter_chosen(
    storage: Storage, shard: Shard, columns: list[str], chosen: Callable[[Any], np.ndarray]
) -> Iterator[Any]:
    """Yield the rows of a Parquet shard that are chosen by their ids, as tables of a row group.

    Only the row groups that hold a chosen row are read.

    Args:
        storage: the store's.
        shard: with a column `doc_id`.
        columns: what to read.
        chosen: `binary(16)` ids [n] -> bool [n].

    Raises:
        IntegrityError: as `read_shard`.
    """
    (*over, bottom), row = shard.files, 0
    patches: list[Patch | None] = []
    with _parquet(storage, bottom.path) as parquet:
        for group in range(parquet.num_row_groups):
            with _reading(bottom.path):
                ids = parquet.read_row_group(group, columns=["doc_id"])["doc_id"]
            mask = chosen(ids)
            if mask.any():
                with _reading(bottom.path):
                    batch = _whole(parquet.read_row_group(group, columns=columns))
                patches = patches or [_patch(storage, top, batch.schema) for top in reversed(over)]
                for patch in patches:
                    batch = batch if patch is None else patch.applied(batch, row)
                yield pa.Table.from_batches([batch]).select(columns).filter(pa.array(mask))
            row += len(ids)


@dataclass(frozen=True, slots=True)
class Patch:
    """What is different from a shard.

    Attributes:
        rows: int64 [k], the rows that are different, ascending.
        columns: name -> array of k values, the columns that are different.
    """

    rows: np.ndarray
    columns: Mapping[str, Any]

    def applied(self, batch: Any, first: int) -> Any:
        """Return a batch that begins at row `first`, with its rows replaced."""
        low, high = np.searchsorted(self.rows, [first, first + batch.num_rows])
        if low == high:
            return batch
        order = np.arange(batch.num_rows)
        order[self.rows[low:high] - first] = batch.num_rows + np.arange(high - low)
        columns = [
            pa.concat_arrays([column, self.columns[name].slice(low, high - low)]).take(
                pa.array(order)
            )
            if name in self.columns
            else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.record_batch(columns, schema=batch.schema)


def _patch(storage: Storage, shard: Shard, schema: Any) -> Patch | None:
    """Read what lies over a shard's base; None where it concerns none of the columns read."""
    with _parquet(storage, shard.path) as parquet, _reading(shard.path):
        found = (parquet.metadata.metadata or {}).get(_BASE_KEY.encode(), b"")
        _check_base(shard, found.decode(errors="replace"))
        told = [name for name in parquet.schema_arrow.names if name not in (_ROW, "doc_id")]
        names = [name for name in told if name in schema.names]
        if not names:
            return None
        table = parquet.read(columns=[_ROW, *names])
    rows = table[_ROW].to_numpy()
    columns = {n: _flat(table[n]).cast(schema.field(n).type) for n in names}
    return Patch(rows, columns)


def _check_base(shard: Shard, found: str | None) -> None:
    assert shard.base is not None
    if found != shard.base.sha256:
        raise IntegrityError(
            f"{shard.path} lies over a shard {(found or 'none')[:12]}..., its manifest says "
            f"{shard.base.sha256[:12]}..."
        )


def _whole(table: Any) -> Any:
    """Return a table as one record batch."""
    arrays = [_flat(column) for column in table.columns]
    return pa.record_batch(arrays, schema=table.schema)


def _flat(column: Any) -> Any:
    """Return a chunked column as one array."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    return whole

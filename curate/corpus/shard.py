"""A shard: one committed, immutable file whose name is its content.

`ShardWriter` builds it under a temporary name, reads its footer back, hashes it and publishes it;
until then nobody can see it. The footer carries the number of rows and the multiset hash of the
document ids, so that conservation laws are checked from the files and not from anybody's counters.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import MultisetHash
from curate.corpus.schema import check_format, tagged
from curate.corpus.storage import Storage, sha256_of

__all__ = ["Shard", "ShardWriter", "footer", "iter_batches", "read_shard"]

_ROWS_KEY = "preceptor.rows"
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
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    ids: str

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Shard":
        """Rebuild from the manifest's form."""
        return cls(**data)


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
    try:
        if shard.path.endswith(ARROW):
            table = read_shard(storage, shard, columns=["doc_id"] if shard.ids else None)
            ids = MultisetHash()
            if shard.ids:
                ids.add(table["doc_id"])
            return {"rows": str(table.num_rows), "ids": ids.hexdigest() if shard.ids else ""}
        with storage.open(shard.path) as stream:
            metadata = pq.read_metadata(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise IntegrityError(f"{shard.path} cannot be read: {error}") from error
    found = {
        k.decode(): v.decode() for k, v in (metadata.metadata or {}).items() if k != b"ARROW:schema"
    }
    check_format(metadata.schema.to_arrow_schema(), shard.path)
    return {**found, "rows": str(metadata.num_rows), "ids": found.get(_IDS_KEY, "")}


def read_shard(storage: Storage, shard: Shard, columns: list[str] | None = None) -> Any:
    """Return a shard as an Arrow table (memory-mapped when it is a local `.arrow` file)."""
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
    """Yield a Parquet shard's record batches in order, memory bounded by a row group."""
    with storage.open(shard.path) as stream:
        parquet = pq.ParquetFile(stream)
        check_format(parquet.schema_arrow, shard.path)
        yield from parquet.iter_batches(batch_size=max_rows, columns=columns)

"""The shards of a table as one lazy frame, of which only what is asked for is read."""

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from curate.corpus.shard import PARQUET, Shard, footer, iter_batches, read_shard
from curate.corpus.storage import Storage

__all__ = ["scan"]


def scan(storage: Storage, shards: Sequence[Shard]) -> pl.LazyFrame:
    """Return one or more shards of a table, in order, as a lazy frame.

    Parquet in a local store is scanned by polars; a shard that lies over another is read batch by
    batch; the rest is read whole. Footers are read at once: a file that is gone or cut short is
    told here, not by whoever collects the frame.

    Raises:
        IntegrityError: a file cannot be read.
    """
    if any(shard.base is not None for shard in shards):
        return _whole(storage, shards)
    if storage.is_local and shards[0].path.endswith(PARQUET):
        for shard in shards:
            footer(storage, shard)
        return pl.scan_parquet([storage.full(shard.path) for shard in shards], glob=False)
    tables = [read_shard(storage, shard) for shard in shards]
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))).lazy()


def _whole(storage: Storage, shards: Sequence[Shard]) -> pl.LazyFrame:
    """Return Parquet shards, some of which lie over others."""
    for shard in shards:
        footer(storage, shard)
    (*_, bottom) = shards[0].files
    with storage.open(bottom.path) as stream:
        schema = pl.read_parquet_schema(stream)

    def frames(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        names = list(schema) if columns is None else columns or list(schema)[:1]  # to count rows
        left = n_rows
        for shard in shards:
            for batch in iter_batches(storage, shard, names, batch_size or 4096):
                frame = pl.DataFrame(pl.from_arrow(batch)).select(names)
                frame = frame if left is None else frame.head(left)
                left = None if left is None else left - frame.height
                yield frame if predicate is None else frame.filter(predicate)
                if left == 0:
                    return

    return register_io_source(frames, schema=schema, is_pure=True)

"""Parquet: a slice owns the row groups that begin in its bytes, so planning opens no file.

The position of a record is its row number in the file. Batches are sized by the footer's own
account of bytes per row, and column chunks are read as they are needed, not row group by row group.
"""

from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus.errors import UnreadableFileError
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Reader,
    Slice,
    max_document_bytes,
    whole_file,
)
from curate.readers.batches import BATCH_BYTES, BATCH_RECORDS
from curate.readers.columns import Columns
from curate.readers.tables import check_schema, convert, first_record, with_media

__all__ = ["READER"]

_BUFFER_BYTES = 1 << 20


def split(file: InputFile, max_bytes: int) -> list[Slice]:
    """Cut the file's bytes into ranges of at most max_bytes; some may own no row group."""
    count = -(-file.size // max_bytes)
    if count <= 1:
        return whole_file(file, max_bytes)
    bounds = [file.size * i // count for i in range(count)]
    return [Slice(file, start, stop) for start, stop in zip(bounds, [*bounds[1:], -1], strict=True)]


def _open(stream: IO[bytes], file: InputFile) -> pq.ParquetFile:
    if stream.seek(0, 2) == 0:
        raise UnreadableFileError(f"{file.path} is empty (0 bytes).", reason="empty", offset=0)
    stream.seek(0)
    try:
        opened = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        _ = opened.schema_arrow.names  # a damaged name fails here, when it is decoded
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(
            f"{file.path} is no whole Parquet file: {error}", reason="not_parquet", offset=0
        ) from error
    return opened


def _start(group: Any) -> int:
    """Return the offset of a row group's first page."""
    if not group.num_columns:
        return 0
    first = group.column(0)
    pages = [first.data_page_offset]
    if first.has_dictionary_page and first.dictionary_page_offset is not None:
        pages.append(first.dictionary_page_offset)
    return int(min(pages))


def _batch_rows(group: Any) -> int:
    row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(min(BATCH_RECORDS, max(1, BATCH_BYTES // row_bytes)))


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the row groups that begin in the slice, only the columns that are wanted.

    Raises:
        InputError: a column that the recipe names is not in the file.
        UnreadableFileError: `empty`, `not_parquet`, or `corrupt`, with the row it was found at.
    """
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        file = _open(stream, part.file)
        if "of" in options:
            columns = with_media(file.schema_arrow, columns, options, part.file.path)
        names = check_schema(file.schema_arrow, columns, part.file.path)
        position = 0
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            first, position = position, position + group.num_rows
            start = _start(group)
            if start < part.start or 0 <= part.stop <= start:
                continue
            done = first
            try:
                for batch in file.iter_batches(
                    _batch_rows(group), row_groups=[index], columns=names, use_threads=False
                ):
                    pair = bool(options.get("pair"))
                    yield convert(batch, columns, done, max_bytes, part.file.path, pair)
                    done += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise _corrupt(part.file, done, str(error)) from error
            if done != position:
                raise _corrupt(part.file, done, f"its footer says {group.num_rows} rows")


def _corrupt(file: InputFile, row: int, said: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{file.path} is damaged behind row {row:,}: {said}", reason="corrupt", offset=row
    )


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first row, or the columns' names with None when there is no row."""
    with opener() as stream:
        opened = _open(stream, file)
        found = first_record(opened.iter_batches(1, use_threads=False))
        return found or dict.fromkeys(opened.schema_arrow.names)


READER = Reader(
    name="parquet",
    suffixes=(".parquet", ".pq"),
    one_document_per_file=False,
    split=split,
    read=read,
    media=read,
    streams=False,
    peek=peek,
)

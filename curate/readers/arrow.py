"""Arrow IPC, the file format (also called Feather 2) and the stream format, told apart by content.

The position of a record is its row number in the file.
"""

from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa

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
from curate.readers.tables import check_schema, convert, first_record

__all__ = ["READER"]

_FILE_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"


def _batches(stream: IO[bytes], file: InputFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    head = stream.read(len(_FILE_MAGIC))
    if not head:
        raise UnreadableFileError(f"{file.path} is empty (0 bytes).", reason="empty", offset=0)
    if head.startswith(_FEATHER_1_MAGIC):
        raise UnreadableFileError(
            f"{file.path} is a Feather file of version 1, which is no Arrow IPC; write it again "
            "with pyarrow.feather.write_feather.",
            reason="feather_1",
            offset=0,
        )
    stream.seek(0)
    try:
        if head == _FILE_MAGIC:
            opened = pa.ipc.open_file(stream)
            batches = (opened.get_batch(index) for index in range(opened.num_record_batches))
        else:
            opened = pa.ipc.open_stream(stream)
            batches = iter(opened)
        _ = opened.schema.names  # a damaged name fails here, when it is decoded
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(
            f"{file.path} is no whole Arrow file: {error}", reason="not_arrow", offset=0
        ) from error
    return opened.schema, batches


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read all record batches, in pieces of bounded size.

    Raises:
        InputError: a column that the recipe names is not in the file.
        UnreadableFileError: `empty`, `not_arrow`, `feather_1`, or `corrupt` with the row reached.
    """
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    row = 0
    with opener() as stream:
        schema, batches = _batches(stream, part.file)
        names = check_schema(schema, columns, part.file.path)
        try:
            for batch in batches:
                wanted = batch.select(names)
                _validate(wanted)
                row_bytes = max(1, wanted.nbytes // max(1, wanted.num_rows))
                step = min(BATCH_RECORDS, max(1, BATCH_BYTES // row_bytes))
                for start in range(0, wanted.num_rows, step):
                    piece = wanted.slice(start, step)
                    yield convert(piece, columns, row, max_bytes, part.file.path)
                    row += piece.num_rows
        except (pa.ArrowException, OSError) as error:
            raise UnreadableFileError(
                f"{part.file.path} is damaged behind row {row:,}: {error}",
                reason="corrupt",
                offset=row,
            ) from error


def _validate(batch: pa.RecordBatch) -> None:
    """Check offsets before anything follows them; strings are checked as text row by row later."""
    try:
        columns = batch.columns
    except KeyError as error:  # pyarrow has no class for some types that the format allows
        raise pa.ArrowNotImplementedError(f"type number {error} is not supported") from error
    for column in columns:
        type_ = column.type
        if pa.types.is_string(type_):
            column.view(pa.binary()).validate(full=True)
        elif pa.types.is_large_string(type_):
            column.view(pa.large_binary()).validate(full=True)
        else:
            column.validate(full=True)


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first row, or the columns' names with None when there is no row."""
    with opener() as stream:
        schema, batches = _batches(stream, file)
        return first_record(batches) or dict.fromkeys(schema.names)


READER = Reader(
    name="arrow",
    suffixes=(".arrow", ".feather", ".ipc", ".arrows"),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    streams=False,
    peek=peek,
)

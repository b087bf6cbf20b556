r"""JSON lines: each line is one record or one reject, wherever the file is cut into slices.

A slice [start, stop) owns the lines that begin in it, so any set of adjacent slices gives the same
records in the same order. The position of a record is the offset of its line in the decompressed
bytes. Lines end with "\n"; lines of JSON white space only are no records.
"""

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

import orjson

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
from curate.readers.batches import Builder
from curate.readers.columns import Columns
from curate.readers.registry import suffix_of

__all__ = ["READER", "add_line", "lines"]

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_CHUNK_BYTES = 1 << 20
_NUM_CHECKED = 1000  # records that are looked at before a column is said not to exist
_EXACT_INTEGER = 2**63


def split(file: InputFile, max_bytes: int) -> list[Slice]:
    """Cut a plain file into byte ranges of at most max_bytes; a compressed one stays whole."""
    count = -(-file.size // max_bytes)
    if count <= 1 or suffix_of(file.path)[1]:
        return whole_file(file, max_bytes)
    bounds = [file.size * i // count for i in range(count)]
    return [Slice(file, start, stop) for start, stop in zip(bounds, [*bounds[1:], -1], strict=True)]


def lines(
    stream: IO[bytes], start: int, stop: int, max_bytes: int
) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield (offset, line, length in bytes) of the lines that begin in [start, stop).

    The line is None when it is longer than max_bytes, its end not counted. Such a line is passed
    through in chunks and never held.
    """
    position = 0
    if start > 0:
        # The line that begins at `start` is ours, so its predecessor's end must be seen too.
        stream.seek(start - 1)
        position = start - 1 + _skip_line(stream)
    while stop < 0 or position < stop:
        line = stream.readline(max_bytes + 2)
        if not line:
            return
        offset = position
        position += len(line)
        whole = len(line) < max_bytes + 2 or line.endswith(b"\n")
        if not whole:
            position += _skip_line(stream)
        if whole and (len(line) <= max_bytes or len(line.rstrip(b"\r\n")) <= max_bytes):
            yield offset, line, len(line)
        else:
            yield offset, None, position - offset


def _skip_line(stream: IO[bytes]) -> int:
    count = 0
    while True:
        chunk = stream.readline(_CHUNK_BYTES)
        count += len(chunk)
        if not chunk or chunk.endswith(b"\n"):
            return count


def read(
    part: Slice, opener: Opener, options: Mapping[str, Any], builder: Builder | None = None
) -> Iterator[Batch]:
    """Read the records whose lines begin in the slice.

    Args:
        part: a range of bytes; it owns the lines that begin in it.
        opener: opens the file.
        options: `columns`, `max_document_bytes`.
        builder: what collects the records, for a layout that looks into them first.

    Raises:
        InputError: none of the file's first 1000 records has a column that is needed.
        UnreadableFileError: behind the readable records of a file that was cut short.
    """
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    if part.start == 0:
        _check_columns(part.file, opener, columns, max_bytes)
    builder = Builder() if builder is None else builder  # an empty one is false
    with opener() as stream:
        try:
            for offset, line, length in lines(stream, part.start, part.stop, max_bytes):
                add_line(builder, columns, offset, line, length, max_bytes)
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    if builder:
        yield builder.take()


def add_line(
    builder: Builder, columns: Columns, offset: int, line: bytes | None, length: int, max_bytes: int
) -> None:
    """Add what a line of `lines` holds: a record, a reject, or nothing if it is blank."""
    if line is None:
        detail = f"a line of {length:,} bytes; max_document_bytes is {max_bytes:,}"
        builder.reject(offset, "too_large", detail)
        return
    if offset == 0:
        line = line.removeprefix(_BOM)
    if line.isspace() and not line.strip(_BLANK):
        return
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        builder.reject(offset, *_why(line, error))
        return
    if not isinstance(record, dict):
        builder.reject(offset, "not_an_object", f"a line holds {type(record).__name__}")
        return
    key = record.get(columns.key)
    if type(key) is float and abs(key) >= _EXACT_INTEGER:
        record[columns.key] = _exact(line, str(columns.key), key)
    builder.record(offset, columns, record, length)


def _why(line: bytes, error: orjson.JSONDecodeError) -> tuple[str, str]:
    try:
        line.decode()
    except UnicodeDecodeError as broken:
        return "invalid_utf8", f"byte {broken.start} of the line is no UTF-8"
    if "surrogate" in error.msg:  # an escape such as \ud800 alone: valid JSON, but no text
        return "invalid_utf8", f"{error.msg} (character {error.pos})"
    return "invalid_json", f"{error.msg} (character {error.pos})"


def _exact(line: bytes, column: str, otherwise: float) -> object:
    """Return a number beyond 64 bits as it is written: two such keys must not become one."""
    try:
        return json.loads(line, parse_int=str, parse_float=str).get(column)
    except RecursionError:
        return otherwise


def _objects(opener: Opener, max_bytes: int) -> Iterator[dict[str, Any]]:
    with opener() as stream:
        for offset, line, _ in lines(stream, 0, -1, max_bytes):
            try:
                record = orjson.loads((line or b"").removeprefix(b"" if offset else _BOM))
            except orjson.JSONDecodeError:
                continue
            if isinstance(record, dict):
                yield record


def _check_columns(file: InputFile, opener: Opener, columns: Columns, max_bytes: int) -> None:
    """Raise an InputError when the first records say that a column's name is wrong.

    One text column of several may well be rare: it is missed only after all of 1000 records.
    """
    wanted = set(columns.named)
    seen: set[str] = set()
    count = 0
    try:
        for count, record in enumerate(_objects(opener, max_bytes), 1):
            seen.update(record)
            if wanted <= seen or count == _NUM_CHECKED:
                break
    except UnreadableFileError:
        pass  # reading comes to the same place and tells it
    optional = set(columns.meta or ())
    if columns.joined and count < _NUM_CHECKED and not seen.isdisjoint(columns.text):
        optional |= set(columns.text)
    for column in sorted(wanted - seen - optional):
        if count:
            raise columns.missing(column, seen, f"{file.path} (its first {count:,} records)")


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first record of the file."""
    return next(_objects(opener, max_document_bytes(options)), None)


READER = Reader(
    name="jsonl",
    suffixes=(".jsonl", ".ndjson", ".jsonlines"),
    one_document_per_file=False,
    split=split,
    read=read,
    peek=peek,
)

r"""CSV and TSV with a header row; quoted fields may hold newlines.

The grammar is RFC 4180 read strictly: text behind a closing quote, or a quote that never closes,
is a reject and not a guess. The position of a record is its number, from 0, the header apart.
A record above `max_document_bytes` is passed through to its end without being held.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping
from typing import IO, Any

from curate.corpus.errors import InputError, UnreadableFileError
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
from curate.readers.columns import Columns, Problem
from curate.readers.registry import suffix_of

__all__ = ["READER", "delimiter_of"]

_BOM = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 20
_LARGEST_FIELD = 2**31 - 1  # the module's own limit; ours is on the bytes of the record


class _TooLongError(Exception):
    """The record being read is above the limit."""


class _Feed:
    """The lines that csv.reader asks for, counted per record."""

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._first = True
        self.begin()

    def begin(self) -> None:
        """Start counting a new record."""
        self._held.clear()
        self.num_bytes = 0
        self.is_utf8 = True

    @property
    def num_lines(self) -> int:
        """How many lines the record has taken so far."""
        return len(self._held)

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._max_bytes - self.num_bytes + 3)
        if not line:
            raise StopIteration
        if self._first:
            line = line.removeprefix(_BOM)
            self._first = False
        self._held.append(line)
        self.num_bytes += len(line)
        if self.num_bytes > self._max_bytes:
            end_bytes = len(line) - len(line.rstrip(b"\r\n"))
            if self.num_bytes - end_bytes > self._max_bytes:
                raise _TooLongError
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.is_utf8 = False
            return line.decode(errors="surrogateescape")

    def skip_record(self, delimiter: bytes) -> None:
        """Pass through the rest of the record; ends behind its last line."""
        more = iter(lambda: self._stream.readline(_CHUNK_BYTES), b"")
        scanner = _Scanner(delimiter)
        held, self._held = self._held, []
        for chunk in itertools.chain(held, more):
            if scanner.ends_with(chunk):
                return


class _Scanner:
    """Finds the end of a record in chunks that end, at the latest, at each newline."""

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._state = "start"

    def ends_with(self, chunk: bytes) -> bool:
        """Read on; True when the record ends at the end of this chunk."""
        at, size = 0, len(chunk)
        while at < size:
            byte = chunk[at : at + 1]
            if self._state == "quoted":
                at = chunk.find(b'"', at)
                if at < 0:
                    return False
                self._state = "closing"
            elif self._state == "field":
                at = chunk.find(self._delimiter, at)
                if at < 0:
                    break
                self._state = "start"
            elif byte == b'"':  # opens a field, or is the second of a doubled quote
                self._state = "quoted"
            else:
                self._state = "start" if byte == self._delimiter else "field"
            at += 1
        return self._state != "quoted" and chunk.endswith(b"\n")


def _rows(feed: _Feed, delimiter: str, max_bytes: int) -> Iterator[list[str] | Problem]:
    csv.field_size_limit(max(csv.field_size_limit(), min(max_bytes + 3, _LARGEST_FIELD)))
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except _TooLongError:
            feed.skip_record(delimiter.encode())
            yield Problem("too_large", f"a record above max_document_bytes, {max_bytes:,}")
        except csv.Error as error:
            yield Problem("invalid_csv", f"{error} (the record took {feed.num_lines:,} lines)")
        else:
            if row and not feed.is_utf8:
                yield Problem("invalid_utf8", "a field is no UTF-8")
            elif row:
                yield row


def delimiter_of(file: InputFile, options: Mapping[str, Any]) -> str:
    """Return the delimiter option, else a tab for .tsv and a comma for anything else."""
    given = options.get("delimiter")
    if given is None:
        return "\t" if suffix_of(file.path)[0] in (".tsv", ".tab") else ","
    named = {"\\t": "\t", "tab": "\t"}.get(given, given)
    if not (isinstance(named, str) and len(named) == 1 and named.isascii()) or named in '"\r\n':
        raise InputError(f"delimiter is {given!r}; give one ASCII character, or 'tab'.")
    return named


def _header(rows: Iterator[list[str] | Problem], file: InputFile) -> list[str] | None:
    header = next(rows, None)
    if isinstance(header, Problem):
        raise UnreadableFileError(
            f"{file.path}: its header row cannot be read ({header.detail}).", reason="bad_header"
        )
    if header is not None and len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"{file.path}: two columns have the name {twice[0]!r}; rename one.")
    return header


def _check_columns(columns: Columns, header: list[str], file: InputFile, delimiter: str) -> None:
    try:
        columns.require(header, file.path)
    except InputError as error:
        other = [mark for mark in ",;\t|" if mark != delimiter and mark in header[0]]
        if len(header) == 1 and other:
            raise InputError(f"{error} Is the delimiter {other[0]!r}?") from None
        raise


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read all records of the file.

    Raises:
        InputError: a column that the recipe names is not in the header.
        UnreadableFileError: the header cannot be read, or the file was cut short.
    """
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    delimiter = delimiter_of(part.file, options)
    builder = Builder()
    with opener() as stream:
        feed = _Feed(stream, max_bytes)
        rows = _rows(feed, delimiter, max_bytes)
        header = _header(rows, part.file)
        if header is None:
            return
        _check_columns(columns, header, part.file, delimiter)
        try:
            for number, row in enumerate(rows):
                if isinstance(row, Problem):
                    builder.reject(number, row.reason, row.detail)
                elif len(row) != len(header):
                    detail = f"{len(row)} fields; the header has {len(header)}"
                    builder.reject(number, "wrong_number_of_fields", detail)
                else:
                    record = dict(zip(header, row, strict=True))
                    builder.record(number, columns, record, feed.num_bytes)
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    if builder:
        yield builder.take()


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first whole record; with no record, the header with empty fields."""
    delimiter = delimiter_of(file, options)
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        rows = _rows(_Feed(stream, max_bytes), delimiter, max_bytes)
        header = _header(rows, file)
        if header is None:
            return None
        for row in itertools.islice(rows, 100):
            if not isinstance(row, Problem) and len(row) == len(header):
                return dict(zip(header, row, strict=True))
        return dict.fromkeys(header, "")


READER = Reader(
    name="csv",
    suffixes=(".csv", ".tsv", ".tab"),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
)

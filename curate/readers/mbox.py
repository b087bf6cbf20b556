r"""Mailboxes: many messages in one file, each behind a line "From ..." that follows a blank one.

A line of a message that looks so was written with ">" before it (mboxrd: one more than it had),
which is taken off again. The position of a message is the byte of its "From " line, and a slice
[start, stop) owns the messages whose line begins in it, as with lines of JSON.
"""

import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from curate.corpus.errors import UnreadableFileError
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns
from curate.readers.jsonl import split
from curate.readers.mail import FIELDS, OPTIONS, add_mail

__all__ = ["READER", "messages"]

_CHUNK_BYTES = 1 << 16
# Sender and time, as programs write them; a sentence that begins with "From" has no time.
_FROM = re.compile(rb"From .{0,300}\d\d?:\d\d(?::\d\d)?\b.{0,40}\b\d{4}\b")
_QUOTED = re.compile(rb">+From ")


def messages(
    stream: IO[bytes], start: int, stop: int, strict: bool, max_bytes: int
) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield (offset, message, length) of the messages whose "From " line is in [start, stop).

    The message is None when it is longer than max_bytes; it is then passed through in pieces.
    What stands before the first "From " line of the file is a message, too: nothing is skipped.

    Args:
        stream: at its beginning, or seekable.
        start: a byte of the file.
        stop: the byte behind the slice, -1 for the end.
        strict: "From " lines have a time.
        max_bytes: the size of the largest message.
    """
    position, after_blank = _begin(stream, start) if start else (0, True)
    begin = -1 if start else 0
    lines: list[bytes] = []
    length = held = 0
    line_start = True
    while line := stream.readline(_CHUNK_BYTES):
        if line_start and after_blank and _is_from(line, strict):
            if begin >= 0 and length:
                yield begin, _joined(lines, held, length), length
            if stop >= 0 and position >= stop:
                return
            begin, lines, length, held = position, [], 0, 0
        if begin >= 0:
            length += len(line)
            if length <= max_bytes:
                lines.append(line)
                held = length
            else:
                lines = []
        elif stop >= 0 and position >= stop:
            return
        position += len(line)
        after_blank = line_start and line in (b"\n", b"\r\n")
        line_start = line.endswith(b"\n")
    if begin >= 0 and length:
        yield begin, _joined(lines, held, length), length


def _joined(lines: list[bytes], held: int, length: int) -> bytes | None:
    return b"".join(lines) if held == length else None


def _begin(stream: IO[bytes], start: int) -> tuple[int, bool]:
    """Go to the first line that begins at `start` or behind; tell if the one before is blank."""
    back = max(0, start - 4)
    stream.seek(back)
    tail = stream.read(start - back)
    position = start
    if not tail.endswith(b"\n"):
        while True:
            chunk = stream.readline(_CHUNK_BYTES)
            position += len(chunk)
            tail = (tail + chunk)[-4:]
            if not chunk or chunk.endswith(b"\n"):
                break
    blank = tail.endswith((b"\n\n", b"\n\r\n")) or (back == 0 and tail in (b"\n", b"\r\n"))
    return position, blank


def _is_from(line: bytes, strict: bool) -> bool:
    return line.startswith(b"From ") and (not strict or _FROM.match(line) is not None)


def _message(data: bytes) -> bytes:
    """Return a message without its "From " line and without the quotes of others."""
    if data.startswith(b"From "):
        data = data.partition(b"\n")[2]
    if b">From " not in data:
        return data
    lines = data.split(b"\n")
    return b"\n".join(line[1:] if _QUOTED.match(line) else line for line in lines)


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the messages whose "From " lines begin in the slice.

    Raises:
        UnreadableFileError: behind the readable messages of a file that was cut short.
    """
    settings = settings_of(OPTIONS, options)
    columns = Columns.from_options(options)
    columns.require(FIELDS, part.file.path)
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        strict = _FROM.match(stream.readline(_CHUNK_BYTES)) is not None
    builder = Builder()
    with opener() as stream:
        try:
            for position, data, length in messages(
                stream, part.start, part.stop, strict, max_bytes
            ):
                if data is None:
                    told = f"a mail of {length:,} bytes; max_document_bytes is {max_bytes:,}"
                    builder.reject(position, "too_large", told)
                elif position == 0 and not data.startswith(b"From "):
                    if data.isspace():
                        continue
                    told = 'what stands before the first line "From ..." of the mailbox'
                    builder.reject(position, "invalid_mail", told)
                else:
                    add_mail(builder, position, _message(data), columns, settings)
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    if builder:
        yield builder.take()


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first message that can be read."""
    for batch in read(whole_file(file, 1)[0], opener, options):
        if batch.records.num_rows:
            row = batch.records.slice(0, 1).to_pylist()[0]
            return {"text": row["text"], "id": row["key"]}
    return None


READER = Reader(
    name="mbox",
    suffixes=(".mbox", ".mbx"),
    one_document_per_file=False,
    split=split,
    read=read,
    peek=peek,
    options=OPTIONS,
)

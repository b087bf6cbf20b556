r"""Log files: lines become documents by a window of time or by session; no line is ever dropped.

A line without a time belongs to the entry above it (a stack trace stays with its error). Entries
are collected in the group of their time or session. What is open is bounded: the two windows that
were written to last, or the sessions that did not pause for a window, and at most 64 MiB of them.
A late line whose group was closed opens a new one. `lines` in `meta` adds up to the lines of the
file. The position of a document is the byte of its first line.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import IO, Any

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns
from curate.readers.jsonl import lines
from curate.readers.log_sessions import pattern_of, sessions_of
from curate.readers.log_times import TIMES, as_iso, best_format

__all__ = ["READER"]

OPTIONS = {
    "group": Option(
        "time",
        "what is one document: a window of time, a session, or (none) each entry",
        ("time", "session", "none"),
    ),
    "window": Option(3600, "seconds of a window, or of the pause that ends a session"),
    "session": Option(
        "", "a field (host, or NAME of NAME=value) or a regular expression with one group"
    ),
    "format": Option("auto", "how the lines tell their time", ("auto", *TIMES)),
}

_FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp"}
    | {"lines", "last_time", "session", "part", "not_utf8_lines"}
)
_NUM_SAMPLED = 200  # lines that `auto` looks at
_NUM_LINES = 4096  # lines that are looked at together
_NUM_BYTES = 4 << 20
_OPEN_WINDOWS = 2
_OPEN_BYTES = 64 << 20
_OPEN_GROUPS = 100_000
_GROUP_BYTES = 1 << 20  # a longer group becomes several documents


class _Group:
    """The entries of a document to be."""

    def __init__(self, position: int, part: int = 1) -> None:
        self.position = position
        self.part = part
        self.lines: list[str] = []
        self.num_bytes = 0
        self.num_decoded = 0  # lines that were no UTF-8
        self.first: int | None = None
        self.last: int | None = None

    def add(self, line: str, num_bytes: int, time: int | None, is_utf8: bool) -> None:
        self.lines.append(line)
        self.num_bytes += num_bytes
        self.num_decoded += not is_utf8
        if time is not None:
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)


class _Groups:
    """The groups that are open, those that were written to last at the end."""

    def __init__(self, builder: Builder, columns: Columns, settings: Mapping[str, Any]) -> None:
        self._largest = min(_GROUP_BYTES, settings["max_bytes"])
        self._builder = builder
        self._columns = columns
        self._how = settings["group"]
        self._window = settings["window"]
        self._format = settings["format"]
        self._open: OrderedDict[Any, _Group] = OrderedDict()
        self._num_bytes = 0
        self._current: Any = None  # the key of the entry above

    def add(
        self, position: int, line: str, size: int, time: int | None, session: str | None, utf8: bool
    ) -> None:
        """Add a line to the group of its entry."""
        if time is not None or self._format is None or self._current not in self._open:
            self._begin(position, time, session)
        group = self._open[self._current]
        self._open.move_to_end(self._current)
        if group.num_bytes and group.num_bytes + size > self._largest:
            self._close(self._current)
            group = self._open[self._current] = _Group(position, group.part + 1)
        group.add(line, size, time, utf8)
        self._num_bytes += size
        while (self._num_bytes > _OPEN_BYTES or len(self._open) > _OPEN_GROUPS) and (
            len(self._open) > 1
        ):
            self._close(next(iter(self._open)))

    def _begin(self, position: int, time: int | None, session: str | None) -> None:
        """Make the group of a new entry the current one; close those that are over."""
        if self._how == "none":
            key: Any = position
            limit = 0
        elif self._how == "time":
            key = None if time is None else time // self._window
            limit = _OPEN_WINDOWS - (key not in self._open)
        else:
            key = session
            limit = len(self._open)
            if time is not None:
                self._close_paused(time)
        while len(self._open) > limit:
            self._close(next(iter(self._open)))
        self._current = key
        if key not in self._open:
            self._open[key] = _Group(position)

    def _close_paused(self, time: int) -> None:
        while self._open:
            key, group = next(iter(self._open.items()))
            if group.last is not None and group.last + self._window >= time:
                return
            self._close(key)

    def _close(self, key: Any) -> None:
        group = self._open.pop(key)
        self._num_bytes -= group.num_bytes
        text = "\n".join(group.lines)
        if not text.strip():
            told = f"{len(group.lines):,} lines, all blank"
            self._builder.reject(group.position, "no_text", told)
            return
        record: dict[str, Any] = {
            "text": text,
            "lines": len(group.lines),
            "timestamp": None if group.first is None else as_iso(group.first),
        }
        if group.last is not None and group.last != group.first and as_iso(group.last):
            record["last_time"] = as_iso(group.last)
        if self._how == "session" and key is not None:
            record["session"] = key
        if group.part > 1:
            record["part"] = group.part
        if group.num_decoded:
            record["not_utf8_lines"] = group.num_decoded
        self._builder.record(group.position, self._columns, record, group.num_bytes)

    def finish(self) -> None:
        """Close what is open, in the order of the file."""
        for key in sorted(self._open, key=lambda key: self._open[key].position):
            self._close(key)


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the groups of a log file, in the order in which they are complete.

    Raises:
        InputError: a window below a second; a session that is no field and no regular expression.
        UnreadableFileError: behind the readable lines of a file that was cut short.
    """
    settings = settings_of(OPTIONS, options)
    if settings["window"] < 1:
        raise InputError(f"options: window is {settings['window']}; give seconds, 1 or more")
    if settings["group"] == "session" and not settings["session"]:
        raise InputError("options: group is session; say by what: `session: host` or a pattern")
    max_bytes = max_document_bytes(options)
    if settings["format"] == "auto":
        settings["format"] = _detected(opener, max_bytes)
    pattern = None
    if settings["group"] == "session":
        pattern = pattern_of(settings["session"], settings["format"])
    settings["max_bytes"] = max_bytes
    builder = Builder()
    columns = Columns.from_options(options)
    columns.require(_FIELDS, part.file.path)
    groups = _Groups(builder, columns, settings)
    with opener() as stream:
        try:
            for _ in _grouped(groups, builder, stream, settings["format"], pattern, max_bytes):
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            groups.finish()
            if builder:
                yield builder.take()
            raise
    groups.finish()
    if builder:
        yield builder.take()


def _detected(opener: Opener, max_bytes: int) -> str | None:
    sample: list[str] = []
    try:
        with opener() as stream:
            for _, line, _ in itertools.islice(lines(stream, 0, -1, max_bytes), _NUM_SAMPLED):
                sample.append((line or b"")[:400].decode("latin-1"))
    except UnreadableFileError:
        pass  # reading comes to the same place and tells it
    return best_format(sample)


def _grouped(
    groups: _Groups,
    builder: Builder,
    stream: IO[bytes],
    format: str | None,
    pattern: str | None,
    max_bytes: int,
) -> Iterator[None]:
    """Add the lines to their groups, many at a time, since sessions are found in columns."""
    stated = TIMES[format] if format else None
    for chunk in _chunks(lines(stream, 0, -1, max_bytes)):
        rows = []
        for position, raw, size in chunk:
            if raw is None:
                told = f"a line of {size:,} bytes; max_document_bytes is {max_bytes:,}"
                builder.reject(position, "too_large", told)
            else:
                rows.append((position, *_decoded(raw), size))
        sessions = sessions_of(pattern, [line for _, line, _, _ in rows])
        for (position, line, is_utf8, size), session in zip(rows, sessions, strict=True):
            time = stated(line) if stated else None
            groups.add(position, line, size, time, session, is_utf8)
        yield


_Line = tuple[int, bytes | None, int]


def _chunks(found: Iterator[_Line]) -> Iterator[list[_Line]]:
    """Yield many lines at a time; what was read before an error comes before the error."""
    chunk: list[_Line] = []
    num_bytes = 0
    try:
        for item in found:
            chunk.append(item)
            num_bytes += len(item[1] or b"")
            if len(chunk) >= _NUM_LINES or num_bytes >= _NUM_BYTES:
                yield chunk
                chunk, num_bytes = [], 0
    except UnreadableFileError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _decoded(line: bytes) -> tuple[str, bool]:
    raw = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode("latin-1"), False


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first lines as a record; None for a file without any."""
    with opener() as stream:
        for _, line, _ in lines(stream, 0, -1, max_document_bytes(options)):
            return {"text": _decoded(line or b"")[0]}
    return None


READER = Reader(
    name="log",
    suffixes=(".log",),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=OPTIONS,
)

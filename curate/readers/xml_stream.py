"""An XML dump as a stream of events into a target that knows its records.

The parser never holds more than the element that is open: what it has seen becomes records or is
forgotten. A document type declaration is refused, since it is where entities that expand to
gigabytes or name other files would come from; no dump has one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import IO, Any, Protocol
from xml.parsers import expat

from curate.corpus.errors import UnreadableFileError
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Option,
    max_document_bytes,
    settings_of,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns

__all__ = ["Source", "Target", "first_record", "read_xml"]

_CHUNK_BYTES = 1 << 16
_MAX_DEPTH = 100  # dumps have four
_OTHER_XML = frozenset({"dtd", "unknown_root"})
_SLACK_BYTES = 1 << 20  # markup around a text, and text as it is escaped


class Source:
    """What a target needs to know, and where its records go.

    Args:
        file: the file that is read.
        options: what the recipe says about the source.
        known: the options of the format.
        fields: the columns that its records may have, which the recipe may map.

    Attributes:
        columns: the recipe's mapping of the records' columns.
        settings: the recipe's `options:`, with the defaults.
        max_bytes: the size of the largest text.
        builder: takes the records.
    """

    def __init__(
        self,
        file: InputFile,
        options: Mapping[str, Any],
        known: Mapping[str, Option],
        fields: Collection[str],
    ) -> None:
        self.file = file
        self.settings = settings_of(known, options)
        self.columns = Columns.from_options(options)
        self.columns.require(fields, file.path)
        self.max_bytes = max_document_bytes(options)
        self.builder = Builder()

    def add(self, position: int, record: dict[str, Any]) -> None:
        """Add a record; one whose text is too long is refused."""
        size = len(str(record.get("text") or "").encode(errors="replace"))
        if size > self.max_bytes:
            told = f"a text of {size:,} bytes; max_document_bytes is {self.max_bytes:,}"
            self.builder.reject(position, "too_large", told)
        else:
            self.builder.record(position, self.columns, record, size)


class Target(Protocol):
    """What a dump's format does with the events; positions are bytes of the XML."""

    def start(self, name: str, attributes: Mapping[str, str], position: int) -> None:
        """An element opens."""

    def end(self, name: str) -> None:
        """The element that was opened last closes."""

    def data(self, text: str) -> None:
        """Characters inside the open element; they may come in pieces."""


class _Events:
    """Chooses the target by the root element and hands it what the parser finds."""

    def __init__(self, source: Source, targets: Mapping[str, Callable[[Source], Target]]) -> None:
        self._source = source
        self._targets = targets
        self._target: Target | None = None
        self.count = 0
        self._depth = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.buffer_size = _CHUNK_BYTES
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error("invalid_xml", f"is nested more than {_MAX_DEPTH} levels deep")
        if self._target is None:
            if name not in self._targets:
                raise self._error(
                    "unknown_root",
                    f"is XML with the root element <{name[:60]}>; there are readers for "
                    f"{' and '.join(f'<{root}>' for root in sorted(self._targets))}",
                )
            self._target = self._targets[name](self._source)
        self._target.start(name, attributes, self.parser.CurrentByteIndex)

    def _end(self, name: str) -> None:
        self.count += 1
        self._depth -= 1
        assert self._target is not None
        self._target.end(name)

    def _data(self, text: str) -> None:
        self.count += 1
        assert self._target is not None
        self._target.data(text)

    def _doctype(self, *_: object) -> None:
        raise self._error(
            "dtd", "declares a document type (DTD), which could expand without end; remove it"
        )

    def feed(self, data: bytes, last: bool = False) -> None:
        """Parse more bytes.

        Raises:
            UnreadableFileError: what was read is no XML, or the file ends too early.
        """
        try:
            self.parser.Parse(data, last)
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            if last:
                raise self._error("truncated", f"was cut short ({said})") from error
            raise self._error("invalid_xml", f"is no sound XML ({said})") from error
        except UnreadableFileError:
            raise
        except (LookupError, ValueError) as error:  # an encoding that Python or expat lacks
            raise self._error("invalid_xml", f"is in no encoding known ({error})") from error

    def _error(self, reason: str, what: str) -> UnreadableFileError:
        at = max(0, self.parser.CurrentByteIndex)
        return UnreadableFileError(
            f"{self._source.file.path} {what}; at byte {at:,} of the content.",
            reason=reason,
            offset=at,
        )

    def too_long(self) -> UnreadableFileError:
        return self._error(
            "invalid_xml", f"has a tag longer than max_document_bytes, {self._source.max_bytes:,}"
        )


def read_xml(
    source: Source, opener: Opener, targets: Mapping[str, Callable[[Source], Target]]
) -> Iterator[Batch]:
    """Read a dump whose root element has one of the targets.

    XML that is no dump (a folder of sources has many) is one reject and stops nobody.

    Raises:
        UnreadableFileError: behind the records before the damage: `truncated`, `invalid_xml`, or
            what the decompressor says.
    """
    builder = source.builder
    with opener() as stream:
        try:
            for _ in _parsed(source, stream, targets):
                if builder.full:
                    yield builder.take()
        except UnreadableFileError as error:
            if error.reason in _OTHER_XML:
                builder.reject(error.offset, "invalid_xml", str(error))
            if builder:
                yield builder.take()
            if error.reason not in _OTHER_XML:
                raise
    if builder:
        yield builder.take()


def _parsed(
    source: Source, stream: IO[bytes], targets: Mapping[str, Callable[[Source], Target]]
) -> Iterator[None]:
    """Feed the parser; a tag that does not end gets pieces that double, never read twice over."""
    events = _Events(source, targets)
    begun = False
    size = _CHUNK_BYTES
    waiting = 0
    while data := stream.read(size):
        begun = True
        before = events.count
        events.feed(data)
        waiting = waiting + len(data) if events.count == before else 0
        if waiting > 2 * source.max_bytes + _SLACK_BYTES:
            raise events.too_long()
        size = max(_CHUNK_BYTES, min(waiting, source.max_bytes))
        yield
    if begun:
        events.feed(b"", last=True)


def first_record(batches: Iterator[Batch]) -> dict[str, Any] | None:
    """Return the first record by the columns that a recipe may name, for a look at a file."""
    for batch in batches:
        if batch.records.num_rows:
            row = batch.records.slice(0, 1).to_pylist()[0]
            return {"text": row["text"], "id": row["key"], "url": row["url"]}
    return None

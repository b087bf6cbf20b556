r"""What a reader is: a file goes in, record batches and rejected records come out.

Every record of the input ends up exactly once: as a row of `Batch.records` or as a `Reject`.
A reader never skips, never repairs, and never decides identity; the collect pass does the rest.

>>> rejected(7, "invalid_json", "unexpected " + chr(27) + "[2J")
Reject(position=7, reason='invalid_json', detail='unexpected \\x1b[2J')
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa

from curate.corpus.errors import InputError, one_of

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "REASONS",
    "RECORDS",
    "Batch",
    "InputFile",
    "Opener",
    "Option",
    "Reader",
    "Reject",
    "Slice",
    "max_document_bytes",
    "rejected",
    "settings_of",
    "whole_file",
]

RECORDS = pa.schema(
    [
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("key", pa.string()),  # the record's own key; null: identity comes from the content
        pa.field("url", pa.string()),
        pa.field("license", pa.string()),
        pa.field("timestamp", pa.string()),  # ISO 8601 in UTC, as the source states it
        pa.field("position", pa.int64(), nullable=False),  # record number, or byte offset of line
        pa.field("meta", pa.string()),  # JSON object of the columns that are not mapped
    ]
)

# Why a record is refused: a closed vocabulary, so that counts by reason can be compared.
REASONS = frozenset(
    {
        "encrypted",
        "expands_too_much",
        "http_status",
        "invalid_csv",
        "invalid_html",
        "invalid_json",
        "invalid_mail",
        "invalid_media",
        "invalid_notebook",
        "invalid_pdf",
        "invalid_tar",
        "invalid_utf8",
        "invalid_warc",
        "invalid_xml",
        "mismatch",
        "no_text",
        "not_an_object",
        "not_text",
        "outside_root",
        "text_not_string",
        "too_large",
        "truncated",
        "unreadable",
        "wrong_number_of_fields",
    }
)

MAX_DOCUMENT_BYTES = 64 << 20
MAX_DETAIL = 200


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file as it was when the run began.

    Attributes:
        uri: where to open it (any fsspec uri, or a plain path).
        path: the name people know it by, relative to the recipe if possible; no machine path.
        size: bytes on disk (compressed size for compressed files), -1 where the store cannot say.
        version: etag or mtime in ns, as text; (uri, size, version) decides "unchanged".
        key: the record key for formats with one document per file, else None.
    """

    uri: str
    path: str
    size: int
    version: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """The records of one file that start in its bytes [start, stop); stop -1 is the end.

    For lines that is the offset of the line, for Parquet the offset of the row group: so a plan
    of slices is arithmetic on sizes and opens no file.
    """

    file: InputFile
    start: int = 0
    stop: int = -1


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot become a document: a `reason` of REASONS, a `detail` for people."""

    position: int
    reason: str
    detail: str  # at most 200 characters, control characters escaped


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive records (schema RECORDS) and the records rejected among them."""

    records: pa.RecordBatch
    rejects: list[Reject] = field(default_factory=list)


Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Option:
    """Something a recipe may say about a source's format, under `options:`.

    Attributes:
        default: the value when the recipe says nothing; its type is the type of every value.
        description: one line for people.
        choices: all values there are; None: any value of the type.
    """

    default: str | bool | int | float
    description: str
    choices: tuple[Any, ...] | None = None


def whole_file(file: InputFile, max_bytes: int) -> list[Slice]:
    """Split nothing: the format can only be read from its first byte."""
    return [Slice(file)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A format: its name, its suffixes and its functions.

    Attributes:
        name: as in the recipe's `format:`.
        suffixes: file suffixes without compression (`.jsonl`); `.jsonl.gz` and friends follow.
        one_document_per_file: small files of this format are binned by a hash of their path.
        split: (file, max_bytes) -> slices that can be read independently; opens nothing.
        read: (slice, opener, options) -> batches, in order, in bounded memory.
        streams: the bytes can be read front to back, hence also inside .gz, .zst, .bz2, .xz.
        expand: (names in `paths:`) -> files, for a format whose paths are no file names.
        peek: (opener, file, options) -> the first record as a mapping, None if there is none.
        options: what a recipe's `options:` may set; `settings_of` reads it.
        arrange: (all files found) -> the files that are read, for a format that is a layout of
            folders whose files have other readers' suffixes.
        schema: what `read` gives: "text" (RECORDS), "image" or "audio" (see media.py); "media" of
            an archive that holds either and no text.
        media: as `read`, for a recipe whose schema is not text: batches of media.MEDIA. The options
            say by `of` whether images or sounds are wanted, by `pair` that each needs a caption.
    """

    name: str
    suffixes: tuple[str, ...]
    one_document_per_file: bool
    split: Callable[[InputFile, int], list[Slice]]
    read: Callable[[Slice, Opener, Mapping[str, Any]], Iterator[Batch]]
    streams: bool = True
    expand: Callable[[Sequence[str]], list[InputFile]] | None = None
    peek: Callable[[Opener, InputFile, Mapping[str, Any]], Mapping[str, Any] | None] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    arrange: Callable[[Sequence[InputFile]], list[InputFile]] | None = None
    schema: str = "text"
    media: Callable[[Slice, Opener, Mapping[str, Any]], Iterator[Batch]] | None = None

    def gives(self, kind: str) -> bool:
        """Say whether it can read a corpus of text, image or audio."""
        if kind == "text":
            return self.schema == "text"
        return self.media is not None and self.schema in ("text", "media", kind)


def rejected(position: int, reason: str, detail: str) -> Reject:
    """Build a Reject whose detail is short and safe to print."""
    assert reason in REASONS, reason
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail[:MAX_DETAIL])
    return Reject(position, reason, shown[:MAX_DETAIL])


def max_document_bytes(options: Mapping[str, Any]) -> int:
    """Return the size in UTF-8 bytes above which a record is refused as `too_large`."""
    value = options.get("max_document_bytes")
    if value is None:
        return MAX_DOCUMENT_BYTES
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"max_document_bytes is {value!r}; give a whole number of bytes above 0.")
    return value


def settings_of(known: Mapping[str, Option], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source's `options:` with the defaults filled in.

    >>> settings_of({"links": Option(False, "keep links")}, {"options": {"links": True}})
    {'links': True}

    Raises:
        InputError: an option that the format does not have, or a value of another type.
    """
    given = options.get("options") or {}
    for name in given:
        if name not in known:
            raise InputError(
                one_of("option", str(name), known)
                if known
                else f"options: {name!r} is given, but this format has no options; remove it"
            )
    return {name: _setting(name, option, given) for name, option in known.items()}


def _setting(name: str, option: Option, given: Mapping[str, Any]) -> Any:
    value = given.get(name, option.default)
    wanted = type(option.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise InputError(f"options: {name} is {value!r}; write it as {option.default!r}")
    if option.choices is not None and value not in option.choices:
        raise InputError(f"options: {one_of(name, str(value), map(str, option.choices))}")
    return value

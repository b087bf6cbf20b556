"""Images and sound as records: the bytes as they are, and what their headers say.

Nothing is decoded: width and height, rate and duration are read from the first bytes of a file.
These readers have a schema of their own, `Reader.schema` names it. A corpus reads them, and the
archives and tables that hold images or sounds, as records of MEDIA.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from curate.readers.base import (
    RECORDS,
    Batch,
    Opener,
    Slice,
    max_document_bytes,
    rejected,
)
from curate.readers.batches import BATCH_BYTES, BATCH_RECORDS
from curate.readers.columns import Problem, Row

__all__ = [
    "AUDIO",
    "AUDIO_SUFFIXES",
    "IMAGES",
    "IMAGE_SUFFIXES",
    "MEDIA",
    "SCHEMAS",
    "MediaBuilder",
    "is_member",
    "read_media",
    "read_records",
]

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "gif", "webp", "bmp", "pgm", "ppm")
AUDIO_SUFFIXES = ("wav", "flac")

_COMMON = [
    pa.field("key", pa.string()),
    pa.field("url", pa.string()),
    pa.field("license", pa.string()),
    pa.field("timestamp", pa.string()),
    pa.field("position", pa.int64(), nullable=False),
    pa.field("meta", pa.string()),
]
IMAGES = pa.schema(
    [
        pa.field("bytes", pa.large_binary(), nullable=False),
        pa.field("format", pa.string(), nullable=False),  # png, jpeg, gif, webp or bmp
        pa.field("width", pa.int32(), nullable=False),  # pixels, before any rotation
        pa.field("height", pa.int32(), nullable=False),
        *_COMMON,
    ]
)
AUDIO = pa.schema(
    [
        pa.field("bytes", pa.large_binary(), nullable=False),
        pa.field("format", pa.string(), nullable=False),  # wav or flac
        pa.field("sample_rate", pa.int32(), nullable=False),  # Hz
        pa.field("num_channels", pa.int32(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),  # per channel
        pa.field("duration_s", pa.float64(), nullable=False),
        *_COMMON,
    ]
)
SCHEMAS: Mapping[str, Any] = {"image": IMAGES, "audio": AUDIO}
MEDIA = pa.schema(  # the text is the caption, "" where there is none
    [*RECORDS, pa.field("media", pa.large_binary(), nullable=False)]
)


def is_member(suffix: str, options: Mapping[str, Any]) -> bool:
    """Say whether a file of an archive is of the kind that is wanted, by its suffix without dot."""
    return suffix in (IMAGE_SUFFIXES if options["of"] == "image" else AUDIO_SUFFIXES)


class MediaBuilder:
    """Collects records of MEDIA and rejects, a bounded number of bytes at a time."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, Row, bytes]] = []
        self._rejects: list[Any] = []
        self._num_bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time to `take`."""
        count = len(self._rows) + len(self._rejects)
        return count >= BATCH_RECORDS or self._num_bytes >= BATCH_BYTES

    def __bool__(self) -> bool:
        return bool(self._rows or self._rejects)

    def row(self, position: int, row: Row, data: bytes) -> None:
        """Add a record: its caption and what else is known, and its bytes."""
        self._rows.append((position, row, data))
        self._num_bytes += len(data)

    def reject(self, position: int, reason: str, detail: str) -> None:
        """Add a record that cannot become a document."""
        self._rejects.append(rejected(position, reason, detail))

    def take(self) -> Batch:
        """Return what was collected and start anew."""
        records = [
            {"position": position, "media": data, **row._asdict()}
            for position, row, data in self._rows
        ]
        taken = Batch(pa.RecordBatch.from_pylist(records, schema=MEDIA), self._rejects)
        self.__init__()  # type: ignore[misc]
        return taken


def read_records(
    part: Slice,
    opener: Opener,
    options: Mapping[str, Any],
    read: Callable[[Slice, Opener, Mapping[str, Any]], Iterator[Batch]],
) -> Iterator[Batch]:
    """Yield what a reader of single files gives as records of MEDIA; a file has no caption."""
    for batch in read(part, opener, options):
        found = batch.records
        if options["pair"]:
            rows = found.column("position").to_pylist()
            told = "a file alone has no caption; archives and tables have them"
            none = pa.RecordBatch.from_pylist([], schema=MEDIA)
            yield Batch(none, [*batch.rejects, *(rejected(row, "no_text", told) for row in rows)])
            continue
        columns = {name: found.column(name) for name in RECORDS.names if name != "text"}
        columns["text"] = pa.array([""] * found.num_rows, pa.large_string())
        columns["media"] = found.column("bytes")
        arrays = [columns[name] for name in MEDIA.names]
        yield Batch(pa.RecordBatch.from_arrays(arrays, schema=MEDIA), batch.rejects)


def read_media(
    part: Slice,
    opener: Opener,
    options: Mapping[str, Any],
    schema: Any,
    header: Callable[[bytes], Mapping[str, Any] | Problem],
) -> Iterator[Batch]:
    """Yield the one record, or the one reject, that a file is.

    Args:
        part: the whole file.
        opener: opens it.
        options: `max_document_bytes`.
        schema: IMAGES or AUDIO.
        header: the bytes of the file -> the fields that its header tells, or why it is none.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        data = stream.read(max_bytes + 1)
    found: Mapping[str, Any] | Problem
    if len(data) > max_bytes:
        found = Problem("too_large", f"a file above max_document_bytes, {max_bytes:,}")
    elif not data:
        found = Problem("invalid_media", "the file is empty")
    else:
        found = header(data)
    if isinstance(found, Problem):
        empty = pa.RecordBatch.from_pylist([], schema=schema)
        yield Batch(empty, [rejected(0, found.reason, found.detail)])
        return
    row = {"bytes": data, "key": part.file.key, "position": 0, **found}
    yield Batch(pa.RecordBatch.from_pylist([row], schema=schema))

"""Images and sound as records: the bytes as they are, and what their headers say.

Nothing is decoded: width and height, rate and duration are read from the first bytes of a file.
These readers have a schema of their own, `Reader.schema` names it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from curate.readers.base import Batch, Opener, Slice, max_document_bytes, rejected
from curate.readers.columns import Problem

__all__ = ["AUDIO", "IMAGES", "SCHEMAS", "read_media"]

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

"""Formats where a whole file is one document: its bytes as UTF-8, or one reject."""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.readers.base import Batch, Opener, Slice, max_document_bytes
from curate.readers.batches import Builder
from curate.readers.columns import Problem, Row, as_json

__all__ = ["decoded", "read_document"]

_BOM = b"\xef\xbb\xbf"


def decoded(data: bytes, max_bytes: int) -> str | Problem:
    r"""Return the text of a file, or why there is none; a byte order mark is no text.

    >>> decoded(b"\xef\xbb\xbfhi", 9), decoded(b"\xff", 9).reason, decoded(b"", 9).reason
    ('hi', 'invalid_utf8', 'no_text')
    """
    if len(data) > max_bytes:
        return Problem("too_large", f"a file above max_document_bytes, {max_bytes:,}")
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        return Problem("invalid_utf8", f"byte {error.start:,} of the file is no UTF-8")
    return text or Problem("no_text", "the file is empty")


def read_document(
    part: Slice,
    opener: Opener,
    options: Mapping[str, Any],
    license: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Iterator[Batch]:
    """Yield the one record, or the one reject, that a file is.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        text = decoded(stream.read(max_bytes + 1), max_bytes)
    builder = Builder()
    if isinstance(text, Problem):
        builder.reject(0, text.reason, text.detail)
    else:
        told = as_json(meta) if meta else None
        builder.row(0, Row(text, part.file.key, license=license, meta=told), 0)
    yield builder.take()

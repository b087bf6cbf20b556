"""PDF: the text of all pages as one document, by pypdf (the extra `preceptor[pdf]`).

pypdf is written in Python, so a hostile file can at worst be slow, and how slow is bounded by
counts (pages, bytes and drawing operations), hence the same way on every machine. Scanned pages
have no text; a file of nothing else is refused as `no_text`.
"""

import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from curate.corpus.errors import InputError
from curate.readers.base import (
    Batch,
    Opener,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns, Problem

__all__ = ["READER"]

_FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp", "title", "author", "pages"}
    | {"pages_without_text", "unread_pages", "num_unread_pages"}
)
_MAX_PAGES = 10_000
_MAX_PAGE_BYTES = 8 << 20  # of drawing operations of one page, inflated
_MAX_OPERATIONS = 300_000  # of one page and the forms it draws
_FREE_OPERATIONS = 200_000  # of a file; more of them take as many bytes
_MAX_FIELD = 1_000
_TRAILER_BYTES = 4096  # where %%EOF is looked for; programs append a little, seldom more
_MAX_TOLD = 100


class _TooCostly(Exception):
    """A page that takes more operations than any real one."""


def _pypdf() -> Any:
    try:
        import pypdf
    except ImportError:
        raise InputError(
            "PDF files are read by pypdf, which is not installed; pip install 'preceptor[pdf]'"
        ) from None
    # It logs what it mends in a file; what matters of that is told in the record.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    return pypdf


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file as one record, or as one reject.

    Raises:
        InputError: pypdf is not installed.
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    settings_of({}, options)
    columns = Columns.from_options(options)
    columns.require(_FIELDS, part.file.path)
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        data = stream.read(max_bytes + 1)
    builder = Builder()
    found: dict[str, Any] | Problem
    if not data:
        found = Problem("no_text", "the file is empty")
    elif len(data) > max_bytes:
        found = Problem("too_large", f"a file above max_document_bytes, {max_bytes:,}")
    else:
        pypdf = _pypdf()
        try:
            found = _record(pypdf, data, max_bytes)
        except Exception as error:  # a damaged file makes the parser fail in any way there is
            found = Problem("invalid_pdf", f"{type(error).__name__}: {error}")
    if isinstance(found, Problem):
        builder.reject(0, found.reason, found.detail)
    else:
        builder.record(0, columns, {"id": part.file.key, **found}, len(data))
    yield builder.take()


def _record(pypdf: Any, data: bytes, max_bytes: int) -> dict[str, Any] | Problem:
    if b"%PDF-" not in data[:1024]:
        return Problem("invalid_pdf", "it does not begin with %PDF-")
    if b"%%EOF" not in data[-_TRAILER_BYTES:]:
        return Problem("truncated", "its end, %%EOF, is missing")
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        return Problem("encrypted", "it asks for a password")
    count = len(reader.pages)
    if count > _MAX_PAGES:
        return Problem("too_large", f"{count:,} pages; at most {_MAX_PAGES:,} are read")
    texts, unread = [], []
    num_chars = 0
    work = _Work(len(data))
    for number in range(count):
        try:
            text = _page_text(reader.pages[number], work)
        except Exception as error:
            unread.append(number + 1)
            last = f"{type(error).__name__}: {error}"
            if work.left < 0:
                told = f"more than {work.limit:,} operations for a file of {len(data):,} bytes"
                return Problem("expands_too_much", told)
            continue
        num_chars += len(text)
        if num_chars > max_bytes:
            return Problem("too_large", f"its text is above max_document_bytes, {max_bytes:,}")
        texts.append(text)
    if unread and len(unread) == count:
        return Problem("invalid_pdf", f"none of {count:,} pages can be read ({last})")
    whole = "\n\n".join(text for text in texts if text)
    if not whole:
        return Problem("no_text", f"no text on {count:,} pages; scanned pages are pictures")
    if len(whole.encode()) > max_bytes:
        return Problem("too_large", f"its text is above max_document_bytes, {max_bytes:,}")
    record: dict[str, Any] = {"text": whole, "pages": count}
    if unread:
        record["unread_pages"] = unread[:_MAX_TOLD]
        record["num_unread_pages"] = len(unread)
    empty = sum(not text for text in texts)
    if empty:
        record["pages_without_text"] = empty
    return record | _metadata(reader)


class _Work:
    """Counts the drawing operations of a file: a form that draws itself twice has 2^n of them."""

    def __init__(self, num_bytes: int) -> None:
        self.limit = _FREE_OPERATIONS + num_bytes
        self.left = self.limit
        self._page_left = 0

    def begin_page(self) -> None:
        """Give the next page its share."""
        self._page_left = min(_MAX_OPERATIONS, self.left)

    def count(self, *_: object) -> None:
        """Count one operation.

        Raises:
            _TooCostly: it is one too many.
        """
        self._page_left -= 1
        self.left -= 1
        self.check()

    def check(self) -> None:
        """Say again what pypdf may have caught, since it goes on behind a form that fails."""
        if self._page_left < 0:
            raise _TooCostly(f"a page of more than {_MAX_OPERATIONS:,} operations")


def _page_text(page: Any, work: _Work) -> str:
    """Return the text of a page.

    Raises:
        _TooCostly: more bytes or operations than a page has that somebody is to read.
    """
    contents = page.get_contents()
    if contents is None:
        return ""
    if len(contents.get_data()) > _MAX_PAGE_BYTES:
        raise _TooCostly(f"a page of more than {_MAX_PAGE_BYTES:,} bytes")
    work.begin_page()
    text: str = page.extract_text(visitor_operand_before=work.count)
    work.check()
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "\n".join(line.rstrip() for line in whole.split("\n")).strip()


def _metadata(reader: Any) -> dict[str, Any]:
    """Return the title, author and date that the file states; what cannot be read is left out."""
    found: dict[str, Any] = {}
    for name, attribute in (
        ("title", "title"),
        ("author", "author"),
        ("timestamp", "creation_date"),
    ):
        try:
            value = getattr(reader.metadata, attribute, None)
        except Exception:  # a date that is none, a string that is a dictionary
            continue
        if isinstance(value, str):
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            value = " ".join(value[:_MAX_FIELD].split())
        if value:
            found[name] = value
    return found


READER = Reader(
    name="pdf",
    suffixes=(".pdf",),
    one_document_per_file=True,
    split=whole_file,
    read=read,
)

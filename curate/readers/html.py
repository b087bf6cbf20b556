"""HTML files: one page per file, its main content as text; see `html_text` for what is kept.

The time of a document is the one that the page states; the address is its canonical one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.readers.base import (
    Batch,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Problem, Row, as_json
from curate.readers.html_text import MAX_HTML_BYTES, extract

__all__ = ["OPTIONS", "READER"]

OPTIONS = {
    "main_content": Option(True, "leave out navigation, footers, cookie banners"),
    "links": Option(False, "keep the addresses that a page links to, in meta"),
}


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the page as one record, or one reject.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    settings = settings_of(OPTIONS, options)
    max_bytes = min(max_document_bytes(options), MAX_HTML_BYTES)
    with opener() as stream:
        data = stream.read(max_bytes + 1)
    builder = Builder()
    found = _row(data, part.file.key, settings, max_bytes)
    if isinstance(found, Problem):
        builder.reject(0, found.reason, found.detail)
    else:
        builder.row(0, found, len(data))
    yield builder.take()


def _row(
    data: bytes, key: str | None, settings: Mapping[str, Any], max_bytes: int
) -> Row | Problem:
    if len(data) > max_bytes:
        return Problem("too_large", f"a page above {max_bytes:,} bytes")
    page = extract(data, main_content=settings["main_content"], links=settings["links"])
    if isinstance(page, Problem):
        return page
    if len(page.text) > max_bytes:  # deep lists are indented, and so longer than their page
        return Problem("too_large", f"more than {max_bytes:,} characters of text")
    meta = page.meta()
    return Row(
        page.text, key, page.url, page.license, page.published, as_json(meta) if meta else None
    )


READER = Reader(
    name="html",
    suffixes=(".html", ".htm", ".xhtml"),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    options=OPTIONS,
)

"""Markdown and reStructuredText: one document per file, the markup kept as it is written."""

from curate.readers.base import Reader, whole_file
from curate.readers.whole import read_document

__all__ = ["READER"]

READER = Reader(
    name="markdown",
    suffixes=(".md", ".markdown", ".rst"),
    one_document_per_file=True,
    split=whole_file,
    read=read_document,
)

"""Plain text: one document per file."""

from curate.readers.base import Reader, whole_file
from curate.readers.whole import read_document

__all__ = ["READER"]

READER = Reader(
    name="text",
    suffixes=(".txt", ".text"),
    one_document_per_file=True,
    split=whole_file,
    read=read_document,
)

"""WET files of Common Crawl: the plain text of pages, in the records of a web archive.

They are WARC files whose records are of the kind `conversion`; the reader is the same, and their
suffix in `CC-MAIN-....warc.wet.gz` is `.wet`.
"""

from curate.readers import warc
from curate.readers.base import Reader, whole_file

__all__ = ["READER"]

READER = Reader(
    name="wet",
    suffixes=(".wet",),
    one_document_per_file=False,
    split=whole_file,
    read=warc.read,
    peek=warc.peek,
    options=warc.OPTIONS,
)

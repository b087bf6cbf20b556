"""XML dumps: MediaWiki or Stack Exchange, told apart by the root element.

Other XML has no records that could be known; a file with another root says which one it has.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from curate.readers import mediawiki, stackexchange
from curate.readers.base import Batch, InputFile, Opener, Reader, Slice, whole_file
from curate.readers.xml_stream import Source, Target, first_record, read_xml

__all__ = ["READER"]

_OPTIONS = {**mediawiki.OPTIONS, **stackexchange.OPTIONS}
_FIELDS = mediawiki.FIELDS | stackexchange.FIELDS
_TARGETS: dict[str, Callable[[Source], Target]] = {
    "mediawiki": mediawiki.Pages,
    "posts": stackexchange.Posts,
}


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read a dump by the reader that its root element asks for.

    Raises:
        InputError: an option or a column that there is not.
        UnreadableFileError: behind the records before the damage.
    """
    source = Source(part.file, options, _OPTIONS, _FIELDS)
    return read_xml(source, opener, _TARGETS)


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first record of the dump."""
    return first_record(read(Slice(file), opener, options))


READER = Reader(
    name="xml",
    suffixes=(".xml",),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=_OPTIONS,
)

"""datatrove's JSON lines: text, id, and everything else in `metadata`.

That is what datatrove's JsonlWriter writes: `{"text": ..., "id": ..., "metadata": {"url": ...,
"date": ..., "language": ...}}`. Address, licence and date come up to columns, the rest of the
metadata is the document's meta. Media are bytes beside the text: their number is noted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.corpus.errors import InputError
from curate.readers import jsonl
from curate.readers.base import Batch, InputFile, Opener, Reader, Slice, settings_of
from curate.readers.batches import Builder
from curate.readers.columns import Columns
from curate.readers.nested import lifted
from curate.readers.registry import suffix_of

__all__ = ["READER"]

_SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonlines")
_NAMES = {"url": ("url",), "license": ("license",), "timestamp": ("date", "timestamp")}


class _Builder(Builder):
    """Brings the metadata up before a record is mapped."""

    def record(self, position: int, columns: Columns, record: dict[str, Any], size: int) -> None:
        found = lifted(record, columns, _NAMES)
        media = found.pop("media", None)
        if media:
            found["media_ignored"] = len(media) if isinstance(media, (list, dict)) else 1
        inner = found.pop("metadata", None)
        if isinstance(inner, dict):
            clash = {name: value for name, value in inner.items() if name in found}
            found = {**inner, **found}
            if clash:
                found["metadata"] = clash
        elif inner is not None:
            found["metadata"] = inner
        super().record(position, columns, found, size)


def arrange(files: Sequence[InputFile]) -> list[InputFile]:
    """Return the JSON lines among the files of a folder.

    Raises:
        InputError: there are none.
    """
    found = [file for file in files if suffix_of(file.path)[0] in _SUFFIXES]
    if not found:
        raise InputError("format datatrove: the paths hold no .jsonl file; name the output folder")
    return found


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the records whose lines begin in the slice.

    Raises:
        InputError: none of the file's first 1000 records has a column that is needed.
        UnreadableFileError: behind the readable records of a file that was cut short.
    """
    settings_of({}, options)
    return jsonl.read(part, opener, options, _Builder())


READER = Reader(
    name="datatrove",
    suffixes=(),
    one_document_per_file=False,
    split=jsonl.split,
    read=read,
    peek=jsonl.peek,
    arrange=arrange,
)

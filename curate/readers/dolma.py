"""Dolma's layout: `documents/` and beside it `attributes/NAME/`, one file there for each file here.

The rows of both are in the same order, and each row has its document's id; here both must have one
and agree, else the file is refused at the first row where they do not. Attributes, spans included,
go to the document's meta under `attributes`. A folder of documents alone is read as it is.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any

import orjson

from curate.corpus.errors import InputError, UnreadableFileError, one_of
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns
from curate.readers.jsonl import add_line, lines, peek
from curate.readers.listing import entry, folder_names
from curate.readers.nested import lifted
from curate.readers.registry import suffix_of
from curate.readers.streams import open_stream

__all__ = ["OPTIONS", "READER"]

_DOCUMENTS, _ATTRIBUTES = "/documents/", "/attributes/"
_SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonlines")
_NAMES = {"url": ("url",), "license": ("license",), "timestamp": ()}

OPTIONS = {
    "attributes": Option("all", "names of attribute folders, separated by commas; all, or none"),
}


class _Builder(Builder):
    """Brings up what metadata says, and adds the attributes of the row at hand."""

    path = ""
    rows: Mapping[str, Mapping[str, Any]] = {}

    def record(self, position: int, columns: Columns, record: dict[str, Any], size: int) -> None:
        found = lifted(record, columns, _NAMES)
        column = columns.timestamp
        if column is not None and column not in columns.named and found.get(column) is None:
            created = found.pop("created", None)
            if created is not None:
                found[column] = created
        for name, row in self.rows.items():
            # Two rows without an id say nothing about each other; nor does a line that is no row.
            if record.get("id") is None or row.get("id") != record["id"]:
                said = f"the document is {record.get('id')!r}, the attributes are {row.get('id')!r}"
                raise _mismatch(self.path, name, said)
        if self.rows:
            found["attributes"] = {name: row.get("attributes") for name, row in self.rows.items()}
        super().record(position, columns, found, size)


def arrange(files: Sequence[InputFile]) -> list[InputFile]:
    """Return the document files; the version of each tells the versions of its attributes too.

    Raises:
        InputError: there is no document among the files.
    """
    usable = [file for file in files if suffix_of(file.path)[0] in _SUFFIXES]
    layout = [file for file in usable if _DOCUMENTS in file.uri]
    plain = [file for file in usable if _ATTRIBUTES not in file.uri]
    found = layout or plain
    if not found:
        raise InputError(
            "format dolma: the paths hold no document file; name the folder that has documents/ in "
            "it, with .jsonl.gz or .json.gz files."
        )
    return [_versioned(file) for file in found]


def _versioned(file: InputFile) -> InputFile:
    siblings = _siblings(file)
    if not siblings:
        return file
    told = "|".join(f"{name}:{one.size}:{one.version}" for name, one in siblings.items())
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    return InputFile(file.uri, file.path, file.size, f"{file.version}+{digest}", file.key)


def _siblings(file: InputFile) -> dict[str, InputFile]:
    """Return the attribute file of each attribute folder, by the folder's name, sorted."""
    root, found, rest = file.uri.rpartition(_DOCUMENTS)
    if not found:
        return {}
    known_root = file.path.rpartition(_DOCUMENTS)[0] or file.path.partition("documents/")[0]
    siblings = {}
    for name in sorted(folder_names(root + _ATTRIBUTES.rstrip("/"), None)):
        uri = f"{root}{_ATTRIBUTES}{name}/{rest}"
        there = entry(uri, None)
        if there is not None and not there.is_folder:
            path = f"{known_root.rstrip('/')}{_ATTRIBUTES}{name}/{rest}".lstrip("/")
            siblings[name] = InputFile(there.uri, path, there.size, there.version)
    return siblings


def _chosen(file: InputFile, wanted: str) -> dict[str, InputFile]:
    siblings = _siblings(file)
    if wanted in ("all", "none"):
        return siblings if wanted == "all" else {}
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in siblings:
            raise InputError(f"options: attributes: {one_of('attribute folder', name, siblings)}")
    return {name: siblings[name] for name in names}


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the documents, each with its attributes.

    Raises:
        InputError: an attribute folder that there is not.
        UnreadableFileError: `mismatch` where attributes are another document's, or too few or too
            many; else what the files themselves are.
    """
    settings = settings_of(OPTIONS, options)
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    chosen = _chosen(part.file, settings["attributes"])
    builder = _Builder()
    builder.path = part.file.path
    with ExitStack() as stack:
        stream = stack.enter_context(opener())
        joined = {
            name: _rows(stack.enter_context(_opened(file)), max_bytes)
            for name, file in chosen.items()
        }
        try:
            for offset, line, length in _lines(stream, max_bytes):
                builder.rows = {name: _next(part.file, name, rows) for name, rows in joined.items()}
                add_line(builder, columns, offset, line, length, max_bytes)
                if builder.full:
                    yield builder.take()
            for name, rows in joined.items():
                if next(rows, None) is not None:
                    raise _mismatch(part.file.path, name, "it has more rows than the documents")
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    if builder:
        yield builder.take()


def _opened(file: InputFile) -> IO[bytes]:
    return open_stream(file, suffix_of(file.path)[1])


def _lines(stream: IO[bytes], max_bytes: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield the lines that are not blank."""
    for offset, line, length in lines(stream, 0, -1, max_bytes):
        if line is None or line.strip():
            yield offset, line, length


def _rows(stream: IO[bytes], max_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of an attribute file; an empty one for a line that is no object."""
    for _, line, _ in _lines(stream, max_bytes):
        try:
            row = orjson.loads(line or b"null")
        except orjson.JSONDecodeError:
            row = None
        yield row if isinstance(row, dict) else {}


def _next(file: InputFile, name: str, rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    row = next(rows, None)
    if row is None:
        raise _mismatch(file.path, name, "it has fewer rows than the documents")
    return row


def _mismatch(path: str, name: str, said: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} and its attributes {name!r} do not belong together: {said}. Tag again, or leave "
        "them out with options: {attributes: none}.",
        reason="mismatch",
    )


READER = Reader(
    name="dolma",
    suffixes=(),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=OPTIONS,
    arrange=arrange,
)

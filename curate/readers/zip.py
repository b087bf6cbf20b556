"""ZIP archives of images or sounds, read member by member where they lie; nothing is extracted.

A member's name is its record's key. What else is known comes from tables in the archive, CSV or
JSON lines, whose column `file`, `file_name`, `filename` or `path` names members (`labels.csv`,
`metadata.jsonl`), and from a text of the same name (`0001.wav`, `0001.txt`): the caption is that
text or the table's column `text` (see `columns`), the other columns become the meta data. A member
of no known kind is quarantined.
"""

import csv
import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import Batch, Opener, Reader, Slice, max_document_bytes, whole_file
from curate.readers.columns import Columns, Problem, map_record
from curate.readers.media import MediaBuilder, is_member

__all__ = ["READER"]

_NAMES = ("file", "file_name", "filename", "path")
_MAX_MEMBERS = 1_000_000
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError)


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()[1:]


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes | Problem:
    """Return a member's bytes, or why they cannot be had."""
    if member.flag_bits & 1:
        return Problem("encrypted", f"{member.filename} is encrypted")
    if member.file_size > max_bytes:
        return Problem("too_large", f"{member.filename} has {member.file_size:,} bytes")
    try:
        with archive.open(member) as stream:
            data = stream.read(max_bytes + 1)
    except _DAMAGE as error:
        return Problem("truncated", f"{member.filename} cannot be read: {error}")
    if len(data) > max_bytes:
        return Problem("too_large", f"{member.filename} has more than {max_bytes:,} bytes")
    return data


def _rows(name: str, data: bytes) -> list[dict[str, Any]]:
    """Return the rows of a table of the archive; [] where it is none that names files.

    Raises:
        UnicodeDecodeError, csv.Error, orjson.JSONDecodeError: it cannot be read.
    """
    if _suffix(name) == "csv":
        found = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return [{str(k): v for k, v in row.items() if k is not None} for row in found]
    rows = [orjson.loads(line) for line in data.splitlines() if line.strip()]
    return [row for row in rows if isinstance(row, dict)]


def _known(
    archive: zipfile.ZipFile, builder: MediaBuilder, max_bytes: int
) -> tuple[dict[str, dict[str, Any]], dict[str, zipfile.ZipInfo]]:
    """Return what tables say of members, by name; and the texts, by name without suffix."""
    told: dict[str, dict[str, Any]] = {}
    texts = {}
    for member in archive.infolist():
        stem, suffix = posixpath.splitext(member.filename)
        if suffix.lower() in (".txt", ".caption"):
            texts[stem] = member
        if suffix.lower() not in (".csv", ".jsonl"):
            continue
        data = _content(archive, member, max_bytes)
        if isinstance(data, Problem):
            builder.reject(member.header_offset, data.reason, data.detail)
            continue
        try:
            rows = _rows(member.filename, data)
        except (UnicodeDecodeError, csv.Error, orjson.JSONDecodeError) as error:
            reason = "invalid_csv" if suffix.lower() == ".csv" else "invalid_json"
            builder.reject(member.header_offset, reason, f"{member.filename}: {error}")
            continue
        folder = posixpath.dirname(member.filename)
        for row in rows:
            column = next((name for name in _NAMES if isinstance(row.get(name), str)), None)
            if column is not None:
                rest = {name: value for name, value in row.items() if name != column}
                for name in (row[column], posixpath.join(folder, row[column])):
                    told.setdefault(name, {}).update(rest)
    return told, texts


def _record(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    known: dict[str, Any],
    text: zipfile.ZipInfo | None,
    columns: Columns,
    options: Mapping[str, Any],
) -> Any:
    """Return (row, bytes) of a member, or a Problem."""
    max_bytes = max_document_bytes(options)
    data = _content(archive, member, max_bytes)
    if isinstance(data, Problem):
        return data
    record = dict(known)
    if text is not None:
        caption = _content(archive, text, max_bytes)
        if isinstance(caption, Problem):
            return caption
        try:
            record[columns.text[0]] = caption.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            return Problem("invalid_utf8", f"{text.filename} is no UTF-8")
    if columns.key is not None and columns.key not in columns.named:
        record[columns.key] = member.filename
    row = map_record(columns, record, captioned=bool(options["pair"]))
    return (
        Problem(row.reason, f"{member.filename}: {row.detail}")
        if isinstance(row, Problem)
        else (row, data)
    )


def read_media(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield a record for every image, or every sound.

    Raises:
        UnreadableFileError: `not_zip`, or `too_large` with more members than are read.
    """
    columns, builder = Columns.from_options(options), MediaBuilder()
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except _DAMAGE as error:
            raise UnreadableFileError(
                f"{part.file.path} is no whole ZIP archive: {error}.", reason="not_zip", offset=0
            ) from error
        with archive:
            listed = archive.infolist()
            if len(listed) > _MAX_MEMBERS:
                told = f"{part.file.path} has {len(listed):,} members, above {_MAX_MEMBERS:,}."
                raise UnreadableFileError(told, reason="too_large", offset=0)
            told_of, texts = _known(archive, builder, max_bytes)
            named = {
                posixpath.splitext(one.filename)[0]
                for one in listed
                if is_member(_suffix(one.filename), options)
            }
            for stem in sorted(texts.keys() - named):
                told = f"{texts[stem].filename} goes with no {options['of']} of its name"
                builder.reject(texts[stem].header_offset, "invalid_media", told)
            for member in listed:
                stem, suffix = posixpath.splitext(member.filename)[0], _suffix(member.filename)
                if member.is_dir() or suffix in ("csv", "jsonl", "txt", "caption"):
                    continue
                position, name = member.header_offset, member.filename
                if not is_member(suffix, options):
                    kind = options["of"]
                    builder.reject(position, "invalid_media", f"{name} is no {kind} by its suffix")
                    continue
                known = told_of.get(name, {})
                found = _record(archive, member, known, texts.get(stem), columns, options)
                if isinstance(found, Problem):
                    builder.reject(position, found.reason, found.detail)
                else:
                    builder.row(position, *found)
                if builder.full:
                    yield builder.take()
    if builder:
        yield builder.take()


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Refuse: texts are not looked for in archives."""
    raise InputError(
        f"{part.file.path}: of ZIP archives images and sounds are read, and no texts; say `schema: "
        "image`, audio or pair, or unpack it"
    )


READER = Reader(
    name="zip",
    suffixes=(".zip",),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    media=read_media,
    streams=False,
    schema="media",
)

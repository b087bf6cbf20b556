"""WebDataset shards: tar archives whose members share a name up to the first dot; text first.

The members of one sample follow each other: `0001.jpg`, `0001.txt`, `0001.json`. The document is
the caption (.txt, .text, .caption, .md, or a caption in .json); the fields of .json are its meta;
other members are noted by suffix and length. In a corpus of images, sounds or pairs the one image
or sound of a sample is the document, with that caption or none. Nothing is extracted. The position
is the offset of the sample's first header, the key its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from curate.corpus.errors import UnreadableFileError
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
from curate.readers.columns import Columns, Problem, map_record
from curate.readers.media import MediaBuilder, is_member
from curate.readers.tar_stream import Damage, Member, members

__all__ = ["OPTIONS", "READER"]

_TEXTS = ("txt", "text", "caption", "cap", "md")
_CAPTIONS = ("text", "caption", "prompt", "description")
_SMALL = (
    "cls",
    "index",
    "id",
    "url",
    "license",
)  # values of a few bytes, as webdataset writes them
_SMALL_BYTES = 4096
_MAX_MEMBERS = 256  # of one sample

OPTIONS = {
    "caption": Option("", "the field of .json that is the text where there is no .txt member"),
}


@dataclass(slots=True)
class _Sample:
    """The members with one name, as far as they have come."""

    name: str
    position: int
    texts: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    media: bytes | None = None
    problem: Problem | None = None
    seen: set[str] = field(default_factory=set)


def sample_name(path: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part.

    >>> sample_name("a.b/0001.seg.png"), sample_name("LICENSE")
    (('a.b/0001', 'seg.png'), ('LICENSE', ''))
    """
    folder, slash, name = path.rpartition("/")
    stem, _, suffix = name.partition(".")
    return folder + slash + stem, suffix.lower()


def _unsafe(member: Member) -> Problem | None:
    """Return why a member must not be followed."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        return Problem("outside_root", f"a member named {member.name!r}")
    if member.kind != "file":
        return Problem("outside_root", f"{member.name!r} is {member.kind}")
    return None


def _take(
    sample: _Sample, suffix: str, member: Member, max_bytes: int, options: Mapping[str, Any]
) -> Problem | None:
    """Add a member to its sample; return why it cannot be."""
    if len(sample.seen) >= _MAX_MEMBERS:
        return Problem("too_large", f"a sample of more than {_MAX_MEMBERS} members")
    if suffix in sample.seen:
        return Problem("invalid_tar", f"two members are called {member.name!r}")
    sample.seen.add(suffix)
    if suffix in _SMALL and member.size <= _SMALL_BYTES:
        sample.fields[suffix] = member.read(member.size).decode("utf-8", "replace").strip()
        return None
    is_media = "of" in options and is_member(suffix, options)
    if suffix not in _TEXTS and suffix != "json" and not is_media:
        sample.sizes[suffix] = member.size
        return None
    if member.size > max_bytes:
        return Problem("too_large", f"{member.name} has {member.size:,} bytes")
    data = member.read(member.size)
    if len(data) < member.size:
        return Problem("truncated", f"{member.name} ends early")
    if is_media and sample.media is not None:
        return Problem("invalid_media", f"{member.name} is the second {options['of']} of a sample")
    if is_media:
        sample.media = data
        return None
    try:
        if suffix != "json":
            sample.texts[suffix] = data.decode("utf-8-sig")
            return None
        value = orjson.loads(data)
    except UnicodeDecodeError as error:
        return Problem("invalid_utf8", f"byte {error.start:,} of {member.name} is no UTF-8")
    except orjson.JSONDecodeError as error:
        return Problem("invalid_json", f"{member.name}: {error.msg}")
    if not isinstance(value, dict):
        return Problem("not_an_object", f"{member.name} holds {type(value).__name__}")
    sample.fields |= value
    return None


def _finish(
    builder: Builder | MediaBuilder,
    sample: _Sample | None,
    columns: Columns,
    options: Mapping[str, Any],
) -> None:
    """Turn a sample into a row or a reject."""
    if sample is None:
        return
    if sample.problem is not None:
        builder.reject(sample.position, sample.problem.reason, sample.problem.detail)
        return
    record = dict(sample.fields)
    text = next((sample.texts[suffix] for suffix in _TEXTS if suffix in sample.texts), None)
    caption = settings_of(OPTIONS, options)["caption"]
    wanted = [caption] if caption else list(_CAPTIONS)
    column = columns.text[0]
    if text is not None:
        if record.get(column, text) != text:
            record[f"json_{column}"] = record[column]
        record[column] = text
    elif column not in record:
        found = next((name for name in wanted if isinstance(record.get(name), str)), None)
        if found is not None:
            record[column] = record.pop(found)
    if sample.sizes:
        record["members"] = sample.sizes
    if columns.key is not None and columns.key not in columns.named:
        record[columns.key] = sample.name
    captioned = not isinstance(builder, MediaBuilder) or bool(options["pair"])
    row = map_record(columns, record, captioned=captioned)
    if isinstance(row, Problem):
        detail = f"{sample.name}: {row.detail}" if row.reason != "no_text" else _no_text(sample)
        builder.reject(sample.position, row.reason, detail)
    elif isinstance(builder, MediaBuilder):
        if sample.media is None:
            told = f"{sample.name} has no {options['of']}; its members are: {_members(sample)}"
            builder.reject(sample.position, "invalid_media", told)
        else:
            builder.row(sample.position, row, sample.media)
    else:
        builder.row(sample.position, row, len(row.text))


def _members(sample: _Sample) -> str:
    return ", ".join(sorted(sample.seen))


def _no_text(sample: _Sample) -> str:
    return f"{sample.name} has no caption; its members are: {_members(sample)}"


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield one record per sample.

    Raises:
        UnreadableFileError: `not_tar` if the file has no member at all; behind the readable
            samples of compressed data that is not whole.
    """
    settings_of(OPTIONS, options)
    columns = Columns.from_options(options)
    max_bytes = max_document_bytes(options)
    builder = MediaBuilder() if "of" in options else Builder()
    sample: _Sample | None = None
    with opener() as stream:
        try:
            for member in members(stream):
                if isinstance(member, Damage):
                    sample = _damaged(builder, sample, member, columns, options, part.file)
                    continue
                problem = None if member.kind == "folder" else _unsafe(member)
                if problem is not None:
                    builder.reject(member.position, problem.reason, problem.detail)
                if member.kind == "folder" or problem is not None:
                    continue
                name, suffix = sample_name(member.name)
                if sample is None or sample.name != name:
                    _finish(builder, sample, columns, options)
                    sample = _Sample(name, member.position)
                problem = _take(sample, suffix, member, max_bytes, options)
                sample.problem = problem or sample.problem
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    _finish(builder, sample, columns, options)
    if builder:
        yield builder.take()


def _damaged(
    builder: Builder | MediaBuilder,
    sample: _Sample | None,
    damage: Damage,
    columns: Columns,
    options: Mapping[str, Any],
    file: InputFile,
) -> _Sample | None:
    """Tell a damage; the sample at hand may miss members behind it, so it is a reject too."""
    if damage.position == 0 and damage.reason == "invalid_tar" and sample is None:
        raise UnreadableFileError(
            f"{file.path} is no tar archive: {damage.detail}.", reason="not_tar", offset=0
        )
    ends_whole = damage.detail.endswith("end marker")
    if sample is not None and sample.problem is None and not ends_whole:
        sample.problem = Problem(damage.reason, f"{sample.name} is cut off: {damage.detail}")
        _finish(builder, sample, columns, options)
        return None
    _finish(builder, sample, columns, options)
    builder.reject(damage.position, damage.reason, damage.detail)
    return None


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the text of the first sample."""
    for batch in read(Slice(file), opener, {}):
        if batch.records.num_rows:
            return {"text": batch.records.column("text")[0].as_py()}
    return None


READER = Reader(
    name="webdataset",
    suffixes=(".tar",),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    media=read,
    peek=peek,
    options=OPTIONS,
)

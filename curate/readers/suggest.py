"""Look at a folder and propose the `sources:` of a recipe, for `preceptor init FOLDER`.

Files of records whose names differ only in digits are one source (part-0001, part-0002); files that
are documents themselves are one source per folder and format. Columns are guessed from the first
record and written down only where they differ from what would be assumed.

>>> guess_columns({"_id": 7, "body": "some text", "lang": "en"})
{'text': 'body', 'key': '_id'}
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from curate.corpus.errors import InputError
from curate.readers.base import InputFile, Reader
from curate.readers.listing import Entry, matcher, walk
from curate.readers.registry import reader_for, reader_named, suffix_of
from curate.readers.streams import open_stream

__all__ = ["guess_columns", "sniff", "unreadable"]

_TEXTS = ("text", "content", "body", "raw_content", "document", "markdown", "article", "abstract")
_TEXT_PAIRS = (("question", "answer"), ("instruction", "output"), ("prompt", "completion"))
_TEXTS_LAST = ("question", "prompt", "input", "description", "caption", "title")
_KEYS = ("id", "_id", "uuid", "key", "doc_id", "document_id", "docid", "task_id")
_DELIMITERS = ",;\t|%^~"


def guess_columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Guess the `columns:` of a source from one record; {} when the defaults do."""
    names = {name.lower(): name for name in reversed(list(record))}
    columns: dict[str, Any] = {}
    text = _guess_text(record, names)
    if text is not None and text != "text":
        columns["text"] = text
    key = next((names[name] for name in _KEYS if name in names), None)
    if key is not None and key != "id":
        columns["key"] = key
    return columns


def _guess_text(record: Mapping[str, Any], names: Mapping[str, str]) -> str | list[str] | None:
    for name in _TEXTS:
        if name in names:
            return names[name]
    for pair in _TEXT_PAIRS:
        if all(name in names for name in pair):
            return [names[name] for name in pair]
    for name in _TEXTS_LAST:
        if name in names:
            return names[name]
    texts = {name: value for name, value in record.items() if isinstance(value, str)}
    return max(texts, key=lambda name: len(texts[name]), default=None)


def sniff(folder: str) -> list[dict[str, Any]]:
    """Propose the sources of a recipe that lies in the folder.

    Returns:
        Dicts with the recipe's keys `name`, `paths`, and where needed `format`, `columns`,
        `delimiter`; sorted by name. What could not be used is told by `unreadable`.
    """
    sources, _ = _survey(folder)
    return sources


def unreadable(folder: str) -> list[dict[str, str]]:
    """Return the files that `sniff` left out, as dicts with `path` and `why`, sorted by path."""
    _, problems = _survey(folder)
    return problems


def _survey(folder: str) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    if not Path(folder).is_dir():
        raise InputError(f"{Path(folder).name!r} is no folder; name the one that holds the data.")
    groups: dict[tuple[Any, ...], list[str]] = {}
    extras: dict[tuple[Any, ...], dict[str, Any]] = {}
    problems = []
    names = []
    for relative, entry in walk(folder):
        names.append(relative)
        try:
            group, extra = _classify(relative, entry)
        except (InputError, OSError) as error:
            problems.append({"path": relative, "why": str(error)})
            continue
        groups.setdefault(group, []).append(relative)
        extras.setdefault(group, extra)
    sources = []
    taken: set[str] = set()
    for group, members in sorted(groups.items(), key=lambda item: item[1][0]):
        name = _name(group, members, taken)
        paths = _paths(group, members)
        if paths != members:
            patterns = [matcher(path) for path in paths]
            found = [file for file in names if any(fits.match(file) for fits in patterns)]
            if found != members:  # the pattern would also take files of other sources
                paths = members
        sources.append({"name": name, "paths": paths, **extras[group]})
    return sorted(sources, key=lambda source: str(source["name"])), sorted(
        problems, key=lambda problem: problem["path"]
    )


def _classify(relative: str, found: Entry) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a file is grouped by, and the keys its source needs beside name and paths."""
    path = PurePosixPath(relative)
    file = InputFile(found.uri, relative, found.size, found.version)
    extra: dict[str, Any] = {}
    try:
        reader, compression = reader_for(relative)
    except InputError:
        reader, compression = _by_content(file)
        extra["format"] = reader.name
    if reader.schema != "text":
        raise InputError(f"{reader.name} are no text; corpora hold text so far")
    top = path.parts[0] if len(path.parts) > 1 else ""
    if reader.one_document_per_file:
        return (top, reader.name), extra
    assert reader.peek is not None, reader.name
    opener = functools.partial(open_stream, file, compression)
    if reader.name == "csv":
        extra.update(_delimiter(file, compression))
    record = reader.peek(opener, file, extra)
    if record is None:
        raise InputError("it holds no record")
    columns = guess_columns(record)
    if columns:
        extra["columns"] = columns
    suffix = "".join(part or "" for part in suffix_of(relative))
    pattern = re.sub(r"\d+", "*", path.name.lower().removesuffix(suffix))
    return (str(path.parent), reader.name, suffix, pattern, str(sorted(record))), extra


def _by_content(file: InputFile) -> tuple[Reader, str | None]:
    """Recognise JSON lines under another name; raise the suffix's own error otherwise."""
    suffix, compression = suffix_of(file.path)
    with open_stream(file, compression) as stream:
        line = stream.readline(1 << 20)
    try:
        if isinstance(orjson.loads(line), dict):
            return reader_named("jsonl"), compression
    except orjson.JSONDecodeError:
        pass
    raise InputError(f"no reader for {suffix or 'files without a suffix'}")


def _delimiter(file: InputFile, compression: str | None) -> dict[str, str]:
    with open_stream(file, compression) as stream:
        header = stream.readline(1 << 16).decode(errors="replace")
    usual = "\t" if suffix_of(file.path)[0] in (".tsv", ".tab") else ","
    best = max(_DELIMITERS, key=lambda mark: (header.count(mark), mark == usual))
    return {"delimiter": best} if header.count(best) and best != usual else {}


def _paths(group: tuple[Any, ...], members: list[str]) -> list[str]:
    if len(members) == 1:
        return members
    if len(group) == 2:  # whole files: everything below one folder, one pattern per suffix
        endings = sorted({"".join(part or "" for part in suffix_of(name)) for name in members})
        prefix = f"{group[0]}/**/" if group[0] else ""
        return [f"{prefix}*{ending}" for ending in endings]
    folder, _, _, pattern, _ = group
    exact = {re.sub(r"\d+", "*", PurePosixPath(name).name) for name in members}
    if pattern.strip("*") == "" or len(exact) > 1:
        return members
    return [f"{folder}/{exact.pop()}" if folder != "." else exact.pop()]


def _name(group: tuple[Any, ...], members: list[str], taken: set[str]) -> str:
    """Return a name that is not taken: of the file, or of the folder when files are numbered."""
    first = PurePosixPath(members[0])
    if len(group) == 2:
        raw = group[0] or group[1]
    else:
        raw = re.sub(r"\d+", "", first.name.split(".")[0]) if len(members) > 1 else first.name
        raw = raw.split(".")[0]
    base = re.sub(r"[^a-z0-9]+", "_", str(raw).lower()).strip("_") or "source"
    choices = (base if count == 1 else f"{base}_{count}" for count in range(1, len(taken) + 2))
    name = next(choice for choice in choices if choice not in taken)
    taken.add(name)
    return name

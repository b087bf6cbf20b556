"""Stack Exchange dumps (Posts.xml): every question and every answer is a document.

The body is HTML and becomes plain text; its title, tags, score and the rest of the row go to
`meta`. The address needs the site's name, which no row has: the option `site` gives it, or else
the name of the file or of its folder, where dumps have it.

>>> site_of("dump/coffee.stackexchange.com/Posts.xml"), site_of("data/Posts.xml")
('coffee.stackexchange.com', None)
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Option,
    Reader,
    Slice,
    whole_file,
)
from curate.readers.columns import Problem
from curate.readers.html_plain import plain_text
from curate.readers.xml_stream import Source, first_record, read_xml

__all__ = ["FIELDS", "OPTIONS", "READER", "Posts", "site_of"]

OPTIONS = {
    "site": Option("", "Stack Exchange: the site's name, such as coffee.stackexchange.com"),
}

_SITE = re.compile(r"(?:[a-z0-9-]{1,63}\.){1,4}(?:com|net|org)")
_KINDS = {
    "1": "question",
    "2": "answer",
    "3": "wiki",
    "4": "tag wiki excerpt",
    "5": "tag wiki",
    "6": "moderator nomination",
    "7": "wiki placeholder",
    "8": "privilege wiki",
}
_WAYS = {"1": "q", "2": "a"}  # what else there is has no address of its own
_NUMBERS = {
    "Score": "score",
    "ViewCount": "views",
    "AnswerCount": "answers",
    "CommentCount": "comments",
    "FavoriteCount": "favorites",
}
_WORDS = {
    "AcceptedAnswerId": "accepted_answer",
    "ParentId": "parent",
    "OwnerUserId": "owner",
    "OwnerDisplayName": "owner_name",
    "LastEditorUserId": "editor",
    "LastEditDate": "edited",
    "LastActivityDate": "active",
    "ClosedDate": "closed",
    "CommunityOwnedDate": "community_owned",
}


FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp", "kind", "title", "tags"}
    | {*_NUMBERS.values(), *_WORDS.values()}
)


def site_of(path: str) -> str | None:
    """Return the host name that a dump's path holds, None if there is none."""
    for part in reversed(PurePosixPath(path.lower()).parts):
        match = _SITE.match(part)
        if match:
            return match[0]
    return None


def _tags(value: str) -> list[str]:
    """Return the tags of `<a><b>`, or of `|a|b|` as newer dumps write them."""
    return [tag for tag in re.split(r"[<>|]+", value) if tag]


def _spdx(value: str | None) -> str | None:
    """Return `CC BY-SA 4.0` as its SPDX id, anything else as it is."""
    return value.replace(" ", "-") if value and value.startswith("CC BY") else value


class Posts:
    """The target for a dump of posts: each <row> is a record in its attributes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._site = source.settings["site"] or site_of(source.file.path)

    def start(self, name: str, attributes: Mapping[str, str], position: int) -> None:
        """Turn a row into a record."""
        if name != "row":
            if name != "posts":
                told = f"<{name}> where a <row> should be"
                self._source.builder.reject(position, "invalid_xml", told)
            return
        if "PostTypeId" not in attributes and "Body" not in attributes:
            told = f"a row with neither PostTypeId nor Body: {', '.join(attributes)}"
            self._source.builder.reject(position, "invalid_xml", told)
            return
        body = attributes.get("Body", "")
        if len(body) > self._source.max_bytes:
            told = f"a body of {len(body):,} characters"
            self._source.builder.reject(position, "too_large", told)
            return
        text = plain_text(body)
        if isinstance(text, Problem):
            self._source.builder.reject(position, text.reason, text.detail)
        else:
            self._source.add(position, self._record(attributes, text))

    def end(self, name: str) -> None:
        """Do nothing: a row is complete when it opens."""

    def data(self, text: str) -> None:
        """Do nothing: rows have no content."""

    def _record(self, row: Mapping[str, str], text: str) -> dict[str, Any]:
        kind = row.get("PostTypeId", "")
        record: dict[str, Any] = {
            "text": text,
            "id": row.get("Id"),
            "license": _spdx(row.get("ContentLicense")),
            "timestamp": row.get("CreationDate"),
            "kind": _KINDS.get(kind, kind),
        }
        if self._site and row.get("Id") and kind in _WAYS:
            record["url"] = f"https://{self._site}/{_WAYS[kind]}/{row['Id']}"
        if row.get("Title"):
            record["title"] = row["Title"]
        if row.get("Tags"):
            record["tags"] = _tags(row["Tags"])
        for column, name in _NUMBERS.items():
            value = row.get(column)
            if value:
                exact = len(value) <= 18 and value.lstrip("-").isdecimal() and value.isascii()
                record[name] = int(value) if exact else value
        record.update({name: row[column] for column, name in _WORDS.items() if row.get(column)})
        return record


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the posts of a dump; the position of one is the byte where its row begins.

    Raises:
        UnreadableFileError: behind the rows before the damage.
    """
    source = Source(part.file, options, OPTIONS, FIELDS)
    return read_xml(source, opener, {"posts": Posts})


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first record of the dump."""
    return first_record(read(Slice(file), opener, options))


READER = Reader(
    name="stackexchange",
    suffixes=(),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=OPTIONS,
)

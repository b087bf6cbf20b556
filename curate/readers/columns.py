"""Which column is the text, the key, the url, the licence; everything else becomes `meta`.

The recipe's `columns:` says so once for every format. A column that the recipe names must exist;
the defaults `text`, `id`, `url`, `license` apply when it says nothing, and only `text` must exist.

>>> Columns.from_options({"columns": {"text": ["question", "answer"], "key": None}}).text
('question', 'answer')
"""

import datetime
import email.utils
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from curate.corpus.errors import InputError, did_you_mean, one_of

__all__ = [
    "Columns",
    "Problem",
    "Row",
    "as_json",
    "as_timestamp",
    "map_record",
    "scalar_text",
    "text_of",
]

_SINGLE = ("media", "key", "url", "license", "timestamp")
_LONGEST_DATE = 64
_FIELDS = ("text", "media", "key", "url", "license", "timestamp", "meta")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The mapping from a source's columns to a document's fields.

    Attributes:
        text: the text column, or several whose parts are joined with one newline.
        joined: the recipe gave a list, so null parts are skipped and numbers become text.
        media: the column with the bytes of an image or a sound; None: found by its name.
        key, url, license, timestamp: column names; None: there is none.
        meta: the columns that go to `meta`; None: all that are not mapped.
        named: the columns that the recipe itself names, which therefore must exist.
    """

    text: tuple[str, ...] = ("text",)
    joined: bool = False
    media: str | None = None
    key: str | None = "id"
    url: str | None = "url"
    license: str | None = "license"
    timestamp: str | None = "timestamp"
    meta: tuple[str, ...] | None = None
    named: frozenset[str] = frozenset({"text"})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Columns":
        """Read the `columns` option: a mapping, or just the text column(s).

        Raises:
            InputError: an unknown field, or a name that is not a string.
        """
        given = options.get("columns") or {}
        if isinstance(given, (str, list, tuple)):
            given = {"text": given}
        if not isinstance(given, Mapping):
            raise InputError(f"columns is {given!r}; write a mapping such as {{text: body}}.")
        for name in given:
            if name not in _FIELDS:
                raise InputError(one_of("field in columns", str(name), _FIELDS))
        text = given.get("text", "text")
        joined = isinstance(text, (list, tuple))
        texts = tuple(text) if joined else (text,)
        if not texts or not all(isinstance(name, str) and name for name in texts):
            raise InputError(f"columns.text is {text!r}; give a column name or a list of them.")
        single = {name: given[name] for name in _SINGLE if name in given}
        for name, column in single.items():
            if column is not None and not (isinstance(column, str) and column):
                raise InputError(f"columns.{name} is {column!r}; give a column name, or null.")
        meta = given.get("meta")
        if meta is not None and not (
            isinstance(meta, (list, tuple)) and all(isinstance(name, str) for name in meta)
        ):
            raise InputError(f"columns.meta is {meta!r}; give a list of column names, or null.")
        return cls(
            text=texts,
            joined=joined,
            meta=None if meta is None else tuple(meta),
            named=frozenset(
                [
                    *(
                        () if "of" in options and "text" not in given else texts
                    ),  # captions may lack
                    *filter(None, single.values()),
                    *(meta or ()),
                ]
            ),
            **single,
        )

    def require(self, names: Collection[str], where: str) -> None:
        """Check that every column the recipe names is one of `names`.

        Raises:
            InputError: names the missing column, the columns there are, and the nearest.
        """
        for column in sorted(self.named):
            if column not in names:
                raise self.missing(column, names, where)

    def missing(self, column: str, names: Collection[str], where: str) -> InputError:
        """Build the error for a column that is not there."""
        shown = ", ".join(sorted(names)[:40]) or "none"
        hint = did_you_mean(column, names)
        todo = " Say which one holds the text: columns: {text: NAME}." if column == "text" else ""
        return InputError(
            f"{where} has no column {column!r}; its columns are: {shown}.{hint}{todo}"
        )

    @cached_property
    def mapped(self) -> frozenset[str]:
        """The columns that a field of the document takes."""
        single = (self.media, self.key, self.url, self.license, self.timestamp)
        return frozenset([*self.text, *filter(None, single)])

    def meta_of(self, names: Collection[str]) -> list[str]:
        """Return the columns among `names` that go to meta, sorted."""
        if self.meta is not None:
            return sorted(set(self.meta) & set(names))
        return sorted(set(names) - self.mapped)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record has no text."""

    reason: str
    detail: str


def _default(value: object) -> object:
    """Turn what JSON has no word for into text; bytes are left out, with their length told."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple):
        return list(value)
    return str(value)


def as_json(value: object) -> str:
    """Return compact JSON: sorted keys, NaN as null, dates in ISO format, bytes as their length.

    Raises:
        TypeError: nested too deeply (orjson stops at 254 levels).

    >>> as_json({"b": float("nan"), "a": b"xyz"})
    '{"a":"<3 bytes>","b":null}'
    """
    return orjson.dumps(value, default=_default, option=orjson.OPT_SORT_KEYS).decode()


def scalar_text(value: object) -> str | None:
    """Return a value as the text of a key, url or licence; an empty one is none.

    >>> scalar_text(12), scalar_text(1.5), scalar_text(""), scalar_text(b"ab")
    ('12', '1.5', None, '6162')
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bytes):
        return value.hex() or None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = as_json(value)
    return None if text == "null" else text


def _part(value: object) -> str | Problem:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return scalar_text(value) or ""
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "\n".join(filter(None, value))
    return Problem("text_not_string", f"a text column holds {type(value).__name__}")


def text_of(columns: Columns, record: Mapping[str, Any]) -> str | Problem:
    """Return the record's text, or why it has none."""
    if not columns.joined:
        text = record.get(columns.text[0])
        if isinstance(text, str) and text:
            return text
        if text is None or text == "":
            state = "is missing" if columns.text[0] not in record else "is null"
            return Problem("no_text", f"{columns.text[0]} {'is empty' if text == '' else state}")
        return Problem(
            "text_not_string", f"{columns.text[0]} is {type(text).__name__}, not a string"
        )
    parts = []
    for name in columns.text:
        part = _part(record.get(name))
        if isinstance(part, Problem):
            return Problem(part.reason, f"{name}: {part.detail}")
        if part:
            parts.append(part)
    return "\n".join(parts) or Problem("no_text", f"nothing in {', '.join(columns.text)}")


class Row(NamedTuple):
    """A document as a reader gives it; see RECORDS for the fields."""

    text: str
    key: str | None = None
    url: str | None = None
    license: str | None = None
    timestamp: str | None = None
    meta: str | None = None


def as_timestamp(value: object) -> str | None:
    """Return a date or time as ISO 8601 in UTC, to the second; None if it is none.

    A time without a zone is taken as UTC, a date as its midnight.

    >>> as_timestamp("2020-01-02T03:04:05+01:00"), as_timestamp("Thu, 02 Jan 2020 03:04:05 GMT")
    ('2020-01-02T02:04:05Z', '2020-01-02T03:04:05Z')
    """
    moment: datetime.datetime | None = None
    if isinstance(value, datetime.datetime):
        moment = value
    elif isinstance(value, datetime.date):
        moment = datetime.datetime(value.year, value.month, value.day)
    elif isinstance(value, str) and 8 <= len(value) <= _LONGEST_DATE:
        moment = _moment(value.strip())
    if moment is None:
        return None
    try:
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return zoned.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (OverflowError, ValueError):  # the year 1 east of Greenwich
        return None


def _moment(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def map_record(
    columns: Columns, record: dict[str, Any], *, captioned: bool = True
) -> Row | Problem:
    """Map one record to a row, or say why it cannot be; without `captioned` it needs no text."""
    text = text_of(columns, record)
    if isinstance(text, Problem) and text.reason == "no_text" and not captioned:
        text = ""
    if isinstance(text, Problem):
        return text
    try:
        rest = {name: record[name] for name in columns.meta_of(record)}
        stated = record.get(columns.timestamp) if columns.timestamp else None
        timestamp = as_timestamp(stated)
        if timestamp is None and stated is not None and columns.meta is None:
            rest[str(columns.timestamp)] = stated  # what cannot be read as a time is not lost
        return Row(
            text,
            scalar_text(record.get(columns.key)) if columns.key else None,
            scalar_text(record.get(columns.url)) if columns.url else None,
            scalar_text(record.get(columns.license)) if columns.license else None,
            timestamp,
            as_json(rest) if rest else None,
        )
    except TypeError:
        return Problem("invalid_json", "nested more than 254 levels deep")

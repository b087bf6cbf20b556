"""MediaWiki XML dumps: every page is a document, its last revision as plain text.

The page's id is the key, its address comes from the site's own address and the title. A redirect
is a document too, so that what a dump holds can be counted; `meta` says so, and rules may drop it.

>>> url_of("https://en.wikipedia.org/wiki/Main_Page", "A b?")
'https://en.wikipedia.org/wiki/A_b%3F'
"""

import re
import urllib.parse
from collections.abc import Iterator, Mapping
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
from curate.readers.wikitext import ENGLISH_NAMESPACES, plain_text
from curate.readers.xml_stream import Source, first_record, read_xml

__all__ = ["FIELDS", "OPTIONS", "READER", "Pages", "url_of"]

OPTIONS = {
    "markup": Option(False, "MediaWiki: keep the wikitext as it is instead of plain text"),
}

FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp"}
    | {"title", "namespace", "revision", "redirect", "model"}
)

_FILES_AND_CATEGORIES = ("6", "14")
# The word is another one in each language, but written in capitals; a list is not.
_REDIRECT = re.compile(r"\s{0,9}#([^\W\d]{2,40})\s{0,9}:?\s{0,9}\[\[([^\[\]|#]{1,300})")
_FIELDS = {
    ("mediawiki", "siteinfo", "base"): "base",
    ("mediawiki", "siteinfo", "sitename"): "site",
    ("mediawiki", "siteinfo", "license"): "license",
    ("mediawiki", "siteinfo", "rights"): "license",
    ("mediawiki", "siteinfo", "namespaces", "namespace"): "namespace_name",
    ("mediawiki", "page", "title"): "title",
    ("mediawiki", "page", "ns"): "namespace",
    ("mediawiki", "page", "id"): "id",
    ("mediawiki", "page", "revision", "id"): "revision",
    ("mediawiki", "page", "revision", "timestamp"): "timestamp",
    ("mediawiki", "page", "revision", "model"): "model",
    ("mediawiki", "page", "revision", "text"): "text",
}
_OF_REVISION = ("revision", "timestamp", "model", "text", "deleted")
_MAX_WIKITEXT = 4 << 20  # characters; MediaWiki itself takes half of that
_MAX_FIELD = 10_000  # characters of a title or a date


def url_of(base: str, title: str) -> str | None:
    """Return a page's address from that of the main page; None if that is no address."""
    stem, slash, _ = base.rpartition("/")
    if not slash or "://" not in stem:
        return None
    return f"{stem}/{urllib.parse.quote(title.replace(' ', '_'), safe='/:@!$*(),;~')}"


class Pages:
    """The target for a dump of pages."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._path: list[str] = []
        self._site: dict[str, str] = {}
        self._namespaces = set(ENGLISH_NAMESPACES)
        self._namespace = ""
        self._page: dict[str, Any] = {}
        self._position = 0
        self._field: str | None = None
        self._pieces: list[str] = []
        self._length = 0

    def start(self, name: str, attributes: Mapping[str, str], position: int) -> None:
        """Note where we are, and which field begins here."""
        self._path.append(name)
        place = tuple(self._path[:6])
        if place == ("mediawiki", "page"):
            self._page = {}
            self._position = position
        elif len(place) == 2 and name != "siteinfo":
            told = f"<{name}> where a <page> should be"
            self._source.builder.reject(position, "invalid_xml", told)
        elif place == ("mediawiki", "page", "redirect"):
            self._page["redirect"] = attributes.get("title", "")
        elif place == ("mediawiki", "page", "revision"):
            for field in _OF_REVISION:
                self._page.pop(field, None)
        self._field = _FIELDS.get(place)
        self._pieces = []
        self._length = 0
        if self._field == "namespace_name":
            self._namespace = attributes.get("key", "")
        elif self._field == "text" and "deleted" in attributes:
            self._page["deleted"] = True

    def data(self, text: str) -> None:
        """Collect the open field's characters, as many as may be kept."""
        if self._field is None:
            return
        self._length += len(text)
        limit = self._source.max_bytes if self._field == "text" else _MAX_FIELD
        if self._length <= limit:
            self._pieces.append(text)
        else:
            self._pieces = []

    def end(self, name: str) -> None:
        """Store the field that ends here, or add the page that does."""
        field, self._field = self._field, None
        if field is not None:
            self._store(field, "".join(self._pieces))
            self._pieces = []
        if len(self._path) == 2 and name == "page":
            self._add()
        self._path.pop()

    def _store(self, field: str, value: str) -> None:
        if field == "namespace_name":
            if self._namespace in _FILES_AND_CATEGORIES and value:
                self._namespaces.add(value.lower())
        elif field in ("base", "site", "license"):
            self._site[field] = value
        else:
            self._page[field] = value
            if field == "text":
                self._page["length"] = self._length

    def _add(self) -> None:
        page, self._page = self._page, {}
        builder = self._source.builder
        title = page.get("title", "")
        length = page.pop("length", 0)
        limit = self._source.max_bytes
        if page.get("model", "wikitext") == "wikitext" and not self._source.settings["markup"]:
            limit = min(limit, _MAX_WIKITEXT)
        if length > limit:
            told = f"the page {title!r} has {length:,} characters"
            builder.reject(self._position, "too_large", told)
            return
        if "text" not in page:
            what = "was deleted" if page.get("deleted") else "has no text"
            builder.reject(self._position, "no_text", f"the page {title!r} {what}")
            return
        self._source.add(self._position, self._record(page))

    def _record(self, page: dict[str, Any]) -> dict[str, Any]:
        text = page.pop("text")
        title = page.get("title", "")
        model = page.pop("model", "wikitext") or "wikitext"
        if not page.get("redirect"):
            page.pop("redirect", None)
            match = _REDIRECT.match(text[:400]) if model == "wikitext" else None
            if match and match[1].upper() in (match[1], "REDIRECT"):
                page["redirect"] = match[2].strip()
        if model != "wikitext":
            page["model"] = model
        elif self._source.settings["markup"]:
            pass
        elif "redirect" in page:
            text = f"Redirect to {page['redirect']}"
        else:
            text = plain_text(text, frozenset(self._namespaces))
        namespace = page.get("namespace", "")
        if namespace.removeprefix("-").isdecimal() and len(namespace) < 10:
            page["namespace"] = int(namespace)
        return page | {
            "text": text,
            "url": url_of(self._site.get("base", ""), title) if title else None,
            "license": self._site.get("license") or None,
        }


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the pages of a dump; the position of one is the byte where it begins.

    Raises:
        UnreadableFileError: behind the pages before the damage.
    """
    source = Source(part.file, options, OPTIONS, FIELDS)
    return read_xml(source, opener, {"mediawiki": Pages})


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first record of the dump."""
    return first_record(read(Slice(file), opener, options))


READER = Reader(
    name="mediawiki",
    suffixes=(),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=OPTIONS,
)

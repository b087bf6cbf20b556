"""From the bytes of a web page to its text, and what the page says about itself.

The text is what resiliparse calls main content, less the lines that `boilerplate` finds. Nothing is
guessed that the page states: encoding (byte order mark, HTTP, meta element), language, canonical
address, licence, date. A page that is made to be expensive (nesting, tags, attributes) is refused
by counts alone, hence the same way on every machine.

>>> page = b"<html lang=en><title>Bees</title><p>Bees make honey in their hives.</p>"
>>> found = extract(page)
>>> found.text, found.title, found.language
('Bees make honey in their hives.', 'Bees', 'en')
"""

import codecs
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urljoin, urlsplit

from curate.readers.boilerplate import likely_language, with_hidden_prose, without_boilerplate
from curate.readers.columns import Problem, as_timestamp

__all__ = ["MAX_HTML_BYTES", "Page", "decode", "extract", "licence_name"]

MAX_HTML_BYTES = 16 << 20  # the longest pages of books and specifications have about this much
_MAX_TAGS = 200_000
_MAX_DEPTH = 256  # browsers stop at 512; extraction is quadratic in the depth
_MAX_SEPARATORS = 10_000  # in one tag; the parser is quadratic in the number of attributes
_MAX_FORMATTING = 2_000_000  # formatting elements times tags: each may be opened again in each
_MAX_LINKS = 1000
_MAX_HREFS = 20_000  # that are looked at
_MAX_FIELD = 1000  # characters of a title, an address, a licence
_NUM_LICENSES = 5

# resiliparse 2.0.1 takes a lone character outside ASCII between two tags for decoration: a dash
# between two years, a Japanese particle between two links. An invisible neighbour saves it.
_PAD = "\ue000"
_LONE = re.compile(
    r"(>\s*(?:[^\x00-\x7f\s\xa9\xab\xb7\xbb\u2022\u200b-\u200f\u2026\u2039\u203a\u2190-\u21ff\u25a0-\u25ff\ue000]"
    r"|&(?!nbsp|#160|middot|bull|raquo|laquo|[lr]arr|hellip|copy)(?:#x?[0-9a-fA-F]{2,6}|[a-z]{2,8});))(?=\s*<)"
)
_LINK = re.compile(r"<a\s(?=[^<>]*\bhref)[^<>]*>(.{1,300}?)</a", re.IGNORECASE | re.DOTALL)
_HREF = re.compile(
    r"<a\s[^<>]*?\bhref\s{0,9}=\s{0,9}(?:\"([^\"<>]*)\"|'([^'<>]*)'|([^\s\"'<>]+))", re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]*>")
_SEPARATORS = re.compile(r"\s*[|\xb7\u2022,/\xab\xbb\u203a]\s*|\s{2,}")
_BULLET = re.compile(r"^\s*(?:[\u2022*\-]|\d{1,4}\.)\s+")
# Elements without meaning for plain text. The parser opens unclosed ones again in each block.
_FORMATTING = re.compile(
    r"</?(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])[^<>]*>", re.IGNORECASE
)
_FORMATTING_LEFT = re.compile(
    r"<(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\s/>]", re.IGNORECASE
)
_STRETCH = re.compile(r"[^>]{16384,}+|[^>]++")  # possessive: each character is seen once
_TAG_START = re.compile(r"<[a-zA-Z]")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,4}=\s{0,4}[\"']?([\w:.\-]{1,40})", re.I)
_XML_CHARSET = re.compile(
    rb"^\s{0,10}<\?xml[^>]{0,100}?encoding\s{0,4}=\s{0,4}[\"']([\w.\-]{1,40})"
)
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ONE_BYTE = ("cp125", "cp866", "cp874", "iso8859", "koi8", "mac")
_HIGH_BYTES = bytes(range(128, 256))
_CC_LICENSE = re.compile(
    r"creativecommons\.org/(?:licenses/([a-z\-]{2,10})/(\d\.\d)|publicdomain/(zero|mark)/(\d\.\d))",
    re.IGNORECASE,
)
_DATES = (  # names of meta elements, the moment of first publication before any other
    "article:published_time",
    "datepublished",
    "date",
    "dc.date",
    "dcterms.created",
    "dcterms.date",
    "pubdate",
    "article:modified_time",
    "last-modified",
)
_LICENSES = ("cc:license", "dcterms.license", "dc.rights.license", "dcterms.rights", "dc.rights")
_MAX_METAS = 500  # elements of the head that are looked at
_STATED = '[rel~="license"]{others}, [property="cc:license"]{others}'
_IN_BLOCK = '.license a[href*="licenses/"]{others}, .license a[href*="publicdomain/"]{others}'
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a web page says.

    Attributes:
        text: the main content, one line per paragraph, list item or row of a table.
        title, url, license, published: as the page states them; url is the canonical one,
            license an SPDX name where it is a Creative Commons address, published an ISO 8601 time.
        language: as the page states it, `en` or `pt-BR`.
        main_content: False if the text is the whole page, since main content was empty.
        links: absolute addresses of the links, in order, each once; None unless asked for.
        licenses: all licences that the page names, when there is more than one.
    """

    text: str
    title: str | None = None
    url: str | None = None
    license: str | None = None
    published: str | None = None
    language: str | None = None
    main_content: bool = True
    links: list[str] | None = None
    licenses: list[str] | None = None

    def meta(self) -> dict[str, Any]:
        """Return what has no column of its own, without what is not there."""
        found = {
            "title": self.title,
            "language": self.language,
            "links": self.links,
            "licenses": self.licenses,
            "main_content": None if self.main_content else False,
        }
        return {name: value for name, value in found.items() if value is not None}


def licence_name(said: str) -> str:
    """Return the SPDX name of a Creative Commons address, or what is said itself.

    >>> licence_name("http://creativecommons.org/licenses/by-sa/3.0/deed.de")
    'CC-BY-SA-3.0'
    >>> licence_name("https://creativecommons.org/publicdomain/zero/1.0/")
    'CC0-1.0'
    """
    found = _CC_LICENSE.search(said[:_MAX_FIELD])
    if found is None:
        return said[:_MAX_FIELD].strip()
    kind, version, domain, domain_version = found.groups()
    if kind:
        return f"CC-{kind.upper()}-{version}"
    return f"CC0-{domain_version}" if domain.lower() == "zero" else f"CC-PDM-{domain_version}"


def decode(data: bytes, charset: str | None = None) -> tuple[str, str]:
    r"""Return a page's characters and its encoding; what is no character becomes U+FFFD.

    Order: byte order mark, `charset` (as HTTP says), meta element, UTF-8 if it fits, detection.
    Any bytes fit a stated encoding of one byte per character, so UTF-8 is tried before those.

    >>> decode(b"<meta charset=latin1>caf\xe9")[1], decode(b"caf\xc3\xa9", "latin1")[1]
    ('cp1252', 'utf-8')
    """
    for mark, name in _BOMS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace"), name
    stated = [charset, *_stated_charsets(data[:4096])]
    codecs_stated = [codec for label in stated if (codec := _codec(label))]
    first = ["utf-8"] if codecs_stated and codecs_stated[0].startswith(_ONE_BYTE) else []
    for codec in [*first, *codecs_stated, "utf-8"]:
        try:
            return data.decode(codec), codec
        except ValueError:
            continue
    # A page with a few broken characters is what it says it is; one of broken characters is not.
    high = len(data) - len(data.translate(None, _HIGH_BYTES))
    for codec in codecs_stated[:1]:
        text = data.decode(codec, "replace")
        if 2 * text.count("\ufffd") < high:
            return text, codec
    from resiliparse.parse.encoding import detect_encoding

    codec = _codec(detect_encoding(data[: 1 << 17])) or "cp1252"
    return data.decode("cp1252" if codec == "utf-8" else codec, "replace"), codec


def _stated_charsets(head: bytes) -> Iterator[str]:
    for pattern in (_META_CHARSET, _XML_CHARSET):
        found = pattern.search(head)
        if found:
            name = found.group(1).decode("ascii", "replace")
            # A meta element that can be read as ASCII is not in UTF-16, whatever it says.
            yield "utf-8" if name.lower().startswith("utf-16") else name


def _codec(name: str | None) -> str | None:
    """Return Python's name for a charset as the web means it (WHATWG Encoding), None for none."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    known = map_encoding_to_html5(name.strip(), False) if name else None
    try:
        return codecs.lookup(known).name if known else None
    except LookupError:
        return None


def too_costly(html: str) -> Problem | None:
    """Return why a page is refused before it is parsed."""
    num_tags = html.count("<")
    if num_tags > _MAX_TAGS:
        return Problem("invalid_html", f"{num_tags:,} tags; at most {_MAX_TAGS:,} are read")
    for stretch in _STRETCH.finditer(html):
        start = _TAG_START.search(stretch.group())
        if start is not None and len(stretch.group()[start.start() :].split()) > _MAX_SEPARATORS:
            return Problem("invalid_html", f"a tag with more than {_MAX_SEPARATORS:,} attributes")
    left = len(_FORMATTING_LEFT.findall(html))
    if left * num_tags > _MAX_FORMATTING:
        return Problem("invalid_html", f"{left:,} formatting tags that hold another tag")
    return None


def extract(
    data: bytes,
    *,
    charset: str | None = None,
    base: str | None = None,
    main_content: bool = True,
    links: bool = False,
) -> Page | Problem:
    """Return what a page says, or why it cannot be read; never raises.

    Args:
        data: the page, at most MAX_HTML_BYTES of it.
        charset: what HTTP says about its encoding.
        base: the page's address, which relative addresses are relative to.
        main_content: leave out navigation, footers and the like; False: all text there is.
        links: collect the addresses of the links.
    """
    if len(data) > MAX_HTML_BYTES:
        return Problem("too_large", f"a page of {len(data):,} bytes; at most {MAX_HTML_BYTES:,}")
    if not data.strip():
        return Problem("no_text", "the page is empty")
    html, _ = decode(data, charset)
    if html.count("\0") > len(html) // 10:
        return Problem("not_text", "more than a tenth of it are null characters")
    html = _FORMATTING.sub("", html.replace(_PAD, ""))
    problem = too_costly(html)
    if problem is not None:
        return problem
    anchors = _anchors(html) if main_content else frozenset()
    try:
        return _page(_LONE.sub(r"\1" + _PAD, html), anchors, base, main_content, links)
    except (ValueError, RuntimeError, TypeError, RecursionError) as error:
        return Problem("invalid_html", f"the parser says: {error}")


def _anchors(html: str) -> frozenset[str]:
    """Return the texts of the page's links, white space collapsed."""
    found = {_TAG.sub("", text) for text in _LINK.findall(html)}
    return frozenset(" ".join(unescape(text).split()) for text in found)


def _page(
    html: str, anchors: frozenset[str], base: str | None, main_content: bool, links: bool
) -> Page | Problem:
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    document = tree.document
    if document is None:
        return Problem("no_text", "no element in it")
    if document.query_selector(">".join("*" * (_MAX_DEPTH + 1))) is not None:
        return Problem("invalid_html", f"nested more than {_MAX_DEPTH} levels deep")
    metas = _metas(tree)
    language = _language(document, metas)
    text = _main_text(tree, anchors, language) if main_content else ""
    whole = (
        not text.strip()
    )  # nothing was recognised as content: the page is short, or a list of links
    text = _plain_text(tree, False) if whole else text
    if not text.strip():
        return Problem("no_text", "no text on the page")
    licenses = _licenses(document, metas, base)
    return Page(
        text=text,
        title=_clean(tree.title),
        url=_canonical(document, metas, base),
        license=_the_license(licenses),
        licenses=licenses if len(licenses) > 1 else None,
        published=_published(document, metas),
        language=language,
        main_content=not (main_content and whole),
        links=_links(html, base) if links else None,
    )


def _metas(tree: Any) -> dict[str, str]:
    """Return what the meta elements of the head say, by name in lower case; the first one counts.

    From sibling to sibling: resiliparse's lists of elements search anew for each of their items.
    """
    found: dict[str, str] = {}
    element = tree.head.first_element_child if tree.head is not None else None
    for _ in range(_MAX_METAS):
        if element is None:
            break
        if element.tag == "meta":
            name = _attribute(element, "property", "name", "itemprop", "http-equiv")
            said = _attribute(element, "content")
            if name and said:
                found.setdefault(name.lower(), said)
        element = element.next_element_sibling
    return found


def _plain_text(tree: Any, main_content: bool) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        tree, preserve_formatting=True, main_content=main_content, alt_texts=False
    )
    return text.replace(_PAD, "").strip("\n")


def _main_text(tree: Any, anchors: frozenset[str], language: str | None) -> str:
    """Return the main content of a page without boilerplate."""
    main = _plain_text(tree, True).split("\n")
    primary = (language or likely_language("\n".join(main))).split("-")[0]
    found = with_hidden_prose(main, _plain_text(tree, False).split("\n"), primary)
    lines = [(line.rstrip(), _linked(line, anchors)) for line in found]
    return "\n".join(without_boilerplate(lines, primary, _clean(tree.title))).strip("\n")


def _linked(line: str, anchors: frozenset[str]) -> int:
    """Return how many characters of a line are links: all of it, or pieces between separators."""
    if not line:
        return 0
    text = " ".join(line.split())
    if text in anchors or " ".join(_BULLET.sub("", line).split()) in anchors:
        return len(line.strip())
    return sum(len(piece) for piece in _SEPARATORS.split(text) if piece in anchors)


def _clean(value: str | None, most: int = _MAX_FIELD) -> str | None:
    """Return a short text on one line, None if it is empty."""
    if not value:
        return None
    return " ".join(value[:most].replace(_PAD, "").split()) or None


def _language(document: Any, metas: Mapping[str, str]) -> str | None:
    """Return the language that the page states, as `en` or `pt-BR`."""
    for selector in ("html", "body", "[lang]"):
        element = document.query_selector(selector)
        said = _attribute(element, "lang", "xml:lang") if element is not None else None
        if said and _LANGUAGE.fullmatch(said):
            return _tag(said)
    said = metas.get("content-language", "")
    return _tag(said) if _LANGUAGE.fullmatch(said) else None


def _tag(said: str) -> str:
    first, *rest = said.replace("_", "-").split("-")
    return "-".join([first.lower(), *rest])


def _attribute(element: Any, *names: str) -> str | None:
    return next((said for name in names if (said := _clean(element.getattr(name)))), None)


def _canonical(document: Any, metas: Mapping[str, str], base: str | None) -> str | None:
    element = document.query_selector('link[rel~="canonical"]')
    said = _attribute(element, "href") if element is not None else None
    url = _absolute(said, base) if said else None
    return url or _absolute(metas.get("og:url", ""), base)


def _absolute(said: str, base: str | None) -> str | None:
    """Return a web address, None for what is none."""
    if not said:
        return None
    try:
        url = urljoin(base or "", said.strip())
        return url if urlsplit(url).scheme in ("http", "https") and len(url) <= 2000 else None
    except ValueError:
        return None


def _licenses(document: Any, metas: Mapping[str, str], base: str | None) -> list[str]:
    """Return the licences that the page names by rel=license, by metadata, or else by a block.

    A block is an element of the class license; only Creative Commons addresses count there, since
    it may link to anything.
    """
    stated = list(dict.fromkeys(map(licence_name, _addresses(document, _STATED, base))))
    said = next((metas[name] for name in _LICENSES if name in metas), None)
    if stated or said:
        return stated or [licence_name(said or "")]
    linked = filter(_CC_LICENSE.search, _addresses(document, _IN_BLOCK, base))
    return list(dict.fromkeys(map(licence_name, linked)))


def _addresses(document: Any, selector: str, base: str | None) -> Iterator[str]:
    """Yield the first few different addresses of some elements, relative ones as absolute."""
    others = ""  # the next element is the first that has none of the addresses seen
    for _ in range(_NUM_LICENSES):
        try:
            element = document.query_selector(selector.format(others=others))
        except ValueError:  # an address with characters that no selector can hold
            break
        if element is None:
            break
        for name in ("href", "resource", "content"):
            value = element.getattr(name)
            if value and len(value) <= _MAX_FIELD:
                quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\a ")
                others += f':not([{name}="{quoted}"])'
                # A content is words, or an address that is whole.
                yield value if name == "content" else _absolute(value, base) or value
                break
        else:
            break


def _the_license(licenses: Sequence[str]) -> str | None:
    """Return the one licence, or the one from Creative Commons among addresses of explanations."""
    known = [name for name in licenses if not name.startswith(("http:", "https:", "/", "#"))]
    chosen = known or licenses
    return chosen[0] if len(chosen) == 1 else None


def _published(document: Any, metas: Mapping[str, str]) -> str | None:
    said = [metas[name] for name in _DATES if name in metas]
    element = document.query_selector("time[datetime]")
    if element is not None:
        said.append(_attribute(element, "datetime") or "")
    return next((moment for date in said if (moment := as_timestamp(date))), None)


def _links(html: str, base: str | None) -> list[str]:
    found: dict[str, None] = {}
    for match in itertools.islice(_HREF.finditer(html), _MAX_HREFS):
        said = unescape(match.group(1) or match.group(2) or match.group(3) or "").strip()
        url = _absolute(said, base) if said and not said.startswith("#") else None
        if url is not None:
            found[url.partition("#")[0]] = None
        if len(found) == _MAX_LINKS:
            break
    return list(found)

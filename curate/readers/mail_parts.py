r"""A mail's bytes become headers, text and the names of attachments; nothing else is decoded.

The tree of parts is walked here, level by level and at most a few levels deep, since a parser that
follows every boundary a hostile mail declares takes a time that grows with depth times length.

>>> mail = read_mail(b"From: Ann <a@b.c>\r\nSubject: =?utf-8?q?Tea=3F?=\r\n\r\nYes or no?\r\n")
>>> mail.headers["subject"], mail.plain
('Tea?', ['Yes or no?\n'])
"""

import binascii
import codecs
import email.errors
import email.header
import email.message
import email.parser
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["InvalidMail", "Mail", "read_mail"]

_MAX_HEAD = 1 << 18
_MAX_HEADER = 10_000  # characters of one header that are looked at
_MAX_DEPTH = 20
_MAX_PARTS = 1_000
_FIELD = re.compile(rb"[!-9;-~]{1,200}[ \t]{0,9}:")
_NEWLINES = re.compile(rb"\r\n?")
_HEAD_END = re.compile(rb"\n\r?\n|\r\r")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_WORDS = re.compile(r"=\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]{0,5000}\?=")
# Codecs of Python's that are no charset of a text, or take more than linear time.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})


class InvalidMail(ValueError):
    """The bytes are no mail that can be read."""


@dataclass(slots=True)
class Mail:
    """What a mail holds.

    Attributes:
        headers: the first header of each name (lower case), decoded.
        plain, html: the texts of the parts that are shown, in order.
        attachments: the names (or types) of the parts that are not.
        notes: what was not as declared; each once.
    """

    headers: dict[str, str] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_parts: int = 0

    def note(self, what: str) -> None:
        """Remember something that was not as declared."""
        if what not in self.notes and len(self.notes) < 20:
            self.notes.append(what)


_Head = email.message.Message
_Texts = list[tuple[str, str]]  # ("plain" or "html", text)


def read_mail(data: bytes) -> Mail:
    """Read one mail.

    Raises:
        InvalidMail: no header line at the beginning, or parts nested more than 20 levels deep.
    """
    mail = Mail()
    head, body = _split(data)
    for name, value in _headers(head):
        mail.headers.setdefault(name, value)
    for kind, text in _texts(mail, head, body, 0, "text/plain"):
        (mail.plain if kind == "plain" else mail.html).append(text)
    return mail


def _split(data: bytes, is_part: bool = False) -> tuple[_Head, bytes]:
    """Return the parsed headers and the body behind the first blank line."""
    if is_part and data.startswith((b"\n", b"\r\n")):
        return email.message.Message(), data.partition(b"\n")[2]
    if not is_part and not _FIELD.match(data):
        raise InvalidMail("it does not begin with a header line")
    end = _HEAD_END.search(data, 0, _MAX_HEAD)
    if end is None and len(data) > _MAX_HEAD:
        raise InvalidMail(f"its headers are longer than {_MAX_HEAD:,} bytes")
    head = data[: end.start()] if end else data
    body = data[end.end() :] if end else b""
    lines = _NEWLINES.sub(b"\n", head)
    if is_part and not _FIELD.match(lines):
        return email.message.Message(), data  # no headers at all: text that stands between
    parser = email.parser.BytesHeaderParser(policy=email.policy.compat32)
    fields, early = _until_text(lines)
    parsed = parser.parsebytes(fields + b"\n\n")
    if early:
        body = early + b"\n\n" + body
    for name, value in list(parsed.raw_items()):
        if len(value) > _MAX_HEADER:  # what looks into a header's parameters is not linear
            del parsed[name]
            parsed[name] = value[:_MAX_HEADER]
    return parsed, body


def _until_text(lines: bytes) -> tuple[bytes, bytes]:
    """Cut headers at a line that is none: there the body begins without a blank line."""
    at = 0
    while at < len(lines):
        if lines[at : at + 1] not in b" \t" and not _FIELD.match(lines, at):
            return lines[:at], lines[at:]
        end = lines.find(b"\n", at)
        at = len(lines) if end < 0 else end + 1
    return lines, b""


def _headers(head: _Head) -> Iterator[tuple[str, str]]:
    for name, value in head.raw_items():
        yield name.lower(), _decoded_header(str(value))


def _decoded_header(value: str) -> str:
    """Return a header as people read it: encoded words decoded, folds undone."""
    raw = value.encode("ascii", "surrogateescape") if value.isascii() or _escaped(value) else None
    if raw is not None:
        value = _decode(raw, "utf-8")[0]
    if _WORDS.search(value):
        value = re.sub(r"(\?=)\s{1,80}(?==\?)", r"\1", value)  # white space between two is none
        value = _WORDS.sub(_decoded_word, value)
    return " ".join(value.split())


def _escaped(value: str) -> bool:
    return all(ord(c) < 128 or 0xDC80 <= ord(c) <= 0xDCFF for c in value)


def _decoded_word(match: re.Match[str]) -> str:
    try:
        [(data, charset)] = email.header.decode_header(match[0])
    except (ValueError, email.errors.HeaderParseError):
        return match[0]
    if isinstance(data, str):
        return data
    return _decode(data, charset or "ascii")[0]


def _decode(data: bytes, charset: str) -> tuple[str, str]:
    """Return the text and the charset that it was decoded by: as declared, else what fits."""
    try:
        found = codecs.lookup(charset)
        name = found.name.replace("-", "_")
        usable = name not in _NO_CHARSETS and getattr(found, "_is_text_encoding", False)
    except (LookupError, ValueError):
        usable = False
    for name in ([charset] if usable else []) + ["utf-8"]:
        try:
            text = data.decode(name)
            text.encode()  # UTF-7 can hide half a character
            return text, name
        except (UnicodeError, ValueError):
            pass
    return data.decode("latin-1"), "latin-1"


def _texts(mail: Mail, head: _Head, body: bytes, depth: int, usual: str) -> _Texts:
    """Return the texts of a part and of what it contains; the rest is noted in the mail."""
    if depth > _MAX_DEPTH:
        raise InvalidMail(f"its parts are nested more than {_MAX_DEPTH} levels deep")
    mail.num_parts += 1
    if mail.num_parts > _MAX_PARTS:
        mail.note(f"only the first {_MAX_PARTS:,} parts were read")
        return []
    kind = head.get_content_type() if "content-type" in head else usual
    if kind.startswith("multipart/"):
        return _multipart(mail, head, body, depth, kind)
    if kind == "message/rfc822" and not _is_attachment(head):
        inner, rest = _split(_transferred(mail, head, body).lstrip(b"\r\n"), is_part=True)
        mail.note("holds another mail")
        return _texts(mail, inner, rest, depth + 1, "text/plain")
    if kind not in ("text/plain", "text/html") or _is_attachment(head):
        mail.attachments.append(_name(head) or kind)
        return []
    declared = _parameter(head, "charset") or "us-ascii"
    text, used = _decode(_transferred(mail, head, body), declared)
    if used != declared and not (declared.lower() in ("us-ascii", "ascii") and used == "utf-8"):
        mail.note(f"charset {declared[:40]} read as {used}")
    return [(kind.removeprefix("text/"), text.replace("\r\n", "\n").replace("\r", "\n"))]


def _multipart(mail: Mail, head: _Head, body: bytes, depth: int, kind: str) -> _Texts:
    boundary = _parameter(head, "boundary")
    if not boundary:
        mail.note("a multipart without a boundary")
        return [("plain", _decode(body, "utf-8")[0])]
    usual = "message/rfc822" if kind == "multipart/digest" else "text/plain"
    choices: list[_Texts] = []
    for part in _parts(mail, body, boundary.encode("utf-8", "surrogateescape")):
        inner, rest = _split(part, is_part=True)
        choices.append(_texts(mail, inner, rest, depth + 1, usual))
        if mail.num_parts > _MAX_PARTS:
            break
    if kind != "multipart/alternative":
        return [text for choice in choices for text in choice]
    filled = [choice for choice in choices if any(text.strip() for _, text in choice)]
    plain = [choice for choice in filled if any(kind == "plain" for kind, _ in choice)]
    return next(iter(plain or filled), [])


def _parts(mail: Mail, body: bytes, boundary: bytes) -> Iterator[bytes]:
    """Yield what stands between the lines of a boundary; a mail cut short ends its last part."""
    line = re.compile(rb"(?:^|\n)--" + re.escape(boundary[:200]) + rb"(--)?[ \t]{0,80}\r?(?=\n|\Z)")
    begin = -1
    for match in line.finditer(body):
        if begin >= 0:
            yield body[begin : match.start()].removesuffix(b"\r")
        begin = match.end() + 1
        if match[1]:
            return
    if begin < 0:
        mail.note("a multipart whose boundary does not occur")
        yield b"\n" + body
    else:
        mail.note("a multipart that does not end")
        yield body[begin:]


def _parameter(head: _Head, name: str) -> str:
    """Return a parameter of the content type, "" if there is none that can be read."""
    try:
        value = head.get_param(name, "")
    except (ValueError, LookupError, TypeError):
        return ""
    text = str(value[2]) if isinstance(value, tuple) else str(value)
    return text.strip().strip('"').strip()


def _is_attachment(head: _Head) -> bool:
    return (head.get_content_disposition() or "") == "attachment"


def _name(head: _Head) -> str:
    try:
        name = head.get_filename("")
    except (ValueError, LookupError, TypeError):
        return ""
    return _decoded_header(str(name))[:200]


def _transferred(mail: Mail, head: _Head, body: bytes) -> bytes:
    """Return a part's content without its transfer encoding."""
    how = str(head.get("content-transfer-encoding", "")).strip().lower()
    if how == "quoted-printable":
        return binascii.a2b_qp(body)
    if how == "base64":
        letters, _, rest = body.partition(b"=")  # the footer of a list may stand behind the end
        letters = _NOT_BASE64.sub(b"", letters)
        if rest.strip(b"= \t\r\n"):
            mail.note("left out what stands behind the end of base64")
        if len(letters) % 4 == 1:
            letters = letters[:-1]
            mail.note("base64 that was cut short")
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
    if how not in ("", "7bit", "8bit", "binary"):
        mail.note(f"transfer encoding {how[:40]} left as it is")
    return body

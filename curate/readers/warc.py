r"""Web archives: the pages of a WARC file, and what the other records say is not lost but no page.

Records are framed here, their headers are read by fastwarc: its own iterator ends without a word
where a file is cut short, and gives up at the first damaged record. A damaged record is a reject,
and reading goes on at the next `WARC/` line. Responses and resources become documents; requests,
metadata, warcinfo, revisits and DNS answers are none and are passed by.

The position is the record's offset in the decompressed bytes. The key is WARC-Record-ID: the target
address would be the same for two visits of one page, which are two documents.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

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
from curate.readers.columns import Problem, Row, as_json, as_timestamp
from curate.readers.html_text import Page, decode, extract
from curate.readers.http_body import decoded_body

__all__ = ["OPTIONS", "READER", "Frame", "frames", "read"]

_CHUNK_BYTES = 1 << 20
_LINE_BYTES = 1 << 14
_HEADER_BYTES = 1 << 16
_MAX_RETURNED = 1 << 30  # a file of nothing but wrong lengths is read in linear time
_LENGTH = re.compile(
    rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_NAMES = {name.lower(): name for name in (b"WARC-Type", b"Content-Type", b"Content-Length")}
_SPELLED = re.compile(rb"^(warc-type|content-type|content-length)[ \t]*:", re.I | re.MULTILINE)
_NEXT = re.compile(rb"\r?\n\r?\n(?=WARC/[01]\.\d{1,2}\r?\n)")
_HTML = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")
_NO_DOCUMENTS = ("warcinfo", "request", "metadata", "revisit")
_ERRORS = (OSError, ValueError, RuntimeError)

OPTIONS = {
    "main_content": Option(True, "leave out navigation, footers, cookie banners"),
    "links": Option(False, "keep the addresses that a page links to, in meta"),
    "verify_digests": Option(True, "refuse records whose WARC-Block-Digest does not fit"),
    "truncated": Option(False, "keep pages that the crawler itself has cut (WARC-Truncated)"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One record as it lies in the file, or a stretch of bytes that is none.

    Attributes:
        position: offset in the decompressed bytes.
        head: the header block, from `WARC/` to the blank line; empty for what is no record.
        body: the block; None where it was passed over because it is too long, or is damaged.
        length: the length of the block as the header says, or of the stretch.
        problem: why there is no whole record here.
    """

    position: int
    head: bytes
    body: bytes | None
    length: int
    problem: Problem | None = None


class _Source:
    """A stream that knows its offset, and that takes back what was read too far."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._back = b""  # taken back, from _at on
        self._at = 0
        self.position = 0
        self.num_returned = 0

    def read(self, count: int) -> bytes:
        taken = self._back[self._at : self._at + count]
        self._at += len(taken)
        if len(taken) < count:
            taken += self._stream.read(count - len(taken))
        self.position += len(taken)
        return taken

    def readline(self, most: int = _LINE_BYTES) -> bytes:
        end = self._back.find(b"\n", self._at, self._at + most)
        if end >= 0:
            return self.read(end + 1 - self._at)
        taken = self._back[self._at : self._at + most]
        self._at += len(taken)
        if len(taken) < most:
            taken += self._stream.readline(most - len(taken))
        self.position += len(taken)
        return taken

    def skip(self, count: int) -> int:
        """Pass over up to `count` bytes, holding few of them; return how many there were."""
        left = count
        while left and (chunk := self.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
        return count - left

    def unread(self, data: bytes) -> None:
        self._back, self._at = data + self._back[self._at :], 0
        self.position -= len(data)
        self.num_returned += len(data)


def frames(stream: IO[bytes], max_bytes: int) -> Iterator[Frame]:
    """Yield every record of a decompressed WARC stream, and every stretch that is none.

    Args:
        stream: the bytes, front to back.
        max_bytes: the longest block that is held; of a longer one only the header is.

    Raises:
        UnreadableFileError: by the stream itself, behind the records that could be read.
    """
    source = _Source(stream)
    while True:
        start = source.position
        line = source.readline()
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            yield _stretch(source, start, "bytes that are no record")
            continue
        yield _frame(source, start, line, max_bytes)


def _stretch(source: _Source, start: int, what: str) -> Frame:
    """Pass over lines up to one that begins a record."""
    while line := source.readline():
        if line.startswith(b"WARC/"):
            source.unread(line)
            break
    length = source.position - start
    return Frame(start, b"", None, length, Problem("invalid_warc", f"{length:,} {what}"))


def _frame(source: _Source, start: int, first: bytes, max_bytes: int) -> Frame:
    head = first
    while True:
        line = source.readline()
        if not line:
            said = Problem("truncated", "the file ends inside the header of a record")
            return Frame(start, head, None, 0, said)
        if line.startswith(b"WARC/"):  # the header was cut, and the next record follows
            source.unread(line)
            return Frame(start, b"", None, 0, Problem("invalid_warc", "a header without an end"))
        head += line
        if not line.strip():
            break
        if len(head) > _HEADER_BYTES:
            return _stretch(source, start, "bytes of a header without an end")
    found = _LENGTH.findall(head)
    if len(found) != 1:
        return _stretch(source, start, "bytes behind a header without a Content-Length")
    length = int(found[0])
    if length > max_bytes:
        passed = source.skip(length)
        return _ended(source, Frame(start, head, None, length), passed)
    body = source.read(length)
    return _ended(source, Frame(start, head, body, length), len(body))


def _ended(source: _Source, frame: Frame, num_bytes: int) -> Frame:
    """Return the frame if the file goes on behind it as it must, else what is wrong with it."""
    if num_bytes == frame.length:
        tail = source.readline() + source.readline()
        if not tail.strip() and len(tail) <= 4:
            return frame
        source.unread(tail)
        if tail.startswith(b"WARC/"):
            return frame  # a writer that leaves out the blank lines
    # The length is wrong, or the file was cut. If the next record begins inside, it begins there.
    held = frame.body if source.num_returned < _MAX_RETURNED else None
    found = _NEXT.search(held) if held is not None else None
    if held is not None and found is not None:
        source.unread(held[found.end() :])
        said = Problem(
            "invalid_warc", f"Content-Length says {frame.length:,} bytes, there are fewer"
        )
    elif num_bytes < frame.length:
        missing = frame.length - num_bytes
        said = Problem("truncated", f"the file ends {missing:,} bytes before the record does")
    else:
        said = Problem("invalid_warc", "the record does not end where its Content-Length says")
    return Frame(frame.position, frame.head, None, frame.length, said)


def digest_differs(said: str, block: bytes) -> bool:
    """Whether a labelled digest (`sha1:BASE32`, or hexadecimal) belongs to other bytes.

    A digest that cannot be checked (an unknown algorithm, a wrong length) does not differ.

    >>> digest_differs("sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", b""), digest_differs("sha1:x", b"")
    (False, False)
    """
    name, _, value = said.strip().partition(":")
    name = name.lower().replace("-", "")
    if name not in ("md5", "sha1", "sha256", "sha512"):
        return False
    found = hashlib.new(name, block, usedforsecurity=False).digest()
    spellings = {
        found.hex(),
        base64.b32encode(found).decode().rstrip("=").lower(),
        base64.b64encode(found).decode().rstrip("="),
    }
    plain = value.strip().rstrip("=")
    if len(plain) not in {len(spelling) for spelling in spellings}:
        return False
    return plain.lower() not in spellings and plain not in spellings


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the pages of the file, and a reject for every record that holds none but should.

    Raises:
        UnreadableFileError: behind the readable records of compressed data that is not whole.
    """
    settings = settings_of(OPTIONS, options)
    max_bytes = max_document_bytes(options)
    builder = Builder()
    with opener() as stream:
        try:
            for frame in frames(stream, max_bytes + _HEADER_BYTES):
                _add(builder, frame, settings, max_bytes)
                if builder.full:
                    yield builder.take()
        except UnreadableFileError:
            if builder:
                yield builder.take()
            raise
    if builder:
        yield builder.take()


def _add(builder: Builder, frame: Frame, settings: Mapping[str, Any], max_bytes: int) -> None:
    found = frame.problem or _document(frame, settings, max_bytes)
    if isinstance(found, Problem):
        builder.reject(frame.position, found.reason, found.detail)
    elif found is not None:
        builder.row(frame.position, found, frame.length)


def _canonical(head: bytes) -> bytes:
    r"""Return a header as fastwarc wants it: CRLF, and the usual spelling of three names.

    >>> _canonical(b"WARC/1.0\nwarc-type : response\n\n")
    b'WARC/1.0\r\nWARC-Type: response\r\n\r\n'
    """
    lines = head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return _SPELLED.sub(lambda found: _NAMES[found.group(1).lower()] + b":", lines)


def _document(frame: Frame, settings: Mapping[str, Any], max_bytes: int) -> Row | Problem | None:
    """Return the document of a record, why it has none, or None if its kind never has one."""
    from fastwarc.warc import WarcRecord

    try:
        record = WarcRecord.from_bytes(_canonical(frame.head) + (frame.body or b""))
        headers = {name.lower(): value for name, value in record.headers.items()}
    except _ERRORS as error:
        return Problem("invalid_warc", f"its header cannot be read: {error}")
    kind = headers.get("warc-type", "").lower()
    url = headers.get("warc-target-uri", "").strip("<> ") or None
    if kind in _NO_DOCUMENTS or (url or "").startswith("dns:"):
        return None
    if kind not in ("response", "resource", "conversion"):
        return Problem("invalid_warc", f"a record of type {kind or 'none'!r}")
    if frame.body is None:
        return Problem("too_large", f"a record of {frame.length:,} bytes; at most {max_bytes:,}")
    said = headers.get("warc-block-digest", "")
    if settings["verify_digests"] and digest_differs(said, frame.body):
        return Problem("mismatch", f"its bytes do not have the digest {said}")
    if headers.get("warc-truncated") and not settings["truncated"]:
        return Problem("truncated", f"the crawler has cut it: {headers['warc-truncated']}")
    payload = _payload(record, kind, headers, frame.body, max_bytes)
    if isinstance(payload, Problem):
        return payload
    return _row(payload, headers, url, settings, max_bytes)


@dataclass(frozen=True, slots=True)
class _Payload:
    data: bytes
    media_type: str
    charset: str | None


def _payload(
    record: Any, kind: str, headers: Mapping[str, str], body: bytes, max_bytes: int
) -> _Payload | Problem:
    """Return the bytes of a page as they were before HTTP wrapped them."""
    media_type, _, rest = headers.get("content-type", "").partition(";")
    media_type = media_type.strip().lower()
    if media_type != "application/http":
        if kind == "conversion":
            return _Payload(body, media_type or "text/plain", "utf-8")
        charset = re.search(r"charset=[\"']?([\w.:\-]+)", rest, re.IGNORECASE)
        return _Payload(body, media_type, charset.group(1) if charset else None)
    try:
        record.parse_http(auto_decode="none", quirks_mode=True)
        http = record.http_headers
        status = http.status_code if http is not None else None
        if http is None or status is None:
            return Problem("invalid_warc", "its HTTP header cannot be read")
        if status != 200:
            return Problem("http_status", f"HTTP status {status}")
        named = {name.lower(): value for name, value in http.items()}
        media_type, charset_said = record.http_content_type or "", record.http_charset
        data = record.reader.read()
    except _ERRORS as error:
        return Problem("invalid_warc", f"its HTTP header cannot be read: {error}")
    identified = headers.get("warc-identified-payload-type", "")
    media_type = (media_type or identified or _sniffed(data)).strip().lower()
    if not _is_text(media_type):
        return Problem("not_text", f"content type {media_type or 'unknown'}")
    whole = decoded_body(data, named, max_bytes)
    return whole if isinstance(whole, Problem) else _Payload(whole, media_type, charset_said)


def _sniffed(data: bytes) -> str:
    """Return the type of a page whose server does not tell it."""
    head = data[:512].lstrip().lower()
    return "text/html" if head.startswith((b"<!doctype html", b"<html")) else ""


def _is_text(media_type: str) -> bool:
    return media_type in _HTML or media_type == "text/plain"


def _row(
    payload: _Payload,
    headers: Mapping[str, str],
    url: str | None,
    settings: Mapping[str, Any],
    max_bytes: int,
) -> Row | Problem:
    meta: dict[str, Any] = {}
    if not _is_text(payload.media_type):
        return Problem("not_text", f"content type {payload.media_type or 'unknown'}")
    license_ = None
    if payload.media_type in _HTML:
        page = extract(
            payload.data,
            charset=payload.charset,
            base=url,
            main_content=settings["main_content"],
            links=settings["links"],
        )
        if isinstance(page, Problem):
            return page
        text, license_ = page.text, page.license
        meta = page.meta() | _page_facts(page, url)
    else:
        text, _ = decode(payload.data, payload.charset)
        meta = {"content_type": payload.media_type}
    if not text.strip():
        return Problem("no_text", "the record holds no text")
    if len(text.encode()) > max_bytes:
        return Problem("too_large", f"more than {max_bytes:,} bytes of text")
    for name in ("warc-identified-content-language", "warc-truncated", "warc-refers-to"):
        if name in headers:
            meta[name.removeprefix("warc-").replace("-", "_")] = headers[name]
    timestamp = as_timestamp(headers.get("warc-date"))
    if timestamp is None and headers.get("warc-date"):
        meta["date"] = headers["warc-date"]
    key = headers.get("warc-record-id", "").strip("<> ") or None
    return Row(text, key, url, license_, timestamp, as_json(meta) if meta else None)


def _page_facts(page: Page, url: str | None) -> dict[str, str]:
    """Return the address and the date that the page itself states; the archive has its own."""
    facts = {"canonical_url": page.url if page.url != url else None, "published": page.published}
    return {name: value for name, value in facts.items() if value is not None}


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fields of the first document."""
    settings = settings_of(OPTIONS, {})
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        for frame in frames(stream, max_bytes + _HEADER_BYTES):
            found = frame.problem or _document(frame, settings, max_bytes)
            if isinstance(found, Row):
                return {"text": found.text}
    return None


READER = Reader(
    name="warc",
    suffixes=(".warc",),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    peek=peek,
    options=OPTIONS,
)

"""The body of an HTTP response without its wrapping: chunks, gzip, deflate, Brotli, zstandard.

A crawler may have unwrapped the body and left the header as it was; then the body is taken as it
is. Content that expands without measure is refused before it is held.

>>> import gzip
>>> decoded_body(gzip.compress(b"page"), {"content-encoding": "gzip"}, 100)
b'page'
>>> decoded_body(gzip.compress(bytes(10**7)), {"content-encoding": "gzip"}, 10**6).reason
'expands_too_much'
"""

import io
import zlib
from collections.abc import Mapping

from curate.readers.columns import Problem

__all__ = ["decoded_body"]

_MAX_RATIO = 200  # pages compress to a tenth or a hundredth; a stream of zeros to a thousandth
_FREE_BYTES = 1 << 20  # so much may come out of anything
_MAX_CODINGS = 3
_STEP_BYTES = 1 << 16


def decoded_body(data: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes | Problem:
    """Return the body without transfer and content encodings.

    Args:
        data: the body as it was sent.
        headers: of the response, names in lower case.
        max_bytes: the most that may come out.
    """
    transfer = _codings(headers.get("transfer-encoding"))
    content = _codings(headers.get("content-encoding"))
    codings = [*reversed(transfer), *reversed(content)]  # what was put on last comes off first
    if len(codings) > _MAX_CODINGS:
        return Problem("expands_too_much", f"wrapped {len(codings)} times")
    limit = min(max_bytes, max(_FREE_BYTES, len(data) * _MAX_RATIO))
    for coding in codings:
        found = _without(data, coding, limit)
        if isinstance(found, Problem):
            return found
        data = found
    return data


def _codings(said: str | None) -> list[str]:
    names = [name.strip().lower().removeprefix("x-") for name in (said or "").split(",")]
    return [name for name in names if name not in ("", "identity", "none", "utf-8")]


def _without(data: bytes, coding: str, limit: int) -> bytes | Problem:
    if coding == "chunked":
        return _dechunked(data)
    if coding == "gzip":
        return _inflated(data, 31, limit) if data.startswith(b"\x1f\x8b") else data
    if coding == "deflate":
        return _deflated(data, limit)
    if coding in ("br", "zstd"):
        return _streamed(data, coding, limit)
    return Problem("not_text", f"content encoding {coding!r} is not known")


def _dechunked(data: bytes) -> bytes | Problem:
    """Join the chunks (RFC 9112, section 7.1); what does not begin with one was joined before."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\n", at, at + 1024)
        said = data[at:end].split(b";", 1)[0].strip() if end >= 0 else b""
        size = int(said, 16) if 0 < len(said) <= 16 and said.isalnum() and _is_hex(said) else -1
        if size < 0:
            if at == 0:
                return data
            return Problem("truncated", f"its chunks end after {len(b''.join(parts)):,} bytes")
        if size == 0:
            return b"".join(parts)
        chunk = data[end + 1 : end + 1 + size]
        parts.append(chunk)
        if len(chunk) < size:
            return Problem("truncated", f"a chunk of {size:,} bytes has {len(chunk):,}")
        at = end + 1 + size
        at += 2 if data[at : at + 2] == b"\r\n" else 1


def _is_hex(said: bytes) -> bool:
    return not said.strip(b"0123456789abcdefABCDEF")


def _inflated(data: bytes, wbits: int, limit: int) -> bytes | Problem:
    """Inflate all gzip members (or one zlib stream); bytes behind the last member are ignored."""
    parts: list[bytes] = []
    size = 0
    while True:
        member = zlib.decompressobj(wbits=wbits)
        try:
            part = member.decompress(data, limit - size + 1)
        except zlib.error as error:
            return Problem("invalid_warc", f"its compressed body is damaged: {error}")
        parts.append(part)
        size += len(part)
        if size > limit:
            return Problem("expands_too_much", f"more than {limit:,} bytes out of its body")
        if not member.eof:
            return Problem("truncated", f"its compressed body ends after {size:,} bytes of content")
        data = member.unused_data
        if wbits != 31 or not data.startswith(b"\x1f\x8b"):
            return b"".join(parts)


def _deflated(data: bytes, limit: int) -> bytes | Problem:
    """Inflate a zlib stream, or the bare deflate stream that some servers send instead."""
    if not data:
        return data
    if data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0:
        return _inflated(data, 15, limit)
    found = _inflated(data, -15, limit)
    if isinstance(found, Problem) and found.reason == "invalid_warc" and b"<" in data[:1024]:
        return data
    return found


def _streamed(data: bytes, coding: str, limit: int) -> bytes | Problem:
    from fastwarc.stream_io import BrotliReader, ZstdReader

    if coding == "zstd" and not data.startswith(b"\x28\xb5\x2f\xfd"):
        return data
    parts: list[bytes] = []
    size = 0
    try:
        reader = (BrotliReader if coding == "br" else ZstdReader)(io.BytesIO(data))
        while part := bytes(reader.read(_STEP_BYTES)):
            parts.append(part)
            size += len(part)
            if size > limit:
                return Problem("expands_too_much", f"more than {limit:,} bytes out of its body")
    except (OSError, ValueError, RuntimeError) as error:
        if coding == "br" and data.lstrip()[:1] == b"<":
            return data
        return Problem("invalid_warc", f"its compressed body is damaged: {error}")
    return b"".join(parts)

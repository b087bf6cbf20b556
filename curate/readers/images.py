r"""Images: one record per file, the bytes and the size that the header tells.

PNG (ISO 15948), JPEG (ITU T.81), GIF 89a, WebP (RFC 9649), BMP; told apart by content, not suffix.

>>> header(b"GIF89a" + b"\x02\x00\x03\x00" + bytes(7) + b";")
{'format': 'gif', 'width': 2, 'height': 3}
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from curate.readers.base import Batch, Opener, Reader, Slice, whole_file
from curate.readers.columns import Problem
from curate.readers.media import IMAGES, read_media, read_records

__all__ = ["READER", "header"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_SIDE = (1 << 31) - 1
# Start-of-frame markers of JPEG: C0 to CF without C4 (tables), C8 (reserved) and CC (tables).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length


def header(data: bytes) -> dict[str, Any] | Problem:
    """Return format, width and height of an image in pixels, or why it is none.

    Files that end early are told where the format says how long they are, or how they end.
    """
    for magic, name, size_of in _KINDS:
        if data.startswith(magic):
            return _fields(name, size_of(data))
    return Problem("invalid_media", "no PNG, JPEG, GIF, WebP, BMP or PNM header")


def _fields(name: str, size: tuple[int, int] | Problem) -> dict[str, Any] | Problem:
    if isinstance(size, Problem):
        return size
    width, height = size
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        return Problem("invalid_media", f"a {name} of {width:,} x {height:,} pixels")
    return {"format": name, "width": width, "height": height}


_Size = tuple[int, int] | Problem


def _short(name: str) -> Problem:
    return Problem("truncated", f"the {name} file ends early")


def _number(data: bytes, start: int, length: int, order: Any = "little") -> int:
    return int.from_bytes(data[start : start + length], order)


def _png(data: bytes) -> _Size:
    if len(data) < 33 or b"IEND" not in data[-1024:]:
        return _short("PNG")
    if data[12:16] != b"IHDR":
        return Problem("invalid_media", "a PNG file whose first chunk is no IHDR")
    return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")


def _gif(data: bytes) -> _Size:
    if len(data) < 14 or b"\x3b" not in data[-1024:]:
        return _short("GIF")
    return _number(data, 6, 2), _number(data, 8, 2)


def _jpeg(data: bytes) -> _Size:
    """Go from marker to marker up to the start of the frame."""
    at = 2
    size: tuple[int, int] | None = None
    while size is None:
        start = data.find(b"\xff", at)
        if start < 0 or start + 4 > len(data):
            return _short("JPEG")
        if start != at:
            return Problem("invalid_media", f"a JPEG file without a marker at byte {at:,}")
        marker = data[start + 1]
        if marker == 0xFF:  # fill byte
            at = start + 1
        elif marker in _ALONE:
            at = start + 2
        elif marker in (0xD9, 0xDA):
            return Problem("invalid_media", "a JPEG file without a frame")
        elif marker in _FRAMES:
            if start + 9 > len(data):
                return _short("JPEG")
            size = (_number(data, start + 7, 2, "big"), _number(data, start + 5, 2, "big"))
        else:
            at = start + 2 + max(2, _number(data, start + 2, 2, "big"))
    return size if data.rfind(b"\xff\xd9", at) >= 0 else _short("JPEG")


def _webp(data: bytes) -> _Size:
    if len(data) < 30:
        return _short("WebP")
    if data[8:12] != b"WEBP":
        return Problem("invalid_media", f"a RIFF file of the kind {data[8:12]!r}, no WebP")
    if _number(data, 4, 4) + 8 > len(data):
        return _short("WebP")
    kind = data[12:16]
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            return Problem("invalid_media", "a WebP file without a key frame")
        return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF
    if kind == b"VP8L":
        if data[20] != 0x2F:
            return Problem("invalid_media", "a lossless WebP file without its signature")
        bits = _number(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    return Problem("invalid_media", f"a WebP file whose first chunk is {kind!r}")


def _bmp(data: bytes) -> _Size:
    if len(data) < 26 or _number(data, 2, 4) > len(data):
        return _short("BMP")
    if _number(data, 14, 4) == 12:  # the header of OS/2
        return _number(data, 18, 2), _number(data, 20, 2)
    width = int.from_bytes(data[18:22], "little", signed=True)
    height = int.from_bytes(data[22:26], "little", signed=True)  # negative: top row first
    return width, abs(height)


_PNM = re.compile(rb"P([56])\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,9})\s+(\d{1,5})\s")


def _pnm(data: bytes) -> _Size:
    """Read the header of a grey (P5) or coloured (P6) map of pixels, as `idx` writes them."""
    found = _PNM.match(data)
    if found is None:
        return Problem("invalid_media", "a PNM file without its header")
    kind, width, height, top = map(int, found.groups())
    each = (3 if kind == 6 else 1) * (2 if top > 255 else 1)
    return (width, height) if found.end() + width * height * each <= len(data) else _short("PNM")


_KINDS: tuple[tuple[bytes, str, Callable[[bytes], _Size]], ...] = (
    (_PNG, "png", _png),
    (b"\xff\xd8\xff", "jpeg", _jpeg),
    (b"GIF87a", "gif", _gif),
    (b"GIF89a", "gif", _gif),
    (b"RIFF", "webp", _webp),
    (b"BM", "bmp", _bmp),
    (b"P5", "pnm", _pnm),
    (b"P6", "pnm", _pnm),
)


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file as one record of IMAGES, or as one reject."""
    return read_media(part, opener, options, IMAGES, header)


READER = Reader(
    name="images",
    suffixes=(".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".pgm", ".ppm"),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    media=functools.partial(read_records, read=read),
    schema="image",
)

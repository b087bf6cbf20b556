r"""The members of a tar archive, front to back, without extracting anything.

Each header is checked by its checksum. Behind a damaged one reading goes on at the next header that
is whole, and the damage is told. Sizes are told before contents are read, so nothing is held that
the reader does not ask for. Formats: ustar, pax (path and size), GNU (long names).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

__all__ = ["Damage", "Member", "members"]

_BLOCK = 512
_MAX_NAME_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_FILE = (b"0", b"\0", b"7")
_EXTENDED = (b"L", b"K", b"x", b"g", b"X")
_KINDS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive.

    Attributes:
        position: offset of its (first) header.
        name: as stored; nobody has checked that it is harmless.
        size: bytes of its content.
        kind: "file", "folder", or what else it is, in words.
        read: (most bytes) -> the first bytes of its content; at once, before the next member.
    """

    position: int
    name: str
    size: int
    kind: str
    read: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch that cannot be read: `reason` is invalid_tar or truncated."""

    position: int
    reason: str
    detail: str


class _Source:
    """A stream that knows its offset, and that takes one block back."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._back = b""
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes, in steps, so that a false size allocates nothing."""
        parts = [self._back]
        left = count - len(self._back)
        self._back = b""
        while left > 0 and (part := self._stream.read(min(left, _CHUNK_BYTES))):
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        """Pass over up to `count` bytes; return how many were missing."""
        while count and (part := self.read(min(count, _CHUNK_BYTES))):
            count -= len(part)
        return count

    def unread(self, block: bytes) -> None:
        self._back = block
        self.position -= len(block)


class _Content:
    """What is left of a member's content, and its padding to a whole block."""

    def __init__(self, source: _Source, size: int) -> None:
        self._source = source
        self._left = size
        self._padding = -size % _BLOCK

    def read(self, most: int) -> bytes:
        data = self._source.read(max(0, min(most, self._left)))
        self._left -= len(data)
        return data

    def finish(self) -> int:
        """Pass over the rest; return how many bytes of content are missing."""
        self._left = self._source.skip(self._left)
        if not self._left:
            self._source.skip(self._padding)
        return self._left


@dataclass(slots=True)
class _Extended:
    """What the headers before a member's own say about it."""

    start: int
    name: str | None = None
    size: int | None = None


def members(stream: IO[bytes]) -> Iterator[Member | Damage]:
    """Yield every member of a tar archive, and every stretch that cannot be read.

    An archive ends with blocks of zeros; one that ends without was cut short, which is told even
    where all members that are there are whole. What follows the zeros is read on: archives may
    have been put behind one another.
    """
    source = _Source(stream)
    extended: _Extended | None = None
    at_end = False
    while True:
        start = source.position
        block = source.read(_BLOCK)
        if not block.strip(b"\0"):
            if len(block) < _BLOCK:
                if not at_end:
                    yield Damage(start, "truncated", "the archive ends without its end marker")
                return
            at_end = True
            continue
        at_end = False
        if len(block) < _BLOCK:
            yield Damage(start, "truncated", "the archive ends inside a header")
            return
        size = _number(block[124:136])
        if not _is_header(block) or size is None:
            yield _resync(source, start)
            extended = None
            continue
        extended = extended or _Extended(start)
        if block[156:157] in _EXTENDED:
            damage = _extend(source, extended, block[156:157], size)
        else:
            size = size if extended.size is None else extended.size
            name = _name(block) if extended.name is None else extended.name
            kind = _kind(block[156:157], name)
            content = _Content(source, size if block[156:157] in _FILE else 0)
            yield Member(extended.start, name, size, kind, content.read)
            missing = content.finish()
            said = f"{name} ends {missing:,} bytes early"
            damage = Damage(extended.start, "truncated", said) if missing else None
            extended = None
        if damage is not None:
            yield damage
            if damage.reason == "truncated":
                return


def _extend(source: _Source, extended: _Extended, kind: bytes, size: int) -> Damage | None:
    """Read a header that is about the next member; return what is wrong with it."""
    content = _Content(source, size)
    told = content.read(_MAX_NAME_BYTES)
    if content.finish():
        return Damage(extended.start, "truncated", "the archive ends inside a header")
    if size > _MAX_NAME_BYTES:
        return Damage(extended.start, "invalid_tar", f"an extended header of {size:,} bytes")
    if kind == b"L":
        extended.name = _text(told)
    elif kind in (b"x", b"X"):
        name, length = _pax(told)
        extended.name = name or extended.name
        extended.size = length
    return None


def _resync(source: _Source, start: int) -> Damage:
    """Pass over blocks up to the next header."""
    while len(block := source.read(_BLOCK)) == _BLOCK:
        if _is_header(block) and block.strip(b"\0"):
            source.unread(block)
            break
    else:
        source.unread(block)
        return Damage(start, "invalid_tar", "no header where one must be, and none behind it")
    length = source.position - start
    return Damage(start, "invalid_tar", f"{length:,} bytes without a header that fits")


def _kind(flag: bytes, name: str) -> str:
    if flag in _FILE:
        return "folder" if name.endswith("/") else "file"
    return "folder" if flag == b"5" else _KINDS.get(flag, "of an unknown kind")


def _is_header(block: bytes) -> bool:
    """Whether the checksum fits: the sum of all bytes with the checksum's own as spaces."""
    said = _number(block[148:156])
    return said == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _number(field: bytes) -> int | None:
    """Return an octal field, or a binary one of GNU tar; None if it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits and not digits.strip(b"01234567") else None
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _name(block: bytes) -> str:
    prefix = _text(block[345:500]) if block[257:262] == b"ustar" else ""
    name = _text(block[:100])
    return f"{prefix}/{name}" if prefix else name


def _pax(data: bytes) -> tuple[str | None, int | None]:
    """Return path and size of a pax header: lines of `LENGTH KEY=VALUE`."""
    name: str | None = None
    size: int | None = None
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        said = data[at:space] if space > at else b""
        if not said.isdigit() or int(said) <= space - at:
            break
        key, _, value = data[space + 1 : at + int(said) - 1].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "replace")
        elif key == b"size" and value.isdigit() and len(value) < 19:
            size = int(value)
        at += int(said)
    return name, size

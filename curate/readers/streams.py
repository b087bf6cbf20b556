"""Any file as a stream of decompressed bytes that ends either at its end or with an error.

The four usual decompressors all have a way to end early without a word: a cut .zst reads as a
short file, bytes behind the last member are ignored. Here a file is whole, or it raises
UnreadableFileError after the bytes that could be read. Each step yields a bounded number of bytes,
so what a small archive expands to is never held; beyond 256 MiB it may be 500 times its size.
"""

import bz2
import errno
import io
import lzma
import stat
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec
import zstandard

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import InputFile

__all__ = ["COMPRESSIONS", "is_local", "local_path", "open_stream"]

_BUFFER_BYTES = 1 << 18
_READ_BYTES = 1 << 16
# A zstd block of a few bytes may expand to 128 KiB, so one step over 1 KiB stays below 32 MiB; it
# is as fast as a larger one.
_ZSTD_STEP_BYTES = 1 << 10
# No archive people have shrinks a quarter of a gigabyte five hundred times; a bomb does.
_FREE_BYTES, _MOST_RATIO = 1 << 28, 500
_XZ_MEMORY_BYTES = 1 << 30  # xz -9 wants 65 MiB; the header of a hostile file may ask for 4 GiB


class _Member(Protocol):
    """One compressed member or frame being read; the shape of bz2's and lzma's decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Any, max_length: int = -1, /) -> bytes: ...


class _ZstdMember:
    """A zstd frame. Output of a step is bounded by the caller's bounded input."""

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._frame = decompressor.decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data)

    def decompress(self, data: Any, max_length: int = -1, /) -> bytes:
        return bytes(self._frame.decompress(data)) if len(data) else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codec:
    name: str
    magic: tuple[bytes, ...]  # each member begins with one of these
    member: Callable[[], Any]
    step_bytes: int
    padding: bool  # whether zero bytes may follow a member, as on tapes


_ZSTD_SKIPPABLE = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))


COMPRESSIONS: Mapping[str, _Codec] = {
    ".gz": _Codec(
        name="gzip",
        magic=(b"\x1f\x8b\x08",),
        member=lambda: zlib.decompressobj(wbits=31),
        step_bytes=_READ_BYTES,
        padding=True,
    ),
    ".zst": _Codec(
        name="zstd",
        magic=(b"\x28\xb5\x2f\xfd", *_ZSTD_SKIPPABLE),
        member=_ZstdMember,
        step_bytes=_ZSTD_STEP_BYTES,
        padding=False,
    ),
    ".bz2": _Codec(
        name="bzip2",
        magic=(b"BZh",),
        member=bz2.BZ2Decompressor,
        step_bytes=_READ_BYTES,
        padding=False,
    ),
    ".xz": _Codec(
        name="xz",
        magic=(b"\xfd7zX",),
        member=lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES),
        step_bytes=_READ_BYTES,
        padding=True,
    ),
}


class _Plain(io.RawIOBase):
    """A file of any store; what goes wrong while reading is told with the file's name."""

    def __init__(self, handle: IO[bytes], path: str) -> None:
        self._handle = handle
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._handle.seekable())

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._handle.read(len(buffer))
        except OSError as error:
            raise _unreadable(self._path, error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._handle.close()
        super().close()


class _Inflated(io.RawIOBase):
    """The decompressed bytes of all members of a file, or an UnreadableFileError behind them."""

    def __init__(self, source: io.RawIOBase, codec: _Codec, path: str) -> None:
        self._source = source
        self._codec = codec
        self._path = path
        self._member: Any = None
        self._input = memoryview(b"")
        self._output = memoryview(b"")
        self._num_members = 0
        self._num_bytes = 0  # decompressed so far
        self._num_read = 0  # compressed
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._output and not self._done:
            self._output = memoryview(self._step(len(buffer)))
            self._num_bytes += len(self._output)
            if self._num_bytes > max(_FREE_BYTES, _MOST_RATIO * self._num_read):
                told = f"expands more than {_MOST_RATIO} times"
                raise self._error("expands_too_much", told)
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()

    def _step(self, max_bytes: int) -> bytes:
        if self._member is None and not self._next_member():
            return b""
        wanted = getattr(self._member, "needs_input", True)
        if wanted and not self._input:
            self._fill()
        at_end = wanted and not self._input
        step = self._input[: self._codec.step_bytes] if wanted else memoryview(b"")
        try:
            data: bytes = self._member.decompress(step, max_bytes)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError) as error:
            raise self._error("corrupt", f"is damaged ({error})") from error
        rest = getattr(self._member, "unconsumed_tail", b"")
        self._input = self._input[len(step) :]
        if self._member.eof:
            rest = self._member.unused_data
            self._member = None
        elif at_end and not data:
            raise self._error("truncated", "was cut short")
        if rest:
            # What was not used is the end of what was given: step back instead of copying.
            self._input = memoryview(bytes(rest) + bytes(self._input))
        return data

    def _next_member(self) -> bool:
        """Begin the next member; False at the end of the file."""
        if self._codec.padding and self._num_members:
            self._skip_padding()
        while len(self._input) < 4 and self._fill():
            pass
        if not self._input:
            if not self._num_members:
                raise self._error("empty", "is empty (0 bytes)")
            self._done = True
            return False
        head = bytes(self._input[:4])
        if not head.startswith(self._codec.magic):
            if any(magic.startswith(head) for magic in self._codec.magic):
                raise self._error("truncated", "was cut short")
            if self._num_members:
                raise self._error("trailing_data", "has other data behind its last member")
            raise self._error(f"not_{self._codec.name}", f"is no {self._codec.name} file")
        self._member = self._codec.member()
        self._num_members += 1
        return True

    def _skip_padding(self) -> None:
        while True:
            self._input = memoryview(bytes(self._input).lstrip(b"\0"))
            if self._input or not self._fill():
                return

    def _fill(self) -> bool:
        more = self._source.read(_READ_BYTES) or b""
        self._num_read += len(more)
        self._input = memoryview(bytes(self._input) + more)
        return bool(more)

    def _error(self, reason: str, what: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"{self._path} {what}: its {self._codec.name} data could be read up to byte "
            f"{self._num_bytes:,} of the content. Fetch the file again, or leave it out.",
            reason=reason,
            offset=self._num_bytes,
        )


def _unreadable(path: str, error: OSError) -> UnreadableFileError:
    reason = {FileNotFoundError: "missing", PermissionError: "denied"}.get(type(error), "io_error")
    said = error.strerror or str(error) or type(error).__name__
    return UnreadableFileError(f"{path} cannot be read: {said}.", reason=reason)


def is_local(uri: str) -> bool:
    """Whether a uri names a file of this machine: no protocol, or file://."""
    return "::" not in uri and ("://" not in uri or uri.startswith(("file://", "local://")))


def local_path(uri: str) -> Path:
    """Return the path of a local uri.

    >>> local_path("file://data/a.txt").as_posix()
    'data/a.txt'
    """
    return Path(uri.split("://", 1)[-1])


def open_stream(
    file: InputFile,
    compression: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> IO[bytes]:
    """Open a file as decompressed bytes.

    Args:
        file: where it is; `file.path` is the name that errors tell.
        compression: a key of COMPRESSIONS, or None. Several members or frames are one content.
        storage_options: for fsspec, when the uri has a protocol.

    Returns:
        A buffered binary stream; seekable when there is no compression.

    Raises:
        UnreadableFileError: at once for a missing file; while reading, behind the readable bytes,
            for one that is `truncated`, `corrupt`, `empty`, `expands_too_much`, or has
            `trailing_data`.
    """
    try:
        if is_local(file.uri):
            if stat.S_ISFIFO(local_path(file.uri).stat().st_mode):  # opening it would wait
                raise OSError(errno.EINVAL, "it is a pipe")
            handle: Any = local_path(file.uri).open("rb", buffering=0)
        else:
            system, path = fsspec.core.url_to_fs(file.uri, **(storage_options or {}))
            handle = system.open(path, "rb")
    except OSError as error:
        raise _unreadable(file.path, error) from error
    except (ImportError, ValueError) as error:
        raise InputError(f"{file.path} cannot be opened: {error}") from error
    source: io.RawIOBase = _Plain(handle, file.path)
    if compression is not None:
        source = _Inflated(source, COMPRESSIONS[compression], file.path)
    return io.BufferedReader(source, _BUFFER_BYTES)

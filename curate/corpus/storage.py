"""Where bytes live, and the one way they become visible: created whole, or not at all.

Built on fsspec, so a store is any of its uris. Nothing here renames or lists. A file is written
under a temporary name, flushed, and then *created*: locally by a hard link (which fails if the name
exists), elsewhere by a conditional put. Two writers of one name: one wins, the other learns it.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curate.corpus.errors import InputError, IntegrityError

__all__ = ["Storage", "sha256_of"]

_CHUNK = 1 << 20
_TEMPORARY = ".tmp"


class Storage:
    """A folder somewhere, cheap to build and safe to pickle; names are relative to it."""

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        self.uri = uri.rstrip("/") if "://" in uri else str(Path(uri).absolute())
        self.options = dict(options or {})
        try:
            self.fs, root = fsspec.core.url_to_fs(self.uri, **self.options)
        except (ImportError, ValueError) as error:
            raise InputError(f"cannot open the store {uri!r}: {error}") from error
        self.root = root.rstrip("/")
        self.is_local = isinstance(self.fs, LocalFileSystem)

    def __reduce__(self) -> tuple[type["Storage"], tuple[str, dict[str, Any]]]:
        return Storage, (self.uri, self.options)

    def full(self, name: str) -> str:
        """Return the file system's own path of a name."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Say whether a name is there."""
        return (
            Path(self.full(name)).exists()
            if self.is_local
            else bool(self.fs.exists(self.full(name)))
        )

    def size(self, name: str) -> int:
        """Return the size in bytes.

        Raises:
            IntegrityError: there is no such file.
        """
        try:
            return int(self.fs.size(self.full(name)))
        except FileNotFoundError:
            raise IntegrityError(f"{name} is missing from the store {self.uri}") from None

    def read(self, name: str) -> bytes | None:
        """Return a small file's bytes, or None where there is no such file."""
        try:
            if self.is_local:
                return Path(self.full(name)).read_bytes()
            return bytes(self.fs.cat_file(self.full(name)))
        except FileNotFoundError:
            return None

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading.

        Raises:
            IntegrityError: there is no such file.
        """
        try:
            if self.is_local:
                return Path(self.full(name)).open("rb")
            return self.fs.open(self.full(name), "rb")  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise IntegrityError(f"{name} is missing from the store {self.uri}") from None

    def create(self, name: str, data: bytes) -> bool:
        """Create a small file whole; return False, and change nothing, if the name exists."""
        if not self.is_local:
            try:
                self.fs.pipe_file(self.full(name), data, mode="create")
            except FileExistsError:
                return False
            return True
        path = self.temporary()
        path.write_bytes(data)
        return self.publish(path, name)

    def remove(self, name: str) -> bool:
        """Delete a file (a purge does, and nobody else); return False if there is none."""
        try:
            self.fs.rm_file(self.full(name))
        except FileNotFoundError:
            return False
        return True

    def temporary(self, suffix: str = "") -> Path:
        """Return a fresh local path to build a file in; `publish` or `discard` it.

        It lies in the store itself when that is local, so that publishing copies nothing.
        The name tells host and process, so that leftovers of a killed run can be told apart.
        """
        folder = Path(self.root) / _TEMPORARY if self.is_local else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}{suffix}"

    def publish(self, path: Path, name: str) -> bool:
        """Make a finished local file visible under `name`; return False if the name existed."""
        try:
            if not self.is_local:
                return self._upload(path, name)
            target = Path(self.full(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(path)
            try:
                os.link(path, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
                os.replace(path, target)  # no hard links here: still whole, the last writer wins  # noqa: PTH105
            with contextlib.suppress(OSError):  # not every file system can
                _sync(target.parent)
            return True
        finally:
            path.unlink(missing_ok=True)

    def _upload(self, path: Path, name: str) -> bool:
        if self.exists(name):
            return False
        with path.open("rb") as source:
            if path.stat().st_size <= (64 << 20):
                try:
                    self.fs.pipe_file(self.full(name), source.read(), mode="create")
                except FileExistsError:
                    return False
                return True
        # Large files are named by their content: two writers put the same bytes.
        self.fs.put_file(str(path), self.full(name))
        return True

    def sweep(self) -> int:
        """Remove what dead processes of this host left half-built; return how many files."""
        folder = Path(self.root) / _TEMPORARY
        if not self.is_local or not folder.is_dir():
            return 0
        removed = 0
        for path in folder.iterdir():
            host, _, rest = path.name.rpartition("-")[0].rpartition("-")
            if host == socket.gethostname() and rest.isdigit() and not _alive(int(rest)):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def local_copy(self, name: str, sha256: str, cache: Path) -> Path:
        """Return a local path of a file: itself when local, else a verified copy in `cache`."""
        if self.is_local:
            return Path(self.full(name))
        target = cache / f"{sha256}-{name.rpartition('/')[2]}"
        if not target.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = cache / f".{uuid.uuid4().hex}"
            with self.open(name) as source, partial.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK)
            with partial.open("rb") as stream:
                found = sha256_of(stream)
            if found != sha256:
                partial.unlink()
                raise IntegrityError(
                    f"{name} arrived with sha256 {found}, its manifest says {sha256}"
                )
            partial.replace(target)
        return target


def sha256_of(stream: Any) -> str:
    """Return the hex sha256 of a stream, read in chunks."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk: no name may outlive its bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

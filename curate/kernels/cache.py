"""The folder for what kernels compute once per machine: machine code and tables.

It is `$XDG_CACHE_HOME/preceptor/kernels-<digest>` (`~/.cache` where the variable is unset), and the
digest covers every source file of `curate/kernels`: after any edit the folder is another one, so
nothing in it is ever out of date. It may be deleted at any time; folders of other digests are never
read again.
"""

import functools
import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["cache_folder", "keep"]


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder, made and tried out, or None where nothing can be kept."""
    try:
        folder = _cache_home() / "preceptor" / f"kernels-{_digest()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What lies here is executed: it must be ours, and nobody else may write to it.
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return None
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return folder


def keep(path: Path, data: bytes) -> None:
    """Write a file of the folder in one step, or leave it where the disk does not take it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _cache_home() -> Path:
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return asked if asked.is_absolute() else Path.home() / ".cache"  # as its specification says


def _digest() -> str:
    digest = hashlib.blake2b(digest_size=10)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()

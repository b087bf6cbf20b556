"""The licence file that a file of a source tree is under: LICENSE or COPYING in the nearest folder.

Only folders that the file's own path names are looked into, from the innermost outwards: what lies
beside the recipe is the recipe's and not the data's. The nearest folder that has such a file
decides, also when its licence is not recognised or when two of its files differ.
"""

import functools
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from curate.licences import spdx_of
from curate.readers.base import InputFile
from curate.readers.streams import is_local, local_path

__all__ = ["nearest_license"]

_NAME = re.compile(r"(?:un)?licen[cs]e(?:[-._].{0,40})?|copying(?:[-._].{0,40})?", re.IGNORECASE)
_CODE = (".py", ".js", ".ts", ".go", ".rs", ".c", ".h", ".java", ".rb", ".sh")  # license.py is code
_MAX_BYTES = 1 << 18
_CACHE = 4096


def nearest_license(file: InputFile) -> tuple[str | None, str | None]:
    """Return the SPDX id of the nearest licence file and that file's path as people know it.

    Args:
        file: a file of this machine; for any other store there is none.

    Returns:
        (None, None) without such a file; (None, path) when its licence is not recognised.
    """
    path, known = local_path(file.uri), PurePosixPath(file.path)
    if not is_local(file.uri) or not path.is_absolute() or path.name != known.name:
        return None, None
    folder, known = path.parent, known.parent
    # The file's own folder, and the ones above it down to the first that its path names.
    for _ in range(max(1, len(known.parts))):
        found = _in_folder(folder)
        if found:
            spdx = _common(folder / name for name in found)
            return spdx, (known / found[0]).as_posix()
        if known.name != folder.name:  # the path was not made from this uri
            break
        folder, known = folder.parent, known.parent
    return None, None


def _in_folder(folder: Path) -> tuple[str, ...]:
    try:
        return _names(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return ()


@functools.lru_cache(_CACHE)
def _names(folder: str, mtime_ns: int) -> tuple[str, ...]:
    """Return the names of the licence files in a folder, sorted; a changed folder is read anew."""
    names = (name for name in os.listdir(folder) if _NAME.fullmatch(name))  # noqa: PTH208
    return tuple(sorted(name for name in names if not name.lower().endswith(_CODE)))


def _common(paths: Iterable[Path]) -> str | None:
    """Return the licence of files that all have the same one."""
    found = {_license(path) for path in paths}
    if len(found) == 2 and None not in found:  # the LGPL stands beside the GPL that it adds to
        lesser = {spdx for spdx in found if spdx and spdx.startswith("LGPL-3.0")}
        if lesser and any(spdx and spdx.startswith("GPL-3.0") for spdx in found - lesser):
            return lesser.pop()
    return found.pop() if len(found) == 1 else None


def _license(path: Path) -> str | None:
    try:
        entry = path.stat()
        if not stat.S_ISREG(entry.st_mode):  # opening a pipe would wait
            return None
        return _license_of(str(path), entry.st_mtime_ns, entry.st_size)
    except OSError:
        return None


@functools.lru_cache(_CACHE)
def _license_of(path: str, mtime_ns: int, size: int) -> str | None:
    with Path(path).open("rb") as stream:
        return spdx_of(stream.read(_MAX_BYTES).decode("utf-8", "replace"))[0]

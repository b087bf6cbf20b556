"""The files below a folder, on this machine or in any fsspec store, and glob patterns over them."""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from curate.corpus.errors import InputError
from curate.readers.streams import is_local, local_path

__all__ = ["Entry", "depth_of", "entry", "folder_names", "glob_root", "matcher", "walk"]

_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_MAGIC = re.compile(r"[*?\[]")
# Where stores keep what changes when a file changes, the surest first.
_VERSION_FIELDS = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder as its store describes it."""

    uri: str
    is_folder: bool
    size: int
    version: str
    kind: str = ""  # a pipe, a device or a socket: opening one may wait for ever


def _local_entry(path: Path) -> Entry | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None  # a link to itself is as good as none
    kind = next((word for test, word in _SPECIAL if test(found.st_mode)), "")
    version = f"mtime-{found.st_mtime_ns}"
    return Entry(str(path), stat.S_ISDIR(found.st_mode), found.st_size, version, kind)


def _remote_entry(system: Any, info: Mapping[str, Any], asked: str) -> Entry:
    size = info.get("size")
    size = -1 if size is None else int(size)
    version = next((info[name] for name in _VERSION_FIELDS if info.get(name)), None)
    if version is None:
        version = info.get("created") or f"size-{size}"
    isoformat = getattr(version, "isoformat", None)
    text = isoformat() if isoformat else str(version).strip('"')
    uri = system.unstrip_protocol(info["name"])
    if "::" in asked:  # a file inside an archive: zip://a.jsonl::s3://bucket/b.zip
        uri += "::" + asked.split("::", 1)[1]
    return Entry(uri, info["type"] == "directory", size, text)


def entry(uri: str, storage_options: Mapping[str, Any] | None = None) -> Entry | None:
    """Describe one file or folder; None when it does not exist. Lists nothing."""
    if is_local(uri):
        return _local_entry(Path(os.path.abspath(local_path(uri))))  # noqa: PTH100 - no symlinks
    system, path = fsspec.core.url_to_fs(uri, **(storage_options or {}))
    try:
        return _remote_entry(system, system.info(path), uri)
    except FileNotFoundError:
        return None


def walk(
    uri: str, storage_options: Mapping[str, Any] | None = None, max_depth: int | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield (path relative to the folder, entry) of every file below a folder.

    Hidden files and folders and `__pycache__` are left out. Links to folders are followed once.
    """
    if is_local(uri):
        yield from _walk_local(local_path(uri), max_depth)
        return
    system, root = fsspec.core.url_to_fs(uri, **(storage_options or {}))
    prefix = root.rstrip("/")
    for name, info in sorted(system.find(root, maxdepth=max_depth, detail=True).items()):
        relative = name[len(prefix) :].lstrip("/")
        if not any(_is_hidden(part) for part in relative.split("/")):
            yield relative, _remote_entry(system, info, uri)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _told(error: OSError) -> None:
    raise InputError(
        f"the folder {Path(error.filename).name!r} cannot be listed: {error.strerror}."
    )


def _walk_local(root: Path, max_depth: int | None) -> Iterator[tuple[str, Entry]]:
    seen = set()
    for folder, folders, names in os.walk(root, onerror=_told, followlinks=True):
        here = Path(folder)
        relative = here.relative_to(root)
        real = here.resolve()
        if real in seen:  # a link that leads back, or to a folder that another name has shown
            folders.clear()
            continue
        seen.add(real)
        deep = max_depth is not None and len(relative.parts) + 1 >= max_depth
        folders[:] = [] if deep else sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name):
                # A broken link is listed all the same: opening it will say so.
                found = _local_entry(here / name) or Entry(str(here / name), False, 0, "missing")
                yield (relative / name).as_posix(), found


def glob_root(pattern: str) -> tuple[str, str]:
    """Split a pattern into the folder that has no wildcard and the rest.

    >>> glob_root("data/2024/*/part-?.jsonl"), glob_root("s3://b/x.txt")
    (('data/2024', '*/part-?.jsonl'), ('s3://b/x.txt', ''))
    """
    parts = pattern.split("/")
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ""), "/".join(
        parts[first:]
    )


def depth_of(rest: str) -> int | None:
    """Return how many folder levels a pattern can reach below its root; None: any number."""
    return None if "**" in rest.split("/") else rest.count("/") + 1


def matcher(rest: str) -> re.Pattern[str]:
    """Compile a glob: `*` and `?` stay within one name, `**/` crosses any number of folders.

    >>> bool(matcher("**/*.txt").fullmatch("a/b/c.txt")), bool(matcher("*.txt").match("a/c.txt"))
    (True, False)
    """
    built = ""
    parts = rest.split("/")
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            built += ".+" if last else "(?:[^/]+/)*"
            continue
        # fnmatch writes `*` as `.*` and `?` as `.`; both must stop at a slash.
        for piece in re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", part):
            if piece.startswith("*"):
                built += "[^/]*"
            elif piece == "?":
                built += "[^/]"
            elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
                built += "(?!/)" + fnmatch.translate(piece).removeprefix("(?s:").removesuffix(
                    ")\\Z"
                )
            else:
                built += re.escape(piece)
        built += "" if last else "/"
    return re.compile(built + r"\Z", re.DOTALL)


def folder_names(uri: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names in a folder, for suggestions in errors; none when it cannot be listed."""
    try:
        if is_local(uri):
            return sorted(path.name for path in local_path(uri).iterdir())
        system, path = fsspec.core.url_to_fs(uri, **(storage_options or {}))
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in system.ls(path, detail=False))
    except OSError:
        return []

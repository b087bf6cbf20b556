"""From the `paths:` of a recipe to files, and from files to parts that can be read independently.

Both are pure functions of names and sizes: nothing is opened, a plain named file is never looked
for in a listing, and one more file changes the part that it falls into and no other.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from curate.corpus.errors import InputError, did_you_mean
from curate.readers.base import InputFile, Reader, Slice
from curate.readers.listing import Entry, depth_of, entry, folder_names, glob_root, matcher, walk
from curate.readers.registry import reader_for, reader_named, suffix_of
from curate.readers.streams import is_local, local_path, open_stream
from curate.readers.suggest import sniff, unreadable

__all__ = ["expand", "group", "left_alone", "open_stream", "sniff", "unreadable"]

MAX_BIN_BYTES = 16 << 20
MAX_BIN_FILES = 4096


_KINDS = {"text": "texts", "image": "images", "audio": "sounds"}


def expand(
    paths: Sequence[str],
    base: str = ".",
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    kind: str = "text",
) -> list[InputFile]:
    """Find the files that a source's `paths:` mean.

    Args:
        paths: each a file, a folder (all below it whose suffix has a reader; with `format`, whose
            suffix is of that format), a glob (`**` crosses folders), or an fsspec uri of these.
        base: the folder that relative paths are relative to, usually the recipe's.
        format: the recipe's `format:`, if any.
        storage_options: for fsspec, when a uri has a protocol.
        kind: text, image or audio: which files of a folder are meant where `format` says nothing.

    Returns:
        The files sorted by uri, each once, without a key: a document's identity is its content,
        not where its file lies. `path` is relative to `base`, or else begins with the name of the
        folder that holds the file or that the pattern starts from.

    Raises:
        InputError: a path matches nothing, or a named file has no reader.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    wanted = reader_named(format) if format is not None else None
    if wanted is not None and wanted.expand is not None:
        return wanted.expand(paths)
    root = _absolute(base, "")
    found: dict[str, tuple[Entry, str]] = {}
    for path in paths:
        for match, relative_root in _found(path, root, wanted, storage_options, kind):
            if match.kind:
                raise InputError(f"paths: {match.uri!r} is {match.kind}, no file that can be read")
            found.setdefault(match.uri, (match, _known_as(match.uri, relative_root, root)))
    names = _distinct({uri: name for uri, (_, name) in found.items()})
    files = []
    for uri in sorted(found):
        reader_for(names[uri], format)
        match = found[uri][0]
        files.append(InputFile(uri, names[uri], match.size, match.version))
    return files if wanted is None or wanted.arrange is None else wanted.arrange(files)


def _absolute(path: str, base: str) -> str:
    """Return a uri, or the normalised absolute path of a local file, links unresolved."""
    if not is_local(path):
        return path
    local = Path(local_path(path)).expanduser()
    if not local.is_absolute() and base and not is_local(base):
        return f"{base.rstrip('/')}/{path}"
    return os.path.abspath(Path(base) / local)  # noqa: PTH100 - resolve() would follow links


def _found(
    path: str,
    base: str,
    wanted: Reader | None,
    storage_options: Mapping[str, Any] | None,
    kind: str,
) -> list[tuple[Entry, str]]:
    """Return `_matches`; whatever a store or the system says against a path becomes one line."""
    try:
        return _matches(path, base, wanted, storage_options, kind)
    except InputError:
        raise
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(path.partition("://")[0])
        hint = f"; pip install 'preceptor[{extra}]'" if extra else ""
        raise InputError(f"paths: {_short(path)} cannot be opened: {error}{hint}") from None
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"paths: {_short(path)} cannot be looked for: {said}") from None


def _short(path: str) -> str:
    return repr(path if len(path) <= 100 else path[:97] + "...")


def _matches(
    path: str,
    base: str,
    wanted: Reader | None,
    storage_options: Mapping[str, Any] | None,
    kind: str,
) -> list[tuple[Entry, str]]:
    """Return (entry, folder its name is relative to) of every file that one path means."""
    uri = _absolute(path, base)
    named = entry(uri, storage_options)
    if named is not None and not named.is_folder:
        return [(named, named.uri.rsplit("/", 1)[0])]
    if named is not None:
        below = list(walk(uri, storage_options))
        matches = [(one, named.uri) for name, one in below if _has_reader(name, wanted, kind)]
        if not matches:
            what = f"{wanted.name} file" if wanted else "file with a known suffix"
            others = (one for one in _KINDS if one != kind and not wanted)
            told = next((one for one in others if any(_only(name, one) for name, _ in below)), None)
            raise InputError(
                f"the folder {path!r} holds {_KINDS[told]}, and the recipe's schema is of "
                f"{_KINDS[kind]}; say `schema: {told}`."
                if told
                else f"the folder {path!r} holds no {what}. Name the files with a pattern, such as "
                f"{path.rstrip('/') + '/**/*'!r}, and their format with `format:`."
            )
        return matches
    root, rest = glob_root(uri)
    fits = matcher(rest)
    start = entry(root, storage_options) if rest else None
    if start is not None and start.is_folder:
        inside = walk(root, storage_options, depth_of(rest))
        matches = [(found, start.uri) for relative, found in inside if fits.match(relative)]
        if matches:
            return matches
    raise _nothing(path, uri, base, storage_options)


def _has_reader(path: str, wanted: Reader | None, kind: str) -> bool:
    if wanted is not None:
        return wanted.arrange is not None or suffix_of(path)[0] in wanted.suffixes
    try:
        return reader_for(path)[0].gives(kind)
    except InputError:
        return False


def _only(path: str, kind: str) -> bool:
    """Say whether a suffix means this kind and no other."""
    return [one for one in _KINDS if _has_reader(path, None, one)] == [kind]


def left_alone(paths: Sequence[str], base: str, kind: str) -> list[str]:
    """Return the files of the folders that a source names which no reader of its kind reads.

    Args:
        paths: as for `expand`, of a source without a format.
        base: the folder that relative paths are relative to.
        kind: text, image or audio.
    """
    found = []
    for path in paths:
        uri = _absolute(path, _absolute(base, ""))
        named = entry(uri, None)
        if named is not None and named.is_folder:
            found += [name for name, _ in walk(uri, None) if not _has_reader(name, None, kind)]
    return sorted(found)


def _nothing(
    path: str, uri: str, base: str, storage_options: Mapping[str, Any] | None
) -> InputError:
    """Say which pattern found nothing, from where on, and what is there instead."""
    folder, name = uri, ""
    while "/" in folder.rstrip("/"):
        folder, _, name = folder.rstrip("/").rpartition("/")
        found = entry(folder or "/", storage_options) if not folder.endswith(":/") else None
        if found is not None and found.is_folder:
            break
    names = folder_names(folder or "/", storage_options)
    where = _below(folder, base)
    shown = "the recipe's folder" if where == "." else where and repr(where)
    return InputError(
        f"paths: {path!r} matches no file; there is no {name!r} in "
        f"{shown or repr(PurePosixPath(folder).name)}.{did_you_mean(name, names)}"
    )


def _below(uri: str, base: str) -> str:
    """Return a uri relative to base, or "" when it is not below it."""
    base = base.rstrip("/")
    if uri == base:
        return "."
    return uri[len(base) + 1 :] if uri.startswith(base + "/") else ""


def _known_as(uri: str, root: str, base: str) -> str:
    """Return the name of a file without the part of the path that is this machine's."""
    below_base = _below(uri, base)
    if below_base:
        return below_base
    below_root = _below(uri, root) or uri.rsplit("/", 1)[-1]
    folder = root.rstrip("/").rsplit("/", 1)[-1]
    return f"{folder}/{below_root}" if folder and not folder.endswith(":") else below_root


def _distinct(names: dict[str, str]) -> dict[str, str]:
    """Lengthen names that two files share by one more folder, until they differ."""
    while True:
        sharing: dict[str, list[str]] = {}
        for uri, name in names.items():
            sharing.setdefault(name, []).append(uri)
        clashes = [uris for uris in sharing.values() if len(uris) > 1]
        if not clashes:
            return names
        longer = dict(names)
        for uri in (uri for uris in clashes for uri in uris):
            parts = [part for part in uri.split("/") if part]
            longer[uri] = "/".join(parts[-(names[uri].count("/") + 2) :])
        if longer == names:
            return names
        names = longer


def group(
    files: Sequence[InputFile],
    reader: Reader,
    max_bytes: int = MAX_BIN_BYTES,
    max_files: int = MAX_BIN_FILES,
) -> list[list[Slice]]:
    """Plan the parts: which slices are read together.

    Formats with one document per file fill bins by a trie over the bits of blake2b(path), as in
    extendible hashing (Fagin et al. 1979): a bin that holds too much splits by the next bit. So a
    new file changes its own bin only (or splits it). A file above `max_bytes` stands alone. For
    other formats each slice of `reader.split` stands alone.

    Args:
        files: as `expand` returns them, all of this reader's format; their order is irrelevant.
        reader: their reader.
        max_bytes: the size of a bin, or of a slice.
        max_files: the number of files of a bin.
    """
    if max_bytes < 1 or max_files < 1:
        raise InputError(f"max_bytes {max_bytes} and max_files {max_files} must be at least 1.")
    ordered = sorted(files, key=lambda file: (file.path, file.uri))
    if not reader.one_document_per_file:
        return [[part] for file in ordered for part in reader.split(file, max_bytes)]
    small = [(_bits(file.path), file) for file in ordered if file.size <= max_bytes]
    bins = _bins(small, 0, max_bytes, max_files)
    bins += [[file] for file in ordered if file.size > max_bytes]
    return [[Slice(file) for file in members] for members in bins]


_HASH_BITS = 128


def _bits(path: str) -> int:
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return int.from_bytes(digest, "big")


def _bins(
    files: list[tuple[int, InputFile]], depth: int, max_bytes: int, max_files: int
) -> list[list[InputFile]]:
    if not files:
        return []
    num_bytes = sum(max(file.size, 0) for _, file in files)
    small = num_bytes <= max_bytes and len(files) <= max_files
    if small or len(files) == 1 or depth == _HASH_BITS:
        return [[file for _, file in files]]
    halves: tuple[list[tuple[int, InputFile]], ...] = ([], [])
    for bits, file in files:
        halves[bits >> (_HASH_BITS - 1 - depth) & 1].append((bits, file))
    return [part for half in halves for part in _bins(half, depth + 1, max_bytes, max_files)]

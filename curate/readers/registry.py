"""Which readers there are: every module of this package that has a `READER`.

Adding one file adds a reader; nothing else needs to name it.

>>> reader_for("books/part-1.jsonl.zst")[0].name, reader_for("books/part-1.jsonl.zst")[1]
('jsonl', '.zst')
"""

import functools
import importlib
import pkgutil
from pathlib import PurePosixPath

import curate.readers
from curate.corpus.errors import InputError, did_you_mean, one_of
from curate.readers.base import Reader
from curate.readers.streams import COMPRESSIONS

__all__ = ["reader_for", "reader_named", "readers", "suffix_of", "suffixes"]


@functools.cache
def _found() -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    for module_info in sorted(pkgutil.iter_modules(curate.readers.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"curate.readers.{module_info.name}")
        reader = getattr(module, "READER", None)
        if reader is not None:
            assert reader.name not in found, f"two readers are called {reader.name}"
            found[reader.name] = reader
    return found


def readers() -> dict[str, Reader]:
    """Return every reader by its name, sorted by name."""
    return dict(sorted(_found().items()))


@functools.cache
def suffixes() -> dict[str, str]:
    """Return the reader's name for every file suffix (without compression)."""
    table: dict[str, str] = {}
    for name, reader in readers().items():
        for suffix in reader.suffixes:
            assert suffix not in table, f"{suffix} belongs to {table[suffix]} and {name}"
            table[suffix] = name
    return table


def reader_named(name: str) -> Reader:
    """Return a reader by the recipe's `format:`.

    Raises:
        InputError: there is none; the message lists them and the nearest.
    """
    found = readers()
    if name not in found:
        raise InputError(one_of("format", name, found))
    return found[name]


def suffix_of(path: str) -> tuple[str, str | None]:
    """Split a file's name into its suffix and its compression suffix, both in lower case.

    >>> suffix_of("a/B.JSONL.gz"), suffix_of("notes.txt"), suffix_of("Makefile")
    (('.jsonl', '.gz'), ('.txt', None), ('', None))
    """
    name = PurePosixPath(path.lower())
    if name.suffix in COMPRESSIONS:
        return PurePosixPath(name.stem).suffix, name.suffix
    return name.suffix, None


def reader_for(path: str, format: str | None = None) -> tuple[Reader, str | None]:
    """Return the reader of a file and how the file is compressed.

    Args:
        path: the file's name; only its suffixes count, its content is never looked at.
        format: the recipe's `format:`, which wins over the suffix.

    Returns:
        The reader, and a key of `streams.COMPRESSIONS` or None.

    Raises:
        InputError: unknown format or suffix, or a compressed file of a format that needs to seek.
    """
    suffix, compression = suffix_of(path)
    table = suffixes()
    if format is not None:
        reader = reader_named(format)
        if reader.expand is not None:
            return reader, None
    elif suffix in table:
        reader = readers()[table[suffix]]
    else:
        what = f"the suffix {suffix!r} is not known" if suffix else "it has no suffix"
        raise InputError(
            f"no reader for {path!r}: {what}.{did_you_mean(suffix, table)} Say `format:`, one of: "
            f"{', '.join(readers())} (`preceptor list readers` tells their suffixes)."
        )
    if compression is not None and not reader.streams:
        raise InputError(
            f"{path!r}: a {reader.name} file cannot be read inside {compression}; decompress it "
            f"first ({reader.name} compresses its columns by itself)."
        )
    return reader, compression

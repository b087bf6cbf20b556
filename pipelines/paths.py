"""Where the files for people go."""

import shutil
import sys
from pathlib import Path

from curate.corpus.errors import InputError
from pipelines.corpus import Corpus

__all__ = ["command_name", "lasting", "report_path", "shown"]


def lasting(store: str) -> str:
    """Return the store's uri, unless everything in it ends with this process.

    Raises:
        InputError: a store in memory.
    """
    if store.startswith("memory:"):
        raise InputError(
            f"the store {store} lives in memory and ends with this command; name a folder"
        )
    return store


def report_path(corpus: Corpus) -> Path:
    """Return where a version's report goes in a local store."""
    storage = corpus.store.storage
    if not storage.is_local:
        raise InputError(f"the store {storage.uri} is remote; name the report's file with --out")
    return Path(storage.full(f"reports/{corpus.version.name}@{corpus.version.number}.html"))


def shown(path: str | Path) -> str:
    """Return a path as a person would write it here: relative where it lies below this folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def command_name() -> str:
    """Return what a person types to start this command line: its path where it is not on PATH."""
    return "preceptor" if shutil.which("preceptor") else shown(Path(sys.argv[0]).absolute())

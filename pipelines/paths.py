"""Where the files for people go."""

from pathlib import Path

from curate.corpus.errors import InputError
from pipelines.corpus import Corpus

__all__ = ["lasting", "report_path"]


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

"""Where the files for people go."""

from pathlib import Path

from curate.corpus.errors import InputError
from pipelines.corpus import Corpus

__all__ = ["report_path"]


def report_path(corpus: Corpus) -> Path:
    """Return where a version's report goes in a local store."""
    storage = corpus.store.storage
    if not storage.is_local:
        raise InputError(f"the store {storage.uri} is remote; name the report's file with --out")
    return Path(storage.full(f"reports/{corpus.version.name}@{corpus.version.number}.html"))

"""What a store holds, for its front page: corpora, their versions, and a few numbers of each."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from curate.corpus.errors import InputError
from pipelines.checks.records import stored
from pipelines.corpus import Corpus, open_corpus
from pipelines.runs import FoundRun, runs_of
from pipelines.store import Store
from pipelines.tokenizing import budget_unit

__all__ = ["catalog", "opened"]

_MAX_CORPORA = 200
_MAX_VERSIONS = 30  # of a corpus, the newest
_MAX_RUNS = 3  # of a version, the latest
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[0-9]{1,9}")


def opened(store: Store, name: str) -> Corpus:
    """Open NAME@VERSION; what cannot be one is refused before it becomes a path.

    Raises:
        InputError: another form, no such version, or a withdrawn one.
    """
    if not _VERSION.fullmatch(name):
        raise InputError("a corpus version is called NAME@VERSION; the front page lists them")
    return open_corpus(name, store=store)


def catalog(store: Store) -> dict[str, Any]:
    """Return {corpora: name, versions, more; more}: the newest versions first."""
    names, runs = store.corpora(), runs_of(store)
    return {
        "corpora": [_corpus(store, name, runs) for name in names[:_MAX_CORPORA]],
        "more": max(0, len(names) - _MAX_CORPORA),
    }


def _corpus(store: Store, name: str, runs: Sequence[FoundRun]) -> dict[str, Any]:
    current, withdrawn = store.current(name), store.withdrawn(name)
    numbers = sorted({record["version"] for record in store.versions(name)}, reverse=True)
    shown = numbers[:_MAX_VERSIONS]
    return {
        "name": name,
        "versions": [
            {"number": number, "id": f"{name}@{number}", "withdrawn": withdrawn[number]["why"]}
            if number in withdrawn
            else {
                **_version(store, f"{name}@{number}"),
                "is_current": current is not None and current.number == number,
                "runs": [run.id for run in runs if run.corpus == f"{name}@{number}"][:_MAX_RUNS],
            }
            for number in shown
        ],
        "more": len(numbers) - len(shown),
    }


def _version(store: Store, name: str) -> dict[str, Any]:
    corpus = open_corpus(name, store=store)
    checks = stored(corpus)
    version = corpus.version
    numbers = _numbers(store, *sorted(version.manifests.items()))
    return {
        **numbers,
        "number": version.number,
        "id": name,
        "withdrawn": None,
        "parent": f"{version.name}@{version.parent}" if version.parent else None,
        "fingerprint": version.fingerprint,
        "checks": None
        if checks is None
        else {"passed": sum(bool(c["passed"]) for c in checks), "all": len(checks)},
    }


@lru_cache(maxsize=4096)
def _numbers(store: Store, *manifests: tuple[str, str]) -> dict[str, Any]:
    """Return a version's counts; manifests never change, so they are read once."""
    wanted = {name: digest for name, digest in manifests if name in ("judge", "tokenize", "mix")}
    found = {name: store.get_manifest(name, digest) for name, digest in wanted.items()}
    counts = {name: manifest.counts for name, manifest in found.items()}
    return {
        "documents": counts["judge"]["documents"],
        "kept": counts["judge"]["kept"],
        "tokens": counts["tokenize"].get("tokens", 0),
        "unit": budget_unit(found["tokenize"].info.get("media") or {}),
        "drawn_tokens": counts["mix"].get("drawn_tokens", 0),
    }

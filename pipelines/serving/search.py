"""A search over verdicts: by source, reason, fate, id, and text in a key or an address.

Conditions are columns of polars, built here from checked words; nothing that a browser sends is
evaluated. What a recipe redacts cannot be found by searching for it: a hit counts only when the
masked value holds the text as well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

from curate.corpus.errors import InputError, one_of
from curate.corpus.identity import parse_id
from pipelines.corpus import Corpus

__all__ = ["MAX_CANDIDATES", "PAGE", "Query", "parse_query", "search"]

PAGE = 50
_MAX_PAGES = 400
_MAX_TEXT, _MIN_TEXT = 200, 3
_MAX_NAME = 300
MAX_CANDIDATES = 20_000  # whose keys and addresses are looked at again, masked
_HEX = re.compile(r"[0-9a-f]{0,32}")
_FIELDS = ("key", "url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; an empty string asks for nothing.

    Attributes:
        source: a source's name.
        reason: one reason of a verdict.
        fate: `kept` or `dropped`.
        text: stands in the key or the url.
        id: the first digits of a document's id.
        page: from 1.
    """

    source: str = ""
    reason: str = ""
    fate: str = ""
    text: str = ""
    id: str = ""
    page: int = 1

    def __post_init__(self) -> None:
        if self.fate not in ("", "kept", "dropped"):
            raise InputError(one_of("fate", self.fate[:60], ["kept", "dropped"]))
        if not _HEX.fullmatch(self.id):
            raise InputError("an id has up to 32 hexadecimal digits; its first ones will do")
        if self.text and not _MIN_TEXT <= len(self.text) <= _MAX_TEXT:
            raise InputError(f"a text to look for has {_MIN_TEXT} to {_MAX_TEXT} characters")
        if max(len(self.source), len(self.reason)) > _MAX_NAME:
            raise InputError(f"no source or reason has more than {_MAX_NAME} characters")
        if not 1 <= self.page <= _MAX_PAGES:
            raise InputError(f"pages are 1 to {_MAX_PAGES}; ask for less, with more conditions")


def parse_query(given: Mapping[str, str]) -> Query:
    """Build a query from what a browser sent.

    Raises:
        InputError: an unknown key, a value that cannot be one.
    """
    known = ("source", "reason", "fate", "text", "id", "page")
    for name in given:
        if name not in known:
            raise InputError(one_of("condition", name[:60], known))
    page = given.get("page") or "1"
    if not (page.isascii() and page.isdecimal() and len(page) <= 6):
        raise InputError("a page is a number")
    words = {name: given.get(name, "").strip() for name in known[:-1]}
    return Query(**{**words, "id": words["id"].lower()}, page=int(page))


def search(corpus: Corpus, query: Query) -> dict[str, Any]:
    """Return one page of the documents found: total, page, pages, rows, whole.

    A row has doc_id, source, kept, reasons, split, num_bytes, key, url. `whole` is False where so
    many documents hold the text that only the first of them were looked at.
    """
    ids, whole = _found(corpus, query)
    total = len(ids)
    first = (query.page - 1) * PAGE
    rows = _rows(corpus, ids.slice(first, PAGE))
    pages = min(_MAX_PAGES, -(-total // PAGE))
    return {"total": total, "page": query.page, "pages": pages, "rows": rows, "whole": whole}


def _found(corpus: Corpus, query: Query) -> tuple[pl.Series, bool]:
    """Return the ids of all documents found, sorted, from the few searches last made."""
    conditions = (query.source, query.reason, query.fate, query.text, query.id)
    return _searched(_Opened(corpus), conditions)


class _Opened:
    """A corpus version as the key of a cache: equal where its fingerprint and its store are."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._key = (corpus.store.uri, corpus.version.fingerprint)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opened) and self._key == other._key


@lru_cache(maxsize=8)  # some 16 MB for a million documents
def _searched(opened: _Opened, conditions: tuple[str, ...]) -> tuple[pl.Series, bool]:
    source, reason, fate, text, prefix = conditions
    frame = opened.corpus.table("verdicts", hex_ids=False)
    if source:
        frame = frame.filter(pl.col("source") == source)
    if fate:
        frame = frame.filter(pl.col("kept") == (fate == "kept"))
    if reason:
        frame = frame.filter(pl.col("reasons").list.contains(reason))
    if prefix:
        low, high = (parse_id(prefix.ljust(32, end)) for end in "0f")
        frame = frame.filter(pl.col("doc_id").is_between(pl.lit(low), pl.lit(high)))
    whole = True
    if text:
        holding, whole = _holding(opened.corpus, text)
        frame = frame.join(holding.lazy(), on="doc_id", how="semi")
    return frame.select("doc_id").collect()["doc_id"].sort(), whole


def _holding(corpus: Corpus, text: str) -> tuple[pl.DataFrame, bool]:
    """Return doc_id of the documents whose key or url holds a text, as far as it is shown."""
    holds = pl.any_horizontal(
        pl.col(name).str.contains(text, literal=True).fill_null(value=False) for name in _FIELDS
    )
    shown = corpus.table("documents", hex_ids=False).select("doc_id", *_FIELDS)
    if not corpus.manifest("clean").settings.get("redact"):
        return shown.filter(holds).select("doc_id").collect(), True
    # Masking costs some 50 microseconds a value: only what holds the text as stored is masked.
    stored = corpus.table("documents", hex_ids=False, as_stored=True).select("doc_id", *_FIELDS)
    found = stored.filter(holds).select("doc_id").collect()["doc_id"].sort()
    candidates = found.head(MAX_CANDIDATES)
    mine = shown.filter(pl.col("doc_id").is_in(candidates.implode()))
    return mine.filter(holds).select("doc_id").collect(), len(candidates) == len(found)


def _rows(corpus: Corpus, ids: pl.Series) -> list[dict[str, Any]]:
    """Return the verdicts, keys and addresses of a few documents, in their order."""
    if not len(ids):
        return []
    mine = pl.col("doc_id").is_in(ids.implode())
    verdicts = corpus.table("verdicts", hex_ids=False).filter(mine)
    told = corpus.table("documents", hex_ids=False).filter(mine)
    rows = verdicts.select("doc_id", "source", "kept", "reasons", "split", "num_bytes").join(
        told.select("doc_id", *_FIELDS), on="doc_id", how="left"
    )
    found = rows.collect().sort("doc_id").with_columns(pl.col("doc_id").bin.encode("hex"))
    return found.to_dicts()

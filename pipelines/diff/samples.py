"""Documents to look at: of each cause a few, chosen by the reversed id, and what differs in them.

Nobody picks them, and a document stays a sample from comparison to comparison. Texts are clipped;
what a recipe redacts is masked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.corpus import Corpus
from pipelines.diff.joined import Joined, listed
from pipelines.worddiff import word_diff

__all__ = ["samples"]

_MAX_CAUSES = 16
_MAX_SAMPLES = 200
_MAX_CHARS = 600
_MAX_HUNKS = 3
_COLUMNS = ("path", "position", "url", "text")  # documents that are no text lack some
_FORGOTTEN = "forgotten"


def samples(
    joined: Joined, attributed: pl.DataFrame, causes: Sequence[Mapping[str, Any]], count: int
) -> list[dict[str, Any]]:
    """Return up to `count` documents of each of the largest causes.

    Each has doc_id, source, fate, pass, what, path, position, url, text (its beginning, as it is in
    B where it is there), `a` and `b` (None where it is not collected: kept, reasons, split, tokens)
    and `diff` (`worddiff.WordDiff.to_dict`) where the text is another.
    """
    asked = list(causes)[:_MAX_CAUSES]
    if not asked or count < 1:
        return []
    order = pl.DataFrame(
        [(row["pass"], row["what"], place) for place, row in enumerate(asked)],
        schema={"pass": pl.String, "what": pl.String, "place": pl.Int64},
        orient="row",
    )
    chosen = (
        attributed.with_columns(pl.col("pass").cast(pl.String))
        .join(order, on=["pass", "what"])
        .with_columns(key=pl.col("doc_id").bin.encode("hex").str.reverse())
        .sort("place", "key")
        .group_by("place", maintain_order=True)
        .head(min(count, _MAX_SAMPLES // len(asked) or 1))
    )
    rows = chosen.join(joined.documents, on="doc_id", maintain_order="left").with_columns(
        pl.col("source", "fate", "split_a", "split_b").cast(pl.String),
        listed("reasons_a").alias("reasons_a"),
        listed("reasons_b").alias("reasons_b"),
    )
    texts = {letter: _texts(corpus, rows, letter) for letter, corpus in joined.sides}
    return [_sample(row, texts) for row in rows.iter_rows(named=True)]


def _texts(corpus: Corpus, rows: pl.DataFrame, letter: str) -> dict[bytes, dict[str, Any]]:
    """Return doc_id -> source, path, position, url, text of the samples one side has."""
    mine = rows.filter(pl.col(f"kept_{letter}").is_not_null())["doc_id"]
    if not len(mine):
        return {}
    table = corpus.table("documents", hex_ids=False)
    there = [name for name in _COLUMNS if name in table.collect_schema()]
    found = table.filter(pl.col("doc_id").is_in(mine.implode())).select("doc_id", *there).collect()
    return {row.pop("doc_id"): row for row in found.iter_rows(named=True)}


def _sample(row: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, Any]:
    doc_id = row["doc_id"]
    reasons = (row[f"reasons_{letter}"] or () for letter in "ab")
    # What one version has forgotten is not shown because another still has it.
    is_forgotten = any(_FORGOTTEN in listed for listed in reasons)
    before, after = (None if is_forgotten else texts[side].get(doc_id) for side in "ab")
    shown = after or before or {}
    text = shown.get("text") or ""
    diff = None
    if before and after and (before.get("text") or "") != text:
        diff = word_diff(before.get("text") or "", text, max_hunks=_MAX_HUNKS).to_dict()
    return {
        "doc_id": doc_id.hex(),
        **{name: row[name] for name in ("source", "fate", "pass", "what")},
        **{name: shown.get(name) for name in _COLUMNS[:3]},
        "text": text[:_MAX_CHARS],
        "characters": len(text),
        "a": _place(row, "a"),
        "b": _place(row, "b"),
        "diff": diff,
    }


def _place(row: Mapping[str, Any], letter: str) -> dict[str, Any] | None:
    if row[f"kept_{letter}"] is None:
        return None
    names = ("kept", "reasons", "split", "tokens")
    return {name: row[f"{name}_{letter}"] for name in names}

"""What a reader of the corpus would meet: how long documents are, where from, what is repeated."""

from typing import Any

import polars as pl

from pipelines.report.facts import Facts
from pipelines.report.text import clip

__all__ = ["contents"]

_LARGEST_POWER = 24
_QUANTILES = {"least": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "most": 1.0}
_MAX_DOMAINS, _MAX_LINES = 20, 8
_LINE_BYTES = 160
# The host of an absolute URL, without a user's name and without a port.
_HOST = r"(?i)^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?([^/?#:]+)"


def contents(facts: Facts) -> dict[str, Any]:
    """Return {lengths, domains, lines}, of the kept documents.

    `lengths` has quantiles of the tokens per document and a histogram by powers of two; `domains`
    the hosts of the documents that have a URL, most tokens first; `lines` the most repeated lines.
    """
    return {"lengths": _lengths(facts), "domains": _domains(facts), "lines": _lines(facts)}


def _lengths(facts: Facts) -> dict[str, Any] | None:
    tokens = facts.documents.filter("kept")["tokens"].drop_nulls()
    if not len(tokens):
        return None
    edges = [0, *(2**power for power in range(_LARGEST_POWER + 1))]
    marks = pl.Series(edges[1:], dtype=pl.Int64)
    places = marks.search_sorted(tokens, side="right").alias("place")
    counted = dict(places.value_counts().rows())
    counts = [int(counted.get(place, 0)) for place in range(len(edges))]
    first = next(i for i, count in enumerate(counts) if count)
    last = max(i for i, count in enumerate(counts) if count)
    ends = [*edges, 2 ** (_LARGEST_POWER + 1)]
    return {
        "quantiles": {
            name: int(tokens.quantile(share, interpolation="nearest") or 0)
            for name, share in _QUANTILES.items()
        },
        "edges": ends[first : last + 2],
        "counts": counts[first : last + 1],
    }


def _domains(facts: Facts) -> dict[str, Any] | None:
    kept = facts.documents.filter("kept").select("doc_id", "source", "tokens")
    found = (
        facts.corpus.table("documents", hex_ids=False)
        .select("doc_id", host=pl.col("url").str.extract(_HOST).str.to_lowercase())
        .filter(pl.col("host").is_not_null())
        .collect()
        .join(kept, on="doc_id")
    )
    if not found.height:
        return None
    rows = (
        found.group_by("host")
        .agg(documents=pl.len(), tokens=pl.col("tokens").sum())
        .sort(["tokens", "host"], descending=[True, False])
    )
    top = rows.head(_MAX_DOMAINS)
    return {
        "count": rows.height,
        "documents": found.height,
        "tokens": int(rows["tokens"].sum()),
        "rows": [{**row, "host": clip(row["host"], 120)} for row in top.iter_rows(named=True)],
    }


def _lines(facts: Facts) -> list[dict[str, Any]]:
    """Return the lines that stand in most documents, as examples of what is cut."""
    rows = (
        facts.corpus.table("lines")
        .filter(pl.col("text").is_not_null())
        .select("line", "documents", "text")
        .top_k(_MAX_LINES, by=["documents", "line"])
        .collect()
        .sort(["documents", "line"], descending=[True, False])
    )
    return [
        {"documents": row["documents"], "text": clip(row["text"], _LINE_BYTES)}
        for row in rows.iter_rows(named=True)
    ]

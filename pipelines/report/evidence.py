"""Duplicates and contamination: what was found, how sure, and what it looks like."""

from typing import Any

import polars as pl

from curate.contamination.thresholds import enough
from pipelines.report.facts import Facts
from pipelines.report.near import COUNTS, near_duplicates
from pipelines.report.snippets import Snippets
from pipelines.testitems import item_texts

__all__ = ["contamination", "duplicates"]

_TOP_CLUSTERS = 20
_CLOSE_CALLS = 3
_SNIPPET_BYTES = 360
_SPAN_BYTES = 700
_HITS_SHOWN = 24
_SIZES = ((2, 2), (3, 3), (4, 4), (5, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 1000))
_JACCARD_BINS = 20
_LINES = ("lines_repeated", "documents_cut", "bytes_cut")


def duplicates(facts: Facts, snippets: Snippets) -> dict[str, Any]:
    """Return clusters and their sizes, the Jaccard of near pairs, and how these were found."""
    manifest = facts.corpus.manifest("deduplicate")
    edges = facts.corpus.table("duplicates", hex_ids=False)
    clusters = (
        edges.group_by("cluster_id")
        .agg(size=pl.col("cluster_size").first(), pairs=pl.len(), lowest=pl.col("jaccard").min())
        .collect()
    )
    near = near_duplicates(manifest)
    lines = {name: manifest.counts[name] for name in _LINES if name in manifest.counts}
    return {
        "exact": manifest.settings.get("exact", True),
        "near": near,
        "scheme": manifest.info.get("scheme"),
        "counts": dict.fromkeys(COUNTS, 0) | dict(manifest.counts),
        "lines": lines if len(lines) == len(_LINES) else None,
        "sizes": _sizes(clusters),
        "jaccard": _jaccard(edges, float(near["threshold"] or 0)) if near else None,
        "top": _top(facts, clusters, snippets),
        "close_calls": _close_calls(edges, snippets) if near else [],
    }


def _sizes(clusters: pl.DataFrame) -> list[dict[str, Any]]:
    size = pl.col("size")
    rows = []
    for low, high in (*_SIZES, (1001, None)):
        within = clusters.filter((size >= low) & (size <= high if high else True))
        if within.height:
            label = str(low) if low == high else f"{low}-{high}" if high else f"over {low - 1}"
            members = int(within["size"].sum())
            rows.append({"size": label, "clusters": within.height, "documents": members})
    return rows


def _jaccard(edges: pl.LazyFrame, threshold: float) -> dict[str, Any]:
    """Return the histogram of verified near pairs from the threshold to 1."""
    width = (1 - threshold) / _JACCARD_BINS
    place = ((pl.col("jaccard") - threshold) / width).floor() if width else pl.lit(0.0)
    counted = (
        edges.filter(pl.col("kind") == "near")
        .select(place.clip(0, _JACCARD_BINS - 1).cast(pl.Int64).alias("bin"))
        .group_by("bin")
        .agg(pairs=pl.len())
        .collect()
    )
    counts = [0] * _JACCARD_BINS
    for place_of, pairs in counted.iter_rows():
        counts[place_of] = pairs
    return {"low": threshold, "high": 1.0, "counts": counts}


def _top(facts: Facts, clusters: pl.DataFrame, snippets: Snippets) -> list[dict[str, Any]]:
    """Return the largest clusters with a member that stays and one that goes."""
    top = clusters.sort(["size", "cluster_id"], descending=[True, False]).head(_TOP_CLUSTERS)
    members = facts.documents.join(top.select("cluster_id"), on="cluster_id", how="semi")
    rows = []
    for cluster in top.iter_rows(named=True):
        mine = members.filter(pl.col("cluster_id") == cluster["cluster_id"]).sort(
            ["kept", "num_bytes", "doc_id"], descending=[True, True, False]
        )
        stay = mine.filter("kept").head(2).to_dicts()
        gone = mine.filter(~pl.col("kept")).head(2).to_dicts()
        shown = (stay[:1] + gone[:1] + stay[1:2] + gone[1:2])[:2]
        lost = mine.filter(~pl.col("kept")).select("source", "num_bytes").to_dicts()
        rows.append(
            {
                "cluster_id": cluster["cluster_id"].hex(),
                "size": cluster["size"],
                "pairs": cluster["pairs"],
                "lowest_jaccard": round(cluster["lowest"], 4),
                "kept": int(mine["kept"].sum()),
                "lost_tokens_estimate": facts.estimate(lost),
                "sources": [
                    list(pair) for pair in mine["source"].value_counts().sort("source").rows()
                ],
                "members": [
                    {"kept": row["kept"], "source": row["source"], "snippet": snippet}
                    for row in shown
                    if (snippet := snippets.beginning(row["doc_id"], _SNIPPET_BYTES))
                ],
            }
        )
    return rows


def _close_calls(edges: pl.LazyFrame, snippets: Snippets) -> list[dict[str, Any]]:
    """Return the verified pairs that are least alike."""
    pairs = (
        edges.filter(pl.col("kind") == "near")
        .select("jaccard", "doc_id", "twin_id")
        .bottom_k(_CLOSE_CALLS, by=["jaccard", "doc_id", "twin_id"])
        .collect()
        .sort("jaccard", "doc_id", "twin_id")
    )
    return [
        {
            "jaccard": round(row["jaccard"], 4),
            "members": [
                snippet
                for column in ("twin_id", "doc_id")
                if (snippet := snippets.beginning(row[column], _SNIPPET_BYTES))
            ],
        }
        for row in pairs.iter_rows(named=True)
    ]


def contamination(facts: Facts, snippets: Snippets) -> dict[str, Any]:
    """Return each benchmark's coverage and hits, and the strongest hits with their spans."""
    manifest = facts.corpus.manifest("decontaminate")
    asked = facts.corpus.manifest("judge").settings["contamination"]
    table = facts.corpus.table("contamination", hex_ids=False).collect()
    table = table.with_columns(enough(table, asked["thresholds"]))
    strong = pl.col("enough")
    counted = table.group_by("benchmark").agg(
        documents=pl.col("doc_id").filter(strong).n_unique(),
        items=pl.col("item").filter(strong).n_unique(),
        weaker=pl.col("doc_id").n_unique(),
    )
    hits = {row["benchmark"]: row for row in counted.iter_rows(named=True)}
    silenced = manifest.info.get("silenced", {})
    rows = []
    for row in manifest.info["coverage"]:
        name = row["benchmark"]
        hit = hits.get(name, {"documents": 0, "items": 0, "weaker": 0})
        found = {
            "hit_documents": hit["documents"],
            "hit_items": hit["items"],
            "weaker_documents": hit["weaker"] - hit["documents"],
            "silenced_items": silenced.get(name, 0),
            "action": asked["actions"].get(name, asked["action"]),
        }
        rows.append({**row, **found})
    methods = manifest.settings["methods"]
    first = next(iter(methods), "ngram")
    return {
        "words": methods[first]["words"] if first in methods else 0,
        "record_above": manifest.settings["record_above"].get(first, 0.0),
        "overlap": asked["thresholds"].get(first, 0.0),
        "action": asked["action"],
        "actions": list(dict.fromkeys(row["action"] for row in rows)),
        "methods": [
            {"method": name, "words": methods[name]["words"], "threshold": threshold}
            for name, threshold in asked["thresholds"].items()
            if name in methods
        ],
        "common": manifest.info.get("common", {}),
        "rows": rows,
        "hits": _hits(facts, table, snippets),
    }


def _hits(facts: Facts, table: pl.DataFrame, snippets: Snippets) -> list[Any]:
    """Return the strongest match of each document, in turns over the benchmarks."""
    order = ["enough", "overlap", "doc_id", "item"]
    down = [True, True, False, False]
    best = (
        table.sort(order, descending=down)
        .unique(["benchmark", "doc_id"], keep="first", maintain_order=True)
        .with_columns(turn=pl.int_range(pl.len()).over("benchmark"))
        .sort("turn", "benchmark")
        .head(_HITS_SHOWN)
        .sort(["benchmark", *order], descending=[False, *down])
        .join(
            facts.documents.select("doc_id", "source", "kept"), on="doc_id", maintain_order="left"
        )
    )
    texts = item_texts(facts.corpus, best.select("benchmark", "item").rows())
    shown = []
    for row in best.iter_rows(named=True):
        span = (row["span_start"], max(1, row["span_length"]))
        snippet = snippets.span(row["doc_id"], *span, _SPAN_BYTES)
        if snippet:
            facts_of = {name: row[name] for name in ("benchmark", "item", "source", "kept")}
            strength = {"overlap": round(row["overlap"], 4), "counts": row["enough"]}
            item = texts.get((row["benchmark"], row["item"]), "")[:_SPAN_BYTES]
            more = {"method": row["method"], "item_text": item}
            shown.append({**facts_of, **strength, **more, "snippet": snippet})
    return shown

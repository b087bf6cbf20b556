"""The counted half of a report: head, funnel, sources, reasons and mixture, as JSON values.

Everything is an integer that was counted, or an integer estimate whose key says so; shares are
left to the page.
"""

from collections import defaultdict
from typing import Any

import polars as pl

from pipelines.packing import num_rows
from pipelines.report.facts import KINDS, Facts, kind_of
from pipelines.report.mixture import effective_number, mixture

__all__ = ["effective_number", "funnel", "head", "mixture", "reasons", "sources"]

_MAX_HEAT = 40  # rows and columns of the heat table


def head(facts: Facts) -> dict[str, Any]:
    """Return who the corpus is and its sums."""
    corpus, documents = facts.corpus, facts.documents
    collected = corpus.manifest("collect").counts
    kept = documents.filter("kept")
    train = kept.filter(pl.col("split") == "train")
    dropped = facts.by_source(pl.col("num_bytes").sum(), where=~pl.col("kept"))
    mixed = corpus.manifest("mix").counts
    return {
        "id": str(corpus.version),
        "name": corpus.version.name,
        "version": corpus.version.number,
        "parent": corpus.version.parent,
        "fingerprint": corpus.version.fingerprint,
        "limit": corpus.manifest("collect").settings.get("limit"),
        "records": int(collected["records"]),
        "quarantined": int(collected["quarantined"]),
        "collected": documents.height,
        "kept": kept.height,
        "dropped": documents.height - kept.height,
        "bytes": int(documents["num_bytes"].sum()),
        "kept_bytes": int(kept["num_bytes"].sum()),
        "tokens": int(kept["tokens"].sum()),
        "unit": corpus.unit,
        "train": train.height,
        "train_tokens": int(train["tokens"].sum()),
        "dropped_tokens_estimate": facts.estimate(dropped.values()),
        "drawn": int(mixed["drawn_documents"]),
        "drawn_tokens": int(mixed["drawn_tokens"]),
        "vocabulary": corpus.tokenizer.get("vocab_size", 0),
        "row_tokens": corpus.manifest("pack").settings["row_tokens"],
        "rows": num_rows(corpus.manifest("pack")),
    }


def funnel(facts: Facts) -> dict[str, Any]:
    """Return the stages from what was collected to what is drawn, in documents and tokens."""
    whole = head(facts)
    lost = _lost(facts)
    count = {kind: sum(row["documents"] for row in lost[kind].values()) for kind in KINDS}
    tokens = {kind: sum(row["tokens_estimate"] for row in lost[kind].values()) for kind in KINDS}
    documents, left = whole["collected"], whole["tokens"] + sum(tokens.values())
    stages = [{"stage": "collected", "documents": documents, "tokens": left, "estimate": True}]
    for kind in KINDS[:3] if not count["other"] else KINDS:
        documents, left = documents - count[kind], left - tokens[kind]
        name = f"after {kind}" if kind != "other" else "after other reasons"
        stages.append({"stage": name, "documents": documents, "tokens": left, "estimate": True})
    assert (documents, left) == (whole["kept"], whole["tokens"]), "the funnel conserves documents"
    for stage in stages:
        stage["estimate"] = stage["tokens"] != whole["tokens"]
    stages[-1]["stage"] += ": kept"
    stages += [
        {"stage": name, "documents": whole[docs], "tokens": whole[toks], "estimate": False}
        for name, docs, toks in (
            ("split train", "train", "train_tokens"),
            ("drawn", "drawn", "drawn_tokens"),
        )
    ]
    splits = (
        facts.documents.filter("kept")
        .group_by("split")
        .agg(documents=pl.len(), tokens=pl.col("tokens").sum())
    )
    by_split = {row["split"]: row for row in splits.iter_rows(named=True)}
    none = {"documents": 0, "tokens": 0}
    return {
        "stages": stages,
        "splits": [
            {**none, **by_split.get(split, {}), "split": split}
            for split in ("train", "validation", "test")
        ],
        "once_tokens": _once(facts),
    }


def _once(facts: Facts) -> int:
    """Tokens of the drawn documents, each counted once."""
    draws = facts.corpus.table("draws").filter(pl.col("copies") > 0).unique("doc_id")
    return int(draws.select(pl.col("tokens").sum()).collect().item())


def _lost(facts: Facts) -> dict[str, dict[str, dict[str, int]]]:
    """Return kind -> source -> documents, num_bytes and estimated tokens dropped by it first."""
    rows = (
        facts.documents.filter(~pl.col("kept"))
        .group_by("kind", "source")
        .agg(documents=pl.len(), num_bytes=pl.col("num_bytes").sum())
    )
    lost: dict[str, dict[str, dict[str, int]]] = {kind: {} for kind in KINDS}
    for row in rows.iter_rows(named=True):
        lost[row["kind"]][row["source"]] = {
            "documents": row["documents"],
            "num_bytes": row["num_bytes"],
            "tokens_estimate": facts.rates.tokens(row["source"], row["num_bytes"]),
        }
    return lost


def sources(facts: Facts) -> dict[str, Any]:
    """Return one row per source, and their sums."""
    lost = _lost(facts)
    quarantined = dict(facts.quarantine.group_by("source").agg(pl.col("records").sum()).iter_rows())
    every = facts.by_source(pl.len().alias("documents"), pl.col("num_bytes").sum())
    kept = facts.by_source(
        pl.len().alias("documents"),
        pl.col("num_bytes").sum(),
        pl.col("tokens").sum(),
        pl.col("tokens").median().alias("median"),
        where=pl.col("kept"),
    )
    drawn = _drawn(facts)
    rows: list[dict[str, Any]] = []
    for name in facts.sources:
        mine, left = every.get(name, {}), kept.get(name, {})
        dropped = {kind: lost[kind].get(name, {}).get("documents", 0) for kind in KINDS}
        went = {kind: lost[kind].get(name, {}).get("tokens_estimate", 0) for kind in KINDS}
        tokens = int(left.get("tokens", 0))
        rows.append(
            {
                "source": name,
                "documents": int(mine.get("documents", 0)),
                "quarantined": int(quarantined.get(name, 0)),
                "dropped": dropped,
                "kept": int(left.get("documents", 0)),
                "bytes": int(mine.get("num_bytes", 0)),
                "kept_bytes": int(left.get("num_bytes", 0)),
                "tokens": tokens,
                "lost_tokens_estimate": sum(went.values()),
                "dropped_tokens_estimate": went,
                "median_tokens": None if not left else float(left["median"]),
                "drawn": drawn.get(name, (0, 0))[0],
                "drawn_tokens": drawn.get(name, (0, 0))[1],
            }
        )
    summed = ["documents", "quarantined", "kept", "bytes", "kept_bytes", "tokens", "drawn"]
    summed += ["drawn_tokens", "lost_tokens_estimate"]
    total: dict[str, Any] = {key: sum(row[key] for row in rows) for key in summed}
    for key in ("dropped", "dropped_tokens_estimate"):
        total[key] = {kind: sum(row[key][kind] for row in rows) for kind in KINDS}
    total["median_tokens"] = facts.documents.filter("kept")["tokens"].median()
    return {"rows": rows, "total": total, "kinds": [k for k in KINDS if k != "other"]}


def _drawn(facts: Facts) -> dict[str, tuple[int, int]]:
    """Return source -> documents drawn, and tokens drawn with their copies."""
    draws = facts.corpus.table("draws", hex_ids=False).filter(pl.col("copies") > 0)
    rows = (
        draws.select("doc_id", read=pl.col("copies").cast(pl.Int64) * pl.col("tokens"))
        .collect()
        .join(facts.documents.select("doc_id", "source"), on="doc_id")
        .group_by("source")
        .agg(pl.col("doc_id").n_unique(), pl.col("read").sum())
        .rows()
    )
    return {source: (documents, tokens) for source, documents, tokens in rows}


def reasons(facts: Facts) -> dict[str, Any]:
    """Return every reason's cost, where it fell, and the reason that cost most in each source.

    A document may have several reasons, so costs overlap. The sole cost is that of documents no
    other reason drops.
    """
    cells = (
        facts.reasons.group_by("reason", "source")
        .agg(
            documents=pl.len(),
            num_bytes=pl.col("num_bytes").sum(),
            sole_documents=(pl.col("num_reasons") == 1).sum(),
            sole_bytes=pl.col("num_bytes").filter(pl.col("num_reasons") == 1).sum(),
        )
        .sort("reason", "source")
        .to_dicts()
    )
    by_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        cell["tokens_estimate"] = facts.rates.tokens(cell["source"], cell["num_bytes"])
        by_reason[cell["reason"]].append(cell)
    rules = {rule["reason"]: rule for rule in _rules(facts)}
    exempt = facts.corpus.manifest("judge").settings["rules"]["exempt"]
    rows = []
    for name in _vocabulary(facts, rules, by_reason):
        mine = by_reason.get(name, [])
        rows.append(
            {
                "reason": name,
                "kind": kind_of(name),
                "keep": rules.get(name, {}).get("keep"),
                "on_null": rules.get(name, {}).get("on_null"),
                "exempt": list(exempt.get(name, [])),
                "overrides": dict(rules.get(name, {}).get("overrides", {})),
                "documents": sum(cell["documents"] for cell in mine),
                "tokens_estimate": sum(cell["tokens_estimate"] for cell in mine),
                "sole_documents": sum(cell["sole_documents"] for cell in mine),
                "sole_tokens_estimate": facts.estimate(mine, "sole_bytes"),
            }
        )
    rows.sort(key=lambda row: (-row["tokens_estimate"], -row["documents"], row["reason"]))
    heat = {
        name: {cell["source"]: cell["tokens_estimate"] for cell in mine}
        for name, mine in by_reason.items()
    }
    return {
        "rows": rows,
        "costliest": _costliest(facts, cells),
        "heat": _heat(facts, rows, heat),
    }


def _rules(facts: Facts) -> list[dict[str, Any]]:
    return list(facts.corpus.manifest("judge").settings["rules"]["rules"])


def _vocabulary(facts: Facts, rules: Any, found: Any) -> list[str]:
    """Return every reason this recipe can give, also those that never came up."""
    settings = facts.corpus.manifest("deduplicate").settings
    names = dict.fromkeys(rules)
    if facts.corpus.manifest("judge").settings["contamination"]["action"] == "drop":
        against = facts.corpus.manifest("decontaminate").settings["against"]
        names |= dict.fromkeys(f"contaminated:{benchmark['name']}" for benchmark in against)
    if settings["exact"]:
        names |= {"duplicate:exact": None}
    if settings["near"]:
        names |= {"duplicate:near": None}
    return list(names | dict.fromkeys(sorted(found)))


def _costliest(facts: Facts, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each source that lost something the reason that took most of its tokens."""
    every = facts.by_source(pl.col("num_bytes").sum(), where=~pl.col("kept"))
    kept = facts.by_source(pl.col("tokens").sum(), where=pl.col("kept"))
    best: dict[str, dict[str, Any]] = {}
    for cell in cells:
        rank = (cell["tokens_estimate"], cell["documents"])
        now = best.get(cell["source"])
        if now is None or rank > (now["tokens_estimate"], now["documents"]):
            best[cell["source"]] = cell
    rows = []
    for source, cell in best.items():
        lost = facts.rates.tokens(source, every[source]["num_bytes"])
        rows.append(
            {
                "source": source,
                "reason": cell["reason"],
                "documents": cell["documents"],
                "tokens_estimate": cell["tokens_estimate"],
                "source_lost_tokens_estimate": lost,
                "source_tokens_estimate": lost + int(kept.get(source, {}).get("tokens", 0)),
            }
        )
    return sorted(rows, key=lambda row: (-row["tokens_estimate"], row["source"]))


def _heat(facts: Facts, rows: list[dict[str, Any]], heat: Any) -> dict[str, Any]:
    """Return the reason x source table of estimated tokens, the costliest first."""
    fired = [row["reason"] for row in rows if row["documents"]]
    totals = {name: sum(heat[r].get(name, 0) for r in fired) for name in facts.sources}
    names = sorted((s for s in facts.sources if totals[s]), key=lambda s: (-totals[s], s))
    shown = names[:_MAX_HEAT]
    return {
        "sources": shown,
        "rows": [
            {"reason": reason, "tokens": [heat[reason].get(name, 0) for name in shown]}
            for reason in fired[:_MAX_HEAT]
        ],
        "hidden_sources": len(names) - len(shown),
        "hidden_reasons": max(0, len(fired) - _MAX_HEAT),
    }

"""Documents to look at: kept, dropped, and on either side of every rule's threshold.

Samples are chosen by the reversed document id, which is a hash: no one picked them, and a document
stays a sample from version to version. Margins are read one shard at a time.
"""

import json
from typing import Any

import polars as pl
import pyarrow as pa

from curate.corpus.shard import Shard, read_shard
from pipelines.report.facts import Facts
from pipelines.report.signals import thresholds_of
from pipelines.report.snippets import Snippets

__all__ = ["BESIDE", "samples"]

_KEPT, _DROPPED = 16, 32
_RULES_SHOWN, _PER_SIDE = 10, 2
BESIDE = 6  # of each kind, in the first table
_SAMPLE_BYTES, _EDGE_BYTES = 1100, 420
_MARGINS_SHOWN = 12


def samples(facts: Facts, snippets: Snippets) -> dict[str, Any]:
    """Return the samples, with reasons, margins and text slots."""
    kept, dropped = _kept(facts), _dropped(facts)
    edges, verdicts = _scan(facts, {*kept, *dropped})
    data: dict[str, Any] = {"kept": [], "dropped": [], "nearly": _nearly(edges, snippets)}
    data["threshold"] = []
    for name, ids in (("kept", kept), ("dropped", dropped)):
        for doc_id in ids:
            snippet = snippets.beginning(doc_id, _SAMPLE_BYTES)
            if snippet:
                data[name].append({**verdicts[doc_id], "snippet": snippet})
        data[name] = _varied(data[name])
    for rule in edges[:_RULES_SHOWN]:
        sides = {
            side: [
                {"source": row["source"], "margin": _short(row["margin"]), "snippet": snippet}
                for row in rule[side].iter_rows(named=True)
                if (snippet := snippets.beginning(row["doc_id"], _EDGE_BYTES))
            ]
            for side in ("nearly_dropped", "nearly_kept")
        }
        if any(sides.values()):
            data["threshold"].append({"reason": rule["reason"], "keep": rule["keep"], **sides})
    return data


def _varied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with some from all over their order first: those stand side by side."""
    step = max(1, len(rows) // BESIDE)
    first = rows[::step][:BESIDE]
    return first + [row for i, row in enumerate(rows) if i % step or i // step >= BESIDE]


def _nearly(edges: list[dict[str, Any]], snippets: Snippets) -> dict[str, list[dict[str, Any]]]:
    """Return the documents nearest to a threshold on either side, over all rules.

    Thresholds have different units, so a margin counts in shares of its rule's smallest one.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for side in ("nearly_dropped", "nearly_kept"):
        rows = []
        for rule in edges:
            unit = min(
                (abs(t) for name in rule["reads"] for t in thresholds_of(rule["keep"], name) if t),
                default=1.0,
            )
            for row in rule[side].iter_rows(named=True):
                share = row["distance"] / unit
                rows.append((share, row["key"], rule["reason"], row))
        rows.sort(key=lambda one: one[:3])
        seen: set[bytes] = set()
        found[side] = []
        for share, _, reason, row in rows:
            if row["doc_id"] in seen or len(seen) >= BESIDE:
                continue
            seen.add(row["doc_id"])
            if snippet := snippets.beginning(row["doc_id"], _EDGE_BYTES):
                told = {"source": row["source"], "reason": reason, "share": _short(share)}
                found[side].append({**told, "margin": _short(row["margin"]), "snippet": snippet})
    return found


def _key() -> pl.Expr:
    return pl.col("doc_id").bin.encode("hex").str.reverse()


def _kept(facts: Facts) -> list[bytes]:
    """Return kept documents, in turns over the sources."""
    order = {name: i for i, name in enumerate(facts.sources)}
    frame = facts.documents.filter("kept").select("doc_id", "source", key=_key()).sort("key")
    chosen = (
        frame.with_columns(turn=pl.int_range(pl.len()).over("source"))
        .filter(pl.col("turn") < _KEPT)
        .sort("turn", "key")
        .head(_KEPT)
    )
    rows = sorted(chosen.iter_rows(named=True), key=lambda row: (order[row["source"]], row["key"]))
    return [row["doc_id"] for row in rows]


def _dropped(facts: Facts) -> list[bytes]:
    """Return dropped documents, in turns over the reasons and, within them, over the sources."""
    frame = facts.reasons.with_columns(key=_key()).sort("num_reasons", "key")
    frame = frame.with_columns(turn=pl.int_range(pl.len()).over("reason", "source"))
    frame = frame.filter(pl.col("turn") < _DROPPED).sort("turn", "num_reasons", "key")
    frame = frame.with_columns(turn=pl.int_range(pl.len()).over("reason"))
    frame = frame.sort("turn", "reason").unique("doc_id", keep="first", maintain_order=True)
    return frame.head(_DROPPED).sort("reason", "key")["doc_id"].to_list()


def _scan(facts: Facts, wanted: set[bytes]) -> tuple[list[dict[str, Any]], dict[bytes, Any]]:
    """Read all margins once: the documents nearest to each rule's threshold, and the samples'."""
    settings = facts.corpus.manifest("judge").settings["rules"]
    fired = facts.reasons.group_by("reason").agg(pl.len().alias("n"))
    count = dict(fired.iter_rows())
    rules = sorted(settings["rules"], key=lambda r: (-count.get(r["reason"], 0), r["reason"]))
    near: dict[str, dict[str, pl.DataFrame]] = {rule["reason"]: {} for rule in rules}
    verdicts: dict[bytes, Any] = {}
    for shard in facts.corpus.shards("verdicts"):
        frame = _verdicts(facts, shard)
        chosen = frame.filter(pl.col("doc_id").is_in(list(wanted))) if wanted else frame.head(0)
        verdicts |= {row["doc_id"]: _verdict(row) for row in chosen.iter_rows(named=True)}
        schema = pl.Struct({reason: pl.Float64() for reason in near})
        if not near or frame["margins"].null_count() == frame.height:
            continue
        table = frame.select(
            "doc_id", "source", "kept", "reasons", pl.col("margins").str.json_decode(schema)
        ).unnest("margins")
        for reason, best in near.items():
            exempt = settings["exempt"].get(reason, [])
            for side, found in _sides(table, reason, exempt).items():
                merged = pl.concat([best[side], found]) if side in best else found
                best[side] = merged.sort("distance", "key").head(_PER_SIDE)
    named = [
        {**{name: rule[name] for name in ("reason", "keep", "reads")}, **near[rule["reason"]]}
        for rule in rules
        if near[rule["reason"]]
    ]
    return named, verdicts


def _verdicts(facts: Facts, shard: Shard) -> pl.DataFrame:
    columns = ["doc_id", "source", "kept", "reasons", "margins", "kept_id", "split"]
    table: pa.Table = read_shard(facts.corpus.store.storage, shard, columns)
    return pl.DataFrame(pl.from_arrow(table))


def _sides(table: pl.DataFrame, reason: str, exempt: list[str]) -> dict[str, pl.DataFrame]:
    """Return the kept documents that passed a rule by least, and those it alone just dropped."""
    margin, reasons = pl.col(reason), pl.col("reasons")
    alone = (reasons.list.len() == 1) & (reasons.list.first() == reason)
    conditions = {
        "nearly_dropped": pl.col("kept") & (margin >= 0) & ~pl.col("source").is_in(exempt),
        "nearly_kept": ~pl.col("kept") & (margin <= 0) & alone,
    }
    return {
        side: table.filter(condition)
        .select("doc_id", "source", margin.alias("margin"), distance=margin.abs(), key=_key())
        .sort("distance", "key")
        .head(_PER_SIDE)
        for side, condition in conditions.items()
    }


def _verdict(row: dict[str, Any]) -> dict[str, Any]:
    """Return a sample's verdict with the margins of its reasons, or else its smallest ones."""
    found = json.loads(row["margins"]) if row["margins"] else {}
    margins = {name: value for name, value in found.items() if value is not None}
    told = [name for name in row["reasons"] if name in margins] or sorted(
        (name for name in margins if margins[name] >= 0), key=lambda name: (margins[name], name)
    )
    return {
        "source": row["source"],
        "kept": row["kept"],
        "split": row["split"],
        "reasons": list(row["reasons"]),
        "kept_id": row["kept_id"].hex() if row["kept_id"] else None,
        "margins": [[name, _short(margins[name])] for name in told[:_MARGINS_SHOWN]],
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")

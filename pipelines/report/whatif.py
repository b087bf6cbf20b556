"""What another threshold would keep: `judge`'s counts, with tokens, in the form the page adds up.

Documents are exact for the whole corpus. Tokens of kept documents are counted by the same cells,
from the token shards; those of documents that a rule alone drops are estimated from their bytes, as
everywhere in a report.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.shard import read_shard
from curate.rules.expression import OWN
from pipelines.passes.whatif import cells, passing
from pipelines.report.facts import Facts

__all__ = ["MAX_BYTES", "MAX_DIALS", "pages_data", "what_if"]

MAX_DIALS = 48
MAX_BYTES = 400_000  # of the counts in the page
_SOURCES_SHOWN = (20, 12, 6, 3, 0)
_OTHERS = "all other sources"


def what_if(facts: Facts) -> dict[str, Any]:
    """Return what the page needs to turn one threshold at a time.

    Keys: sources (of the rows; the last may stand for several), base ([documents, tokens] kept, of
    each), dials, whole (rules without a threshold that can be turned), hidden (dials left out),
    all_sources, exempt (the recipe's own), problem (why there are no dials, or null).
    """
    judged = facts.corpus.manifest("judge")
    described = judged.info.get("dials")
    rules = {rule["reason"]: rule for rule in judged.settings["rules"]["rules"]}
    found: dict[str, Any] = {
        "sources": [],
        "base": [],
        "dials": [],
        "whole": [],
        "hidden": 0,
        "all_sources": list(facts.sources),
        "exempt": {k: list(v) for k, v in (facts.corpus.recipe["rules"]["exempt"] or {}).items()},
        "problem": None,
    }
    if described is None:
        return found | {"problem": "This version was judged before these counts were kept."}
    sole = _sole(facts)
    exempt = judged.settings["rules"]["exempt"]
    order = sorted(
        described, key=lambda dial: -sum(n for n, _ in sole.get(dial["reason"], {}).values())
    )
    shown = order[:MAX_DIALS]
    counted = _counts(facts, shown, rules, exempt)
    if counted is None:
        return found | {"problem": "Documents left this version after its rules were judged."}
    turned = {dial["reason"] for dial in described}
    common = {
        reason: {
            "reason": reason,
            "keep": rule["keep"],
            "rule": reason.removeprefix("rule:").removeprefix(f"{OWN}."),
            "own": reason.startswith(f"rule:{OWN}."),
            "skip": sorted({*exempt.get(reason, []), *rule["overrides"]}),
        }
        for reason, rule in rules.items()
    }
    whole = [reason for reason in rules if reason not in turned]
    whole.sort(key=lambda reason: -sum(n for n, _ in sole.get(reason, {}).values()))
    found["hidden"] = len(order) - len(shown) + len(whole[MAX_DIALS:])
    for limit in _SOURCES_SHOWN:
        rows = _rows(facts, limit)
        found |= _folded(facts, rows)
        found["dials"] = [
            {
                **common[dial["reason"]],
                **dial,
                "off": _off(sole.get(dial["reason"], {}), rows),
                "cells": _cells(rows, counts),
            }
            for dial, counts in zip(shown, counted, strict=True)
        ]
        found["whole"] = [
            {**common[reason], "off": _off(sole.get(reason, {}), rows)}
            for reason in whole[:MAX_DIALS]
        ]
        if len(pages_data(found)) <= MAX_BYTES:
            break
    return found


def pages_data(found: Mapping[str, Any]) -> str:
    """Return the data as JSON that can stand in a script element: no `<`, `>` or `&`, all ASCII."""
    text = json.dumps(found, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


Counts = Mapping[str, Mapping[int, tuple[int, int]]]  # source -> cell -> documents, tokens


def _sole(facts: Facts) -> dict[str, dict[str, tuple[int, int]]]:
    """Return reason -> source -> documents that it alone drops, and their estimated tokens."""
    rows = (
        facts.reasons.filter(pl.col("num_reasons") == 1)
        .group_by("reason", "source")
        .agg(documents=pl.len(), num_bytes=pl.col("num_bytes").sum())
        .rows()
    )
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for reason, source, documents, num_bytes in rows:
        found[reason][source] = (documents, facts.rates.tokens(source, num_bytes))
    return found


def _counts(
    facts: Facts,
    dials: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Any],
    exempt: Mapping[str, Any],
) -> list[Counts] | None:
    """Return each dial's counts with tokens; None if verdicts were changed after judging.

    A takedown changes verdicts and no counts, so these are compared, cell by cell.
    """
    stored = facts.corpus.table("whatif").collect()
    by_dial = {
        (reason, column): rows
        for (reason, column), rows in stored.group_by("reason", "column", maintain_order=True)
    }
    documents = _in_order(facts)
    found: list[Counts] = []
    for dial in dials:
        skip = {*exempt.get(dial["reason"], []), *rules[dial["reason"]]["overrides"]}
        exact = _exact(facts, documents, dial, sorted(skip))
        first, end = _span(dial)
        mine: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
        for source, cell, count, num_bytes in (
            by_dial[dial["reason"], dial["column"]]
            .select("source", "cell", "documents", "num_bytes")
            .rows()
        ):
            kept, tokens, dropped = exact.pop((source, cell), (0, 0, 0))
            if first <= cell < end:
                changed = kept != count
            else:  # among the dropped ones may be some that the rest of the rule drops
                changed, tokens = dropped < count, facts.rates.tokens(source, num_bytes)
            if changed:
                return None
            mine[source][cell] = (count, tokens)
        if any(kept for kept, _, _ in exact.values()):
            return None
        found.append(mine)
    return found


def _span(dial: Mapping[str, Any]) -> tuple[int, int]:
    """Return the cells [first, end) that a dial keeps at the recipe's thresholds."""
    count = len(dial["edges"])
    ranges = [passing(handle["op"], handle["edge"], count) for handle in dial["handles"]]
    return max(first for first, _ in ranges), min(end for _, end in ranges)


def _in_order(facts: Facts) -> pl.DataFrame:
    """Return source, kept, tokens and the one reason (of those that have one), as the signals."""
    storage = facts.corpus.store.storage
    tables = [read_shard(storage, s, ["doc_id"]) for s in facts.corpus.shards("signals")]
    wanted = facts.documents.select("doc_id", "source", "kept", "tokens")
    sole = facts.reasons.filter(pl.col("num_reasons") == 1).select("doc_id", "reason")
    return (
        pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
        .join(wanted, on="doc_id", how="left", maintain_order="left")
        .join(sole, on="doc_id", how="left", maintain_order="left")
    )


def _exact(
    facts: Facts, documents: pl.DataFrame, dial: Mapping[str, Any], skip: list[str]
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return (source, cell) -> documents and tokens kept, documents dropped by its rule alone."""
    storage, name = facts.corpus.store.storage, dial["column"]
    tables = [read_shard(storage, s, [name]) for s in facts.corpus.shards("signals")]
    column = pl.Series(pl.from_arrow(pa.concat_tables(tables)[name])).cast(pl.Float64)
    frame = documents.select("source", "tokens", "kept", "reason", value=column)
    its_own = pl.col("kept") | pl.col("reason").eq_missing(dial["reason"])
    frame = frame.filter(its_own & pl.col("value").is_not_null() & ~pl.col("source").is_in(skip))
    edges = np.asarray(dial["edges"], dtype=np.float64)
    counted = (
        frame.with_columns(cell=pl.Series(cells(frame["value"].to_numpy(), edges)))
        .group_by("source", "cell")
        .agg(
            kept=pl.col("kept").sum(),
            tokens=pl.col("tokens").filter("kept").sum(),
            dropped=(~pl.col("kept")).sum(),
        )
    )
    return {
        (source, cell): (kept, tokens, dropped)
        for source, cell, kept, tokens, dropped in counted.rows()
    }


def _rows(facts: Facts, limit: int) -> dict[str, int]:
    """Return source -> its row in the page: the largest have their own, the others share one."""
    size = dict(facts.documents.group_by("source").agg(pl.len()).iter_rows())
    if len(facts.sources) <= limit:
        largest = set(facts.sources)
    else:
        most = sorted(facts.sources, key=lambda name: (-size.get(name, 0), name))
        largest = set(most[: max(limit - 1, 0)])
    named = [name for name in facts.sources if name in largest]
    return {name: named.index(name) if name in largest else len(named) for name in facts.sources}


def _folded(facts: Facts, rows: Mapping[str, int]) -> dict[str, Any]:
    kept = facts.by_source(
        pl.len().alias("documents"), pl.col("tokens").sum(), where=pl.col("kept")
    )
    base = [[0, 0] for _ in range(max(rows.values(), default=-1) + 1)]
    names, times = [""] * len(base), Counter(rows.values())
    for source, row in rows.items():
        names[row] = source if times[row] == 1 else _OTHERS
        mine = kept.get(source, {"documents": 0, "tokens": 0})
        base[row][0] += mine["documents"]
        base[row][1] += mine["tokens"]
    return {"sources": names, "base": base}


def _off(sole: Mapping[str, tuple[int, int]], rows: Mapping[str, int]) -> list[int]:
    """Return row, documents, tokens, row, ... of what comes back without the rule."""
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for source, (documents, tokens) in sole.items():
        sums[rows[source]][0] += documents
        sums[rows[source]][1] += tokens
    return [value for row in sorted(sums) for value in (row, *sums[row])]


def _cells(rows: Mapping[str, int], counts: Counts) -> list[list[int]]:
    """Return for each row: cell, documents, tokens, cell, ... of the cells that are not empty."""
    sums: list[dict[int, list[int]]] = [
        defaultdict(lambda: [0, 0]) for _ in range(max(rows.values(), default=-1) + 1)
    ]
    for source, mine in counts.items():
        for cell, (documents, tokens) in mine.items():
            sums[rows[source]][cell][0] += documents
            sums[rows[source]][cell][1] += tokens
    return [[value for cell in sorted(row) for value in (cell, *row[cell])] for row in sums]

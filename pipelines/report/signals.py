"""Small histograms of every signal, with the thresholds of the rules that read it.

Bins span the 0.5 % to 99.5 % range (widened to a threshold that is near); what lies beyond is
counted in the outermost bins. Long-tailed counts get bins of equal width in log(1 + value).
"""

import re
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.shard import read_shard
from pipelines.report.facts import Facts

__all__ = ["NUM_BINS", "signals", "thresholds_of"]

NUM_BINS = 30
_TAIL = 0.005
_LONG_TAIL = 15  # 99.5 % quantile over median
_TOP_STRINGS = 10
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"


def thresholds_of(sql: str, signal: str) -> list[float]:
    """Return the numbers a rule compares a signal with.

    >>> thresholds_of("num_words BETWEEN 50 AND 100000 AND 2 <= x", "num_words")
    [50.0, 100000.0]
    >>> thresholds_of("num_words > 5 AND x >= 0.5", "x"), thresholds_of("num_words > 5", "words")
    ([0.5], [])
    """
    name = rf'(?<![\w.])"?{re.escape(signal)}"?(?!\w)'
    between = re.compile(rf"{name}\s+BETWEEN\s+({_NUMBER})\s+AND\s+({_NUMBER})", re.IGNORECASE)
    after = re.compile(rf"{name}\s*(?:<=|>=|<>|!=|<|>|=)\s*({_NUMBER})")
    before = re.compile(rf"(?<![\w.])({_NUMBER})\s*(?:<=|>=|<>|!=|<|>|=)\s*{name}")
    found = [value for match in between.finditer(sql) for value in match.groups()]
    found += [match[1] for pattern in (after, before) for match in pattern.finditer(sql)]
    return sorted({float(value) for value in found})


def _of_texts(facts: Facts) -> set[str]:
    """Return the signals of texts in a corpus that has none: they are there for `num_bytes`."""
    from curate.signals.document import SIGNALS

    media = facts.corpus.manifest("tokenize").info.get("media") or {}
    return set(SIGNALS) if media.get("kind") in ("image", "audio") else set()


def signals(facts: Facts) -> list[dict[str, Any]]:
    """Return one entry per signal, in the table's order."""
    from curate.signals.registry import available_signals

    storage, shards = facts.corpus.store.storage, facts.corpus.shards("signals")
    if not shards:
        return []
    ids = pl.DataFrame(
        pl.from_arrow(pa.concat_tables([read_shard(storage, s, ["doc_id"]) for s in shards]))
    )
    verdicts = facts.documents.select("doc_id", "kept")
    kept = ids.join(verdicts, on="doc_id", how="left", maintain_order="left")["kept"].to_numpy()
    schema = facts.corpus.table("signals").collect_schema()
    known = available_signals(facts.corpus.recipe.get("measure"))
    rules = facts.corpus.manifest("judge").settings["rules"]["rules"]
    dropped = dict(facts.reasons.group_by("reason").agg(pl.len()).iter_rows())
    silent = _of_texts(facts)
    entries = []
    for name in schema:
        if name in ("doc_id", "text_hash") or name in silent:
            continue
        column = pa.concat_tables([read_shard(storage, shard, [name]) for shard in shards])[name]
        values = pl.Series(pl.from_arrow(column))
        read_by = [
            {
                "reason": rule["reason"],
                "keep": rule["keep"],
                "thresholds": thresholds_of(rule["keep"], name),
                "documents": int(dropped.get(rule["reason"], 0)),
            }
            for rule in rules
            if name in rule["reads"]
        ]
        description = known[name].description if name in known else ""
        marks = sorted({t for rule in read_by for t in rule["thresholds"]})
        entry = {"signal": name, "description": description, "rules": read_by}
        entries.append({**entry, **_describe(values, kept, marks)})
    return entries


def _describe(values: pl.Series, kept: np.ndarray, marks: list[float]) -> dict[str, Any]:
    nulls = values.null_count()
    entry: dict[str, Any] = {"documents": len(values), "nulls": nulls, "kind": "null"}
    if nulls == len(values):
        return entry
    if not values.dtype.is_numeric():
        return {**entry, "kind": "choice", "choices": _choices(values, kept)}
    present = values.is_not_null().to_numpy()
    numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
    quantiles = np.quantile(numbers, [0, _TAIL, 0.5, 1 - _TAIL, 1], method="nearest").tolist()
    edges, log = _edges(quantiles, marks, is_integer=values.dtype.is_integer())
    bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    every = np.bincount(bins, minlength=len(edges) - 1)
    stay = np.bincount(bins[kept[present].astype(bool)], minlength=len(edges) - 1)
    least, _, median, _, most = quantiles
    return {
        **entry,
        "kind": "histogram",
        "log": log,
        "least": _short(least),
        "median": _short(median),
        "most": _short(most),
        "edges": [_short(edge) for edge in edges.tolist()],
        "counts": every.tolist(),
        "kept": stay.tolist(),
        "thresholds": [_short(mark) for mark in marks],
    }


def _choices(values: pl.Series, kept: np.ndarray) -> list[dict[str, Any]]:
    frame = pl.DataFrame({"value": values.cast(pl.String), "kept": kept})
    counted = (
        frame.group_by("value")
        .agg(documents=pl.len(), kept=pl.col("kept").sum())
        .sort(["documents", "value"], descending=[True, False])
    )
    return [
        {**row, "value": "null" if row["value"] is None else row["value"][:100]}
        for row in counted.head(_TOP_STRINGS).iter_rows(named=True)
    ]


def _edges(
    quantiles: list[float], marks: list[float], *, is_integer: bool
) -> tuple[np.ndarray, bool]:
    """Return bin edges [bins + 1], and whether they are logarithmic."""
    least, low, median, high, most = quantiles
    log = least >= 0 and high > 100 and high > _LONG_TAIL * max(median, 1)
    fraction = least >= 0 and most <= 1 and not is_integer
    span = high - low
    for mark in marks:
        near = (
            0 <= mark <= 30 * max(high, 1)
            if log
            else (0 <= mark <= 1 if fraction else low - 3 * span <= mark <= high + 3 * span)
        )
        if near:
            low, high = min(low, mark), max(high, mark)
    if log:
        return np.expm1(np.linspace(np.log1p(low), np.log1p(high), NUM_BINS + 1)), True
    if is_integer:
        width = max(1, -(-int(high - low + 1) // NUM_BINS))
        count = -(-int(high - low + 1) // width)
        return low + width * np.arange(count + 1, dtype=np.float64), False
    if high <= low:
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, NUM_BINS + 1), False


def _short(value: float) -> float:
    return float(f"{value:.6g}")

"""What the corpus is made of, and whom the rules hit: languages, licences, scripts, word lists.

A rule that drops every tenth document may drop every second one of a language, or those that name
a group of people. So each row tells what was there, what is kept, and how that differs from the
corpus as a whole.
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.corpus.shard import read_shard
from pipelines.report.facts import Facts

__all__ = ["canaries", "composition"]

_MAX_ROWS = 30
_PROFILES = {
    "language": "language",
    "script": "script",
    "license_spdx": "licence",
}
_WORDS = "words_"


def composition(facts: Facts) -> dict[str, Any]:
    """Return {profiles, word_lists, kept_share}; both lists are empty when nothing is measured.

    A profile is {signal, name, rows, more}; a row {value, documents, kept, tokens,
    rules_documents}. A word list is {signal, name, documents, kept, rules_documents, rate,
    kept_rate, sources}, of the documents that hold any of its words; rates are the median of
    their matches per thousand words, of all and of the kept ones.
    """
    schema = facts.corpus.table("signals").collect_schema()
    named = {name: told for name, told in _PROFILES.items() if name in schema}
    lists = [name for name, dtype in schema.items() if name.startswith(_WORDS) and dtype.is_float()]
    frame = _frame(facts, [*named, *lists])
    return {
        "kept_share": _share(frame),
        "profiles": [_profile(frame, signal, told) for signal, told in named.items()],
        "word_lists": [_word_list(frame, signal) for signal in lists],
    }


def canaries(facts: Facts) -> list[dict[str, Any]]:
    """Return {reason, kind, text, values} of every canary of the run."""
    return list(facts.corpus.manifest("judge").info.get("canaries", []))


def _frame(facts: Facts, columns: list[str]) -> pl.DataFrame:
    storage = facts.corpus.store.storage
    tables = [
        read_shard(storage, shard, ["doc_id", *columns]) for shard in facts.corpus.shards("signals")
    ]
    ruled = (
        facts.reasons.filter(pl.col("reason").str.starts_with("rule:"))
        .select("doc_id", ruled=pl.lit(True))
        .unique()
    )
    return (
        pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
        .join(facts.documents.select("doc_id", "source", "kept", "tokens"), on="doc_id")
        .join(ruled, on="doc_id", how="left")
        .with_columns(pl.col("ruled").fill_null(value=False))
    )


def _share(frame: pl.DataFrame) -> float | None:
    return int(frame["kept"].sum()) / frame.height if frame.height else None


def _profile(frame: pl.DataFrame, signal: str, name: str) -> dict[str, Any]:
    rows = (
        frame.group_by(pl.col(signal).alias("value"))
        .agg(
            documents=pl.len(),
            kept=pl.col("kept").sum(),
            tokens=pl.col("tokens").filter("kept").sum(),
            rules_documents=pl.col("ruled").sum(),
        )
        .sort(["documents", "value"], descending=[True, False], nulls_last=True)
    )
    return {
        "signal": signal,
        "name": name,
        "rows": rows.head(_MAX_ROWS).to_dicts(),
        "more": max(0, rows.height - _MAX_ROWS),
    }


def _word_list(frame: pl.DataFrame, signal: str) -> dict[str, Any]:
    hit = frame.filter(pl.col(signal) > 0)
    by_source = (
        hit.group_by("source")
        .agg(documents=pl.len(), kept=pl.col("kept").sum())
        .sort(["documents", "source"], descending=[True, False])
    )
    return {
        "signal": signal,
        "name": signal.removeprefix(_WORDS),
        "documents": hit.height,
        "kept": int(hit["kept"].sum()),
        "rules_documents": int(hit["ruled"].sum()),
        "rate": hit[signal].median(),
        "kept_rate": hit.filter("kept")[signal].median(),
        "sources": by_source.head(_MAX_ROWS).to_dicts(),
    }

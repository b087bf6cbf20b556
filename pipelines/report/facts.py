"""What every section of a report counts from: one narrow row per document, and token estimates.

Documents that were dropped were never tokenized. Their tokens are estimated from their bytes, at
the rate of their source's kept documents (of the whole corpus where a source kept nothing), always
per source and group, so that rows add up to their totals.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.corpus.shard import read_shard
from curate.tokens.shards import token_lengths
from pipelines.corpus import Corpus

__all__ = ["KINDS", "Facts", "Rates", "kind_of", "load_facts"]

KINDS = ("rules", "contamination", "duplicates", "other")
_PREFIXES = {"rule:": "rules", "contaminated:": "contamination", "duplicate:": "duplicates"}
_BLIND_BYTES_PER_TOKEN = 4  # where not one document was kept


def kind_of(reason: str) -> str:
    """Return the kind of a reason.

    >>> kind_of("rule:recipe.long"), kind_of("duplicate:near"), kind_of("forgotten")
    ('rules', 'duplicates', 'other')
    """
    return next((kind for start, kind in _PREFIXES.items() if reason.startswith(start)), "other")


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens and bytes of the kept documents, by source and over all."""

    by_source: Mapping[str, tuple[int, int]]
    overall: tuple[int, int]

    def tokens(self, source: str, num_bytes: int) -> int:
        """Estimate the tokens of dropped text, to the nearest integer."""
        tokens, kept_bytes = self.by_source.get(source, (0, 0))
        if not kept_bytes:
            tokens, kept_bytes = self.overall
        if not kept_bytes:
            tokens, kept_bytes = 1, _BLIND_BYTES_PER_TOKEN
        return (num_bytes * tokens + kept_bytes // 2) // kept_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The aggregates' ground.

    Attributes:
        corpus: the version.
        sources: names, in the recipe's order.
        documents: doc_id (binary), source, kept, split, kind (the first kind of reason that drops
            it, null for kept ones), num_bytes, tokens (null for dropped ones), license, cluster_id.
        reasons: one row per document and reason: doc_id, source, reason, num_reasons, num_bytes.
        quarantine: source, reason, records.
        rates: for estimates.
    """

    corpus: Corpus
    sources: tuple[str, ...]
    documents: pl.DataFrame
    reasons: pl.DataFrame
    quarantine: pl.DataFrame
    rates: Rates

    def estimate(self, rows: Iterable[Mapping[str, Any]], column: str = "num_bytes") -> int:
        """Sum the estimated tokens of rows that have `source` and a column of bytes."""
        return sum(self.rates.tokens(row["source"], row[column]) for row in rows)

    def by_source(self, *aggregates: pl.Expr, where: pl.Expr | None = None) -> dict[str, Any]:
        """Return source -> row of aggregates over the documents."""
        frame = self.documents if where is None else self.documents.filter(where)
        rows = frame.group_by("source").agg(*aggregates).iter_rows(named=True)
        return {row["source"]: row for row in rows}


def load_facts(corpus: Corpus) -> Facts:
    """Read the verdicts, token counts and licences of a corpus version."""
    names = [str(source["name"]) for source in corpus.recipe["sources"]]
    verdicts = (
        corpus.table("verdicts", hex_ids=False)
        .select("doc_id", "source", "kept", "split", "num_bytes", "cluster_id", "reasons")
        .collect()
    )
    licenses = corpus.table("documents", hex_ids=False).select("doc_id", "license").collect()
    documents = (
        verdicts.with_columns(_kind().alias("kind"))
        .drop("reasons")
        .join(_tokens(corpus), on="doc_id", how="left")
        .join(licenses, on="doc_id", how="left")
        .sort("doc_id")
    )
    reasons = (
        verdicts.filter(pl.col("reasons").list.len() > 0)
        .select(
            "doc_id",
            "source",
            pl.col("reasons").list.len().alias("num_reasons"),
            "num_bytes",
            pl.col("reasons").alias("reason"),
        )
        .explode("reason")
    )
    quarantine = (
        corpus.table("quarantine").group_by("source", "reason").agg(records=pl.len()).collect()
    )
    return Facts(
        corpus=corpus,
        sources=(*names, *sorted(set(documents["source"].unique()) - set(names))),
        documents=documents,
        reasons=reasons,
        quarantine=quarantine.sort("source", "reason"),
        rates=_rates(documents),
    )


def _kind() -> pl.Expr:
    """The first kind, in the order in which `judge` decides."""
    kinds = pl.coalesce(
        pl.when(pl.col("reasons").list.eval(pl.element().str.starts_with(start)).list.any()).then(
            pl.lit(kind)
        )
        for start, kind in _PREFIXES.items()
    )
    return pl.when(~pl.col("kept")).then(kinds.fill_null("other"))


def _tokens(corpus: Corpus) -> pl.DataFrame:
    """Return doc_id and tokens of every kept document, from the token shards' offsets."""
    storage = corpus.store.storage
    frames = [pl.DataFrame(schema={"doc_id": pl.Binary, "tokens": pl.Int64})]
    for shard in corpus.shards("tokens"):
        table = read_shard(storage, shard)
        ids = pl.DataFrame(pl.from_arrow(table.select(["doc_id"])))
        lengths = np.asarray(token_lengths(table), dtype=np.int64)
        frames.append(ids.with_columns(pl.Series("tokens", lengths)))
    return pl.concat(frames)


def _rates(documents: pl.DataFrame) -> Rates:
    rows = (
        documents.filter("kept")
        .group_by("source")
        .agg(pl.col("tokens").sum(), pl.col("num_bytes").sum())
        .rows()
    )
    by_source = {source: (int(tokens), int(num_bytes)) for source, tokens, num_bytes in rows}
    sums = (sum(t for t, _ in by_source.values()), sum(b for _, b in by_source.values()))
    return Rates(by_source, sums)

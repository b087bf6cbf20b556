"""Two versions' documents side by side: one narrow row each, whatever became of it.

Only columns that a count needs are read, and never a text; a million documents a side cost some
seconds and a few hundred megabytes.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.corpus.shard import read_shard
from curate.tokens.shards import token_lengths
from pipelines.corpus import Corpus

__all__ = ["CHANGED", "FATES", "GAINED", "LOST", "Joined", "join", "listed", "merged"]

FATES = {  # what became of a document from A to B, in the order in which it is told
    "new": "new, and kept",
    "rescued": "dropped before, kept now",
    "gone": "kept before, not collected now",
    "dropped": "kept before, dropped now",
    "changed": "kept in both, with another text",
    "recounted": "kept in both, the same text, another number of tokens",
    "same": "kept in both, the same",
    "new_dropped": "new, and dropped",
    "gone_dropped": "dropped before, not collected now",
    "dropped_otherwise": "dropped in both, for other reasons",
    "still_dropped": "dropped in both, for the same reasons",
}
GAINED, LOST, CHANGED = ("new", "rescued"), ("gone", "dropped"), ("changed", "recounted")
_COUNTS = ("bytes", "tokens", "copies", "drawn")
_SEPARATOR = "\n"  # no reason holds a line end


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The documents of both versions.

    Attributes:
        a: the version before.
        b: the version after.
        documents: one row per document of either: doc_id (binary), source, fate, same_text (null
            where only one side has it), and for each side (`_a`, `_b`; null where it has no such
            document) kept, reasons (categorical, see `listed`), split, text_hash, and the counts,
            nought instead of null, bytes and, of what is kept, tokens, copies and drawn (tokens,
            every copy counted).
        comparable: whether both count tokens with the same tokenizer.
    """

    a: Corpus
    b: Corpus
    documents: pl.DataFrame
    comparable: bool

    @property
    def sides(self) -> tuple[tuple[str, Corpus], tuple[str, Corpus]]:
        """The letters and the corpora they stand for."""
        return ("a", self.a), ("b", self.b)

    def same(self, *passes: str) -> bool:
        """Say whether passes wrote the same content for both."""
        return all(self.a.manifest(n).content == self.b.manifest(n).content for n in passes)


def listed(column: str) -> pl.Expr:
    """Return a column of reasons as lists again."""
    text = pl.col(column).cast(pl.String)
    return pl.when(text != "").then(text.str.split(_SEPARATOR)).otherwise(pl.lit([]))


def join(a: Corpus, b: Corpus) -> Joined:
    """Join the verdicts, tokens and draws of two versions on the document's id."""
    comparable = _tokenizer(a) == _tokenizer(b)
    documents = merged(_side(a), _side(b), comparable=comparable)
    return Joined(a=a, b=b, documents=documents, comparable=comparable)


def merged(left: pl.DataFrame, right: pl.DataFrame, *, comparable: bool) -> pl.DataFrame:
    """Join the documents of two sides into `Joined.documents`.

    Args:
        left, right: doc_id, source, kept, reasons, split, text_hash, bytes, tokens, copies, drawn;
            no null in any.
        comparable: whether another number of tokens is another fate.
    """
    sides = [
        frame.rename({name: f"{name}_{letter}" for name in frame.columns if name != "doc_id"})
        for letter, frame in (("a", left), ("b", right))
    ]
    counts = [f"{count}_{letter}" for count in _COUNTS for letter in "ab"]
    return (
        sides[0]
        .join(sides[1], on="doc_id", how="full", coalesce=True)
        .with_columns(
            pl.col(counts).fill_null(0),
            source=pl.coalesce("source_a", "source_b"),
            same_text=pl.col("text_hash_a") == pl.col("text_hash_b"),
        )
        .drop("source_a", "source_b")
        .with_columns(fate=_fate(comparable=comparable))
    )


def _tokenizer(corpus: Corpus) -> str | None:
    found: str | None = corpus.tokenizer.get("sha256")
    return found


def _side(corpus: Corpus) -> pl.DataFrame:
    """Return one version's documents."""
    verdicts = (
        corpus.table("verdicts", hex_ids=False)
        .select(
            "doc_id",
            pl.col("source").cast(pl.Categorical),
            "kept",
            pl.col("reasons").list.join(_SEPARATOR).cast(pl.Categorical),
            pl.col("split").cast(pl.Categorical),
            "text_hash",
            bytes="num_bytes",
        )
        .collect()
    )
    joined = verdicts.join(_tokens(corpus), on="doc_id", how="left").join(
        _draws(corpus), on="doc_id", how="left"
    )
    # A forgotten document keeps its place among the tokens, and none of them count.
    counts = [
        pl.when("kept").then(pl.col(name)).otherwise(0).fill_null(0).alias(name)
        for name in _COUNTS[1:]
    ]
    return joined.with_columns(counts)


def _tokens(corpus: Corpus) -> pl.DataFrame:
    """Return doc_id and tokens, from the offsets of the token shards alone."""
    frames = [pl.DataFrame(schema={"doc_id": pl.Binary, "tokens": pl.Int64})]
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard)
        ids = pl.DataFrame(pl.from_arrow(table.select(["doc_id"])))
        lengths = np.asarray(token_lengths(table), dtype=np.int64)
        frames.append(ids.with_columns(pl.Series("tokens", lengths)))
    return pl.concat(frames)


def _draws(corpus: Corpus) -> pl.DataFrame:
    """Return doc_id, copies and drawn tokens, over all phases and domains."""
    copies = pl.col("copies").cast(pl.Int64)
    return (
        corpus.table("draws", hex_ids=False)
        .group_by("doc_id")
        .agg(copies=copies.sum(), drawn=(copies * pl.col("tokens")).sum())
        .collect()
    )


def _fate(*, comparable: bool) -> pl.Expr:
    kept_a, kept_b = pl.col("kept_a"), pl.col("kept_b")
    recounted = pl.col("tokens_a") != pl.col("tokens_b") if comparable else pl.lit(value=False)
    fate = (
        pl.when(kept_a.is_null())
        .then(pl.when(kept_b).then(pl.lit("new")).otherwise(pl.lit("new_dropped")))
        .when(kept_b.is_null())
        .then(pl.when(kept_a).then(pl.lit("gone")).otherwise(pl.lit("gone_dropped")))
        .when(kept_a & ~kept_b)
        .then(pl.lit("dropped"))
        .when(~kept_a & kept_b)
        .then(pl.lit("rescued"))
        .when(~kept_a & (pl.col("reasons_a") == pl.col("reasons_b")))
        .then(pl.lit("still_dropped"))
        .when(~kept_a)
        .then(pl.lit("dropped_otherwise"))
        .when(~pl.col("same_text"))
        .then(pl.lit("changed"))
        .when(recounted)
        .then(pl.lit("recounted"))
        .otherwise(pl.lit("same"))
    )
    return fate.cast(pl.Enum(list(FATES)))

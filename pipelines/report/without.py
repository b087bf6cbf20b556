"""What a corpus would lose without one of its sources or licences.

Not simply what stands there: a document that was dropped as the twin of one that goes comes back.
So the survivors of the duplicate groups are chosen again among those that stay, by the function
that chose them in `judge`.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.shard import read_shard
from curate.rules.order import parse_order
from pipelines.passes.base import Workspace
from pipelines.passes.twins import read_twins, survive
from pipelines.report.facts import Facts

__all__ = ["without"]

_MAX_GROUPS = 20
_NO_LICENSE = "(none stated)"


def without(facts: Facts) -> dict[str, list[dict[str, Any]]]:
    """Return {source, license: rows}, the costliest first; nothing for a kind with one value.

    Keys of a row: name, documents and tokens (kept ones that would go), back_documents and
    back_tokens_estimate (twins elsewhere that would come back), net_documents and
    net_tokens_estimate (what the corpus would be smaller by).
    """
    frame = _frame(facts)
    kinds = {"source": frame["source"], "license": frame["license"].fill_null(_NO_LICENSE)}
    several = {kind: values for kind, values in kinds.items() if values.n_unique() > 1}
    if not several:
        return {}
    again = _Judge(facts, frame)
    return {kind: _rows(facts, frame, values, again) for kind, values in several.items()}


def _frame(facts: Facts) -> pl.DataFrame:
    """Return one row per document, in the order of the shards of signals, as `judge` had them."""
    storage = facts.corpus.store.storage
    keep = facts.corpus.manifest("judge").settings["keep"]
    shards = facts.corpus.shards("signals")
    known = facts.corpus.table("signals").collect_schema().names()
    wanted = [name for name, _ in parse_order(keep, [*known, "source"]) if name in known]
    columns = list(dict.fromkeys(["doc_id", *wanted]))
    table = pa.concat_tables([read_shard(storage, shard, columns) for shard in shards])
    standing = (
        facts.reasons.filter(~pl.col("reason").str.starts_with("duplicate:"))
        .select("doc_id", falls=pl.lit(True))
        .unique()
    )
    return (
        pl.DataFrame(pl.from_arrow(table))
        .join(
            facts.documents.select("doc_id", "source", "kept", "license", "num_bytes", "tokens"),
            on="doc_id",
            how="left",
            maintain_order="left",
        )
        .join(standing, on="doc_id", how="left", maintain_order="left")
        .with_columns(pl.col("falls").fill_null(value=False))
    )


class _Judge:
    """The choice of survivors, once more, for any set of documents that stand."""

    def __init__(self, facts: Facts, frame: pl.DataFrame) -> None:
        corpus = facts.corpus
        found = corpus.manifest("deduplicate").tables
        self._settings = corpus.manifest("judge").settings
        self._evidence = {"shingles": found.get("shingles", ())}
        self._workspace = Workspace(corpus.store, "judge")
        self._frame = frame
        self.twins = read_twins(
            self._workspace, found.get("duplicates", ()), found.get("crowds", ()), frame
        )

    def kept(self, standing: np.ndarray) -> np.ndarray:
        """Return which rows are kept when only `standing` ones are there."""
        survival = survive(
            self._workspace, self._evidence, self._frame, standing, self.twins, self._settings
        )
        kept: np.ndarray = standing & ~survival.exact & ~survival.near
        return kept


def _rows(
    facts: Facts, frame: pl.DataFrame, values: pl.Series, again: _Judge
) -> list[dict[str, Any]]:
    kept = frame["kept"].to_numpy()
    standing = ~frame["falls"].to_numpy()
    tokens = frame["tokens"].fill_null(0).to_numpy()
    labels = again.twins.labels
    names = (
        frame.select(name=values, tokens=tokens * kept)
        .group_by("name")
        .agg(pl.col("tokens").sum())
        .sort(["tokens", "name"], descending=[True, False])["name"]
        .to_list()
    )
    rows = []
    for name in names[:_MAX_GROUPS]:
        goes = (values == name).to_numpy()
        lost = kept & goes
        # Only twins of what goes can come back.
        touched = np.isin(labels, labels[lost]) & standing & ~kept & ~goes
        now = again.kept(standing & ~goes) if touched.any() else kept & ~goes
        back, displaced = now & ~kept, kept & ~goes & ~now
        changed = {
            "lost": int(tokens[lost].sum()),
            "back": _estimate(facts, frame, back),
            "displaced": int(tokens[displaced].sum()),
        }
        rows.append(
            {
                "name": name,
                "documents": int(lost.sum()),
                "tokens": changed["lost"],
                "back_documents": int(back.sum()),
                "back_tokens_estimate": changed["back"],
                "net_documents": int(lost.sum() - back.sum() + displaced.sum()),
                "net_tokens_estimate": changed["lost"] - changed["back"] + changed["displaced"],
            }
        )
    return rows


def _estimate(facts: Facts, frame: pl.DataFrame, mask: np.ndarray) -> int:
    rows = (
        frame.filter(pl.Series(mask))
        .group_by("source")
        .agg(pl.col("num_bytes").sum())
        .sort("source")
    )
    return facts.estimate(rows.iter_rows(named=True))

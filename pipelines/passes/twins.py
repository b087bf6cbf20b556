"""Twins: verified edges as row numbers, and who survives among the documents that stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from curate.dedup.clusters import components
from curate.dedup.crowds import Crowds, group_crowds, survivors_of_crowds
from curate.dedup.survivors import Edges
from curate.rules.order import parse_order
from pipelines.passes.base import Workspace
from pipelines.passes.joining import CROWDS
from pipelines.passes.ordinals import ordinals
from pipelines.passes.verifying import ShingleSets, scores

__all__ = ["Survival", "Twins", "joined_labels", "read_twins", "survive"]

_MAX_BYTES = 48 << 20  # of shingle sets compared at a time


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Verified edges as row numbers; rows from `len(labels)` on are documents of another corpus."""

    edges: Edges
    labels: np.ndarray  # int64 [n], the cluster of each own row: its first row by id
    outside: pl.Series  # ids of those of another corpus
    crowds: list[np.ndarray]  # rows of documents whose pairs were not all verified
    position: np.ndarray  # int64 [n + e], where the shingle set of a row in a crowd is


@dataclass(frozen=True, kw_only=True)
class Survival:
    """Who goes, for whom, and what had to be verified for that.

    Attributes:
        exact, near: bool [n], own rows that duplicate a kept document.
        kept_by: int64 [n], its row; those from n on are `Twins.outside`.
        demanded: int64 [m, 2], near edges that were verified only now.
        jaccard: float64 [m].
        unreached: documents of crowds that were not compared with one another.
    """

    exact: np.ndarray
    near: np.ndarray
    kept_by: np.ndarray
    demanded: np.ndarray
    jaccard: np.ndarray
    unreached: int


def read_twins(
    workspace: Workspace,
    duplicates: Sequence[Shard],
    crowds: Sequence[Shard],
    frame: pl.DataFrame,
) -> Twins:
    """Return the verified edges between rows of the frame, and to documents of another corpus."""
    labels = np.arange(frame.height)
    edges = _read(workspace, duplicates, SCHEMAS["duplicates"])
    crowd = _read(workspace, crowds, CROWDS)
    is_outside = edges["twin_corpus"].is_not_null().to_numpy()
    others = crowd.filter(pl.col("position") >= frame.height)
    outside = pl.concat([edges["twin_id"].filter(pl.Series(is_outside)), others["doc_id"]])
    outside = outside.unique().sort()
    right = ordinals(frame["doc_id"], edges["doc_id"])
    left = np.empty(len(right), dtype=np.int64)
    left[~is_outside] = ordinals(frame["doc_id"], edges["twin_id"].filter(pl.Series(~is_outside)))
    left[is_outside] = frame.height + ordinals(
        outside, edges["twin_id"].filter(pl.Series(is_outside))
    )
    pairs = np.stack([left, right], axis=1)
    # A cluster is named by its smallest id here: the name it has may be that of another corpus.
    own = np.concatenate([left[~is_outside], right])
    names = pl.concat([edges["cluster_id"].filter(pl.Series(~is_outside)), edges["cluster_id"]])
    rows = pl.DataFrame({"name": names, "row": own, "id": frame["doc_id"].gather(own)})
    first = rows.with_columns(pl.col("row").sort_by("id").first().over("name").alias("first"))
    labels[own] = first["first"].to_numpy()
    is_exact = (edges["kind"] == "exact").to_numpy()
    found = Edges(
        exact=pairs[is_exact],
        near=pairs[~is_exact],
        jaccard=edges["jaccard"].to_numpy()[~is_exact],
    )
    position = np.arange(frame.height + len(outside))
    position[frame.height + ordinals(outside, others["doc_id"])] = others["position"].to_numpy()
    member = crowd["position"].to_numpy().copy()
    member[member >= frame.height] = frame.height + ordinals(outside, others["doc_id"])
    return Twins(
        edges=found,
        labels=labels,
        outside=outside,
        crowds=group_crowds(crowd["bucket"].to_numpy(), member),
        position=position,
    )


def _read(workspace: Workspace, shards: Sequence[Shard], schema: Any) -> pl.DataFrame:
    tables = [read_shard(workspace.storage, shard) for shard in shards]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return pl.DataFrame(pl.from_arrow(table))


def survive(
    workspace: Workspace,
    evidence: Mapping[str, Sequence[Shard]],
    frame: pl.DataFrame,
    standing: np.ndarray,
    twins: Twins,
    settings: Mapping[str, Any],
) -> Survival:
    """Choose the survivors of every duplicate group among the standing rows."""
    num_own, num_outside = frame.height, len(twins.outside)
    edges = twins.edges
    spared = frame["source"].is_in(settings["spared"]).to_numpy()
    rank = _rank(frame, settings["keep"], settings["priority"])
    if num_outside:  # what another corpus holds was kept long ago, and stays
        rank = np.concatenate([rank + num_outside, np.arange(num_outside)])
        standing = np.concatenate([standing, np.ones(num_outside, dtype=bool)])
        spared = np.concatenate([spared, np.ones(num_outside, dtype=bool)])
    names = frame["source"].unique().sort()
    source = np.full(len(rank), -1, dtype=np.int64)
    source[:num_own] = ordinals(names, frame["source"])
    near = settings["near"]
    sets = ShingleSets(shards=tuple(evidence["shingles"]), rows=tuple(settings["rows"]))

    def score(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        a, b = twins.position[left], twins.position[right]
        kind, floor = near["similarity"], near["threshold"]
        return scores(workspace, sets, a, b, kind, _MAX_BYTES, floor=floor)

    crowds = Crowds(twins.crowds, score, near["threshold"] if near else 1.0)
    exact, close, kept_by, pairs, similar = survivors_of_crowds(
        crowds, rank, standing, edges, immune=spared, source=source, scope=settings["scope"]
    )
    ours = pairs[:, 1] < num_own  # two documents of another corpus stay anyway
    return Survival(
        exact=exact[:num_own],
        near=close[:num_own],
        kept_by=kept_by[:num_own],
        demanded=pairs[ours],
        jaccard=similar[ours],
        unreached=crowds.unreached,
    )


def joined_labels(labels: np.ndarray, ids: pl.Series, pairs: np.ndarray) -> np.ndarray:
    """Join clusters by more edges; a cluster is named by its row with the smallest id.

    Args:
        labels: int64 [n], a row of each row's cluster.
        ids: document ids [n].
        pairs: int64 [m, 2]; rows from n on are not ours and join nobody.
    """
    own = pairs[(pairs < len(labels)).all(axis=1)]
    if not len(own):
        return labels
    links = np.concatenate([np.stack([np.arange(len(labels)), labels], axis=1), own])
    merged = components(len(labels), links)
    rows = pl.DataFrame({"cluster": merged, "row": np.arange(len(labels)), "id": ids})
    first = rows.select(pl.col("row").sort_by("id").first().over("cluster"))
    return first["row"].to_numpy()


def _rank(frame: pl.DataFrame, keep: str, priority: Sequence[str]) -> np.ndarray:
    """Return each row's place in the keep order, 0 for the most wanted."""
    order = parse_order(keep, frame.schema)
    columns = ["_priority", *(name for name, _ in order)]
    places = pl.col("source").replace_strict(
        list(priority), range(len(priority)), default=len(priority), return_dtype=pl.Int64
    )
    ordered = (
        frame.with_columns((places if priority else pl.lit(0)).alias("_priority"))
        .select(*columns)
        .with_row_index("row")
        .sort(
            columns,
            descending=[False, *(down for _, down in order)],
            nulls_last=True,
            maintain_order=True,
        )
    )
    rank = np.empty(frame.height, dtype=np.int64)
    rank[ordered["row"].to_numpy()] = np.arange(frame.height)
    return rank

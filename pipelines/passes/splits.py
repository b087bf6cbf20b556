"""Splits: train, validation or test, drawn for whole duplicate clusters, and never moved to train.

A cluster's draw is a hash of its smallest document id, so near-duplicates cannot straddle a split.
A document that an earlier version of the corpus held out stays held out, with its whole cluster: a
cluster that joins two splits leaves train (and goes to test rather than validation).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from curate.corpus.shard import Shard, read_shard
from curate.corpus.storage import Storage
from curate.kernels.buffers import text_buffers

__all__ = ["draw_splits"]

_NAMES = np.array(["train", "validation", "test"])


def draw_splits(
    storage: Storage,
    ids: pl.Series,
    labels: np.ndarray,
    settings: Mapping[str, Any],
    earlier: Sequence[Shard],
) -> tuple[pl.Series, int]:
    """Return each document's split, and how many clusters an earlier version decided.

    Args:
        storage: of the store.
        ids: document ids [n].
        labels: int64 [n], each document's cluster as a row number.
        settings: `split.validation`, `split.test`, `seed`.
        earlier: verdict shards of the version before.
    """
    clusters, member = np.unique(labels, return_inverse=True)
    validation, test = settings["split"]["validation"], settings["split"]["test"]
    draws = _uniform(settings["seed"], ids.gather(clusters))
    code = np.where(draws < validation, 1, np.where(draws < validation + test, 2, 0))
    sticky = np.zeros(len(clusters), dtype=np.int64)
    rows = pl.DataFrame({"doc_id": ids, "cluster": member})
    for shard in earlier:
        table = pl.DataFrame(pl.from_arrow(read_shard(storage, shard, ["doc_id", "split"])))
        held = table.filter(pl.col("split") != "train").join(
            rows, on="doc_id", how="inner", maintain_order="left"
        )
        codes = (held["split"] == "test").to_numpy().astype(np.int64) + 1
        np.maximum.at(sticky, held["cluster"].to_numpy(), codes)
    moved = int((sticky > code).sum())
    return pl.Series(_NAMES[np.maximum(code, sticky)[member]]), moved


def _uniform(seed: int, ids: pl.Series) -> np.ndarray:
    """Return float64 [n] in [0, 1), each depending on the seed and its id alone."""
    from curate.kernels.blake2 import blake2b_many  # numba: half a second

    data, offsets = text_buffers(ids.to_arrow(compat_level=pl.CompatLevel.oldest()))
    digests = np.empty((len(ids), 8), dtype=np.uint8)
    nothing, key = (np.frombuffer(part, dtype=np.uint8) for part in (b"", f"split:{seed}".encode()))
    blake2b_many(data, offsets, nothing, key, digests)
    numbers: np.ndarray = digests.view("<u8").reshape(-1).astype(np.float64) / 2.0**64
    return numbers

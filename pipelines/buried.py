"""A version from before a takedown still holds what was forgotten since: nothing trains on it."""

import polars as pl
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.passes.forgotten import Tombstones

__all__ = ["refuse_buried"]


def refuse_buried(corpus: Corpus) -> None:
    """Refuse a version with tokens of documents that a takedown has forgotten.

    Raises:
        InputError: how many there are, and which version to take in its place.
    """
    buried = Tombstones.of(corpus.store.tombstones()).ids
    if not buried:
        return
    found = 0
    ids = pl.Series(sorted(buried), dtype=pl.Binary).to_arrow()
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard, ["doc_id", "num_bytes"])
        alive = table.filter(pc.greater(table["num_bytes"], 0))["doc_id"].cast("binary")
        found += int(pc.sum(pc.is_in(alive, ids.cast("binary"))).as_py() or 0)
    if found:
        name = corpus.version.name
        raise InputError(
            f"{corpus.version} holds {found:,} of the documents that were forgotten since "
            f"(`preceptor list receipts`), so nothing is trained on it; take the newest: {name}"
        )

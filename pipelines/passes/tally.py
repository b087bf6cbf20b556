"""Tokens counted again from the files themselves: what a pass says of its work is no evidence."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import MultisetHash
from curate.corpus.shard import Shard, footer, read_shard
from curate.corpus.storage import Storage
from curate.tokens.shards import token_lengths

__all__ = ["check_draws", "check_plan", "drawn_tokens", "planned_tokens", "tokens_by_split"]


def tokens_by_split(storage: Storage, shards: Sequence[Shard]) -> dict[str, int]:
    """Return the tokens of each split's documents in token shards."""
    total: dict[str, int] = {}
    for shard in shards:
        table = read_shard(storage, shard)
        lengths = token_lengths(table)
        for split in pc.unique(table["split"]).to_pylist():
            mine = pc.equal(table["split"], split).to_numpy()
            total[split] = total.get(split, 0) + int(lengths[mine].sum())
    return total


def drawn_tokens(storage: Storage, shards: Sequence[Shard]) -> int:
    """Return the tokens that the draws ask for, every copy counted."""
    total = 0
    for shard in shards:
        table = read_shard(storage, shard, ["copies", "tokens"])
        copies = table["copies"].to_numpy().astype(np.int64)
        total += int((copies * table["tokens"].to_numpy()).sum())
    return total


def planned_tokens(storage: Storage, shards: Sequence[Shard]) -> int:
    """Return the tokens that a plan's rows hold."""
    total = 0
    for shard in shards:
        spans = pc.list_flatten(read_shard(storage, shard)["spans"])
        lengths = pc.struct_field(spans, "length").cast(pa.int64())
        total += int(pc.sum(lengths, min_count=0).as_py())
    return total


def check_draws(storage: Storage, tokens: Sequence[Shard], draws: Sequence[Shard]) -> None:
    """Check that every training document has its draw, and nobody else.

    Raises:
        IntegrityError: rows or ids differ; nothing may be committed.
    """
    asked, found, rows = MultisetHash(), MultisetHash(), 0
    for shard in tokens:
        table = read_shard(storage, shard, ["doc_id", "split"])
        train = table["doc_id"].filter(pc.equal(table["split"], "train"))
        asked.add(train)
        rows += len(train)
    drawn = [footer(storage, shard) for shard in draws]
    for one in drawn:
        found.merge(one["ids"])
    num_drawn = sum(int(one["rows"]) for one in drawn)
    if (rows, asked.hexdigest()) != (num_drawn, found.hexdigest()):
        raise IntegrityError(
            f"conservation broken in mix: {rows} training documents, {num_drawn} draws, or not "
            "the same ones; nothing was committed"
        )


def check_plan(storage: Storage, split: str, tokens: int, plan: Sequence[Shard]) -> None:
    """Check that a plan holds so many tokens.

    Raises:
        IntegrityError: it does not; nothing may be committed.
    """
    found = planned_tokens(storage, plan)
    if found != tokens:
        raise IntegrityError(
            f"conservation broken in pack: the {split} plan holds {found} tokens instead of "
            f"{tokens}; nothing was committed"
        )

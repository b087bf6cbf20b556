"""Tokens counted again from the files themselves: what a pass says of its work is no evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import IntegrityError
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from curate.corpus.storage import Storage
from curate.tokens.shards import token_lengths

__all__ = [
    "asked_tokens",
    "check_draws",
    "check_held_out",
    "check_plan",
    "drawn_tokens",
    "longest_read",
    "planned_tokens",
]


def longest_read(settings: Mapping[str, Any]) -> int | None:
    """Return how much of a document a plan reads at most, from the pack's settings; None: all."""
    return int(settings["row_tokens"]) if settings["layout"] == "document" else None


def asked_tokens(
    storage: Storage, tokens: Sequence[Shard], mixed: Manifest, *, longest: int | None = None
) -> dict[str, int]:
    """Return the tokens that each plan must hold, every copy counted.

    Args:
        storage: of the store.
        tokens: the token shards.
        mixed: the mixture's manifest, with its draws and its held-out documents.
        longest: how much of a document is read at most.

    Returns:
        Plan -> tokens: `train` and `train_1`, `train_2` ... of later phases, validation, test.
    """
    asked = {
        f"train_{phase}" if phase else "train": drawn_tokens(
            storage, mixed.tables["draws"], phase=phase, longest=longest
        )
        for phase in range(len(mixed.settings["phases"]))
    }
    listed = [read_shard(storage, shard, ["doc_id", "split"]) for shard in mixed.tables["held_out"]]
    for split in ("validation", "test"):
        wanted = [table["doc_id"].filter(pc.equal(table["split"], split)) for table in listed]
        asked[split] = 0
        if any(map(len, wanted)):
            ids = pa.chunked_array([chunk for ids in wanted for chunk in ids.chunks])
            asked[split] = _tokens_of(storage, tokens, ids.combine_chunks(), longest)
    return asked


def _tokens_of(storage: Storage, shards: Sequence[Shard], ids: Any, longest: int | None) -> int:
    """Return the tokens of some documents, by id."""
    total = found = 0
    for shard in shards:
        table = read_shard(storage, shard)
        mine = pc.is_in(table["doc_id"], ids).to_numpy()
        total += int(_read(token_lengths(table)[mine], longest).sum())
        found += int(mine.sum())
    if found != len(ids):
        raise IntegrityError(
            f"conservation broken in mix: {len(ids)} documents are held out, {found} of them have "
            "tokens; nothing was committed"
        )
    return total


def _read(lengths: np.ndarray, longest: int | None) -> np.ndarray:
    return lengths if longest is None else np.minimum(lengths, longest)


def drawn_tokens(
    storage: Storage,
    shards: Sequence[Shard],
    *,
    phase: int | None = None,
    longest: int | None = None,
) -> int:
    """Return the tokens that the draws of a phase, or of all, ask for, every copy counted."""
    total = 0
    for shard in shards:
        table = read_shard(storage, shard, ["phase", "copies", "tokens"])
        if phase is not None:
            table = table.filter(pc.equal(table["phase"], phase))
        copies = table["copies"].to_numpy().astype(np.int64)
        total += int((copies * _read(table["tokens"].to_numpy(), longest)).sum())
    return total


def planned_tokens(storage: Storage, shards: Sequence[Shard]) -> int:
    """Return the tokens that a plan's rows hold."""
    total = 0
    for shard in shards:
        spans = pc.list_flatten(read_shard(storage, shard)["spans"])
        lengths = pc.struct_field(spans, "length").cast(pa.int64())
        total += int(pc.sum(lengths, min_count=0).as_py())
    return total


def check_draws(
    storage: Storage, tokens: Sequence[Shard], draws: Sequence[Shard], drawn_in_all: int
) -> None:
    """Check that only training documents are drawn, each once a phase, with their lengths.

    Args:
        storage: of the store.
        tokens: the token shards.
        draws: the draws.
        drawn_in_all: tokens that were decided on, every copy counted.

    Raises:
        IntegrityError: another document, one twice, one missing, or another length; nothing may be
            committed.
    """
    written = drawn_tokens(storage, draws)
    if written != drawn_in_all:
        raise IntegrityError(
            f"conservation broken in mix: {drawn_in_all} tokens were drawn, the draws hold "
            f"{written}; nothing was committed"
        )
    tables = [read_shard(storage, shard) for shard in draws]
    if not tables:
        return
    drawn = pa.concat_tables(tables).combine_chunks()
    ids = drawn["doc_id"].combine_chunks()
    if drawn.group_by(["doc_id", "phase"]).aggregate([]).num_rows != len(ids):
        raise IntegrityError(
            "conservation broken in mix: a document is drawn twice in a phase; nothing was "
            "committed"
        )
    found = np.full(len(ids), -1, dtype=np.int64)
    for shard in tokens:
        table = read_shard(storage, shard)
        train = pc.equal(table["split"], "train")
        at = pc.index_in(ids, table["doc_id"].filter(train).combine_chunks()).fill_null(-1)
        rows = at.to_numpy()
        mine = rows >= 0
        found[mine] = token_lengths(table)[train.to_numpy()][rows[mine]]
    if not (found == drawn["tokens"].to_numpy()).all() or pc.min(drawn["copies"]).as_py() < 1:
        raise IntegrityError(
            f"conservation broken in mix: of {len(ids)} draws {int((found < 0).sum())} are of no "
            "training document, or their lengths differ; nothing was committed"
        )


def check_held_out(
    storage: Storage, tokens: Sequence[Shard], held_out: Sequence[Shard], documents: int
) -> None:
    """Check that so many documents are held out, each a document of its split.

    Raises:
        IntegrityError: they are not; nothing may be committed.
    """
    tables = [SCHEMAS["held_out"].empty_table(), *(read_shard(storage, s) for s in held_out)]
    listed = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    found = 0
    for split in ("validation", "test"):
        ids = listed["doc_id"].filter(pc.equal(listed["split"], split)).combine_chunks()
        for shard in tokens if len(ids) else ():
            table = read_shard(storage, shard, ["doc_id", "split"])
            mine = table["doc_id"].filter(pc.equal(table["split"], split))
            found += int(pc.sum(pc.is_in(mine, ids), min_count=0).as_py())
    if not found == listed.num_rows == documents:
        raise IntegrityError(
            f"conservation broken in mix: {documents} documents were held out, {found} of them "
            "are listed; nothing was committed"
        )


def check_plan(storage: Storage, name: str, tokens: int, plan: Sequence[Shard]) -> None:
    """Check that a plan holds so many tokens.

    Raises:
        IntegrityError: it does not; nothing may be committed.
    """
    found = planned_tokens(storage, plan)
    if found != tokens:
        raise IntegrityError(
            f"conservation broken in pack: the {name} plan holds {found} tokens instead of "
            f"{tokens}; nothing was committed"
        )

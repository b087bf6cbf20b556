"""The documents of a split as tokens, a few at a time, in the order of the export.

Shards are memory-mapped; what is drawn in a keyed order is gathered from them in blocks.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.tokens.exporters.base import Documents
from curate.tokens.shards import token_lengths
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import Choice, drawn_places, held_out_in, round_order

__all__ = ["check_tokens", "forgotten", "places_of", "token_blocks"]

_BLOCK_TOKENS = 4 << 20
_OPEN_SHARDS = 256  # a mapped file is an open one
_COLUMNS = ["doc_id", "source", "tokens"]
_PLACES = {
    "doc_id": pl.Binary,
    "split": pl.String,
    "shard": pl.Int64,
    "row": pl.Int64,
    "tokens": pl.Int64,
    "forgotten": pl.Boolean,
}
Block = tuple[int, Documents]  # of which phase


def check_tokens(corpus: Corpus) -> None:
    """Refuse a corpus that holds no tokens.

    Raises:
        InputError: its documents are of another modality.
    """
    for shard in corpus.shards("tokens")[:1]:
        if "tokens" not in read_shard(corpus.store.storage, shard).column_names:
            raise InputError(f"{corpus.version} holds no text, so there are no tokens to export")


def forgotten(table: Any, pad: int) -> np.ndarray:
    """Say which documents were masked by a takedown, bool [n]: their tokens are all `pad`."""
    found = np.asarray(table["num_bytes"].to_numpy() == 0)
    for row in np.flatnonzero(found):  # few: an empty document, or a forgotten one
        ids = table["tokens"][int(row)].values.to_numpy()
        found[row] = bool((ids == pad).all())
    return found


def token_blocks(corpus: Corpus, split: str, choice: Choice) -> Iterator[Block]:
    """Yield (phase, documents) of a split, in order; documents that were forgotten are left out."""
    pad = _pad(corpus)
    if choice.what == "drawn" and split == "train":
        yield from _drawn(corpus, choice)
        return
    is_held = held_out_in(choice)
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard)
        mine = pc.equal(table["split"], split).to_numpy() & ~forgotten(table, pad)
        if split != "train" and choice.what == "drawn":
            mine &= is_held(table["doc_id"]) > 0
        rows = np.flatnonzero(mine)
        for some in _blocks(rows, token_lengths(table)[rows]):
            yield 0, _documents(table.select(_COLUMNS).take(pa.array(some)))


def _drawn(corpus: Corpus, choice: Choice) -> Iterator[Block]:
    """Yield what each phase drew, round after round of copies, each in keyed order."""
    shards, storage = corpus.shards("tokens"), corpus.store.storage

    @functools.lru_cache(_OPEN_SHARDS)
    def opened(ordinal: int) -> Any:
        return read_shard(storage, shards[ordinal]).select(_COLUMNS)

    places = places_of(corpus)
    seed = int(corpus.recipe["seed"])
    for phase in choice.phases:
        frame, copies = drawn_places(choice, phase, places)
        lengths = frame["tokens"].to_numpy()
        keep = ~frame["forgotten"].to_numpy()
        place = frame.select("shard", "row").to_numpy()
        for number in range(int(copies.max(initial=0))):
            members = np.flatnonzero((copies > number) & keep)
            ids = frame["doc_id"].to_arrow().cast(pa.binary(16)).take(pa.array(members))
            order = members[round_order(ids, seed, phase, number)]
            for some in _blocks(order, lengths[order]):
                yield phase, _gather(opened, place[some])


def places_of(corpus: Corpus) -> pl.DataFrame:
    """Return doc_id, split, shard, row, tokens, forgotten of every tokenized document."""
    pad = _pad(corpus)
    frames = [pl.DataFrame(schema=_PLACES)]
    for ordinal, shard in enumerate(corpus.shards("tokens")):
        table = read_shard(corpus.store.storage, shard)
        frames.append(
            pl.DataFrame(pl.from_arrow(table.select(["doc_id", "split"]))).with_columns(
                shard=pl.lit(ordinal, pl.Int64),
                row=pl.int_range(pl.len(), dtype=pl.Int64),
                tokens=pl.Series(token_lengths(table), dtype=pl.Int64),
                forgotten=pl.Series(forgotten(table, pad), dtype=pl.Boolean),
            )
        )
    return pl.concat(frames)


def _pad(corpus: Corpus) -> int:
    return int(corpus.tokenizer["specials"]["pad"]) if corpus.tokenizer else 0


def _blocks(rows: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into runs of about `_BLOCK_TOKENS` tokens."""
    if not len(rows):
        return
    number = (np.cumsum(lengths) - lengths) // _BLOCK_TOKENS
    yield from np.split(rows, np.flatnonzero(np.diff(number)) + 1)


def _gather(opened: Callable[[int], Any], place: np.ndarray) -> Documents:
    """Return documents from several shards, in the order of `place` (shard, row), int [n, 2]."""
    order = np.argsort(place[:, 0], kind="stable")
    shards, starts = np.unique(place[order, 0], return_index=True)
    rows = np.split(place[order, 1], starts[1:])
    taken = [
        opened(int(shard)).take(pa.array(some)) for shard, some in zip(shards, rows, strict=True)
    ]
    return _documents(pa.concat_tables(taken).take(pa.array(np.argsort(order, kind="stable"))))


def _documents(table: Any) -> Documents:
    table = table.combine_chunks()
    tokens = table["tokens"].combine_chunks()
    tokens = tokens.chunk(0) if isinstance(tokens, pa.ChunkedArray) else tokens
    offsets = tokens.offsets.to_numpy()
    return Documents(
        doc_ids=_flat(table["doc_id"]),
        sources=_flat(table["source"]),
        values=tokens.flatten().to_numpy(),
        offsets=offsets - offsets[0],
    )


def _flat(column: Any) -> Any:
    one = column.combine_chunks()
    return one.chunk(0) if isinstance(one, pa.ChunkedArray) else one

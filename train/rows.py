"""Rows of a corpus as numpy arrays, for any framework: memory-mapped, in the run's own order.

Shards are mapped and never copied; a plan says which spans of which documents make up a row, so any
row is built in microseconds without its neighbours. Nothing here imports torch.

>>> rows = open_rows("runs/5f0c/run.json")  # doctest: +SKIP
>>> rows.read("train", [7, 3]).tokens.shape  # doctest: +SKIP
(2, 1024)
>>> for block in rows.batches(16):  # doctest: +SKIP
...     block.tokens, block.targets, block.documents, block.state
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from curate.corpus.errors import InputError, one_of
from train.order import STATE, Order
from train.shards import Plan, Shards

__all__ = ["IGNORE", "Block", "RowReader", "Store", "open_rows", "reader_of"]

Ints = np.ndarray[Any, np.dtype[Any]]
IGNORE = -100
ARRAYS = ("tokens", "targets", "sources", "documents", "spans", "keys")
MEDIA = ("pixels", "samples", "lengths", "captions")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows of a plan: B rows of T tokens; of media [B, 1], and what they hold beside.

    Attributes:
        tokens: [B, T] int64, `pad` where the row is not full.
        targets: [B, T] int64, the token that follows in the same document, else -100.
        sources: [B, T] int64 source codes, 0 in padding.
        documents: [B, T] int64 ordinals of the document over all shards, -1 in padding.
        spans: [B, T] int64 number of the plan's span in its row, from 0; padding is one more. So
            copies of a document side by side are told apart.
        keys: [B, 3] int64 (seed, epoch, row of the plan): the key of any randomness.
        state: where the data stands behind this block, for `Store.batches`.
        pixels: [B, channels, height, width] uint8.
        samples: [B, S] int16, zeros behind the end.
        lengths: [B] int64 samples of each sound.
        captions: [B, L] int64, `pad` behind the end.
    """

    tokens: Ints
    targets: Ints
    sources: Ints
    documents: Ints
    spans: Ints
    keys: Ints
    state: Mapping[str, int] | None = None
    pixels: Ints | None = None
    samples: Ints | None = None
    lengths: Ints | None = None
    captions: Ints | None = None

    def arrays(self) -> dict[str, Ints]:
        """Return the arrays by name, those that there are."""
        named = {name: getattr(self, name) for name in (*ARRAYS, *MEDIA)}
        return {name: array for name, array in named.items() if array is not None}


class RowReader:
    """Builds rows from a plan: look-ahead into the shard gives the target at a span's end.

    Args:
        shards: of the run.
        row_tokens: T.
        pad: the id where a row is not full; never a target, unless it is one of `ends` too.
        vocab_size: ids from here on are refused.
        ends: the ids that begin and end documents.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        row_tokens: int,
        pad: int,
        vocab_size: int,
        ends: Collection[int] = (),
    ) -> None:
        if shards.lengths.any() and not sum(map(len, shards.values)):
            raise InputError("these shards hold no tokens; read what they have by `Shards.column`")
        self.shards, self.row_tokens = shards, row_tokens
        self.pad, self.vocab_size = pad, vocab_size
        self._pad_is_end = pad in ends
        self._padding = np.full(row_tokens, pad, dtype=np.uint32)
        self._any_withdrawn = bool(shards.withdrawn.any())

    def tokens(self, plan: Plan, rows: Ints) -> Ints:
        """Return the tokens alone: [len(rows), row_tokens] int64, `pad` where a row is not full."""
        if not len(rows):
            return np.zeros((0, self.row_tokens), dtype=np.int64)
        tokens, _, _ = self._tokens(plan, plan.spans_of(rows))
        return tokens.reshape(len(rows), self.row_tokens)

    def _tokens(self, plan: Plan, found: tuple[Ints, Ints]) -> tuple[Ints, Ints, Ints]:
        """Copy spans into rows.

        Returns:
            tokens [B * T]; the free places of every row [B]; where every span begins in its piece
            of the shards [k].
        """
        (spans, ends), shards, padding = found, self.shards, self._padding
        lengths, ordinals = plan.lengths[spans], plan.ordinals[spans]
        free = self.row_tokens - np.add.reduceat(lengths, np.append(0, ends[:-1]))
        if (free < 0).any():
            raise InputError(
                f"row {int(free.argmin())} of those asked for holds more than row_tokens = "
                f"{self.row_tokens} tokens; pack and train with the same row_tokens"
            )
        places = shards.starts[ordinals] + plan.starts[spans]
        pieces, stops = shards.pieces[ordinals].tolist(), (places + lengths).tolist()
        values = shards.values
        views = [
            values[piece][place:stop]
            for piece, place, stop in zip(pieces, places.tolist(), stops, strict=True)
        ]
        for row in np.flatnonzero(free)[::-1].tolist():
            views.insert(int(ends[row]), padding[: int(free[row])])
        tokens = np.empty(len(ends) * self.row_tokens, dtype=np.int64)
        np.concatenate(views, out=tokens)
        self._check(int(tokens.max()))
        return tokens, free, places

    def read(self, plan: Plan, rows: Ints, *, seed: int = 0, epoch: int = 0) -> Block:
        """Return the rows of a plan as a `Block`."""
        keys = np.empty((len(rows), 3), dtype=np.int64)
        keys[:, 0], keys[:, 1], keys[:, 2] = seed, epoch, rows
        if not len(rows):
            none = np.zeros((0, self.row_tokens), np.int64)
            return Block(
                tokens=none, targets=none, sources=none, documents=none, spans=none, keys=keys
            )
        spans, ends = plan.spans_of(rows)
        tokens, free, places = self._tokens(plan, (spans, ends))
        lengths, ordinals = plan.lengths[spans], plan.ordinals[spans]
        sizes = lengths.copy()
        sizes[ends - 1] += free  # the last span of a row takes the padding with it, for a moment
        last = np.cumsum(sizes) - sizes + lengths - 1
        targets = self._targets(tokens, last, lengths, ordinals, places)
        documents, sources = np.repeat(ordinals, sizes), np.repeat(plan.sources[spans], sizes)
        counts = np.diff(ends, prepend=0)
        numbers = np.repeat(np.arange(len(spans)) - np.repeat(ends - counts, counts), sizes)
        for row in np.flatnonzero(free).tolist():
            stop = (row + 1) * self.row_tokens
            padding = slice(stop - int(free[row]), stop)
            targets[padding], documents[padding], sources[padding] = IGNORE, -1, 0
            numbers[padding] = counts[row]
        shape = (len(rows), self.row_tokens)
        return Block(
            tokens=tokens.reshape(shape),
            targets=targets.reshape(shape),
            sources=sources.reshape(shape),
            documents=documents.reshape(shape),
            spans=numbers.reshape(shape),
            keys=keys,
        )

    def _targets(
        self,
        tokens: Ints,
        last: Ints,
        lengths: Ints,
        ordinals: Ints,
        places: Ints,
    ) -> Ints:
        """Return [B * T] what follows each token in its document; padding is left to the caller."""
        targets = np.empty_like(tokens)
        targets[:-1] = tokens[1:]
        targets[last] = IGNORE
        shards = self.shards
        going_on = places + lengths < shards.starts[ordinals] + shards.lengths[ordinals]
        for i in np.flatnonzero(going_on).tolist():
            following = int(shards.values[shards.pieces[ordinals[i]]][places[i] + lengths[i]])
            self._check(following)
            targets[last[i]] = following
        if not self._pad_is_end:
            padding = targets == self.pad
            if padding.any():
                targets[padding] = IGNORE
        if self._any_withdrawn:
            for i in np.flatnonzero(shards.withdrawn[ordinals]).tolist():
                targets[last[i] + 1 - lengths[i] : last[i] + 1] = IGNORE
        return targets

    def _check(self, top: int) -> None:
        if top >= self.vocab_size:
            raise InputError(
                f"token id {top} in the shards, but the tokenizer has {self.vocab_size} ids; "
                "the shards were made with another tokenizer: tokenize this corpus again"
            )


def reader_of(run: Any, shards: Shards, kind: type[RowReader] = RowReader) -> Any:
    """Return what builds the rows of a run: of text a `kind`, else a `train.media.MediaReader`."""
    if run.media:
        from train.media import MediaReader

        pad, ids = run.specials.get("pad", 0), run.vocab_size
        return MediaReader(shards, media=run.media, pad=pad, vocab_size=ids)
    return kind(
        shards,
        row_tokens=run.row_tokens,
        pad=run.specials["pad"],
        vocab_size=run.vocab_size,
        ends=(run.specials["bos"], run.specials["eos"]),
    )


class Store:
    """The rows of a run: random access, and the run's stream for any rank.

    Attributes:
        run: the checked run.
        shards: its documents; `column` gives what they have beside tokens.
        plans: name -> plan.
        order: which row comes when.
    """

    def __init__(self, run: Any) -> None:
        self.run, self.shards = run, Shards(run.shards)
        self.plans = {
            name: Plan(paths, self.shards, num_sources=len(run.sources))
            for name, paths in run.plans.items()
        }
        self.reader = reader_of(run, self.shards)
        for phase in run.phases:
            if not self.plan(phase.plan).num_rows:
                raise InputError(f"plan {phase.plan!r} of run {run.id} has no rows to train on")
        sizes = {name: plan.num_rows for name, plan in self.plans.items()}
        self.order = Order(sizes, run.phases, seed=run.seed)

    def plan(self, name: str) -> Plan:
        """Return a plan, or raise `InputError` with the names that exist."""
        if name not in self.plans:
            raise InputError(one_of("plan", name, sorted(self.plans)))
        return self.plans[name]

    def read(self, plan: str, rows: Ints | Sequence[int], *, epoch: int = 0) -> Block:
        """Return rows of a plan by number, as a `Block`."""
        chosen = self._chosen(plan, rows)
        return self.reader.read(self.plans[plan], chosen, seed=self.run.seed, epoch=epoch)

    def tokens(self, plan: str, rows: Ints | Sequence[int]) -> Ints:
        """Return the tokens alone of rows of a plan: [len(rows), row_tokens] int64."""
        return self.reader.tokens(self.plan(plan), self._chosen(plan, rows))

    def _chosen(self, plan: str, rows: Ints | Sequence[int]) -> Ints:
        size, chosen = self.plan(plan).num_rows, np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < size:
            raise InputError(f"plan {plan!r} has rows 0 to {size - 1}; asked for {rows}")
        return chosen

    def sample_of(self, state: Any) -> int:
        """Return the sample that a state stands before.

        Raises:
            InputError: it is not a state, or one of another seed or other plans.
        """
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise InputError(
                f"a state is five integers by name, {', '.join(STATE)}; got {state!r:.60}"
            )
        return self.order.sample_of(state)

    def batch(self, first: int, last: int, *, rank: int = 0, world: int = 1) -> Block:
        """Return the samples `first` to `last` of the run, or a rank's share of them."""
        blocks = [
            self.reader.read(self.plans[plan], rows, seed=self.run.seed, epoch=epoch)
            for plan, epoch, rows in self.order.rows(first, last, rank=rank, world=world)
        ]
        if not blocks:  # the last batch of all, and nothing left for this rank
            blocks = [self.reader.read(self.plan(self.run.phases[0].plan), np.zeros(0, np.int64))]
        arrays = blocks[0].arrays()
        if len(blocks) > 1:
            several = [block.arrays() for block in blocks]
            arrays = {name: np.concatenate([one[name] for one in several]) for name in arrays}
        return Block(**arrays, state=self.order.state(last))

    def batches(
        self,
        batch_rows: int | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        state: Mapping[str, int] | None = None,
        epochs: int | None = None,
    ) -> Iterator[Block]:
        """Yield the run's stream in batches; each carries the state behind it.

        Args:
            batch_rows: rows of a batch over all ranks; by default the run's own.
            rank: of this process; it gets every `world`-th row of each batch.
            world: number of ranks; it may change from one start to the next.
            state: of the last batch that was used, to go on behind it.
            epochs: passes over the last phase's plan, after which the stream ends (the last batch
                may be short, or empty on some ranks); None: it never ends.
        """
        for first, last in self.steps(
            batch_rows, rank=rank, world=world, state=state, epochs=epochs
        ):
            yield self.batch(first, last, rank=rank, world=world)

    def steps(
        self,
        batch_rows: int | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        state: Mapping[str, int] | None = None,
        epochs: int | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Yield the (first, last) samples of the batches of `batches`, without reading them."""
        size = self.run.batch_rows if batch_rows is None else batch_rows
        if not 0 <= rank < world or size < 1 or size % world:
            raise InputError(
                f"rank {rank} of {world} cannot share batches of {size} rows; batch_rows is a "
                "multiple of the number of ranks, and ranks count from 0"
            )
        if epochs is not None and epochs < 1:
            raise InputError(f"epochs is {epochs}; give at least 1, or None for an endless stream")
        first = 0 if state is None else self.sample_of(state)
        turn = self.run.phases[-1]
        end = None if epochs is None else turn.first_row + epochs * self.plan(turn.plan).num_rows
        while end is None or first < end:
            last = first + size if end is None else min(first + size, end)
            yield first, last
            first = last


def open_rows(run_json: str | PathLike[str], *, verify: bool = False) -> Store:
    """Open the rows that a `run.json` names.

    Plans and the tokenizer are known by their digests; shards, which are large, by their size and
    their rows.

    Args:
        run_json: the run file.
        verify: read the shards whole too, and compare their digests.

    Raises:
        InputError: a file is missing or cut short, or does not belong to the others; a plan, the
            tokenizer or, with `verify`, a shard was changed.
    """
    from train.runfile import load_run

    return Store(load_run(run_json, columns=("num_bytes",), verify=verify))

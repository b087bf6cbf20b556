"""Rows of the pack plan, read from memory-mapped shards; order is a pure function of a key.

Sample number n of a run is a row of a plan, found by arithmetic: the phase that holds n, the
epoch in that phase, and a keyed permutation of the plan's rows. It can be inverted, so a document
can be traced to its step without a scan. World size, worker count and batch size never enter.

>>> order = Permutation(10, key=(7, 0))
>>> sorted(order.row_of(np.arange(10)).tolist()) == list(range(10))
True
>>> order.position_of(order.row_of(np.arange(10))).tolist()
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch

from curate.corpus.errors import InputError, one_of
from train.objectives.base import Rows

__all__ = ["Permutation", "Phase", "Plan", "Reader", "Shards", "Stream"]

Ints = np.ndarray[Any, np.dtype[Any]]
IGNORE = -100
SPAN_FIELDS = ("shard", "document", "start", "length", "source")


def _mix(values: Ints, key: int) -> Ints:
    """Scramble uint64 values (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = values ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Permutation:
    """A keyed bijection of range(size): a Feistel network on a grid, with cycle walking.

    The grid is left x right >= size with about sqrt(size) on a side, so that few values fall
    outside and walk on (Black and Rogaway 2002, ciphers with arbitrary finite domains).
    """

    ROUNDS = 8

    def __init__(self, size: int, *, key: Sequence[int]) -> None:
        assert size > 0
        self.size = size
        self.left = math.isqrt(size - 1) + 1
        self.right = -(-size // self.left)
        digest = b"".join(
            hashlib.blake2b(repr((tuple(map(int, key)), i)).encode(), digest_size=8).digest()
            for i in range(self.ROUNDS)
        )
        self.keys = np.frombuffer(digest, dtype="<u8").tolist()

    def row_of(self, positions: Ints) -> Ints:
        """Return the rows [n] int64 that stand at `positions` [n]."""
        return self._walk(np.asarray(positions, dtype=np.int64), forward=True)

    def position_of(self, rows: Ints) -> Ints:
        """Return the positions [n] int64 at which `rows` [n] stand: the inverse of `row_of`."""
        return self._walk(np.asarray(rows, dtype=np.int64), forward=False)

    def _walk(self, values: Ints, *, forward: bool) -> Ints:
        assert not len(values) or (values.min() >= 0 and values.max() < self.size)
        out = self._pass(values, forward=forward)
        while (outside := np.flatnonzero(out >= self.size)).size:
            out[outside] = self._pass(out[outside], forward=forward)
        return out

    def _pass(self, values: Ints, *, forward: bool) -> Ints:
        sides = [values // self.right, values % self.right]
        bounds = (self.left, self.right)
        for i in range(self.ROUNDS) if forward else reversed(range(self.ROUNDS)):
            turn = i % 2
            shift = _mix(sides[1 - turn].astype(np.uint64), self.keys[i]) % np.uint64(bounds[turn])
            step = shift.astype(np.int64)
            sides[turn] = (sides[turn] + (step if forward else -step)) % bounds[turn]
        return sides[0] * self.right + sides[1]


def map_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Memory-map an Arrow IPC file that has `columns`, or raise `InputError`."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable Arrow IPC file: {error}") from error
    for column in columns:
        if column not in table.column_names:
            raise InputError(one_of("column", column, table.column_names) + f" (in {path})")
    return table


def _offsets(column: Any) -> tuple[Ints, Any]:
    """Return int64 offsets [n + 1] from 0 and the values of a (large) list array's slice."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], column.values.slice(offsets[0], offsets[-1] - offsets[0])


class Shards:
    """All token shards of a run, mapped, never copied; a document is known by its ordinal.

    Attributes:
        first: [num_shards + 1] int64, the ordinal of each shard's first document.
        lengths: [num_docs] int64 tokens, bos and eos included.
        num_bytes: [num_docs] int64 bytes of text.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.values: list[Ints] = []
        starts, pieces, lengths, num_bytes, per_shard = [], [], [], [], [0]
        for path in paths:
            table = map_table(path, ["tokens", "num_bytes"])
            for chunk in table["tokens"].chunks:
                kind = chunk.type
                if not (pa.types.is_large_list(kind) or pa.types.is_list(kind)) or (
                    kind.value_type not in (pa.uint16(), pa.uint32())
                ):
                    raise InputError(
                        f"{path}: tokens are {kind}; the trainer reads large_list<uint16|uint32>"
                    )
                offsets, values = _offsets(chunk)
                pieces.append(np.full(len(chunk), len(self.values), dtype=np.int32))
                self.values.append(values.to_numpy(zero_copy_only=True))
                starts.append(offsets[:-1])
                lengths.append(np.diff(offsets))
            num_bytes.append(table["num_bytes"].to_numpy())
            per_shard.append(table.num_rows)
        self.first = np.cumsum(per_shard)
        self.pieces = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
        self.starts = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        self.lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
        self.num_bytes = np.concatenate(num_bytes).astype(np.int64)

    def tokens(self, ordinal: int) -> Ints:
        """Return one document's tokens, a view into the mapped file."""
        start = self.starts[ordinal]
        return self.values[self.pieces[ordinal]][start : start + self.lengths[ordinal]]


class Plan:
    """One split's pack plan: row i is the concatenation of spans first[i] to first[i + 1].

    Attributes:
        first: [rows + 1] int64 into the spans.
        ordinals, starts, lengths, sources: [num_spans] int64; `ordinals` as in `Shards`.
    """

    def __init__(self, paths: Sequence[Path], shards: Shards, *, num_sources: int) -> None:
        counts: list[Ints] = []
        columns: dict[str, list[Ints]] = {name: [] for name in SPAN_FIELDS}
        for path in paths:
            for chunk in map_table(path, ["spans"])["spans"].chunks:
                offsets, spans = _offsets(chunk)
                names = [field.name for field in spans.type]
                for name in SPAN_FIELDS:
                    if name not in names:
                        raise InputError(one_of("span field", name, names) + f" (in {path})")
                counts.append(np.diff(offsets))
                for name, values in zip(names, spans.flatten(), strict=True):
                    if name in columns:
                        columns[name].append(values.to_numpy(zero_copy_only=False))
        flat = {k: np.concatenate(v or [np.zeros(0)]).astype(np.int64) for k, v in columns.items()}
        self.first = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
        self.starts, self.lengths, self.sources = flat["start"], flat["length"], flat["source"]
        self.ordinals = self._ordinals(flat, shards, num_sources, paths)
        self.num_rows = len(self.first) - 1

    def _ordinals(
        self, flat: dict[str, Ints], shards: Shards, num_sources: int, paths: Sequence[Path]
    ) -> Ints:
        """Check every span against the shards, once, and return document ordinals."""
        shard, document = flat["shard"], flat["document"]
        num_shards = len(shards.first) - 1
        bad = (shard < 0) | (shard >= num_shards) | (document < 0)
        ordinals = shards.first[np.where(bad, 0, shard)] + document
        bad |= ordinals >= shards.first[np.where(bad, 0, shard) + 1]
        ends = self.starts + self.lengths
        bad |= (self.starts < 0) | (self.lengths < 1)
        if len(shards.lengths):
            bad |= ends > shards.lengths[np.where(bad, 0, ordinals)]
        bad |= (self.sources < 0) | (self.sources >= num_sources)
        if bad.any():
            i = int(bad.argmax())
            found = ", ".join(f"{name} {flat[name][i]}" for name in SPAN_FIELDS)
            raise InputError(
                f"{', '.join(map(str, paths))}: span {i} ({found}) does not lie in the run's "
                f"{num_shards} shards and {num_sources} sources; pack this corpus again"
            )
        return ordinals

    def documents(self) -> Ints:
        """Return the ordinals of the distinct documents, sorted."""
        return np.unique(self.ordinals)


class Reader:
    """Builds rows from a plan: look-ahead into the shard gives the target at a span's end."""

    def __init__(self, shards: Shards, *, row_tokens: int, pad: int, vocab_size: int) -> None:
        self.shards = shards
        self.row_tokens = row_tokens
        self.pad = pad
        self.vocab_size = vocab_size

    def rows(self, plan: Plan, rows: Ints, *, seed: int = 0, epoch: int = 0) -> Rows:
        """Return `Rows` [len(rows), row_tokens] on the CPU."""
        shape = (len(rows), self.row_tokens)
        tokens = np.full(shape, self.pad, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        sources = np.zeros(shape, dtype=np.int64)
        documents = np.full(shape, -1, dtype=np.int64)
        for b, row in enumerate(rows.tolist()):
            at = 0
            for i in range(plan.first[row], plan.first[row + 1]):
                ordinal, start, length = plan.ordinals[i], plan.starts[i], plan.lengths[i]
                end = at + length
                if end > self.row_tokens:
                    raise InputError(
                        f"row {row} of the plan holds more than row_tokens = {self.row_tokens} "
                        "tokens; pack and train with the same row_tokens"
                    )
                text = self.shards.tokens(int(ordinal))[start : start + length + 1]
                tokens[b, at:end] = text[:length]
                targets[b, at : at + len(text) - 1] = text[1:]
                sources[b, at:end] = plan.sources[i]
                documents[b, at:end] = ordinal
                at = end
        top = max(int(tokens.max(initial=0)), int(targets.max(initial=0)))
        if top >= self.vocab_size:
            raise InputError(
                f"token id {top} in the shards, but the tokenizer has {self.vocab_size} ids; "
                "the shards were made with another tokenizer: tokenize this corpus again"
            )
        keys = np.empty((len(rows), 3), dtype=np.int64)
        keys[:, 0], keys[:, 1], keys[:, 2] = seed, epoch, rows
        return Rows(
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            sources=torch.from_numpy(sources),
            documents=torch.from_numpy(documents),
            keys=torch.from_numpy(keys),
        )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """From sample `first_row` on, rows come from `plan`, beginning with `epoch`."""

    first_row: int
    plan: str
    epoch: int


class Stream:
    """The endless sequence of training samples of a run: phases of permuted epochs."""

    def __init__(
        self, plans: dict[str, Plan], phases: Sequence[Phase], reader: Reader, *, seed: int
    ) -> None:
        firsts = [phase.first_row for phase in phases]
        if not phases or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise InputError(f"phases begin at rows {firsts}; they must rise strictly from 0")
        self.plans, self.phases, self.reader, self.seed = plans, list(phases), reader, seed
        self.firsts = np.array(firsts, dtype=np.int64)
        self._orders: dict[tuple[str, int], Permutation] = {}

    def order(self, plan: str, epoch: int) -> Permutation:
        """Return the permutation of one epoch of a plan's rows."""
        if (plan, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != plan}
            size = self.plans[plan].num_rows
            self._orders[plan, epoch] = Permutation(size, key=(self.seed, epoch))
        return self._orders[plan, epoch]

    def locate(self, sample: int) -> tuple[int, int, int]:
        """Return (phase, epoch, position in the epoch) of a sample number."""
        phase = int(np.searchsorted(self.firsts, sample, side="right")) - 1
        turn = self.phases[phase]
        epochs, position = divmod(sample - turn.first_row, self.plans[turn.plan].num_rows)
        return phase, turn.epoch + epochs, position

    def rows(self, first: int, last: int) -> Iterator[tuple[str, int, Ints]]:
        """Yield (plan, epoch, rows [n]) of samples `first` to `last`, cut where an epoch ends."""
        while first < last:
            phase, epoch, position = self.locate(first)
            plan = self.phases[phase].plan
            count = min(last - first, self.plans[plan].num_rows - position)
            if phase + 1 < len(self.phases):
                count = min(count, self.phases[phase + 1].first_row - first)
            yield plan, epoch, self.order(plan, epoch).row_of(np.arange(position, position + count))
            first += count

    def batch(self, step: int, batch_rows: int) -> Rows:
        """Return the rows of update `step`: samples step * batch_rows and the ones after it."""
        first = step * batch_rows
        parts = [
            self.reader.rows(self.plans[plan], rows, seed=self.seed, epoch=epoch)
            for plan, epoch, rows in self.rows(first, first + batch_rows)
        ]
        if len(parts) == 1:
            return parts[0]
        return Rows(**{k: torch.cat([vars(p)[k] for p in parts]) for k in vars(parts[0])})

    def state(self, sample: int) -> dict[str, int]:
        """Return the five numbers that say where the data stands before `sample`."""
        phase, epoch, cursor = self.locate(sample)
        return {
            "seed": self.seed,
            "sample": sample,
            "phase": phase,
            "epoch": epoch,
            "cursor": cursor,
        }

"""Loss per document, as data: what every step measured of each document, for the next corpus.

A document's tokens stand side by side in a row, so its loss is the sum over a run of equal
`documents`. Those sums are taken on the device, into as many slots as the plan can need, so their
shape never changes and nothing waits. How often a document had been seen follows from the plan
alone: it is counted over the stream's rows, in order, and needs no state of its own.

>>> documents, targets = torch.tensor([[8, 8, 3, -1]]), torch.tensor([[5, -100, 6, -100]])
>>> zeros = torch.zeros(1, 4)
>>> rows = Rows(tokens=zeros, targets=targets, sources=zeros, documents=documents, keys=zeros)
>>> document_sums(rows, torch.tensor([[0.5, 0, 2, 0]]), weights(np.full(7, 4)), slots=3)[:2]
tensor([[ 8.0000,  3.0000, -1.0000],
        [ 0.5000,  2.0000,  0.0000]], dtype=torch.float64)
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import torch
from torch import Tensor

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.schema import SCHEMAS
from train.data import Room
from train.objectives import Rows
from train.order import Order
from train.rows import IGNORE
from train.runfile import Run
from train.shards import Ints, Plan, Shards, map_table

__all__ = ["Feedback", "bytes_per_target", "document_sums", "measured", "weights"]

#: A target counts 1, its bytes so many each, so that one sum holds both: exact in a float64 up to
#: 2^24 targets and 2^29 bytes of a document in a row.
BYTE = 1 << 24
#: Rows that are kept in memory before a file is written, whether or not a checkpoint is due.
MAX_ROWS = 1 << 20
#: Rows of the stream that are looked at together where many are counted.
CHUNK = 1 << 16
_NAME = re.compile(r"feedback-(\d+)-(\d+)\.arrow")  # first and last step


def weights(num_bytes: Ints) -> Tensor:
    """Return what a target adds to its document, by its id; 0 for -100, which counts from the end.

    Args:
        num_bytes: [V] bytes of text that each id stands for.
    """
    table = np.zeros(len(num_bytes) - IGNORE, dtype=np.float64)
    table[: len(num_bytes)] = 1.0 + num_bytes * float(BYTE)
    return torch.from_numpy(table)


@torch.no_grad()
def document_sums(
    rows: Rows, units: Tensor, table: Tensor, slots: int, counted: Tensor | None = None
) -> Tensor:
    """Return [3, slots] float64, on the device and without waiting for it.

    A slot is a document in a row: its ordinal (-1: padding), its nats, and the sum of `table` over
    its targets. Slots that are not needed hold zeros.

    Args:
        rows: [B, T], the tokens of a document side by side.
        units: [B, T] nats of each target; [B, 1] are those of whole rows, told for the document at
            a row's first place.
        table: from `weights`.
        slots: at least the number of documents in these rows, plus one for each row's padding.
        counted: of the shape of `units`, the targets of each, whose bytes are then not told: a task
            that hides a part of a text predicts no bytes of it alone. None: `rows.targets`.
    """
    documents = rows.documents[:, : units.size(1)]
    first = torch.ones_like(documents, dtype=torch.bool)
    torch.ne(documents[:, 1:], documents[:, :-1], out=first[:, 1:])
    slot = first.flatten().cumsum(0).sub_(1)
    sums = torch.zeros(3, slots, dtype=torch.float64, device=documents.device)
    sums[0].scatter_(0, slot, documents.flatten().double())
    sums[1].scatter_add_(0, slot, units.flatten().double())
    added = table[rows.targets.flatten()] if counted is None else counted.flatten().double()
    sums[2].scatter_add_(0, slot, added)
    return sums


def measured(step: int, sums: Tensor) -> Ints:
    """Return what `document_sums` found, on the CPU, as [n, 5] float64 for `Feedback.add`.

    Left out are slots without targets, and documents whose loss is not finite.
    """
    ordinals, nats, packed = sums.numpy()
    kept = np.flatnonzero((packed > 0) & np.isfinite(nats))
    num_bytes, targets = np.divmod(packed[kept], BYTE)
    steps = np.full(len(kept), float(step))
    return np.stack([steps, ordinals[kept], nats[kept], targets, num_bytes], axis=1)


def bytes_per_target(plan: Plan, shards: Shards, num_sources: int) -> Ints:
    """Return [num_sources] mean bytes of text per target of a plan's documents (0 without any)."""
    documents, places = np.unique(plan.ordinals, return_index=True)
    kept = ~shards.withdrawn[documents]
    documents, sources = documents[kept], plan.sources[places[kept]]
    sums = [
        np.bincount(sources, weights=weight, minlength=num_sources)
        for weight in (shards.num_bytes[documents], shards.lengths[documents] - 1)
    ]
    return sums[0] / np.maximum(sums[1], 1)


def _whole(path: Path) -> bool:
    """Return whether a file of feedback has its end, which is written last, and can be read."""
    try:
        with pa.memory_map(str(path)) as source:
            return set(SCHEMAS["feedback"].names) <= {*pa.ipc.open_file(source).schema.names}
    except (OSError, pa.ArrowException):
        return False


class Feedback:
    """Turns sums of documents into files `feedback-<first step>-<last step>.arrow`, a row for each.

    Steps count from 1. A file is written whole or not at all; those of steps that are made again
    are cut; a step whose update was left out has no rows. `times_seen` is the number of the
    stream's rows, up to and including the step's, that
    hold a span of the document: every copy, epoch and phase counts, learnt from or not.

    Args:
        run: the run; files are written into its folder.
        shards, plans: the run's.
        means: [num_sources] bytes per target, where the bytes of each id are not known.
    """

    def __init__(
        self, run: Run, shards: Shards, plans: Mapping[str, Plan], means: Ints | None = None
    ) -> None:
        self.run, self.shards, self.means = run, shards, means
        self.every = run.config.feedback_every
        if self.every and any("doc_id" not in one.schema.names for one in shards.batches):
            raise InputError(
                "feedback names documents by `doc_id`, which these shards do not have; tokenize "
                "the corpus again, or set train.feedback_every to 0"
            )
        self.plans = {phase.plan: plans[phase.plan] for phase in run.phases}
        sizes = {name: plan.num_rows for name, plan in self.plans.items()}
        self.order = Order(sizes, run.phases, seed=run.seed)
        self.folder = run.folder / "feedback"
        self.num_docs = max(1, len(shards.lengths))
        self.seen = np.zeros(self.num_docs, dtype=np.int64)
        self.first, self.last = 1, 0
        self.waiting: list[tuple[Ints, Any]] = []
        self.room = Room(self.plans.values())

    def slots(self, num_rows: int) -> int:
        """Return the most documents that so many rows of the stream can hold, and their padding."""
        return self.room.pieces(num_rows)

    def begin(self, step: int) -> None:
        """Go on behind `step`; what waits for a file is dropped, `cut` sees to the files."""
        self.first, self.last, self.waiting = step + 1, step, []
        self.seen = self._seen_before(step * self.run.batch_rows)

    def add(self, last: int, sums: Ints) -> Ints:
        """Note what was measured up to step `last`, from the step after the last one noted.

        Args:
            sums: [n, 5] float64: step, ordinal, nats, targets, bytes; several rows of one step
                and document are added up; steps that are missing were not learnt from.

        Returns:
            [3, num_sources] float64: nats, targets, bytes.
        """
        keys, sources, seen = self._held(self.last + 1, last)
        order = np.argsort(sums[:, 0] * self.num_docs + sums[:, 1], kind="stable")
        sums = sums[order]
        mine = sums[:, 0].astype(np.int64) * self.num_docs + sums[:, 1].astype(np.int64)
        starts = np.flatnonzero(np.diff(mine, prepend=-1))
        total = np.add.reduceat(sums[:, 2:], starts) if len(starts) else np.zeros((0, 3))
        place = np.searchsorted(keys, mine[starts])
        assert np.array_equal(keys[place], mine[starts]), "documents of other rows than the plan's"
        if self.means is not None:
            total[:, 2] = total[:, 1] * self.means[sources[place]]
        self.last = last
        steps = mine[starts] // self.num_docs
        kept = np.flatnonzero(steps % self.every == 0) if self.every else np.zeros(0, np.int64)
        if len(kept):
            numbers = np.column_stack([mine[starts], sources[place], seen[place]])[kept]
            self.waiting.append((numbers, total[kept]))
        num_sources = len(self.run.sources)
        return np.stack(
            [np.bincount(sources[place], weights=part, minlength=num_sources) for part in total.T]
        )

    @property
    def full(self) -> bool:
        """Whether so much waits that a file should be written."""
        return sum(len(numbers) for numbers, _ in self.waiting) > MAX_ROWS

    def write(self) -> Path | None:
        """Write what waits as one file; None if nothing does.

        Raises:
            OSError: the disk is full; what was written before is untouched.
        """
        if not self.waiting:
            return None
        numbers = np.concatenate([one for one, _ in self.waiting])
        nats, targets, num_bytes = np.concatenate([one for _, one in self.waiting]).T
        step, ordinal = np.divmod(numbers[:, 0], self.num_docs)
        run = self.run
        corpus = f"{run.corpus.get('name')}@{run.corpus.get('version')}"
        mixture = fingerprint(canonical_json(dict(run.identity["plans"])))[:16]
        columns = {
            "run": pa.repeat(pa.scalar(run.id), len(step)),
            "corpus": pa.repeat(pa.scalar(corpus), len(step)),
            "mixture": pa.repeat(pa.scalar(mixture), len(step)),
            "step": step,
            "source": pa.array(list(run.sources), pa.string()).take(pa.array(numbers[:, 1])),
            "doc_id": self.shards.column("doc_id", ordinal),
            "tokens": np.rint(targets),
            "bytes": np.rint(num_bytes),
            "loss_sum": nats,
            "times_seen": numbers[:, 2],
        }
        schema = SCHEMAS["feedback"]
        arrays = [pc.cast(pa.array(columns[field.name]), field.type) for field in schema]
        path = self._write(pa.table(arrays, schema=schema), self.first, self.last)
        self.first, self.waiting = self.last + 1, []
        return path

    def cut(self, step: int, say: Callable[[str], None] = print) -> None:
        """Drop steps after `step` from the files: they will be made again.

        A file that is damaged is put aside, and that is said.
        """
        for path in sorted(self.folder.glob("*")):
            found = _NAME.fullmatch(path.name)
            if found is None:
                if path.name.startswith("partial-"):
                    path.unlink()
                continue
            first, last = map(int, found.groups())
            if first <= step and not _whole(path):
                aside = path.replace(path.with_name(f"{path.name}.damaged"))
                say(f"{path} is damaged: what it told of documents is lost; it is now {aside.name}")
                continue
            if first <= step < last:
                table = map_table(path, ["step"])
                self._write(table.filter(pc.less_equal(table["step"], step)), first, step)
            if last > step:
                path.unlink()

    def lost(self, steps: Sequence[int]) -> str | None:
        """Return a line on steps, of those that were learnt from, whose files are gone, or None."""
        due = np.array([step for step in steps if self.every and step % self.every == 0], np.int64)
        for path in self.folder.glob("*"):
            if found := _NAME.fullmatch(path.name):
                first, last = map(int, found.groups())
                due = due[(due < first) | (due > last)]
        if not len(due):
            return None
        return (
            f"feedback on documents is missing for {len(due):,} steps ({due[0]} to {due[-1]}): "
            f"{self.folder} has no whole file of them; what was trained is not affected"
        )

    def _write(self, table: pa.Table, first: int, last: int) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"feedback-{first:09d}-{last:09d}.arrow"
        partial = self.folder / f"partial-{os.getpid()}"
        try:
            with partial.open("wb") as stream:
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                with pa.ipc.new_file(stream, table.schema, options=options) as sink:
                    sink.write_table(table)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _held(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Return what the plan says of steps `first` to `last`, and count it as seen.

        Returns:
            step * num_docs + ordinal, rising; the source; how often the document has been seen.
        """
        batch, docs = self.run.batch_rows, self.num_docs
        samples, ordinals, sources = self._documents((first - 1) * batch, last * batch)
        keys, places, rows = np.unique(
            (samples // batch + 1) * docs + ordinals, return_index=True, return_counts=True
        )
        documents = keys % docs
        order = np.argsort(documents, kind="stable")  # by document, and its steps in order
        sums, heads = np.cumsum(rows[order]), np.diff(documents[order], prepend=-1) != 0
        before = np.maximum.accumulate(np.where(heads, sums - rows[order], 0))
        seen = np.empty_like(sums)
        seen[order] = self.seen[documents[order]] + sums - before
        self.seen[documents[order]] = seen[order]  # of a document's several steps the last stays
        return keys, sources[places], seen

    def _seen_before(self, sample: int) -> Ints:
        """Return how many of the rows before `sample` hold each document, [num_docs]."""
        seen = np.zeros(self.num_docs, dtype=np.int64)
        phases = self.run.phases
        ends = [*(phase.first_row for phase in phases[1:]), sample]
        for phase, end in zip(phases, ends, strict=True):
            size, begin = self.plans[phase.plan].num_rows, phase.first_row
            epochs, rest = divmod(max(0, min(end, sample) - begin), size)
            parts = ((epochs, begin, size), (1, begin + epochs * size, rest))
            for times, first, count in parts:
                for start in range(first, first + count if times else first, CHUNK):
                    ordinals = self._documents(start, min(start + CHUNK, first + count))[1]
                    np.add.at(seen, ordinals, times)
        return seen

    def _documents(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Return sample, ordinal and source of the distinct documents of samples of the stream."""
        parts = [np.zeros((3, 0), dtype=np.int64)]
        for name, _, rows in self.order.rows(first, last):
            plan = self.plans[name]
            spans, ends = plan.spans_of(rows)
            samples = np.repeat(np.arange(first, first + len(rows)), np.diff(ends, prepend=0))
            parts.append(np.stack([samples, plan.ordinals[spans], plan.sources[spans]]))
            first += len(rows)
        samples, ordinals, sources = np.concatenate(parts, axis=1)
        _, places = np.unique(samples * self.num_docs + ordinals, return_index=True)
        return samples[places], ordinals[places], sources[places]

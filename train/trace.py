"""Which documents a step reads, and at which steps a document is read: from the plan alone.

A step is so many samples, a sample is a row of a plan (`train.order`), a row is spans of documents.
Each of these is arithmetic or a look-up and can be turned round: nothing is replayed, no token is
read, and a step that is yet to come can be asked for as well. Steps count from 1, as in
`metrics.jsonl`; who trained them, in how many processes and after how many interruptions does not
enter. Nothing here imports torch.

>>> tracer = Tracer.open("runs/5f0c/run.json")  # doctest: +SKIP
>>> tracer.step(12).lengths.sum()  # doctest: +SKIP
>>> tracer.document(tracer.find("3f2a"), steps=600).steps  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.order import samples_of
from train.order import Order
from train.runfile import Run, load_run
from train.shards import Plan, Shards

__all__ = ["Spans", "Tracer"]

Ints = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Pieces of documents as a run reads them, in the order of its stream; all int64 [n].

    Attributes:
        steps: of the update, from 1.
        rows: of the step's batch, from 0.
        positions: of the piece's first token in its row.
        ordinals: of the document, as in `Shards`.
        starts: of the piece in its document, in tokens, bos being token 0.
        lengths: tokens of the piece.
        sources: codes, as in the run's `sources`.
        phases: place of the phase in the run's `phases`.
        epochs: of the plan.
        plan_rows: row of the plan.
        places: of the span in its plan.
    """

    steps: Ints
    rows: Ints
    positions: Ints
    ordinals: Ints
    starts: Ints
    lengths: Ints
    sources: Ints
    phases: Ints
    epochs: Ints
    plan_rows: Ints
    places: Ints

    def __len__(self) -> int:
        return len(self.steps)

    def where(self, chosen: Ints) -> "Spans":
        """Return those that a mask [n] chooses."""
        return Spans(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


class Tracer:
    """A run's stream, to be asked both ways.

    Attributes:
        run: the checked run.
        shards: its documents; `column("doc_id", ordinals)` names them.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.shards = run, Shards(run.shards)
        read = {phase.plan for phase in run.phases}
        self.plans = {
            name: Plan(run.plans[name], self.shards, num_sources=len(run.sources))
            for name in sorted(read)
        }
        for name, plan in self.plans.items():
            if not plan.num_rows:
                raise InputError(f"plan {name!r} of run {run.id} has no rows, so it has no steps")
        self.sizes = {name: plan.num_rows for name, plan in self.plans.items()}
        self.order = Order(self.sizes, run.phases, seed=run.seed)

    @classmethod
    def open(cls, run_json: str | PathLike[str]) -> Self:
        """Open the run that a file describes.

        Raises:
            InputError: a file of it is missing or was changed.
        """
        return cls(load_run(run_json, columns=("doc_id",)))

    def find(self, digits: str) -> Ints:
        """Return the ordinals of the documents whose ids begin with these hexadecimal digits."""
        low = bytes.fromhex(digits.ljust(32, "0"))
        high = bytes.fromhex(digits.ljust(32, "f"))
        found, first = [np.zeros(0, np.int64)], 0
        for batch in self.shards.batches:
            column = batch["doc_id"]
            buffer: Any = column.buffers()[1] or b""
            data = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, 16)
            ids = data[column.offset : column.offset + len(column)]
            near = np.flatnonzero((ids[:, 0] >= low[0]) & (ids[:, 0] <= high[0])).tolist()
            mine = [row for row in near if low <= ids[row].tobytes() <= high]
            found.append(first + np.array(mine, dtype=np.int64))
            first += batch.num_rows
        return np.concatenate(found)

    def ordinals(self, ids: Sequence[bytes]) -> Ints:
        """Return the ordinals of documents by their ids, in the order of the shards."""
        wanted = pa.array(ids, pa.binary(16))
        found, first = [np.zeros(0, np.int64)], 0
        for batch in self.shards.batches:
            mine = pc.is_in(batch["doc_id"].cast(wanted.type), value_set=wanted)
            found.append(first + np.flatnonzero(mine.to_numpy(zero_copy_only=False)))
            first += batch.num_rows
        return np.concatenate(found)

    def step(self, step: int) -> Spans:
        """Return everything that an update reads; it need not have been trained yet.

        Raises:
            InputError: there is no such step.
        """
        if step < 1:
            raise InputError(f"step is {step}; steps count from 1")
        last = step * self.run.batch_rows
        return self.at(np.arange(last - self.run.batch_rows, last))

    def document(self, ordinals: Ints | Sequence[int], *, steps: int) -> Spans:
        """Return every place of some documents in the first `steps` updates, as the stream goes."""
        wanted = np.zeros(len(self.shards.lengths), dtype=bool)
        wanted[np.asarray(ordinals, dtype=np.int64)] = True
        rows = {
            name: np.unique(np.searchsorted(plan.first, mine, side="right") - 1)
            for name, plan in self.plans.items()
            for mine in [np.flatnonzero(wanted[plan.ordinals])]
        }
        phases = [vars(phase) for phase in self.run.phases]
        samples = samples_of(
            rows,
            self.sizes,
            phases,
            seed=self.run.seed,
            num_samples=steps * self.run.batch_rows,
        )
        spans = self.at(samples)
        return spans.where(wanted[spans.ordinals])

    def at(self, samples: Ints) -> Spans:
        """Return the spans of samples (numbers in the stream, ascending)."""
        parts = [_NOTHING]
        phases = np.searchsorted([p.first_row for p in self.run.phases], samples, side="right") - 1
        for phase in np.unique(phases).tolist():
            turn = self.run.phases[phase]
            plan, mine = self.plans[turn.plan], samples[phases == phase]
            epochs, places = np.divmod(mine - turn.first_row, plan.num_rows)
            for epoch in np.unique(epochs).tolist():
                now = epochs == epoch
                order = self.order.order(turn.plan, turn.epoch + epoch)
                rows = order.row_of(places[now])
                parts.append(self._read(plan, mine[now], rows, phase, turn.epoch + epoch))
        columns = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Spans)}
        return Spans(**{name: np.concatenate(arrays) for name, arrays in columns.items()})

    def _read(self, plan: Plan, samples: Ints, rows: Ints, phase: int, epoch: int) -> Spans:
        spans, ends = plan.spans_of(rows)
        counts = np.diff(ends, prepend=0)
        lengths = plan.lengths[spans]
        before = np.cumsum(lengths) - lengths
        steps, rows_of_step = np.divmod(np.repeat(samples, counts), self.run.batch_rows)
        return Spans(
            steps=steps + 1,
            rows=rows_of_step,
            positions=before - np.repeat(before[ends - counts], counts),
            ordinals=plan.ordinals[spans],
            starts=plan.starts[spans],
            lengths=lengths,
            sources=plan.sources[spans],
            phases=np.full(len(spans), phase),
            epochs=np.full(len(spans), epoch),
            plan_rows=np.repeat(rows, counts),
            places=spans,
        )

    def copies(self, spans: Spans) -> tuple[Ints, Ints]:
        """Return which copy of its document each span is of, from 1, and how many its plan has.

        A span belongs to the n-th copy if n - 1 spans before it in the plan hold its first token:
        layouts may cut the copies of a document at different places.
        """
        copies, of_copies = np.zeros((2, len(spans)), dtype=np.int64)
        for phase in np.unique(spans.phases).tolist():
            mine, plan = spans.phases == phase, self.plans[self.run.phases[phase].plan]
            found = _copies(plan, spans.places[mine], len(self.shards.lengths))
            copies[mine], of_copies[mine] = found
        return copies, of_copies


_NOTHING = Spans(**{f.name: np.zeros(0, np.int64) for f in fields(Spans)})


def _copies(plan: Plan, spans: Ints, num_docs: int) -> tuple[Ints, Ints]:
    """Return `Tracer.copies` of spans, by their places, of one plan."""
    wanted = np.zeros(num_docs, dtype=bool)
    wanted[plan.ordinals[spans]] = True
    mine = np.flatnonzero(wanted[plan.ordinals])
    mine = mine[np.argsort(plan.ordinals[mine], kind="stable")]
    owners, starts = plan.ordinals[mine], plan.starts[mine]
    ends = starts + plan.lengths[mine]
    distinct, places = np.unique(spans, return_inverse=True)
    found = np.empty((2, len(distinct)), dtype=np.int64)
    firsts = np.searchsorted(owners, plan.ordinals[distinct])
    lasts = np.searchsorted(owners, plan.ordinals[distinct], side="right")
    for i, (span, first, last) in enumerate(
        zip(distinct.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
    ):
        start = plan.starts[span]
        holds = (starts[first:last] <= start) & (start < ends[first:last])
        found[:, i] = (holds & (mine[first:last] <= span)).sum(), holds.sum()
    copies, of_copies = found[:, places]
    return copies, of_copies

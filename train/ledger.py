"""What a run says of itself: metrics, feedback on documents, curves, alarms, a word to who watches.

Losses stay on the device until a line is due, so that keeping them costs no waiting. Then, all at
once: a line per step in `metrics.jsonl`, a summary on the last of them, files of feedback (see
`train.feedback`), curves for TensorBoard, and a look at the alarms, once all that is on the disk.

MFU, the share of the device's arithmetic that the model needs, is
`tokens/s * spec.flops_per_token / (peak * number of devices)`: 6 per matrix parameter and token and
12 L d T for attention (PaLM, appendix B, without halving for the causal mask, as nanochat does),
over the dense bfloat16 peak; null where the peak is not known, as on a CPU.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train.alarms import Alarm, Alarms, Seen
from train.curves import Curves
from train.feedback import Feedback, bytes_per_target, document_sums, measured, weights
from train.lines import number, peak_flops, text
from train.model import ModelSpec
from train.objectives import Loss, Objective, Rows
from train.parallel import Ranks
from train.runfile import Run
from train.salvage import whole_lines
from train.shards import Ints, Plan, Shards, map_table

__all__ = ["Ledger", "Progress", "peak_flops"]

#: Curves of TensorBoard: keys of lines in `metrics.jsonl`.
CURVES = (
    *("mean_loss", "bits_per_byte", "learning_rate", "grad_norm", "tokens_per_s", "mfu"),
    *("skipped", "held_out_nats", "held_out_bits_per_byte"),
)
Progress = Callable[[int, int, dict[str, Any]], None]
LN2 = math.log(2)


class Ledger:
    """Sums on the device until a line is due; then everything that a run tells.

    All ranks hold one and flush together; only the first one writes and talks.

    Args:
        run: the run; files are written into its folder.
        shards, plans: the run's.
        spec: of the model.
        ranks: this process among the others.
        device: where losses are.
        steps: of the whole run.
        progress: called with (step, steps, metrics); lines are printed without it.
        objective: for its chance level and, if it has one, its `health()`: name -> number.

    Attributes:
        per_source: [3, num_sources] nats, targets and bytes of the whole run, without steps whose
            update was left out: nothing was learnt from them.
        seconds: spent on training so far, without glances and checkpoints.
        skipped: updates that were left out so far.
    """

    def __init__(
        self,
        run: Run,
        *,
        shards: Shards,
        plans: Mapping[str, Plan],
        spec: ModelSpec,
        ranks: Ranks,
        device: torch.device,
        steps: int,
        progress: Progress | None,
        objective: Objective,
    ) -> None:
        self.run, self.ranks, self.device, self.steps = run, ranks, device, steps
        self.progress, self.objective = progress, objective
        self.file = run.folder / "metrics.jsonl"
        num_bytes = np.zeros(run.vocab_size, dtype=np.int64)
        means: Ints | None = None
        #: Bits per byte are those of a task that predicts every token of a text.
        self.every = spec.objective == "next_token"
        if not self.every:
            pass
        elif run.token_bytes is None:
            used = [plans[name] for name in {phase.plan: None for phase in run.phases}]
            means = np.max(
                [bytes_per_target(one, shards, len(run.sources)) for one in used], axis=0
            )
        else:
            num_bytes = np.array(map_table(run.token_bytes, [])["num_bytes"].to_pylist())
        self.table = weights(num_bytes).to(device)
        self.feedback = Feedback(run, shards, plans, means)
        self.held_bytes = np.zeros(len(run.sources))
        if "validation" in plans and self.every:
            self.held_bytes = bytes_per_target(plans["validation"], shards, len(run.sources))
        self.curves = Curves(run.folder / "tensorboard")
        changes = [-(-phase.first_row // run.batch_rows) for phase in run.phases]
        self.alarms = Alarms(
            run.config,
            chance=objective.chance(),
            steps=steps,
            phases=changes[1:],
            rate=run.config.matrix_rate(spec.row_tokens),
            unit=objective.unit,
            floors=objective.floors,
        )
        self.row_units = spec.row_tokens if run.media else run.row_tokens
        self.word = {None: "tokens", "image": "patches", "audio": "frames"}[
            (run.media.get("of") or run.media).get("kind")
        ]
        self.flops = spec.flops_per_token(self.row_units)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.peak = peak_flops(name)
        self.per_source = np.zeros((3, len(run.sources)))
        self.pieces: list[tuple[int, Tensor]] = []
        self.metrics: dict[str, Tensor] = {}
        self.lines: list[tuple[Tensor, float]] = []
        self.done, self.skipped = 0, 0
        self.seconds = self.waited = 0.0
        self.begin = self.said = time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line, whoever draws the progress; the first rank's alone."""
        if self.ranks.first:
            print(text, flush=True)

    def observe(self, rows: Rows, loss: Loss) -> None:
        """Note the rows of a micro-batch, without waiting for the device."""
        slots = self.feedback.slots(len(rows.tokens))
        counted = None if self.every else loss.told(rows.targets >= 0)
        sums = document_sums(rows, loss.units, self.table, slots, counted)
        self.pieces.append((self.done + 1, sums.to("cpu", non_blocking=True)))
        for name, pair in loss.metrics.items():
            found = pair.detach().double()
            self.metrics[name] = self.metrics[name] + found if name in self.metrics else found

    def close_step(
        self,
        step: int,
        sums: Tensor,
        *,
        rate: float,
        skipped: Tensor,
        grad_norm: Tensor,
        waited: float,
    ) -> None:
        """Note that update `step` (from 0) is over.

        Args:
            sums: [2] float64 nats and targets, of all ranks.
            rate: the learning rate of the matrices.
            skipped: scalar, not 0 where the update was left out.
            grad_norm: scalar, before clipping.
            waited: seconds spent waiting for rows.
        """
        numbers = torch.cat([sums, torch.stack([skipped.double(), grad_norm.double()])])
        self.lines.append((numbers.to("cpu", non_blocking=True), rate))
        self.done, self.waited = step + 1, self.waited + waited

    def flush(self, done: int, *, keep: bool = False) -> Alarm | None:
        """Tell of the steps that wait, all ranks together; `done` updates are finished.

        Returns:
            An alarm that should be raised when the weights, which are sound, have been kept.

        Raises:
            Alarm: the run is not worth going on with; everything told is on the disk.
            InputError: the disk is full.
        """
        if not self.lines:
            return None
        if self.device.type == "cuda":
            begin = time.perf_counter()
            torch.cuda.synchronize(self.device)  # the copies have arrived
            # While this process waits for the device, the device did not wait for rows.
            self.waited = max(0.0, self.waited - (time.perf_counter() - begin))
        steps, waited = self._steps()
        losses = steps[:, 0] / np.where(steps[:, 1] > 0, steps[:, 1], 1)
        skipped = steps[:, 2] != 0
        first = done - len(steps) + 1
        seconds: float = self.ranks.share(time.perf_counter() - self.begin)
        found = self._gathered()
        learnt = ~skipped[found[:, 0].astype(np.int64) - first]
        parts = self.feedback.add(done, found[learnt])
        self.per_source += parts
        self.skipped += int(skipped.sum())
        self.seconds += seconds
        lines: list[dict[str, Any]] = [
            {
                "step": first + i,
                "loss": number(losses[i]),
                "learning_rate": rate,
                "targets": round(steps[i, 1]),
                "grad_norm": number(steps[i, 3]),
                "left_out": bool(skipped[i]),
            }
            for i, (_, rate) in enumerate(self.lines)
        ]
        self.lines.clear()
        lines[-1] |= self._summary(done, len(lines), steps[~skipped].sum(0), parts, seconds)
        self.alarms.chance = self.objective.chance()  # it may follow from the rows of a step
        seen = Seen(
            first=first,
            losses=losses,
            skipped=skipped,
            seconds=seconds,
            waited=waited,
            health=lines[-1].get("health", {}),
        )
        alarm, notes = self._look(seen)
        if alarm is not None:
            lines[-1]["alarm"] = str(alarm)
        with self.ranks.agree():
            if self.ranks.first:
                self._write(done, lines, keep=keep or alarm is not None or self._keeps(done))
        if self.ranks.first:
            self._tell(done, lines[-1])
        else:
            self.feedback.waiting.clear()
        for note in notes:
            self.say(note)
        if alarm is not None and not alarm.sound:
            raise alarm
        return alarm

    def restart(self) -> None:
        """Start the clock of the next interval: what followed the last step is none of it."""
        self.waited, self.begin = 0.0, time.perf_counter()

    def _steps(self) -> tuple[Ints, float]:
        """Return [n, 4] nats, targets, skipped and norm of the steps that wait, and seconds waited.

        All but the seconds, of which this is the mean, are equal on all ranks.
        """
        steps = torch.stack([one for one, _ in self.lines]).numpy()
        waited = torch.tensor([self.waited], dtype=torch.float64, device=self.device)
        return steps, float(self.ranks.sum_(waited)) / self.ranks.world

    def _gathered(self) -> Ints:
        """Return [n, 5] of every rank: step, ordinal, nats, targets, bytes."""
        mine = torch.from_numpy(np.concatenate([measured(*piece) for piece in self.pieces]))
        self.pieces.clear()
        gathered: Ints = self.ranks.gather_rows(mine).numpy()
        return gathered

    def _summary(
        self, done: int, count: int, total: Ints, parts: Ints, seconds: float
    ) -> dict[str, Any]:
        """Return what the last line of an interval says of all of it."""
        per_s = count * self.run.batch_rows * self.row_units / seconds
        peak = self.peak and self.peak * self.ranks.world
        nats, _, num_bytes = parts
        with torch.no_grad():
            health = self.ranks.share({k: float(v) for k, v in self.objective.health().items()})
        metrics = self._measured()
        return {
            "mean_loss": number(total[0] / total[1]) if total[1] else None,
            "bits_per_byte": nats.sum() / LN2 / num_bytes.sum() if num_bytes.sum() else None,
            "tokens_per_s": per_s,
            "mfu": per_s * self.flops / peak if peak else None,
            "eta_s": (self.steps - done) * seconds / count,
            "skipped": self.skipped,
            "sources": self._sources(parts),
            **({"unit": self.objective.unit} if self.objective.unit != "nats" else {}),
            **({"units": self.word} if self.word != "tokens" else {}),
            **_if_any("metrics", metrics),
            **_if_any("health", {k: number(v) for k, v in health.items()}),
        }

    def _measured(self) -> dict[str, float | None]:
        """Return the metrics of the interval, over all ranks, and begin the next one."""
        names: list[str] = self.ranks.share(sorted(self.metrics))
        none = torch.zeros(2, dtype=torch.float64, device=self.device)
        mine = [self.metrics.get(name, none) for name in names]
        self.metrics.clear()
        if not names:
            return {}
        sums = self.ranks.sum_(torch.stack(mine)).tolist()
        return {k: number(a / b) if b else None for k, (a, b) in zip(names, sums, strict=True)}

    def _sources(self, parts: Ints) -> dict[str, dict[str, Any]]:
        """Return the loss of each source that has targets, by name."""
        return {
            name: {
                "nats": number(nats / targets),
                "bits_per_byte": number(nats / LN2 / num_bytes) if num_bytes else None,
                "targets": round(targets),
            }
            for name, nats, targets, num_bytes in zip(
                self.run.sources, *parts.tolist(), strict=True
            )
            if targets
        }

    def train_sources(self) -> dict[str, dict[str, Any]]:
        """Return the loss of each source over the whole run, null where it has no targets."""
        none = {"nats": None, "bits_per_byte": None, "targets": 0}
        found = self._sources(self.per_source)
        told = {name: dict(found.get(name, none)) for name in self.run.sources}
        return {name: {"mean_nats": one.pop("nats"), **one} for name, one in told.items()}

    def _look(self, seen: Seen) -> tuple[Alarm | None, list[str]]:
        """Ask the alarms: what stops the run, and what a person should know."""
        notes: list[str] = []
        if seen.skipped.any():
            notes.append(
                f"step {seen.first + int(seen.skipped.argmax())}: the gradients were not finite, "
                f"so the update was left out ({self.skipped} so far)"
            )
        if not self.run.config.alarms:
            return None, notes
        try:
            told = self.alarms.see(seen)
        except Alarm as alarm:
            return alarm, notes
        return None, notes + ([told] if told else [])

    def _keeps(self, done: int) -> bool:
        """Whether feedback is due: at each checkpoint, so that a run goes on with whole files."""
        every = self.run.config.checkpoint_every
        return done == self.steps or (every > 0 and done % every == 0) or self.feedback.full

    def held_out(self, done: int, sums: Tensor, metrics: Mapping[str, float | None]) -> None:
        """Note a glance at held-out rows: [2, num_sources] nats and targets, and metrics.

        Bytes are those of the targets' documents on average, source by source.
        """
        nats, targets = sums.double().numpy()
        sources = self._sources(np.stack([nats, targets, targets * self.held_bytes]))
        num_bytes = float((targets * self.held_bytes).sum())
        line = {
            "held_out_nats": number(nats.sum() / max(targets.sum(), 1)),
            "held_out_bits_per_byte": number(nats.sum() / LN2 / num_bytes) if num_bytes else None,
            "held_out_sources": sources,
            **({"unit": self.objective.unit} if self.objective.unit != "nats" else {}),
            **_if_any("held_out_metrics", {k: v and number(v) for k, v in metrics.items()}),
        }
        with self.ranks.agree():
            if self.ranks.first:
                self._write(done, [{"step": done, **line}])
        if self.ranks.first:
            self._tell(done, line, always=True)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold for `load`."""
        return {
            "per_source": torch.from_numpy(self.per_source.copy()),
            "spent": torch.tensor([self.seconds, self.skipped], dtype=torch.float64),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint's `state`."""
        self.per_source = state["per_source"].cpu().double().numpy().copy()
        self.seconds, self.skipped = float(state["spent"][0]), int(state["spent"][1])

    def rewind(self, step: int) -> None:
        """Drop all that was told of steps after `step`: they will be made again."""
        told: list[tuple[int, float | None, bool]] = []
        with self.ranks.agree():
            if self.ranks.first:
                told = self._cut(step)
        most = max(self.alarms.MOST, self.run.config.max_skipped)
        self.alarms.recall(self.ranks.share(told[-most:]), self.skipped)
        self.feedback.begin(step)
        self.curves.begin(step)
        self.done = step
        self.restart()

    def _cut(self, step: int) -> list[tuple[int, float | None, bool]]:
        """Cut the files to `step`; return (step, loss, whether left out) of what stays."""
        partial = self.file.with_name(self.file.name + ".partial")
        try:
            lines = whole_lines(self.file, step, self.say)
            partial.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
            partial.replace(self.file)
            self.feedback.cut(step, self.say)
        except OSError as error:
            raise InputError(
                f"{self.run.folder} cannot be written: {error}. Make room and run again: it goes "
                f"on after step {step}"
            ) from error
        told = [
            (line["step"], line["loss"], line.get("left_out", line["loss"] is None))
            for line in lines
            if "loss" in line
        ]
        if lost := self.feedback.lost([step for step, _, left_out in told if not left_out]):
            self.say(lost)
        return told

    def _write(self, done: int, lines: list[dict[str, Any]], *, keep: bool = False) -> None:
        """Write lines and the curves of the last one; feedback too where it is due."""
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{json.dumps(line, allow_nan=False)}\n" for line in lines)
                if keep:
                    stream.flush()
                    os.fsync(stream.fileno())
            self._curve(done, lines[-1])
            if keep:
                self.feedback.write()
        except OSError as error:
            raise InputError(
                f"step {done}: {self.run.folder} cannot be written: {error}. Make room and run "
                "again: it goes on from its last checkpoint"
            ) from error

    def _curve(self, done: int, line: Mapping[str, Any]) -> None:
        """Write a line's numbers, and those of its sources, as curves."""
        numbers: dict[str, Any] = {name: line.get(name) for name in CURVES}
        for key in ("sources", "held_out_sources"):
            for source, one in line.get(key, {}).items():
                numbers[f"{key}/{source}"] = one["nats"]
        for key in ("metrics", "health", "held_out_metrics"):
            for name, value in line.get(key, {}).items():
                numbers[f"{key}/{name}"] = value
        self.curves.add(done, {k: v for k, v in numbers.items() if v is not None})

    def _tell(self, done: int, line: dict[str, Any], *, always: bool = False) -> None:
        if self.progress is not None:
            self.progress(done, self.steps, line)
        elif always or done == self.steps or time.perf_counter() - self.said > 5:
            self.said = time.perf_counter()
            self.say(f"step {done}/{self.steps}: {text(line, self.word)}")


def _if_any(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: content}, nothing where it is empty."""
    return {name: dict(content)} if content else {}

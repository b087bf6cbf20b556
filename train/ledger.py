"""What a run says of itself: a line per step in `metrics.jsonl`, a word to whoever watches.

Losses stay on the device until a line is due, so that keeping them costs no waiting.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train.evaluate import LN2
from train.objectives import Loss, Rows
from train.runfile import Run

__all__ = ["Ledger", "Progress"]

Progress = Callable[[int, int, dict[str, Any]], None]


class Ledger:
    """Losses on the device until a line is due; then `metrics.jsonl` and a word to the caller.

    Attributes:
        per_source: [2, num_sources] float64 on the device: nats and targets of the whole run.
    """

    def __init__(
        self,
        run: Run,
        device: torch.device,
        steps: int,
        bytes_per_target: float,
        progress: Progress | None,
    ) -> None:
        self.run, self.steps, self.progress = run, steps, progress
        self.bytes_per_target = bytes_per_target
        self.step_tokens = run.batch_rows * run.row_tokens
        self.file = run.folder / "metrics.jsonl"
        self.per_source = torch.zeros(2, len(run.sources), dtype=torch.float64, device=device)
        self.recent = torch.zeros_like(self.per_source)
        self.waiting: list[Tensor] = []
        self.rates: list[float] = []
        self.begin = self.said = time.perf_counter()
        self.seconds = 0.0

    def say(self, text: str) -> None:
        """Print a line, whoever draws the progress."""
        print(text, flush=True)

    def rewind(self, step: int) -> None:
        """Drop metrics of steps after `step`: they will be made again."""
        kept: list[str] = []
        if step and self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError):
                    break
        partial = self.file.with_name(self.file.name + ".partial")
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        partial.replace(self.file)
        self.begin = time.perf_counter()

    def add(self, rows: Rows, loss: Loss, rate: float) -> None:
        """Note one update, without waiting for the device."""
        self.waiting.append(torch.stack([loss.total.detach().double(), loss.count.double()]))
        self.rates.append(rate)
        self.recent += loss.per_source(rows.sources, len(self.run.sources), rows.targets >= 0)

    def flush(self, done: int) -> None:
        """Write the lines that wait; `done` updates are finished."""
        if not self.waiting:
            return
        sums = torch.stack(self.waiting).cpu()
        seconds = time.perf_counter() - self.begin
        losses = (sums[:, 0] / sums[:, 1].clamp(min=1)).tolist()
        nats, counts = self.recent.cpu().tolist()
        first = done - len(losses) + 1
        lines: list[dict[str, Any]] = [
            {"step": first + i, "loss": loss, "learning_rate": rate, "targets": int(count)}
            for i, (loss, rate, count) in enumerate(
                zip(losses, self.rates, sums[:, 1].tolist(), strict=True)
            )
        ]
        mean = float(sums[:, 0].sum() / sums[:, 1].sum().clamp(min=1))
        lines[-1] |= {
            "mean_loss": mean,
            "bits_per_byte": mean / LN2 / self.bytes_per_target,
            "tokens_per_s": len(losses) * self.step_tokens / seconds,
            "sources": {
                name: {"nats": total / count, "targets": int(count)}
                for name, total, count in zip(self.run.sources, nats, counts, strict=True)
                if count
            },
        }
        self._append(lines)
        self.per_source += self.recent
        self.recent.zero_()
        self.waiting.clear()
        self.rates.clear()
        self.seconds += seconds
        if not all(map(_finite, losses)):
            raise InputError(
                f"the loss is not finite at step {first + [*map(_finite, losses)].index(False)}; "
                f"lower learning_rate (now {self.run.config.learning_rate}) and start a new run"
            )
        self._tell(done, lines[-1])
        self.begin = time.perf_counter()

    def held_out(self, done: int, nats: float) -> None:
        """Note a glance at held-out rows."""
        self._append([{"step": done, "held_out_nats": nats}])
        self._tell(done, {"held_out_nats": nats}, always=True)
        self.begin = time.perf_counter()

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)

    def _tell(self, done: int, line: dict[str, Any], *, always: bool = False) -> None:
        if self.progress is not None:
            self.progress(done, self.steps, line)
        elif always or done == self.steps or time.perf_counter() - self.said > 5:
            self.said = time.perf_counter()
            if "mean_loss" in line:
                text = (
                    f"loss {line['mean_loss']:.3f} nats, about {line['bits_per_byte']:.3f} "
                    f"bits/byte, {line['tokens_per_s']:,.0f} tokens/s"
                )
            else:
                text = f"held-out glance {line['held_out_nats']:.3f} nats"
            self.say(f"step {done}/{self.steps}: {text}")


def _finite(value: float) -> bool:
    return value - value == 0

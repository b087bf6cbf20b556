"""When a run is not worth going on with, it says why and stops: alarms over what was measured.

Each alarm asks for evidence over many steps, so that a healthy run, however noisy, sets off none.
They see numbers that are the same on every rank, so all ranks stop at one step.

>>> alarms = Alarms(TrainConfig(), chance=4.0, steps=1000, phases=[])
>>> alarms.see(Seen(first=1, losses=np.linspace(4, 2, 300), skipped=np.zeros(300, bool)))
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from train.config import TrainConfig

__all__ = ["Alarm", "Alarms", "Seen"]

Array = np.ndarray[Any, np.dtype[Any]]


class Alarm(InputError):
    """A run that was stopped: what was seen at which step, likely reasons, what to do.

    Attributes:
        sound: whether the weights are worth a checkpoint.
    """

    def __init__(self, message: str, *, sound: bool = False) -> None:
        super().__init__(f"{message}; `alarms: false` goes on all the same")
        self.sound = sound


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Some steps in a row.

    Attributes:
        first: the number of the first, from 1.
        losses: [n] nats per target; not finite where nothing was measured.
        skipped: [n] whether the update was left out because the gradients were not finite.
        seconds, waited: how long these steps took, and what of it was waiting for rows.
        health: what the objective says of itself after the last of them.
    """

    first: int
    losses: Array
    skipped: Array
    seconds: float = 0.0
    waited: float = 0.0
    health: Mapping[str, float] = field(default_factory=dict)


class Alarms:
    """Watches a run's steps; thresholds are settings, all named below.

    Args:
        config: the settings.
        chance: loss per target of knowing nothing; None: nobody can say.
        steps: of the whole run.
        phases: steps at which the mixture changes: what is usual is learnt anew there.
        rate: the setting that is the peak rate of the matrices.
        unit: what losses are measured in.
        floors: name in `Seen.health` -> a value below which features have collapsed.
    """

    #: Steps after the warm-up before a loss at chance counts, and how many are averaged.
    CHANCE_STEPS, CHANCE_MEAN = 200, 50
    #: Usual losses that a spike is told from: at least and at most so many.
    FEWEST, MOST = 100, 200
    #: Looks in a row at a health below its floor, as late as a loss at chance counts.
    COLLAPSED_LOOKS = 5
    #: Starved for so long, a run stops.
    STARVED_SECONDS = 600.0

    def __init__(
        self,
        config: TrainConfig,
        *,
        chance: float | None,
        steps: int,
        phases: Sequence[int],
        rate: str = "learning_rate",
        unit: str = "nats",
        floors: Mapping[str, float] | None = None,
    ) -> None:
        self.unit, self.floors = unit, dict(floors or {})
        self.low = dict.fromkeys(self.floors, 0)
        self.config, self.chance, self.phases = config, chance, frozenset(phases)
        self.rate = f"{rate} (now {getattr(config, rate)})"
        self.warm = round(config.warmup_fraction * steps)
        self.usual: deque[float] = deque(maxlen=self.MOST)
        self.recent: deque[float] = deque(maxlen=self.CHANCE_MEAN)
        self.above: deque[bool] = deque(maxlen=config.spike_steps)
        self.row = self.skipped = 0
        self.limit = math.inf
        self.starved_s, self.told = 0.0, False

    def recall(self, told: Iterable[tuple[int, float | None, bool]], skipped: int) -> None:
        """Learn what is usual from the steps before a restart; nothing fires.

        Args:
            told: (step, loss, whether its update was left out), rising.
            skipped: updates left out in the whole run so far.
        """
        self.skipped = skipped
        for step, loss, left_out in told:
            self.row = self.row + 1 if left_out else 0
            self._forget(step)
            if not left_out and loss is not None:
                self._follow(step, loss)

    def see(self, seen: Seen) -> str | None:
        """Look at some steps; return what a person should be told once.

        Raises:
            Alarm: the run is not worth going on with.
        """
        for step, (loss, skipped) in enumerate(
            zip(seen.losses.tolist(), seen.skipped.tolist(), strict=True), seen.first
        ):
            self._count(step, loss, skipped)
            self._forget(step)
            if not skipped and math.isfinite(loss):
                self._follow(step, loss)
                self._chance(step)
                self._spike(step, loss)
        self._collapse(seen)
        return self._starved(seen)

    def _count(self, step: int, loss: float, skipped: bool) -> None:
        """Non-finite steps: `max_skipped` in a row are too many, ten times as many in all too."""
        most = self.config.max_skipped
        if not skipped and not math.isfinite(loss):
            raise Alarm(
                f"the loss is not finite at step {step} and the update was not left out; "
                f"lower {self.rate} and start a new run"
            )
        self.row = self.row + 1 if skipped else 0
        self.skipped += skipped
        if self.row > most or self.skipped > 10 * most:
            how = f"{self.row} in a row" if self.row > most else f"{self.skipped} in all"
            raise Alarm(
                f"step {step}: gradients are not finite in {how} (max_skipped is {most}). The "
                f"rates are too high or the weights are spoilt: lower {self.rate} or raise "
                "warmup_fraction and start a new run; with dtype bfloat16, try float32"
            )

    def _forget(self, step: int) -> None:
        """Start anew while rates rise and where the mixture changes: there a loss may jump."""
        if step - 1 in self.phases or step - 1 <= self.warm:
            self.usual.clear()
            self.above.clear()
            self.limit = math.inf

    def _follow(self, step: int, loss: float) -> None:
        """Keep what is usual: losses that are not above the limit set by the ones before."""
        self.recent.append(loss)
        above = loss > self.limit
        self.above.append(above)
        if not above:
            self.usual.append(loss)
            if len(self.usual) >= self.FEWEST and step % 10 == 0:
                self.limit = self._limit()

    def _limit(self) -> float:
        """Return the median + k robust standard deviations, and at least 5 % above the median."""
        usual = np.fromiter(self.usual, dtype=np.float64)
        middle = float(np.median(usual))
        spread = 1.4826 * float(np.median(np.abs(usual - middle)))
        return middle + max(self.config.spike_deviations * spread, 0.05 * abs(middle))

    def _spike(self, step: int, loss: float) -> None:
        """A loss that stays above what was usual; OLMo 2 (2024) counts 7 deviations as a spike."""
        if len(self.above) < self.config.spike_steps or np.mean(self.above) < 0.9:
            return
        middle = float(np.median(np.fromiter(self.usual, dtype=np.float64)))
        raise Alarm(
            f"step {step}: the loss jumped from {middle:.3f} to {np.mean(self.recent):.3f} "
            f"{self.unit} and stayed there for {len(self.above)} steps (usual: below "
            f"{self.limit:.3f}). The update has diverged, or the text has changed: "
            f"lower {self.rate} or grad_clip (now {self.config.grad_clip}) and start a "
            "new run; `preceptor trace` names the documents of those steps"
        )

    def _chance(self, step: int) -> None:
        """A loss within `chance_margin` of knowing nothing, long after the warm-up."""
        if step < self.warm + self.CHANCE_STEPS or len(self.recent) < self.CHANCE_MEAN:
            return
        mean = float(np.mean(self.recent))
        if self.chance is None or mean < (1 - self.config.chance_margin) * self.chance:
            return
        raise Alarm(
            f"step {step}: the loss is {mean:.3f} {self.unit}, that of knowing nothing is "
            f"{self.chance:.3f}: in {step} steps nothing was learnt. Rates may be far too high or "
            f"too low: {self.rate}; or the rows carry nothing that can be predicted: "
            "look at a few rows, change the rates and start a new run"
        )

    def _collapse(self, seen: Seen) -> None:
        """A health below its floor at several looks in a row: all rows look alike to the model."""
        step = seen.first + len(seen.losses) - 1
        for name, floor in self.floors.items():
            value = seen.health.get(name)
            late = step >= self.warm + self.CHANCE_STEPS
            self.low[name] = (
                self.low[name] + 1 if value is not None and late and (not value >= floor) else 0
            )
            if self.low[name] >= self.COLLAPSED_LOOKS:
                raise Alarm(
                    f"step {step}: {name} is {value:.3g}, below {floor:g} at {self.low[name]} "
                    "looks in a row: the features have collapsed, and rows can no longer be told "
                    f"apart. Lower {self.rate}, take more rows a step (batch_rows) or another "
                    "temperature or teacher_momentum, and start a new run"
                )

    def _starved(self, seen: Seen) -> str | None:
        """Waiting for rows: told once above half of `max_starved`, a stop above it for minutes."""
        if seen.seconds <= 0:
            return None
        share, most = seen.waited / seen.seconds, self.config.max_starved
        self.starved_s = self.starved_s + seen.seconds if share > most else 0.0
        last = seen.first + len(seen.losses) - 1
        if self.starved_s > self.STARVED_SECONDS:
            raise Alarm(
                f"step {last}: {share:.0%} of the time was spent waiting for rows, for "
                f"{self.starved_s / 60:.0f} minutes. The disk or the shards' host cannot keep up: "
                "copy the shards to a local disk (PRECEPTOR_CACHE) or free the processors",
                sound=True,
            )
        if share > most / 2 and seen.seconds > 1 and not self.told:
            self.told = True
            return (
                f"step {last}: {share:.0%} of the time goes into waiting for rows; a faster disk "
                "or free processors would speed this run up"
            )
        return None

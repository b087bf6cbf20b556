"""One protocol for what a representation is worth: few labels, ten draws of them, paired arms.

A frozen encoder's features are the mean over a row's units after the last and after the middle
block; which is used is chosen, as the strength of the regularisation is, on a validation slice.
All arms (ours, the encoder untrained, the raw input, the same network trained on the labels alone)
see the same splits and the same draws of labels, so that their differences are paired. Full labels
prove little on easy data, where raw pixels already do well: what counts is few labels.

>>> split(np.arange(40) % 4, seed=1).test.shape
(12,)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from train.classifiers import RATES, STEPS, Split, knn, linear, retrieval, tune
from train.encoded import features, raw_input, taken, untrained
from train.model import Model
from train.objectives.base import Rows

__all__ = [
    "Probed",
    "Score",
    "Split",
    "chosen",
    "compared",
    "drawn",
    "features",
    "frozen",
    "knn",
    "linear",
    "raw_input",
    "retrieval",
    "split",
    "taken",
    "tuned",
    "untrained",
    "works",
]

Array = np.ndarray[Any, np.dtype[Any]]
#: Labels of each class; None: all that the training part has.
SHOTS: tuple[int | None, ...] = (1, 10, None)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one arm did with so many labels.

    Attributes:
        arm: its name.
        probe: "linear", "knn" or "fine-tune".
        shots: labels of each class; None: all.
        layer: of the features.
        validation: [draws] accuracy by which settings are chosen.
        right: [draws, n] bool, which examples of the test part were told.
    """

    arm: str
    probe: str
    shots: int | None
    layer: str
    validation: Array
    right: Array

    @property
    def accuracy(self) -> float:
        """Mean over draws and test examples."""
        return float(self.right.mean())


@dataclass(frozen=True, kw_only=True)
class Probed:
    """Our accuracy against a control's, on the same draws of labels and the same test examples.

    Attributes:
        probe, shots: see `Score`.
        ours, against: mean accuracies.
        difference: ours - against, with its `standard_error` over draws of labels; of one draw,
            over test examples.
        layer: the layer that validation chose, and `layers`, our accuracy with each.
    """

    probe: str
    shots: int | None
    ours: float
    control: str
    against: float
    difference: float
    standard_error: float
    draws: int
    layer: str
    layers: Mapping[str, float]

    @property
    def what(self) -> str:
        """The number in words."""
        many = "all labels" if self.shots is None else f"{self.shots} a class"
        return f"{self.probe}, {many}: accuracy"

    @property
    def note(self) -> str:
        """What each layer gave, where there is a choice, and over what the error is."""
        each = ", ".join(f"{name} {value:.3f}" for name, value in self.layers.items())
        layers = f"{self.layer} layer of {each}; " if len(self.layers) > 1 else ""
        over = f"{self.draws} label draws" if self.draws > 1 else "test examples, one draw"
        return f"{layers}error over {over}"

    @property
    def better(self) -> bool:
        """Whether ours is above by more than two standard errors."""
        return self.difference > 2 * self.standard_error

    @property
    def worse(self) -> bool:
        """Whether ours is below by more than two standard errors."""
        return self.difference < -2 * self.standard_error


def split(
    labels: Array,
    groups: Array | None = None,
    *,
    seed: int = 0,
    test: float = 0.3,
    validation: float = 0.15,
) -> Split:
    """Part examples at random; a group (speaker, source, package) is in one part alone.

    Args:
        labels: [N].
        groups: [N] or None: each example is one. With fewer than three groups the validation
            slice is taken from the training part's examples.
        seed: of the parting.
        test, validation: shares of the examples, about.

    Raises:
        InputError: there is one group only.
    """
    random = np.random.default_rng([seed, 0x59117])
    count = len(labels)
    names, member = (
        (np.arange(count), np.arange(count))
        if groups is None
        else np.unique(groups, return_inverse=True)
    )
    if len(names) < 2:
        raise InputError(
            f"all {count} examples are of the one group {str(names[0])!r}; a probe is measured on "
            "other groups than it learnt from: leave the groups out, or give more"
        )
    order = random.permutation(len(names))
    reach = np.cumsum(np.bincount(member, minlength=len(names))[order])
    # A part ends with the group that brings it nearest to its share; each has one at least.
    held = 1 + int(np.abs(reach[:-1] - test * count).argmin())
    part = np.zeros(len(names), np.int8)
    part[order[:held]] = 2
    if len(names) >= 3:
        reach, left = reach[held:] - reach[held - 1], order[held:]
        if len(left) >= 2:
            part[left[: 1 + int(np.abs(reach[:-1] - validation * count).argmin())]] = 1
    each = part[member]
    if not (each == 1).any():
        rest = random.permutation(np.flatnonzero(each == 0))
        each[rest[: max(1, round(validation * len(rest)))]] = 1
    return Split(**{n: np.flatnonzero(each == i) for i, n in enumerate(("train", *_HELD))})


_HELD = ("validation", "test")


def drawn(labels: Array, pool: Array, shots: int | None, *, seed: int, draw: int) -> Array:
    """Return the places of `shots` labels of each class, or of all: the same for every arm.

    What is drawn for fewer shots is among what is drawn for more.

    Args:
        labels: [N].
        pool: places of the training part.
        shots: None: the whole pool.
        seed, draw: of the draw.
    """
    if shots is None:
        return pool
    shuffled = np.random.default_rng([seed, draw, 0xD4A3]).permutation(pool)
    parts = [shuffled[labels[shuffled] == c][:shots] for c in np.unique(labels[pool])]
    return np.concatenate(parts)


def frozen(
    arm: str,
    layers: Mapping[str, Array],
    labels: Array,
    parts: Split,
    *,
    shots: Sequence[int | None] = SHOTS,
    draws: int = 10,
    seed: int = 0,
    probes: Sequence[str] = ("linear", "knn"),
) -> list[Score]:
    """Probe an arm's features.

    Args:
        arm: its name.
        layers: name -> [N, D], as `features` or `raw_input` gives them.
        labels: [N] classes 0 to C - 1.
        parts: of the examples.
        shots: labels of each class; all of them are drawn once.
        draws, seed: of labels.
        probes: "linear", "knn".
    """
    scores, num_classes = [], int(labels.max()) + 1
    truth, slice_labels = labels[parts.test], labels[parts.validation]
    for layer, raw in layers.items():
        centred = raw - raw[parts.train].mean(0)
        x = centred / max(float(centred[parts.train].std()), 1e-8)
        for k in shots:
            picks = [
                drawn(labels, parts.train, k, seed=seed, draw=i)
                for i in range(1 if k is None else draws)
            ]
            for probe in probes:
                told = []
                for at in picks:
                    if probe == "linear":
                        slice_ = (x[parts.validation], slice_labels)
                        guess, valid = linear(x[at], labels[at], slice_, x[parts.test])
                    else:
                        both = np.concatenate([parts.validation, parts.test])
                        guess = knn(raw[at], labels[at], raw[both], num_classes)
                        valid = float((guess[: len(slice_labels)] == slice_labels).mean())
                        guess = guess[len(slice_labels) :]
                    told.append((valid, guess == truth))
                scores.append(_score(arm, probe, k, layer, told))
    return scores


def _score(
    arm: str, probe: str, shots: int | None, layer: str, told: Sequence[tuple[float, Array]]
) -> Score:
    validation, right = np.array([v for v, _ in told]), np.stack([r for _, r in told])
    return Score(arm=arm, probe=probe, shots=shots, layer=layer, validation=validation, right=right)


def tuned(
    arm: str,
    model: Model,
    rows: Rows,
    labels: Array,
    parts: Split,
    *,
    scratch: bool = False,
    shots: Sequence[int | None] = SHOTS,
    draws: int = 10,
    seed: int = 0,
    steps: int = STEPS,
) -> list[Score]:
    """Train the encoder and a linear head on the few labels; the probe "fine-tune".

    The rate is chosen on the first draw of labels, how many of the steps are taken on every one,
    both on the validation slice.

    Args:
        arm: its name.
        model: where it starts.
        rows: N.
        labels: [N] classes 0 to C - 1.
        parts: of the examples.
        scratch: start from new weights, others for each draw: "supervised from scratch".
        shots, draws, seed: of labels.
        steps: of AdamW, 32 rows each; of all labels three times as many.
    """
    scores = []
    for k in shots:
        rates: Sequence[float] = RATES
        told = []
        for i in range(1 if k is None else draws):
            at = drawn(labels, parts.train, k, seed=seed, draw=i)
            start = untrained(model, seed + i, drawn=False) if scratch else model
            tries = [
                tune(start, rows, labels, parts, at, rate, steps * (3 if k is None else 1), i)
                for rate in rates
            ]
            best = max(range(len(tries)), key=lambda j: tries[j][0])
            rates = (rates[best],)
            told.append(tries[best])
        scores.append(_score(arm, "fine-tune", k, "last", told))
    return scores


def chosen(scores: Iterable[Score], arm: str, probe: str, shots: int | None) -> Score | None:
    """Return an arm's score with the layer that validation prefers; None: it was not probed."""
    mine = [s for s in scores if (s.arm, s.probe, s.shots) == (arm, probe, shots)]
    return max(mine, key=lambda s: float(s.validation.mean()), default=None)


def compared(
    scores: Sequence[Score],
    ours: str = "ours",
    *,
    controls: Sequence[str] | None = None,
    across: Mapping[str, str] | None = None,
) -> list[Probed]:
    """Return ours against each control, by probe and number of labels.

    Args:
        scores: of all arms.
        ours: the arm's name.
        controls: other arms, by default all of them.
        across: control -> the probe of it that all of ours are compared with, where it is not the
            same one; by default "scratch" -> "fine-tune".
    """
    across = {"scratch": "fine-tune"} if across is None else across
    names = list(dict.fromkeys(s.arm for s in scores if s.arm != ours))
    found = []
    for probe, k in dict.fromkeys((s.probe, s.shots) for s in scores if s.arm == ours):
        mine = chosen(scores, ours, probe, k)
        assert mine is not None
        layers = {
            s.layer: s.accuracy for s in scores if (s.arm, s.probe, s.shots) == (ours, probe, k)
        }
        for control in names if controls is None else controls:
            other = chosen(scores, control, across.get(control, probe), k)
            if other is None:
                continue
            apart = mine.right.astype(float) - other.right
            each = apart.mean(1) if len(apart) > 1 else apart[0]
            found.append(
                Probed(
                    probe=probe,
                    shots=k,
                    ours=mine.accuracy,
                    control=control,
                    against=other.accuracy,
                    difference=float(apart.mean()),
                    standard_error=float(each.std(ddof=1) / math.sqrt(len(each))),
                    draws=len(apart),
                    layer=mine.layer,
                    layers=layers,
                )
            )
    return found


def works(found: Sequence[Probed], encoder: str = "untrained") -> bool:
    """Return whether a representation is worth having, by the protocol's rule.

    With some probe and number of labels it is above every control by two standard errors, and
    nowhere it is below the untrained encoder by as much.
    """
    groups = {
        (p.probe, p.shots): [q for q in found if (q.probe, q.shots) == (p.probe, p.shots)]
        for p in found
    }
    ahead = any(all(p.better for p in group) for group in groups.values())
    return ahead and not any(p.worse for p in found if p.control == encoder)

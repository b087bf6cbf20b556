"""Checks of the tasks of sounds, on spoken digits: 6 speakers x 10 digits x 20 takes at 8 kHz.

Nothing of the test speaker is seen in training, and nothing is chosen on it: four speakers train,
a fifth is for choices (the probe's strength and block), the sixth is what the table tells. `--full`
takes each speaker as the sixth in turn. The settings are those of `train/configs`.

Controls: what a few lines of least squares or interpolation reach, on the same spectra and frames;
and for probes the mean and standard deviation of each log-mel energy, not normalised, and the same
encoder untrained. A probe has ten labels of each digit, of the training speakers.
"""

import io
import shutil
import wave
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from runs import audio_run, held_out_rows, load, rows, train
from table import ROOT, Asked, Row

from train import probes

__all__ = ["CHECKS"]

RATE, FRAMES = 8000, 72
#: Past frames that the linear prediction reads.
LAGS = 8
DRAWS, LABELS = 10, 10
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """All recordings, ordered by speaker, digit and take.

    Attributes:
        samples: int16 arrays.
        speakers, digits: of each.
    """

    samples: list[Array]
    speakers: Array
    digits: Array

    def parts(self, test: int) -> probes.Split:
        """Return numbers of the recordings of each part; `test` is the speaker's number."""
        names = sorted(set(self.speakers))
        measured, chosen = names[test], names[(test + 1) % len(names)]
        return probes.Split(
            train=np.flatnonzero(~np.isin(self.speakers, [measured, chosen])),
            validation=np.flatnonzero(self.speakers == chosen),
            test=np.flatnonzero(self.speakers == measured),
        )


def sounds(data: Path) -> Sounds:
    """Read the archive where it is; files are called DIGIT_SPEAKER_TAKE.wav."""
    found = []
    with zipfile.ZipFile(data / "audio" / "fsdd_1200.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".wav"):
                digit, speaker, take = Path(name).stem.split("_")
                with wave.open(io.BytesIO(archive.read(name))) as file:
                    assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
                    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                found.append((speaker, int(digit), int(take), samples))
    found.sort(key=lambda one: one[:3])
    speakers, digits, _, samples = zip(*found, strict=True)
    return Sounds(samples=list(samples), speakers=np.array(speakers), digits=np.array(digits))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model, and every recording as a row; see `Sounds.parts`."""

    model: Any
    rows: Any
    digits: Array
    parts: probes.Split

    def some(self, part: str) -> list[Any]:
        """Return the rows of a part in slices of at most 50; their keys are those of epoch 0."""
        numbers = getattr(self.parts, part)
        return [probes.taken(self.rows, numbers[i : i + 50]) for i in range(0, len(numbers), 50)]


def trained(asked: Asked, objective: str, test: int, **more: Any) -> Trained:
    """Train by `train/configs`, on four speakers."""
    data = sounds(asked.data)
    parts = data.parts(test)
    config = yaml.safe_load((ROOT / "train" / "configs" / f"{objective}.yaml").read_text())
    config |= {"threads": asked.threads, **more}
    if asked.quick:
        config["steps"] = config["steps"] // 5
    held_out = np.concatenate([parts.validation, parts.test])
    folder = asked.work / f"{objective}-{test}"
    shutil.rmtree(folder, ignore_errors=True)
    path = audio_run(
        folder,
        data.samples,
        RATE,
        frames=FRAMES,
        held_out=held_out,
        sources=list(data.speakers),
        seed=asked.seed,
        **config,
    )
    train(path)
    model, _ = load(path)
    both = rows(path), held_out_rows(path)
    joined = {
        name: None if value is None else torch.cat([value, getattr(both[1], name)])
        for name, value in vars(both[0]).items()
    }
    order = joined["documents"][:, 0].argsort()
    everything = probes.taken(type(both[0])(**joined), order)
    keys = everything.keys.clone()
    keys[:, 2] = torch.arange(len(keys))
    return Trained(
        model=model,
        rows=replace(everything, keys=keys),
        digits=data.digits,
        parts=parts,
    )


def told(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of paired differences as a row's, and its standard error."""
    found = np.asarray(values, dtype=np.float64)
    return {
        "difference": float(found.mean()),
        "standard_error": float(found.std(ddof=1) / len(found) ** 0.5),
    }


# The controls.


def _spectra(made: Trained, part: str) -> list[Array]:
    """Return the normalised spectra [frames, mels] of each sound of a part."""
    stem, found = made.model.backbone.stem, []
    for some in made.some(part):
        inside = stem.inside(some.samples, some.lengths)
        spectra = stem.spectra(some.samples, some.lengths)
        found += [s[i].numpy() for s, i in zip(spectra, inside, strict=True)]
    return found


def _past(spectra: Array, ahead: int) -> tuple[Array, Array]:
    """Return the `LAGS` frames up to t, all mels and a one, and the frame at t + `ahead`."""
    first = [spectra[lag : len(spectra) - LAGS - ahead + lag + 1] for lag in range(LAGS)]
    return np.concatenate([*first, np.ones_like(first[0][:, :1])], 1), spectra[LAGS - 1 + ahead :]


def _holes(spectra: Array, hidden: Array) -> Array:
    """Return [hidden frames, mels], drawn straight from one side of each hole to the other."""
    frames = np.arange(len(spectra))
    return np.stack(
        [np.interp(frames[hidden], frames[~hidden], band[~hidden]) for band in spectra.T], 1
    )


# The probe.


def probed(asked: Asked, objective: str, every: list[Trained], *, starred: bool) -> list[Row]:
    """Return the probe against log-mel, promised at `LABELS` a digit, and the untrained encoder."""
    found: dict[tuple[int | None, str], list[probes.Probed]] = {}
    for made in every:
        arms = {
            "ours": probes.features(made.model, made.rows),
            "log-mel mean and deviation": probes.raw_input(made.rows, made.model.spec),
            "untrained": probes.features(probes.untrained(made.model, asked.seed), made.rows),
        }
        scores = []
        for arm, layers in arms.items():
            scores += probes.frozen(
                arm,
                layers,
                made.digits,
                made.parts,
                shots=(LABELS, None),
                draws=DRAWS,
                seed=asked.seed,
                probes=("linear",),
            )
        for one in probes.compared(scores):
            found.setdefault((one.shots, one.control), []).append(one)
    rows_of = []
    for (shots, control), some in found.items():
        # Of one test speaker the error is over draws of labels; of several, over them.
        paired = {"difference": some[0].difference, "standard_error": some[0].standard_error}
        if len(some) > 1:
            paired = told([one.difference for one in some])
        better = paired["difference"] > 2 * paired["standard_error"]
        rows_of.append(
            Row(
                objective=objective,
                what=f"digits of a new speaker; {some[0].what}",
                ours=float(np.mean([one.ours for one in some])),
                control=control,
                against=float(np.mean([one.against for one in some])),
                **paired,
                passed=better if shots == LABELS and control != "untrained" else None,
                starred=starred,
                note=some[0].note if control != "untrained" else "",
            )
        )
    return rows_of


# The checks.


def _tests(asked: Asked) -> range:
    return range(6 if asked.full else 1)


def next_frame(asked: Asked) -> list[Row]:
    """L1 of the spectrum ahead against a copy and least squares over the past frames."""
    every = [trained(asked, "next_frame", test) for test in _tests(asked)]
    errors: dict[str, list[float]] = {"ours": [], "copy": [], "linear": []}
    for made in every:
        ahead = made.model.objective.knob["steps_ahead"]
        past = [_past(s, ahead) for s in _spectra(made, "train") if len(s) >= LAGS + ahead]
        x, y = (np.concatenate(some) for some in zip(*past, strict=True))
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        spectra = iter(_spectra(made, "test"))
        for some in made.some("test"):
            with torch.inference_mode():
                guesses = made.model.objective.predictions(made.model.backbone, some).numpy()
            for guess in guesses:
                sound = next(spectra)
                if len(sound) < LAGS + ahead:
                    continue
                x, y = _past(sound, ahead)
                at = range(LAGS - 1, len(sound) - ahead)
                errors["ours"].append(float(np.abs(guess[at] - y).mean()))
                errors["copy"].append(float(np.abs(sound[at] - y).mean()))
                errors["linear"].append(float(np.abs(x @ weights - y).mean()))
    found = [
        _lower(
            "next_frame",
            f"L1 {every[0].model.objective.knob['steps_ahead']} frames ahead",
            errors["ours"],
            errors[name],
            control,
        )
        for name, control in (
            ("copy", "copy of the newest frame"),
            ("linear", f"least squares over {LAGS} frames, all mels"),
        )
    ]
    return [*found, *_told_only(probed(asked, "next_frame", every, starred=True))]


def _told_only(found: Sequence[Row]) -> list[Row]:
    """Numbers that the task promises nothing about."""
    return [replace(row, passed=None, starred=False) for row in found]


def _lower(objective: str, what: str, ours: list[float], its: list[float], control: str) -> Row:
    """A row that passes where ours is lower by two standard errors over sounds."""
    paired = told(np.subtract(ours, its).tolist())
    return Row(
        objective=objective,
        what=what,
        ours=float(np.mean(ours)),
        control=control,
        against=float(np.mean(its)),
        **paired,
        passed=paired["difference"] < -2 * paired["standard_error"],
    )


def masked_frames(asked: Asked) -> list[Row]:
    """L1 of what was hidden against straight lines over the holes; the probe."""
    every = [trained(asked, "masked_frames", test) for test in _tests(asked)]
    ours, lines = [], []
    for made in every:
        objective, backbone = made.model.objective, made.model.backbone
        # Measured as the paper trains: 15 % in spans of 7; all zeroed, so that all know alike.
        objective.knob |= {"mask_rate": 0.15, "mask_span": 7, "variant": "frames"}
        for some in made.some("test"):
            more = dict(objective.manufacture(some).more)
            more |= {"zeroed": more["zeroed"] | True, "replaced": more["replaced"] & False}
            size = more["chosen"].size(1) * backbone.stem.hop
            samples = some.samples[:, :size]
            inside = backbone.stem.inside(samples, some.lengths)
            spectra = backbone.stem.spectra(samples, some.lengths)
            with torch.inference_mode():
                seen, _ = objective.hide(spectra, more)
                hidden = backbone(backbone.stem.project(seen), inside.long())
                guesses = objective.head(hidden).numpy()
            for row, there in enumerate(inside):
                sound, hole = spectra[row][there].numpy(), more["chosen"][row][there].numpy()
                ours.append(float(np.abs(guesses[row][there][hole] - sound[hole]).mean()))
                lines.append(float(np.abs(_holes(sound, hole) - sound[hole]).mean()))
    what, control = "L1 of hidden frames, 15 % in spans of 7", "linear interpolation in time"
    found = [_lower("masked_frames", what, ours, lines, control)]
    return [*found, *probed(asked, "masked_frames", every, starred=False)]


def _metrics(made: Trained, part: str) -> list[dict[str, Array]]:
    """Return the (sum, count) of each metric for every sound of a part."""
    found = []
    for number in getattr(made.parts, part):
        with torch.inference_mode():
            metrics = made.model(probes.taken(made.rows, np.array([number]))).metrics
        found.append({name: pair.double().numpy() for name, pair in metrics.items()})
    return found


def _share(told_of: Sequence[dict[str, Array]], name: str) -> tuple[float, float]:
    """Return a metric over all sounds, and its standard error over sounds (a ratio's)."""
    pairs = np.stack([one[name] for one in told_of])
    total, count = pairs.sum(0)
    off = pairs[:, 0] - total / count * pairs[:, 1]
    return total / count, float(np.sqrt((off**2).sum()) / count)


def contrastive_predictive(asked: Asked) -> list[Row]:
    """Accuracy at every distance against chance; the probe."""
    every = [trained(asked, "contrastive_predictive", test) for test in _tests(asked)]
    objective = every[0].model.objective
    metrics = [one for made in every for one in _metrics(made, "test")]
    at = [_share(metrics, f"accuracy_{k + 1}") for k in range(objective.ahead)]
    least, error = min(at)
    chance = 1 / (1 + objective.knob["negatives"])
    row = Row(
        objective="contrastive_predictive",
        what=f"accuracy, the lowest of {len(at)} distances",
        ours=least,
        control="chance, 1 / (K + 1)",
        against=chance,
        standard_error=error,
        passed=all(share > chance + 5 * error for share, error in at),
        note="at 1, 2, ... frames: " + ", ".join(f"{share:.2f}" for share, _ in at),
    )
    return [row, *probed(asked, "contrastive_predictive", every, starred=False)]


def wav2vec(asked: Asked) -> list[Row]:
    """Accuracy against guessing among the negatives that are there; codes in use; the probe."""
    every = [trained(asked, "wav2vec", test) for test in _tests(asked)]
    metrics = [one for made in every for one in _metrics(made, "test")]
    (accuracy, error), (luck, _) = (_share(metrics, name) for name in ("accuracy", "luck"))
    codes = every[0].model.objective.knob["codes"]
    perplexities = []
    for made in every:
        with torch.inference_mode():
            used = made.model(probes.taken(made.rows, made.parts.test)).metrics["perplexity"]
        perplexities.append(float(used[0] / used[1]))
    found = [
        Row(
            objective="wav2vec",
            what="accuracy of hidden frames",
            ours=accuracy,
            control="guessing",
            against=luck,
            standard_error=error,
            passed=accuracy - luck > 5 * error,
            starred=True,
        ),
        Row(
            objective="wav2vec",
            what=f"perplexity of the {codes} codes of a group",
            ours=float(np.mean(perplexities)),
            control="a tenth of the codes",
            against=codes / 10,
            passed=min(perplexities) > codes / 10,
            starred=True,
        ),
    ]
    return [*found, *probed(asked, "wav2vec", every, starred=True)]


CHECKS: dict[str, Callable[[Asked], list[Row]]] = {
    "next_frame": next_frame,
    "masked_frames": masked_frames,
    "contrastive_predictive": contrastive_predictive,
    "wav2vec": wav2vec,
}

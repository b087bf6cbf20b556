"""Rotation, relative patch position and masked patches (MAE), on MNIST's 10,000 test images.

The images are parted before anything is made of them: pretraining, labels (of which few are drawn),
a validation slice by which layers, rates and strengths are chosen, and the test part. None of the
last two is seen in pretraining. One training seed; errors are over label draws or over images.
"""

import gzip
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import runs
import scipy.interpolate
import torch
from table import Asked, Row

from train import probes
from train.model import Model
from train.models.stems import patches_of
from train.objectives import Rows

Array = np.ndarray[Any, np.dtype[Any]]


def idx(path: Path) -> Array:
    """Return the array of an IDX file, which begins with its type (8: uint8), axes and sizes."""
    data = gzip.decompress(path.read_bytes())
    assert data[:3] == b"\0\0\x08", f"{path} is not an IDX file of bytes"
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pixels [N, 1, 28, 28], digits [N], and how many of the first are for pretraining."""

    pixels: Array
    labels: Array
    pretrain: int

    @property
    def held_out(self) -> range:
        """The images that pretraining does not see."""
        return range(self.pretrain, len(self.labels))

    def parts(self, seed: int, asked: Asked) -> probes.Split:
        """Return labelled images of the pretraining part; validation and test of the others."""
        held = np.random.default_rng([seed, 5]).permutation(np.array(self.held_out))
        test = held[300:][: 300 if asked.quick else 1200]
        return probes.Split(train=np.arange(self.pretrain)[:3000], validation=held[:300], test=test)


def images(asked: Asked) -> Images:
    """Read MNIST's test set, the only one that is there, in a random order."""
    folder = asked.data / "images" / "mnist"
    pixels = idx(folder / "t10k-images-idx3-ubyte.gz")[:, None]
    labels = idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    order = np.random.default_rng([asked.seed, 4]).permutation(len(labels))
    if asked.quick:
        order = order[:4000]
    return Images(pixels=pixels[order], labels=labels[order], pretrain=len(order) * 4 // 5)


def trained(asked: Asked, name: str, found: Images, patch: int, **config: Any) -> Path:
    """Train a run and return its run.json; sizes and steps are the same for all tasks."""
    settings = {"depth": 3, "width": 64, "heads": 2, "batch_rows": 32, "optimizer": "muon"}
    steps = 150 if asked.quick else 1000
    folder = asked.work / f"images-{name}-{asked.seed}"
    shutil.rmtree(folder, ignore_errors=True)  # a run that is there would be resumed
    path = runs.image_run(
        folder,
        found.pixels,
        held_out=found.held_out,
        patch=patch,
        seed=asked.seed,
        **{**settings, "steps": steps, "threads": asked.threads, **config},
    )
    runs.train(path)
    return path


def all_rows(path: Path) -> Rows:
    """Return every image, in the order of `Images`."""
    two = [vars(runs.rows(path, plan)) for plan in ("train", "validation")]
    both = {k: None if v is None else torch.cat([v, two[1][k]]) for k, v in two[0].items()}
    rows = Rows(**both)
    return probes.taken(rows, rows.documents[:, 0].argsort())


@torch.no_grad()
def told(model: Model, rows: Rows, at: Array) -> tuple[Array, Array]:
    """Return the sums and counts [n] of the metric `accuracy`, image by image."""
    found = []
    for i in at.tolist():
        metric = model(probes.taken(rows, [i])).metrics["accuracy"]
        found.append(metric.numpy())
    both = np.array(found)
    return both[:, 0], both[:, 1]


def over_chance(objective: str, what: str, right: Array, of: Array, chance: float) -> Row:
    """Return a row: accuracy against chance, its error over images."""
    each = right / of
    error = float(each.std(ddof=1) / math.sqrt(len(each)))
    ahead = float(each.mean()) - chance
    return Row(
        objective=objective,
        what=what,
        ours=float(each.mean()),
        control="chance",
        against=chance,
        standard_error=error,
        passed=ahead > 5 * error,
        note=f"{len(each)} held-out images",
    )


def probe_rows(
    objective: str, asked: Asked, path: Path, found: Images, *, tune: bool = False
) -> list[Row]:
    """Probe a run: few labels against the untrained encoder, pixels, and labels alone."""
    model, _ = runs.load(path)
    rows, labels, parts = all_rows(path), found.labels, found.parts(asked.seed, asked)
    draws = 20 if asked.full else 10
    few: tuple[int | None, ...] = (1, 10) if asked.quick else (1, 10, None)
    common: dict[str, Any] = {"draws": draws, "seed": asked.seed}
    arms = {
        "ours": probes.features(model, rows),
        "untrained": probes.features(probes.untrained(model, asked.seed), rows),
        "pixels": probes.raw_input(rows, model.spec),
    }
    scores = [
        score
        for arm, layers in arms.items()
        for score in probes.frozen(arm, layers, labels, parts, shots=few, **common)
    ]
    tuning: dict[str, Any] = {**common, "shots": (10,), "steps": 40 if asked.quick else 80}
    if tune or not asked.quick:
        scores += probes.tuned("scratch", model, rows, labels, parts, scratch=True, **tuning)
    if tune:
        scores += probes.tuned("ours", model, rows, labels, parts, **tuning)
    return [_row(objective, one, tune) for one in probes.compared(scores)]


def _row(objective: str, one: probes.Probed, tune: bool) -> Row:
    """Promised is the linear probe of 10 labels above untrained, or fine-tuning above scratch."""
    wanted = ("fine-tune", "scratch") if tune else ("linear", "untrained")
    promised = (one.probe, one.control) == wanted and one.shots == 10
    return Row(
        objective=objective,
        what=one.what,
        ours=one.ours,
        control=one.control,
        against=one.against,
        difference=one.difference,
        standard_error=one.standard_error,
        passed=one.better if promised else None,
        note=one.note,
    )


def rotation(asked: Asked) -> list[Row]:
    """Accuracy above 25 % for every digit; the probe above the untrained encoder."""
    found = images(asked)
    path = trained(asked, "rotation", found, 4, objective="rotation")
    model, _ = runs.load(path)
    at = found.parts(asked.seed, asked).test
    right, of = told(model, all_rows(path), at)
    findings = [over_chance("rotation", "accuracy", right, of, 1 / 4)]
    for digit in range(10):
        mine = found.labels[at] == digit
        what = f"accuracy of the digit {digit}"
        findings.append(over_chance("rotation", what, right[mine], of[mine], 1 / 4))
    return findings + probe_rows("rotation", asked, path, found)


def relative_patch(asked: Asked) -> list[Row]:
    """Accuracy far above 1/8 with jitter, and higher without, where borders give it away.

    Images have a border of 2 pixels here, so that tiles are of 8 x 8 with jitter and without.
    """
    found, accuracy = images(asked), {}
    padded = np.pad(found.pixels, [(0, 0), (0, 0), (2, 2), (2, 2)])
    found = Images(pixels=padded, labels=found.labels, pretrain=found.pretrain)
    at = found.parts(asked.seed, asked).test
    for jitter in (2, 0):
        name = f"relative_patch-{jitter}"
        path = trained(asked, name, found, 4, objective="relative_patch", jitter=jitter)
        model, _ = runs.load(path)
        right, of = told(model, all_rows(path), at)
        accuracy[jitter] = right / of
        if jitter:
            findings = [over_chance("relative_patch", "accuracy, jitter 2", right, of, 1 / 8)]
            findings += probe_rows("relative_patch", asked, path, found)
    apart = accuracy[0] - accuracy[2]
    error = float(apart.std(ddof=1) / math.sqrt(len(apart)))
    shortcut = Row(
        objective="relative_patch",
        what="accuracy, jitter 0 (the shortcut)",
        ours=float(accuracy[0].mean()),
        control="jitter 2",
        against=float(accuracy[2].mean()),
        standard_error=error,
        passed=float(apart.mean()) > 2 * error,
        note="same tiles, moved or not; error over held-out images",
    )
    return [findings[0], shortcut, *findings[1:]]


def bilinear(pixels: Array, gone: Array, patch: int) -> Array:
    """Fill removed patches of [28, 28] from the pixels that are left.

    Linear between them on Delaunay's triangles (scipy's griddata), and the nearest of them outside
    of their hull.

    Args:
        pixels: [H, H] in [0, 1].
        gone: [P] bool, patches row by row.
        patch: pixels of a side.
    """
    side = pixels.shape[0] // patch
    hole = np.kron(gone.reshape(side, side), np.ones((patch, patch))).astype(bool)
    known, wanted = np.argwhere(~hole), np.argwhere(hole)
    filled = pixels.copy()
    values = scipy.interpolate.griddata(known, pixels[~hole], wanted, method="linear")
    nearest = scipy.interpolate.griddata(known, pixels[~hole], wanted, method="nearest")
    filled[hole] = np.where(np.isnan(values), nearest, values)
    return filled


def masked_patches(asked: Asked) -> list[Row]:
    """Fine-tuning above from scratch; reconstruction below the mean patch and bilinear."""
    found = images(asked)
    longer = 300 if asked.quick else 2000
    path = trained(asked, "masked_patches", found, 4, objective="masked_patches", steps=longer)
    return _restored(asked, found) + probe_rows("masked_patches", asked, path, found, tune=True)


def _restored(asked: Asked, found: Images) -> list[Row]:
    """Restore pixels with the variant that tells them; all fillers see the same patches."""
    path = trained(asked, "masked_pixels", found, 4, objective="masked_patches", variant="pixels")
    model, _ = runs.load(path)
    task: Any = model.objective
    rows = probes.taken(all_rows(path), found.parts(asked.seed, asked).test)
    order = task.manufacture(rows).more["order"]
    assert rows.pixels is not None
    truth = patches_of(rows.pixels.float() / 255, 4).numpy()
    gone = np.ones(truth.shape[:2], dtype=bool)
    np.put_along_axis(gone, order[:, : task.kept].numpy(), False, axis=1)
    pixels = found.pixels[: found.pretrain].mean(0, keepdims=True) / 255
    mean = patches_of(torch.from_numpy(pixels).float(), 4).numpy()
    lines = [
        bilinear(image[0], hidden, 4)[None]
        for image, hidden in zip(rows.pixels.numpy() / 255, gone, strict=True)
    ]
    filled = {
        "ours": task.restore(model.backbone, rows.pixels, order).detach().numpy(),
        "mean patch": mean,
        "bilinear": patches_of(torch.from_numpy(np.stack(lines)).float(), 4).numpy(),
    }
    error = {
        name: (((told - truth) ** 2).mean(2) * gone).sum(1) / gone.sum(1)
        for name, told in filled.items()
    }
    findings = []
    for name, note in (
        ("mean patch", "of that place over the training images"),
        ("bilinear", "scipy griddata, linear on triangles, nearest outside of the hull"),
    ):
        apart = error["ours"] - error[name]
        sure = float(apart.std(ddof=1) / math.sqrt(len(apart)))
        findings.append(
            Row(
                objective="masked_patches",
                what="squared error of removed pixels in [0, 1]",
                ours=float(error["ours"].mean()),
                control=name,
                against=float(error[name].mean()),
                standard_error=sure,
                passed=float(apart.mean()) < -2 * sure,
                note=f"{note}; variant pixels, 3 of 4 patches removed, {len(apart)} images",
            )
        )
    return findings


CHECKS = {
    "relative_patch": relative_patch,
    "rotation": rotation,
    "masked_patches": masked_patches,
}

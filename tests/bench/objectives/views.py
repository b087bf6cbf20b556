"""SimCLR, MoCo, DINO and VICReg on MNIST's 10,000: kNN and few-label probes of frozen features.

7,000 images are trained on, without labels. Settings were chosen on 1,000 others; the table is of
the last 2,000, on which nothing was chosen. See `train.probes` for the protocol and its arms.
"""

import functools
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import image_run, load, train
from table import Asked, Row

from train.model import Model
from train.objectives import Rows
from train.probes import Score, Split, compared, features, frozen, raw_input, tuned, untrained

__all__ = ["CHECKS"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Patches of 7 pixels: 16 vectors an image. With patches of 4, 49 vectors, a step takes five times
#: as long (1.85 s against 0.35 s on one Zen 4 core).
PATCH = 7
USUAL = {"depth": 3, "width": 96, "heads": 3, "batch_rows": 256, "checkpoint_every": 0}
SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"steps": 300},
    "moco": {"steps": 1500, "batch_rows": 128, "queue_size": 1024, "teacher_momentum": 0.97},
    "dino": {"steps": 1000, "batch_rows": 128, "codes": 256, "teacher_momentum": 0.97},
    "vicreg": {"steps": 900, "batch_rows": 128},
}
PARTS = Split(train=np.arange(7000), validation=np.arange(7000, 8000), test=np.arange(8000, 10_000))
FEW = (1, 10)


@functools.cache
def _mnist(folder: Path) -> tuple[Rows, Array]:
    """Return the images as rows, and their labels, in an order that has nothing to do with them."""
    found = []
    for name, start in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8)):
        with gzip.open(folder / "images" / "mnist" / name) as file:
            found.append(np.frombuffer(file.read(), np.uint8, offset=start))
    order = np.random.default_rng(0).permutation(len(found[1]))
    numbers = torch.arange(len(order))[:, None]
    zeros = torch.zeros_like(numbers)
    rows = Rows(
        tokens=zeros,
        targets=zeros,
        sources=zeros,
        documents=numbers,
        keys=torch.cat([zeros, zeros, numbers], 1),
        pixels=torch.from_numpy(found[0].reshape(-1, 1, 28, 28)[order]),
    )
    return rows, found[1][order].astype(np.int64)


def _draws(asked: Asked) -> int:
    return 3 if asked.quick else 20 if asked.full else 10


def _probed(arm: str, layers: dict[str, Array], labels: Array, asked: Asked) -> list[Score]:
    """Return kNN with all labels, and the linear probe with few."""
    settings: dict[str, Any] = {"draws": _draws(asked), "seed": asked.seed}
    return [
        *frozen(arm, layers, labels, PARTS, shots=(None,), probes=("knn",), **settings),
        *frozen(arm, layers, labels, PARTS, shots=FEW, probes=("linear",), **settings),
    ]


_controls: dict[Asked, list[Score]] = {}


def _against(model: Model, rows: Rows, labels: Array, asked: Asked) -> list[Score]:
    """Return the arms that are the same for all tasks: pixels, and supervised from scratch."""
    if asked not in _controls:
        _controls[asked] = [
            *_probed("pixels", raw_input(rows, model.spec), labels, asked),
            *tuned(
                "scratch",
                model,
                rows,
                labels,
                PARTS,
                scratch=True,
                shots=FEW,
                draws=_draws(asked),
                seed=asked.seed,
            ),
        ]
    return _controls[asked]


def _trained(
    name: str, asked: Asked, seed: int, kind: str | None = None
) -> tuple[Path, Model, dict[str, Any]]:
    """Train with the usual views, or with those of another `kind`."""
    settings = {"threads": asked.threads, "views": kind, **USUAL, **SETTINGS[name]}
    if asked.quick:
        settings["steps"] //= 4
    folder = asked.work / f"{name}-{kind or 'usual'}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    rows, _ = _mnist(asked.data)
    assert rows.pixels is not None
    pixels = rows.pixels[: len(PARTS.train) + len(PARTS.validation)].numpy()
    run = image_run(
        folder,
        pixels,
        held_out=PARTS.validation,
        patch=PATCH,
        seed=seed,
        objective=name,
        **settings,
    )
    told = train(run)
    return folder, load(run)[0], told


def _check(name: str, asked: Asked) -> list[Row]:
    rows, labels = _mnist(asked.data)
    found: list[Row] = []
    for seed in range(asked.seed, asked.seed + (3 if asked.full else 1)):
        folder, model, told = _trained(name, asked, seed)
        scores = [
            *_probed("ours", features(model, rows), labels, asked),
            *_probed("untrained", features(untrained(model, seed), rows), labels, asked),
            *_against(model, rows, labels, asked),
        ]
        if asked.full and name == "simclr":  # without views there is nothing to overcome
            still = _trained(name, asked, seed, "none")[1]
            scores += _probed("the same with views: none", features(still, rows), labels, asked)
        where = f"{told['steps']} steps, {told['training_seconds']:.0f} s, seed {seed}; "
        found += [
            Row(
                objective=name,
                what=one.what,
                ours=one.ours,
                control="supervised from scratch" if one.control == "scratch" else one.control,
                against=one.against,
                difference=one.difference,
                standard_error=one.standard_error,
                passed=one.better,
                note=where + one.note,
            )
            for one in compared(scores)
        ]
        found += _health(name, model, folder)
    return found


def _health(name: str, model: Model, folder: Path) -> list[Row]:
    """Return what the last line of the run's metrics says of a collapse, against the floors."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [line["health"] for line in lines if line.get("health")][-1]
    rows = [
        Row(
            objective=name,
            what=f"{what} at the end",
            ours=last[what],
            control="collapse",
            against=floor,
            passed=last[what] > floor,
        )
        for what, floor in model.objective.floors.items()
    ]
    if "teacher_entropy" in last:
        ours, most = last["teacher_entropy"], model.objective.chance()
        rows.append(
            Row(
                objective=name,
                what="teacher entropy at the end, nats",
                ours=ours,
                control="above 0, below ln K",
                against=most,
                passed=0.01 < ours < 0.99 * most,
            )
        )
    return rows


CHECKS: dict[str, Callable[[Asked], list[Row]]] = {
    name: functools.partial(_check, name) for name in SETTINGS
}

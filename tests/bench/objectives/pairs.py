"""CLIP and SigLIP: held-out images and spoken digits find their captions, and captions them.

Images are emoji of 32 x 32 pixels with their names, each name once. What is compared with is chance
and a model of the same size that saw the same pictures and names, shuffled. Of spoken digits there
are ten captions, so a sound looks for its word, and the speakers of the test were not heard before.
"""

import csv
import io
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from runs import load, pair_run, rows, train
from table import Asked, Row
from torch import Tensor

__all__ = ["CHECKS"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZE = 32
#: What was best on pairs of the training part that were set aside; the test was not looked at.
USUAL = {
    "objective": "clip",
    "depth": 2,
    "width": 128,
    "heads": 2,
    "batch_rows": 128,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "embedding_lr": 0.02,
    "weight_decay": 0.2,
}
Array = np.ndarray[Any, np.dtype[Any]]


def emoji(data: Path) -> tuple[Array, list[str]]:
    """Return pixels [N, 3, 32, 32] uint8, on white, and their names."""
    from PIL import Image

    table = pq.read_table(data / "image_text" / "noto_emoji_64px.parquet").to_pylist()
    white = Image.new("RGBA", (SIZE, SIZE), "white")
    pixels = []
    for row in table:
        image = Image.open(io.BytesIO(row["image"])).convert("RGBA").resize((SIZE, SIZE))
        pixels.append(np.asarray(Image.alpha_composite(white, image).convert("RGB")))
    return np.stack(pixels).transpose(0, 3, 1, 2), [row["caption"] for row in table]


def spoken(data: Path) -> tuple[list[Array], list[int], list[str]]:
    """Return int16 sounds at 8 kHz, the digit of each and who speaks."""
    sounds, digits, speakers = [], [], []
    with zipfile.ZipFile(data / "audio" / "fsdd_1200.zip") as archive:
        listed = io.StringIO(archive.read("labels.csv").decode())
        for row in csv.DictReader(listed):
            with wave.open(io.BytesIO(archive.read(row["file"]))) as file:
                sounds.append(np.frombuffer(file.readframes(file.getnframes()), np.int16))
            digits.append(int(row["digit"]))
            speakers.append(row["speaker"])
    return sounds, digits, speakers


@torch.no_grad()
def features(path: Path) -> tuple[Tensor, Tensor]:
    """Return the vectors of the held-out media and captions, in the order of the plan."""
    model, _ = load(path)
    found = rows(path, "validation")
    batch = model.objective.manufacture(found)
    a, b = model.objective.embed(model.backbone, batch).unbind(1)
    return a, b


def recall(queries: Tensor, keys: Tensor, k: int) -> float:
    """Return how often the key of the same number is among the k nearest."""
    near = (queries @ keys.T).topk(k, dim=1).indices
    return float((near == torch.arange(len(queries))[:, None]).any(1).float().mean())


def _compared(what: str, ours: float, control: str, against: float, count: int, **more: Any) -> Row:
    """Return a row of the table; of `count` questions, the binomial error at the larger share."""
    share = max(ours, against, 1 / count)
    error = (share * (1 - share) / count) ** 0.5
    return Row(
        objective="clip",
        what=what,
        ours=ours,
        control=control,
        against=against,
        standard_error=error,
        **more,
    )


def images(asked: Asked, steps: int, variant: str) -> list[Row]:
    """Train on most of the emoji, and ask for the others."""
    pixels, names = emoji(asked.data)
    order = np.random.default_rng(asked.seed).permutation(len(names))
    held, learnt = order[:300], order[300:]
    found = {}
    for arm in ("ours", "shuffled") if variant == "clip" else ("ours",):
        captions = list(names)
        if arm == "shuffled":
            mixed = np.random.default_rng(asked.seed + 1).permutation(learnt)
            for i, j in zip(learnt, mixed, strict=True):
                captions[i] = names[j]
        path = pair_run(
            asked.work / f"{variant}-{arm}-{asked.seed}",
            pixels,
            captions,
            patch=8,
            tokenizer=1024,
            caption_tokens=16,
            held_out=held,
            seed=asked.seed,
            **{**USUAL, "variant": variant, "steps": steps, "threads": asked.threads},
        )
        train(path)
        found[arm] = features(path)
    return _image_rows(variant, found)


def _image_rows(variant: str, found: dict[str, tuple[Tensor, Tensor]]) -> list[Row]:
    told, count = [], len(found["ours"][0])
    ways = {"image to name": (0, 1), "name to image": (1, 0)}
    for way, (of, to) in ways.items():
        for k in (1, 5):
            ours = recall(found["ours"][of], found["ours"][to], k)
            row = _compared(f"{variant}: R@{k}, {way}", ours, "chance", k / count, count)
            assert row.difference is not None
            assert row.standard_error is not None
            reached = row.difference > 2 * row.standard_error
            told.append(_judged(row, reached, f"{count} held-out pairs, each name once"))
            if "shuffled" in found:
                other = recall(found["shuffled"][of], found["shuffled"][to], k)
                row = _compared(f"shuffled pairs: R@{k}, {way}", other, "chance", k / count, count)
                assert row.difference is not None
                assert row.standard_error is not None
                told.append(_judged(row, row.difference < 3 * row.standard_error, "a control"))
    return told


def _judged(row: Row, reached: bool, note: str) -> Row:
    return Row(**{**vars(row), "passed": reached, "note": note})


def sounds(asked: Asked, steps: int) -> list[Row]:
    """Train on four speakers, and ask the word of each sound of two others."""
    clips, digits, speakers = spoken(asked.data)
    strangers = _strangers(speakers, asked.seed)
    held = [i for i, speaker in enumerate(speakers) if speaker in strangers]
    path = pair_run(
        asked.work / f"clip-sound-{asked.seed}",
        clips,
        [DIGITS[digit] for digit in digits],
        rate=8000,
        hop=160,
        window=400,
        caption_tokens=8,
        held_out=held,
        seed=asked.seed,
        **{**USUAL, "batch_rows": 64, "steps": steps, "threads": asked.threads},
    )
    train(path)
    a, b = features(path)
    truth = torch.tensor([digits[i] for i in held])
    words = torch.stack([b[int((truth == digit).nonzero()[0])] for digit in range(10)])
    ours = float(((a @ words.T).argmax(1) == truth).float().mean())
    row = _compared("sound to one of ten words", ours, "chance", 0.1, len(held))
    nearest = (words @ a.T).topk(20, dim=1).indices
    other = float((truth[nearest] == torch.arange(10)[:, None]).float().mean())
    back = _compared("word to sound: share of its 20 nearest", other, "chance", 0.1, 200)
    note = f"speakers {' and '.join(sorted(strangers))} were not heard in training"
    told = []
    for one in (row, back):
        assert one.difference is not None
        assert one.standard_error is not None
        told.append(_judged(one, one.difference > 3 * one.standard_error, note))
    return told


def _strangers(speakers: Sequence[str], seed: int) -> set[str]:
    names = sorted(set(speakers))
    return set(np.random.default_rng(seed).choice(names, 2, replace=False).tolist())


def clip(asked: Asked) -> list[Row]:
    """Return the table of pairs."""
    steps = 120 if asked.quick else 400
    told = images(asked, steps, "clip")
    if not asked.quick:
        told += images(asked, steps, "siglip")
    return told + sounds(asked, steps // 2)


CHECKS = {"clip": clip}

"""Images and captions that find one another."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from curate.corpus.errors import InputError
from train.config import TrainConfig
from train.loop import _update
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.optim import make_optimizer
from train.parallel import Ranks

IMAGE = {"kind": "image", "size": 8, "channels": 1, "patch": 4}
SPEC = ModelSpec(
    objective="clip",
    vocab_size=281,
    depth=1,
    width=32,
    heads=2,
    row_tokens=4,
    causal=False,
    specials={"pad": 2},
    media={"kind": "pair", "of": IMAGE, "caption_tokens": 6},
    task={"projection": 8},
)
SOUND = {"kind": "audio", "sample_rate": 8000, "hop": 80, "window": 200, "mels": 8, "frames": 4}


def _rows(count, media="pixels"):
    random = torch.Generator().manual_seed(1)
    captions = torch.randint(25, 281, (count, 6), generator=random)
    captions[::2, 4:] = 2
    zeros = torch.zeros(count, 1, dtype=torch.int64)
    numbers = torch.arange(count)
    return Rows(
        tokens=zeros,
        targets=zeros,
        sources=zeros,
        documents=numbers[:, None],
        keys=torch.stack([zeros[:, 0], zeros[:, 0], numbers], 1),
        captions=captions,
        **(
            {"pixels": torch.randint(0, 256, (count, 1, 8, 8), generator=random).byte()}
            if media == "pixels"
            else {
                "samples": torch.randint(-999, 999, (count, 320), generator=random).short(),
                "lengths": torch.full((count,), 320),
            }
        ),
    )


def _model(variant="clip", media=IMAGE):
    torch.manual_seed(0)
    of = {**SPEC.media, "of": media}
    sound = media["kind"] == "audio"
    task = {**SPEC.task, "variant": variant}
    return Model(replace(SPEC, media=of, task=task, document_mask=sound))


def _slow(variant, a, b, scale, bias):
    """The formulas of the papers, a pair at a time."""
    total = 0.0
    for i in range(len(a)):
        s = [[scale * float(x @ y) for y in b] for x in a]
        if variant == "clip":
            across = math.log(sum(math.exp(s[i][j]) for j in range(len(b))))
            down = math.log(sum(math.exp(s[j][i]) for j in range(len(b))))
            total += (across + down) / 2 - s[i][i]
        else:
            for j in range(len(b)):
                sign = 1 if i == j else -1
                total += math.log1p(math.exp(-sign * (s[i][j] + bias)))
    return total


@pytest.mark.parametrize("variant", ["clip", "siglip"])
def test_the_loss_is_that_of_the_paper(variant):
    model = _model(variant)
    features = nn.functional.normalize(torch.randn(5, 2, 8), dim=-1)
    features[1] = 0  # withdrawn
    loss = model.objective.couple(features)
    a, b = features[[0, 2, 3, 4]].unbind(1)
    scale, bias = (1 / 0.07, 0.0) if variant == "clip" else (10.0, -10.0)
    assert float(loss.total.detach()) == pytest.approx(_slow(variant, a, b, scale, bias), rel=1e-4)
    assert loss.count == 4
    assert float(loss.units.sum()) == pytest.approx(float(loss.total.detach()), rel=1e-5)
    assert set(model.objective.health()) >= set(model.objective.floors)


@pytest.mark.parametrize("variant", ["clip", "siglip"])
def test_chance_is_the_least_loss_of_knowing_nothing(variant):
    model = _model(variant)
    assert model.objective.chance() is None
    features = torch.zeros(6, 2, 8)
    features[:, 0, 0] = features[:, 1, 1] = 1  # every cosine is 0
    if variant == "siglip":
        nn.init.constant_(model.objective.bias, -math.log(5))
    loss = model.objective.couple(features)
    assert model.objective.chance() == pytest.approx(float(loss.total.detach()) / 6, rel=1e-5)


def test_the_scale_stays_at_or_below_100():
    model = _model()
    nn.init.constant_(model.objective.scale, 9.0)
    model.after_step(0, 1)
    assert float(model.objective.scale.detach().exp()) == pytest.approx(100)


@pytest.mark.parametrize("variant", ["clip", "siglip"])
def test_a_step_of_slices_is_a_step(variant):
    rows = _rows(8)
    found = []
    for size in (8, 2):
        model = _model(variant)
        config = TrainConfig(objective="clip", depth=1, width=32, heads=2, optimizer="adamw")
        optimizer = make_optimizer(model, config, torch.device("cpu"))
        parts = [
            Rows(**{k: v[i : i + size] for k, v in vars(rows).items() if v is not None})
            for i in range(0, 8, size)
        ]
        norm, bad, sums = _update(model, optimizer, parts, 0.0, Ranks())
        assert not bad
        found.append((norm, sums, model.objective.scale.detach().clone()))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-4)


@pytest.mark.parametrize("media", [IMAGE, SOUND])
def test_pairs_are_learnt_by_heart(media):
    kind = "samples" if media is SOUND else "pixels"
    model, rows = _model(media=media), _rows(6, kind)
    config = TrainConfig(objective="clip", depth=1, width=32, heads=2, learning_rate=0.005)
    optimizer = make_optimizer(model, config, torch.device("cpu"))
    for step in range(25):
        _update(model, optimizer, [rows], 1.0, Ranks())
        model.after_step(step, 25)
    metrics = model(rows).metrics
    assert metrics["caption_of_media"].tolist() == [6, 6]
    assert metrics["media_of_caption"].tolist() == [6, 6]


def test_what_is_no_pair_is_refused():
    with pytest.raises(InputError, match="schema: pair"):
        Model(replace(SPEC, media=IMAGE))
    with pytest.raises(InputError, match=r"train\.variant"):
        _model("clap")

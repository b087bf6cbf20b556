"""A batch-coupled loss is the same however the rows of a step are split."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from train import objectives
from train.coupled import in_order
from train.loop import _update
from train.mixing import Mixed
from train.model import Model, ModelSpec
from train.objectives import Batch, Loss, Objective, Rows
from train.optim import Optimizer
from train.parallel import Ranks

SPEC = ModelSpec(vocab_size=40, depth=1, width=32, heads=2, row_tokens=6, causal=False)
IMAGE = {"kind": "image", "size": 8, "channels": 1, "patch": 4}


class Contrast(Objective):
    """Two views of a row (its tokens, and them turned around) find one another."""

    batch_coupled = True

    def __init__(self, spec):
        super().__init__(spec)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.head = nn.Parameter(torch.eye(spec.width))
        self.seen = []

    def manufacture(self, rows):
        both = torch.stack([rows.tokens, rows.tokens.flip(1)], 1)
        return Batch(inputs=both, targets=rows.targets, rows=rows)

    def embed(self, backbone, batch):
        hidden = backbone(batch.inputs.flatten(0, 1)).mean(1)
        return nn.functional.normalize(hidden, dim=-1).unflatten(0, (-1, 2))

    def couple(self, features):
        if self.training:
            self.seen.append(features.detach())
        a, b = (features @ self.head).unbind(1)
        losses = nn.functional.cross_entropy(
            self.scale.exp() * a @ b.T, torch.arange(len(a)), reduction="none"
        )
        count = torch.tensor(float(len(a)))
        metrics = {"seen": torch.stack([count, count])}
        return Loss(
            total=losses.sum(), count=count, units=losses.detach()[:, None], metrics=metrics
        )


class Shared(Ranks):
    """One of ranks that live in turn in this process: sums are its own, features are given."""

    given: ClassVar[list] = []

    def gather_rows(self, tensor):
        return torch.cat(self.given)

    def sum_(self, tensor):
        return tensor


def _rows(count, spec):
    random = torch.Generator().manual_seed(3)
    of_text = torch.randint(0, 40, (count, 6), generator=random)
    numbers = torch.arange(count)
    keys = torch.stack([torch.full_like(numbers, 5), torch.zeros_like(numbers), numbers], 1)
    if spec.media:
        pixels = torch.randint(0, 255, (count, 1, 8, 8), generator=random, dtype=torch.uint8)
        of_text = torch.zeros(count, 1, dtype=torch.int64)
    return Rows(
        tokens=of_text,
        targets=of_text,
        sources=torch.zeros_like(of_text),
        documents=numbers[:, None].expand_as(of_text),
        keys=keys,
        pixels=pixels if spec.media else None,
    )


def _some(rows, chosen):
    return Rows(**{k: v[chosen] for k, v in vars(rows).items() if v is not None})


def _model(name):
    torch.manual_seed(0)
    if name == "contrast":
        model = Model(replace(SPEC, objective="next_token"))
        model.objective = Contrast(SPEC)
    elif name == "mixed":
        model = Model(replace(SPEC, objective="next_token"))
        kinds = {"contrast": Contrast, "next_token": objectives.find("next_token")}
        weights = {"contrast": 0.5, "next_token": 2.0}
        kind = type("Some", (Mixed,), {"kinds": kinds, "weights": weights, "batch_coupled": True})
        model.objective = kind(SPEC)
    else:
        model = Model(replace(SPEC, objective=name, media=IMAGE, row_tokens=4))
    with torch.no_grad():  # branches begin at zero: there would be nothing to see of them
        for parameter in model.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    if name in OURS:
        model.backbone.dtype = torch.float64
        return model.double()
    return model


class _Noted(Optimizer):
    """Keeps the gradients that a step would use."""

    def step(self, found_inf=None):
        self.found = [
            p.grad.clone()
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]


def _gradients(name, parts, ranks=None):
    """Return the sums of gradients of a step, [nats, targets] and what was told of each row."""
    model = _model(name)
    ranks = ranks or Ranks()
    told = {}

    def observe(rows, loss):
        counted = loss.told(rows.targets >= 0).sum(1)
        for key, unit, count in zip(
            rows.keys[:, 2].tolist(), loss.units.sum(1), counted, strict=True
        ):
            told[key] = (float(unit), float(count))

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = _Noted([{"params": trained, "kind": "adamw", "peak": 0.0}], parts={})
    _, _, sums = _update(model, optimizer, parts, 0.0, ranks, observe)
    scale = sums[1] if sums[1] > 0 else 1  # a rank that tells nothing of the loss divides by one
    return [g * scale for g in optimizer.found], sums, told, model


OURS = ("contrast", "mixed")  # in float64; others may compute parts of theirs in float32
OTHERS = [
    n
    for n in objectives.names()
    if objectives.find(n).batch_coupled and objectives.find(n).needs.names == ["pixels"]
]


def _close(one, other, name):
    tolerance = 1e-6 if name in OURS else 1e-4
    return bool((one - other).abs().max() <= tolerance * (one.abs().max() + 1e-3))


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_one_batch_is_four_slices_and_two_ranks(name):
    rows = _rows(32, _model(name).spec)
    whole, sums, told, _ = _gradients(name, [rows])
    slices = [_some(rows, slice(i, i + 8)) for i in range(0, 32, 8)]
    sliced, sliced_sums, sliced_told, model = _gradients(name, slices)
    assert len(whole) == len(sliced)
    assert _close(sums, sliced_sums, name)
    for one, other in zip(whole, sliced, strict=True):
        assert _close(one, other, name)
    assert told.keys() == sliced_told.keys() == set(range(32))
    for row, found in told.items():
        assert found == pytest.approx(sliced_told[row], abs=1e-6 if name in OURS else 1e-4)
    assert sum(unit for unit, _ in told.values()) == pytest.approx(float(sums[0]), rel=1e-6)

    mine = [_some(rows, slice(rank, None, 2)) for rank in range(2)]
    with torch.no_grad():
        features = [model(part, "features") for part in mine]
    assert _close(in_order(torch.cat(features), 2), model(rows, "features").detach(), name)
    found = []
    for rank, part in enumerate(mine):
        shared = Shared(rank=rank, world=2)
        Shared.given = features
        halves = [_some(part, slice(0, 10)), _some(part, slice(10, 16))]
        found.append(_gradients(name, halves, shared))
    assert _close(found[0][1] + found[1][1], sums, name)
    assert {**found[0][2], **found[1][2]}.keys() == told.keys()
    for one, *both in zip(whole, *(one[0] for one in found), strict=True):
        assert _close(one, sum(both), name)

"""Muon and AdamW in one optimizer: against slow twins, resumed, skipped; the schedules."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train import optim
from train.config import TrainConfig
from train.optim import POLAR_EXPRESS, Optimizer, make_optimizer, polar, schedule, set_rate

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.05


class Layer(nn.Module):
    """A matrix made of `parts`, one above the other."""

    def __init__(self, parts, columns):
        super().__init__()
        self.parts = parts
        self.weight = nn.Parameter(torch.randn(sum(parts), columns))


class Small(nn.Module):
    """Every kind of parameter that a model has."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.spec = SimpleNamespace(row_tokens=256, tied=False)
        self.backbone = nn.Module()
        self.backbone.dtype = torch.float32
        self.backbone.embedding = nn.Embedding(9, 4)
        self.backbone.qkv = Layer((4, 2, 2), 4)
        self.backbone.up, self.backbone.down = Layer((8,), 4), Layer((4,), 8)
        self.backbone.gain = nn.Parameter(torch.ones(4))
        self.head = nn.Parameter(torch.randn(9, 4))


def _made(**settings):
    model = Small()
    config = TrainConfig(
        optimizer="muon",
        muon_lr=RATE,
        muon_momentum=MOMENTUM,
        muon_weight_decay=DECAY,
        **settings,
    )
    return model, make_optimizer(model, config, torch.device("cpu"))


def _gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def _state(model, optimizer):
    moments = [v for p in model.parameters() for v in optimizer.state[p].values()]
    return [t.detach().clone() for t in (*model.parameters(), *moments)]


def _slow_polar(matrix):
    """The polynomials on the singular values themselves."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / (s.norm() * 1.01 + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        s = a * s + b * s**3 + c * s**5
    return (u * s @ vh).float()


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (4, 8, 24), (1, 1, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_near_one(shape, dtype):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = polar(stack.to(dtype)).float()
    values = torch.linalg.svdvals(made)
    floor = 1e-2 * torch.linalg.matrix_norm(stack)
    counted = torch.linalg.svdvals(stack) > floor[:, None]
    assert values[counted].min() > 0.83
    assert values.max() < 1.14
    if dtype == torch.float32:
        torch.testing.assert_close(made, torch.stack([*map(_slow_polar, stack)]))


def test_the_polynomials_are_the_best_on_a_thousandth_to_one():
    """A minimax approximation leaves the same error on both sides of one (without the safety)."""
    x = torch.logspace(-3, 0, 100_000, dtype=torch.float64)
    for a, b, c in POLAR_EXPRESS:
        x = 1.01 * a * x + 1.01**3 * b * x**3 + 1.01**5 * c * x**5
    assert math.isclose(1 - x.min(), x.max() - 1, rel_tol=1e-4)
    assert math.isclose(x.max() - 1, 0.12356, abs_tol=1e-4)


def test_matrices_of_zeros_and_scales_of_any_size_stay_finite():
    stack = torch.randn(3, 6, 6) * torch.tensor([0.0, 1e-12, 1e12])[:, None, None]
    made = polar(stack)
    assert made.isfinite().all()
    assert not made[0].any()
    torch.testing.assert_close(made[2], polar(stack[2:] * 1e-12)[0])


@pytest.mark.parametrize(("num_matrices", "world"), [(2, 3), (5, 2), (7, 3), (1, 4)])
def test_ranks_share_the_work_and_all_get_all_of_it(monkeypatch, num_matrices, world):
    stack = torch.randn(num_matrices, 4, 6)
    pieces = {}

    def all_gather(made, piece):
        pieces[optim.dist.get_rank()] = piece
        for rank, place in enumerate(made):
            place.copy_(pieces.get(rank, piece))

    monkeypatch.setattr(optim.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(optim.dist, "get_world_size", lambda: world)
    monkeypatch.setattr(optim.dist, "all_gather", all_gather)
    for _ in range(2):  # in the second round every rank's piece is known
        for rank in range(world):
            monkeypatch.setattr(optim.dist, "get_rank", lambda rank=rank: rank)
            made = optim._shared_polar(stack)
    torch.testing.assert_close(made, polar(stack))
    assert all(len(piece) <= -(-num_matrices // world) for piece in pieces.values())


def test_muon_equals_a_loop_over_its_matrices():
    model, optimizer = _made()
    matrices = {n: p for n, p in model.named_parameters() if {"qkv", "up"} & {*n.split(".")}}
    parts = {"backbone.qkv.weight": (4, 2, 2), "backbone.up.weight": (8,)}
    wanted = {n: p.detach().clone() for n, p in matrices.items()}
    buffers = {n: torch.zeros_like(p) for n, p in matrices.items()}
    for step in range(3):
        _gradients(model, step)
        for name, parameter in matrices.items():
            grad, buffer = parameter.grad, buffers[name]
            buffer.mul_(MOMENTUM).add_(grad, alpha=1 - MOMENTUM)
            ahead = MOMENTUM * buffer + (1 - MOMENTUM) * grad
            update = torch.cat(
                [
                    _slow_polar(part) * max(1, part.size(0) / part.size(1)) ** 0.5
                    for part in ahead.split(parts[name])
                ]
            )
            wanted[name] = wanted[name] * (1 - RATE * DECAY) - RATE * update
        optimizer.step()
    for name, parameter in matrices.items():
        torch.testing.assert_close(parameter.detach(), wanted[name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_adamw_equals_torchs_own(kind):
    model, optimizer = _made(weight_decay=0.3)
    twin = Small()
    if kind == "adamw":
        config = TrainConfig(optimizer="adamw", weight_decay=0.3)
        optimizer = make_optimizer(model, config, torch.device("cpu"))
    config = TrainConfig()
    rates = {"embedding": config.embedding_lr, "head": config.head_lr, "gain": config.vector_lr}
    groups = []
    for name, parameter in twin.named_parameters():
        rate = next((r for k, r in rates.items() if k in name.split(".")), None)
        decay = 0.0 if rate else 0.3
        groups.append(
            {"params": [parameter], "lr": rate or config.learning_rate, "weight_decay": decay}
        )
    theirs = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=optim.EPS)
    for step in range(3):
        _gradients(model, step)
        _gradients(twin, step)
        optimizer.step()
        theirs.step()
    other = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        if kind == "adamw" or parameter.ndim == 1 or "embedding" in name or "head" in name:
            torch.testing.assert_close(parameter, other[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("first", [0, 2])
def test_a_skipped_step_changes_nothing(first):
    model, optimizer = _made()
    good, bad = torch.zeros(()), torch.ones(())
    for step in range(first):
        _gradients(model, step)
        optimizer.step(good)
    before = [p.detach().clone() for p in model.parameters()]
    _gradients(model, 9)
    for parameter in model.parameters():
        parameter.grad.view(-1)[0] = math.nan
        parameter.grad.view(-1)[-1] = math.inf
    optimizer.step(bad)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    twin, theirs = _made()
    for step in (*range(first), 7):
        _gradients(twin, step)
        theirs.step()
    _gradients(model, 7)
    optimizer.step(good)
    for ours, wanted in zip(_state(model, optimizer), _state(twin, theirs), strict=True):
        assert torch.equal(ours, wanted)


def test_a_restored_state_gives_the_same_trajectory():
    model, optimizer = _made()
    for step in range(2):
        _gradients(model, step)
        optimizer.step()
    twin, theirs = _made()
    twin.load_state_dict(model.state_dict())
    for ours, new in zip(model.parameters(), twin.parameters(), strict=True):
        assert all(isinstance(v, torch.Tensor) for v in optimizer.state[ours].values())
        theirs.state[new] = {k: v.clone() for k, v in optimizer.state[ours].items()}
    for step in range(2, 4):
        for one, its in ((model, optimizer), (twin, theirs)):
            _gradients(one, step)
            its.step()
    for ours, wanted in zip(_state(model, optimizer), _state(twin, theirs), strict=True):
        assert torch.equal(ours, wanted)


def test_parameters_without_a_gradient_are_left_alone():
    model, optimizer = _made()
    _gradients(model, 0)
    before = model.backbone.up.weight.detach().clone()
    model.backbone.up.weight.grad = None
    optimizer.step()
    assert torch.equal(model.backbone.up.weight, before)
    assert not optimizer.state.get(model.backbone.up.weight)


def test_groups_have_the_rates_of_the_settings():
    model, optimizer = _made(vector_lr=0.5)
    peaks = {id(p): g["peak"] for g in optimizer.param_groups for p in g["params"]}
    assert len(peaks) == len(list(model.parameters()))
    assert peaks[id(model.backbone.gain)] == 0.5
    assert peaks[id(model.backbone.embedding.weight)] == TrainConfig().embedding_lr
    assert peaks[id(model.backbone.down.weight)] == RATE
    config = TrainConfig(warmup_fraction=0.5, cooldown_fraction=0.5)
    assert set_rate(optimizer, config, 1, 8) == 0.5
    assert all(g["lr"] == g["peak"] / 2 for g in optimizer.param_groups)
    assert isinstance(optimizer, Optimizer)


def test_a_tied_embedding_has_the_heads_rate():
    model = Small()
    model.spec.tied = True
    made = make_optimizer(model, TrainConfig(), torch.device("cpu"))
    peaks = {id(p): g["peak"] for g in made.param_groups for p in g["params"]}
    assert peaks[id(model.backbone.embedding.weight)] == TrainConfig().head_lr


def test_the_scale_of_loaded_weights_is_that_of_their_rates():
    config, model = TrainConfig(), Small()
    start = {"scales": {"embedding": 0.02, "head": 0.5}}
    for tied in (False, True):
        model.spec.tied = tied
        made = make_optimizer(model, config, torch.device("cpu"), start)
        peaks = {id(p): g["peak"] for g in made.param_groups for p in g["params"]}
        rate = config.head_lr if tied else config.embedding_lr
        assert peaks[id(model.backbone.embedding.weight)] == rate * 0.02
        assert peaks[id(model.head)] == config.head_lr * (0.02 if tied else 0.5)


def test_gradients_of_rare_ids_in_large_batches_move_their_rows_as_any_others():
    model, optimizer = _made()
    weight = model.backbone.embedding.weight
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight.grad[0], weight.grad[1] = 1.0, 1e-8
    optimizer.step()
    moved = (before - weight.detach()).mean(1) / optimizer.param_groups[0]["lr"]
    torch.testing.assert_close(moved, torch.tensor([1.0, 1.0, *[0.0] * 7]), rtol=0.02, atol=0)


def test_muon_is_chosen_where_its_products_are_a_small_part_of_a_step():
    def chosen(**settings):
        return TrainConfig(width=256, **settings).matrix_optimizer(256)

    assert chosen(batch_rows=20) == "muon"
    assert chosen(batch_rows=19) == "adamw"
    assert chosen(batch_rows=19, optimizer="muon") == "muon"
    assert chosen(batch_rows=20, optimizer="adamw") == "adamw"


@pytest.mark.parametrize("shape", ["wsd", "cosine"])
def test_schedules_rise_stay_within_one_and_fall_to_the_end(shape):
    rates = [schedule(s, 100, warmup=0.1, cooldown=0.4, final=0.1, shape=shape) for s in range(101)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert max(rates) == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[100] == pytest.approx(0.1)
    flat = [r for r in rates if r == 1.0]
    assert len(flat) == (52 if shape == "wsd" else 2)


def test_a_cosine_is_half_way_down_in_the_middle():
    middle = schedule(55, 100, warmup=0.1, cooldown=0.0, final=0.0, shape="cosine")
    assert middle == pytest.approx(0.5)


@pytest.mark.parametrize("shape", ["wsd", "cosine"])
def test_a_run_of_one_step_has_the_full_rate(shape):
    assert schedule(0, 1, warmup=0.05, cooldown=0.6, shape=shape) == 1.0

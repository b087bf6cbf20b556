"""SimCLR, MoCo, DINO and VICReg: their losses against plain loops, and what must not move them."""

import math

import pytest
import torch
import torch.nn.functional as F

from curate.corpus.errors import InputError
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.objectives.simclr import nt_xent
from train.views import distillation, effective_rank, follow, sinkhorn, spread

TASKS = ("simclr", "moco", "dino", "vicreg")
MEDIA = {"kind": "image", "size": 8, "channels": 1, "patch": 4}
KNOBS = {"moco": {"queue_size": 10}, "dino": {"codes": 12}}


def _model(name, seed=0, **knobs):
    torch.manual_seed(seed)
    spec = ModelSpec(
        objective=name,
        vocab_size=1,
        depth=1,
        width=16,
        heads=2,
        row_tokens=4,
        causal=False,
        media=MEDIA,
        task={"projection": 8, **KNOBS.get(name, {}), **knobs},
    )
    model = Model(spec)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.objective.attach(model.backbone)
    return model.train()


def _rows(count=6, first=0, withdrawn=()):
    random = torch.Generator().manual_seed(9)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=random)[first : first + count]
    numbers = torch.arange(first, first + count)[:, None]
    targets = torch.zeros_like(numbers)
    targets[list(withdrawn)] = -100
    return Rows(
        tokens=numbers * 0,
        targets=targets,
        sources=numbers * 0,
        documents=numbers,
        keys=torch.cat([numbers * 0 + 3, numbers * 0, numbers], 1),
        pixels=pixels.to(torch.uint8),
    )


def _take(rows, index):
    return Rows(**{k: None if v is None else v[index] for k, v in vars(rows).items()})


def _units(count, size, seed=0):
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, size, generator=random), dim=-1)


def test_nt_xent_is_what_a_plain_loop_counts():
    z, temperature = _units(10, 4).view(5, 2, 4), 0.3
    losses, right = nt_xent(z, torch.ones(5, dtype=torch.bool), temperature)
    flat = z.reshape(10, 4).tolist()
    for i, a in enumerate(flat):
        s = [math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature) for b in flat]
        rest = sum(s) - s[i]
        assert float(losses[i // 2, i % 2]) == pytest.approx(-math.log(s[i ^ 1] / rest), abs=1e-5)
        assert bool(right[i // 2, i % 2]) == (s[i ^ 1] == max(v for k, v in enumerate(s) if k != i))


def test_info_nce_is_what_a_plain_loop_counts_over_the_queue():
    model = _model("moco", temperature=0.4)
    objective = model.objective
    objective.queue.copy_(_units(10, 8, seed=1))
    z = _units(6, 8).view(3, 2, 8)
    for seen, filled in ((0, 0), (7, 7), (23, 10)):
        objective.seen.fill_(seen)
        loss = objective.couple(z)
        for i in range(3):
            query, key = z[i]
            own = math.exp(float(query @ key) / 0.4)
            others = sum(math.exp(float(query @ old) / 0.4) for old in objective.queue[:filled])
            assert float(loss.units[i]) == pytest.approx(-math.log(own / (own + others)), abs=1e-5)


def test_distillation_is_what_a_plain_loop_counts_over_pairs_of_views():
    student, teacher = _units(6, 5).view(2, 3, 5), _units(6, 5, seed=1).view(2, 3, 5)
    losses = distillation(student, (teacher / 0.04).softmax(-1), 0.2)
    for i in range(2):
        total = 0.0
        for v in range(3):
            for w in range(3):
                if v == w:
                    continue
                t = [math.exp(x / 0.04) for x in teacher[i, v].tolist()]
                s = [math.exp(x / 0.2) for x in student[i, w].tolist()]
                for p, q in zip(t, s, strict=True):
                    total -= p / sum(t) * math.log(q / sum(s)) / 6
        assert float(losses[i]) == pytest.approx(total, abs=1e-5)


def test_sinkhorn_is_what_plain_loops_make_equal_and_absent_rows_use_nothing():
    logits = 5 * _units(7, 4)
    present = torch.tensor([True] * 5 + [False] * 2)
    ours = sinkhorn(logits, present)
    q = [[math.exp(x) for x in row] for row in logits[:5].tolist()]
    for _ in range(3):
        used = [sum(row[k] for row in q) for k in range(4)]
        q = [[x / u for x, u in zip(row, used, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    assert torch.allclose(ours[:5], torch.tensor(q), atol=1e-6)
    other = logits.clone()
    other[5:] = 9.0
    assert torch.equal(sinkhorn(other, present)[:5], ours[:5])
    assert torch.allclose(sinkhorn(logits, present, 200)[:5].mean(0), torch.full((4,), 0.25))


def test_a_teacher_that_is_centred_forgets_what_all_answers_share():
    model = _model("dino", variant="centre")
    features = torch.randn(6, 4, 12, generator=torch.Generator().manual_seed(0))
    common = 3 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    before = model.objective.couple(features).units
    features[:, 2:] += common
    model.objective.centre.copy_(common)
    assert torch.allclose(model.objective.couple(features).units, before, atol=1e-4)
    with pytest.raises(InputError, match="variant of dino"):
        _model("dino", variant="center")


def test_vicreg_is_what_plain_loops_count():
    model, n, d = _model("vicreg"), 5, 3
    z = torch.randn(n, 2, d, generator=torch.Generator().manual_seed(0))
    loss = model.objective.couple(z)
    expected = 25 * sum(float((z[i, 0] - z[i, 1]).square().sum()) for i in range(n)) / (n * d)
    for view in z.unbind(1):
        mean = [sum(float(view[i, j]) for i in range(n)) / n for j in range(d)]
        for j in range(d):
            for k in range(d):
                c = sum(float((view[i, j] - mean[j]) * (view[i, k] - mean[k])) for i in range(n))
                c /= n - 1
                if j == k:
                    expected += 25 * max(0.0, 1 - math.sqrt(c + 1e-4)) / d
                else:
                    expected += c * c / d
    assert float(loss.total / loss.count) == pytest.approx(expected, rel=1e-5)
    assert float(loss.units.mean()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_loss_follows_its_rows_in_any_order_and_its_sum_stays(name):
    model, rows = _model(name), _rows()
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    a, b = model(rows), model(_take(rows, order))
    assert torch.allclose(a.units[order], b.units, atol=1e-5)
    assert a.total.item() == pytest.approx(b.total.item(), rel=1e-5)
    assert a.units.sum().item() == pytest.approx(a.total.item(), rel=1e-5)
    assert a.units.shape == a.counted.shape == (6, 1)


@pytest.mark.parametrize("name", TASKS)
def test_the_features_of_a_row_do_not_depend_on_the_batch(name):
    model, rows = _model(name), _rows()
    objective, backbone = model.objective, model.backbone
    whole = objective.embed(backbone, objective.manufacture(rows))
    parts = [
        objective.embed(backbone, objective.manufacture(_take(rows, slice(i, i + 2))))
        for i in (0, 2, 4)
    ]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_withdrawn_image_is_nobodys_example(name):
    model = _model(name)
    rows = _rows(6, withdrawn=(1, 4))
    a = model(rows)
    b = model(_take(_rows(6), torch.tensor([0, 2, 3, 5])))
    assert a.total.item() == pytest.approx(b.total.item(), rel=1e-5)
    assert float(a.count) == float(b.count)
    assert a.units[[1, 4]].abs().max() == 0
    a.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_knowing_nothing_costs_what_chance_says(name):
    model = _model(name)
    if name == "vicreg":
        z = torch.ones(7, 2, 8)
    elif name == "dino":
        z = torch.ones(7, 4, 12)
    else:
        z = torch.ones(7, 2, 8) / math.sqrt(8)
    if name == "moco":
        model.objective.queue.fill_(1 / math.sqrt(8))
        model.objective.seen.fill_(99)
    loss = model.objective.couple(z)
    assert float(loss.total / loss.count) == pytest.approx(model.objective.chance(), rel=1e-4)


def test_only_a_step_of_training_moves_a_queue_and_the_oldest_keys_leave_first():
    model = _model("moco")
    objective = model.objective
    model.eval()(_rows())
    objective.after_step(model.backbone, 0, 9)
    assert not objective.queue.any()
    model.train()
    for step, first in enumerate((0, 6)):
        keys = objective.embed(model.backbone, objective.manufacture(_rows(6, first)))[:, 1]
        model(_rows(6, first))
        assert not torch.equal(objective.queue[: len(keys)], keys), "not before the update"
        objective.after_step(model.backbone, step, 9)
        places = (torch.arange(6) + 6 * step) % 10
        assert torch.allclose(objective.queue[places], keys, atol=1e-6)
    assert int(objective.seen) == 12


@pytest.mark.parametrize("name", ["moco", "dino"])
def test_a_teacher_follows_its_student_slowly_has_no_gradient_and_is_kept(name):
    model = _model(name, teacher_momentum=0.5)
    objective = model.objective
    model(_rows()).total.backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert any(p.grad is not None for p in objective.projector.parameters())
    before = [p.clone() for p in objective.teacher[0].parameters()]
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(1.0)
    objective.after_step(model.backbone, 0, 1000)
    for old, new in zip(before, objective.teacher[0].parameters(), strict=True):
        assert torch.allclose(new - old, torch.full_like(old, 0.5), atol=1e-3)
    other = _model(name, seed=1)
    other.load_state_dict(model.state_dict())
    a, b = model(_rows()), other(_rows())
    assert torch.equal(a.units, b.units)


@pytest.mark.parametrize("name", TASKS)
def test_steps_after_a_restart_are_the_steps_of_one_run(name):
    def steps(model, numbers):
        for step in numbers:
            loss = model(_rows(6, step))
            grads = torch.autograd.grad(
                loss.total, [p for p in model.parameters() if p.requires_grad], allow_unused=True
            )
            with torch.no_grad():
                trained = (p for p in model.parameters() if p.requires_grad)
                for parameter, grad in zip(trained, grads, strict=True):
                    if grad is not None:
                        parameter.sub_(0.01 * grad)
            model.after_step(step, 6)
        return model.state_dict()

    whole = steps(_model(name), range(6))
    first = steps(_model(name), range(3))
    again = _model(name, seed=5)
    again.load_state_dict(first)
    resumed = steps(again, range(3, 6))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_the_centre_is_the_mean_of_the_teachers_answers_over_the_whole_step():
    model = _model("dino")
    objective = model.objective
    features = objective.embed(model.backbone, objective.manufacture(_rows()))
    objective.couple(features)
    objective.after_step(model.backbone, 0, 9)
    assert torch.allclose(objective.centre, 0.1 * features[:, 2:].mean((0, 1)), atol=1e-6)


def test_either_collapse_of_a_teacher_shows_in_its_health():
    model = _model("dino")
    one, all_ = torch.zeros(6, 4, 12), torch.zeros(6, 4, 12)
    one[..., 3] = 9.0
    spread_ = 9.0 * torch.eye(12)[torch.arange(24).view(6, 4) % 12]
    told = []
    for features in (one, all_ + 1e-6, spread_):
        model.objective.couple(features)
        told.append(model.objective.health()["teacher_information"])
    floor = model.objective.floors["teacher_information"]
    assert told[0] < floor > told[1]
    assert told[2] > floor


@pytest.mark.parametrize("name", ["simclr", "moco", "vicreg"])
def test_features_that_are_all_alike_show_in_their_health(name):
    model = _model(name)
    objective = model.objective
    assert objective.health() == {}
    model(_rows())
    assert set(objective.health()) == set(objective.floors)
    objective.couple(torch.ones(6, 2, 8) / math.sqrt(8))
    assert objective.health()["feature_std"] < objective.floors["feature_std"]


def test_spread_and_effective_rank_know_the_extremes():
    random = _units(4000, 16)
    assert spread(random) == pytest.approx(1, abs=0.02)
    assert effective_rank(random) == pytest.approx(16, abs=0.1)
    line = F.normalize(torch.randn(200, 1) @ torch.ones(1, 16), dim=-1)
    assert effective_rank(line) == pytest.approx(1, abs=0.01)


def test_one_row_costs_nothing_and_breaks_nothing():
    for name in TASKS:
        loss = _model(name)(_rows(1))
        assert loss.total.isfinite()
        loss.total.backward()


def test_following_with_momentum_one_stands_still():
    model = _model("moco")
    before = [p.clone() for p in model.objective.teacher[0].parameters()]
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(1.0)
    follow(model.objective.teacher[0], model.backbone, 1.0)
    after = model.objective.teacher[0].parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_bad_step_leaves_queue_and_centre_as_they_were():
    for name, kept in (("moco", "queue"), ("dino", "centre")):
        model = _model(name)
        model(_rows())
        model.after_step(0, 9)
        before = getattr(model.objective, kept).clone()
        features = model.objective.embed(model.backbone, model.objective.manufacture(_rows()))
        model.objective.couple(features * math.nan)
        model.after_step(1, 9)
        assert torch.equal(getattr(model.objective, kept), before)


def test_features_that_are_not_finite_have_no_rank():
    assert math.isnan(effective_rank(torch.full((4, 3), math.inf)))

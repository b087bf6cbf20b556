"""What every pretext task must hold to: the files of train/objectives, found by walking the folder.

A task that fails here learns something else when it is resumed, split or shared by ranks. A new
file is tested as soon as it is there; what its author should know stands in the messages.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from train import objectives
from train.config import TrainConfig
from train.loop import _update
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.optim import make_optimizer, set_rate
from train.parallel import Ranks
from train.runfile import load_run

NAMES = objectives.names()
SIZES = {"depth": 2, "width": 32, "heads": 2}
#: Tasks whose loss does not begin at that of knowing nothing, and why.
ELSEWHERE = {
    "moco": "its queue is empty at first, so there is nothing to choose from",
    "sentence_contrast": "untrained vectors of different texts are told apart already",
    "dino": "its loss is that of a sharp teacher's own answers, which begin alike",
    "vicreg": "its loss has no such level",
    "replaced_token": "it is the sum of two losses, each with its own weight",
}
#: Tasks whose loss has a part that no document can be given.
SHARED = {"wav2vec": "how the codes are used is a property of the step"}
#: One of each family is killed and resumed in the real loop, where it is there (of text see
#: test_mixing.py): with a queue and a teacher, a centre and a teacher, a schedule, a second tower.
RESUMED = {
    "sentence_order": {},
    "moco": {"queue_size": 16, "teacher_momentum": 0.5},
    "dino": {"variant": "centre", "teacher_momentum": 0.5},
    "wav2vec": {},
    "clip": {},
}
SENTENCES = (
    "The level was set to info by ann. After that she went away, as one does. ",
    "Nobody knew why it rained so much. It rained on the town and on the hill! ",
    "One, two, three: the words follow one another. Then the page ends here. ",
)
FIELDS = "level=info user=u%d action=login status=ok\nlevel=warn user=u%d action=stop status=no\n"


def _runs():
    path = Path(__file__).resolve().parents[1] / "bench" / "objectives" / "runs.py"
    spec = importlib.util.spec_from_file_location("objective_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = _runs()


def _kind(name):
    """Return what kind of rows a task eats, from the columns that it says it needs."""
    needs = objectives.find(name).needs.names
    for column, kind in (("caption", "pair"), ("pixels", "image"), ("samples", "audio")):
        if column in needs:
            return kind
    assert "tokens" in needs, (
        f"{name}: `needs` is {needs}; it names tokens, pixels, samples or caption"
    )
    return "text"


def _write(kind, folder, **config):
    random = np.random.default_rng(0)
    if kind == "text":
        texts = [SENTENCES[i % 3] + SENTENCES[(i + 1) % 3] + FIELDS % (i, i + 1) for i in range(24)]
        held = {"a": texts[:3]}
        return runs.text_run(folder, {"a": texts}, row_tokens=96, held_out=held, **config)
    pixels = random.integers(0, 255, (24, 3, 24, 24)).astype(np.uint8)
    tones = [np.sin(np.arange(900 + 90 * i) * (0.1 + 0.02 * i)) for i in range(24)]
    sounds = [
        (8000 * tone + 500 * random.standard_normal(len(tone))).astype(np.int16) for tone in tones
    ]
    held = range(20, 24)
    if kind == "image":
        return runs.image_run(folder, pixels, held_out=held, **config)
    if kind == "audio":
        return runs.audio_run(folder, sounds, 8000, frames=32, held_out=held, **config)
    captions = [f"picture number {i} of a thing" for i in range(24)]
    return runs.pair_run(folder, pixels, captions, held_out=held, **config)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Return a function: the name of a task to its spec and six rows of its kind."""
    made = {}

    def of(name):
        kind = _kind(name)
        if kind not in made:
            path = _write(kind, tmp_path_factory.mktemp(kind))
            rows = runs.rows(path, numbers=range(6))
            made[kind] = load_run(path, columns=["num_bytes"]), rows
        run, rows = made[kind]
        spec = ModelSpec.of(
            TrainConfig(objective=name, **SIZES),
            vocab_size=run.vocab_size,
            row_tokens=run.row_tokens,
            specials=run.specials,
            media=run.media,
        )
        return spec, replace(rows, keys=rows.keys + torch.tensor([7, 1, 0]))

    return of


def _model(spec):
    torch.manual_seed(1)
    return Model(spec)


def _stirred(spec):
    """Return a model whose branches and heads, which begin at zero, do something."""
    model = _model(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.05)
    return model


def _chosen(rows, chosen):
    return Rows(**{k: v[chosen] for k, v in vars(rows).items() if v is not None})


def _same(name, what, whole, part, chosen, size):
    """Check that a part's tensor is the whole's at the rows that were chosen."""
    count = len(chosen)
    if whole.ndim == 0 or len(whole) % size or len(part) % count:
        assert torch.equal(whole, part), f"{name}: {what} has no axis of rows, and it changes"
        return
    by_row = whole.unflatten(0, (size, -1))[chosen].flatten(0, 1)
    by_view = whole.unflatten(0, (-1, size))[:, chosen].flatten(0, 1)
    close = torch.allclose if part.is_floating_point() else torch.equal
    assert any(part.shape == one.shape and close(part, one) for one in (by_row, by_view)), (
        f"{name}: {what} of a row depends on the rows beside it, or on their order; take all "
        "randomness from train.keyed with rows.keys, and nothing from the batch"
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_a_row_depends_on_that_row_alone(name, some):
    spec, rows = some(name)
    model = _model(spec)
    whole = model.objective.manufacture(rows)
    chosen = [5, 1, 2]  # the longest sound among them: rows may be cut to the longest
    part = model.objective.manufacture(_chosen(rows, chosen))
    _same(name, "inputs", whole.inputs, part.inputs, chosen, 6)
    _same(name, "targets", whole.targets, part.targets, chosen, 6)
    assert whole.more.keys() == part.more.keys()
    for key, tensor in whole.more.items():
        _same(name, f"more[{key!r}]", tensor, part.more[key], chosen, 6)
    torch.manual_seed(99)
    again = model.objective.manufacture(rows)
    assert torch.equal(whole.inputs, again.inputs), f"{name}: torch's own generator is used"


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_a_sum_with_its_units_and_has_gradients(name, some):
    spec, rows = some(name)
    model = _stirred(spec)
    with torch.no_grad():  # a queue is filled
        model(rows)
    model.after_step(0, 8)
    loss = model(rows)
    total = float(loss.total.detach())
    assert loss.total.ndim == 0, f"{name}: `total` is a scalar, the sum over targets"
    assert np.isfinite(total), name
    assert float(loss.count) > 0, name
    wide = (rows.documents.shape, (len(rows.keys), 1))
    assert tuple(loss.units.shape) in wide, f"{name}: `units` is [B, T] or [B, 1]"
    counted = loss.told(rows.targets >= 0)
    if loss.counted is None and objectives.find(name).batch_coupled:
        counted = torch.ones_like(loss.units)
    assert counted.shape == loss.units.shape, f"{name}: `counted` has the shape of `units`"
    assert float(counted.sum()) == pytest.approx(float(loss.count), rel=1e-4), (
        f"{name}: `counted` adds up to `count`, so that documents add up to the step"
    )
    assert not loss.units.requires_grad, f"{name}: `units` is told, not learnt from: detach it"
    assert not loss.count.requires_grad, f"{name}: `count` is a number: detach it"
    assert name in SHARED or float(loss.units.sum()) == pytest.approx(total, rel=1e-3, abs=1e-3), (
        f"{name}: `units` adds up to `total`, so that documents add up to the step"
    )
    for key, pair in loss.metrics.items():
        assert pair.shape == (2,), f"{name}: the metric {key} is [sum, count]"
        assert not pair.requires_grad, f"{name}: the metric {key} has a gradient: detach it"
    loss.total.backward()
    moved = [k for k, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(k.startswith("backbone") for k in moved), f"{name}: the backbone learns nothing"
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None), name


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_split_give_the_same_sums(name, some):
    spec, rows = some(name)
    model = _stirred(spec)
    parts = [_chosen(rows, [0, 1]), _chosen(rows, [2, 3, 4]), _chosen(rows, [5])]
    with torch.no_grad():
        if model.objective.batch_coupled:
            whole = model(rows, "features")
            split = torch.cat([model(part, "features") for part in parts])
            assert torch.allclose(whole, split, atol=1e-5), (
                f"{name}: the features of a row depend on the rows beside it; that is for `couple`"
            )
            return
        whole, split = model(rows), [model(part) for part in parts]
    for what in ("total", "count"):
        summed = sum(float(getattr(one, what)) for one in split)
        assert summed == pytest.approx(float(getattr(whole, what)), rel=1e-4), (
            f"{name}: `{what}` of a step is not the sum over its parts"
        )
    units = torch.cat([one.units for one in split])
    assert torch.allclose(whole.units.float(), units.float(), rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_learnt_from_a_withdrawn_document(name, some):
    spec, rows = some(name)
    targets = rows.targets.clone()
    targets[0] = -100
    loss = _stirred(spec)(replace(rows, targets=targets))
    if loss.counted is None and objectives.find(name).batch_coupled:
        pytest.fail(f"{name}: say in `counted` which rows have a target")
    counted = loss.told(targets >= 0)
    assert not counted[0].any(), f"{name}: a row whose targets are -100 has a target"
    assert not loss.units[0].any(), f"{name}: a row whose targets are -100 has a loss"


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_begins_at_chance(name, some):
    spec, rows = some(name)
    model = _model(spec)
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    with torch.no_grad():
        loss = model(rows)
    chance = model.objective.chance()
    if chance is None:
        return
    assert chance > 0
    assert float(loss.total / loss.count) == pytest.approx(chance, rel=0.2), (
        f"{name}: the first loss is not near `chance`; mend one of them, or say in ELSEWHERE why"
    )


@pytest.mark.parametrize("name", NAMES)
def test_state_is_whole_and_vectors_are_made(name, some):
    spec, rows = some(name)
    model, config = _model(spec), TrainConfig(objective=name, **SIZES)
    optimizer = make_optimizer(model, config, torch.device("cpu"))
    for step in range(2):
        set_rate(optimizer, config, step, 8)
        _update(model, optimizer, [rows], 1.0, Ranks())
        model.after_step(step, 8)
    torch.manual_seed(5)
    other = Model(spec)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for one in (model, other):
            one.train()
        losses = [float(one(rows).total) for one in (model, other)]
        assert losses[0] == losses[1], (
            f"{name}: what the loss depends on is not in the state; make it a buffer"
        )
        assert all(np.isfinite(float(v)) for v in model.objective.health().values()), name
        vectors = [one.eval().objective.encode(one.backbone, rows) for one in (model, other)]
    assert vectors[0].shape[0] == 6, f"{name}: `encode` gives [B, D]"
    assert vectors[0].dtype == torch.float32, name
    assert torch.equal(*vectors), name
    assert ModelSpec(**json.loads(json.dumps(spec.to_mapping()))) == spec


@pytest.mark.parametrize("name", [n for n in RESUMED if n in NAMES])
def test_a_killed_run_goes_on_with_the_same_losses(name, tmp_path):
    config = {**SIZES, "objective": name, "batch_rows": 6, "steps": 5, "log_every": 1}
    config |= {"checkpoint_every": 2, "attention": "dense", "alarms": False, **RESUMED[name]}
    paths = [_write(_kind(name), tmp_path / part, **config) for part in ("whole", "killed")]
    result = runs.train(paths[0])

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.trainer.run(paths[1], stop)
    runs.trainer.run(paths[1], lambda *_: None)
    told = []
    for path in paths:
        lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
        told.append([(line["step"], line["loss"]) for line in lines if "loss" in line])
    assert told[0] == told[1]
    states = [load_file(path.parent / "model" / "model.safetensors") for path in paths]
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[0].items():
        assert torch.equal(tensor, states[1][key]), f"{name}: {key} is another one after a restart"
    kept = {"moco": ("queue", "teacher"), "dino": ("centre", "teacher"), "wav2vec": ("tau",)}
    assert all(any(word in key for key in states[0]) for word in kept.get(name, ()))
    assert result["held_out"]["loss"] > 0
    model, reader = runs.load(paths[1])
    assert model.spec.objective == name
    assert not model.training
    assert len(reader.shards.lengths) > 0

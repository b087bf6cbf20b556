"""Mixes of tasks, tasks that begin from one another's weights, and what is told of them."""

import copy
import importlib.util
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train
from curate.corpus.errors import InputError
from train.alarms import Alarm, Alarms, Seen
from train.config import TrainConfig
from train.feedback import document_sums, measured, weights
from train.generate import generate, load_model
from train.glance import glance
from train.initial import describe
from train.model import Model, ModelSpec
from train.objectives import Rows, find
from train.parallel import Ranks
from train.rows import reader_of
from train.runfile import load_run
from train.shards import Plan, Shards

SIZES = {"depth": 1, "width": 32, "heads": 2, "batch_rows": 4, "attention": "dense"}
MIX = "masked_token + 2 * next_token"


def _runs():
    path = Path(__file__).resolve().parents[1] / "bench" / "objectives" / "runs.py"
    spec = importlib.util.spec_from_file_location("mixed_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = _runs()


def _text(folder, **config):
    texts = [f"{i} is a number, and {i + 1} comes after it. That is so." for i in range(20)]
    held = {"a": texts[:3]}
    return runs.text_run(
        folder, {"a": texts}, row_tokens=48, held_out=held, **{**SIZES, "steps": 4, **config}
    )


def _quiet(*_):
    pass


def _lines(path):
    found = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if "loss" in line]


@torch.no_grad()
def test_a_mix_is_the_weighted_sum_of_its_parts_each_seen_its_own_way(tmp_path):
    rows = runs.rows(_text(tmp_path / "a"))
    spec = ModelSpec.of(
        TrainConfig(objective=MIX, mask_rate=0.5, **SIZES),
        vocab_size=281,
        row_tokens=48,
        specials={"bos": 0, "eos": 1, "pad": 2, "mask": 3},
    )
    torch.manual_seed(0)
    mix = Model(spec)
    for parameter in mix.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    whole = mix(rows)
    parts = {}
    for name, task in mix.objective.tasks.items():
        kind = find(name)
        alone = Model(replace(spec, objective=name, causal=kind.causal, task=task.spec.task))
        alone.backbone.load_state_dict(mix.backbone.state_dict())
        alone.objective.load_state_dict(task.state_dict())
        parts[name] = alone(rows)
    assert mix.objective.tasks["masked_token"].knob["mask_rate"] == 0.5
    masked, following = parts["masked_token"], parts["next_token"]
    assert float(whole.total) == pytest.approx(float(masked.total + 2 * following.total))
    assert float(whole.count) == pytest.approx(float(masked.count + 2 * following.count))
    assert torch.allclose(whole.units, masked.units + 2 * following.units)
    assert float(whole.counted.sum()) == pytest.approx(float(whole.count))
    assert mix.backbone.causal is False
    with pytest.raises(InputError, match=r"train\.jitter means nothing to the objective"):
        find(MIX)(replace(spec, task={"jitter": 2}))


def test_a_mix_is_killed_and_resumed_and_handed_off(tmp_path):
    often = {"checkpoint_every": 2, "log_every": 1, "eval_every": 3, "eval_rows": 4}
    paths = [
        _text(tmp_path / part, objective=MIX, steps=6, **often) for part in ("whole", "killed")
    ]
    result = train.run(paths[0], _quiet)

    def stop(done, *_):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(paths[1], stop)
    train.run(paths[1], _quiet)
    told = [[line["loss"] for line in _lines(path)] for path in paths]
    assert told[0] == told[1]
    last = _lines(paths[0])[-1]
    assert last["bits_per_byte"] is None
    assert last["metrics"].keys() == {"masked_token/loss", "next_token/loss"}
    found = map(json.loads, (paths[1].parent / "metrics.jsonl").read_text().splitlines())
    (glance,) = [line for line in found if "held_out_nats" in line]
    assert glance["held_out_metrics"].keys() >= last["metrics"].keys()
    assert glance["held_out_bits_per_byte"] is None
    assert result["held_out"]["metrics"].keys() > last["metrics"].keys()
    assert "documents" not in result["held_out"]
    assert result["sample"] is None
    folder = paths[0].parent / "model"
    model, specials = load_model(folder)
    assert model.spec.objective == MIX
    assert specials["mask"] == 3
    assert "objective `masked" in (folder / "README.md").read_text()
    with pytest.raises(InputError, match="does not continue text"):
        generate(folder, "a")
    (folder / "config.json").write_text(json.dumps({"model_type": "preceptor", "preceptor": {}}))
    with pytest.raises(InputError, match="of another version"):
        load_model(folder)


class Together(Ranks):
    """One of two ranks, each in a thread of its own."""

    barrier: ClassVar = threading.Barrier(2, timeout=60)
    given: ClassVar = {}

    def gather_rows(self, tensor):
        self.given[self.rank] = tensor.clone()
        self.barrier.wait()
        found = torch.cat([self.given[rank] for rank in range(2)])
        self.barrier.wait()
        return found

    def sum_(self, tensor):
        return tensor.copy_(self.gather_rows(tensor[None]).sum(0))


@pytest.mark.parametrize("objective", ["simclr + 2 * rotation", "rotation"])
def test_a_glance_compares_the_rows_of_a_step_whatever_the_ranks(objective, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (13, 1, 8, 8)).astype(np.uint8)
    sources = ["a"] * 8 + ["b"] * 5
    path = runs.image_run(
        tmp_path / "a", pixels, held_out=range(2, 13), sources=sources, objective=objective, **SIZES
    )
    run = load_run(path, columns=["num_bytes"])
    shards = Shards(run.shards)
    plan = Plan(run.plans["validation"], shards, num_sources=2)
    model = Model(
        ModelSpec.of(run.config, vocab_size=0, row_tokens=run.row_tokens, media=run.media)
    )
    reader = reader_of(run, shards, None)

    def look(ranks, model):
        told = {}
        sums = glance(
            model, reader, plan, torch.device("cpu"), 99, num_sources=2, ranks=ranks,
            batch_rows=5, metrics=told,
        )  # fmt: skip
        return sums, told

    alone, told = look(None, model)
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        ranks = [Together(rank=rank, world=2) for rank in range(2)]
        shared = list(pool.map(look, ranks, [copy.deepcopy(model) for _ in ranks]))
    for sums, metrics in shared:
        torch.testing.assert_close(sums, alone)
        assert metrics == pytest.approx(told)
    coupled = objective != "rotation"
    groups = [np.arange(0, 10, 2), np.arange(1, 11, 2)] if coupled else [np.arange(11)]
    with torch.no_grad():
        losses = [model.eval()(reader.rows(plan, group)) for group in groups]
    assert float(alone[0].sum()) == pytest.approx(sum(float(one.total) for one in losses), rel=1e-5)
    assert float(alone[1].sum()) == sum(float(one.count) for one in losses)
    assert alone[1].min() > 0, "every source is seen"
    name = "rotation/accuracy" if coupled else "accuracy"
    hits = sum(one.metrics[name] for one in losses)
    assert told[name] == pytest.approx(float(hits[0] / hits[1]))


def test_another_task_begins_with_the_backbone_of_the_first(tmp_path, capsys):
    first = _text(tmp_path / "first", objective="masked_token")
    train.run(first, _quiet)
    model = first.parent / "model"
    start = describe(first.parent, first.parent / "tokenizer.json")
    for name, objective in (("second", "sentence_order"), ("third", "next_token")):
        config = {"objective": objective, "init_from": str(model), "learning_rate": 1e-9}
        config |= dict.fromkeys(("embedding_lr", "head_lr", "vector_lr", "muon_lr"), 1e-9)
        path = _text(tmp_path / name, **config, steps=1)
        content = json.loads(path.read_text()) | {"initial": start}
        path.write_text(json.dumps(content))
        result = train.run(path, _quiet)
        assert f"what {objective} adds is new" in capsys.readouterr().out
        assert result["initial"]["sha256"] == start["sha256"]
        found = runs.load(path)[0].backbone.state_dict()
        for key, tensor in load_file(model / "model.safetensors").items():
            if key.startswith("backbone."):
                mine = found[key.removeprefix("backbone.")]
                rows = 281 if "embedding" in key else None  # behind the ids there is padding
                assert torch.allclose(mine[:rows], tensor[:rows], atol=1e-6), key
    images = np.zeros((8, 1, 8, 8), np.uint8)
    path = runs.image_run(tmp_path / "images", images, objective="simclr", **SIZES, steps=1)
    content = json.loads(path.read_text())
    content |= {"initial": start}
    content["config"]["init_from"] = str(model)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has nothing where this run has backbone\.stem"):
        train.run(path, _quiet)


def test_losses_of_whole_rows_are_told_for_the_document_at_their_first_place():
    documents = torch.tensor([[4, 4, 9], [7, 8, -1]])
    zeros = torch.zeros_like(documents)
    rows = Rows(tokens=zeros, targets=zeros, sources=zeros, documents=documents, keys=zeros)
    units, counted = torch.tensor([[3.0], [5.0]]), torch.tensor([[2.0], [1.0]])
    sums = document_sums(rows, units, weights(np.full(3, 4)), 9, counted)
    assert measured(6, sums).tolist() == [[6, 4, 3, 2, 0], [6, 7, 5, 1, 0]]


def _look(alarms, step, value):
    seen = Seen(
        first=step,
        losses=np.linspace(3, 2, 10),
        skipped=np.zeros(10, bool),
        health={"feature_std": value, "other": 0.0},
    )
    return alarms.see(seen)


def test_features_that_stay_collapsed_stop_the_run_and_others_do_not():
    def fresh():
        return Alarms(
            TrainConfig(), chance=None, steps=1000, phases=[], floors={"feature_std": 0.05}
        )

    alarms = fresh()
    late = 50 + Alarms.CHANCE_STEPS
    for step in range(1, late + 30, 10):
        _look(alarms, step, 0.01)
    with pytest.raises(Alarm, match=r"feature_std is 0\.01, below 0\.05 at 5 looks in a row"):
        _look(alarms, late + 31, 0.01)
    alarms = fresh()
    for step in range(1, 2000, 10):  # four looks below, one above
        _look(alarms, step, 0.06 if step % 50 == 1 else 0.01)

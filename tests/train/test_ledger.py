"""What a run says: metrics with all their keys, curves that TensorBoard reads, held-out sources."""

import json
import math

import pytest
import torch

import train
from train.curves import Curves
from train.ledger import peak_flops


def _lines(path):
    return list(map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines()))


def test_the_last_line_of_an_interval_summarises_it(make_run):
    path = make_run(eval_every=6)
    seen = []
    train.run(path, lambda step, steps, line: seen.append(line))
    lines = _lines(path)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert all({"loss", "learning_rate", "targets", "grad_norm"} <= line.keys() for line in steps)
    last = steps[3]
    assert last["mfu"] is None
    assert (last["skipped"], steps[-1]["eta_s"]) == (0, 0.0)
    nats = sum(line["loss"] * line["targets"] for line in steps[:4])
    targets = sum(line["targets"] for line in steps[:4])
    assert last["mean_loss"] == pytest.approx(nats / targets)
    by_source = last["sources"]
    assert sum(one["targets"] for one in by_source.values()) == targets
    assert last["bits_per_byte"] == pytest.approx(
        nats
        / math.log(2)
        / sum(
            one["nats"] * one["targets"] / math.log(2) / one["bits_per_byte"]
            for one in by_source.values()
        )
    )
    glance = next(line for line in lines if "held_out_nats" in line)
    assert glance["step"] == 6
    held = glance["held_out_sources"]
    assert set(held) == {"books", "code", "web"}
    total = sum(one["nats"] * one["targets"] for one in held.values())
    assert glance["held_out_nats"] == pytest.approx(
        total / sum(one["targets"] for one in held.values())
    )
    assert glance["held_out_bits_per_byte"] > 0
    assert any("held_out_sources" in line for line in seen)


def test_a_resumed_runs_curves_hold_each_step_once(tmp_path, make_run):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = make_run(log_every=1, checkpoint_every=5)

    def stop(step, steps, line):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(path, stop)
    train.run(path, lambda *_: None)
    assert len(list((path.parent / "tensorboard").iterdir())) == 2
    found = reading.EventAccumulator(str(path.parent / "tensorboard"))
    found.Reload()
    told = {line["step"]: line["mean_loss"] for line in _lines(path) if "mean_loss" in line}
    events = found.Scalars("mean_loss")
    assert {e.step: e.value for e in events} == pytest.approx(told, rel=1e-6)
    assert len(events) == 12
    assert {"sources/books", "grad_norm", "bits_per_byte"} <= set(found.Tags()["scalars"])
    assert Curves(tmp_path).file == tmp_path / "none"


def test_health_of_an_objective_is_told_with_the_metrics(make_run, monkeypatch):
    from train.objectives.next_token import NextToken

    monkeypatch.setattr(NextToken, "health", lambda self: {"feature_std": 0.5}, raising=False)
    path = make_run(steps=4)
    train.run(path, lambda *_: None)
    assert _lines(path)[-1]["health"] == {"feature_std": 0.5}


def test_the_peak_of_a_device_is_that_of_its_form_and_unknown_ones_have_none():
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA H100 NVL") == 835e12
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-40GB") == 312e12
    assert peak_flops("cpu") is None


def test_a_held_out_loss_that_is_not_finite_is_null_and_said(make_run, monkeypatch, capsys):
    real, spoilt = train.loop.glance, torch.tensor([[math.inf], [1.0]])
    monkeypatch.setattr(train.loop, "glance", lambda *a, **k: real(*a, **k) * spoilt)
    path = make_run(steps=4, eval_every=2)
    train.run(path)
    glance = next(line for line in _lines(path) if "held_out_nats" in line)
    assert (glance["held_out_nats"], glance["held_out_sources"]["code"]["nats"]) == (None, None)
    assert "step 2/4: held-out glance: the loss is not finite" in capsys.readouterr().out

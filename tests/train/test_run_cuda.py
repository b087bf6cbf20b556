"""On CUDA: no step waits for the device; a `deterministic` run is resumed bit for bit."""

import json

import pytest
import torch

import train
from train import loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = {"device": "cuda", "attention": "auto", "dtype": "bfloat16", "compile": "off"}


def _quiet(*_):
    pass


def _losses(path):
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.mark.parametrize("mask", [False, True])
def test_nothing_inside_a_step_waits_for_the_device(make_run, monkeypatch, mask):
    real, steps = loop._update, []

    def update(*arguments):
        steps.append(0)
        torch.cuda.set_sync_debug_mode("error" if len(steps) > 2 else "default")
        try:
            return real(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "_update", update)
    path = make_run(row_tokens=128, steps=6, document_mask=mask, optimizer="muon", **CUDA)
    assert train.run(path, _quiet)["device"] == "cuda"
    assert len(steps) == 6


def test_a_deterministic_run_that_is_stopped_goes_on_bit_for_bit(make_run):
    settings = {"row_tokens": 128, "log_every": 1, "checkpoint_every": 2, **CUDA}
    settings |= {"deterministic": True, "attention": "fused", "optimizer": "muon"}
    undisturbed, stopped = make_run("a", **settings), make_run("b", **settings)

    def stop(done, *_):
        if done == 5:
            raise KeyboardInterrupt

    try:
        train.run(undisturbed, _quiet)
        with pytest.raises(KeyboardInterrupt):
            train.run(stopped, stop)
        train.run(stopped, _quiet)
    finally:
        torch.use_deterministic_algorithms(False)
    assert _losses(stopped) == _losses(undisturbed)

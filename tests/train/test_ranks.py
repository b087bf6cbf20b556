"""Several processes share a run: the same rows, losses within rounding, any number when resumed."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train
from curate.corpus.errors import InputError
from train import checkpoint, loop
from train.config import TrainConfig
from train.parallel import Ranks, sum_gradients
from train.rows import open_rows

ROOT = Path(train.__file__).resolve().parents[1]
SETTINGS = {"batch_rows": 8, "steps": 9, "log_every": 1, "checkpoint_every": 3, "eval_every": 4}
SETTINGS |= {"optimizer": "muon", "feedback_every": 2}

#: What each of two ranks does: (run.json, steps to make) in turn, noting the rows of each step.
SHARED = """
import json, os, sys
import train
from train import checkpoint, loop
real = loop._update

class Stop(Exception):
    pass

def noted(path, steps):
    seen = []
    def update(model, optimizer, batch, *arguments):
        if len(seen) == steps:
            raise Stop
        seen.append([key for rows in batch for key in rows.keys.tolist()])
        return real(model, optimizer, batch, *arguments)
    loop._update = update
    try:
        result = train.run(path, lambda *_: None)
    except Stop:
        result = None
    return seen, result

rank = os.environ["RANK"]
for turn, place in enumerate(sys.argv[1:]):
    path, steps = place.split("#")
    seen, result = noted(path, int(steps))
    with open(f"{path}.{turn}.{rank}.json", "w") as stream:
        json.dump({"seen": seen, "result": result}, stream)
"""


def _runs():
    path = ROOT / "tests" / "bench" / "objectives" / "runs.py"
    spec = importlib.util.spec_from_file_location("ranked_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = _runs()


def _quiet(*_):
    pass


def _losses(path):
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def _glance(path):
    """Return what the first glance at held-out rows saw."""
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    line = next(line for line in lines if "held_out_nats" in line)
    return {"loss": line["held_out_nats"], **line["held_out_metrics"]}


def _on_two_ranks(tmp_path, *places):
    """Make some steps of runs on two ranks; return the rows of each run's steps, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHARED, *(f"{path}#{steps}" for path, steps in places)]
    with contextlib.ExitStack() as stack:
        started = []
        for rank in ("0", "1"):  # as torchrun does
            mine = os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
            stream = (tmp_path / f"errors{rank}").open("w")
            started.append(stack.enter_context(subprocess.Popen(command, env=mine, stderr=stream)))
            stack.callback(started[-1].kill)
            stack.callback(stream.close)
        codes = [process.wait(timeout=120) for process in started]
    assert codes == [0, 0], (tmp_path / "errors0").read_text()[-4000:]
    told = [
        [json.loads(Path(f"{path}.{turn}.{rank}.json").read_text()) for rank in range(2)]
        for turn, (path, _) in enumerate(places)
    ]
    return [[[one["seen"] for one in ranks], [one["result"] for one in ranks]] for ranks in told]


def _stopped(path, steps):
    def stop(done, *_):
        if done == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(path, stop)


def test_one_rank_then_two_then_one_give_the_same_rows_and_losses(make_run, tmp_path, monkeypatch):
    alone = make_run("alone", **SETTINGS)
    elastic = make_run("elastic", **SETTINGS)
    pieces = make_run("pieces", parallel="fsdp", micro_rows=1, **SETTINGS)
    contrast = {"objective": "moco", "batch_rows": 8, "steps": 4, "depth": 1, "width": 32}
    contrast |= {"heads": 2, "attention": "dense", "log_every": 1, "eval_every": 2}
    contrast |= {"held_out": range(20, 29), "queue_size": 16}
    pixels = np.random.default_rng(0).integers(0, 255, (29, 1, 8, 8)).astype(np.uint8)
    coupled = [
        runs.image_run(tmp_path / f"coupled{i}", pixels, **contrast, **more)
        for i, more in enumerate(({}, {"micro_rows": 3}, {"micro_rows": 2, "parallel": "fsdp"}))
    ]
    train.run(alone, _quiet)
    train.run(coupled[0], _quiet)
    _stopped(elastic, 4)  # behind the checkpoint of step 3
    places = (elastic, 4), (pieces, 4), (coupled[1], 3), (coupled[2], 3), (pieces, 9)
    (copies, _), (first, _), _, _, (rest, results) = _on_two_ranks(tmp_path, *places)
    whole = _losses(coupled[0])
    for path in coupled[1:]:  # rows that are one another's examples, wherever they are
        assert _losses(path) == pytest.approx({i: whole[i] for i in (1, 2, 3)}, rel=2e-5)
        assert _glance(path) == pytest.approx(_glance(coupled[0]), rel=2e-5)
    expected = [b.keys.tolist() for b, _ in zip(open_rows(alone).batches(), range(9), strict=False)]
    for seen, steps in ((copies, range(3, 7)), (first, range(4)), (rest, range(3, 9))):
        for rank in range(2):
            assert seen[rank] == [expected[step][rank::2] for step in steps]
    train.run(elastic, _quiet)  # from the checkpoint of step 6, which two ranks wrote
    assert results[0]["steps"] == 9
    assert results[1] == {}
    for path in (elastic, pieces):
        assert list(_losses(path)) == list(range(1, 10)), "each step once"
        assert _losses(path) == pytest.approx(_losses(alone), rel=2e-5)
    weights = [load_file(p.parent / "model/model.safetensors") for p in (alone, pieces, elastic)]
    for other in weights[1:]:
        assert weights[0].keys() == other.keys()
        for name, weight in weights[0].items():
            assert torch.allclose(weight, other[name], atol=2e-3), name
    newest = sorted((pieces.parent / "checkpoints").iterdir())[-1]
    assert [p.name for p in sorted(newest.iterdir())] == [
        "rank-00001.safetensors",
        "state.json",
        "tensors.safetensors",
    ]
    monkeypatch.setattr(loop, "_finish", lambda run, model, *_: {"model": model.state_dict()})
    again = train.run(pieces, _quiet)["model"]  # pieces of two ranks, joined on one
    assert all(
        torch.equal(again[name], weight) for name, weight in weights[1].items() if name in again
    )
    os.truncate(newest / "rank-00001.safetensors", 100)
    said = []
    assert checkpoint.find_latest(newest.parent, said.append)["step"] == 6
    assert "step-000000009 is not whole (rank-00001.safetensors" in said[0]


def test_a_batch_that_ranks_cannot_share_is_refused(make_run, monkeypatch):
    path = make_run(batch_rows=3)
    monkeypatch.setattr(Ranks, "start", classmethod(lambda cls, _: cls(world=2)))
    with pytest.raises(InputError, match="3 rows cannot be shared by 2 ranks"):
        train.run(path)


def test_alone_nothing_is_asked_of_others(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.start(TrainConfig(device="cpu"))
    assert ranks == Ranks()
    rows = torch.arange(6).view(3, 2)
    assert ranks.gather_rows(rows) is rows
    assert ranks.share({"a": [1]}) == {"a": [1]}
    with ranks.agree():
        pass
    ranks.stop()
    model = torch.nn.Linear(2, 1)
    model(torch.ones(3, 2)).sum().backward()
    assert [g.tolist() for g in sum_gradients(model, ranks)] == [[[3.0, 3.0]], [3.0]]


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match="2 processes on this machine, but torch sees 1"):
        Ranks.start(TrainConfig())

"""Killed anywhere, a run goes on with the same losses; what is not finite changes nothing."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from curate.corpus.errors import InputError
from train import loop
from train.objectives.next_token import NextToken
from train.rows import open_rows

ROOT = Path(train.__file__).resolve().parents[1]
BATCH = 16

#: Runs each run.json#step of the arguments in turn, and kills it there.
KILLER = """
import os, signal, sys
import torch._dynamo, train.loop, train.objectives.next_token  # once, for all of them
for place in sys.argv[1:]:
    path, step = place.split("#")
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        train.run(path, lambda done, *_: done == int(step) and os.kill(os.getpid(), 9))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9, place
"""


def _quiet(*_):
    pass


def _losses(path):
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def _weights(path):
    return (path.parent / "model/model.safetensors").read_bytes()


def _feedback(path):
    return {file.name: file.read_bytes() for file in (path.parent / "feedback").iterdir()}


def _kill(*places):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [f"{path}#{step}" for path, step in places]
    subprocess.run([sys.executable, "-c", KILLER, *arguments], env=environment, check=True)


def _append(content, first_row):
    """From a sample on, rows come from another plan."""
    content["plans"]["later"] = content["plans"]["validation"]
    content["phases"].append({"first_row": first_row, "plan": "later", "epoch": 0})
    return content


def test_a_run_killed_at_any_place_goes_on_with_the_same_losses(make_run):
    settings = {"batch_rows": BATCH, "steps": 10, "log_every": 1, "checkpoint_every": 2}
    settings |= {
        "edit": lambda content: _append(content, 5 * BATCH + 3),
        "optimizer": "muon",
        "dtype": "bfloat16",
    }
    undisturbed = make_run("undisturbed", **settings)
    rows = open_rows(undisturbed).plans["train"].num_rows
    epoch_end = -(-rows // BATCH)
    assert 2 < epoch_end < 5, "the first epoch ends before the mixture changes"
    stops = {"start": [1], "mid_epoch": [3], "epoch_end": [epoch_end], "mixture": [7]}
    stops["twice"] = [5, 9]
    paths = {name: make_run(name, **settings) for name in stops}
    train.run(undisturbed, _quiet)
    _kill(*((paths[name], step) for name, steps in stops.items() for step in steps))
    for name, path in paths.items():
        train.run(path, _quiet)
        assert _losses(path) == _losses(undisturbed), name
        assert _weights(path) == _weights(undisturbed), name
        assert _feedback(path) == _feedback(undisturbed), name
    assert [step for step, _ in _losses(undisturbed)] == list(range(1, 11))


def test_no_row_is_lost_or_repeated_when_a_run_is_stopped(make_run, monkeypatch):
    seen, real = [], loop._update

    def update(model, optimizer, batch, *arguments):
        seen.extend(key for rows in batch for key in rows.keys.tolist())
        if len(seen) == 2 * BATCH:
            raise KeyboardInterrupt
        return real(model, optimizer, batch, *arguments)

    path = make_run(batch_rows=BATCH, steps=6, log_every=1, checkpoint_every=1)
    monkeypatch.setattr(loop, "_update", update)
    with pytest.raises(KeyboardInterrupt):
        train.run(path, _quiet)
    del seen[BATCH:]  # the second step was read, not made
    seen += [None] * BATCH  # so that it is not stopped again
    train.run(path, _quiet)
    made = [tuple(key) for key in seen if key is not None]
    whole = np.concatenate([b.keys for b in open_rows(path).batches(epochs=2)])
    assert made == [tuple(key) for key in whole[: 6 * BATCH].tolist()]
    first = [row for _, epoch, row in made if epoch == 0]
    assert sorted(first) == list(range(len(first)))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(make_run, monkeypatch, optimizer):
    states, real = [], loop._update

    def update(model, optimizer, batch, *arguments):
        result = real(model, optimizer, batch, *arguments)
        names = {id(p): n for n, p in model.named_parameters()}
        moments = {
            f"{names[id(p)]}.{k}": v.clone()
            for p, state in optimizer.state.items()
            for k, v in state.items()
        }
        weights = {k: v.clone() for k, v in model.state_dict().items()}
        states.append((weights | moments, float(result[1])))
        return result

    def poison(self, backbone, step, steps):
        if step == 3:  # the gradients of the step that follows
            handle = self.head.register_hook(lambda g: (handle.remove(), g * float("nan"))[1])

    monkeypatch.setattr(loop, "_update", update)
    monkeypatch.setattr(NextToken, "after_step", poison)
    path = make_run(log_every=1, steps=8, optimizer=optimizer, checkpoint_every=0)
    result = train.run(path, _quiet)
    assert [bad for _, bad in states] == [0, 0, 0, 0, 1, 0, 0, 0]
    before, poisoned, after = (states[i][0] for i in (3, 4, 5))
    assert all(torch.equal(before[k], poisoned[k]) for k in before)
    assert any(not torch.equal(poisoned[k], after[k]) for k in after)
    assert all(np.isfinite(loss) for _, loss in _losses(path))
    assert result["skipped"] == 1


def test_micro_batches_make_the_same_step_as_a_whole_batch(make_run):
    rows = {None: [], 1: [], 3: []}
    for micro in rows:
        path = make_run(f"micro{micro}", batch_rows=4, micro_rows=micro, steps=6, log_every=1)
        train.run(path, _quiet)
        rows[micro] = _losses(path)
    for micro in (1, 3):
        assert [s for s, _ in rows[micro]] == [s for s, _ in rows[None]] == list(range(1, 7))
        for (_, mine), (_, loss) in zip(rows[micro], rows[None], strict=True):
            assert mine == pytest.approx(loss, rel=1e-5)


def test_a_run_may_go_on_with_other_micro_batches_but_not_other_arithmetic(make_run):
    path = make_run(batch_rows=4, steps=6, log_every=1, checkpoint_every=2)

    def change(**settings):
        content = json.loads(path.read_text())
        content["config"] |= settings
        path.write_text(json.dumps(content))

    def stop(done, *_):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(path, stop)
    change(micro_rows=1, parallel="fsdp", checkpoint_every=3)
    assert train.run(path, _quiet)["steps"] == 6
    change(batch_rows=8)
    with pytest.raises(InputError, match=r"batch_rows: 4 -> 8.*start a new run"):
        train.run(path, _quiet)


def test_garbage_is_not_searched_for_inside_steps_and_is_again_behind_them(make_run, monkeypatch):
    found, real = [], loop._update

    def update(*arguments):
        found.append(gc.isenabled())
        return real(*arguments)

    monkeypatch.setattr(loop, "_update", update)
    train.run(make_run(steps=2), _quiet)
    assert found == [False, False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_mixture_that_is_appended_to_a_run_changes_only_what_follows(make_run):
    settings = {"batch_rows": 4, "steps": 6, "log_every": 1, "checkpoint_every": 2}
    planned = make_run("planned", **settings, edit=lambda content: _append(content, 16))
    path = make_run("appended", **settings)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(path, stop)  # behind the checkpoint of step 2
    content = json.loads(path.read_text())
    path.write_text(json.dumps(_append(json.loads(json.dumps(content)), 7)))
    with pytest.raises(InputError, match="saved with another seed or other plans"):
        train.run(path, _quiet)
    path.write_text(json.dumps(_append(content, 16)))
    train.run(path, _quiet)
    train.run(planned, _quiet)
    assert _losses(path) == _losses(planned)

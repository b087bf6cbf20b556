"""A run's house-keeping: one process at a time, checkpoints given up, phases that moved, clocks."""

import json
import time

import pytest
import torch

import train
from curate.corpus.errors import InputError
from train import checkpoint
from train.alarms import Alarm, Alarms, Seen
from train.config import TrainConfig
from train.loop import _same
from train.objectives.next_token import NextToken
from train.parallel import Ranks
from train.runfile import load_run, locked


def _quiet(*_):
    pass


def _lines(path):
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]


def test_a_checkpoint_removes_the_future_that_was_given_up_and_never_itself(tmp_path):
    tensors = {"a": torch.ones(2)}
    for step in (200, 400):
        checkpoint.save(tmp_path, step, tensors, {}, keep=2)
    (tmp_path / "step-000000400/state.json").write_text("{")
    checkpoint.save(tmp_path, 250, tensors, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000250"]
    assert checkpoint.find_latest(tmp_path, print)["step"] == 250


def test_whatever_fails_while_a_checkpoint_is_put_in_place_is_one_line(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(InputError, match="cannot be written.*Last good checkpoint: none"):
        checkpoint.save(tmp_path, 5, {"a": torch.ones(2)}, {}, keep=1)
    assert list(tmp_path.iterdir()) == []


def test_where_one_rank_fails_none_goes_on(monkeypatch):
    monkeypatch.setattr(Ranks, "sum_", lambda self, tensor: tensor + 1)  # another one failed
    with pytest.raises(InputError, match="another process"), Ranks(world=2).agree():
        pass
    with pytest.raises(SystemExit), Ranks(rank=1, world=2).agree():
        pass
    with pytest.raises(KeyError), Ranks(rank=1, world=2).agree():
        raise KeyError


def test_a_run_is_trained_by_one_process_at_a_time(make_run):
    path = make_run(steps=1)
    with locked(path.parent), pytest.raises(InputError, match="being trained by another process"):
        train.run(path, _quiet)
    assert train.run(path, _quiet)["steps"] == 1


def test_phases_that_have_begun_may_not_move(make_run):
    run = load_run(make_run())
    before = dict(run.identity)
    for phases, sample, good in (
        ([[0, "train", 0], [7, "train", 0]], 8, False),
        ([[0, "train", 0], [8, "train", 0]], 8, True),
        ([[0, "train", 1]], 8, False),
    ):
        then = {**before, "phases": phases}
        if good:
            _same(run, then, run.folder / "x", sample)
        else:
            with pytest.raises(InputError, match="phases"):
                _same(run, then, run.folder / "x", sample)
    _same(run, {k: v for k, v in before.items() if k != "phases"}, run.folder / "x", 8)


def test_a_checkpoint_takes_no_time_of_the_next_interval(make_run, monkeypatch):
    real = checkpoint.save

    def slow(*arguments, **named):
        time.sleep(0.1)
        return real(*arguments, **named)

    monkeypatch.setattr(checkpoint, "save", slow)
    path = make_run(steps=4, log_every=1, checkpoint_every=1)
    assert train.run(path, _quiet)["training_seconds"] < 0.25


def test_the_rate_and_the_knob_are_those_of_the_matrices(make_run):
    path = make_run(steps=2, optimizer="muon", cooldown_fraction=0.0, warmup_fraction=0.0)
    train.run(path, _quiet)
    assert [line["learning_rate"] for line in _lines(path)] == [0.02, 0.02]
    alarms = Alarms(TrainConfig(), chance=4, steps=9, phases=[], rate="muon_lr")
    with pytest.raises(Alarm, match=r"lower muon_lr \(now 0.02\)"):
        alarms.see(Seen(first=1, losses=torch.tensor([torch.nan]), skipped=torch.zeros(1)))


def test_steps_that_were_left_out_count_for_nothing_and_are_remembered(make_run, monkeypatch):
    real, calls = NextToken.forward, iter(range(99))

    def forward(self, backbone, batch):
        loss = real(self, backbone, batch)
        if torch.is_grad_enabled() and next(calls) in (2, 3):
            loss.total.mul_(torch.tensor(float("nan")))
        return loss

    monkeypatch.setattr(NextToken, "forward", forward)
    path = make_run(steps=4, checkpoint_every=0)
    result = train.run(path, _quiet)
    lines = _lines(path)
    assert [line["left_out"] for line in lines] == [False, False, True, True]
    learnt = sum(line["targets"] for line in lines[:2])
    assert sum(one["targets"] for one in result["train_sources"].values()) == learnt
    alarms = Alarms(TrainConfig(max_skipped=2), chance=4, steps=9, phases=[])
    alarms.recall([(n["step"], n["loss"], n["left_out"]) for n in lines], 2)
    with pytest.raises(Alarm, match="step 5: .* 3 in a row"):
        alarms.see(Seen(first=5, losses=torch.ones(1), skipped=torch.ones(1)))


def test_cosine_reads_no_cool_down():
    assert TrainConfig(schedule="cosine", warmup_fraction=0.5).warmup_fraction == 0.5

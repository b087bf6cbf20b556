"""A run's folder after accidents: what is whole is used, what is not is said, nothing is erased."""

import json
import os
import shutil
import signal

import pytest

import train
from curate.corpus.errors import InputError
from train.__main__ import main


@pytest.fixture
def stopped(make_run, monkeypatch):
    """A run that SIGTERM met at step 8 of 12: it finished the step and kept it."""
    path = make_run()

    def told(step, steps, metrics):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped after step"):
        train.run(path, told)
    return path


def test_an_interrupted_run_keeps_its_step_and_ends_as_an_undisturbed_one(stopped, make_run):
    kept = sorted(p.name for p in (stopped.parent / "checkpoints").iterdir())
    assert kept == ["step-000000005"]
    train.run(stopped, lambda *_: None)
    whole = make_run("whole")
    train.run(whole, lambda *_: None)
    assert _losses(stopped) == _losses(whole)


def _losses(path):
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_a_damaged_line_of_metrics_takes_no_other_with_it(stopped, capsys):
    file = stopped.parent / "metrics.jsonl"
    before = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([before[0], b"\xff\xfe", b"[1]", *before[1:]]) + b"\n")
    train.run(stopped, lambda *_: None)
    assert [step for step, _ in _losses(stopped)] == list(range(1, 13))
    assert "line 2 is damaged (2 in all)" in capsys.readouterr().out
    assert file.with_name("metrics.jsonl.damaged").exists()


def test_without_a_whole_checkpoint_nothing_is_erased(stopped, capsys):
    (stopped.parent / "checkpoints" / "step-000000005" / "state.json").write_text("[]")
    metrics = (stopped.parent / "metrics.jsonl").read_bytes()
    assert main([str(stopped)]) == 2
    assert "move that folder away to begin the run anew" in capsys.readouterr().err
    assert (stopped.parent / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": {}, "steps": "x"}'])
def test_a_damaged_resolution_is_told_in_a_line(stopped, content, capsys):
    (stopped.parent / "resolved.json").write_text(content)
    assert main([str(stopped)]) == 2
    said = capsys.readouterr().err
    assert "resolved.json" in said
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told_in_a_line(stopped, monkeypatch):
    shutil.rmtree(stopped.parent / "checkpoints")
    (stopped.parent / "resolved.json.partial").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        train.run(stopped, lambda *_: None)

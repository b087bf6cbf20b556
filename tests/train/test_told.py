"""What a person is told in a line: rows read twice, feedback that is gone, nothing measured."""

import json

import numpy as np
import pytest

import train
from curate.corpus.errors import InputError
from train.alarms import Alarms, Seen
from train.config import TrainConfig
from train.model import ModelSpec
from train.objectives import find


def _quiet(*_):
    pass


def test_a_step_larger_than_the_corpus_is_told(make_run, capsys):
    train.run(make_run("large", batch_rows=99, steps=1), _quiet)
    said = capsys.readouterr().out
    assert "rows: a step of 99 (batch_rows) reads some of them more than once" in said
    train.run(make_run("small", batch_rows=3, steps=1), _quiet)
    assert "more than once" not in capsys.readouterr().out


def test_a_model_that_is_no_folder_is_refused_before_the_first_step(make_run):
    path = make_run()
    (path.parent / "model").write_text("mine")
    with pytest.raises(InputError, match="model is a file, but the trained model's folder goes"):
        train.run(path, _quiet)
    assert not (path.parent / "resolved.json").exists()
    assert (path.parent / "model").read_text() == "mine"
    (path.parent / "model").unlink()
    (path.parent / "model").symlink_to(path.parent)
    with pytest.raises(InputError, match="model is a link"):
        train.run(path, _quiet)


def test_too_few_rows_for_a_whole_document_say_what_to_raise(make_run, capsys):
    result = train.run(make_run(row_tokens=8, steps=1, eval_max_rows=1), _quiet)
    assert "model" not in result["held_out"]
    assert "raise train.eval_max_rows" in capsys.readouterr().out


def _stopped(path, step):
    def stop(done, *_):
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(path, stop)


def test_feedback_that_is_damaged_or_gone_is_told_when_a_run_goes_on(make_run, capsys):
    path = make_run(steps=10, checkpoint_every=2, log_every=1)
    _stopped(path, 7)
    folder = path.parent / "feedback"
    first, second, third = sorted(folder.glob("*.arrow"))
    content = first.read_bytes()
    first.write_bytes(content[:-40])
    second.unlink()
    capsys.readouterr()
    train.run(path, _quiet)
    said = capsys.readouterr().out
    assert f"{first} is damaged: what it told of documents is lost" in said
    assert "feedback on documents is missing for 4 steps (1 to 4)" in said
    assert (folder / f"{first.name}.damaged").read_bytes() == content[:-40]
    assert third.exists()
    assert len(list(folder.glob("*.arrow"))) == 3


def test_feedback_that_is_not_due_is_not_missed(make_run, capsys):
    for every, folder in ((0, "none"), (3, "some")):
        path = make_run(folder, steps=8, checkpoint_every=2, log_every=1, feedback_every=every)
        _stopped(path, 5)
        train.run(path, _quiet)
    assert "missing" not in capsys.readouterr().out


def test_a_loss_with_penalties_sets_off_no_alarm_of_chance():
    media = {"kind": "audio", "sample_rate": 8000, "hop": 80, "window": 200, "mels": 8}
    spec = ModelSpec(
        objective="wav2vec",
        vocab_size=0,
        depth=1,
        width=32,
        heads=2,
        row_tokens=8,
        media={**media, "frames": 8},
    )
    chance = find("wav2vec")(spec).chance()
    alarms = Alarms(TrainConfig(), chance=chance, steps=500, phases=[])
    steps = {"losses": np.full(500, 4.0), "skipped": np.zeros(500, bool)}
    assert alarms.see(Seen(first=1, **steps)) is None
    assert json.dumps(chance) == "null"

"""Settings and run files are checked before anything is trained."""

import json
from pathlib import Path

import pytest

from curate.corpus.errors import InputError
from train.config import TrainConfig
from train.runfile import load_run


def test_the_schema_names_every_setting_and_round_trips():
    schema = TrainConfig.json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(TrainConfig().to_mapping())
    assert schema["properties"]["steps"]["type"] == ["integer", "null"]
    config = TrainConfig(depth=3, steps=7)
    assert TrainConfig.from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rat": 1.0}, "Did you mean 'learning_rate'"),
        ({"depth": 0}, "depth is 0; it must be at least 1"),
        ({"depth": True}, "depth is True"),
        ({"depth": "4"}, "give integer"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"steps": 5, "max_minutes": 1}, "exclude each other"),
        ({"width": 30, "heads": 4}, "does not split"),
        ({"device": "cdua"}, "Did you mean 'cuda'"),
        ({"warmup_fraction": 0.6, "cooldown_fraction": 0.6}, "sum to at most 1"),
    ],
)
def test_a_bad_setting_is_refused_with_what_to_do(settings, words):
    with pytest.raises(InputError, match=words):
        TrainConfig.from_mapping(settings)


def _cut(entry):
    with Path(entry["uri"]).open("r+b") as stream:
        stream.truncate(entry["bytes"] // 2)


def _stale(content):
    content["plans"]["train"][0]["sha256"] = "0" * 64


def _other_tokenizer(content):
    content["tokenizer"]["vocab_size"] += 1


def _fewer_rows(content):
    content["shards"][1]["rows"] += 1


def _wrong_column(content):
    content["shards"][0].update(content["plans"]["train"][0])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: _cut(c["shards"][0]), "cut short"),
        (_stale, "resolve the run again"),
        (_other_tokenizer, "has 70 ids"),
        (_fewer_rows, "29 rows, the run names 30"),
        (_wrong_column, "tokens"),
        (lambda c: c["shards"][0].update(uri="/nowhere/x.arrow"), "does not exist"),
        (lambda c: c.pop("sources"), "'sources'"),
        (lambda c: c.update(format=2), "format is 2"),
        (lambda c: c["phases"][0].update(plan="trian"), "Did you mean 'train'"),
        (lambda c: c["config"].update(objective="next_tokn"), "next_token"),
    ],
)
def test_a_run_that_does_not_match_its_files_is_refused_before_the_first_step(
    make_run, edit, words
):
    path = make_run(edit=edit)
    with pytest.raises(InputError, match=words):
        load_run(path)
    assert not (path.parent / "metrics.jsonl").exists()


def test_a_remote_uri_is_copied_to_a_verified_cache(make_run, tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setenv("PRECEPTOR_CACHE", str(tmp_path / "cache"))

    def to_memory(content):
        entry = content["shards"][0]
        content = Path(entry["uri"]).read_bytes()
        fsspec.filesystem("memory").pipe("/shards/a.arrow", content)
        entry["uri"] = "memory://shards/a.arrow"

    run = load_run(make_run(edit=to_memory))
    assert run.shards[0].parent == tmp_path / "cache"

    def altered(content):
        to_memory(content)
        content["shards"][0]["sha256"] = "1" * 64

    with pytest.raises(InputError, match="the run names 1111"):
        load_run(make_run("other", edit=altered))

"""Where a run starts: the weights of a folder, their ids, and what is refused before step 0."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from curate.corpus.errors import InputError
from train.__main__ import main
from train.huggingface import config_of, read_folder, write_names
from train.initial import PER_ID, describe, initial_weights, spec_of, token_ids
from train.model import Model, ModelSpec
from train.runfile import load_run

SPECIALS = {"bos": 0, "eos": 1, "pad": 2}
RunMaker = Callable[..., Path]


@pytest.fixture
def foreign(tmp_path: Path, make_run: RunMaker) -> Path:
    """A model made elsewhere: another family, and rows for ids that the tokenizer has not."""
    torch.manual_seed(5)
    spec = ModelSpec(
        architecture="llama", vocab_size=200, depth=2, width=32, heads=2, row_tokens=48
    )
    model = Model(spec)
    torch.nn.init.normal_(model.objective.head)
    folder = tmp_path / "foreign"
    folder.mkdir()
    save_file(write_names(spec, model.state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_of(spec, SPECIALS)))
    shutil.copy(make_run("other").parent / "tokenizer.json", folder)
    return folder


def _from(folder: Path, tokenizer: Path) -> Callable[[dict[str, Any]], None]:
    """Return an edit that makes a run start from a folder, as the command line does."""

    def edit(content: dict[str, Any]) -> None:
        content["initial"] = describe(folder, tokenizer)
        content["config"]["init_from"] = str(folder)

    return edit


def test_a_run_starts_from_a_models_weights_and_says_so_in_its_lineage(
    make_run: RunMaker, foreign: Path
) -> None:
    tokenizer = foreign / "tokenizer.json"
    path = make_run(steps=1, rewarm=1e-9, edit=_from(foreign, tokenizer))
    run = load_run(path)
    spec = spec_of(run)
    assert spec is not None
    assert (spec.architecture, spec.depth, spec.vocab_size) == ("llama", 2, 70)
    result = train.run(path)
    _, ours = read_folder(foreign)
    _, trained = read_folder(path.parent / "model")
    assert trained.keys() == ours.keys()
    for name, tensor in trained.items():
        rows = slice(70) if name in PER_ID else slice(None)
        torch.testing.assert_close(tensor[rows], ours[name][rows], rtol=0, atol=1e-5)
    lineage = json.loads((path.parent / "model" / "lineage.json").read_text())
    parent = lineage["initial"]
    assert parent == result["initial"] == {k: v for k, v in run.initial.items() if k != "spec"}  # type: ignore[union-attr]
    assert lineage["identity"]["initial"] == parent["sha256"]

    own = describe(path.parent, tokenizer)
    assert own["folder"] == str(path.parent / "model")
    assert own["sha256"] == lineage["weights_sha256"]
    assert (own["run"], own["corpus"]["name"]) == ("tiny", "tiny")


def test_a_trained_model_goes_on_without_forgetting(make_run: RunMaker, foreign: Path) -> None:
    """Its weights have the scale of other trainers', far from that of our own embedding."""
    weights = load_file(foreign / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] *= 0.02
    save_file(weights, foreign / "model.safetensors")
    tokenizer = foreign / "tokenizer.json"
    found = describe(foreign, tokenizer)["scales"]
    assert found == pytest.approx({"embedding": 0.02, "head": 0.02}, rel=0.05)
    first = make_run("first", steps=80, edit=_from(foreign, tokenizer))
    learned = train.run(first)["held_out"]["model"]["nats_per_target"]
    again = make_run("again", steps=20, edit=_from(first.parent, tokenizer))
    assert train.run(again)["held_out"]["model"]["nats_per_target"] < learned + 0.1


def test_rows_of_ids_that_no_tokenizer_gives_are_cut(make_run: RunMaker, foreign: Path) -> None:
    run = load_run(make_run(edit=_from(foreign, foreign / "tokenizer.json")))
    weights = initial_weights(run)
    _, ours = read_folder(foreign)
    for name in PER_ID:
        assert weights[name].shape == (128, 32)
        assert torch.equal(weights[name], ours[name][:128])


def test_another_start_is_refused_and_a_resumed_run_needs_the_folder_no_more(
    make_run: RunMaker, foreign: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = foreign / "tokenizer.json"
    path = make_run(steps=2, checkpoint_every=1, edit=_from(foreign, tokenizer))
    train.run(path)
    shutil.rmtree(path.parent / "checkpoints" / "step-000000002")
    (path.parent / "result.json").unlink()
    weights = load_file(foreign / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, foreign / "model.safetensors")

    untouched = make_run("again", edit=_from(foreign, tokenizer))
    content = json.loads(untouched.read_text())
    content["initial"]["sha256"] = json.loads(path.read_text())["initial"]["sha256"]
    untouched.write_text(json.dumps(content))
    assert main([str(untouched)]) == 2
    assert "bring those back, or train again for a new run" in capfd.readouterr().err
    assert not (untouched.parent / "model").exists()

    shutil.rmtree(foreign)
    assert main([str(untouched)]) == 2
    assert "which is gone; bring it back" in capfd.readouterr().err
    assert main([str(path)]) == 0
    assert "resuming after step 1" in capfd.readouterr().out
    content = json.loads(path.read_text())
    content["initial"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    (path.parent / "result.json").unlink()
    assert main([str(path)]) == 2
    assert "begun with other settings (initial:" in capfd.readouterr().err


def _refused(*arguments: Any) -> str:
    with pytest.raises(InputError) as refused:
        describe(*arguments)
    return str(refused.value)


def test_folders_that_cannot_be_a_start_are_refused(make_run: RunMaker, foreign: Path) -> None:
    tokenizer = foreign / "tokenizer.json"
    other = foreign.parent / "other.json"
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["w8"], vocabulary["w9"] = vocabulary["w9"], vocabulary["w8"]
    other.write_text(json.dumps(content))
    told = _refused(foreign, other)
    assert "2 of its 70 tokens have other ids, such as 'w8': 9, there 8" in told
    assert f"tokenize: {{tokenizer: {{path: {tokenizer}}}}}" in told
    assert "there is no folder" in _refused("nowhere/at-all", tokenizer)
    unfinished = make_run("unfinished")
    assert "has no model yet" in _refused(unfinished.parent, tokenizer)
    assert "no config.json" in _refused(foreign.parent, tokenizer)
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**config, "model_type": "llamma"}))
    assert "Did you mean 'llama'?" in _refused(foreign, tokenizer)
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "tokenizer.json").unlink()
    assert "no tokenizer.json" in _refused(foreign, other)


def test_a_model_with_fewer_rows_than_ids_is_refused(make_run: RunMaker, foreign: Path) -> None:
    tokenizer = foreign / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["added_tokens"] = [{"id": 200, "content": "<|new|>"}]
    tokenizer.write_text(json.dumps(content))
    assert "has 200 ids, its tokenizer 201" in _refused(foreign, tokenizer)
    unigram = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": None}
    tokenizer.write_text(json.dumps(unigram))
    assert token_ids(tokenizer) == {"a": 0, "b": 1}
    tokenizer.write_text("{}")
    assert "no vocabulary" in _refused(foreign, tokenizer)


def test_a_run_file_that_does_not_tell_its_start_is_refused(make_run: RunMaker) -> None:
    path = make_run(init_from="somewhere")
    with pytest.raises(InputError, match="'initial' is missing"):
        load_run(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "initial": {"folder": "somewhere"}}))
    with pytest.raises(InputError, match="it has a 'sha256'"):
        load_run(path)


def test_rewarming_scales_every_rate(make_run: RunMaker, foreign: Path) -> None:
    tokenizer = foreign / "tokenizer.json"
    rates = []
    for folder, rewarm in (("whole", None), ("half", 0.5)):
        path = make_run(folder, steps=3, rewarm=rewarm, edit=_from(foreign, tokenizer))
        train.run(path)
        lines = (path.parent / "metrics.jsonl").read_text().splitlines()
        rates.append([json.loads(line)["learning_rate"] for line in lines])
    assert rates[1] == [rate / 2 for rate in rates[0]]

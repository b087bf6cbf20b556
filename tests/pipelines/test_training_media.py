"""A corpus of images is trained on as one of text is: prepared, trained, gone on from, told."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from curate.corpus.errors import InputError
from pipelines.corpus import open_corpus
from pipelines.report.run import run_data
from pipelines.runs import find_run
from pipelines.training import prepare_run
from train.__main__ import main
from train.runfile import load_run

TINY = {"depth": 1, "width": 32, "heads": 2, "batch_rows": 4, "steps": 2, "threads": 1}
TINY |= {"dtype": "float32", "device": "cpu"}


def _images(lab, base):
    (base / "files").mkdir()
    random = np.random.default_rng(0)
    for i in range(24):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 40)).save(base / "files" / f"{i}.png")
    recipe = lab.recipe(
        base,
        schema="image",
        sources=[{"name": "files", "paths": ["files/*"]}],
        tokenize={"image": {"size": 16, "channels": 3, "patch": 4}},
        split={"validation": 0.2, "test": 0.0},
        pack={},
    )
    lab.run(recipe, base / "store")
    return open_corpus("tiny", store=str(base / "store"))


def test_images_are_trained_on_and_another_task_goes_on_from_them(lab, tmp_path):
    corpus = _images(lab, tmp_path)
    path = prepare_run(corpus, {**TINY, "objective": "simclr"})
    run = load_run(path)
    assert {name: run.media[name] for name in ("kind", "size", "channels", "patch")} == {
        "kind": "image", "size": 16, "channels": 3, "patch": 4,
    }  # fmt: skip
    assert (run.tokenizer, run.vocab_size, run.row_tokens) == (None, 0, 16)
    assert main([str(path), "--json"]) == 0
    result = json.loads((path.parent / "result.json").read_text())
    assert result["objective"] == "simclr"
    assert result["sample"] is None
    data = run_data(find_run(str(path), store=corpus.store), corpus)
    assert data["result"]["steps"] == 2
    assert "Tokenizer" not in [name for name, _ in data["lineage"]]

    again = prepare_run(corpus, {**TINY, "objective": "moco", "init_from": str(path.parent)})
    content = json.loads(again.read_text())
    assert content["config"]["objective"] == "moco"
    assert content["initial"]["spec"]["objective"] == "simclr"
    with pytest.raises(InputError, match="next_token needs text"):
        load_run(prepare_run(corpus, TINY))
    with pytest.raises(InputError, match="replay is for corpora of text"):
        prepare_run(corpus, {**TINY, "objective": "simclr", "replay_corpus": "tiny@1"})


def test_sounds_are_trained_on(lab, tmp_path):
    (tmp_path / "files").mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        tone = np.sin(np.cumsum(random.uniform(0.1, 1, 2400 + 300 * i)))
        soundfile.write(tmp_path / "files" / f"{i}.wav", (9000 * tone).astype(np.int16), 8000)
    sources = [{"name": "files", "paths": ["files/*"]}]
    asked = {"schema": "audio", "sources": sources, "tokenize": {}, "pack": {}}
    lab.run(lab.recipe(tmp_path, **asked), tmp_path / "store")
    corpus = open_corpus("tiny", store=str(tmp_path / "store"))
    path = prepare_run(corpus, {**TINY, "objective": "next_frame"})
    assert main([str(path), "--json"]) == 0
    assert json.loads((path.parent / "result.json").read_text())["unit"] != "nats"

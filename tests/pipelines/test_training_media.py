"""A corpus of images is trained on as one of text is: prepared, trained, gone on from, told."""

import json
import re
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from curate.corpus.errors import InputError
from pipelines import training
from pipelines.corpus import open_corpus
from pipelines.report.run import render_run, run_data
from pipelines.runs import find_run
from pipelines.training import prepare_run
from train.__main__ import main
from train.rows import open_rows
from train.runfile import load_run

TINY = {"depth": 1, "width": 32, "heads": 2, "batch_rows": 4, "steps": 2, "threads": 1}
TINY |= {"dtype": "float32", "device": "cpu"}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, capsys):
    """Let the trainer answer here: starting Python and torch anew takes seconds."""

    def call(arguments, *, processes=1, on_line=None):
        capsys.readouterr()
        assert main(arguments) == 0
        for line in capsys.readouterr().out.splitlines():
            on_line(line)

    monkeypatch.setattr(training, "call", call)


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
        deduplicate={"near": None},
        tokenize={"image": {"size": 16, "channels": 3, "patch": 4}},
        split={"validation": 0.2, "test": 0.0},
        pack={},
    )
    lab.run(recipe, base / "store")
    return open_corpus("tiny", store=str(base / "store"))


def _check_page(run, corpus):
    """Assert that a run's page counts images, shows its own numbers, and runs nothing."""
    page = render_run(run_data(run, corpus))
    assert "Images read" in page
    assert "Patches a second" in page
    assert "<b>Nats a target</b>" in page
    assert "<b>effective rank</b>" in page, "health has curves"
    assert re.search(r"<dt>Accuracy</dt><dd>[01]\.\d{3}<small>held out; training", page)
    assert re.search(r'<th scope="row">all</th><td class="r">4</td>', page), "a held-out table"
    assert "Bits a byte" not in page
    assert not re.search(r"tokens?\b", page.partition("Training config")[0].lower())
    assert "data:image/jpeg" in page
    assert "img-src data:;" in page
    lines = (run.folder / "metrics.jsonl").read_text()
    hostile = "<img src=x onerror='window.ran = 1'> \u202e"
    (run.folder / "metrics.jsonl").write_text(lines.replace('"files"', json.dumps(hostile)))
    page = render_run(run_data(run, None))
    (run.folder / "metrics.jsonl").write_text(lines)
    assert "onerror=&#39;" in page
    assert "<img" not in page
    assert "U+202E" in page


def test_images_are_trained_on_and_another_task_goes_on_from_them(lab, tmp_path):
    corpus = _images(lab, tmp_path)
    path = prepare_run(corpus, {**TINY, "objective": "simclr", "eval_every": 1})
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
    assert (data["read"], data["task"]["per"]) == (8, "nats a target")
    _check_page(find_run(str(path), store=corpus.store), corpus)
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
    asked |= {"deduplicate": {"near": None}}
    lab.run(lab.recipe(tmp_path, **asked), tmp_path / "store")
    corpus = open_corpus("tiny", store=str(tmp_path / "store"))
    path = prepare_run(corpus, {**TINY, "objective": "next_frame"})
    assert main([str(path), "--json"]) == 0
    assert json.loads((path.parent / "result.json").read_text())["unit"] != "nats"


def test_pairs_of_sounds_are_trained_on_with_all_of_each_sound(lab, tmp_path):
    random, sizes = np.random.default_rng(0), [800 + 170 * i for i in range(12)]
    for i, size in enumerate(sizes):
        (tmp_path / "files").mkdir(exist_ok=True)
        sound = random.integers(-9000, 9000, size).astype(np.int16)
        soundfile.write(tmp_path / "files" / f"{i:03}.wav", sound, 8000)
        (tmp_path / "files" / f"{i:03}.txt").write_text(f"noise of {size} samples")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for file in sorted((tmp_path / "files").iterdir()):
            archive.add(file, file.name)
    recipe = lab.recipe(
        tmp_path,
        schema="pair",
        sources=[{"name": "tar", "paths": ["all.tar"]}],
        deduplicate={"near": None},
        tokenize={"audio": {"max_seconds": 1}, "tokenizer": {"bytes": True}, "caption_tokens": 30},
        split={"validation": 0.25, "test": 0.0},
        pack={},
    )
    lab.run(recipe, tmp_path / "store")
    corpus = open_corpus("tiny", store=str(tmp_path / "store"))
    path = prepare_run(corpus, {**TINY, "objective": "clip"})
    store = open_rows(path)
    found = {}
    for name in ("train", "validation"):
        block = store.read(name, np.arange(store.plans[name].num_rows))
        captions = [bytes((c[c > 24] - 25).astype(np.uint8)).decode() for c in block.captions]
        found |= dict(zip(captions, block.lengths.tolist(), strict=True))
        assert block.samples.shape[1] == 100 * 80, "a row has room for a second"
    assert found == {f"noise of {size} samples": size for size in sizes}
    assert main([str(path), "--json"]) == 0
    result = json.loads((path.parent / "result.json").read_text())
    assert result["held_out"]["metrics"].keys() == {"caption_of_media", "media_of_caption"}

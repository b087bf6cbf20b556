"""Going on from weights: sizes from the folder, replayed rows, and refusals before any writing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.corpus.errors import InputError
from pipelines import trainer, training
from pipelines.corpus import Corpus
from pipelines.training import load_config, prepare_run
from train.__main__ import main
from train.rows import open_rows

TINY = {
    "depth": 1,
    "width": 32,
    "heads": 2,
    "batch_rows": 4,
    "steps": 2,
    "threads": 1,
    "dtype": "float32",
    "device": "cpu",
}
SHORT = {name: TINY[name] for name in ("batch_rows", "steps", "threads", "dtype", "device")}


@pytest.fixture(scope="module")
def corpora(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An old corpus, a model trained on it, and new corpora with its tokenizer and another."""
    base = tmp_path_factory.mktemp("start")
    store = base / "store"
    lab.jsonl(base / "old" / "old.jsonl", [{"text": lab.text(i)} for i in range(60)])
    lab.jsonl(base / "new" / "new.jsonl", [{"text": lab.text(200 + i)} for i in range(40)])
    old = lab.recipe(base, name="old", sources=[{"name": "notes", "paths": ["old/*.jsonl"]}])
    lab.run(old, store)
    corpus = lab.open("old", store=str(store))
    path = prepare_run(corpus, TINY)
    assert main([str(path), "--json"]) == 0
    model = path.parent / "model"
    new = {"sources": [{"name": "notes", "paths": ["new/*.jsonl"]}]}
    phases = [
        {"name": "first", "budget": "3K tokens", "weights": {"notes": 1}},
        {"name": "anneal", "budget": "1K tokens", "weights": {"notes": 1}},
    ]
    given = {"tokenize": {"tokenizer": {"path": str(model / "tokenizer.json")}}}
    short = {"pack": {"row_tokens": 32}}
    for name, sections in {
        "new": {**new, **given, "mix": {"phases": phases}},
        "alien": new,
        "short": {**new, **given, **short},
    }.items():
        lab.run(lab.recipe(base, name=name, **sections), store)
    opened = {name: lab.open(name, store=str(store)) for name in ("new", "alien", "short")}
    return {"old": corpus, "run": path.parent, "base": base, **opened}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Let the trainer answer here: starting Python and torch anew takes seconds."""

    def call(arguments: list[str], *, processes: int = 1, on_line: Any = None) -> None:
        capsys.readouterr()
        if main(arguments):
            raise InputError(capsys.readouterr().err.removeprefix("error: ").strip())
        for line in capsys.readouterr().out.splitlines():
            on_line(line)

    monkeypatch.setattr(training, "call", call)


def _spans(corpus: Corpus, plan: str) -> list[tuple[tuple[int, ...], ...]]:
    """Return a corpus's rows as tuples of spans."""
    rows = corpus.table(f"plan_{plan}").collect()["spans"].to_list()
    return [tuple(tuple(span.values()) for span in row) for row in rows]


def _split(path: Path, plan: str, new: Corpus) -> tuple[list[Any], list[Any]]:
    """Return a run's rows of the new corpus and of the old, as the corpora have them."""
    content = json.loads(path.read_text())
    store = open_rows(path)
    shards, sources = len(new.shards("tokens")), len(new.manifest("pack").settings["sources"])
    read = store.plans[plan]
    firsts = np.searchsorted(store.shards.first, read.ordinals, side="right") - 1
    found: tuple[list[Any], list[Any]] = ([], [])
    for row in range(read.num_rows):
        spans = []
        here = slice(int(read.first[row]), int(read.first[row + 1]))
        for i in range(here.start, here.stop):
            old = int(firsts[i]) >= shards
            spans.append(
                (
                    int(firsts[i]) - shards * old,
                    int(read.ordinals[i] - store.shards.first[firsts[i]]),
                    int(read.starts[i]),
                    int(read.lengths[i]),
                    int(read.sources[i]) - sources * old,
                )
            )
        assert len({int(f) >= shards for f in firsts[here]}) == 1, "a row is of one corpus"
        found[int(firsts[here.start]) >= shards].append(tuple(spans))
    assert content["sources"] == ["notes", "old:notes"]
    return found


def test_replay_takes_its_share_of_old_rows_and_none_twice(
    corpora: dict[str, Any], tmp_path: Path
) -> None:
    new, old = corpora["new"], corpora["old"]
    config = {**SHORT, "init_from": str(corpora["run"]), "replay": 0.25}
    path = prepare_run(new, config, tmp_path / "a")
    content = json.loads(path.read_text())
    taken: Counter[Any] = Counter()
    there = Counter(_spans(old, "train"))
    total = 0
    for plan in ("train", "train_1"):
        mine, replayed = _split(path, plan, new)
        assert mine == _spans(new, plan), "every new row, in order"
        assert len(replayed) == round(len(mine) / 3)
        taken.update(replayed)
        total += len(mine) + len(replayed)
    assert not taken - there, "no old row comes twice"
    assert content["replay"]["rows"] == taken.total() == round(0.25 * total)
    assert content["replay"]["corpus"]["name"] == "old"
    for split in ("validation", "test"):
        mine, others = _split(path, split, new)
        assert mine == _spans(new, split)
        assert others == _spans(old, split)
    first = len(_split(path, "train", new)[0]) + len(_split(path, "train", new)[1])
    assert [phase["first_row"] for phase in content["phases"]] == [0, first]

    again = prepare_run(new, config, tmp_path / "b")
    assert again.parent.name == path.parent.name
    for name in ("run.json", "plan_train.arrow", "plan_validation.arrow"):
        assert (again.parent / name).read_bytes() == (path.parent / name).read_bytes()
    other = prepare_run(new, {**config, "seed": 3}, tmp_path / "a")
    assert _split(other, "train", new)[1] != _split(path, "train", new)[1]


def test_a_continued_run_measures_old_and_new_text(corpora: dict[str, Any], tmp_path: Path) -> None:
    config = {**SHORT, "init_from": str(corpora["run"])}
    path = prepare_run(corpora["new"], config, tmp_path)
    content = json.loads(path.read_text())
    assert (content["config"]["depth"], content["config"]["width"]) == (1, 32)
    assert content["replay"]["share"] == content["replay"]["rows"] == 0
    assert content["plans"]["train"][0]["uri"].startswith("/"), "nothing is replayed"
    assert main([str(path), "--json"]) == 0
    result = json.loads((path.parent / "result.json").read_text())
    assert sorted(result["held_out"]["sources"]) == ["notes", "old:notes"]
    assert result["initial"]["run"] == corpora["run"].name
    assert content["tokenizer"]["num_bytes"]["rows"] == content["tokenizer"]["vocab_size"]
    moved = shutil.copytree(corpora["run"] / "model", tmp_path / "moved")
    assert prepare_run(corpora["new"], {**config, "init_from": str(moved)}, tmp_path) == path
    assert json.loads(path.read_text())["initial"]["folder"] == str(moved)


def test_the_run_of_a_plain_config_is_what_it_was(corpora: dict[str, Any], tmp_path: Path) -> None:
    content = json.loads(prepare_run(corpora["new"], TINY, tmp_path).read_text())
    assert not {"initial", "replay"} & content.keys()
    assert content["sources"] == ["notes"]


@pytest.mark.parametrize(
    ("corpus", "config", "said"),
    [
        ("new", {"init_from": "RUN", "depth": 3}, "train.depth is 3, but the model in"),
        ("new", {"init_from": "RUN", "architecture": "llama"}, "leave architecture out"),
        ("new", {"init_from": "RUN", "replay": 0.9}, "which has .*give at most 0"),
        ("new", {"init_from": "BASE"}, "no config.json"),
        ("new", {"init_from": "RUN", "replay_corpus": "new"}, "the corpus that is trained on"),
        ("new", {"replay_corpus": "nothing"}, "nothing"),
        ("new", {"replay": 0.1}, "train.replay needs replay_corpus"),
        ("new", {"rewarm": 0.1}, "rewarm goes with init_from"),
        ("alien", {"init_from": "RUN"}, "tokens have other ids"),
        ("alien", {"replay_corpus": "old@1"}, "other tokenizers.*\nGive alien's recipe the old"),
        ("short", {"replay_corpus": "old", "replay": 0.1}, "rows of short@1 have 32 tokens"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_anything_is_written(
    corpora: dict[str, Any], tmp_path: Path, corpus: str, config: dict[str, Any], said: str
) -> None:
    names = {"RUN": str(corpora["run"]), "BASE": str(corpora["base"])}
    config = {name: names.get(str(value), value) for name, value in config.items()}
    with pytest.raises(InputError, match=said):
        prepare_run(corpora[corpus], config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_folder_is_named_from_where_the_config_stands(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.yaml"
    path.parent.mkdir()
    path.write_text("init_from: ../model\n")
    assert load_config(path)["init_from"] == str(tmp_path / "deep" / ".." / "model")
    path.write_text("init_from: /else/where\n")
    assert load_config(path)["init_from"] == "/else/where"


def test_every_shipped_config_is_found_by_its_name_and_reads() -> None:
    folder = Path(training.__file__).parents[1] / "train" / "configs"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for file in files:
        assert load_config(file.stem) == load_config(file)
    with pytest.raises(InputError, match="Did you mean 'simclr'"):
        load_config("simcrl")
    with pytest.raises(InputError, match="Shipped are: clip, "):
        load_config("zzz")


def _trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    file = tmp_path / "main.py"
    file.write_text(script)
    monkeypatch.setattr(trainer, "_TRAINER", file)


def test_a_refusal_of_the_trainer_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trainer(
        tmp_path,
        monkeypatch,
        "import sys\nprint('{}')\nprint('Warning', file=sys.stderr)\n"
        "sys.exit(print('error: no such plan\\ntry again', file=sys.stderr) or 2)\n",
    )
    lines: list[str] = []
    with pytest.raises(InputError, match="^no such plan\ntry again$") as refused:
        trainer.call(["run.json"], on_line=lines.append)
    assert lines == ["{}"]
    assert not isinstance(refused.value, trainer.StoppedError)
    with pytest.raises(InputError, match="processes is 0"):
        trainer.call([], processes=0)


def test_a_trainer_that_dies_is_told_from_one_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trainer(tmp_path, monkeypatch, "import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(trainer.StoppedError, match="signal SIGKILL: it said nothing"):
        trainer.call([])
    _trainer(tmp_path, monkeypatch, "raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    with pytest.raises(InputError, match="pip install"):
        trainer.call([])


def test_the_trainer_ends_with_what_watches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trainer(tmp_path, monkeypatch, "print('{}', flush=True)\nimport time\ntime.sleep(60)\n")

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.call([], on_line=stop)


def test_the_trainer_ends_when_what_watches_it_is_killed(tmp_path: Path) -> None:
    fake = tmp_path / "trainer.py"
    fake.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    watcher = (
        "import pathlib, sys\nfrom pipelines import trainer\n"
        f"trainer._TRAINER = pathlib.Path({str(fake)!r})\n"
        "trainer.call([], on_line=lambda line: print(line, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", watcher], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        for _ in iter(process.stdout.readline, b""):  # ends when nobody holds it any more
            pass
    deadline = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < deadline, "the trainer goes on without anybody"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # nobody may be there to bury it
    return not (status.exists() and ") Z " in status.read_text())

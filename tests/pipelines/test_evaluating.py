"""`preceptor evaluate` on a corpus that was built: every scorer, both tables, the same JSON."""

import contextlib
import io
import json

import pytest
from typer.testing import CliRunner

from pipelines import trainer
from pipelines.cli import app
from pipelines.corpus import open_corpus
from pipelines.evaluating import show_evaluation
from pipelines.training import prepare_run

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def run_json(archive, archive_store, tmp_path_factory):
    """A run on the archive whose model is handed off as it was drawn."""
    from train.handoff import hand_off
    from train.model import Model, ModelSpec
    from train.runfile import load_run

    corpus = open_corpus(archive.name, store=str(archive_store))
    config = {"depth": 1, "width": 32, "heads": 2, "steps": 1, "threads": 1, "device": "cpu"}
    path = prepare_run(corpus, config, tmp_path_factory.mktemp("runs"))
    run = load_run(path)
    spec = ModelSpec.of(run.config, vocab_size=run.vocab_size, row_tokens=run.row_tokens)
    hand_off(run, Model(spec), {"steps": 1, "rows": 1, "train_sources": {}, "held_out": None})
    return path


@pytest.fixture
def here(monkeypatch):
    """Let the trainer run in this process: starting another one takes seconds."""

    def call(arguments, on_line=None, **_):
        from train.__main__ import main

        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert main(list(arguments)) == 0
        for line in said.getvalue().splitlines():
            on_line(line)

    monkeypatch.setattr(trainer, "call", call)


def _invoke(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def test_the_tables_name_every_scorer_and_the_json_holds_the_same(run_json, here):
    shown = _invoke(run_json)
    assert shown.exit_code == 0
    told = json.loads(_invoke(run_json, "--json").output)
    assert told["scorers"] == ["model", "5-gram", "bigram", "unigram", "xz", "zstd", "zlib"]
    head = next(line for line in shown.output.splitlines() if line.startswith("source"))
    assert head.split() == ["source", "documents", "bytes", *told["scorers"]]
    last = next(line for line in shown.output.splitlines() if line.startswith("all "))
    assert last.split()[3:] == [f"{told['all'][s]['bits_per_byte']:.3f}" for s in told["scorers"]]
    assert "worse" in shown.output, "the model has learnt nothing"
    assert "Same targets" in shown.output


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run 'nothing'"):
        _invoke("nothing", "--store", tmp_path)


def test_what_cannot_be_told_is_not_claimed(capsys):
    part = {"documents": 1, "bytes": 10, "model": {"bits_per_byte": 1.0}}
    for name, lead, error in (("a", -0.5, 0.1), ("b", 0.5, 0.1), ("c", 0.1, 0.06), ("d", 1, None)):
        part[name] = {"bits_per_byte": 1 - lead, "difference": lead, "standard_error": error}
    result = {
        "corpus": {"name": "tiny", "version": 1},
        "split": "test",
        "scorers": ["model", "a", "b", "c", "d"],
        "sources": {"[red]x\x1b[2J": part, "y": part},
        "all": part,
        "documents_planned": 1234,
        "protocol": "Alone.",
        "left_out": "no compressors: why",
        "tasks": {"mine": {"acc,none": 0.25, "sample_len": 12}},
    }
    show_evaluation(result)
    shown = capsys.readouterr().out
    told = {line.split()[0]: line.rstrip() for line in shown.splitlines() if line.strip()}
    assert told["a"].endswith("better, by 5 standard errors")
    assert told["b"].endswith("worse, by 5 standard errors")
    assert told["c"].endswith("no difference that can be told")
    assert told["d"].endswith("one document: nothing to tell by")
    assert "1 of 1,234 documents. Alone." in shown
    assert "no compressors: why" in shown
    assert "0.2500" in shown
    assert "[red]x" in shown
    assert "\x1b" not in shown

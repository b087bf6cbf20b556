"""`preceptor probe` on a corpus that was built: labels from everywhere, tables, refusals."""

import contextlib
import io
import json

import polars as pl
import pytest
from typer.testing import CliRunner

from curate.corpus.errors import InputError
from pipelines import trainer
from pipelines.cli import app
from pipelines.corpus import open_corpus
from pipelines.probing import labelled, show_probe
from pipelines.runs import find_run
from pipelines.store import Store
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
    spec = ModelSpec.of(
        run.config, vocab_size=run.vocab_size, row_tokens=run.row_tokens, specials=run.specials
    )
    hand_off(run, Model(spec), {"steps": 1, "rows": 1, "train_sources": {}, "held_out": None})
    return path


@pytest.fixture
def here(monkeypatch):
    """Let the trainer run in this process: starting another one takes seconds."""

    def call(arguments, on_line=None, **_):
        import importlib

        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert importlib.import_module("train.probe").main(list(arguments[1:])) == 0
        for line in said.getvalue().splitlines():
            on_line(line)

    monkeypatch.setattr(trainer, "call", call)


@pytest.fixture
def documents(archive, archive_store):
    """The ids and sources of the corpus's documents."""
    corpus = open_corpus(archive.name, store=str(archive_store))
    return corpus.table("documents").select("doc_id", "key", "source", "meta").collect()


def _invoke(*arguments):
    return CliRunner().invoke(app, ["probe", *map(str, arguments)], catch_exceptions=False)


def test_sources_are_labels_and_the_table_says_what_the_json_does(
    run_json, archive_store, here, capsys
):
    asked = [run_json, "--labels", "source", "--k", "1", "--draws", "2", "--store", archive_store]
    told = json.loads(_invoke(*asked, "--no-tune", "--json").output)
    assert len(told["classes"]) >= 2
    assert {(r["probe"], r["control"]) for r in told["rows"]} == {
        (p, c) for p in ("linear", "knn") for c in ("untrained", "raw input")
    }
    for row in told["rows"]:
        assert row["difference"] == pytest.approx(row["ours"] - row["against"])
    show_probe(told)
    shown = capsys.readouterr().out
    assert f"{told['rows'][0]['ours']:.3f}" in shown
    assert "Split at random" in shown


def test_a_file_names_documents_by_id_and_groups_by_a_column(
    run_json, archive_store, documents, tmp_path
):
    path = tmp_path / "labels.csv"
    table = documents.with_columns(label=pl.lit("a"), who=pl.col("source"))
    table.select("doc_id", "label", "who").write_csv(path)
    run, store = find_run(str(run_json), store=Store(str(archive_store))), Store(str(archive_store))
    found = labelled(run, str(path), "who", store)
    assert found.columns == ["doc_id", "label", "group"]
    assert found["group"].to_list() == documents["source"].to_list()
    assert labelled(run, str(path), "source", store).sort("doc_id").equals(found.sort("doc_id"))
    with pytest.raises(InputError, match="column of the labels' file"):
        labelled(run, str(path), "nobody", store)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("doc_id,topic\n1,2\n", "label"),
        ("name,label\n1,2\n", "neither"),
        ("doc_id,label\nxyz,2\n", "no doc_id"),
        ("doc_id,label\n", "no document of"),
    ],
)
def test_a_file_that_labels_nothing_is_refused(run_json, archive_store, tmp_path, content, match):
    path, store = tmp_path / "labels.csv", Store(str(archive_store))
    path.write_text(content)
    run = find_run(str(run_json), store=store)
    with pytest.raises(InputError, match=match):
        labelled(run, str(path), None, store)
    for wrong in ("nothing.csv", "labels.txt", "meta:nothing_has_this"):
        with pytest.raises(InputError):
            labelled(run, wrong, None, store)


def test_labels_of_other_documents_of_one_class_or_too_few_are_refused(
    run_json, archive_store, documents, tmp_path, here
):
    path = tmp_path / "labels.jsonl"
    asked = [run_json, "--labels", path, "--store", archive_store]
    for table, match in (
        (pl.DataFrame({"doc_id": ["00" * 16] * 2, "label": ["a", "b"]}), "none of the"),
        (documents.select("doc_id", label=pl.lit("a")), "have the label 'a'"),
        (documents.select("doc_id", label=pl.int_range(pl.len()) % 2), "and 60 are wanted"),
    ):
        table.write_ndjson(path)
        with pytest.raises(InputError, match=match):
            _invoke(*asked, "--k", "60")
    with pytest.raises(InputError, match="--k is"):
        _invoke(*asked, "--k", "0,many")

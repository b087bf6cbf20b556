"""`python -m train probe` on a run of images that is anywhere: the arms, the refusals."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.datasets import load_digits

from curate.corpus.errors import InputError
from train.__main__ import main
from train.handoff import hand_off
from train.model import Model, ModelSpec
from train.probe import rows_of, shots_of
from train.runfile import load_run
from train.shards import Shards


def _runs():
    path = Path(__file__).resolve().parents[1] / "bench" / "objectives" / "runs.py"
    spec = importlib.util.spec_from_file_location("objective_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run_json(tmp_path_factory):
    """A run of 200 digits whose model is handed off as it was drawn."""
    pixels = (load_digits().images[:200] * 15.9).astype(np.uint8)[:, None]
    sizes = {"depth": 2, "width": 32, "heads": 2, "steps": 1}
    path = _runs().image_run(
        tmp_path_factory.mktemp("run"), pixels, patch=4, objective="rotation", **sizes
    )
    run = load_run(path)
    spec = ModelSpec.of(run.config, vocab_size=0, row_tokens=run.row_tokens, media=run.media)
    hand_off(run, Model(spec), {"steps": 1, "rows": 1, "train_sources": {}, "held_out": None})
    return path


def _labels(folder, ids, labels, groups=None):
    path = folder / "labels.parquet"
    columns = {"doc_id": [i.to_bytes(16, "big").hex() for i in ids], "label": labels}
    table = pa.table({**columns, **({} if groups is None else {"group": groups})})
    pa.parquet.write_table(table, path)
    return path


def test_every_arm_is_told_and_groups_are_kept_apart(run_json, tmp_path, capsys):
    target = load_digits().target[:200] % 2
    groups = [f"g{i % 7}" for i in range(200)]
    path = _labels(tmp_path, range(200), [f"is {t}" for t in target], groups)
    asked = ["probe", str(run_json), "--labels", str(path), "--k", "2", "--draws", "2"]
    asked += ["--no-tune"]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["classes"] == ["is 0", "is 1"]
    assert told["groups"] == 7
    assert {(r["probe"], r["control"]) for r in told["rows"]} == {
        (p, c) for p in ("linear", "knn") for c in ("untrained", "raw input")
    }
    assert sum(told["documents"].values()) == 200


def test_rows_are_the_documents_that_were_asked_for(run_json):
    run = load_run(run_json)
    rows = rows_of(run, Shards(run.shards), np.array([7, 3]))
    pixels = (load_digits().images[:200] * 15.9).astype(np.uint8)
    np.testing.assert_array_equal(rows.pixels[:, 0].numpy(), pixels[[7, 3]])
    assert rows.documents[:, 0].tolist() == [7, 3]


def test_labels_that_teach_nothing_are_refused_in_a_line(run_json, tmp_path, capsys):
    cases = (
        ([500, 501], ["a", "b"], None, "none of the 2"),
        (range(20), ["a"] * 20, None, "needs two or more"),
        (range(20), ["a"] * 19 + ["b"], None, "wanted"),
        (range(20), ["a", "b"] * 10, ["g"] * 20, "one group"),
    )
    for ids, labels, groups, match in cases:
        path = _labels(tmp_path, ids, labels, groups)
        assert main(["probe", str(run_json), "--labels", str(path)]) == 2
        assert match in capsys.readouterr().err


def test_a_number_of_labels_is_a_number():
    assert shots_of("10, all") == [10, None]
    with pytest.raises(InputError, match="--k is"):
        shots_of("0")

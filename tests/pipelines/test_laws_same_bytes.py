"""Same inputs, recipe and seed: the same files, names and bytes, however the work is run."""

import os
import random

import pytest

from pipelines.engine import DaskEngine

_CHILD = """
import json, sys
from pipelines.build import run
from pipelines.recipe import parse_recipe
spec = json.loads(sys.argv[1])
recipe = parse_recipe(spec["recipe"], base=spec["base"])
print(run(recipe, store=spec["store"]).version.fingerprint)
"""


def _same(lab, store, expected):
    found, wanted = lab.snapshot(store), lab.snapshot(expected)
    assert set(found) == set(wanted)
    assert found == wanted


def _fingerprint(lab, store):
    return lab.open("tiny", store=str(store)).version.fingerprint


def test_the_archive_shows_every_kind_of_trouble(lab, archive_store):
    corpus = lab.open("tiny", store=str(archive_store))
    lab.check_laws(corpus)
    assert len(corpus.shards("documents")) >= 20
    reasons = {r for row in lab.frame(corpus, "verdicts")["reasons"] for r in row}
    assert reasons >= {"duplicate:exact", "duplicate:near", "rule:recipe.long_enough"}
    assert "contaminated:bench" in reasons
    assert {"duplicate_key", "invalid_json", "no_text"} <= set(
        lab.frame(corpus, "quarantine")["reason"]
    )
    assert set(lab.frame(corpus, "verdicts")["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("seed", [1, 2])
def test_jobs_that_finish_in_any_order_write_the_same_bytes(
    lab, archive, archive_store, tmp_path, seed
):
    engine = lab.ShufflingEngine(seed)
    outcome, _ = lab.run(archive, tmp_path / "store", engine=engine)
    assert engine.jobs >= 100
    assert outcome.version.fingerprint == _fingerprint(lab, archive_store)
    _same(lab, tmp_path / "store", archive_store)


@pytest.mark.dask
def test_two_dask_workers_write_the_same_bytes(lab, archive, archive_store, tmp_path):
    with DaskEngine(2) as engine:
        outcome, _ = lab.run(archive, tmp_path / "store", engine=engine)
    assert outcome.version.fingerprint == _fingerprint(lab, archive_store)
    _same(lab, tmp_path / "store", archive_store)


def test_another_hash_seed_writes_the_same_bytes(lab, archive, archive_store, tmp_path):
    import yaml

    spec = {
        "recipe": yaml.safe_dump(archive.model_dump(mode="json")),
        "base": archive.base,
        "store": str(tmp_path / "store"),
    }
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = lab.child(_CHILD, spec, tmp_path, PYTHONHASHSEED=seed, POLARS_MAX_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == _fingerprint(lab, archive_store)
    _same(lab, tmp_path / "store", archive_store)


def test_the_order_in_which_folders_list_their_files_leaves_no_trace(
    lab, archive, archive_store, tmp_path
):
    real, shuffle, walked = os.walk, random.Random(3).shuffle, []

    def walk(top, *args, **options):
        for folder, folders, names in real(top, *args, **options):
            walked.append(folder)
            shuffle(names)
            yield folder, folders, names

    with lab.patched(os, "walk", walk):
        lab.run(archive, tmp_path / "store")
    assert walked, "the archive is listed by os.walk"
    _same(lab, tmp_path / "store", archive_store)


def test_the_order_of_the_paths_in_a_source_changes_no_table(lab, tmp_path):
    for name in "abc":
        lab.jsonl(tmp_path / f"{name}.jsonl", [{"text": lab.text(ord(name) + i)} for i in range(8)])
    contents = []
    for number, paths in enumerate((["a.jsonl", "b.jsonl", "c.jsonl"], ["c.jsonl", "*.jsonl"])):
        recipe = lab.recipe(tmp_path, sources=[{"name": "notes", "paths": paths}])
        outcome, _ = lab.run(recipe, tmp_path / f"store{number}")
        contents.append({name: m.content for name, m in outcome.manifests.items()})
    assert contents[0] == contents[1]

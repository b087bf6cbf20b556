"""The pack as a pass: layouts, phases, held-out rows of one source, groups, other modalities."""

import json
import shutil
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.corpus.errors import InputError
from curate.corpus.schema import SCHEMAS, tagged
from curate.corpus.shard import read_shard
from pipelines.packing import rows_told
from pipelines.passes import pack
from pipelines.passes.base import Workspace
from pipelines.store import Store
from pipelines.training import prepare_run
from pipelines.verify import verify
from train.rows import open_rows


def _rows(corpus: Any, plan: str) -> list[list[dict[str, int]]]:
    storage = corpus.store.storage
    shards = corpus.manifest("pack").tables[f"plan_{plan}"]
    return [row for s in shards for row in read_shard(storage, s)["spans"].to_pylist()]


@pytest.mark.parametrize("layout", ["stream", "padded", "document"])
def test_another_layout_runs_nothing_but_the_pack(lab, archive, archive_store, tmp_path, layout):
    store = tmp_path / "store"
    shutil.copytree(archive_store, store)
    packed = archive.pack.model_copy(update={"layout": layout})
    recipe = archive.model_copy(update={"pack": packed})
    outcome, executed = lab.run(recipe, store)
    assert set(executed) == {"pack"}
    corpus = lab.open("tiny", store=str(store))
    assert not list(verify(corpus))
    counts, told = corpus.manifest("pack").counts, rows_told(corpus.manifest("pack"))
    drawn = corpus.manifest("mix").counts["drawn_tokens"]
    assert counts["train_tokens"] + counts["train_left_out"] == drawn
    if layout == "document":
        assert f"{counts['train_left_out']:,} tokens beyond a row are left out" in told
    else:
        lab.check_laws(corpus)
        assert counts["train_left_out"] == 0
    if layout != "stream":
        assert all(len(row) == 1 for row in _rows(corpus, "train"))
    assert outcome.version.number == 2


def test_each_held_out_row_reads_one_source_and_each_training_row_whole_documents(
    lab, archive_store
):
    corpus = lab.open("tiny", store=str(archive_store))
    for split in ("validation", "test"):
        for row in _rows(corpus, split):
            assert len({span["source"] for span in row}) == 1
    lengths = {
        (ordinal, row): len(tokens)
        for ordinal, shard in enumerate(corpus.shards("tokens"))
        for row, tokens in enumerate(read_shard(corpus.store.storage, shard)["tokens"].to_pylist())
    }
    for span in (span for row in _rows(corpus, "train") for span in row):
        length = lengths[span["shard"], span["document"]]
        assert span["length"] in (64, length % 64)
    assert "no document that fits into a row is cut" in rows_told(corpus.manifest("pack"))


def test_a_curriculum_is_read_phase_by_phase(lab, tmp_path):
    lab.jsonl(tmp_path / "notes.jsonl", [{"text": lab.text(i)} for i in range(60)])
    lab.jsonl(tmp_path / "poems.jsonl", [{"text": lab.text(100 + i)} for i in range(40)])
    recipe = lab.recipe(
        tmp_path,
        sources=[{"name": n, "paths": [f"{n}.jsonl"]} for n in ("notes", "poems")],
        mix={
            "phases": [
                {"name": "first", "budget": "6K tokens", "weights": {"notes": 0.9, "poems": 0.1}},
                {"name": "anneal", "budget": "3K tokens", "weights": {"notes": 0, "poems": 1}},
            ]
        },
    )
    lab.run(recipe, tmp_path / "store")
    corpus = lab.open("tiny", store=str(tmp_path / "store"))
    assert not list(verify(corpus))
    draws = lab.frame(corpus, "draws")
    content = json.loads(prepare_run(corpus, {}).read_text())
    assert sorted(content["plans"]) == ["test", "train", "train_1", "validation"]
    info = corpus.manifest("pack").info["phases"]
    assert [phase["name"] for phase in info] == ["first", "anneal"]
    assert content["phases"] == [
        {"first_row": 0, "plan": "train", "epoch": 0},
        {"first_row": info[0]["rows"], "plan": "train_1", "epoch": 0},
    ]
    assert lab.frame(corpus, "plan_train_1").height == info[1]["rows"]
    with pytest.raises(InputError, match="unknown table 'plan_train_2'"):
        corpus.table("plan_train_2")
    store = open_rows(prepare_run(corpus, {}))
    seen = np.concatenate([block.tokens for block in store.batches(4, epochs=1)])
    assert len(seen) == sum(phase["rows"] for phase in info)
    for number, part in enumerate((seen[: info[0]["rows"]], seen[info[0]["rows"] :])):
        mine = draws.filter(draws["phase"] == number)
        asked = int((mine["tokens"] * mine["copies"]).sum())
        assert int((part != store.run.specials["pad"]).sum()) == asked > 0


def test_a_changed_document_moves_the_rows_of_its_group_only(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "_GROUP_ROWS", 12)
    records = [{"id": str(i), "text": lab.text(i)} for i in range(40)]
    for start in range(0, 40, 10):
        lab.jsonl(tmp_path / f"{start}.jsonl", records[start : start + 10])
    sources = [{"name": "notes", "paths": ["*.jsonl"], "columns": {"key": "id"}}]
    recipe = lab.recipe(
        tmp_path, sources=sources, tokenize={"tokenizer": {"bytes": True}}, split={"validation": 0}
    )
    plans = []
    for text in (lab.text(3), lab.text(3, words=90)):
        lab.jsonl(tmp_path / "0.jsonl", [*records[:3], {"id": "3", "text": text}, *records[4:10]])
        lab.run(recipe, tmp_path / "store")
        corpus = lab.open("tiny", store=str(tmp_path / "store"))
        plans.append([shard.sha256 for shard in corpus.shards("plan_train")])
    assert len(plans[0]) == len(plans[1]) > 2
    assert sum(a != b for a, b in zip(*plans, strict=True)) == 1


def test_images_pass_with_their_own_columns(tmp_path):
    space = Workspace(Store(str(tmp_path)), "tokenize")
    units = np.array([4, 16, 9, 4, 25, 16, 30], np.int64)
    pixels = np.arange(len(units) * 12, dtype=np.uint8)
    table = pa.table(
        {
            "doc_id": pa.array([bytes([i]) * 16 for i in range(len(units))], pa.binary(16)),
            "source": ["photos"] * len(units),
            "split": ["train"] * 5 + ["validation"] * 2,
            "units": pa.array(units),
            "pixels": pa.FixedSizeListArray.from_arrays(pixels, 12),
        }
    )
    with space.writer("images", tagged(table.schema, "images"), kind="arrow") as writer:
        writer.write(table)
        images = writer.commit()
    draws = {"doc_id": table["doc_id"][:5], "phase": [0] * 5, "domain": ["photos"] * 5}
    draws |= {"copies": [1, 2, 1, 1, 1], "tokens": units[:5]}
    held_out = {name: table[name][5:] for name in ("doc_id", "split", "source")}
    shards = {}
    for name, columns in (("draws", draws), ("held_out", held_out)):
        with space.writer(name) as writer:
            writer.write(pa.table(columns, schema=SCHEMAS[name]))
            shards[name] = writer.commit()
    settings = {"row_tokens": 30, "seed": 1, "sources": ["photos"], "phases": ["train"]}
    for layout, rows in (("packed", 3), ("document", 6), ("padded", 6)):
        told = {**settings, "layout": layout}
        train = pack.pack_group(space, 0, [images], [shards["draws"]], told)
        assert (train.counts["train_rows"], train.counts["train_tokens"]) == (rows, 74)
        held = pack.pack_held_out(space, [images], [shards["held_out"]], told)
        assert (held.counts["validation_rows"], held.counts["test_rows"]) == (2, 0)

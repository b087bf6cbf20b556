"""Losses per document: equal to a slow twin, whole after a kill, each step once, on any ranks."""

import hashlib
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pytest
import torch

import train
from curate.corpus.errors import InputError
from curate.corpus.schema import SCHEMAS
from train import feedback, loop
from train.rows import open_rows

QUIET = lambda *_: None  # noqa: E731


def _table(path):
    files = sorted((path.parent / "feedback").iterdir())
    return pa.concat_tables([pa.ipc.open_file(str(file)).read_all() for file in files])


def _files(path):
    return [file.name for file in sorted((path.parent / "feedback").iterdir())]


def _metrics(path):
    lines = (path.parent / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


def _bytes(path, table):
    """Write bytes per token id beside a run and name them in it."""
    file = path.parent / "token_bytes.arrow"
    with pa.ipc.new_file(str(file), table.schema) as sink:
        sink.write_table(table)
    content = json.loads(path.read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    content["tokenizer"]["num_bytes"] = {
        "uri": str(file),
        "sha256": digest,
        "rows": len(table),
        "bytes": file.stat().st_size,
    }
    path.write_text(json.dumps(content))


def _twin(path, units):
    """Sum each step's losses per document and count how often it was seen, token by token."""
    store, expected, seen = open_rows(path), {}, Counter()
    sizes = pa.ipc.open_file(str(path.parent / "token_bytes.arrow")).read_all()["num_bytes"]
    sizes = sizes.to_pylist()
    for step, losses in enumerate(units, 1):
        batch = store.run.batch_rows
        block = store.batch((step - 1) * batch, step * batch)
        for documents in block.documents:
            seen.update(set(documents[documents >= 0].tolist()))
        for place in zip(*np.nonzero(block.targets >= 0), strict=True):
            ordinal, target = int(block.documents[place]), int(block.targets[place])
            one = expected.setdefault((step, ordinal), [0, 0, 0.0, 0])
            one[0] += 1
            one[1] += sizes[target]
            one[2] += float(losses[place])
        for (at, ordinal), one in expected.items():
            if at == step:
                one[3] = seen[ordinal]
    return expected


def test_feedback_equals_a_slow_twin_and_sums_to_the_steps_loss(make_run, monkeypatch):
    path = make_run(steps=16, micro_rows=2, log_every=4, checkpoint_every=7)
    _bytes(path, pa.table({"num_bytes": [0] * 4 + [1 + i % 5 for i in range(66)]}))
    units, real = [], loop._update

    def noting(model, optimizer, batch, clip, ranks, observe=None):
        parts = []

        def both(rows, loss):
            parts.append(loss.units.numpy().copy())
            observe(rows, loss)

        found = real(model, optimizer, batch, clip, ranks, both if observe else None)
        units.append(np.concatenate(parts))
        return found

    monkeypatch.setattr(loop, "_update", noting)
    result = train.run(path, QUIET)
    table = _table(path)
    assert table.schema == SCHEMAS["feedback"]
    assert _files(path)[0] == "feedback-000000001-000000007.arrow"
    expected = _twin(path, units)
    found = {(row["step"], int.from_bytes(row["doc_id"], "big")): row for row in table.to_pylist()}
    assert len(found) == len(table)
    assert sorted(found) == sorted(expected)
    for key, row in found.items():
        tokens, size, nats, times = expected[key]
        assert (row["tokens"], row["bytes"], row["times_seen"]) == (tokens, size, times)
        assert row["loss_sum"] == pytest.approx(nats, rel=1e-9)
        assert row["source"] == ("books", "code", "web")[key[1] % 3]
        assert (row["run"], row["corpus"]) == ("tiny", "tiny@1")
    assert max(row["times_seen"] for row in found.values()) > 1, "several epochs"
    for line in _metrics(path):
        mine = table.filter(pc.equal(table["step"], line["step"]))
        assert pc.sum(mine["tokens"]).as_py() == line["targets"]
        assert pc.sum(mine["loss_sum"]).as_py() == pytest.approx(line["loss"] * line["targets"])
    for name, one in result["train_sources"].items():
        mine = table.filter(pc.equal(table["source"], name))
        nats, size = pc.sum(mine["loss_sum"]).as_py(), pc.sum(mine["bytes"]).as_py()
        assert pc.sum(mine["tokens"]).as_py() == one["targets"]
        assert one["bits_per_byte"] == pytest.approx(nats / np.log(2) / size)


def test_a_stopped_run_has_each_step_once_bit_for_bit_wherever_it_stopped(make_run):
    settings = {"log_every": 1, "checkpoint_every": 4, "steps": 11}
    undisturbed, stopped = make_run("a", **settings), make_run("b", **settings)
    train.run(undisturbed, QUIET)
    for stop in (3, 6, 9, 10):

        def progress(step, steps, line, stop=stop):
            if step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train.run(stopped, progress)
    (stopped.parent / "feedback/partial-1").write_bytes(b"cut short")
    train.run(stopped, QUIET)
    assert _files(stopped) == _files(undisturbed)
    assert _table(stopped).equals(_table(undisturbed))
    # A checkpoint that was lost: the file of its steps is cut to the one before.
    (stopped.parent / "checkpoints/step-000000011/state.json").unlink()
    train.run(stopped, QUIET)
    assert _table(stopped).equals(_table(undisturbed))


def test_a_file_that_reaches_beyond_the_step_is_cut(make_run):
    path = make_run(checkpoint_every=0, steps=9)
    train.run(path, QUIET)
    whole = _table(path)
    assert _files(path) == ["feedback-000000001-000000009.arrow"]
    run = train.runfile.load_run(path)
    feedback.Feedback.cut(_opened(run), 4)
    assert _files(path) == ["feedback-000000001-000000004.arrow"]
    assert _table(path).equals(whole.filter(pc.less_equal(whole["step"], 4)))
    feedback.Feedback.cut(_opened(run), 0)
    assert _files(path) == []


def _opened(run):
    store = open_rows(run.folder / "run.json")
    return feedback.Feedback(run, store.shards, store.plans)


def test_feedback_can_be_rare_or_off_and_sources_are_told_all_the_same(make_run):
    rare, off = make_run("a", feedback_every=5), make_run("b", feedback_every=0)
    results = [train.run(path, QUIET) for path in (rare, off)]
    assert set(_table(rare)["step"].to_pylist()) == {5, 10}
    assert not (off.parent / "feedback").exists()
    assert results[0]["train_sources"] == results[1]["train_sources"]


def test_how_often_a_document_was_seen_follows_from_the_plan_at_any_step(make_run, monkeypatch):
    def phases(content):
        content["plans"]["second"] = content["plans"]["validation"]
        content["phases"] += [
            {"first_row": 71, "plan": "second", "epoch": 0},
            {"first_row": 100, "plan": "train", "epoch": 5},
        ]

    run = train.runfile.load_run(make_run(edit=phases))
    notes, order = _opened(run), open_rows(run.folder / "run.json")
    seen = np.zeros(notes.num_docs, dtype=np.int64)
    for sample in range(180):
        if sample % 9 == 0:
            monkeypatch.setattr(feedback, "CHUNK", 7 + sample)
            assert np.array_equal(notes._seen_before(sample), seen)
        documents = order.batch(sample, sample + 1).documents
        seen[np.unique(documents[documents >= 0])] += 1


def test_there_are_slots_for_any_rows_of_the_stream(make_run):
    run = train.runfile.load_run(make_run())
    notes, store = _opened(run), open_rows(run.folder / "run.json")
    for rows in (1, 7, 200):
        slots = notes.slots(rows)
        for first in range(0, 300, 13):
            documents = store.batch(first, first + rows).documents
            needed = sum(1 + int((np.diff(row) != 0).sum()) for row in documents)
            assert needed <= slots


def test_a_full_disk_leaves_the_feedback_that_was_there(make_run, monkeypatch):
    path = make_run(steps=10)

    def full(stream, schema, **options):
        if len(list((path.parent / "feedback").glob("feedback-*"))) == 1:
            raise OSError(28, "No space left on device")
        return real(stream, schema, **options)

    real = pa.ipc.new_file
    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(InputError, match="step 10: .* cannot be written: .*No space left"):
        train.run(path, QUIET)
    assert _files(path) == ["feedback-000000001-000000005.arrow"]


def _measured(rows, units):
    sums = feedback.document_sums(rows, units, feedback.weights(np.arange(70)), 40)
    return feedback.measured(1, sums)


def test_a_document_whose_loss_is_not_finite_is_left_out(make_run):
    rows = train.data.as_rows(open_rows(make_run()).batch(0, 3))
    units = torch.rand(rows.targets.shape) * (rows.targets >= 0)
    whole = _measured(rows, units)
    bad = int(rows.documents[0, 0])
    units[rows.documents == bad] = float("nan")
    assert np.array_equal(_measured(rows, units), whole[whole[:, 1] != bad])
    assert bad in whole[:, 1]


def test_rows_shared_by_ranks_and_micro_batches_give_the_same_feedback(make_run):
    path = make_run(batch_rows=8)
    store, run = open_rows(path), train.runfile.load_run(path)
    rows = train.data.as_rows(store.batch(0, 8))
    units = torch.rand(rows.targets.shape) * (rows.targets >= 0)
    tables = []
    for parts in ([range(8)], [[0, 2], [4, 6], [1, 3], [5, 7]]):
        notes = _opened(run)
        notes.begin(0)
        some = [
            _measured(
                type(rows)(**{k: v[list(p)] for k, v in vars(rows).items() if v is not None}),
                units[list(p)],
            )
            for p in parts
        ]
        sources = notes.add(1, np.concatenate(some))
        notes.write()
        tables.append((_table(path).to_pylist(), sources))
    (alone, first), (shared, second) = tables
    assert np.allclose(first, second)
    nats = [[row.pop("loss_sum") for row in table] for table in (alone, shared)]
    assert alone == shared
    assert np.allclose(*nats)


def test_shards_without_ids_are_refused_before_the_first_step(make_run):
    run, store = train.runfile.load_run(make_run()), open_rows(make_run("b"))
    store.shards.batches = [one.drop_columns(["doc_id"]) for one in store.shards.batches]
    with pytest.raises(InputError, match=r"train\.feedback_every to 0"):
        feedback.Feedback(run, store.shards, store.plans)

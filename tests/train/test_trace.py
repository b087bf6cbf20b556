"""`train.trace` equals a slow twin that reads the stream, both ways, for phases, epochs, copies."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

import train
from curate.corpus.errors import InputError
from train.rows import open_rows
from train.trace import Tracer

STEPS = 40


def _again(content, path):
    """Give a run a second plan, with every document of the first one twice, cut elsewhere."""
    rows = pa.ipc.open_file(str(path)).read_all()["spans"].to_pylist()
    spans = [span for row in rows for span in row]
    halves = []
    for span in spans:
        cut = max(1, span["length"] // 3)
        halves.append([{**span, "length": cut}])
        if cut < span["length"]:
            halves.append([{**span, "start": span["start"] + cut, "length": span["length"] - cut}])
    table = pa.table({"spans": pa.array(rows + halves, pa.ipc.open_file(str(path)).schema[0].type)})
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=11)
    data = path.read_bytes()
    (entry,) = content["plans"]["train"]
    entry |= {"rows": len(table), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.fixture
def run(make_run, tmp_path):
    def edit(content):
        _again(content, tmp_path / "run" / "plan_train.arrow")
        content["phases"] = [
            {"first_row": 0, "plan": "validation", "epoch": 0},
            {"first_row": 17, "plan": "train", "epoch": 3},
        ]

    return make_run(edit=edit, batch_rows=5, steps=STEPS)


def _replayed(path):
    """Read the whole stream as the trainer does: [step, row, T] of documents, and the keys."""
    store = open_rows(path)
    batches = [store.batch(5 * step, 5 * step + 5) for step in range(STEPS)]
    return store, batches


def test_a_step_is_what_the_trainer_reads(run):
    tracer, (store, batches) = Tracer.open(run), _replayed(run)
    seen = np.zeros(len(store.shards.lengths), dtype=int)
    for step, block in enumerate(batches, 1):
        spans = tracer.step(step)
        documents = np.full_like(block.documents, -1)
        sources, tokens = np.zeros_like(documents), np.full_like(documents, 2)
        for i in range(len(spans)):
            start, length = int(spans.starts[i]), int(spans.lengths[i])
            place = spans.rows[i], slice(spans.positions[i], spans.positions[i] + length)
            documents[place], sources[place] = spans.ordinals[i], spans.sources[i]
            tokens[place] = store.shards.tokens(spans.ordinals[i])[start : start + length]
        assert np.array_equal(documents, block.documents)
        assert np.array_equal(tokens, block.tokens)
        assert np.array_equal(sources, block.sources)
        assert (spans.steps == step).all()
        keys = {tuple(key) for key in block.keys[:, 1:].tolist()}
        assert set(zip(spans.epochs.tolist(), spans.plan_rows.tolist(), strict=True)) == keys
        np.add.at(seen, spans.ordinals, 1)
    assert seen.max() > 4


def test_a_document_is_where_a_replay_finds_it_and_nowhere_else(run):
    tracer, (store, batches) = Tracer.open(run), _replayed(run)
    for ordinal in (0, 7, 30, 31, 59):
        spans = tracer.document([ordinal], steps=STEPS)
        found = {
            (int(step), int(row), int(position) + k)
            for step, row, position, length in zip(
                spans.steps, spans.rows, spans.positions, spans.lengths, strict=True
            )
            for k in range(int(length))
        }
        wanted = {
            (step, int(row), int(place))
            for step, block in enumerate(batches, 1)
            for row, place in np.argwhere(block.documents == ordinal)
        }
        assert found == wanted
        assert len(found) == spans.lengths.sum()
        assert (np.diff(spans.steps) >= 0).all()
        (again,) = tracer.find(store.shards.column("doc_id", [ordinal])[0].as_py().hex())
        assert again == ordinal


def test_an_epoch_reads_every_copy_once(run):
    tracer = Tracer.open(run)
    plan, first = tracer.plans["train"], 17
    epoch = tracer.at(np.arange(first, first + plan.num_rows))
    copies, of_copies = tracer.copies(epoch)
    order = np.lexsort([epoch.starts, copies, epoch.ordinals])
    for ordinal in np.unique(epoch.ordinals):
        mine = order[epoch.ordinals[order] == ordinal]
        assert set(of_copies[mine]) == {2}
        for copy in (1, 2):
            pieces = mine[copies[mine] == copy]
            ends = epoch.starts[pieces] + epoch.lengths[pieces]
            assert epoch.starts[pieces].tolist() == [0, *ends[:-1]]
            assert ends[-1] == tracer.shards.lengths[ordinal]


def test_ids_are_found_by_their_beginning(run):
    tracer = Tracer.open(run)
    assert tracer.find("0" * 31).tolist() == list(range(16))
    assert tracer.find("0" * 30).tolist() == list(range(60))
    assert tracer.find("0" * 30 + "1f").tolist() == [31]
    assert tracer.find("ff").tolist() == []


def test_a_step_that_is_none_is_refused(run):
    with pytest.raises(InputError, match="count from 1"):
        Tracer.open(run).step(0)


def test_tracing_needs_no_torch(run):
    code = (
        "import sys; from train.trace import Tracer; Tracer.open(sys.argv[1]).step(3); "
        "assert 'torch' not in sys.modules"
    )
    root = Path(train.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(run)], env=environment, check=True, timeout=60)

"""Rows without torch: resumed, shared among ranks, of withdrawn documents, of images, refused."""

import hashlib
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from curate.corpus.errors import InputError
from curate.tokens.packing import pack
from train.order import Order, Phase
from train.rows import IGNORE, RowReader, open_rows
from train.shards import Plan, Shards

PAD, EOS = 2, 1


def _write(path: Path, table: pa.Table, rows_per_batch: int | None = None) -> Path:
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=rows_per_batch)
    return path


def _ids(num: int) -> pa.Array:
    return pa.array([i.to_bytes(16, "big") for i in range(num)], pa.binary(16))


def _packed(folder: Path, shard: pa.Table, lengths: list[int], **options) -> tuple[Shards, Plan]:
    """Write one shard of documents and pack all of them; return what the trainer opens."""
    num = len(lengths)
    plan = pack(
        np.array(lengths, np.int64),
        np.ones(num, np.int32),
        _ids(num),
        shard=np.zeros(num, np.int32),
        document=np.arange(num, dtype=np.int32),
        source=np.arange(num, dtype=np.int16) % 2,
        seed=3,
        **options,
    )
    shards = Shards([_write(folder / "shard.arrow", shard, 3)])
    return shards, Plan([_write(folder / "plan.arrow", plan, 4)], shards, num_sources=2)


def _text(documents: list[list[int]], num_bytes: list[int] | None = None) -> pa.Table:
    tokens = pa.array(documents, pa.large_list(pa.uint16()))
    num_bytes = [len(d) for d in documents] if num_bytes is None else num_bytes
    return pa.table({"tokens": tokens, "num_bytes": pa.array(num_bytes, pa.int64())})


@pytest.mark.parametrize("ends", [(0, EOS), (0, PAD)])
def test_what_was_withdrawn_and_what_is_padding_is_never_a_target(tmp_path, ends):
    eos = ends[1]
    documents = [[0, *range(10, 10 + n), eos] for n in (3, 9, 0, 20, 5)]
    documents[1] = [PAD] * 11
    num_bytes = [4, 0, 1, 4, 4]
    lengths = list(map(len, documents))
    shards, plan = _packed(tmp_path, _text(documents, num_bytes), lengths, row_tokens=8)
    reader = RowReader(shards, row_tokens=8, pad=PAD, vocab_size=40, ends=ends)
    block = reader.read(plan, np.arange(plan.num_rows))
    for number, document in enumerate(documents):
        mine = block.documents == number
        assert np.array_equal(np.sort(block.tokens[mine]), np.sort(document))
        targets = np.sort(block.targets[mine & (block.targets != IGNORE)])
        assert targets.tolist() == ([] if number == 1 else sorted(document[1:]))
    assert (block.targets[block.documents < 0] == IGNORE).all()
    assert (block.tokens[block.documents < 0] == PAD).all()
    assert np.array_equal(reader.tokens(plan, np.arange(plan.num_rows)), block.tokens)


def test_a_masked_span_inside_a_document_is_no_target(tmp_path):
    shards, plan = _packed(tmp_path, _text([[0, 5, PAD, PAD, 6, EOS]]), [6], row_tokens=8)
    reader = RowReader(shards, row_tokens=8, pad=PAD, vocab_size=40, ends=(0, EOS))
    block = reader.read(plan, np.array([0]))
    assert block.targets[0].tolist() == [5, IGNORE, IGNORE, 6, EOS, IGNORE, IGNORE, IGNORE]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 60),
)
def test_ranks_share_the_stream_whatever_their_number(sizes, world, per_rank, first):
    plans = {f"p{i}": size for i, size in enumerate(sizes)}
    phases = [Phase(first_row=sum(sizes[:i]), plan=f"p{i}", epoch=0) for i in range(len(sizes))]
    order = Order(plans, phases, seed=5)
    last = first + world * per_rank

    def flat(parts):
        return [(plan, epoch, row) for plan, epoch, rows in parts for row in rows.tolist()]

    whole = flat(order.rows(first, last))
    assert whole == [flat(order.rows(n, n + 1))[0] for n in range(first, last)]
    for rank in range(world):
        assert flat(order.rows(first, last, rank=rank, world=world)) == whole[rank::world]
    assert order.sample_of(order.state(first)) == first
    once = flat(order.rows(0, sum(sizes)))
    assert sorted(once) == [(f"p{i}", 0, row) for i, n in enumerate(sizes) for row in range(n)]


def test_blocks_of_positions_join_without_a_seam():
    order = Order({"train": 10_000}, [Phase(first_row=0, plan="train", epoch=0)], seed=5)
    ((_, _, rows),) = order.rows(100, 9_900)
    assert np.array_equal(rows, order.order("train", 0).row_of(np.arange(100, 9_900)))
    assert sum(len(part) for _, _, part in order.rows(9_000, 31_000)) == 22_000


def test_killed_and_resumed_on_one_then_two_then_one_rank_gives_every_row_once(make_run):
    path = make_run(batch_rows=4)
    undisturbed = np.concatenate([b.keys for b in open_rows(path).batches(epochs=2)])
    num_rows = open_rows(path).plans["train"].num_rows
    for epoch in range(2):
        mine = undisturbed[undisturbed[:, 1] == epoch]
        assert sorted(mine[:, 2].tolist()) == list(range(num_rows))
    state, seen = None, []
    for world, steps in ((1, 2), (2, 3), (4, 1), (1, None)):
        ranks = [
            list(islice(open_rows(path).batches(rank=r, world=world, state=state, epochs=2), steps))
            for r in range(world)
        ]
        for blocks in zip(*ranks, strict=True):
            whole = np.empty((sum(len(b.keys) for b in blocks), 3), np.int64)
            for rank, block in enumerate(blocks):
                whole[rank::world] = block.keys
                assert block.state == blocks[0].state
            seen.append(whole)
        state = json.loads(json.dumps(ranks[0][-1].state))
    assert np.array_equal(np.concatenate(seen), undisturbed)


def test_the_last_batch_may_be_empty_on_a_rank_but_never_missing(make_run):
    store = open_rows(make_run())
    num_rows = store.plans["train"].num_rows
    size = num_rows + 1
    sizes = [
        [len(b.tokens) for b in store.batches(size * 2, rank=r, world=2 * size, epochs=1)]
        for r in range(2 * size)
    ]
    assert sizes == [[1]] * num_rows + [[0]] * (size * 2 - num_rows)


def test_states_ranks_plans_and_rows_that_do_not_fit_are_refused(make_run):
    store = open_rows(make_run())
    state = store.order.state(7)
    for wrong in ({**state, "seed": 1}, {**state, "cursor": 0}, {**state, "sample": -7}):
        with pytest.raises(InputError, match="another seed or other plans"):
            next(store.batches(2, state=wrong))
    for wrong in ({"step": 3}, [1], {1: 2, "seed": 0}, 7, "seed"):
        with pytest.raises(InputError, match="five integers"):
            next(store.batches(2, state=wrong))
    for rank, world, size in ((2, 2, 4), (0, 3, 4), (0, 1, 0)):
        with pytest.raises(InputError, match="multiple of the number of ranks"):
            next(store.batches(size, rank=rank, world=world))
    with pytest.raises(InputError, match="epochs is 0"):
        next(store.batches(2, epochs=0))
    with pytest.raises(InputError, match="Did you mean 'train'"):
        store.read("tain", [0])
    for rows in ([-1], [10**6]):
        with pytest.raises(InputError, match="has rows 0 to"):
            store.read("train", rows)
    assert store.read("train", []).tokens.shape == (0, 24)


def _spoil(content, kind):
    shard, plan = (Path(content[k]["uri"]) for k in ("shard", "plan"))
    if kind == "shard cut short":
        os.truncate(shard, shard.stat().st_size - 100)
    elif kind == "shard is no Arrow":
        shard.write_bytes(bytes(shard.stat().st_size))
    elif kind == "plan changed":
        data = bytearray(plan.read_bytes())
        data[len(data) // 2] ^= 1
        plan.write_bytes(data)
    else:
        shard.unlink()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("shard cut short", "was cut short or changed"),
        ("shard is no Arrow", "not a readable Arrow IPC file"),
        ("plan changed", "it changed since the run was resolved"),
        ("shard missing", "does not exist"),
    ],
)
def test_files_that_are_cut_short_changed_or_gone_are_refused(make_run, kind, said):
    def edit(content):
        _spoil({"shard": content["shards"][1], "plan": content["plans"]["train"][0]}, kind)

    with pytest.raises(InputError, match=said):
        open_rows(make_run(edit=edit))


def test_a_shard_that_was_changed_is_found_when_that_is_asked(make_run):
    def edit(content):
        for entry in content["shards"]:
            entry["sha256"] = hashlib.sha256(Path(entry["uri"]).read_bytes()).hexdigest()

    path = make_run(edit=edit)
    assert len(open_rows(path, verify=True).shards.lengths)
    shard = Path(json.loads(path.read_text())["shards"][1]["uri"])
    content = bytearray(shard.read_bytes())
    tokens = open_rows(path).shards.values[-1].tobytes()
    content[content.index(tokens)] ^= 1
    shard.write_bytes(content)
    assert len(open_rows(path).shards.lengths)
    with pytest.raises(InputError, match="it changed since the run was resolved"):
        open_rows(path, verify=True)


def test_a_run_without_shards_is_refused(make_run):
    def edit(content):
        content["shards"] = []

    with pytest.raises(InputError, match="names no shards"):
        open_rows(make_run(edit=edit))


def test_a_plan_of_other_shards_or_with_an_empty_row_is_refused(tmp_path):
    shards, plan = _packed(tmp_path, _text([[0, 5, EOS]]), [3], row_tokens=8)
    assert plan.num_rows == 1
    with pytest.raises(InputError, match="does not lie in the run's 1 shards"):
        _packed(tmp_path, _text([[0, 5, EOS]]), [4], row_tokens=8)
    kind = pa.list_(
        pa.struct([(n, pa.int64()) for n in ("shard", "document", "start", "length", "source")])
    )
    empty = _write(tmp_path / "empty.arrow", pa.table({"spans": pa.array([[]], kind)}))
    with pytest.raises(InputError, match="row 0 of the plan .* is empty"):
        Plan([empty], shards, num_sources=2)


def test_images_are_packed_by_their_units_and_read_by_their_own_columns(tmp_path):
    units = [4, 16, 9, 4, 25]
    pixels = np.arange(5 * 12, dtype=np.uint8).reshape(5, 12)
    shard = pa.table(
        {
            "units": pa.array(units, pa.int64()),
            "pixels": pa.FixedSizeListArray.from_arrays(pixels.reshape(-1), 12),
            "caption": ["a", "b", "c", "d", "e"],
        }
    )
    shards, plan = _packed(tmp_path, shard, units, row_tokens=30, layout="document")
    assert plan.num_rows == 5
    spans, ends = plan.spans_of(np.array([3, 0, 3]))
    assert ends.tolist() == [1, 2, 3]
    asked = plan.ordinals[spans]
    assert np.array_equal(shards.column("pixels", asked), pixels[asked])
    assert shards.column("units", asked).tolist() == [units[i] for i in asked]
    assert shards.column("caption", asked).to_pylist() == ["abcde"[i] for i in asked]
    with pytest.raises(InputError, match="Did you mean 'pixels'"):
        shards.column("pixel", asked)
    with pytest.raises(InputError, match="hold no tokens"):
        RowReader(shards, row_tokens=30, pad=PAD, vocab_size=40)
    packed = _packed(tmp_path, shard, units, row_tokens=30)[1]
    assert packed.num_rows == 2
    assert int(packed.lengths.sum()) == sum(units)


def test_reading_rows_needs_neither_torch_nor_pandas(make_run):
    code = (
        "import sys; from train.rows import open_rows; "
        "next(open_rows(sys.argv[1]).batches(2)); "
        "print([m for m in ('torch', 'pandas', 'polars', 'numba') if m in sys.modules])"
    )
    root = Path(train.__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(make_run())],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"

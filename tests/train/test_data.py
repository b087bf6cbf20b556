"""Rows, targets and order: equal to slow twins, and lawful."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data import Permutation, Phase, Plan, Reader, Shards, Stream
from train.runfile import load_run


def _open(path):
    run = load_run(path)
    shards = Shards(run.shards)
    plans = {k: Plan(v, shards, num_sources=3) for k, v in run.plans.items()}
    reader = Reader(shards, row_tokens=run.row_tokens, pad=2, vocab_size=run.vocab_size)
    return run, shards, plans, reader


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 50))
def test_a_permutation_is_a_bijection_and_its_inverse_is_right(size, seed, epoch):
    order = Permutation(size, key=(seed, epoch))
    rows = order.row_of(np.arange(size))
    assert np.array_equal(np.sort(rows), np.arange(size))
    assert np.array_equal(order.position_of(rows), np.arange(size))


def test_a_permutation_of_many_rows_needs_no_table_and_depends_on_its_key():
    size = 10**12 + 39
    positions = np.array([0, 1, 2, size - 1])
    orders = [Permutation(size, key=key) for key in ((7, 0), (7, 1), (8, 0))]
    rows = [tuple(order.row_of(positions).tolist()) for order in orders]
    assert len(set(rows)) == 3
    assert orders[0].position_of(np.array(rows[0])).tolist() == positions.tolist()


def test_neighbours_are_scattered():
    rows = Permutation(10_000, key=(1, 0)).row_of(np.arange(10_000))
    assert abs(np.corrcoef(rows, np.arange(10_000))[0, 1]) < 0.05
    assert (np.abs(np.diff(rows)) == 1).mean() < 0.01


def test_rows_equal_a_slow_twin(make_run):
    _, shards, plans, reader = _open(make_run())
    plan = plans["train"]
    rows = reader.rows(plan, np.arange(plan.num_rows), seed=5, epoch=2)
    for row in range(plan.num_rows):
        tokens, targets, sources, documents = [], [], [], []
        for i in range(plan.first[row], plan.first[row + 1]):
            text = shards.tokens(plan.ordinals[i]).tolist()
            for t in range(plan.starts[i], plan.starts[i] + plan.lengths[i]):
                tokens.append(text[t])
                targets.append(text[t + 1] if t + 1 < len(text) else -100)
                sources.append(int(plan.sources[i]))
                documents.append(int(plan.ordinals[i]))
        rest = reader.row_tokens - len(tokens)
        assert rows.tokens[row].tolist() == tokens + [2] * rest
        assert rows.targets[row].tolist() == targets + [-100] * rest
        assert rows.sources[row].tolist() == sources + [0] * rest
        assert rows.documents[row].tolist() == documents + [-1] * rest
        assert rows.keys[row].tolist() == [5, 2, row]


def test_each_text_token_and_end_is_a_target_exactly_once(make_run):
    _, shards, plans, reader = _open(make_run())
    plan = plans["validation"]
    rows = reader.rows(plan, np.arange(plan.num_rows))
    counted = rows.targets.numpy() >= 0
    for ordinal in plan.documents():
        mine = counted & (rows.documents.numpy() == ordinal)
        assert rows.targets.numpy()[mine].tolist() == shards.tokens(ordinal)[1:].tolist()


def test_shards_are_mapped_and_not_copied(make_run):
    _, shards, _, _ = _open(make_run())
    assert all(not values.flags.owndata and not values.flags.writeable for values in shards.values)
    assert shards.tokens(40).base is not None


def test_an_epoch_holds_every_row_once_whatever_the_batch(make_run):
    run, _, plans, reader = _open(make_run())
    stream = Stream(plans, run.phases, reader, seed=3)
    num_rows = plans["train"].num_rows
    for size in (1, 4, num_rows):
        steps = -(-num_rows // size)
        keys = np.concatenate([stream.batch(s, size).keys.numpy() for s in range(steps)])
        first = keys[keys[:, 1] == 0]
        assert sorted(first[:, 2].tolist()) == list(range(num_rows))
        assert keys[:num_rows].tolist() == [
            [3, 0, int(stream.order("train", 0).row_of(np.array([i]))[0])] for i in range(num_rows)
        ]


def test_a_mixture_that_changes_in_mid_run_changes_only_what_follows(make_run):
    run, _, plans, reader = _open(make_run())
    plans = {"train": plans["train"], "later": plans["validation"]}
    before = Stream(plans, run.phases, reader, seed=3)
    phases = [*run.phases, Phase(first_row=10, plan="later", epoch=4)]
    after = Stream(plans, phases, reader, seed=3)
    assert torch.equal(after.batch(0, 10).tokens, before.batch(0, 10).tokens)
    size = plans["later"].num_rows
    turns = list(after.rows(10, 10 + 2 * size))
    assert [(plan, epoch) for plan, epoch, _ in turns] == [("later", 4), ("later", 5)]
    assert all(sorted(rows.tolist()) == list(range(size)) for _, _, rows in turns)
    mixed = after.batch(4, 2 + 1)
    assert mixed.tokens.shape == (3, 24)
    assert after.state(11) == {"seed": 3, "sample": 11, "phase": 1, "epoch": 4, "cursor": 1}
    assert after.batch(3, 3).keys[:, 1].tolist() == [0, 4, 4]


def test_ids_of_another_tokenizer_are_refused(make_run):
    _, shards, plans, _ = _open(make_run())
    reader = Reader(shards, row_tokens=24, pad=2, vocab_size=20)
    with pytest.raises(ValueError, match="another tokenizer"):
        reader.rows(plans["train"], np.arange(5))
    short = Reader(shards, row_tokens=8, pad=2, vocab_size=70)
    with pytest.raises(ValueError, match="row_tokens = 8"):
        short.rows(plans["train"], np.arange(5))

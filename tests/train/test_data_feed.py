"""What feeds the loop: micro-batches, shares of ranks, rows read ahead, places of documents."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from train import data
from train.data import Plan, Reader, Shards, Stream, cu_seqlens
from train.objectives import Rows
from train.parallel import Ranks
from train.runfile import load_run


def _stream(path, **reader):
    run = load_run(path)
    shards = Shards(run.shards)
    plans = {k: Plan(v, shards, num_sources=3) for k, v in run.plans.items()}
    settings = {"row_tokens": run.row_tokens, "pad": 2, "vocab_size": run.vocab_size, **reader}
    return Stream(plans, run.phases, Reader(shards, **settings), seed=run.seed)


@pytest.fixture
def far(monkeypatch):
    """Return ranks on a device that is not the CPU, as far as the feed can tell."""
    monkeypatch.setattr(data, "_pinned", lambda rows: rows)
    monkeypatch.setattr(Rows, "to", lambda rows, _: rows)
    return Ranks(device=torch.device("meta"))


@pytest.mark.parametrize(("world", "micro"), [(1, None), (1, 3), (2, 1), (4, 8)])
def test_a_feed_gives_every_row_of_a_step_once(make_run, world, micro):
    stream = _stream(make_run())
    shares = [
        list(stream.feed(range(5, 9), 8, Ranks(rank=rank, world=world), micro_rows=micro))
        for rank in range(world)
    ]
    for step, ranks in zip(range(5, 9), zip(*shares, strict=True), strict=True):
        whole = stream.batch(step, 8)
        for rank, (parts, waited) in enumerate(ranks):
            assert [len(p.tokens) for p in parts[:-1]] == [micro] * (len(parts) - 1)
            assert torch.equal(torch.cat([p.tokens for p in parts]), whole.tokens[rank::world])
            assert torch.equal(torch.cat([p.keys for p in parts]), whole.keys[rank::world])
            assert waited >= 0


def test_rows_are_read_ahead_by_a_thread_in_order(make_run, far, monkeypatch):
    stream, names = _stream(make_run()), set()
    real = Stream.batch

    def batch(self, *arguments, **share):
        names.add(threading.current_thread().name)
        return real(self, *arguments, **share)

    plain = [stream.batch(step, 6).tokens for step in range(9)]
    monkeypatch.setattr(Stream, "batch", batch)
    fed = list(stream.feed(range(9), 6, far, micro_rows=4, documents=True))
    for (parts, _), tokens in zip(fed, plain, strict=True):
        assert torch.equal(torch.cat([p.tokens for p in parts]), tokens)
        assert {p.cu_seqlens.shape for p in parts} == {(stream.room.pieces(4) + 1,)}
    assert names == {"rows_0"}
    assert [len(list(stream.feed(range(3, n), 6, far))) for n in (3, 4, 6)] == [0, 1, 3]


def test_pieces_are_the_plans_spans_and_fit_their_bound(make_run):
    stream = _stream(make_run())
    for step in range(6):
        rows = stream.batch(step, 6)
        borders = rows.pieces.diff(dim=1) != 0
        assert torch.equal(borders, rows.documents.diff(dim=1) != 0)
        assert not rows.pieces[:, 0].any()
        bound = stream.room.pieces(6)
        found = cu_seqlens(rows.pieces, bound + 1)
        assert int((found < rows.tokens.numel()).sum()) == 6 + int(borders.sum()) <= bound
        rows.targets[:, 3] = -100  # a pad id inside a text is no border
        assert torch.equal(rows.pieces.diff(dim=1) != 0, borders)


def test_what_fails_in_the_thread_is_told_and_a_feed_that_is_left_ends_it(make_run, far):
    before = threading.active_count()
    feed = _stream(make_run()).feed(range(10**6), 6, far)
    next(feed)
    feed.close()
    assert threading.active_count() == before
    with pytest.raises(InputError, match="another tokenizer"):
        next(_stream(make_run("small"), vocab_size=20).feed(range(9), 6, far))
    assert threading.active_count() == before


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_places_of_documents_are_those_of_a_slow_twin(rows):
    length = max(map(sum, rows)) + 1
    documents, places = np.full((len(rows), length), -1), []
    for i, sizes in enumerate(rows):
        for number, size in enumerate(sizes):
            start = sum(sizes[:number])
            documents[i, start : start + size] = 10 * i + number
            places.append(i * length + start)
        places.append(i * length + sum(sizes))  # the padding
    found = cu_seqlens(torch.from_numpy(documents), len(places) + 3)
    assert found.dtype == torch.int32
    assert found.tolist() == [*places, *[documents.size] * 3]
    with pytest.raises(ValueError, match="were to hold"):
        cu_seqlens(torch.from_numpy(documents), len(places))

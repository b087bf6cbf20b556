"""Rows for `torch.utils.data`: any number of workers and ranks, killed and resumed, the same."""

import json
import pickle
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from curate.corpus.errors import InputError
from train.dataset import RowDataset, RowLoader, RowStream
from train.rows import open_rows

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")


def _keys(batches) -> list[list[int]]:
    return [key for batch in batches for key in batch["keys"].tolist()]


def test_a_dataset_gives_every_row_by_number(make_run):
    path = make_run()
    dataset, store = RowDataset(path, "validation"), open_rows(path)
    whole = store.read("validation", range(len(dataset)))
    for row in (0, 3, -1):
        item = dataset[row]
        assert item["tokens"].tolist() == whole.tokens[row].tolist()
        assert item["key"].tolist() == whole.keys[row].tolist()
    for row in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[row]
    batches = list(DataLoader(dataset, batch_size=4))
    assert torch.cat([b["targets"] for b in batches]).tolist() == whole.targets.tolist()
    again = pickle.loads(pickle.dumps(dataset))
    assert again[0]["tokens"].tolist() == whole.tokens[0].tolist()
    assert len(pickle.dumps(dataset)) < 1000, "what is mapped stays where it is"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_gives_the_run_s_stream(make_run, workers):
    path = make_run()
    expected = [key for block in open_rows(path).batches(epochs=1) for key in block.keys.tolist()]
    loader = RowLoader(path, epochs=1, workers=workers)
    assert _keys(loader) == expected
    assert len({tuple(key) for key in expected}) == len(expected) == loader.state_dict()["sample"]
    assert _keys(DataLoader(RowStream(path, epochs=1), batch_size=None)) == expected


def test_killed_and_resumed_with_other_ranks_and_workers_gives_the_same_rows_once(make_run):
    path = make_run(batch_rows=4)
    expected = [key for block in open_rows(path).batches(epochs=1) for key in block.keys.tolist()]
    seen, state = [], None
    for world, workers, steps in ((1, 0, 1), (2, 3, 2), (2, 0, 1), (1, 3, None)):
        shares, states = [], []
        for rank in range(world):
            loader = RowLoader(path, rank=rank, world=world, epochs=1, workers=workers)
            if state is not None:
                loader.load_state_dict(state)
            # Workers have read ahead when this stops; what they read does not count.
            shares.append([b["keys"].tolist() for b in islice(loader, steps)])
            states.append(loader.state_dict())
        assert all(one == states[0] for one in states)
        assert sorted(states[0]) == ["cursor", "epoch", "phase", "sample", "seed"]
        state = json.loads(json.dumps(states[0]))
        for blocks in zip(*shares, strict=True):
            merged = [None] * sum(map(len, blocks))
            for rank, block in enumerate(blocks):
                merged[rank::world] = block
            seen += merged
    assert seen == expected


def test_a_stream_says_where_it_stands_and_goes_on_there(make_run):
    path = make_run()
    stream = RowStream(path, epochs=1)
    first = list(islice(stream, 2))
    state = stream.state_dict()
    assert state["sample"] == int(first[-1]["next"]) == 6
    other = RowStream(path, epochs=1)
    other.load_state_dict(state)
    whole = _keys(RowStream(path, epochs=1))
    assert _keys(first) + _keys(other) == whole


def test_what_would_change_the_order_is_refused(make_run):
    path = make_run()
    with pytest.raises(InputError, match="shuffle would change the run's order"):
        RowLoader(path, shuffle=True)
    with pytest.raises(InputError, match="multiple of the number of ranks"):
        RowStream(path, batch_rows=3, rank=0, world=2)
    with pytest.raises(InputError, match="another seed or other plans"):
        RowLoader(path).load_state_dict({**RowLoader(path).state_dict(), "seed": 2})
    with pytest.raises(InputError, match="Did you mean 'validation'"):
        RowDataset(path, "valdation")
    for load in (RowLoader(path).load_state_dict, RowStream(path).load_state_dict):
        with pytest.raises(InputError, match=r"five integers by name, .*; got \[1\]"):
            load([1])

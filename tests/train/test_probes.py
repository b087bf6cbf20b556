"""The probe protocol: against slow twins, on digits that are anywhere, and what it must refuse."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from curate.corpus.errors import InputError
from train import probes
from train.model import Model, ModelSpec
from train.objectives import Rows

MEDIA = {"kind": "image", "size": 8, "channels": 1, "patch": 2}


@pytest.fixture(scope="module")
def digits():
    """400 images of 8 x 8 as rows, and their classes."""
    found = load_digits()
    pixels = (found.images[:400] * 15.9).astype(np.uint8)[:, None]
    zeros = torch.zeros(400, 1, dtype=torch.int64)
    keys = torch.tensor([[7, 0, row] for row in range(400)])
    rows = Rows(
        tokens=zeros,
        targets=zeros,
        sources=zeros,
        documents=torch.arange(400)[:, None],
        keys=keys,
        pixels=torch.from_numpy(pixels),
    )
    return rows, found.target[:400].astype(np.int64)


@pytest.fixture(scope="module")
def model():
    """A model that was not trained."""
    torch.manual_seed(0)
    spec = ModelSpec(
        objective="rotation",
        vocab_size=0,
        depth=2,
        width=32,
        heads=2,
        row_tokens=16,
        causal=False,
        media=MEDIA,
    )
    return Model(spec).eval()


def test_groups_are_in_one_part_alone_and_every_part_has_examples():
    groups = np.array(["a", "b", "c", "d", "e", "f"])[np.arange(120) % 6]
    parts = probes.split(np.zeros(120), groups, seed=3)
    named = [set(groups[p]) for p in (parts.train, parts.validation, parts.test)]
    assert all(named)
    assert sum(map(len, named)) == 6
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(120))
    two = probes.split(np.zeros(120), groups < "d", seed=3)
    assert {*(groups[two.test] < "d")}.isdisjoint(groups[two.train] < "d")
    assert len(two.validation)
    with pytest.raises(InputError, match="one group"):
        probes.split(np.zeros(5), np.array(["x"] * 5))


def test_draws_are_nested_balanced_and_the_same_for_all():
    labels, pool = np.arange(100) % 4, np.arange(0, 100, 1)
    few, more = (probes.drawn(labels, pool, k, seed=1, draw=2) for k in (1, 10))
    assert set(few) < set(more)
    assert np.bincount(labels[more]).tolist() == [10] * 4
    assert not np.array_equal(more, probes.drawn(labels, pool, 10, seed=1, draw=3))
    assert probes.drawn(labels, pool, None, seed=1, draw=0) is pool


def test_neighbours_vote_as_a_loop_says():
    random = np.random.default_rng(0)
    known, queries = random.normal(size=(50, 6)), random.normal(size=(9, 6))
    labels = random.integers(0, 3, 50)
    found = probes.knn(known, labels, queries, 3)
    for i, query in enumerate(queries):
        cosines = known @ query / np.linalg.norm(known, axis=1) / np.linalg.norm(query)
        votes = np.zeros(3)
        for j in np.argsort(-cosines)[:20]:
            votes[labels[j]] += np.exp(cosines[j] / 0.07)
        assert found[i] == votes.argmax()
    assert probes.knn(known[:2], np.array([2, 1]), known[:2], 3).tolist() == [2, 1]


def test_retrieval_finds_a_permutation_and_equal_features_find_nothing():
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    assert probes.retrieval(vectors, vectors * 3)[1].all()
    mixed = probes.retrieval(vectors, np.roll(vectors, 1, axis=0), ks=(1, 30))
    assert not mixed[1].any()
    assert mixed[30].all()
    assert not probes.retrieval(np.ones((30, 8)), np.ones((30, 8)), ks=(29,))[29].any()


def test_a_linear_probe_of_pixels_is_what_is_known_of_digits(digits):
    rows, labels = digits
    parts = probes.split(labels, seed=0)
    layers = probes.raw_input(rows, None)
    scores = probes.frozen("pixels", layers, labels, parts, shots=(10, None), draws=3)
    few, every = (probes.chosen(scores, "pixels", "linear", k) for k in (10, None))
    assert 0.75 < few.accuracy < every.accuracy
    assert every.accuracy > 0.9
    assert few.right.shape == (3, len(parts.test))


def test_differences_are_paired_over_draws_and_equal_arms_do_not_differ(digits, model):
    rows, labels = digits
    parts = probes.split(labels, seed=0)
    features = probes.features(model, rows)
    scores = [
        score
        for arm in ("ours", "twin")
        for score in probes.frozen(arm, features, labels, parts, shots=(1,), draws=3)
    ]
    found = probes.compared(scores)
    assert {(p.probe, p.control) for p in found} == {("linear", "twin"), ("knn", "twin")}
    assert all(p.difference == p.standard_error == 0 and p.draws == 3 for p in found)
    assert not probes.works(found)
    assert set(found[0].layers) == {"last", "middle"}
    score = scores[0]
    worse = probes.Score(**{**vars(score), "arm": "worse", "right": score.right & False})
    assert probes.works(probes.compared([score, worse], score.arm, controls=["worse"]))


def test_features_do_not_depend_on_the_batch_and_leave_the_model_as_it_was(digits, model):
    rows, _ = digits
    some = probes.taken(rows, np.arange(10))
    whole, parts = (probes.features(model, some, size) for size in (10, 3))
    for name, array in whole.items():
        np.testing.assert_allclose(array, parts[name], rtol=1e-4, atol=1e-5)
    fresh = probes.untrained(model, seed=1)
    assert all(weight.any() for weight in fresh.backbone.parameters())
    before = torch.get_rng_state()
    same = probes.untrained(model, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(fresh.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fine_tuning_learns_from_the_labels_and_changes_nothing_of_the_model(digits, model):
    rows, labels = digits
    parts = probes.split(labels, seed=0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = probes.tuned(
        "scratch", model, rows, labels, parts, scratch=True, shots=(10,), draws=1, steps=16
    )
    assert found[0].accuracy > 0.2  # chance: 0.1
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_raw_input_of_text_counts_the_tokens_of_each_row():
    tokens = torch.tensor([[3, 3, 5, 0], [5, 4, 0, 0]])
    documents = torch.tensor([[0, 0, 0, -1], [1, 1, -1, -1]])
    keys = torch.zeros(2, 3, dtype=torch.int64)
    rows = Rows(tokens=tokens, targets=tokens, sources=tokens, documents=documents, keys=keys)
    bag = np.expm1(probes.raw_input(rows, None)["input"])
    assert sorted(bag.sum(0).round().tolist(), reverse=True)[:3] == [2, 2, 1]
    assert bag.sum(1).round().tolist() == [3, 2]


def test_raw_input_of_sounds_does_not_see_the_padding():
    media = {"kind": "audio", "sample_rate": 8000, "hop": 80, "window": 200, "mels": 12}
    spec = ModelSpec(
        vocab_size=0, depth=1, width=32, heads=2, row_tokens=9, media={**media, "frames": 9}
    )
    sound = torch.randint(-3000, 3000, (2, 720), dtype=torch.int16)
    sound[1, 400:] = 0
    zeros = torch.zeros(2, 1, dtype=torch.int64)
    keys = torch.zeros(2, 3, dtype=torch.int64)
    lengths = torch.tensor([720, 400])
    rows = Rows(tokens=zeros, targets=zeros, sources=zeros, documents=zeros, keys=keys)
    rows = Rows(**{**vars(rows), "samples": sound, "lengths": lengths})
    found = probes.raw_input(rows, spec)["input"]
    assert found.shape == (2, 24)
    alone = probes.raw_input(probes.taken(rows, [1]), spec)["input"]
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)

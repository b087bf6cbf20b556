"""Laws of verification, clusters and the greedy cover, and the whole way from texts to edges."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup.clusters import components, sizes
from curate.dedup.cover import greedy_cover
from curate.dedup.find import near_duplicates
from curate.dedup.minhash import MinHashScheme
from curate.dedup.verify import jaccard, overlaps

sets_of_shingles = st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=8)


@st.composite
def graphs(draw):
    """Draw (rank, standing, pairs, jaccard) of a few documents."""
    n = draw(st.integers(1, 12))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=25))
    rank = np.array(draw(st.permutations(range(n))))
    standing = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    weights = draw(
        st.lists(st.sampled_from([0.8, 0.9, 1.0]), min_size=len(pairs), max_size=len(pairs))
    )
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return rank, standing, edges, np.array(weights, dtype=np.float64)


def plain_cover(rank, standing, pairs, similarity):
    kept, result = set(), [-1] * len(rank)
    for doc in np.argsort(rank).tolist():
        if not standing[doc]:
            continue
        reasons = []
        for (i, j), s in zip(pairs.tolist(), similarity.tolist(), strict=True):
            if doc in (i, j) and i != j:
                other = i + j - doc
                if other in kept:
                    reasons.append((-s, rank[other], other))
        if reasons:
            result[doc] = min(reasons)[2]
        else:
            kept.add(doc)
    return result


@given(sets_of_shingles, st.data())
def test_jaccard_equals_set_arithmetic(docs, data):
    ordinal = st.integers(0, len(docs) - 1)
    pairs = data.draw(st.lists(st.tuples(ordinal, ordinal), max_size=20))
    values = [sorted(d) for d in docs]
    shingles = np.array([h for d in values for h in d], dtype=np.uint64)
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in values])]).astype(np.int64)
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    found = overlaps(edges, shingles, offsets)
    assert found.dtype == np.int64
    assert found.tolist() == [len(docs[i] & docs[j]) for i, j in pairs]
    expected = [len(docs[i] & docs[j]) / max(1, len(docs[i] | docs[j])) for i, j in pairs]
    assert jaccard(edges, shingles, offsets).tolist() == expected


def test_pairs_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"\(3,\)"):
        overlaps(np.zeros(3, dtype=np.int64), np.empty(0, np.uint64), np.zeros(1, np.int64))


@given(graphs())
def test_components_are_labelled_by_their_smallest_ordinal(graph):
    rank, _, pairs, _ = graph
    labels = list(range(len(rank)))
    for _ in rank:
        for i, j in pairs.tolist():
            labels[i] = labels[j] = min(labels[i], labels[j])
    found = components(len(rank), pairs)
    assert found.tolist() == labels
    assert sizes(found).tolist() == [labels.count(label) for label in labels]


def test_no_documents_have_no_components():
    assert components(0, np.empty((0, 2), dtype=np.int64)).tolist() == []
    assert sizes(np.empty(0, dtype=np.int64)).tolist() == []


@given(graphs())
def test_cover_equals_the_plain_loop(graph):
    assert greedy_cover(*graph).tolist() == plain_cover(*graph)


@given(graphs())
def test_laws_of_the_cover(graph):
    rank, standing, pairs, _ = graph
    kept_id = greedy_cover(*graph)
    kept = standing & (kept_id < 0)
    joined = {frozenset(p) for p in pairs.tolist()}
    for doc in np.flatnonzero(kept_id >= 0).tolist():
        assert standing[doc]
        assert kept[kept_id[doc]]
        assert rank[kept_id[doc]] < rank[doc]
        assert frozenset((doc, int(kept_id[doc]))) in joined
    for i, j in pairs.tolist():
        assert i == j or not (kept[i] and kept[j])
    labels = components(len(rank), pairs)
    for label in set(labels.tolist()):
        group = labels == label
        assert kept[group].any() == standing[group].any()


@given(graphs(), st.randoms(use_true_random=False))
def test_cover_does_not_depend_on_how_edges_are_listed(graph, random):
    rank, standing, pairs, similarity = graph
    order = list(range(len(pairs)))
    random.shuffle(order)
    flipped = pairs[order].copy()
    turned = np.array([random.random() < 0.5 for _ in order], dtype=bool)
    flipped[turned] = flipped[turned][:, ::-1]
    again = greedy_cover(rank, standing, flipped, similarity[order])
    assert np.array_equal(again, greedy_cover(*graph))


def test_a_chain_keeps_both_ends():
    edges, similarity = np.array([[0, 1], [1, 2]]), np.array([0.9, 0.9])
    standing = np.ones(3, dtype=bool)
    assert greedy_cover(np.array([0, 1, 2]), standing, edges, similarity).tolist() == [-1, 0, -1]


def test_the_survivor_is_chosen_among_those_still_standing():
    edges, similarity = np.array([[0, 1]]), np.array([1.0])
    standing = np.array([False, True])
    assert greedy_cover(np.array([0, 1]), standing, edges, similarity).tolist() == [-1, -1]


def test_a_rank_that_is_no_permutation_is_refused():
    with pytest.raises(InputError, match="rank must order"):
        greedy_cover(np.array([0, 0]), np.ones(2, bool), np.empty((0, 2), int), np.empty(0))
    with pytest.raises(InputError, match="differ in length"):
        greedy_cover(np.array([0, 1]), np.ones(3, bool), np.empty((0, 2), int), np.empty(0))


def vocabulary(rng, num_words):
    return [f"w{k}" for k in rng.integers(0, 10_000, num_words)]


def test_templated_documents_that_share_their_boilerplate_survive():
    rng = np.random.default_rng(5)
    template = vocabulary(rng, 160)
    texts = [" ".join(template + vocabulary(rng, 40)) for _ in range(1000)]
    edges = near_duplicates(pa.array(texts, pa.large_string()), max_bucket=50)
    assert edges.num_candidates > 1000
    assert edges.pairs.shape == (0, 2)
    assert edges.num_capped_buckets > 0


def test_short_and_empty_documents_have_no_near_duplicates():
    texts = pa.array(["", None, "one two", "one two", "a b c d e", "a b c d e"], pa.large_string())
    edges = near_duplicates(texts)
    assert edges.pairs.tolist() == [[4, 5]]
    assert (edges.num_docs, edges.num_eligible) == (6, 2)


def test_a_chain_of_edits_is_not_one_duplicate():
    rng = np.random.default_rng(9)
    first = vocabulary(rng, 300)
    second = first[30:] + vocabulary(rng, 30)
    third = second[30:] + vocabulary(rng, 30)
    texts = pa.array([" ".join(t) for t in (first, second, third)], pa.large_string())
    edges = near_duplicates(texts, MinHashScheme(bands=30, rows=4))
    assert edges.pairs.tolist() == [[0, 1], [1, 2]]
    kept_id = greedy_cover(np.arange(3), np.ones(3, dtype=bool), edges.pairs, edges.jaccard)
    assert kept_id.tolist() == [-1, 0, -1]
    assert len(set(components(3, edges.pairs).tolist())) == 1


def test_statistics_are_plain_data_with_the_s_curve():
    numbers = near_duplicates(pa.array(["a b c d e f"] * 3, pa.large_string())).statistics()
    assert (numbers["num_candidates"], numbers["num_verified"]) == (3, 3)
    assert numbers["s_curve"]["0.8"] == round(MinHashScheme().s_curve(0.8), 4)
    assert numbers["scheme"]["shingling"]["hash"] == "mix64"


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(InputError, match=r"\(0, 1\], got 80"):
        near_duplicates(pa.array(["a"], pa.large_string()), threshold=80)

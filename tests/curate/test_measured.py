"""Measured recall and precision: who is drawn, what is found, and how sure the numbers are."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup import measured as measured_module
from curate.dedup.intervals import interval, measured_rates, recall_interval
from curate.dedup.measured import (
    NearestTwins,
    SampleIndex,
    Twins,
    are_known,
    between_classes,
    choose,
    draw_edges,
    limit_of_sample,
    limit_of_share,
    nearest,
    probe_keys,
    sample_keys,
    true_pairs,
)
from curate.dedup.plain import plain_shingles, plain_similarity
from curate.kernels.shingles import Shingling, shingle_sets

MULTIPLIER = 0x9E3779B97F4A7C15
# Sets of ten or so of 30 values, spread over all 64 bits as hashes are.
small_sets = st.lists(st.sets(st.integers(0, 30), max_size=14), max_size=8)
thresholds = st.sampled_from([0.05, 0.3, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.0])


def ids_of(numbers):
    rng = np.random.default_rng(12)
    table = rng.bytes(16 * 4096)
    return pa.array([table[16 * k : 16 * k + 16] for k in numbers], pa.binary(16))


def ragged(sets):
    docs = [sorted(v * MULTIPLIER % 2**64 for v in one) for one in sets]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in docs])]).astype(np.int64)
    return np.array([v for one in docs for v in one], dtype=np.uint64), offsets


def similar(one, two, threshold, similarity):
    whole = min(len(one), len(two)) if similarity == "containment" else len(one | two)
    return bool(one and two) and len(one & two) / whole >= threshold


@pytest.mark.parametrize("similarity", ["jaccard", "containment"])
@given(small_sets, small_sets, thresholds)
def test_the_probe_finds_the_similar_pairs_and_no_other(similarity, sampled, probed, threshold):
    index = SampleIndex.build(*ragged(sampled), threshold=threshold, similarity=similarity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_module, "BLOCK_PAIRS", 1)  # the output is full again and again
        twins = index.probe(*ragged(probed))
    found = list(zip(twins.probed.tolist(), twins.sampled.tolist(), strict=True))
    assert sorted(found) == [
        (i, j)
        for i, one in enumerate(probed)
        for j, two in enumerate(sampled)
        if similar(one, two, threshold, similarity)
    ]
    for (i, j), value in zip(found, twins.similarity.tolist(), strict=True):
        both, whole = len(probed[i] & sampled[j]), len(probed[i] | sampled[j])
        if similarity == "containment":
            whole = min(len(probed[i]), len(sampled[j]))
        assert value == both / whole


def test_the_probe_is_exact_on_sets_of_real_size():
    rng = np.random.default_rng(4)
    sets = []
    for size in rng.integers(5, 400, 60):
        base = set(rng.integers(0, 2**62, size).tolist())
        for changed in (0.0, 0.05, 0.1, 0.12, 0.2):
            kept = {value for value in base if rng.random() > changed}
            sets.append(kept | set(rng.integers(0, 2**62, size - len(kept)).tolist()))
    index = SampleIndex.build(*ragged(sets[::3]), threshold=0.8)
    twins = index.probe(*ragged(sets))
    found = set(zip(twins.probed.tolist(), twins.sampled.tolist(), strict=True))
    truth = {
        (i, j)
        for i, one in enumerate(sets)
        for j, two in enumerate(sets[::3])
        if similar(one, two, 0.8, "jaccard")
    }
    assert found == truth
    assert 150 < len(truth) < len(sets) * 5


@given(small_sets, st.lists(st.integers(0, 9), min_size=8, max_size=8))
def test_a_document_past_a_limit_is_left_out(sets, keys):
    index = SampleIndex.build(*ragged(sets), threshold=0.5)
    keys = np.array(keys[: len(sets)], dtype=np.uint64)
    limits = np.full(len(sets), 4, dtype=np.uint64)
    whole, some = index.probe(*ragged(sets)), index.probe(*ragged(sets), keys, limits)
    within = keys[whole.probed] <= 4
    assert some.probed.tolist() == whole.probed[within].tolist()
    assert some.sampled.tolist() == whole.sampled[within].tolist()


def test_a_slice_of_ragged_sets_is_indexed_like_a_copy():
    values, offsets = ragged([{1, 2}, {3, 4, 5}, {6}])
    index = SampleIndex.build(values, offsets[1:], threshold=1.0)
    assert index.probe(values, offsets).sampled.tolist() == [0, 1]


def test_wrong_settings_show_the_bad_value():
    with pytest.raises(InputError, match=r"\(0, 1\], got 80"):
        SampleIndex.build(*ragged([]), threshold=80)
    with pytest.raises(InputError, match="Did you mean 'jaccard'"):
        SampleIndex.build(*ragged([]), threshold=0.8, similarity="jacard")


@given(st.sets(st.integers(0, 4095), max_size=60), st.integers(0, 20), st.integers(1, 5))
def test_the_chosen_of_the_parts_are_the_chosen_of_the_whole(numbers, count, num_parts):
    numbers = sorted(numbers)
    whole = ids_of(numbers)
    chosen = whole.take(pa.array(choose(whole, count))).to_pylist()
    assert len(chosen) == min(count, len(numbers))
    parts = [ids_of(numbers[k::num_parts]) for k in range(num_parts)]
    picked = pa.concat_arrays([part.take(pa.array(choose(part, count))) for part in parts])
    assert picked.take(pa.array(choose(picked, count))).to_pylist() == chosen


def test_samples_and_probes_are_drawn_independently():
    ids = ids_of(range(4096))
    sampled = sample_keys(ids) < np.uint64(1 << 62)
    probed = probe_keys(ids) <= np.uint64(limit_of_share(1, 4))
    assert abs(sampled.mean() - 0.25) < 0.03
    assert abs(probed.mean() - 0.25) < 0.03
    assert abs((sampled & probed).mean() - 1 / 16) < 0.015


@pytest.mark.parametrize("num_docs", [1, 900, 5000, 10**6, 10**9])
def test_enough_documents_pass_the_limit_of_a_sample(num_docs):
    expected = (limit_of_sample(1000, num_docs) + 1) * num_docs / 2**64
    assert expected == num_docs or 1200 < expected < 2500


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4095)), unique=True, max_size=40),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_the_nearest_twins_do_not_depend_on_blocks_or_parts(rows, count, num_parts):
    names = ids_of([1, 2, 3, 4])
    parts = []
    for k in range(num_parts):
        part = NearestTwins(names, count, block=3)
        for sampled, number in rows[k::num_parts]:
            ids = ids_of([number])
            keys = probe_keys(ids)
            if keys[0] <= part.limits[sampled]:
                zero = np.zeros(1, dtype=np.int64)
                one = Twins(probed=zero, sampled=zero + sampled, similarity=zero + 1.0)
                part.add(ids, keys, one)
        parts.append(part.table())
    pairs = true_pairs(pa.concat_tables(parts).combine_chunks(), names, count)
    named = names.to_pylist()
    expected = set()
    for sampled in range(4):
        own = [ids_of([n])[0].as_py() for s, n in rows if s == sampled and n != sampled + 1]
        keys = probe_keys(pa.array(own, pa.binary(16)))
        for k in np.argsort(keys)[:count].tolist():
            expected.add(frozenset((own[k], named[sampled])))
    found = [frozenset(row) for row in pairs.select("low", "high").iter_rows()]
    assert set(found) == expected
    assert len(found) == len(expected), "a pair of two sampled documents counts once"


def test_nearest_marks_the_smallest_keys_of_each():
    sampled, keys = np.array([1, 0, 1, 1, 0]), np.array([5, 9, 3, 4, 1], dtype=np.uint64)
    assert nearest(sampled, keys, 2).tolist() == [False, True, True, True, True]


EDGES = pl.DataFrame(
    {
        "doc_id": [b"b", b"c", b"e", b"f"],
        "twin_id": [b"a", b"a", b"a", b"d"],
        "kind": ["exact", "exact", "near", "exact"],
        "twin_corpus": pl.Series([None] * 4, dtype=pl.String),
    }
)
OUTSIDE = pl.DataFrame(
    {
        "doc_id": [b"g", b"h", b"i"],
        "twin_id": [b"g", b"g", b"a"],  # the other corpus has documents of the same ids
        "kind": ["exact", "exact", "near"],
        "twin_corpus": ["base@1"] * 3,
    }
)


def counted(pairs, frames, crowds=()):
    """Return whether each pair was found, None for pairs that do not count."""
    rows = pl.DataFrame(pairs, schema=["low", "high"], orient="row").with_row_index("place")
    between = between_classes(rows, frames)
    found = dict(zip(between["place"], are_known(between, frames, crowds).tolist(), strict=True))
    return [found.get(place) for place in range(len(pairs))]


@pytest.mark.parametrize(
    ("low", "high", "known"),
    [
        (b"a", b"b", None),  # one class, and its speaker
        (b"b", b"c", None),  # one class
        (b"a", b"e", True),  # an edge
        (b"b", b"e", True),  # the speakers' edge
        (b"d", b"f", None),
        (b"a", b"d", False),
        (b"g", b"h", None),  # one class, that another corpus speaks for
        (b"a", b"g", False),
        (b"a", b"i", False),  # it is near the other corpus's a
        (b"e", b"f", False),
        (b"x", b"y", False),
    ],
)
def test_a_pair_of_two_classes_counts_and_is_known_by_an_edge_between_them(low, high, known):
    edges = pl.concat([EDGES, OUTSIDE])
    for frames in ([edges], [edges[2:], edges[:2]], [edges[k] for k in range(edges.height)]):
        assert counted([(b"p", b"q"), (low, high)], frames) == [False, known]


def test_classes_that_meet_in_another_corpus_are_known_by_its_edges_only():
    edge = pl.DataFrame(
        {"doc_id": [b"e"], "twin_id": [b"g"], "kind": ["near"], "twin_corpus": ["base@1"]}
    )
    assert counted([(b"e", b"h"), (b"b", b"h")], [OUTSIDE, edge]) == [True, False]
    own = edge.with_columns(twin_corpus=pl.lit(None, pl.String))
    assert counted([(b"e", b"h")], [OUTSIDE, own]) == [False]


def test_a_pair_is_known_by_the_crowd_that_its_classes_are_in(monkeypatch):
    monkeypatch.setattr(measured_module, "BLOCK_PAIRS", 1)
    rows = [(b"b", b"x"), (b"a", b"x"), (b"x", b"y"), (b"f", b"y"), (b"e", b"x")]
    own = pl.lit(None, pl.String)
    crowds = [
        pl.DataFrame({"bucket": [1, 1, 2, 2], "doc_id": [b"a", b"x", b"e", b"y"]}),
        pl.DataFrame({"bucket": [3, 3, 4], "doc_id": [b"d", b"y", b"x"]}),
    ]
    crowds = [frame.with_columns(twin_corpus=own) for frame in crowds]
    assert counted(rows, [EDGES], crowds) == [True, True, False, True, False]
    assert counted(rows, [EDGES]) == [False] * 5
    others = [frame.with_columns(twin_corpus=pl.lit("base@1")) for frame in crowds]
    assert counted(rows, [EDGES], others) == [False] * 5


def test_edges_are_drawn_alike_from_any_split():
    ids = ids_of(range(200)).to_pylist()
    near = pl.DataFrame({"doc_id": ids[:100], "twin_id": ids[100:], "kind": ["near"] * 100})
    near = near.with_columns(twin_corpus=pl.lit(None, pl.String))
    outside = near.with_columns(pl.col("doc_id").reverse(), twin_corpus=pl.lit("base@1"))
    frame = pl.concat([near, near.with_columns(kind=pl.lit("exact")), outside])
    drawn = draw_edges([frame], 7)
    assert drawn.height == 7
    assert drawn.equals(draw_edges([frame[k::3] for k in (2, 0, 1)], 7))
    assert drawn.equals(draw_edges([frame], 9)[:7])
    assert drawn.join(near, on=["doc_id", "twin_id"], how="semi").height == 7


@pytest.mark.parametrize(
    ("good", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (5, 10, 0.1871, 0.8129),
        (81, 263, 0.2527, 0.3676),
    ],
)
def test_the_interval_has_the_published_values(good, total, low, high):
    """The last row: Newcombe, Statistics in Medicine 17 (1998), table I, method 5."""
    assert np.allclose(interval(good, total), (low, high), atol=5e-5)


def test_equal_single_pairs_give_the_binomial_interval():
    found, true = np.array([1] * 90 + [0] * 10), np.ones(100, dtype=np.int64)
    rate, low, high = recall_interval(found, true)
    exact = interval(90, 100)
    assert rate == 0.9
    assert np.allclose((low, high), exact, atol=2e-3)


def test_pairs_that_hit_and_miss_together_widen_the_interval():
    alone = recall_interval(np.array([1] * 90 + [0] * 10), np.ones(100, dtype=np.int64))
    grouped = recall_interval(np.array([10] * 9 + [0]), np.full(10, 10))
    assert grouped[0] == alone[0]
    assert grouped[2] - grouped[1] > 2 * (alone[2] - alone[1])


def test_a_recall_of_one_is_as_sure_as_its_documents_are_many():
    _, low, high = recall_interval(np.array([50, 1, 1]), np.array([50, 1, 1]))
    assert high == 1.0
    assert low < 0.1
    _, low, _ = recall_interval(np.full(50, 2), np.full(50, 2))
    assert np.isclose(low, interval(50, 50)[0])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12), st.randoms())
def test_the_interval_holds_its_rate_and_no_order_shows(rows, random):
    true = np.array([max(pair) for pair in rows], dtype=np.int64)
    found = np.array([min(pair) for pair in rows], dtype=np.int64)
    rates = recall_interval(found, true)
    if true.sum() == 0:
        assert rates is None
        return
    rate, low, high = rates
    assert 0.0 <= low <= rate <= high <= 1.0
    order = list(range(len(rows)))
    random.shuffle(order)
    assert recall_interval(found[order], true[order]) == rates


@pytest.mark.parametrize("recall", [0.7, 0.924, 0.977])
def test_intervals_of_clustered_pairs_cover_the_truth(recall):
    """95 % promised; 400 draws of 150 documents whose twins miss together half of the time."""
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(400):
        true = rng.geometric(0.3, 150)
        each = np.array([rng.binomial(t, recall) for t in true])
        together = np.where(rng.random(150) < recall, true, 0)
        found = np.where(rng.random(150) < 0.5, each, together)
        _, low, high = recall_interval(found, true)
        hits += low <= recall <= high
    assert hits >= 0.93 * 400


TRICKY = (
    "aAzZ09 _-'\n\0\u00e9e\u0301\u00df\u1e9e\u0130\u03a3\u03c3\u03c2\ufb01\uac00\u4e2d\u6587"
    "\u0928\u093f\u0e01\u0e34\u00b2\u00bd\u2167\u200d\U0001d400\U0001f600\u0345\u212b\u1fb3"
    "\u0661\u304c\u30ab\u3099"
)
tricky_text = st.text(alphabet=TRICKY, max_size=40) | st.text(max_size=30)


@given(
    st.tuples(tricky_text, tricky_text),
    st.just(Shingling(normaliser="datatrove", hash="xxh64", numbers="zero", width=2))
    | st.builds(
        Shingling,
        unit=st.sampled_from(["words", "characters"]),
        width=st.integers(1, 5),
        numbers=st.sampled_from(["keep", "zero"]),
        max_document_bytes=st.sampled_from([0, 5, 17]),
    ),
)
def test_plain_python_and_the_kernels_count_the_same_shingles(texts, shingling):
    values, offsets = shingle_sets(pa.array(texts, pa.large_string()), shingling)
    fast = [set(values[offsets[k] : offsets[k + 1]].tolist()) for k in (0, 1)]
    plain = [plain_shingles(text, shingling) for text in texts]
    for one, two in (fast, plain):
        assert (len(one), len(two), len(one & two)) == tuple(
            map(len, (plain[0], plain[1], plain[0] & plain[1]))
        )
    similarity = plain_similarity(*texts, shingling, "jaccard")
    assert similarity == len(fast[0] & fast[1]) / max(len(fast[0] | fast[1]), 1)
    similarity = plain_similarity(*texts, shingling, "containment")
    assert similarity == len(fast[0] & fast[1]) / max(min(map(len, fast)), 1)


def test_nothing_to_measure_is_said_as_none():
    none = np.zeros(3, dtype=np.int64)
    rates = measured_rates(none, none, probed_documents=9, checked_edges=0, correct_edges=0)
    assert rates == {
        "sampled_documents": 3,
        "probed_documents": 9,
        "true_pairs": 0,
        "found_pairs": 0,
        "recall": None,
        "recall_low": None,
        "recall_high": None,
        "checked_edges": 0,
        "correct_edges": 0,
        "precision": None,
        "precision_low": None,
        "precision_high": None,
        "confidence": 0.95,
    }


def test_rates_are_rounded_to_what_machines_agree_on():
    found, true = np.array([2, 1, 0]), np.array([2, 1, 4])
    rates = measured_rates(found, true, probed_documents=9, checked_edges=3, correct_edges=3)
    assert rates["recall"] == 0.428571
    assert (rates["precision"], rates["precision_low"]) == (1.0, 0.292402)

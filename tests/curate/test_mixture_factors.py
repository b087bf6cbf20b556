"""Quality curves, copies by duplicates, caps and phases: one queue, and every law of it."""

import hashlib
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.mixture.curves import Curve, buckets_of, places, rates
from curate.mixture.defaults import FINEWEB2
from curate.mixture.draws import Documents, Draws, Phase, plan_draws, steps
from curate.mixture.heldout import choose_held_out, target_bytes
from curate.mixture.keyed import keyed_hash
from curate.mixture.queue import Members, capacity, cut
from curate.mixture.shares import Strategy

NAMES = ["books", "web"]


def ids_of(numbers: list[int]) -> Any:
    made = [hashlib.blake2b(str(n).encode(), digest_size=16).digest() for n in numbers]
    return pa.array(made, pa.binary(16))


@st.composite
def corpora(draw: Any) -> Documents:
    n = draw(st.integers(4, 40))

    def column(values: Any) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    quality = column(st.sampled_from([0.0, 1.0, 2.5, 3.0, 7.0, math.nan]))
    return Documents(
        codes=np.array([0, 1, 0, 1, *column(st.integers(0, 1))[4:]]),
        tokens=column(st.integers(1, 300)),
        doc_ids=ids_of(list(range(n))),
        num_bytes=column(st.integers(1, 900)),
        alike=column(st.sampled_from([1, 1, 1, 2, 3, 4, 7, 150])),
        qualities={"q": quality},
    )


def phase(budget: int | None = None, **knobs: Any) -> Phase:
    own = {key: knobs.pop(key) for key in ("copies", "curves", "name") if key in knobs}
    if "weights" in knobs:
        knobs["kind"] = "weights"
    return Phase(strategy=Strategy(budget=budget, **knobs), **own)


def plan(documents: Documents, phases: list[Phase], cap: Any = 4) -> list[Draws]:
    return plan_draws(documents, phases, domains=NAMES, repeat_cap=cap, seed=7)


def plan_or_reject(documents: Documents, phases: list[Phase], cap: Any = 4) -> list[Draws]:
    """Do `plan`, if there is enough to draw from; the laws of shares say when."""
    try:
        return plan(documents, phases, cap)
    except InputError:
        reject()


FACTORS: list[dict[str, Any]] = [
    {},
    {"copies": FINEWEB2},
    {"curves": {"web": Curve(by="q", below=0.2, buckets=5)}},
    {"copies": {1: 0.5, 3: 1.25, 100: 0.0}, "curves": {"*": Curve(by="q", buckets=4, power=1.0)}},
]
factors = st.sampled_from(FACTORS)
caps = st.sampled_from([1, 2.5, 4, {"web": 3, "*": 6}])


def reorder(documents: Documents, order: list[int]) -> Documents:
    assert documents.num_bytes is not None
    assert documents.alike is not None
    return Documents(
        codes=documents.codes[order],
        tokens=documents.tokens[order],
        doc_ids=documents.doc_ids.take(pa.array(order)),
        num_bytes=documents.num_bytes[order],
        alike=documents.alike[order],
        qualities={name: values[order] for name, values in documents.qualities.items()},
    )


def largest_of(documents: Documents, knobs: dict[str, Any], cap: Any) -> int:
    try:
        plan(documents, [phase(10**9, **knobs)], cap)
    except InputError as error:
        return int(str(error).split("budget is ")[1].split(" ")[0].replace(",", ""))
    raise AssertionError("a corpus of 40 documents has no 10^9 tokens")


@given(
    corpora(), factors, caps, st.floats(0.01, 1), st.sampled_from(["tokens", "bytes", "documents"])
)
def test_every_budget_is_met_within_a_document_of_each_domain(
    documents: Documents, knobs: dict[str, Any], cap: Any, share: float, unit: Any
) -> None:
    knobs = {**knobs, "unit": unit}
    most = largest_of(documents, knobs, cap)
    sizes = documents.sizes(unit)
    for budget in {max(int(share * most), 1), most} if most else set():
        (draws,) = plan(documents, [phase(budget, **knobs)], cap)
        assert sum(row["asked"] for row in draws.rows) == budget
        for code, row in enumerate(draws.rows):
            mine = np.flatnonzero(documents.codes == code)
            copies = draws.copies[mine]
            highest = cap if not isinstance(cap, dict) else cap.get(NAMES[code], cap["*"])
            assert row["realised"] == int((copies * sizes[mine]).sum())
            assert 2 * abs(row["realised"] - row["asked"]) <= int(sizes[mine].max())
            assert copies.max() <= math.ceil(highest)
            assert row["asked"] <= highest * row["available"]
            assert row["realised_tokens"] == int((copies * documents.tokens[mine]).sum())


@given(corpora(), factors, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_larger_share_only_adds_copies_of_that_domain(
    documents: Documents, knobs: dict[str, Any], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    few, many = (
        plan_or_reject(documents, [phase(epochs={"books": 0.5, "web": e}, **knobs)])[0].copies
        for e in (low, high)
    )
    assert (few <= many).all()
    assert np.array_equal(few[documents.codes == 0], many[documents.codes == 0])


@given(corpora(), factors, st.randoms(use_true_random=False))
def test_the_order_of_documents_changes_no_copy(
    documents: Documents, knobs: dict[str, Any], random: Any
) -> None:
    order = list(range(len(documents.codes)))
    random.shuffle(order)
    phases = [
        phase(epochs={"books": 0.7, "web": 0.4}, **knobs),
        phase(epochs={"books": 0.3, "web": 0.2}),
    ]
    for straight, shuffled in zip(
        plan_or_reject(documents, phases), plan(reorder(documents, order), phases), strict=True
    ):
        assert np.array_equal(shuffled.copies, straight.copies[order])
        assert shuffled.rows == straight.rows


@given(corpora(), st.sampled_from(FACTORS[:2]), st.integers(0, 400))
def test_the_cut_is_the_nearest_in_the_queue_of_all_copies(
    documents: Documents, knobs: dict[str, Any], percent: int
) -> None:
    """The slow twin: every copy's place as an exact fraction, sorted, and every cut tried."""
    assert documents.alike is not None
    (draws,) = plan(documents, [phase(epochs={"books": percent / 100, "web": 0}, **knobs)])
    hashes = keyed_hash(documents.doc_ids, 7, "draw")
    factor = steps(documents.alike, knobs.get("copies", {1: 1.0}))
    queue = sorted(
        ((k + Fraction(int(hashes[i]), 2**64)) / Fraction(factor[i]), i)
        for i in np.flatnonzero(documents.codes == 0)
        for k in range(4)
    )
    sums = [0]
    for _, i in queue:
        sums.append(sums[-1] + int(documents.tokens[i]))
    asked = draws.rows[0]["asked"]
    best = min(range(len(sums)), key=lambda j: (abs(sums[j] - asked), j))
    wanted = np.zeros(len(documents.codes), dtype=int)
    np.add.at(wanted, [i for _, i in queue[:best]], 1)
    assert np.array_equal(draws.copies, wanted)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(0, 400))
def test_the_short_way_for_equal_documents_is_the_long_way(sizes: list[int], percent: int) -> None:
    class Long(Members):
        plain = False

    hashes = np.sort(keyed_hash(ids_of(list(range(len(sizes)))), 3, "draw"))
    columns = {
        "sizes": np.array(sizes),
        "hashes": hashes,
        "factors": np.full(len(sizes), 2.0),
        "limits": np.full(len(sizes), 4.0),
        "used": np.zeros(len(sizes), dtype=np.int64),
        "cap": 4.0,
        "buckets": np.empty(0, dtype=np.int64),
    }
    want = sum(sizes) * percent // 100
    assert capacity(Members(**columns)) == 4 * sum(sizes)
    assert np.array_equal(cut(Members(**columns), want)[0], cut(Long(**columns), want)[0])


@given(corpora(), st.sampled_from([1, 4, 10]))
def test_copies_by_duplicates_are_finewebs_steps_up_to_the_cap(
    documents: Documents, cap: int
) -> None:
    assert documents.alike is not None
    (draws,) = plan(documents, [phase(copies=FINEWEB2)], cap)
    step = {1: 1, 2: 2, 3: 3, 4: 3, 7: 5, 150: 8}
    wanted = np.array([step[n] for n in documents.alike.tolist()])
    assert draws.copies.tolist() == np.minimum(wanted, cap).tolist()
    for code, row in enumerate(draws.rows):
        mine = documents.codes == code
        over = np.maximum(wanted - cap, 0)[mine]
        assert row["capped_documents"] == int((over > 0).sum())
        assert row["capped"] == int((over * documents.tokens[mine]).sum())


@given(
    corpora(),
    st.sampled_from([{1: 7.0}, {1: 1.49}, {1: 0.5, 3: 7.0}, {1: 1.3, 2: 0.0, 4: 1.5}]),
    st.sampled_from([1, 1.1, 1.5, 2.75]),
)
def test_without_a_budget_too_the_repeat_cap_holds_within_a_document(
    documents: Documents, copies: dict[int, float], cap: float
) -> None:
    (draws,) = plan(documents, [phase(copies=copies)], cap)
    assert documents.alike is not None
    wanted = np.minimum(steps(documents.alike, copies), cap)
    assert (draws.copies <= np.ceil(wanted)).all()
    for code, row in enumerate(draws.rows):
        longest = int(documents.tokens[documents.codes == code].max())
        assert row["realised"] <= cap * row["available"] + longest / 2
        if copies == {1: 7.0}:  # the limit binds all
            assert row["realised"] > cap * row["available"] - longest / 2 - 1


def test_many_documents_at_a_broken_cap_are_read_as_often_as_it_says() -> None:
    n = 2000
    documents = Documents(
        codes=np.arange(n) % 2,
        tokens=np.arange(n) % 97 + 1,
        doc_ids=ids_of(list(range(n))),
        alike=np.ones(n, dtype=np.int64),
    )
    (draws,) = plan(documents, [phase(copies={1: 7})], {"books": 1.5, "web": 3})
    assert [round(row["epochs"], 2) for row in draws.rows] == [1.5, 3.0]
    assert draws.copies[documents.codes == 1].tolist() == [3] * (n // 2)


def test_factors_that_leave_less_than_a_token_still_share_a_budget() -> None:
    documents = Documents(
        codes=np.array([0, 1]),
        tokens=np.array([3, 3]),
        doc_ids=ids_of([1, 2]),
        alike=np.ones(2, dtype=np.int64),
    )
    (draws,) = plan(documents, [phase(12, copies={1: 0.25, 3: 7})], 4)
    assert [row["asked"] for row in draws.rows] == [6, 6]
    assert draws.copies.tolist() == [2, 2]
    with pytest.raises(InputError, match="largest feasible budget is 0 tokens"):
        plan(documents, [phase(12, copies={1: 0, 3: 7})], 4)


@given(corpora(), factors, caps, st.lists(st.floats(0, 0.9), min_size=1, max_size=4))
def test_phases_go_on_where_the_earlier_stopped_and_share_the_cap(
    documents: Documents, knobs: dict[str, Any], cap: Any, epochs: list[float]
) -> None:
    phases = [phase(epochs={"books": e, "web": 0}, **knobs) for e in epochs]
    drawn = plan_or_reject(documents, phases, cap)
    total = np.sum([one.copies for one in drawn], axis=0)
    highest = cap if not isinstance(cap, dict) else cap["*"]
    assert total.max() <= math.ceil(highest)
    if not knobs and total.sum():  # what was read least comes first
        mine = total[documents.codes == 0]
        assert mine.max() - mine.min() <= 1
    if len(epochs) > 1 and epochs[1] == 0:
        assert not drawn[1].copies.any()


def test_two_phases_of_one_mixture_draw_what_one_longer_phase_draws() -> None:
    n = 400
    documents = Documents(
        codes=np.arange(n) % 2, tokens=np.full(n, 10), doc_ids=ids_of(list(range(n)))
    )
    weights = {"books": 1.0, "web": 3.0}
    first, second = plan(documents, [phase(1000, weights=weights), phase(600, weights=weights)])
    (whole,) = plan(documents, [phase(1600, weights=weights)])
    assert np.array_equal(first.copies + second.copies, whole.copies)
    assert second.rows[0]["asked"] == 150


def test_natural_shares_count_a_document_as_often_as_the_cap_lets_it_be_read() -> None:
    documents = Documents(
        codes=np.array([0, 1]),
        tokens=np.array([100, 100]),
        doc_ids=ids_of([1, 2]),
        alike=np.array([150, 1]),
    )
    (draws,) = plan(documents, [phase(100, copies=FINEWEB2)], 4)
    assert [row["asked"] for row in draws.rows] == [80, 20]
    assert [row["factor_size"] for row in draws.rows] == [400, 100]


def test_a_phase_that_asks_for_too_much_is_named() -> None:
    documents = Documents(codes=np.array([0, 1]), tokens=np.array([10, 10]), doc_ids=ids_of([1, 2]))
    phases = [
        phase(epochs={"books": 3, "web": 0}, name="main"),
        phase(50, kind="uniform", name="anneal"),
    ]
    with pytest.raises(InputError, match=r"phase 'anneal': .* than 1 epoch of 'books'; .* is 20 "):
        plan(documents, phases)


@given(
    st.floats(0, 0.8),
    st.sampled_from([2, 5, 20, 33]),
    st.floats(0, 6),
    st.floats(0, 4),
    st.floats(1, 9),
)
def test_a_curve_is_zero_then_rising_and_its_top_is_capped_at_all_epochs(
    below: float, buckets: int, power: float, growth: float, top: float
) -> None:
    curve = Curve(by="q", below=below, buckets=buckets, power=power, growth=growth, top=top)
    path = rates(curve, 100)
    edges = np.arange(1, buckets + 1) / buckets
    assert (path.rates[:, edges <= below] == 0).all()
    assert (np.diff(path.rates, axis=1) >= -1e-8).all(), "better is never read less"
    assert (np.diff(path.rates, axis=0) >= 0).all(), "more epochs never take a copy away"
    assert path.rates.max() <= top + 1e-8
    flat = path.rates[-1][edges - 1 / buckets >= below]
    assert np.allclose(flat, top), "in the end all that is read is read alike"
    assert np.allclose(path.epochs, path.rates.mean(axis=1))
    for bucket in range(buckets):
        if path.rates[-1, bucket] > 0:
            asked = np.linspace(0, path.rates[-1, bucket], 7)
            back = [path.rates_at(e)[bucket] for e in path.epochs_at(bucket, asked)]
            assert np.allclose(back, asked, atol=1e-6)


def test_the_steepest_curve_is_the_power_exponential_of_olmo_3() -> None:
    curve = Curve(by="q", below=0.4, top=7, power=2.0, growth=1.5, buckets=10)
    path = rates(curve, 7)
    x = (np.arange(100_000) + 0.5) / 100_000
    f = np.where(x < 0.4, 0, np.maximum(x - 0.4, 0) ** 2 * np.exp(1.5 * (x - 0.4)))
    exact = f.reshape(10, -1).mean(axis=1)
    assert np.allclose(path.rates[1], exact * 7 / exact[-1], rtol=1e-3, atol=1e-4)
    half = path.rates_at(float(path.epochs[1]) / 2)
    assert np.allclose(half, path.rates[1] / 2), "below that it is scaled as a whole"


@given(corpora(), st.floats(0.1, 2.0))
def test_the_best_are_read_most_and_the_worst_never(documents: Documents, epochs: float) -> None:
    curve = Curve(by="q", below=0.3, buckets=10)
    books = phase(epochs={"books": epochs, "web": 0}, curves={"*": curve})
    (draws,) = plan_or_reject(documents, [books])
    mine = np.flatnonzero(documents.codes == 0)
    place = places(documents.qualities["q"][mine], documents.tokens[mine])
    path = rates(curve, 4)
    limit = path.rates[-1][buckets_of(curve, place)]
    assert not draws.copies[mine][limit == 0].any()
    assert (draws.copies[mine] <= np.ceil(limit)).all()
    assert len(draws.rows[0]["curve"]) == 10
    assert draws.rows[1]["curve"] is not None
    assert not any(draws.rows[1]["curve"])


@given(st.lists(st.sampled_from([1.0, 2.0, math.nan, -3.0]), max_size=12), st.data())
def test_equal_qualities_stand_together_and_undefined_ones_last(
    quality: list[float], data: Any
) -> None:
    n = len(quality)
    sizes = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), dtype=np.int64)
    place = places(np.array(quality), sizes)
    assert len(place) == n
    assert ((place >= 0) & (place <= 1)).all()
    for i in range(n):
        for j in range(n):
            one, other = (-math.inf if math.isnan(q) else q for q in (quality[i], quality[j]))
            assert (one == other) <= (place[i] == place[j])
            assert (one < other) <= (place[i] <= place[j])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400)), min_size=1, max_size=40),
    st.integers(1, 3000),
    st.integers(0, 500),
)
def test_held_out_bytes_are_equal_within_a_document_and_only_grow(
    documents: list[tuple[int, int]], target: int, more: int
) -> None:
    sources, sizes = (np.array(column) for column in zip(*documents, strict=True))
    ids = ids_of(list(range(len(documents))))
    chosen = choose_held_out(sources, sizes, ids, target=target, seed=7)
    wider = choose_held_out(sources, sizes, ids, target=target + more, seed=7)
    assert (chosen <= wider).all()
    for source in set(sources.tolist()):
        mine = sources == source
        have, took = int(sizes[mine].sum()), int(sizes[mine & chosen].sum())
        assert (mine & chosen).any()
        assert abs(took - min(target, have)) <= int(sizes[mine].max())
    alone = choose_held_out(
        sources[sources == 0],
        sizes[sources == 0],
        ids.filter(pa.array(sources == 0)),
        target=target,
        seed=7,
    )
    assert np.array_equal(alone, chosen[sources == 0])


def test_a_small_source_does_not_shrink_what_is_held_out_of_the_others() -> None:
    assert target_bytes([10**6, 2 * 10**6]) == 10**6
    assert target_bytes([10**6, 50]) == 100_000
    assert target_bytes([], 5) == 5
    assert target_bytes([0, 0]) == 100_000


def test_unknown_domains_of_caps_and_curves_are_refused() -> None:
    documents = Documents(codes=np.array([0]), tokens=np.array([5]), doc_ids=ids_of([1]))
    with pytest.raises(InputError, match="unknown domain 'wob'.* Did you mean 'web'"):
        plan(documents, [phase()], {"wob": 3})
    with pytest.raises(InputError, match="unknown domain 'boks'"):
        plan(documents, [phase(curves={"boks": Curve(by="q")})])

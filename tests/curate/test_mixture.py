"""Laws of a mixture: exact to the token, capped, nobody reshuffled by somebody else's weight."""

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.mixture.draws import Documents, Draws, Phase, plan_draws
from curate.mixture.keyed import apportion, keyed_hash, keyed_order, nearest_prefix
from curate.mixture.shares import Strategy

DOMAINS = ["books", "crawl", "tickets"]


def ids_of(numbers: list[int]) -> pa.Array:
    made = [hashlib.blake2b(str(n).encode(), digest_size=16).digest() for n in numbers]
    return pa.array(made, pa.binary(16))


def draw(codes: list[int], tokens: list[int], *, names: list[str] = DOMAINS, **knobs: Any) -> Draws:
    ids = knobs.pop("ids", ids_of(list(range(len(codes)))))
    cap, seed = knobs.pop("repeat_cap", 4), knobs.pop("seed", 7)
    documents = Documents(
        codes=np.array(codes, int),
        tokens=np.array(tokens, int),
        doc_ids=ids,
        **{key: knobs.pop(key) for key in ("num_bytes", "alike", "qualities") if key in knobs},
    )
    phase = {key: knobs.pop(key) for key in ("copies", "curves") if key in knobs}
    if "weights" in knobs:
        knobs["kind"] = "weights"
    phases = [Phase(strategy=Strategy(**knobs), **phase)]
    (draws,) = plan_draws(documents, phases, domains=names, repeat_cap=cap, seed=seed)
    return draws


def column(draws: Draws, name: str) -> list[Any]:
    return [row[name] for row in draws.rows]


@st.composite
def corpora(draw_from) -> tuple[list[int], list[int]]:
    n = draw_from(st.integers(3, 60))
    codes = [0, 1, 2, *draw_from(st.lists(st.integers(0, 2), min_size=n - 3, max_size=n - 3))]
    return codes, draw_from(st.lists(st.integers(1, 500), min_size=n, max_size=n))


weights_of_three = st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 3)


@given(corpora(), weights_of_three, st.integers(1, 4000), st.floats(1, 6))
def test_asked_and_realised_tokens_differ_by_less_than_a_document(
    corpus: tuple[list[int], list[int]], values: tuple[float, ...], budget: int, cap: float
) -> None:
    codes, tokens = corpus
    assume(sum(values) > 0)
    weights = dict(zip(DOMAINS, values, strict=True))
    try:
        draws = draw(codes, tokens, weights=weights, budget=budget, repeat_cap=cap)
    except InputError as error:
        most = int(str(error).split("budget is ")[1].split(" ")[0].replace(",", ""))
        assert most < budget
        if most:
            draw(codes, tokens, weights=weights, budget=most, repeat_cap=cap)
        return
    assert sum(row["asked_tokens"] for row in draws.rows) == budget
    whole = sum(map(Fraction, values))
    for code, row in enumerate(draws.rows):
        mine = [i for i, c in enumerate(codes) if c == code]
        realised = sum(int(draws.copies[i]) * tokens[i] for i in mine)
        assert row["available_tokens"] == sum(tokens[i] for i in mine)
        assert row["realised_tokens"] == realised
        assert 2 * abs(realised - row["asked_tokens"]) <= max(tokens[i] for i in mine)
        exact = budget * Fraction(values[code]) / whole
        assert abs(row["asked_tokens"] - exact) < 1
        copies = [int(draws.copies[i]) for i in mine]
        assert max(copies) - min(copies) <= 1
        assert max(copies) <= -(-cap // 1)
        assert row["drawn_documents"] == sum(c > 0 for c in copies)


@given(corpora(), weights_of_three, st.floats(0, 1), st.integers(0, 2))
def test_another_weight_only_moves_each_domains_cut(
    corpus: tuple[list[int], list[int]], values: tuple[float, ...], other: float, which: int
) -> None:
    codes, tokens = corpus
    changed = [other if i == which else value for i, value in enumerate(values)]
    assume(sum(values) > 0 and sum(changed) > 0)
    budget = max(sum(tokens) // 3, 1)
    drawn = [
        draw(
            codes,
            tokens,
            weights=dict(zip(DOMAINS, mixture, strict=True)),
            budget=budget,
            repeat_cap=10**9,
        ).copies
        for mixture in (values, changed)
    ]
    for code in range(3):
        step = (drawn[0] - drawn[1])[np.array(codes) == code]
        assert (step >= 0).all() or (step <= 0).all()


@given(corpora(), st.integers(1, 200))
def test_a_new_source_leaves_the_others_draws_alone(
    corpus: tuple[list[int], list[int]], budget: int
) -> None:
    codes, tokens = corpus
    weights = dict.fromkeys(DOMAINS, 1.0)
    before = draw(codes, tokens, weights=weights, budget=3 * budget, repeat_cap=10**6)
    n = len(codes)
    new = ids_of([1000, 1001])
    after = draw(
        [3, *codes, 3],
        [5, *tokens, 600],
        names=[*DOMAINS, "mail"],
        ids=pa.concat_arrays([new.slice(0, 1), ids_of(list(range(n))), new.slice(1)]),
        weights={**weights, "mail": 1.0},
        budget=4 * budget,
        repeat_cap=10**6,
    )
    assert np.array_equal(after.copies[1:-1], before.copies)


@given(corpora(), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(corpus, random) -> None:
    codes, tokens = corpus
    order = list(range(len(codes)))
    random.shuffle(order)
    straight = draw(codes, tokens, budget=max(sum(tokens) // 2, 1))
    shuffled = draw(
        [codes[i] for i in order],
        [tokens[i] for i in order],
        ids=ids_of(order),
        budget=max(sum(tokens) // 2, 1),
    )
    assert np.array_equal(shuffled.copies, straight.copies[order])
    assert shuffled.rows == straight.rows


def test_without_weights_and_budget_every_document_is_read_once() -> None:
    draws = draw([0, 1, 1], [10, 0, 5])
    assert draws.copies.tolist() == [1, 1, 1]
    assert draws.copies.dtype == np.int32
    assert column(draws, "epochs") == [1.0, 1.0, None]
    assert column(draws, "asked_share") == [10 / 15, 5 / 15, 0.0]


def test_a_budget_without_weights_keeps_natural_shares() -> None:
    draws = draw([0] * 30 + [1] * 10, [10] * 40, budget=800)
    assert draws.copies.tolist() == [2] * 40
    assert column(draws, "asked_tokens") == [600, 200, 0]


def test_weights_without_a_budget_repeat_nothing_and_read_the_scarcest_once() -> None:
    weights = {"books": 3, "crawl": 1, "tickets": 0}
    draws = draw([0] * 30 + [1] * 90 + [2], [10] * 121, weights=weights)
    assert column(draws, "asked_tokens") == [300, 100, 0]
    assert draws.copies.max() == 1
    assert draws.copies[:30].all()


def test_the_cut_is_the_nearest_one() -> None:
    for budget, drawn in ((1, 0), (5, 0), (6, 1), (14, 1), (16, 2), (25, 2), (26, 3)):
        assert draw([0] * 9, [10] * 9, budget=budget).copies.sum() == drawn


def test_the_seed_changes_who_is_drawn_and_the_same_seed_does_not() -> None:
    corpus = ([0] * 200, [10] * 200)
    first, same, other = (draw(*corpus, budget=1000, seed=s).copies for s in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"books": 1, "crawls": 1}, r"names 'crawls', .* Did you mean 'crawl'\?"),
        ({"books": 1, "crawl": 1, "tickets": 1}, "asks for 'tickets', of which no token was kept"),
        ({"books": 1}, "says nothing about 'crawl'"),
        ({"books": 0, "crawl": 0}, "are all 0"),
        ({"books": -1, "crawl": 1}, "of 'books' is -1"),
        ({"books": float("nan"), "crawl": 1}, "of 'books' is nan"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw([0, 1], [10, 10], weights=weights, budget=10)


def test_an_impossible_mixture_is_refused_with_the_largest_feasible_one() -> None:
    corpus = ([0, 1], [100, 1000])
    weights = {"books": 0.5, "crawl": 0.5}
    with pytest.raises(InputError, match=r"4 epochs of 'books'; .* budget is 800 tokens"):
        draw(*corpus, weights=weights, budget=801)
    assert draw(*corpus, weights=weights, budget=800).copies[0] == 4
    with pytest.raises(InputError, match=r"epochs of all the text; .* is 4,400 tokens"):
        draw(*corpus, budget=4401)
    for knobs in ({"budget": 0}, {"repeat_cap": 0.5}, {"repeat_cap": float("nan")}):
        with pytest.raises(InputError):
            draw(*corpus, **knobs)
    with pytest.raises(InputError, match="no document was kept"):
        draw([], [], budget=10)


def test_an_empty_corpus_is_an_empty_mixture() -> None:
    draws = draw([], [])
    assert len(draws.copies) == 0
    assert column(draws, "asked_tokens") == [0, 0, 0]


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 99), st.integers(0, 20))
def test_a_prefix_is_nearest_and_grows_with_its_target(
    sizes: list[int], target: int, more: int
) -> None:
    array = np.array(sizes, dtype=np.int64)
    count = nearest_prefix(array, target)
    sums = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    best = min(abs(s - target) for s in sums)
    assert count == next(i for i, s in enumerate(sums) if abs(s - target) == best)
    assert nearest_prefix(array, target + more) >= count


@given(
    st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1).filter(lambda s: sum(s))
)
def test_parts_sum_to_the_whole_and_are_within_one(total: int, shares: list[int]) -> None:
    parts = apportion(total, shares)
    assert sum(parts) == total
    pairs = zip(parts, shares, strict=True)
    assert all(abs(part * sum(shares) - total * share) < sum(shares) for part, share in pairs)


def test_keyed_numbers_are_uniform_independent_and_frozen() -> None:
    ids = ids_of(list(range(20_000)))
    one, two = keyed_hash(ids, 7, "draw"), keyed_hash(ids, 7, "pack")
    for numbers in (one, two, one ^ two):
        counts = np.bincount((numbers >> np.uint64(56)).astype(int), minlength=256)
        assert ((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum() < 350  # chi2, 255 degrees
    assert not np.array_equal(one, keyed_hash(ids, 8, "draw"))
    # A change here would reshuffle every corpus there is.
    assert [hex(value) for value in one[:2]] == ["0x92830b87f4e53f78", "0xf40065405b4e5520"]


def test_equal_ids_keep_a_defined_order() -> None:
    ids = pa.array([b"b" * 16, b"a" * 16, b"b" * 16], pa.binary(16))
    order = keyed_order(ids, 1, "draw").tolist()
    assert order in ([0, 2, 1], [1, 0, 2])

"""What strategies ask of domains: the papers' formulas, exact sums, refusals to be believed."""

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.mixture.shares import Domains, Strategy, ask

sizes_of_domains = st.lists(st.integers(1, 5000), min_size=1, max_size=7)


def domains(available: list[int], cap: float = 4, **more: Any) -> Domains:
    return Domains(
        names=[f"d{i}" for i in range(len(available))],
        available=available,
        sizes=more.get("sizes", available),
        capacities=more.get("capacities", [int(cap * n) for n in available]),
    )


def largest(error: InputError) -> int:
    found = re.search(r"largest feasible budget is ([0-9,]+) ", str(error))
    assert found, str(error)
    return int(found[1].replace(",", ""))


def slow_unimax(available: list[int], epochs: float, budget: int) -> list[Fraction]:
    """The loop of Chung et al. 2023, algorithm 1, in exact fractions."""
    order = sorted(range(len(available)), key=lambda i: available[i])
    left, asked = Fraction(budget), [Fraction(0)] * len(available)
    for place, i in enumerate(order):
        even = left / (len(order) - place)
        asked[i] = min(even, Fraction(int(epochs * available[i])))
        left -= asked[i]
    return asked


@given(sizes_of_domains, st.sampled_from([1, 1.5, 2, 4]), st.integers(1, 60_000))
def test_unimax_is_the_papers_loop_within_one_token(
    available: list[int], epochs: float, budget: int
) -> None:
    strategy = Strategy(kind="unimax", budget=budget, epochs_at_most=epochs)
    slow = slow_unimax(available, epochs, budget)
    if sum(slow) < budget:
        with pytest.raises(InputError) as caught:
            ask(domains(available), strategy)
        assert largest(caught.value) == sum(slow)
        return
    asked = ask(domains(available), strategy)
    assert sum(asked) == budget
    for have, exact, mine in zip(available, slow, asked, strict=True):
        assert abs(mine - exact) < 1
        assert mine <= int(epochs * have)


STRATEGIES: list[dict[str, Any]] = [
    {"kind": "natural"},
    {"kind": "uniform"},
    {"kind": "temperature", "temperature": 3.0},
    {"kind": "unimax"},
    {"kind": "unimax", "epochs_at_most": 1.5},
    {"kind": "weights", "weights": {"d0": 0.3, "*": 1.1}},
    {"kind": "weights", "weights": {"d0": 1.0, "*": 2.0}, "epochs": {"d1": 1.25}},
    {"kind": "natural", "epochs": {"d0": 0.5}},
]


@given(
    st.lists(st.integers(1, 5000), min_size=3, max_size=6),
    st.lists(st.integers(2, 5), min_size=6, max_size=6),
    st.sampled_from(STRATEGIES),
    st.integers(1, 200_000),
)
def test_a_refused_budget_names_the_largest_and_one_more_is_refused(
    available: list[int], caps: list[int], knobs: dict[str, Any], budget: int
) -> None:
    capacities = [n * cap for n, cap in zip(available, caps, strict=False)]
    known = domains(available, capacities=capacities)
    fixed = sum(
        int(Fraction(e) * available[int(d[1:])]) for d, e in knobs.get("epochs", {}).items()
    )
    try:
        asked = ask(known, Strategy(**knobs, budget=budget))
    except InputError as error:
        if "alone ask for" in str(error):
            assert budget < fixed
            return
        most = largest(error)
        assert fixed <= most < budget
        assert sum(ask(known, Strategy(**knobs, budget=most))) == most
        with pytest.raises(InputError) as caught:
            ask(known, Strategy(**knobs, budget=most + 1))
        assert largest(caught.value) == most
        return
    assert sum(asked) == budget
    assert all(0 <= a <= room for a, room in zip(asked, capacities, strict=True))


@pytest.mark.parametrize("knobs", [*STRATEGIES[:5], {"kind": "weights", "weights": {"*": 1}}])
def test_a_budget_for_documents_that_are_all_left_out_is_refused(knobs: dict[str, Any]) -> None:
    unread = domains([100, 300], sizes=[0, 0], capacities=[0, 0])
    with pytest.raises(InputError, match="`copies` reads no document") as caught:
        ask(unread, Strategy(**knobs, budget=10))
    assert largest(caught.value) == 0
    assert len(str(caught.value).splitlines()) == 1
    spent = domains([100, 300], capacities=[0, 0])
    with pytest.raises(InputError, match="nothing is left to draw from") as caught:
        ask(spent, Strategy(**knobs, budget=10))
    assert largest(caught.value) == 0


def test_a_weight_for_a_domain_whose_documents_are_left_out_is_refused() -> None:
    with pytest.raises(InputError, match="asks for 'd1', of which `copies` reads no document"):
        ask(
            domains([100, 300], sizes=[100, 0], capacities=[400, 0]),
            Strategy(kind="weights", weights={"d0": 1, "d1": 1}, budget=10),
        )


def test_shares_of_less_than_a_token_are_exact() -> None:
    sizes = [Fraction(3, 4), Fraction(1, 2)]
    known = domains([3, 2], sizes=sizes, capacities=[12, 8])
    assert ask(known, Strategy(budget=10)) == [6, 4]
    assert ask(known, Strategy(kind="uniform", budget=10)) == [5, 5]
    assert ask(known, Strategy()) == [0, 0]
    assert ask(known, Strategy(kind="uniform")) == [1, 0]


@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.sampled_from([1e-9, 0.03, 1.0, 1.0, 1000.0])),
        min_size=2,
        max_size=6,
    ),
    st.sampled_from(["natural", "uniform", "weights"]),
)
def test_a_refused_budget_names_the_domain_that_sets_the_largest(
    pairs: list[tuple[int, float]], kind: Any
) -> None:
    available = [size for size, _ in pairs]
    weights = {f"d{i}": weight for i, (_, weight) in enumerate(pairs)} if kind == "weights" else {}
    known = domains(available)
    exact = {
        "natural": [Fraction(size) for size in available],
        "uniform": [Fraction(1)] * len(pairs),
        "weights": [Fraction(weight) for _, weight in pairs],
    }[kind]
    with pytest.raises(InputError) as caught:
        ask(known, Strategy(kind=kind, weights=weights, budget=10**9))
    fits = [room * sum(exact) / share for room, share in zip(known.capacities, exact, strict=True)]
    assert largest(caught.value) == min(fits) // 1
    named = re.search(r"epochs of 'd(\d+)'", str(caught.value))
    if named:
        assert fits[int(named[1])] // 1 == min(fits) // 1
    else:
        assert sum(known.capacities) - min(fits) <= len(pairs) + 1
    assert ("or that weight" in str(caught.value)) == (bool(named) and kind == "weights")


def test_a_tiny_weight_does_not_hide_the_domain_that_limits() -> None:
    weights = {"d0": 1, "d1": 0.0000001, "d2": 1000}
    with pytest.raises(InputError, match=r"than 4 epochs of 'd2'; .* budget or that weight"):
        ask(domains([121, 292, 21]), Strategy(kind="weights", weights=weights, budget=1000))


@given(sizes_of_domains, st.integers(1, 5000))
def test_temperature_goes_from_natural_to_uniform(available: list[int], budget: int) -> None:
    known = domains(available, cap=10**6)

    def at(**knobs: Any) -> list[int]:
        return ask(known, Strategy(budget=budget, **knobs))

    def near(one: list[int], other: list[int]) -> bool:
        return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))

    assert near(at(kind="temperature", temperature=1.0), at(kind="natural"))
    flat = at(kind="temperature", temperature=1e9)
    assert near(flat, at(kind="uniform"))
    exact = [n ** (1 / 2) for n in available]
    mine = at(kind="temperature", temperature=2.0)
    assert all(abs(a - budget * x / sum(exact)) < 1.001 for a, x in zip(mine, exact, strict=True))


def test_the_star_is_shared_in_natural_proportions() -> None:
    known = domains([100, 300, 600, 0])
    strategy = Strategy(kind="weights", weights={"d0": 1, "*": 3}, budget=400)
    assert ask(known, strategy) == [100, 100, 200, 0]


def test_domains_with_epochs_leave_the_rest_of_the_budget_to_the_others() -> None:
    known = domains([100, 300, 600])
    natural = Strategy(kind="natural", budget=500, epochs={"d0": 2})
    assert ask(known, natural) == [200, 100, 200]
    only = Strategy(kind="natural", epochs={"d0": 2, "d1": 0, "d2": 0.5})
    assert ask(known, only) == [200, 0, 300]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"epochs": {"d0": 1}}, "says nothing about 'd1', 'd2'"),
        ({"epochs": {"d0": 5, "d1": 0, "d2": 0}}, r"reads 'd0' 5 times.* at most 4 epochs"),
        ({"epochs": {"d0": 2}, "budget": 199}, r"alone ask for 200 tokens.* budget of 199"),
        ({"epochs": {"d0": 1, "d1": 1, "d2": 1}, "budget": 2000}, "remove the budget"),
        ({"epochs": {"dO": 1}, "budget": 2000}, r"names 'dO', the domains are: d0, d1, d2"),
        ({"kind": "weights", "weights": {"d0": 1}}, r"nothing about 'd1', 'd2'; .* as '\*'"),
        (
            {"kind": "weights", "weights": {"d0": 1, "d1": 1, "d2": 1, "*": 1}},
            "every domain is named",
        ),
        ({"kind": "uniform", "budget": 0}, "positive number of tokens, got 0"),
        ({"kind": "natural", "unit": "bytes", "budget": 9000}, r"feasible budget is 4,000 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ask(domains([100, 300, 600]), Strategy(**knobs))
    assert len(str(caught.value).splitlines()) == 1


def test_epochs_of_a_domain_that_lost_everything_are_refused() -> None:
    with pytest.raises(InputError, match="asks for 'd1', of which no token was kept"):
        ask(domains([100, 0]), Strategy(epochs={"d0": 1, "d1": 1}))
    assert ask(domains([100, 0]), Strategy(epochs={"d0": 1, "d1": 0})) == [100, 0]


def test_uniform_without_a_budget_repeats_nothing() -> None:
    assert ask(domains([100, 300, 0]), Strategy(kind="uniform")) == [100, 100, 0]

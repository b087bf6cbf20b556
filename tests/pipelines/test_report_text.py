import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.charts import histogram
from pipelines.report.facts import Rates
from pipelines.report.sections import effective_number
from pipelines.report.text import clip, number, percent, si, size, visible

SPARED = set("\n\t\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
ANY = st.text(st.characters(codec=None), max_size=200)


@given(ANY)
def test_no_hidden_character_is_left(text: str) -> None:
    shown = visible(text)
    left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - SPARED
    assert all(0x110BD <= ord(c) <= 0x13455 for c in left)  # marks and joiners of ancient scripts
    shown.encode()


@given(ANY)
def test_making_text_visible_twice_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_plain_text_is_left_alone(text: str) -> None:
    assert visible(text) == text


@given(ANY, st.integers(1, 300))
def test_clipped_text_is_short(text: str, max_bytes: int) -> None:
    assert len(clip(text, max_bytes).encode()) <= max_bytes + len(" [...]")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.00K"), (9_999, "10.0K"), (999_600, "1.00M"), (5, "5")],
)
def test_counts_have_three_digits(value: int, shown: str) -> None:
    assert si(value) == shown


def test_numbers_are_written_for_people() -> None:
    assert (number(1234567), number(0.25), number(100000.0), number(None)) == (
        "1,234,567",
        "0.25",
        "100,000",
        "-",
    )
    assert (percent(0.5), percent(0.0001), percent(0.0), percent(None)) == (
        "50.0 %",
        "<0.1 %",
        "0.0 %",
        "-",
    )
    assert (size(12), size(1_500), size(2_000_000_000)) == ("12 B", "1.50 kB", "2.00 GB")


def test_estimates_use_the_source_then_the_corpus_then_a_guess() -> None:
    rates = Rates({"a": (10, 40), "b": (0, 0)}, (10, 40))
    assert (rates.tokens("a", 400), rates.tokens("b", 80), rates.tokens("c", 2)) == (100, 20, 1)
    assert Rates({}, (0, 0)).tokens("a", 40) == 10


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20))
def test_the_effective_number_lies_between_one_and_all(shares: list[float]) -> None:
    assert 1 - 1e-6 <= effective_number(shares) <= len(shares) + 1e-6


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.lists(st.floats(-1e6, 2e6), max_size=3),
)
def test_bars_stay_inside_the_chart(
    counts: list[int], low: float, width: float, marks: list[float]
) -> None:
    edges = [low + i * width for i in range(len(counts) + 1)]
    chart = histogram(edges, counts, counts, marks=sorted(marks), log=False)
    for x, y, w, h in chart["all"]:
        assert -1 <= x <= 317
        assert x + w <= 318
        assert y >= 13
        assert y + h <= 81
    assert len(chart["marks"]) + len(chart["beyond"]) == len(marks)

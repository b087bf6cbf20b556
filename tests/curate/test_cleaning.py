"""Cleaning steps: the same laws for every step that the package holds, and what each one does."""

import re
import sys
import unicodedata
from typing import Literal, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.cleaning.base import Step
from curate.cleaning.clean import clean, parse_settings, steps
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError

# Python and Rust may know different versions of Unicode; where both know a character they agree.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=("Cs", "Cn")),
    st.sampled_from(
        "\r\n\t\x00\x0b\x0c\x1c\x7f\x85\x9f\ufeffae\u0301\u0327\u200d\ufb01\u1100\u1161"
    ),
)
TEXTS = st.lists(st.none() | st.text(CHARACTERS, max_size=40), max_size=8)
SETTINGS = st.fixed_dictionaries(
    {"unicode": st.sampled_from(["NFC", "NFKC", "none"]), "control": st.booleans()}
)


def column(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def slow_clean(text: str | None, settings: dict[str, object]) -> str | None:
    if text is None:
        return None
    if settings["control"]:
        text = re.sub("\r\n?|[\x0b\x0c\x85]", "\n", text)
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
        text = text.lstrip("\ufeff")
    if settings["unicode"] != "none":
        form = cast(Literal["NFC", "NFKC"], settings["unicode"])
        text = unicodedata.normalize(form, text)
    return text


@given(TEXTS, SETTINGS)
def test_cleaning_equals_its_plain_twin(
    texts: list[str | None], settings: dict[str, object]
) -> None:
    cleaned, _ = clean(column(texts), settings)
    assert cleaned.to_pylist() == [slow_clean(text, settings) for text in texts]


@given(TEXTS, SETTINGS)
def test_cleaning_a_clean_text_changes_nothing(
    texts: list[str | None], settings: dict[str, object]
) -> None:
    once, _ = clean(column(texts), settings)
    twice, changed = clean(once, settings)
    assert twice.equals(once)
    assert not any(rows.any() for rows in changed.values())


@given(TEXTS, SETTINGS, st.data())
def test_a_split_or_sliced_column_gives_the_same_rows(
    texts: list[str | None], settings: dict[str, object], data: st.DataObject
) -> None:
    whole, changed = clean(column(texts), settings)
    cut = data.draw(st.integers(0, len(texts)))
    parts = [
        clean(column(texts).slice(0, cut), settings),
        clean(column(texts).slice(cut), settings),
    ]
    assert pa.concat_arrays([cleaned for cleaned, _ in parts]).equals(whole)
    for step, rows in changed.items():
        assert np.array_equal(np.concatenate([flags[step] for _, flags in parts]), rows)
    chunked = pa.chunked_array([column(texts).slice(0, cut), column(texts).slice(cut)])
    assert clean(chunked, settings)[0].equals(whole)


@given(TEXTS)
def test_a_step_says_which_texts_it_changed(texts: list[str | None]) -> None:
    source = column(texts)
    cleaned, changed = clean(source, {})
    touched = changed["control"] | changed["unicode"]
    before, after = source.to_pylist(), cleaned.to_pylist()
    assert all(touched[row] for row in range(len(texts)) if before[row] != after[row])
    assert not any(touched[row] for row in range(len(texts)) if before[row] is None)
    assert source.to_pylist() == texts


@pytest.mark.parametrize("step", steps().values(), ids=lambda step: step.name)
def test_every_step_keeps_length_nulls_and_its_input(step: Step) -> None:
    texts: list[str | None] = ["e\u0301\r\n", None, "", "plain", "\ufeff\x00x"]
    series = pl.Series("text", texts, dtype=pl.String)
    first, second = step.apply(series, step.default), step.apply(series, step.default)
    assert series.to_list() == texts
    assert first.to_list() == second.to_list()
    assert first.is_null().to_list() == series.is_null().to_list()
    assert len(step.apply(series.clear(), step.default)) == 0
    assert step.apply(series, step.off).to_list() == texts
    assert step.parse(step.default) == step.default


def test_a_module_with_a_step_is_found_by_its_name() -> None:
    assert list(steps()) == ["control", "unicode"]
    for name in steps():
        assert f"curate.cleaning.{name}" in sys.modules


def test_an_empty_column_stays_empty() -> None:
    cleaned, changed = clean(column([]), {})
    assert cleaned.type == pa.large_string()
    assert len(cleaned) == 0
    assert {len(rows) for rows in changed.values()} == {0}


def test_a_step_that_is_off_reports_nothing() -> None:
    _, changed = clean(column(["e\u0301"]), {"unicode": None, "control": False})
    assert changed == {}


def test_line_breaks_keep_words_apart_and_joiners_stay() -> None:
    family = "\U0001f469\u200d\U0001f467"
    cleaned, _ = clean(column([f"one\x0ctwo\x85three\rfour\r\n{family}\u202e"]), {})
    assert cleaned.to_pylist() == [f"one\ntwo\nthree\nfour\n{family}\u202e"]


def test_an_accent_beside_a_removed_control_character_joins_its_letter() -> None:
    assert clean(column(["e\x01\u0301"]), {})[0].to_pylist() == ["\xe9"]


def test_settings_are_completed_and_canonical() -> None:
    assert parse_settings({}) == {"control": True, "unicode": "NFC"}
    assert parse_settings({"unicode": None}) == {"control": True, "unicode": "none"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"redact": ["email"]},
            "'redact' is not built yet; remove it. Cleaning steps are: control",
        ),
        ({"repeated_lines": {"above": 10}}, "'repeated_lines' is not built yet"),
        ({"redact": None}, "'redact' is not built yet"),
        ({"unicod": "NFC"}, "unknown step 'unicod'.* Did you mean 'unicode'"),
        ({"unicode": "NFD"}, "found 'NFD'; choices are: NFC, NFKC, none"),
        ({"unicode": "nfc"}, "found 'nfc'.* Did you mean 'NFC'"),
        ({"unicode": False}, "found False; choices are"),
        ({"control": "yes"}, "found 'yes'; write `control: true`"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        clean(column(["x"]), settings)


@given(TEXTS, st.integers(1, 50), st.integers(0, 3))
def test_slices_are_bounded_and_together_the_whole(
    texts: list[str | None], max_bytes: int, skip: int
) -> None:
    texts_seen = column(texts).slice(min(skip, len(texts)))
    pieces = list(slices(texts_seen, max_bytes))
    assert [text for piece in pieces for text in piece.to_pylist()] == texts_seen.to_pylist()
    for piece in pieces:
        size = sum(len(text.encode()) for text in piece.to_pylist() if text is not None)
        assert len(piece) == 1 or size <= max_bytes

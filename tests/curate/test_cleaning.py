"""Cleaning steps: the same laws for every step that the package holds, and what each one does."""

import json
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
from curate.cleaning.clean import Cleaned, clean, parse_settings, steps
from curate.cleaning.slices import slices
from curate.corpus.errors import InputError

# Python and Rust may know different versions of Unicode; where both know a character they agree.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=("Cs", "Cn")),
    st.sampled_from(
        "\r\n\t\x00\x0b\x0c\x1c\x7f\x85\x9f\ufeffae\u0301\u0327\u200d\ufb01\u1100\u1161"
    ),
)
# Space separators (general category Zs), and the tab.
BLANKS = "".join(chr(c) for c in range(sys.maxunicode) if unicodedata.category(chr(c)) == "Zs")
BLANKS += "\t"
CHARACTERS |= st.sampled_from("  \t\n\u3000\xa0")
TEXTS = st.lists(st.none() | st.text(CHARACTERS, max_size=40), max_size=8)
SETTINGS = st.fixed_dictionaries(
    {
        "unicode": st.sampled_from(["NFC", "NFKC", "none"]),
        "control": st.booleans(),
        "whitespace": st.booleans(),
        "redact": st.sampled_from([None, ["email", "phone"]]),
    }
)


# Every step, switched on.
ON: dict[str, object] = {
    "ftfy": True,
    "lines": ["c4", "refinedweb"],
    "whitespace": True,
    "redact": ["email", "secret"],
    "truncate": {"max_characters": 5},
}


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
    return slow_whitespace(text) if settings["whitespace"] else text


def slow_whitespace(text: str) -> str:
    lines = []
    for line in text.split("\n"):
        words = line.rstrip(BLANKS)
        start = len(words) - len(words.lstrip(BLANKS))
        inner = ""
        for at, character in enumerate(words[start:], start):
            before, after = words[at - 1 : at], words[at + 1 : at + 2]
            blank = character in BLANKS
            if not blank or (before not in BLANKS and after not in BLANKS):
                inner += character
            elif before not in BLANKS:
                inner += " "
        lines.append(words[:start] + inner)
    paragraphs: list[str] = []
    for line in lines:
        if line or (paragraphs and paragraphs[-1]):
            paragraphs.append(line)
    if len(paragraphs) > 1 and not paragraphs[-1]:
        paragraphs.pop()
        return "\n".join(paragraphs) + "\n"
    return "\n".join(paragraphs)


@given(TEXTS, SETTINGS)
def test_cleaning_equals_its_plain_twin(
    texts: list[str | None], settings: dict[str, object]
) -> None:
    cleaned = clean(column(texts), settings).texts
    assert cleaned.to_pylist() == [slow_clean(text, settings) for text in texts]


@given(TEXTS, SETTINGS)
def test_cleaning_a_clean_text_changes_nothing(
    texts: list[str | None], settings: dict[str, object]
) -> None:
    once = clean(column(texts), settings).texts
    twice = clean(once, settings)
    assert twice.texts.equals(once)
    assert not twice.changed.any()
    assert twice.revisions == ()


@given(TEXTS, SETTINGS, st.data())
def test_a_split_or_sliced_column_gives_the_same_rows(
    texts: list[str | None], settings: dict[str, object], data: st.DataObject
) -> None:
    whole = clean(column(texts), settings)
    cut = data.draw(st.integers(0, len(texts)))
    parts = [
        clean(column(texts).slice(0, cut), settings),
        clean(column(texts).slice(cut), settings),
    ]
    assert pa.concat_arrays([part.texts for part in parts]).equals(whole.texts)
    assert np.array_equal(np.concatenate([part.changed for part in parts]), whole.changed)
    told = evidence(parts[0]) | evidence(parts[1], cut)
    assert told == evidence(whole)
    chunked = pa.chunked_array([column(texts).slice(0, cut), column(texts).slice(cut)])
    assert clean(chunked, settings).texts.equals(whole.texts)


def evidence(cleaned: Cleaned, first: int = 0) -> set[tuple[str, str | None, int, int]]:
    return {
        (one.step, one.kind, first + row, count)
        for one in cleaned.revisions
        for row, count in zip(one.rows.tolist(), one.counts.tolist(), strict=True)
    }


@given(TEXTS, SETTINGS)
def test_what_changed_is_told_and_only_that(
    texts: list[str | None], settings: dict[str, object]
) -> None:
    source = column(texts)
    cleaned = clean(source, settings)
    before, after = source.to_pylist(), cleaned.texts.to_pylist()
    assert before == texts
    assert cleaned.changed.tolist() == [a != b for a, b in zip(before, after, strict=True)]
    told = {row for _, _, row, count in evidence(cleaned) if count > 0}
    assert told >= set(np.flatnonzero(cleaned.changed).tolist())
    assert all(before[row] is not None for row in told)


@pytest.mark.parametrize("step", steps().values(), ids=lambda step: step.name)
def test_every_step_keeps_length_nulls_and_its_input(step: Step) -> None:
    texts: list[str | None] = [
        "e\u0301\r\n",
        None,
        "",
        "plain",
        "\ufeff\x00x",
        "Mail  jo@site.org ",
        "caf\xc3\xa9",
    ]
    series = pl.Series("text", texts, dtype=pl.String)
    setting = step.parse(ON.get(step.name, step.default))
    first, second = step.apply(series, setting), step.apply(series, setting)
    assert series.to_list() == texts
    assert first is not None
    assert second is not None
    assert first.texts.to_list() == second.texts.to_list()
    assert first.rows.dtype == np.int64
    assert len(first.rows) == len(first.texts)
    assert all(row != 1 for row in first.rows)
    assert all(len(counts) == len(first.rows) for counts in first.counts.values())
    assert sum(counts.astype(np.int64) for counts in first.counts.values()).min() > 0
    assert step.apply(series.clear(), setting) is None
    assert step.apply(series, step.off) is None
    assert step.parse(step.default) == step.default
    assert step.parse(setting) == setting
    assert step.parse(None) == step.off


def test_a_module_with_a_step_is_found_by_its_name() -> None:
    order = ["ftfy", "control", "unicode", "lines", "whitespace", "redact", "truncate"]
    assert list(steps()) == order
    for name in steps():
        assert f"curate.cleaning.{name}" in sys.modules


def test_an_empty_column_stays_empty() -> None:
    cleaned = clean(column([]), {})
    assert cleaned.texts.type == pa.large_string()
    assert len(cleaned.texts) == len(cleaned.changed) == len(cleaned.revisions) == 0


def test_a_step_that_is_off_reports_nothing() -> None:
    assert clean(column(["e\u0301"]), {"unicode": None, "control": False}).revisions == ()


def test_line_breaks_keep_words_apart_and_joiners_stay() -> None:
    family = "\U0001f469\u200d\U0001f467"
    cleaned = clean(column([f"one\x0ctwo\x85three\rfour\r\n{family}\u202e"]), {}).texts
    assert cleaned.to_pylist() == [f"one\ntwo\nthree\nfour\n{family}\u202e"]


def test_an_accent_beside_a_removed_control_character_joins_its_letter() -> None:
    assert clean(column(["e\x01\u0301"]), {}).texts.to_pylist() == ["\xe9"]


def test_settings_are_completed_and_canonical() -> None:
    off = {"lines": None, "whitespace": None, "redact": None, "truncate": None}
    assert parse_settings({}) == {"ftfy": False, "control": True, "unicode": "NFC", **off}
    assert parse_settings({"unicode": None})["unicode"] == "none"
    full = parse_settings(ON)
    assert parse_settings(full) == full
    assert json.loads(json.dumps(full)) == full


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeated_lines": {"above": 10}}, "unknown step 'repeated_lines'; there are: control"),
        ({"unicod": "NFC"}, "unknown step 'unicod'.* Did you mean 'unicode'"),
        ({"unicode": "NFD"}, "found 'NFD'; choices are: NFC, NFKC, none"),
        ({"unicode": "nfc"}, "found 'nfc'.* Did you mean 'NFC'"),
        ({"unicode": False}, "found False; choices are"),
        ({"control": "yes"}, "found 'yes'; write `control: true`"),
        ({"ftfy": 1}, "found 1; write `ftfy: true`"),
        ({"whitespace": "yes"}, "found 'yes'; write a mapping of exempt"),
        ({"whitespace": {"exemt": []}}, "unknown key 'exemt'.* Did you mean 'exempt'"),
        ({"lines": ["c5"]}, "unknown rule 'c5'; there are: c4"),
        ({"lines": {}}, "found None; write a list of c4@tfds"),
        ({"truncate": {"at": "word"}}, "either max_characters or max_bytes"),
        ({"truncate": {"max_bytes": 9, "max_characters": 9}}, "either max_characters or"),
        ({"truncate": {"max_bytes": 0}}, "found 0; a limit is a whole number"),
        ({"truncate": {"max_bytes": True}}, "found True; a limit is a whole number"),
        ({"truncate": {"max_bytes": 9, "at": "page"}}, "found 'page'; choices are: paragraph"),
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

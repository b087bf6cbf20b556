"""Cleaning steps one by one: mojibake, lines and truncation against their plain twins."""

import sys
import time
import unicodedata

import ftfy
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.cleaning.clean import clean, steps
from curate.cleaning.ftfy import _config
from curate.cleaning.unicode import MAY_CHANGE
from curate.signals.line_rules import DIALECTS, keep_lines

WORDS = st.sampled_from(["a", "bb", "word", "\u00e9t\u00e9", "\u6f22\u5b57", "\U0001f469x"])
GAPS = st.sampled_from([" ", "  ", "\n", "\n\n", "\n\n\n", "\t", " \n "])
PROSE = st.lists(st.tuples(WORDS, GAPS), max_size=12).map(lambda p: "".join(a + b for a, b in p))


def apply(step: str, texts: list[str | None], setting: object) -> list[str | None]:
    known = steps()[step]
    change = known.apply(pl.Series(texts, dtype=pl.String), known.parse(setting))
    if change is None:
        return texts
    found = dict(zip(change.rows.tolist(), change.texts.to_list(), strict=True))
    return [found.get(row, text) for row, text in enumerate(texts)]


def garbled(text: str, encoding: str) -> str:
    return text.encode().decode(encoding, errors="replace")


# Pieces of sound and of broken text, and what ftfy finds suspicious at the beginning of a line.
MIXED = st.lists(
    st.sampled_from(
        ["plain", " ", "\n", "caf\u00e9", "\u00c3 ", "\u00c2 b", "\u00e2\u20ac\u2122", "\x1b[31m"]
        + [garbled(text, "latin-1") for text in ("na\u00efve", "\u20ac 5", "\u2019")]
        + [garbled(text, "cp1252") for text in ("\u00fcber", "\u65e5\u672c")]
        + [garbled("\u043f\u0440\u0438\u0432\u0435\u0442", "cp1251"), "\x85", "\u00c3\u00a9t\u00e9"]
        + [
            "\u0420\u0443\u0441\u0441\u043a\u0438\u0439",
            "\u6f22\u5b57",
            "<b>&amp;</b>",
            "\u201cq\u201d",
        ]
    ),
    max_size=10,
).map("".join)


def _absorbed() -> set[str]:
    """Return the characters that a character before them may absorb."""
    found = {chr(c) for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in (*range(0xD800), *range(0xE000, sys.maxunicode + 1)):
        parts = [chr(int(part, 16)) for part in _decomposition(chr(code))]
        if len(parts) == 2 and unicodedata.normalize("NFC", "".join(parts)) == chr(code):
            found.add(parts[1])
    return found


def _decomposition(character: str) -> list[str]:
    written = unicodedata.decomposition(character)
    return [] if written.startswith("<") else written.split()


def test_a_text_that_is_not_asked_to_be_normal_is_normal() -> None:
    codes = (*range(1, 0xD800), *range(0xE000, sys.maxunicode + 1))
    every = pl.Series([chr(code) for code in codes])
    asked = every.str.contains(MAY_CHANGE["NFC"])
    assert (asked | (every.str.normalize("NFC") == every)).all()
    moved = {character for character in every.to_list() if unicodedata.combining(character)}
    assert not (moved | _absorbed()) & set(every.filter(~asked).to_list())


@given(st.lists(st.none() | MIXED, max_size=6))
def test_mojibake_is_repaired_as_if_ftfy_had_seen_every_text(texts: list[str | None]) -> None:
    wanted = [None if text is None else ftfy.fix_text(text, _config()) for text in texts]
    assert apply("ftfy", texts, True) == wanted
    assert apply("ftfy", wanted, True) == wanted


def test_mojibake_is_repaired_and_what_is_sound_stays() -> None:
    sound = [
        "\u201cquoted\u201d \ufb01ne &lt;b&gt;\r\n",
        "\uff26\uff35\uff2c\uff2c",
        "caf\u00e9",
        None,
    ]
    assert apply("ftfy", sound, True) == sound
    broken = garbled("\u201cna\u00efve\u201d\n\u65e5\u672c\u8a9e", "latin-1")
    cleaned = clean(pa.array([broken], pa.large_string()), {"ftfy": True})
    assert cleaned.texts.to_pylist() == ["\u201cna\u00efve\u201d\n\u65e5\u672c\u8a9e"]
    assert [(one.step, one.kind) for one in cleaned.revisions] == [("ftfy", None)]


@pytest.mark.parametrize(
    "unit", ["\u00c3", "\u00c3\u00a9", "\u00e2\u20ac", "\x1b[", "\u00c3 \n", "\u00e9", "\x1b[1;"]
)
def test_mojibake_is_looked_for_in_linear_time(unit: str) -> None:
    began = time.process_time()
    apply("ftfy", [unit * (200_000 // len(unit))], True)
    assert time.process_time() - began < 5


def slow_truncate(text: str, limit: int, at: str) -> str:
    """Try every cut, the longest first; a finer boundary only where there is none."""
    if len(text) <= limit:
        return text
    for boundary in ("paragraph", "line", "word")[("paragraph", "line", "word").index(at) :]:
        for cut in range(limit, 0, -1):
            is_cut = {
                "paragraph": text[cut : cut + 2] == "\n\n",
                "line": text[cut] == "\n",
                "word": text[cut].isspace(),
            }[boundary]
            if is_cut and text[:cut].strip():
                return text[:cut].rstrip()
    return text[:limit].rstrip()


@given(PROSE, st.integers(1, 30), st.sampled_from(["paragraph", "line", "word"]))
def test_truncation_equals_trying_every_cut(text: str, limit: int, at: str) -> None:
    (found,) = apply("truncate", [text], {"max_characters": limit, "at": at})
    assert found == slow_truncate(text, limit, at)
    assert apply("truncate", [found], {"max_characters": limit, "at": at}) == [found]


@given(PROSE, st.integers(1, 30))
def test_a_limit_in_bytes_is_kept_and_no_character_is_cut(text: str, limit: int) -> None:
    (found,) = apply("truncate", [text], {"max_bytes": limit})
    assert found is not None
    assert len(found.encode()) <= limit
    assert text.startswith(found)


def test_what_truncation_takes_away_is_counted_in_characters() -> None:
    change = steps()["truncate"].apply(
        pl.Series(["one two three", "one"]),
        steps()["truncate"].parse({"max_characters": 9}),
    )
    assert change is not None
    assert change.texts.to_list() == ["one two"]
    assert {kind: counts.tolist() for kind, counts in change.counts.items()} == {None: [6]}


NAMES = {"c4@tfds": "c4", "refinedweb@dclm": "refinedweb", "c4@datatrove": "", "c4@dolma": ""}
PAGES = [
    "Home\nMenu\n\nThis line has an end mark.\n  So has this one, with blanks. "
    "\nNo mark here at all",
    "Read our privacy policy, please do read it.\nThis is a line with a mark.[3] It stays here.[1]",
    "12 comments\nTHIS LINE SHOUTS AT YOU ALL DAY\nA quiet line stays here.\n33"
    "\nRead more...\nSign-in",
    "",
    "A single good line that has an end mark.",
    "\r\nOne line here ends in a mark.\r\nAnother line here ends in a mark.\r\n",
    None,
]


@pytest.mark.parametrize("name", NAMES)
def test_lines_go_as_the_line_rules_say_and_are_counted(name: str) -> None:
    dialect = name.replace("@", "_")
    assert dialect in DIALECTS
    wanted = keep_lines(pl.Series(PAGES), dialect).to_list()
    assert apply("lines", PAGES, [name]) == wanted
    if NAMES[name]:
        assert apply("lines", PAGES, [NAMES[name]]) == wanted
    step = steps()["lines"]
    change = step.apply(pl.Series(PAGES), step.parse([name]))
    assert change is not None
    assert set(change.counts) == {name, f"{name}:tidied"}
    lost = dict(zip(change.rows.tolist(), change.counts[name].tolist(), strict=True))
    assert lost[0] == (3 if name.startswith("c4") else 2)
    total = sum(counts for counts in change.counts.values())
    assert total.min() > 0


@pytest.mark.parametrize("unit", [" ", "\n", " \n", "a  ", "\u3000", "a", "a\n", ". "])
def test_blanks_and_lines_take_linear_time(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))
    settings = {"whitespace": True, "lines": ["c4"], "truncate": {"max_bytes": 1_000_000}}
    began = time.process_time()
    clean(pa.array([text], pa.large_string()), settings)
    assert time.process_time() - began < 8


def test_a_source_that_is_exempt_keeps_its_texts() -> None:
    texts = pa.array(["a  b jo@site.org", "a  b jo@site.org", None], pa.large_string())
    sources = pa.array(["code", "prose", "code"])
    settings = {
        "whitespace": {"exempt": ["code"]},
        "redact": {"kinds": ["email"], "exempt": ["prose"]},
    }
    cleaned = clean(texts, settings, sources)
    assert cleaned.texts.to_pylist() == ["a  b <EMAIL_1>", "a b jo@site.org", None]
    told = {(one.step, one.kind): one.rows.tolist() for one in cleaned.revisions}
    assert told == {("whitespace", None): [1], ("redact", "email"): [0]}
    everything = clean(texts, settings).texts.to_pylist()
    assert everything[:2] == ["a b <EMAIL_1>"] * 2

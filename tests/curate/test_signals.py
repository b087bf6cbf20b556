"""The families that one kernel measures against slow, plain twins; what every family declares."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.signals.base import Family
from curate.signals.registry import available_columns, available_signals, families, measure

# Unicode's White_Space; Python's own idea of it has the separators U+001C to U+001F in addition.
SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
ELLIPSES = ("...", "\u2026")
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def visible_lines(text: str) -> list[str]:
    return [line.strip(SPACE) for line in text.split("\n") if line.strip(SPACE)]


def slow_paragraphs(text: str) -> list[str]:
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip(SPACE):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return ["\n".join(lines).strip(SPACE) for lines in paragraphs if lines]


def slow_words(text: str) -> list[str]:
    return [word for word in re.split(f"[{SPACE}]+", text) if word]


def slow_document(text: str) -> dict[str, Any]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return {
        "num_bytes": len(text.encode()),
        "num_chars": len(text),
        "num_lines": len(lines),
        "num_paragraphs": len(slow_paragraphs(text)),
        "num_words": len(slow_words(text)),
        "mean_line_length": ratio(sum(map(len, lines)), len(lines)),
    }


def slow_gopher(text: str) -> dict[str, Any]:
    words, lines = slow_words(text), visible_lines(text)

    def share(of: list[str], holds: Callable[[str], bool]) -> float | None:
        return ratio(sum(map(holds, of)), len(of))

    def has_letter(word: str) -> bool:
        return any(unicodedata.category(c).startswith("L") for c in word)

    folded = {"".join(c.lower() if c.isascii() else c for c in word) for word in words}
    return {
        "mean_word_length": ratio(sum(map(len, words)), len(words)),
        "hash_word_ratio": ratio(text.count("#"), len(words)),
        "ellipsis_word_ratio": ratio(sum(map(text.count, ELLIPSES)), len(words)),
        "bullet_line_fraction": share(lines, lambda line: line[0] in "-*\u2022\u25cf"),
        "ellipsis_line_fraction": share(lines, lambda line: line.endswith(ELLIPSES)),
        "alpha_word_fraction": share(words, has_letter),
        "num_stop_words": len(folded & STOP_WORDS),
    }


def slow_repetition(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for unit, parts in (("line", visible_lines(text)), ("paragraph", slow_paragraphs(text))):
        seen: set[str] = set()
        again = []
        for part in parts:
            if part in seen:
                again.append(part)
            seen.add(part)
        chars = sum(map(len, parts))
        found[f"duplicate_{unit}_fraction"] = ratio(len(again), len(parts))
        found[f"duplicate_{unit}_char_fraction"] = ratio(sum(map(len, again)), chars)
    words = slow_words(text)
    chars = sum(map(len, words))
    for n in (2, 3, 4):
        found[f"top_{n}gram_char_fraction"] = ratio(slow_top_chars(words, n), chars)
    for n in range(5, 11):
        found[f"duplicate_{n}gram_char_fraction"] = ratio(slow_duplicate_chars(words, n), chars)
    return found


def slow_top_chars(words: list[str], n: int) -> int:
    ngrams = Counter(zip(*(words[k:] for k in range(n)), strict=False))
    if not ngrams:
        return 0
    [(ngram, count)] = ngrams.most_common(1)
    return count * sum(map(len, ngram))


def slow_duplicate_chars(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    chars = start = 0
    while start + n <= len(words):
        ngram = tuple(words[start : start + n])
        chars += sum(map(len, ngram)) if ngram in seen else 0
        start += n if ngram in seen else 1
        seen.add(ngram)
    return chars


TWINS = {"document": slow_document, "gopher": slow_gopher, "repetition": slow_repetition}

# Python and Rust may know different versions of Unicode; where both know a character they agree.
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=5),
    st.sampled_from([*SPACE, " ", "\n", "\n\n", "\r\n", "\x1c", "\u200b"]),
    st.sampled_from(
        ["the", "The", "the,", "with", "w\u0131th", "ha\u017fe", "#", "...", "....", "-"]
    ),
    st.sampled_from(
        ["\u2026", "\u2022 ", "\u25cf", "*", "line", "12", "\u4e2d", "\u0301", "\u02b0"]
    ),
)
REPETITIVE = st.lists(
    st.sampled_from(["a", "be", "the\x00", "longer\u00e9than8", "a\nb"]), max_size=60
)
TEXT = st.lists(PIECES, max_size=25).map("".join) | REPETITIVE.map(" ".join)
TEXTS = st.lists(st.none() | TEXT, max_size=6)


def column(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def slow_rows(family: Family, texts: list[str | None]) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(family.signals)
    return [nothing if text is None else TWINS[family.name](text) for text in texts]


every_family = pytest.mark.parametrize("family", families().values(), ids=lambda one: one.name)
every_twin = pytest.mark.parametrize(
    "family", [families()[name] for name in TWINS], ids=lambda one: one.name
)


def columns_of(family: Family, texts: pa.Array) -> list[pa.Array]:
    """The columns that a family reads, with nothing in those that are no text."""
    return [
        texts
        if name == "text"
        else pa.nulls(len(texts), pa.binary(16) if name == "text_hash" else pa.string())
        for name in family.reads
    ]


@every_twin
@given(TEXTS)
@example(["", " ", "\n", "\n\n", "a", "a\n", "\na", None, "...\n ...  \n....", "- a\n\t* b\n-"])
@example(["the THE tHe", "the\xa0be", "the\u200bbe", "\x1cthe\x1c", "a\n\nb\n \nb\n\n\n a"])
def test_a_family_equals_its_plain_twin_on_any_text(
    family: Family, texts: list[str | None]
) -> None:
    assert measure(column(texts), [family.name]).to_pylist() == slow_rows(family, texts)


@every_twin
def test_a_family_equals_its_plain_twin_on_real_files(family: Family, shared_data: Path) -> None:
    code = pq.read_table(shared_data / "text" / "code_python.parquet", columns=["text"])
    texts: list[str | None] = code.column("text").to_pylist()[::60]
    packed = (shared_data / "text" / "multilingual_udhr.jsonl.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines()
    texts += [json.loads(line)["text"] for line in lines[::8]]
    # A script encoded after this Python's Unicode tables has letters that it cannot see.
    texts = [text for text in texts if all(unicodedata.category(c) != "Cn" for c in text or "")]
    assert len(texts) > 100
    assert measure(column(texts), [family.name]).to_pylist() == slow_rows(family, texts)


@every_family
def test_a_family_declares_what_it_gives(family: Family) -> None:
    texts = column(["One line.\n- Two the be\n", "", None, "...\n..."])
    columns = columns_of(family, texts)
    table = family.measure(*columns)
    assert table.column_names == list(family.signals)
    assert [field.type for field in table.schema] == [s.dtype for s in family.signals.values()]
    assert all(signal.description for signal in family.signals.values())
    if family.reads == ("text",):
        assert table.slice(2, 1).to_pylist() == [dict.fromkeys(family.signals)]
    assert family.measure(*columns).equals(table)
    assert texts.to_pylist() == ["One line.\n- Two the be\n", "", None, "...\n..."]
    assert family.measure(*(one.slice(0, 0) for one in columns)).schema.equals(table.schema)
    assert measure(texts.slice(0, 0), [family.name]).schema.equals(table.schema)


@given(TEXTS, st.lists(st.integers(0, 6), max_size=3))
def test_a_split_or_sliced_column_gives_the_same_numbers(
    texts: list[str | None], cuts: list[int]
) -> None:
    whole = measure(column(texts), TWINS)
    edges = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    parts = [column(texts).slice(start, stop - start) for start, stop in pairwise(edges)]
    assert measure(pa.chunked_array(parts, pa.large_string()), TWINS).equals(whole)
    if parts:
        assert pa.concat_tables([measure(part, TWINS) for part in parts]).equals(whole)


@given(TEXTS)
def test_a_number_is_finite_or_null(texts: list[str | None]) -> None:
    frame = pl.DataFrame(measure(column(texts), TWINS))
    for series in frame.select(pl.col(pl.Float64)):
        assert series.drop_nulls().is_finite().all()


def test_every_signal_has_one_owner() -> None:
    assert set(TWINS) <= set(families())
    assert list(families()) == sorted(families())
    names = [name for family in families().values() for name in family.signals]
    assert len(set(names)) == len(names)
    assert list(available_signals()) == names == list(available_columns())
    assert measure(column(["x"]), TWINS).column_names == [
        name for name in names if any(name in families()[one].signals for one in TWINS)
    ]


def test_the_order_of_the_asked_families_does_not_matter() -> None:
    texts = column(["one two"])
    assert measure(texts, ["gopher", "document"]).equals(measure(texts, ["document", "gopher"]))


def test_an_unknown_family_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown signal family 'gofer'.*Did you mean 'gopher'"):
        measure(column(["x"]), ["gofer"])


def test_a_column_of_many_slices_is_measured_row_by_row() -> None:
    texts: list[str | None] = [f"row {n} of many\n" * (300_000 + n) for n in range(4)]
    table = measure(column(texts), ["document"])
    assert table.column("num_lines").to_pylist() == [300_000, 300_001, 300_002, 300_003]

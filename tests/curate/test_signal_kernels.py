r"""One pass over the bytes counts what polars' regular expressions count, character by character.

The polars definitions below are how the signals were first written: slow, and easy to read.
"""

import gc
import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.kernels import classes, tables
from curate.signals import document, fused, gopher, repetition
from curate.signals.base import BLANKS, LINE, PARAGRAPH, WORD, ratio, text_frame
from curate.signals.registry import measure

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
ELLIPSIS = r"(?:\.\.\.|\x{2026})"
UNITS = ("line", "paragraph")
FAMILIES = ("document", "gopher", "repetition")

# Whatever a character may be to the kernel, at each place where it may stand.
KINDS = [
    *("a", "Z", "7", "#", ".", "-", "*", " ", "\n", "\t", "\r", "\x0b", "\x00", "\x1c", "\x7f"),
    *("\x85", "\xa0", "\xe9", "\xd7", "\u0301", "\u1680", "\u2003", "\u200b", "\u2022", "\u2026"),
    *("\u2028", "\u2029", "\u25cf", "\u3000", "\u4e2d", "\ufeff", "\ufffd", "\uffff"),
    *("\U0001f600", "\U00020000", "\U00040000", "\U000e0100", "\U0010ffff"),
]


def polars_document(texts: pa.Array) -> pl.DataFrame:
    text = pl.col("text")
    return (
        text_frame(texts)
        .select(
            num_bytes=text.str.len_bytes().cast(pl.Int64),
            num_chars=text.str.len_chars().cast(pl.Int64),
            newlines=text.str.count_matches("\n", literal=True).cast(pl.Int64),
            open_line=(text.str.ends_with("\n").not_() & (text != "")).cast(pl.Int64),
            num_paragraphs=text.str.count_matches(PARAGRAPH).cast(pl.Int64),
            num_words=text.str.count_matches(WORD).cast(pl.Int64),
        )
        .with_columns(num_lines=pl.col("newlines") + pl.col("open_line"))
        .with_columns(
            mean_line_length=ratio(pl.col("num_chars") - pl.col("newlines"), pl.col("num_lines"))
        )
    )


def polars_gopher(texts: pa.Array) -> pl.DataFrame:
    text = pl.col("text")

    def count(pattern: str) -> pl.Expr:
        return text.str.count_matches(pattern).cast(pl.Int64)

    stop_words = [text.str.contains(rf"(?:^|\s)(?i-u:{w})(?:\s|$)") for w in STOP_WORDS]
    words, lines = count(WORD), count(LINE)
    return text_frame(texts).select(
        mean_word_length=ratio(text.str.len_chars().cast(pl.Int64) - count(r"\s"), words),
        hash_word_ratio=ratio(count("#"), words),
        ellipsis_word_ratio=ratio(count(ELLIPSIS), words),
        bullet_line_fraction=ratio(count(rf"(?m)^{BLANKS}[-*\x{{2022}}\x{{25CF}}]"), lines),
        ellipsis_line_fraction=ratio(count(rf"(?m){ELLIPSIS}{BLANKS}$"), lines),
        alpha_word_fraction=ratio(count(r"\p{L}\S*"), words),
        num_stop_words=pl.sum_horizontal(
            *(flag.cast(pl.Int64) for flag in stop_words), ignore_nulls=False
        ),
    )


def polars_fractions(documents: pl.DataFrame, unit: str) -> pl.DataFrame:
    text = pl.col("text")
    found = text.str.split("\n") if unit == "line" else text.str.extract_all(PARAGRAPH)
    units = (
        documents.select("document", unit=found)
        .explode("unit")
        .with_columns(pl.col("unit").str.strip_chars())
        .filter(pl.col("unit") != "")
        .with_columns(chars=pl.col("unit").str.len_chars().cast(pl.Int64))
    )
    again = pl.col("unit").is_first_distinct().not_()
    sums = units.group_by("document").agg(
        units=pl.len(),
        again=again.sum(),
        unit_chars=pl.col("chars").sum(),
        again_chars=pl.col("chars").filter(again).sum(),
    )
    return sums.select(
        "document",
        ratio(pl.col("again"), pl.col("units")).alias(f"duplicate_{unit}_fraction"),
        ratio(pl.col("again_chars"), pl.col("unit_chars")).alias(f"duplicate_{unit}_char_fraction"),
    )


def polars_repetition(texts: pa.Array) -> pl.DataFrame:
    documents = text_frame(texts).with_row_index("document")
    frame = documents.select("document")
    for unit in UNITS:
        fractions = polars_fractions(documents, unit)
        frame = frame.join(fractions, on="document", how="left", maintain_order="left")
    return frame


TWINS = (
    (document.FAMILY, polars_document),
    (gopher.FAMILY, polars_gopher),
    (repetition.FAMILY, polars_repetition),
)


def column(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def assert_as_polars(texts: pa.Array) -> None:
    for family, twin in TWINS:
        table, slow = family.measure(texts), twin(texts)
        for name in family.signals:
            if "gram" not in name:  # n-grams have their twin in test_signals
                assert table.column(name).to_pylist() == slow.get_column(name).to_list(), name


@given(st.lists(st.text(st.sampled_from(KINDS), max_size=300), max_size=4))
def test_all_counts_are_those_of_polars(texts: list[str | None]) -> None:
    assert_as_polars(column(texts))


def test_every_character_of_unicode_counts_as_polars_says() -> None:
    characters = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    lines = ["\n".join(characters[k : k + 997]) for k in range(0, len(characters), 997)]
    assert_as_polars(column([*lines, *characters[:0x3100]]))


@pytest.mark.parametrize("size", [*range(60, 69), *range(124, 132)])
def test_what_stands_across_two_blocks_of_64_bytes_is_one(size: int) -> None:
    pieces = [*KINDS, "...", "....", "\u2026 ", "the", "\n-", "\n\n", " \u2028 ", "\n \u2022"]
    texts = [
        f"{'x' * (size - lead)}{piece}{rest}"
        for lead, piece, rest in itertools.product(
            (0, 1, 2, 3, 4), pieces, ("", "\n", " ", "\nx", "a b")
        )
    ]
    assert_as_polars(column([*texts, *(text.replace("x", " ") for text in texts)]))


def test_real_files_give_what_polars_gives(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "text" / "docs_peps.parquet", columns=["text"])
    assert_as_polars(table.column("text").cast(pa.large_string()).combine_chunks().slice(0, 60))


def test_a_broken_table_of_characters_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "cache_folder", lambda: tmp_path)
    table = classes.class_table.__wrapped__()
    [path] = tmp_path.iterdir()
    assert (classes.class_table.__wrapped__() == table).all()
    path.write_bytes(b"\x93NUMPY, and no more")
    assert (classes.class_table.__wrapped__() == table).all()
    assert path.stat().st_size > table.size


def test_what_is_not_a_stop_word_is_none() -> None:
    texts: list[str | None] = [
        "the\x00",
        "th",
        "thee",
        "the\x00\x00\x00\x00+",
        "T\x08E",
        "withwith",
    ]
    found = gopher.FAMILY.measure(column(texts)).column("num_stop_words")
    assert found.to_pylist() == [0] * len(texts)
    every = gopher.FAMILY.measure(column([" ".join(STOP_WORDS).title()]))
    assert every.column("num_stop_words").to_pylist() == [8]


HOSTILE = {
    "one word": "x" * 1_000_000,
    "one character again and again": "x " * 500_000,
    "only newlines": "\n" * 1_000_000,
    "only dots": "." * 1_000_000,
    "only ellipses": "\u2026" * 333_000,
    "blank lines": " \u2028\n" * 200_000,
    "one line again and again": "the same line\n" * 70_000,
    "lines with equal ends": "".join(f"aaaaaaaa {n:08} zzzzzzzz\n" for n in range(40_000)),
    "two words in turn": "ab cd " * 160_000,
    "a paragraph again and again": "one\ntwo\n\n" * 100_000,
    "numbers that count": " ".join(f"{n:08}" for n in range(110_000)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_takes_the_time_of_its_length(text: str) -> None:
    measure(column(["warm"]), FAMILIES)
    start = time.process_time()
    table = measure(column([text]), FAMILIES)
    assert time.process_time() - start < 1.0  # 20 ms; what is quadratic would take minutes
    for name, values in zip(table.column_names, table.columns, strict=True):
        if name.startswith("duplicate"):
            assert values[0].as_py() is None or 0 <= values[0].as_py() <= 1


def test_numbers_that_differ_in_their_last_digits_do_not_collide() -> None:
    words = [f"{n:08}" for n in range(3000)]
    text = " ".join(f"{a} {b}" for a, b in itertools.product(words[::60], words[1::60]))
    pairs = Counter(itertools.pairwise(text.split()))
    [(_, most)] = pairs.most_common(1)
    row = repetition.FAMILY.measure(column([text])).to_pylist()[0]
    assert row["top_2gram_char_fraction"] == most * 16 / (8 * len(text.split()))
    lines = "\n".join(
        f"12345678{a:07}{b}4567890{c}23456789"
        for a, b, c in itertools.product(range(9), range(10), range(10))
    )
    row = repetition.FAMILY.measure(column([lines])).to_pylist()[0]
    assert row["duplicate_line_fraction"] == 0


def slow_counts(words: list[int], lengths: list[int]) -> dict[str, Any]:
    """What `NgramCounts` says of one document, by its words."""

    def ngrams(n: int) -> list[tuple[tuple[int, ...], int]]:
        return [
            (tuple(words[k : k + n]), sum(lengths[k : k + n])) for k in range(len(words) - n + 1)
        ]

    top = []
    for n in (2, 3, 4):
        counts = Counter(ngram for ngram, _ in ngrams(n))
        best = counts.most_common(1)[0] if counts else ((), 0)
        top.append((best[1], dict(ngrams(n)).get(best[0], 0)))
    skipped = []
    for n in range(5, 11):
        seen: set[tuple[int, ...]] = set()
        free = chars = 0
        for k, (ngram, size) in enumerate(ngrams(n)):
            if k >= free and ngram in seen:
                chars, free = chars + size, k + n
            elif k >= free:
                seen.add(ngram)
        skipped.append(chars)
    repeated = []
    for n in range(5, 11):
        occurrences = Counter(ngram for ngram, _ in ngrams(n))
        repeated.append(sum(size for ngram, size in ngrams(n) if occurrences[ngram] > 1))
    return {
        "characters": sum(lengths),
        "top_count": [count for count, _ in top],
        "top_characters": [size for _, size in top],
        "skipped_characters": skipped,
        "repeated_characters": repeated,
        "all_characters": [sum(size for _, size in ngrams(n)) for n in range(5, 11)],
    }


WORDS = st.lists(st.integers(0, 3), max_size=30).map(lambda words: words + words[: len(words) // 2])


@given(st.lists(WORDS, max_size=5))
def test_ngram_counts_are_those_of_a_counter(documents: list[list[int]]) -> None:
    from curate.kernels.ngrams import count_ngrams

    lengths = [[1 + word % 3 for word in words] for words in documents]
    counts = count_ngrams(
        np.array([word for words in documents for word in words], dtype=np.uint64),
        np.array([size for sizes in lengths for size in sizes], dtype=np.int64),
        np.cumsum([0, *map(len, documents)]),
    )
    for i, words in enumerate(documents):
        expected = slow_counts(words, lengths[i])
        assert {name: getattr(counts, name)[i].tolist() for name in expected} == expected


@given(st.lists(st.text(st.sampled_from(KINDS), max_size=100), min_size=1, max_size=4))
def test_a_giant_text_is_measured_with_scratch_for_its_own_words(texts: list[str]) -> None:
    usual = measure(column(list(texts)), FAMILIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "GIANT_BYTES", 0)
        assert measure(column(list(texts)), FAMILIES).equals(usual)
        for text in texts:
            data = np.frombuffer(text.encode(), dtype=np.uint8)
            assert fused._most_gaps(data, data.size) + 1 >= len(text.split())


def test_three_families_scan_a_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scanned = fused._measured
    monkeypatch.setattr(fused, "_measured", lambda texts: scans.append(1) or scanned(texts))
    measure(column(["some text", None]), FAMILIES)
    assert len(scans) == 1


def test_counts_live_as_long_as_their_texts() -> None:
    texts = column(["some text"])
    assert fused.text_counts(texts) is fused.text_counts(texts)
    del texts
    gc.collect()
    assert "kept" not in fused._THREAD.__dict__

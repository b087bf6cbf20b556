"""Repeated lines against a slow and plain twin: what a line is, which repeat, and what is cut."""

import itertools
import re
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup.lines import (
    LineRule,
    contained,
    distinct,
    documents_per_line,
    find_lines,
    frequent,
    line_keys,
    line_values,
    sorted_unique,
)
from curate.kernels.fold import fold_character
from curate.kernels.lines import MULTIPLIER
from curate.kernels.mix import fmix64
from curate.tokens.cuts import cut_spans

_TEXTS = st.lists(
    st.text(
        alphabet=st.one_of(
            st.sampled_from("aB1 9\n\n\r\t.,;}_"),
            st.sampled_from(
                "\xe9\u0301\u0130\xdf\u03a3\u4e2d\u0e01\u0661\U0001d400\U0001f600\u2028"
            ),
            st.characters(codec="utf-8"),
        ),
        max_size=60,
    ),
    max_size=8,
)
_RULES = st.builds(
    LineRule, min_characters=st.integers(1, 6), numbers=st.sampled_from(["keep", "zero"])
)


def _array(texts):
    return pa.array(texts, pa.large_string())


def _words(line, numbers):
    """Return a line's words, and how many characters they have."""
    folded = "".join(fold_character(character) for character in line)
    counted = re.sub(r"\d+", "", folded) if numbers == "zero" else folded
    if numbers == "zero":
        folded = re.sub(r"\d+", "0", folded)
    return [word for word in folded.split("\0") if word], len(counted.replace("\0", ""))


def _hash(words):
    """Compute the hash as the kernel's docstring says it."""
    data, mask = "\0".join(words).encode(), (1 << 64) - 1

    def mix(x):
        x = x * int(MULTIPLIER) & mask
        return x ^ x >> 32

    h, full = 0, len(data) // 8 * 8
    for at in range(0, full, 8):
        h = mix(h ^ int.from_bytes(data[at : at + 8], "big"))
    h = mix(h ^ int.from_bytes(data[full:], "big"))
    return int(fmix64(np.array([(h + len(data)) & mask], dtype=np.uint64))[0])


def _twin(texts, rule):
    """Return [document, start, length, words] of every line that is long enough."""
    found = []
    for row, text in enumerate(texts):
        start = 0
        for line in re.findall(r"[^\n]*\n|[^\n]+", text or ""):
            words, size = _words(line, rule.numbers)
            length = len(line.encode())
            if size >= rule.min_characters:
                found.append((row, start, length, tuple(words)))
            start += length
    return found


def _tuples(lines):
    columns = (lines.document, lines.start, lines.length, lines.line)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(texts=_TEXTS, rule=_RULES)
@example(texts=[], rule=LineRule())
@example(texts=["", "\n", "\n\n", "ab\r\ncd\r\n", "ab\ncd"], rule=LineRule(min_characters=1))
@example(texts=["12 a", "1 a", "a1b22", "a9b0"], rule=LineRule(min_characters=1, numbers="zero"))
@example(texts=["abcdefg hi", "abcdefgh i", "abcdefghi"], rule=LineRule(min_characters=1))
def test_lines_and_their_hashes_are_those_of_the_plain_twin(texts, rule):
    plain = [(*line[:3], _hash(line[3])) for line in _twin(texts, rule)]
    assert _tuples(find_lines(_array(texts), rule)) == plain


@given(texts=_TEXTS, rule=_RULES, cut=st.integers(0, 8))
def test_lines_are_the_same_however_the_column_is_split(texts, rule, cut):
    whole = find_lines(_array(texts), rule)
    split = pa.chunked_array([_array(texts[:cut]), _array(texts[cut:])], pa.large_string())
    assert _tuples(find_lines(split, rule)) == _tuples(whole)
    around = _array(["before\n", *texts, "behind"]).slice(1, len(texts))
    assert _tuples(find_lines(around, rule)) == _tuples(whole)


def test_long_columns_are_worked_through_in_slices():
    texts = [f"{i} is a number that stands here\nsame line everywhere\n" * 40 for i in range(3000)]
    rule = LineRule(min_characters=10)
    lines = find_lines(_array(texts), rule)
    assert sum(map(len, texts)) > 5 << 20
    assert len(lines) == 80 * len(texts)
    assert (np.diff(lines.document) >= 0).all()
    assert np.unique(lines.line).size == len(texts) + 1


def test_a_null_has_no_lines_and_keeps_its_place():
    lines = find_lines(
        _array([None, "some words", None, "other words"]), LineRule(min_characters=1)
    )
    assert lines.document.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Copyright (c) 2020, The Authors.", "copyright  C 2020 the authors\r"),
        ("caf\xe9 au lait", "CAFE\u0301 AU LAIT"),
        ("\tdef run(self):", "def run ( self )"),
    ],
)
def test_lines_of_the_same_words_are_the_same(left, right):
    lines = find_lines(_array([left, right + "\n"]), LineRule(min_characters=1))
    assert lines.line[0] == lines.line[1]


@pytest.mark.parametrize(
    ("left", "right"),
    [("ab cd", "abcd"), ("ab cd", "cd ab"), ("a a", "a a a"), ("page 1", "page 2")],
)
def test_lines_of_other_words_are_not(left, right):
    lines = find_lines(_array([left, right]), LineRule(min_characters=1))
    assert lines.line[0] != lines.line[1]


def test_numbers_may_be_alike_and_then_count_for_nothing():
    texts = _array(["Page 7 of 12", "page 1234 of 9", "1 22 333 4444 55555 666666"])
    lines = find_lines(texts, LineRule(min_characters=6, numbers="zero"))
    assert lines.document.tolist() == [0, 1]
    assert lines.line[0] == lines.line[1]
    kept = find_lines(texts, LineRule(min_characters=6))
    assert np.unique(kept.line).size == 3


def test_short_lines_are_never_looked_at():
    texts = _array(["}\n    return None\n# ------------------------------\nimport os\n"])
    assert len(find_lines(texts, LineRule())) == 0


def test_a_rule_that_looks_at_every_line_is_refused():
    with pytest.raises(InputError, match="min_characters is at least 1, got 0"):
        LineRule(min_characters=0)


_SMALL = st.lists(
    st.lists(st.sampled_from(["alpha", "beta", "Gamma", "delta \xe9", ""]), max_size=6), max_size=9
)


@given(
    documents=_SMALL,
    above=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 9), max_size=3),
    seed=st.randoms(),
)
def test_repeated_lines_and_what_is_left_are_those_of_the_plain_twin(documents, above, cuts, seed):
    """Counted in any number of parts, in any order of documents; the text is what was not cut."""
    texts = ["\n".join(lines) for lines in documents]
    seed.shuffle(texts)
    rule = LineRule(min_characters=4)
    holders = defaultdict(set)
    for row, _, _, words in _twin(texts, rule):
        holders[words].add(row)
    repeated = {words for words, rows in holders.items() if len(rows) > above}
    bounds = sorted({0, len(texts), *(cut for cut in cuts if cut <= len(texts))})
    runs, groups = [], []
    for low, high in itertools.pairwise(bounds):
        lines = find_lines(_array(texts[low:high]), rule)
        line, row = distinct(lines.line, lines.document)
        runs.append(line)
        groups.append(row.astype(np.uint64) + np.uint64(low))
    found = frequent(runs, above)
    assert found.tolist() == sorted(_hash(words) for words in repeated)
    if runs:
        line, num_docs, num_groups = documents_per_line(
            np.concatenate(runs), np.concatenate(groups)
        )
        told = {_hash(words): len(rows) for words, rows in holders.items()}
        assert dict(zip(line.tolist(), num_docs.tolist(), strict=True)) == told
        assert (num_docs == num_groups).all()
    lines = find_lines(_array(texts), rule)
    lines = lines.where(contained(lines.line, found))
    left = cut_spans(_array(texts), lines.document, lines.start, lines.length)
    plain = [
        "".join(
            line
            for line in re.findall(r"[^\n]*\n|[^\n]+", text)
            if tuple(_words(line, "keep")[0]) not in repeated
        )
        for text in texts
    ]
    assert left.to_pylist() == plain


def test_documents_of_one_group_count_once():
    line = np.array([5, 5, 5, 9, 9], dtype=np.uint64)
    group = np.array([1, 1, 2, 3, 4], dtype=np.uint64)
    found = documents_per_line(line, group)
    assert [column.tolist() for column in found] == [[5, 9], [3, 2], [2, 2]]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30))
def test_distinct_pairs_are_sorted_and_each_there_once(pairs):
    pairs.sort(key=lambda pair: pair[1])
    line = np.array([a for a, _ in pairs], dtype=np.uint64)
    document = np.array([b for _, b in pairs], dtype=np.int64)
    found = distinct(line, document)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == sorted(set(pairs))
    assert sorted_unique(found[0]).tolist() == sorted({a for a, _ in pairs})


@given(
    st.lists(st.text(alphabet="ab\xe9\u4e2d\U0001f600", max_size=9), max_size=6),
    st.randoms(),
    st.integers(0, 6),
)
def test_cutting_spans_leaves_the_rest_byte_for_byte(texts, seed, skip):
    rows, starts, lengths, plain = [], [], [], []
    for row, text in enumerate(texts[skip:]):
        left, at = "", 0
        for character in text:
            size = len(character.encode())
            if seed.random() < 0.5:
                rows, starts, lengths = [*rows, row], [*starts, at], [*lengths, size]
            else:
                left += character
            at += size
        plain.append(left)
    array = _array(texts).slice(skip)
    spans = (np.array(column, dtype=np.int64) for column in (rows, starts, lengths))
    left = cut_spans(array, *spans)
    left.validate(full=True)
    assert left.to_pylist() == plain


@pytest.mark.parametrize(
    ("starts", "lengths"), [([0, 1], [2, 1]), ([0, 2], [1, 2]), ([-1, 1], [1, 1]), ([0, 1], [1, 0])]
)
def test_spans_that_overlap_or_leave_their_text_are_a_bug(starts, lengths):
    with pytest.raises(AssertionError):
        cut_spans(_array(["abc", "d"]), np.zeros(2, np.int64), np.array(starts), np.array(lengths))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9), st.integers(0, 3))
def test_keys_of_lines_are_their_hashes_in_hexadecimal(values, skip):
    keys = line_keys(np.array(values, dtype=np.uint64))
    assert [key.hex() for key in keys.to_pylist()] == [f"{value:016x}" for value in values]
    assert line_values(keys.slice(skip)).tolist() == values[skip:]
    assert line_values(pa.chunked_array([keys, keys[:2]])).tolist() == values + values[:2]

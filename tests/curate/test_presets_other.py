"""Dolma's, TFDS's, DCLM's and the code filters' dialects against slow, plain twins."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.rules.preset import load_preset, preset_names, preset_rules
from curate.rules.verdict import evaluate
from curate.signals.c4 import num_sentences
from curate.signals.line_rules import DIALECTS, keep_lines, keeps_line
from curate.signals.registry import available_columns, families, measure

FAMILIES = ["c4", "code_quality", "dolma", "madlad", "refinedweb"]
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}

# Python and Rust may know different versions of Unicode; where both know a character they agree.
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=4),
    st.sampled_from([" ", " ", "\n", "\n", "\n\n", "\r\n", "\x1c", "\x1f", "\x85", "\u2028"]),
    st.sampled_from(["the", "The", "to", "be", "w\u0131th", "#", "...", ". . .", "\u2026", "- "]),
    st.sampled_from(["one two three four five.", "use coo\u212aies ", "JavaScript", "{", "?", '"']),
    st.sampled_from(["Lorem Ipsum", "[12]", "[edit]", "x" * 1001, "12 Li\u212aes", "3.4K views"]),
    st.sampled_from(["Read More...", "s\u0131gn-in ", "items in cart", "MENU", "\u00b2", "17"]),
)
TEXT = st.lists(PIECES, max_size=20).map("".join)
TEXTS = st.lists(TEXT, min_size=1, max_size=6)


def column(texts: list[Any]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def peer(name: str) -> ModuleType:
    """A reference of `make bench-rules` that is a slow twin."""
    path = Path(__file__).resolve().parents[1] / "bench" / "rules" / "peers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"peer_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TFDS, DCLM = peer("tfds_c4"), peer("dclm")
STARCODER, MADLAD = peer("starcoder"), peer("madlad")


def decisions(preset: str, texts: list[str]) -> list[dict[str, bool]]:
    rules = preset_rules(preset, available_columns())
    read = {name for rule in rules for name in rule.reads}
    needed = [name for name, family in families().items() if read & set(family.signals)]
    frame = evaluate(rules, pl.DataFrame(measure(column(texts), needed)))
    return frame.rename(lambda reason: reason.rpartition(".")[2]).to_dicts()


def slow_dolma(text: str) -> dict[str, Any]:
    words, lines = text.split(), text.split("\n")
    some, chars = max(len(words), 1), max(sum(map(len, words)), 1)
    again = [line for line, count in Counter(lines).items() for _ in range(count * (count > 1))]
    row: dict[str, Any] = {
        "num_words_dolma": len(words),
        "median_word_length_dolma": float(median(map(len, words))) if words else 0.0,
        "symbol_word_fraction_dolma": sum("#" in w or "\u2026" in w for w in words) / some,
        "alpha_word_fraction_dolma": sum(any(map(str.isalpha, word)) for word in words) / some,
        "num_stop_words_dolma": sum(word in STOP_WORDS for word in words),
        "bullet_line_fraction_dolma": sum(ln.startswith(("*", "-")) for ln in lines) / len(lines),
        "ellipsis_line_fraction_dolma": sum(ln.endswith("\u2026") for ln in lines) / len(lines),
        "duplicate_line_fraction_dolma": len(again) / len(lines),
        "duplicate_line_char_fraction_dolma": sum(map(len, again)) / chars,
    }
    for n in range(2, 11):
        grams = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        sizes = {gram: count * len("".join(gram)) for gram, count in grams.items()}
        kind = "top" if n < 5 else "duplicate"
        share: float | None = None
        if grams and n < 5:
            share = sizes[grams.most_common(1)[0][0]] / chars
        elif grams:
            repeated = sum(size for gram, size in sizes.items() if grams[gram] > 1)
            share = repeated / sum(sizes.values())
        row[f"{kind}_{n}gram_char_fraction_dolma"] = share
    return row


@given(TEXTS)
@example(["", " ", "\n\n", "the the", "a b a b a b c", "-\n*\n -", "the\x1cbe"])
def test_dolma_signals_equal_their_plain_twin(texts: list[str]) -> None:
    assert measure(column(texts), ["dolma"]).to_pylist() == [slow_dolma(text) for text in texts]


@given(TEXTS)
@example(["", "1\n", "\r\n", "a\r\nb\rc\n\nd", "<?xml version=", "\x1c\x1d"])
def test_code_signals_equal_their_plain_twin(texts: list[str]) -> None:
    judge = STARCODER.judge("code@starcoder")
    wanted = [{k: v for k, v in judge(text).items() if k != "*"} for text in texts]
    assert decisions("code@starcoder", texts) == wanted
    found = measure(column(texts), ["code_quality"])
    sizes = [[len(line) for line in text.splitlines()] for text in texts]
    assert found.column("max_line_length_code").to_pylist() == [max(s, default=0) for s in sizes]


@given(st.lists(st.lists(PIECES | st.just(". ")).map("".join), min_size=1, max_size=4))
@example(["", "Aa Bb Cc Dd Ee Ff Gg Hh Ii Jj Kk ll. 12 + 3 is (4) and so on! No.", "... \n! x" * 9])
def test_madlad_rules_equal_their_plain_twin(texts: list[str]) -> None:
    texts = [re.sub("[\x1c-\x1f]", " ", text) for text in texts]  # white space to Python alone
    judge = MADLAD.judge("madlad400@paper")
    wanted = [{k: v for k, v in judge(text).items() if k != "*"} for text in texts]
    assert decisions("madlad400@paper", texts) == wanted


@given(TEXTS)
@example(["He came in there today. [1]", "We use cookies in here.\nLorem ipsum is in there."])
def test_c4_lines_of_tfds_equal_their_plain_twin(texts: list[str]) -> None:
    kept = [[line for fate, line in TFDS.fates(t) if fate == "kept"] for t in texts]
    marked = [[fate for fate, _ in TFDS.fates(t)] for t in texts]
    found = measure(column(texts), ["c4"])
    lorem = found.column("num_lorem_ipsum_lines_c4_tfds").to_pylist()
    assert lorem == [fates.count("lorem") for fates in marked]
    bracket = [
        sum(
            fate == "bracket" or (fate == "lorem" and TFDS.has_bracket(line)) for fate, line in rows
        )
        for rows in map(list, map(TFDS.fates, texts))
    ]
    assert found.column("num_curly_bracket_lines_c4_tfds").to_pylist() == bracket
    plain = [row for row, fates in enumerate(marked) if not {"lorem", "bracket"} & set(fates)]
    lines = keep_lines(pl.Series(texts, dtype=pl.String), "c4_tfds").to_list()
    assert [lines[row] for row in plain] == ["\n".join(kept[row]).strip() for row in plain]


@given(TEXTS)
@example(["12 likes\nThe rain fell.\n\nSign-in now\nRead more...", "A-B\n\n1\nab", "\u00b2\nx y"])
def test_refinedweb_lines_equal_dclms_steps(texts: list[str]) -> None:
    # Each step of DCLM trims the text; here it always finds the same lines at its ends.
    framed = [f"here it begins\n{text}\nhere it ends" for text in texts]
    lines = keep_lines(pl.Series(framed, dtype=pl.String), "refinedweb_dclm").to_list()
    assert lines == [DCLM.without_lines(text) for text in framed]


ASCII_TEXT = st.lists(
    st.sampled_from(
        ["one", "two", "The", "the be", "3", "# ", "...", "-", "\n", "\n\n", "(x)", " "]
    ),
    max_size=40,
).map(" ".join)


@given(st.lists(ASCII_TEXT, min_size=1, max_size=4))
@example(["one two " * 40, "", "a\n\na\n\nb", "a b c d e f g h i j k a b c d e f g h i j"])
def test_refinedweb_rules_equal_their_plain_twin(texts: list[str]) -> None:
    judge = DCLM.judge_with(lambda text: re.findall("[A-Za-z0-9]+", text))
    wanted = [{k: v for k, v in judge(text.strip()).items() if k != "*"} for text in texts]
    assert decisions("refinedweb@dclm", [text.strip() for text in texts]) == wanted


def slow_cut(text: str) -> list[str]:
    """Unicode's words that begin with a letter or number: by the classes of characters."""
    from curate.kernels.dclm import break_classes

    table = break_classes()
    kinds = "".join("oLNKCAXlnb"[table[ord(c)] if ord(c) < table.size else 0] for c in text)
    words, i = [], 0
    while i < len(text):
        first, kind = i, kinds[i]
        i += 1
        if kind not in "LNKCA":
            continue
        while True:
            marks = re.compile("X*").match(kinds, i)
            assert marks is not None
            i = marks.end()
            joins = {"L": "LNC", "N": "LNC", "K": "KC", "C": "LNKC", "A": ""}[kind]
            middle = {"L": "[lb]X*L", "N": "[nb]X*N"}.get(kind, "(?!)")
            found = re.compile(middle).match(kinds, i)
            if i < len(text) and kinds[i] in joins:
                kind = kinds[i]
                i += 1
            elif found:
                i = found.end()
            else:
                break
        if kinds[first] != "C":
            words.append(text[first:i])
    return words


def slow_repeats(words: list[str]) -> dict[int, int]:
    found = {}
    for n in range(2, 11):
        grams = list(zip(*(words[k:] for k in range(n)), strict=False))
        counts = Counter(grams)
        most = max(counts.values(), default=0)
        found[n] = 0
        if most > 1 and n < 5:
            found[n] = most * max(len("".join(g)) for g, m in counts.items() if m == most)
        elif most > 1:
            inside = {k + j for k, g in enumerate(grams) if counts[g] > 1 for j in range(n)}
            found[n] = sum(len(words[k]) for k in inside)
    return found


LATIN = ("a", "b", "c ", "a.b ", "can't ", "3,5 ", "_", "e\u0301", "\u200d", ":", " ", "12")
OTHERS = ("\u30ab\u30bf", "\u4e2d", "\u3042", "\u0e01\u0e32", "\u00b2", "\uff11", "\u0627\u0644 ")
SCRIPTS = st.sampled_from([*LATIN, *OTHERS, "\ud55c\uad6d "])


@given(st.lists(st.lists(SCRIPTS | PIECES, max_size=60).map("".join), min_size=1, max_size=4))
@example(["a b a b a b c", "\u30ab\u30bfab \u30ab\u30bfab", "a:b 1:2 a.b. _a a_ 1_a", "\u0301a"])
def test_repeats_of_dclm_equal_their_plain_twin(texts: list[str]) -> None:
    table = measure(column(texts), ["refinedweb"])
    for text, row in zip(texts, table.to_pylist(), strict=True):
        words = slow_cut(text)
        total = sum(map(len, words))
        for n, size in slow_repeats(words).items():
            name = f"{'top' if n < 5 else 'duplicate'}_{n}gram_char_fraction_dclm"
            assert row[name] == (size / total if total else None)


@pytest.mark.parametrize("name", FAMILIES)
@given(texts=TEXTS)
def test_numbers_are_finite_and_the_same_in_any_split(name: str, texts: list[str]) -> None:
    some = column([*texts, None])
    whole = measure(some, [name])
    assert pa.concat_tables(measure(some.slice(k, 1), [name]) for k in range(len(some))) == whole
    frame = pl.DataFrame(whole)
    assert frame.tail(1).select(pl.all_horizontal(pl.all().is_null())).item()
    for series in frame.select(pl.col(pl.Float64)):
        assert series.drop_nulls().is_finite().all()
    assert measure(some.slice(0, 0), [name]).schema == whole.schema


@pytest.mark.parametrize("dialect", DIALECTS)
def test_line_rules_keep_nulls_and_are_done_after_one_pass(dialect: str) -> None:
    text = "MENU\nThe rain fell on us for two days. [3]\nSign-in to see it all\nIt ended, at last."
    texts = pl.Series("body", [text, None, "", "\n\n", "{ lorem ipsum javascript }"])
    once = keep_lines(texts, dialect)
    assert once.name == "body"
    assert once.to_list()[1:4] == [None, "", ""]
    assert keep_lines(once, dialect).to_list() == once.to_list()
    assert keep_lines(texts.head(0), dialect).len() == 0
    assert keeps_line(pl.Series([None, "MENU"], dtype=pl.String), dialect).to_list() == [
        None,
        False,
    ]


def test_an_unknown_dialect_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"dialect of line rules.*'c4_tfds'"):
        keep_lines(pl.Series(["x"]), "c4_tdfs")


OURS = [name for name in preset_names() if re.search("dolma|tfds|dclm|^code@|madlad", name)]


@pytest.mark.parametrize("preset", OURS)
def test_every_rule_names_its_source_and_has_both_canaries(preset: str) -> None:
    rules = load_preset(preset).rules.values()
    assert all(rule.source and rule.catch is not None and rule.spare is not None for rule in rules)


def test_real_documents_get_the_twin_s_numbers(shared_data: Path) -> None:
    code = pq.read_table(shared_data / "text" / "docs_peps.parquet", columns=["text"])
    texts = code.column("text").to_pylist()[::50]
    assert measure(column(texts), ["dolma"]).to_pylist() == [slow_dolma(text) for text in texts]
    judge = DCLM.judge_with(lambda text: [])
    for text, found in zip(texts, decisions("refinedweb@dclm", texts), strict=True):
        wanted = judge(text)
        assert {k: found[k] for k in found if "gram" not in k} == {
            k: wanted[k] for k in found if "gram" not in k
        }


def test_sentences_of_a_line_end_where_a_reader_of_english_ends_them() -> None:
    lines = {
        "Dr. J. R. Smith met Mrs. Jones at No. 5 there. They left.": 2,
        'He said "Stop!" and then "Go." She went, e.g. home (at last.) Good.': 4,
        "It was slow . . . and then it stopped ... for good.": 2,
        "So it ended... Nobody knew why it did? Nobody!": 3,
        '"""Return the words of this very line. """': 1,
        ".. note the two dots before this, please.": 1,
    }
    frame = pl.DataFrame({"line": list(lines)})
    assert frame.select(num_sentences(pl.col("line"))).to_series().to_list() == [*lines.values()]

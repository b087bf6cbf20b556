"""The presets that reproduce datatrove: signals against slow twins, canaries, golden decisions."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.kernels import spacy_classes as flag
from curate.kernels.spacy_tables import english
from curate.kernels.spacy_tables import words_of as tokens_of
from curate.rules.canaries import MAX_CANARY_CHARS, canary_text
from curate.rules.fineweb2 import LANGUAGES, MAX_FILE_BYTES
from curate.rules.preset import load_preset, preset_rules
from curate.rules.verdict import evaluate
from curate.signals.datatrove_c4 import cleaned_by_c4
from curate.signals.fineweb2 import STOP_WORDS
from curate.signals.registry import available_columns, families, measure

HERE = Path(__file__).resolve().parent
GOLDEN = sorted((HERE / "golden").glob("*.json"))
FAMILIES = ["datatrove_c4", "datatrove_lines", "datatrove_words"]
GOPHER_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def decisions(preset: str, texts: list[str]) -> pl.DataFrame:
    """One column per rule, named by it; True where the text is kept."""
    rules = preset_rules(preset, available_columns())
    read = {column for rule in rules for column in rule.reads}
    needed = [name for name, family in families().items() if read & set(family.signals)]
    signals = pl.DataFrame(measure(pa.array(texts, pa.large_string()), needed))
    return evaluate(rules, signals).rename(lambda reason: reason.rpartition(".")[2])


def bench_documents() -> ModuleType:
    """What `make bench-rules` reads documents with."""
    path = HERE.parent / "bench" / "rules" / "documents.py"
    spec = importlib.util.spec_from_file_location("bench_documents", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden_texts(shared_data: Path) -> Mapping[str, str]:
    """Texts of the recorded documents by id, each the one that was judged."""
    documents = bench_documents()
    recorded = {
        row[0]: row[1] for path in GOLDEN for row in json.loads(path.read_text())["documents"]
    }
    texts: Mapping[str, str] = documents.find(shared_data, sorted(recorded))
    assert {name: documents.digest(text) for name, text in texts.items()} == recorded
    return texts


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_decisions_are_those_that_the_reference_made(
    path: Path, golden_texts: Mapping[str, str]
) -> None:
    facts = json.loads(path.read_text())
    rows = facts["documents"]
    found = decisions(facts["preset"], [golden_texts[name] for name, *_ in rows])
    found = found.with_columns(pl.all_horizontal(pl.all()).alias("*"))
    explained = {tuple(pair) for pair in facts.get("explained", [])}
    wrong = [
        (name, rule)
        for row, (name, _, dropped, silent) in enumerate(rows)
        for rule in found.columns
        if rule not in silent
        and found[rule][row] != (rule not in dropped)
        and (name, rule) not in explained
    ]
    assert not wrong


def fraction(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def repeats(pieces: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    again = [piece for piece in pieces if piece in seen or seen.add(piece)]  # type: ignore[func-returns-value]
    return len(again), sum(map(len, again))


def top_chars(words: list[str], width: int) -> int:
    grams = [" ".join(words[i : i + width]) for i in range(len(words) - width + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count


def repeated_chars(words: list[str], width: int) -> int:
    seen: set[tuple[str, ...]] = set()
    i = chars = 0
    while i + width <= len(words):
        gram = tuple(words[i : i + width])
        if gram in seen:
            chars += len("".join(gram))
            i += width
        else:
            seen.add(gram)
            i += 1
    return chars


def has(character: str, flags: int) -> bool:
    return bool(flag.classes()[ord(character)] & flags)


def slow_words(text: str) -> dict[str, float | None]:
    words = [token for token in tokens_of(text, english()) if not token.isspace()]
    plain = [word for word in words if not all(has(c, flag.SYMBOL) for c in word)]
    row = {
        "num_words": len(plain),
        "mean_word_length": fraction(sum(map(len, plain)), len(plain)),
        "hash_word_ratio": fraction(text.count("#"), len(words)),
        "ellipsis_word_ratio": fraction(text.count("...") + text.count("\u2026"), len(words)),
        "alpha_word_fraction": fraction(
            sum(any(c.isalpha() for c in word) for word in words), len(words)
        ),
        "num_stop_words": len(GOPHER_WORDS & set(words)),
        "newline_word_ratio": fraction(text.count("\n"), len(words)),
    }
    for width in (2, 3, 4):
        row[f"top_{width}_gram_char_fraction"] = fraction(top_chars(words, width), len(text))
    for width in range(5, 11):
        chars = repeated_chars(words, width)
        row[f"duplicate_{width}_gram_char_fraction"] = fraction(chars, len(text))
    return row


def slow_fineweb_lines(text: str) -> dict[str, float | None]:
    lines = [line for line in text.split("\n") if line.strip()]
    terminal = sum(has(line[-1], flag.TERMINAL) for line in lines)
    return {
        "terminal_line_fraction": fraction(terminal, len(lines)),
        "short_line_fraction": fraction(sum(len(line) <= 30 for line in lines), len(lines)),
        "repeated_line_char_fraction": fraction(repeats(lines)[1], len(text.replace("\n", ""))),
    }


def slow_lines(text: str) -> dict[str, float | None]:
    lines = text.splitlines()
    runs, paragraphs = re.split("\n+", text), re.split("\n{2,}", text.strip())
    bullets = sum(line.lstrip().startswith(("\u2022", "-")) for line in lines)
    dots = sum(line.rstrip().endswith(("...", "\u2026")) for line in lines)
    return {
        "bullet_line_fraction": fraction(bullets, len(lines)),
        "ellipsis_line_fraction": fraction(dots, len(lines)),
        "duplicate_line_fraction": fraction(repeats(runs)[0], len(runs)),
        "duplicate_line_char_fraction": fraction(repeats(runs)[1], len(text)),
        "duplicate_paragraph_fraction": fraction(repeats(paragraphs)[0], len(paragraphs)),
        "duplicate_paragraph_char_fraction": fraction(repeats(paragraphs)[1], len(text)),
    } | slow_fineweb_lines(text)


def slow_sentences(line: str) -> int:
    count, ended = 1, False
    for token in tokens_of(line, english()):
        if len(token) == 1 and has(token, flag.SENTENCE):
            ended = True
        elif ended and not all(has(c, flag.PUNCTUATION) for c in token):
            count, ended = count + 1, False
    return count


POLICY = (
    *("terms of use", "privacy policy", "cookie policy", "uses cookies"),
    *("use of cookies", "use cookies"),
)


def slow_c4(text: str, terminal: bool) -> tuple[str, list[int]]:
    kept, counts = [], [0, 0, 0]
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
        ends = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
        if any(len(word) > 1000 for word in words) or (terminal and not ends) or len(words) < 3:
            continue
        low = line.lower()
        counts[1] += "lorem ipsum" in low
        if "javascript" in low:
            continue
        counts[2] += "{" in line
        if any(phrase in low for phrase in POLICY):
            continue
        counts[0] += slow_sentences(line)
        kept.append(line)
    return "\n".join(kept).strip(), counts


PIECES = [
    *(
        "- ",
        "\u2022",
        "...",
        "\u2026",
        "\n",
        "\n\n",
        "\r\n",
        "\x0b",
        "\x85",
        "\u2028",
        " ",
        "\t",
        "\x1f",
    ),
    *(
        "the",
        "of ",
        "word ",
        "a b c d e f. ",
        "one two three four five six ",
        ".",
        "!",
        "\u3002",
        "'",
    ),
    *(
        "#",
        "{",
        "lorem ipsum ",
        "JavaScript ",
        "use coo\u212aies ",
        "[12]",
        "[edit]",
        "[\u0663]",
        "[x]",
    ),
    *("Privacy Policy", "x" * 1001, "\xe9", "\U0001f600", "\u0130", "don't ", "Mr. ", "menu\n"),
]
some_text = st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@given(texts=st.lists(st.none() | some_text, max_size=5))
def test_signals_are_those_of_the_slow_twin(texts: list[str | None]) -> None:
    table = measure(pa.array(texts, pa.large_string()), FAMILIES)
    for row, text in zip(table.to_pylist(), texts, strict=True):
        if text is None:
            assert not any(value is not None for value in row.values())
            continue
        strict, mild = slow_c4(text, terminal=True), slow_c4(text, terminal=False)
        expected = {
            f"{name}_datatrove": value
            for name, value in (slow_words(text) | slow_lines(text)).items()
        } | {f"{name}_fineweb": value for name, value in slow_fineweb_lines(mild[0]).items()}
        for suffix, counts in (("datatrove", strict[1]), ("fineweb", mild[1])):
            names = ("sentences", "lorem_ipsum", "curly_bracket")
            expected |= {f"c4_{n}_{suffix}": c for n, c in zip(names, counts, strict=True)}
        left = slow_words(mild[0])
        expected["newline_word_ratio_fineweb"] = left["newline_word_ratio"]
        assert row == expected


@given(texts=st.lists(st.none() | some_text, max_size=5), terminal=st.booleans())
def test_c4_leaves_the_text_that_the_slow_twin_leaves(
    texts: list[str | None], terminal: bool
) -> None:
    left, _ = cleaned_by_c4(pa.array(texts, pa.large_string()), terminal=terminal)
    assert left.to_pylist() == [
        None if text is None else slow_c4(text, terminal)[0] for text in texts
    ]


def test_a_long_text_is_measured_like_short_ones() -> None:
    short = "The cat sat with the dog. It was {n} o'clock, and nobody cared!\n"
    text = "".join(short.replace("{n}", str(n)) for n in range(30_000))
    alone = measure(pa.array([text], pa.large_string()), FAMILIES)
    among = measure(pa.array(["a", text, "b", None], pa.large_string()), FAMILIES)
    assert among.slice(1, 1).equals(alone)
    assert alone.column("c4_sentences_datatrove")[0].as_py() == 60_000


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (7, "a canary holds 7"),
        ({"repeat": "a", "time": 3}, "Did you mean 'times'"),
        ({"repeat": "a", "times": "3"}, "repeats 'a' '3' times"),
        ({"repeat": "a", "times": True}, "repeats 'a' True times"),
        ({"repeat": "abc", "times": MAX_CANARY_CHARS}, "the limit is"),
        ([["nested"]], "a canary holds"),
    ],
)
def test_a_canary_that_cannot_be_written_is_refused(spec: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        canary_text(spec)


def test_a_canary_is_made_of_its_parts() -> None:
    assert canary_text([{"repeat": "{n}, {x} ", "times": 2}, "end"]) == "1, {x} 2, {x} end"
    assert canary_text({"repeat": "a", "times": 0}) == ""


def test_classes_are_one_row_of_flags_per_code_point() -> None:
    table = flag.classes()
    assert table.shape == (0x110000,)
    assert set(table[0xD800:0xE000].tolist()) == {flag.HOST}  # surrogates, never in a text
    assert np.count_nonzero(table & flag.SENTENCE) == 128


SETTINGS = """
dup_line_frac: 0.3
line_punct_thr: 0.1
new_line_ratio: 0.2
max_non_alpha_words_ratio: 0.8
min_avg_word_length: 0
max_avg_word_length: 12
top_n_grams: [[2, 0.2], [3, 0.18]]
dup_n_grams: [[5, 0.15], [10, 0.1]]
stopwords: [na, ya]
language_score: 0.7
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_fineweb2_judges_by_the_thresholds_and_stop_words_of_the_language(language: str) -> None:
    preset = load_preset(f"fineweb2:{language}")
    assert set(preset.rules) >= {"top_4_grams", "duplicate_10_grams", "newlines", "alpha_words"}
    words = STOP_WORDS[language].split()
    text = " ".join(f"{word} w{n}rd{n}" for n in range(40) for word in words[: n % len(words)])
    kept = decisions(preset.name, [text, "x y z", ""])["stop_words"]
    assert kept.to_list() == [True, False, False]


def test_fineweb2_reads_a_file_of_that_project(tmp_path: Path) -> None:
    path = tmp_path / "swh_Latn.yml"
    path.write_text(SETTINGS)
    preset = load_preset(f"fineweb2:{path}")
    keep = {name: rule.keep for name, rule in preset.rules.items()}
    assert keep["mean_word_length"] == "mean_word_length_datatrove <= 12"
    assert keep["top_3_grams"] == "top_3_gram_char_fraction_datatrove <= 0.18"
    assert "top_4_grams" not in keep
    assert "stop_words" not in keep
    assert "stop words is left out" in preset.dialect
    assert decisions(preset.name, ["one two"]).width == len(keep)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("line_punct_thr", "line_punct_th", "Did you mean 'line_punct_thr'"),
        ("language_score: 0.7", "", "'language_score' is missing"),
        ("0.3", ".nan", "dup_line_frac is nan"),
        ("0.3", "true", "dup_line_frac is True"),
        ("[3, 0.18]", "[2, 0.18]", "write a list of [words, share]"),
        ("[10, 0.1]", "[11, 0.1]", "write a list of [words, share]"),
        ("[na, ya]", "na", "stopwords is na"),
        (SETTINGS, "- a", "not a mapping"),
        (SETTINGS, "a: [", "is no YAML"),
        (SETTINGS, "!!python/object/apply:os.getcwd []", "is no YAML"),
        (SETTINGS, "a: 1 #" + "x" * MAX_FILE_BYTES, "more than"),
    ],
    ids=lambda value: str(value)[:20].strip(),
)
def test_another_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "xyz_Latn.yml"
    path.write_text(SETTINGS.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(message)):
        load_preset(f"fineweb2:{path}")


def test_an_unknown_language_is_told_which_there_are() -> None:
    with pytest.raises(InputError, match="Did you mean 'deu_Latn'"):
        load_preset("fineweb2:deu_Lat")
    with pytest.raises(InputError, match="cannot be read"):
        load_preset("fineweb2:nowhere/deu_Latn.yml")

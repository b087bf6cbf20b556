"""Made signals: word lists, perplexity, importance, classifiers, functions of one's own."""

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.kernels.words import ngram_hashes, normalise_words, word_hashes
from curate.signals import classifiers, functions, importance, perplexity, word_lists
from curate.signals.base import Family
from curate.signals.making import CORPUS, REFERENCE, Maker
from curate.signals.registry import available_columns, makers, units

WORDS = st.sampled_from(["a", "b", "The", "CAF\u00c9", "cafe", "\u4e2d\u6587", "x1", "...", "\n"])
TEXT = st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=12)
TEXTS = st.lists(st.none() | TEXT, max_size=6)


def column(texts: Any) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def folded(text: str) -> list[str]:
    return normalise_words(column([text]))[0].to_pylist()


def hashes_of(texts: Any) -> pa.Array:
    digests = [
        None if t is None else hashlib.blake2b(t.encode(), digest_size=16).digest() for t in texts
    ]
    return pa.array(digests, pa.binary(16))


def the_only(maker: Maker, value: Any) -> tuple[str, dict[str, Any]]:
    ((unit, settings),) = maker.units(value).items()
    return unit, settings


# Word lists


def word_list(words: list[str]) -> Family:
    unit, settings = the_only(word_lists.MAKER, {"mine": {"words": words, "paths": []}})
    assert word_lists.MAKER.load is not None
    return word_lists.MAKER.make(unit, settings, word_lists.MAKER.load(settings, []))


def slow_matches(words: list[str], phrases: set[tuple[str, ...]]) -> int:
    found = at = 0
    while at < len(words):
        sizes = [n for n in range(1, 33) if tuple(words[at : at + n]) in phrases]
        fits = [n for n in sizes if at + n <= len(words)]
        found += bool(fits)
        at += max(fits, default=1)
    return found


@given(st.lists(TEXT, min_size=1, max_size=6), TEXTS)
@example(["a b a", "a", "b b"], ["a b a b b b a", "a b", "", None])
def test_a_word_list_equals_its_plain_twin(listed: list[str], texts: list[str | None]) -> None:
    phrases = {tuple(folded(phrase)) for phrase in listed} - {()}
    if not phrases or max(map(len, phrases)) > word_lists.MAX_WORDS:
        with pytest.raises(InputError, match="measure.word_lists"):
            word_list(listed)
        return
    found = word_list(listed).measure(column(texts))["words_mine"].to_pylist()
    for text, rate in zip(texts, found, strict=True):
        words = folded(text or "")
        wanted = 1000 * slow_matches(words, phrases) / len(words) if words else None
        assert rate == wanted


def test_a_word_list_matches_whole_words_however_they_are_written() -> None:
    family = word_list(["ass", "Caf\u00e9 au  lait", "\u4e2d\u6587"])
    texts = ["class", "ASS", "cafe-au-lait!", "cafe au", "\u4e2d\u6587", "\u6587\u4e2d"]
    rates = family.measure(column(texts))["words_mine"].to_pylist()
    assert rates == [0, 1000, pytest.approx(1000 / 3), 0, 500, 0]


def test_a_word_list_is_read_from_files_with_one_phrase_a_line() -> None:
    load = word_lists.MAKER.load
    _, settings = the_only(word_lists.MAKER, {"x": {"words": ["c"], "paths": ["b.txt", "a.txt"]}})
    assert settings["paths"] == ["a.txt", "b.txt"]
    assert load is not None
    table = load(settings, [b"\xef\xbb\xbfone\r\n\n***\n", b"two words"])
    assert table.num_rows == 4  # c, one, two, two words
    with pytest.raises(InputError, match="a.txt is no UTF-8 text"):
        load(settings, [b"\xff\xfe", b""])
    with pytest.raises(InputError, match="holds no word"):
        load({"words": [], "paths": ["a.txt"]}, [b"***\n"])
    with pytest.raises(InputError, match="a phrase of 33 words"):
        load({"words": ["w " * 33], "paths": []}, [])


# Perplexity


def model_of(texts: list[str | None], value: Mapping[str, Any], pieces: int = 1) -> Family:
    unit, settings = the_only(perplexity.MAKER, value)
    fit = perplexity.MAKER.fit
    assert fit is not None
    (role,) = fit.roles(settings)
    rows = pa.table({"text": column(texts), "text_hash": hashes_of(texts)})
    step = max(-(-len(texts) // pieces), 1)
    parts = [rows.slice(k, step).to_batches() for k in range(0, len(texts), step)]
    counts = [fit.count(role, part, settings) for part in parts]
    return perplexity.MAKER.make(unit, settings, fit.merge({role: reversed(counts)}, settings))


def slow_perplexities(texts: list[str | None], order: int, bits: int) -> list[float | None]:
    def cells(text: str, length: int) -> list[int]:
        hashes, _ = ngram_hashes(*word_hashes(column([text])), length)
        return [int(one) >> (64 - bits) for one in hashes]

    def half(text: str) -> int:
        return hashlib.blake2b(text.encode(), digest_size=16).digest()[0] & 1

    counts = {(of, n): Counter[int]() for of in (0, 1) for n in range(1, order + 1)}
    for text in texts:
        for n in range(1, order + 1):
            counts[half(text or ""), n].update(cells(text, n) if text is not None else [])
    found: list[float | None] = []
    for text in texts:
        of = 1 - half(text or "")
        total = counts[of, 1].total()
        grams = {n: cells(text or "", n) for n in range(1, order + 1)}
        if text is None or not grams[1] or not total:
            found.append(None)
            continue
        logs = 0.0
        for k in range(len(grams[1])):
            p = (counts[of, 1][grams[1][k]] + 1) / (total + 2**bits)
            for n in range(2, min(order, k + 1) + 1):
                history = counts[of, n - 1][grams[n - 1][k - n + 1]]
                count = min(counts[of, n][grams[n][k - n + 1]], history)
                p = (count + perplexity.PRIOR * p) / (history + perplexity.PRIOR)
            logs += math.log(p)
        found.append(math.exp(-logs / len(grams[1])))
    return found


@given(TEXTS, st.integers(1, 4), st.integers(1, 3))
def test_perplexity_equals_its_plain_twin_however_it_is_counted(
    texts: list[str | None], order: int, pieces: int
) -> None:
    value = {"against": "corpus", "order": order, "bits": 10}
    family = model_of(texts, value, pieces)
    found = family.measure(column(texts), hashes_of(texts))["perplexity"].to_pylist()
    wanted = slow_perplexities(texts, order, 10)
    assert found == [one and pytest.approx(one, rel=1e-9) for one in wanted]


def test_a_text_is_measured_by_a_model_that_has_not_read_it() -> None:
    rng = np.random.default_rng(1)
    common = [" ".join(rng.choice(list("abcdefgh"), 60)) for _ in range(60)]
    odd = " ".join(f"odd{n}" for n in range(60))
    value = {"against": "corpus", "order": 2, "bits": 16}
    once = model_of([*common, odd], value)
    often = model_of([*common, *[odd] * 50], value)
    for family in (once, often):
        numbers = family.measure(column([odd]), hashes_of([odd]))["perplexity"].to_pylist()
        assert numbers[0] > 10_000, "its copies fall into its own half and teach it nothing"
    usual = once.measure(column(common), hashes_of(common))["perplexity"].to_numpy()
    assert 6 < usual.max() < 14, "eight letters at random have a perplexity of about eight"


def test_perplexity_against_a_reference_set_reads_no_text_of_the_corpus() -> None:
    reference = {"paths": ["wiki.jsonl"], "format": None, "columns": ["text"]}
    family = model_of(["one two three"] * 9, {"against": reference, "order": 2, "bits": 12})
    texts = ["one two three", "three two one", "none of it", ""]
    near, turned, far, nothing = family.measure(column(texts), hashes_of(texts))[0].to_pylist()
    assert near < turned < far
    assert nothing is None


# Importance


@given(TEXTS, TEXTS)
def test_importance_equals_its_plain_twin(
    corpus: list[str | None], reference: list[str | None]
) -> None:
    unit, settings = the_only(importance.MAKER, {"wiki": {"paths": ["wiki.jsonl"]}})
    fit = importance.MAKER.fit
    assert fit is not None
    reference = [*reference, "never none"]

    def features(text: str | None) -> list[int]:
        hashed = word_hashes(column([text]))
        return [int(h) % importance.CELLS for n in (1, 2) for h in ngram_hashes(*hashed, n)[0]]

    tables: dict[Any, Iterator[Any]] = {
        role: iter([fit.count(role, pa.table({"text": column(texts)}).to_batches(), settings)])
        for role, texts in ((CORPUS, corpus), (REFERENCE, reference))
    }
    family = importance.MAKER.make(unit, settings, fit.merge(tables, settings))
    raw, target = (Counter(f for t in texts for f in features(t)) for texts in (corpus, reference))
    found = family.measure(column(corpus)).to_pylist()
    for text, row in zip(corpus, found, strict=True):
        weights = [
            math.log((target[f] + 1) / (target.total() + importance.CELLS))
            - math.log((raw[f] + 1) / (raw.total() + importance.CELLS))
            for f in features(text)
        ]
        if not weights:
            assert row == {"importance_wiki": None, "importance_wiki_mean": None}
            continue
        assert row["importance_wiki"] == pytest.approx(sum(weights), abs=1e-9)
        assert row["importance_wiki_mean"] == pytest.approx(sum(weights) / len(weights), abs=1e-9)


# Classifiers


def trained() -> bytes:
    texts = [f"{'good fine' if n % 2 else 'bad poor'} thing number {n}" for n in range(200)]
    labels = np.arange(200) % 2
    weights = classifiers.train(*classifiers.features_of(column(texts)), labels)
    return classifiers.pack(weights, {"name": "quality"})


def test_a_classifier_tells_what_it_was_taught() -> None:
    _, settings = the_only(classifiers.MAKER, {"quality": "quality.arrow"})
    assert classifiers.MAKER.load is not None
    table = classifiers.MAKER.load(settings, [trained()])
    family = classifiers.MAKER.make("quality", settings, table)
    texts = ["a good thing", "a poor thing", "", None]
    good, bad, empty, null = family.measure(column(texts))["classifier_quality"].to_pylist()
    assert good > 0.9
    assert bad < 0.1
    assert empty is null is None
    assert trained() == trained(), "the same texts in the same order make the same bytes"


@given(TEXTS)
def test_features_are_a_texts_words_and_then_its_pairs(texts: list[str | None]) -> None:
    cells, offsets = classifiers.features_of(column(texts))
    for k, text in enumerate(texts):
        hashed = word_hashes(column([text]))
        wanted = [
            int(h) % classifiers.FEATURES for n in (1, 2) for h in ngram_hashes(*hashed, n)[0]
        ]
        assert cells[offsets[k] : offsets[k + 1]].tolist() == wanted


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"{}", None, 5000])
def test_what_is_no_classifier_is_refused(data: Any) -> None:
    sound = trained()
    if data is None:
        sink = pa.BufferOutputStream()
        table = pa.table({"weight": [1.0, 2.0]})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue().to_pybytes()
    damaged = sound[:data] if isinstance(data, int) else data
    with pytest.raises(InputError, match="q.arrow is no classifier"):
        classifiers.unpack(damaged, "q.arrow")


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(
    pairs: list[tuple[int, int]],
) -> None:
    good = [score / 4 for label, score in pairs if label] or [0.5]
    bad = [score / 4 for label, score in pairs if not label] or [0.5]
    wins = sum((g > b) + (g == b) / 2 for g in good for b in bad) / (len(good) * len(bad))
    found = classifiers.evaluate([1] * len(good) + [0] * len(bad), [*good, *bad])
    assert found["auc"] == pytest.approx(wins, abs=1e-6)
    for name in ("auc", "accuracy"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= high <= 1


# Functions


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "own_signals.py"
    path.write_text(
        "import pyarrow.compute as pc\n"
        "def lengths(texts): return [len(t) if t else None for t in texts]\n"
        "def arrow(texts): return pc.utf8_length(texts)\n"
        "arrow.takes_arrow = True\n"
        "def odd(texts): return [True, float('nan'), float('inf'), 2][: len(texts)]\n"
        "def short(texts): return [1]\n"
        "def words(texts): return list(texts)\n"
        "def huge(texts): return [10**400] * len(texts)\n"
        "def scalar(texts): return 1\n"
        "def fails(texts): raise RuntimeError('no luck')\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("own_signals", None)


def own(path: str) -> Family:
    unit, settings = the_only(functions.MAKER, {"mine": path})
    return functions.MAKER.make(unit, settings, None)


@pytest.mark.usefixtures("own_module")
def test_a_function_measures_the_texts_there_are() -> None:
    texts = column(["abc", None, "", "\u00e9"])
    assert own("own_signals:lengths").measure(texts)["mine"].to_pylist() == [3, None, None, 1]
    assert own("own_signals:arrow").measure(texts)["mine"].to_pylist() == [3, None, 0, 1]
    four = column(list("abcd"))
    assert own("own_signals:odd").measure(four)["mine"].to_pylist() == [1, None, None, 2]
    assert own("own_signals:fails").measure(column([None]))["mine"].to_pylist() == [None]


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_signals:short", "own_signals:short returned 1 numbers for 2 texts"),
        ("own_signals:words", "returned 'a', which is no number"),
        ("own_signals:huge", "which is no number"),
        ("own_signals:scalar", "returned int, not a list of numbers"),
        ("own_signals:fails", "failed: RuntimeError: no luck"),
        ("own_signals:number", "own_signals has no function 'number'"),
        ("own_signals:absent", "own_signals has no function 'absent'"),
        ("no_such_module:f", "cannot import no_such_module"),
    ],
)
def test_a_function_that_does_otherwise_is_named(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        own(name).measure(column(["a", "b"]))


def test_an_edited_function_has_another_digest(own_module: Path) -> None:
    assert functions.MAKER.code is not None
    settings = {"function": "own_signals:lengths"}
    before = functions.MAKER.code(settings)
    assert before == fingerprint("own_signals:lengths", own_module.read_bytes())
    own_module.write_text(own_module.read_text() + "# more\n")
    assert functions.MAKER.code(settings) != before


# The registry


def test_what_a_recipe_asks_for_becomes_columns() -> None:
    asked = {
        "families": [],
        "word_lists": {"b": {"words": ["x"], "paths": []}, "a": {"words": ["y"], "paths": []}},
        "perplexity": {"against": "corpus", "order": 3, "bits": 22},
        "importance": {},
        "classifiers": {"quality": "q.arrow"},
        "functions": {"mine": "m:f"},
    }
    more = list(available_columns(asked))[len(available_columns()) :]
    assert more == ["classifier_quality", "mine", "perplexity", "words_a", "words_b"]
    labels = [unit.label for unit in units(asked)]
    assert labels == [
        "classifiers:quality",
        "functions:mine",
        "perplexity",
        "word_lists:a",
        "word_lists:b",
    ]
    assert all(maker.columns and maker.description for maker in makers().values())
    assert units(None) == []


def test_a_signal_that_there_is_already_is_refused() -> None:
    with pytest.raises(InputError, match="functions:num_words would give the signal 'num_words'"):
        units({"functions": {"num_words": "m:f"}})
    with pytest.raises(InputError, match="which functions:words_x gives already"):
        units({"functions": {"words_x": "m:f"}, "word_lists": {"x": {"words": ["x"]}}})

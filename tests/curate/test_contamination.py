"""The n-gram index against a slow obvious twin, its guards, and its invariances."""

import io
import re
import unicodedata

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contamination.grams import Words, hashed_words
from curate.contamination.index import BenchmarkIndex, Guards
from curate.contamination.spans import word_spans
from curate.corpus.errors import InputError, IntegrityError
from curate.kernels.words import word_hashes

LONG = (
    "Janet keeps sixteen ducks behind the old mill and sells whatever eggs are left after "
    "breakfast to the baker, who pays two dollars for each of them every single morning."
)
SHORT = "Which planet has the largest known volcano?"


def index_of(*texts: str, words: int = 13, guards: Guards | None = None) -> BenchmarkIndex:
    names = [f"{i:03d}" for i in range(len(texts))]
    items = pl.DataFrame(
        {"benchmark": ["b"] * len(texts), "item": names, "text": list(texts)},
        schema={"benchmark": pl.String, "item": pl.String, "text": pl.String},
    )
    return BenchmarkIndex.build(items, words, guards)


def column(*texts: str | None) -> pa.Array:
    return pa.array(texts, pa.large_string())


def counts(index: BenchmarkIndex) -> tuple[int, ...]:
    return index.coverage().row(0)[1:]


def slow_words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFD", text.lower())
    return re.findall(r"[a-z0-9]+", "".join(c for c in folded if not unicodedata.combining(c)))


def slow_overlaps(items: list[str], texts: list[str], words: int) -> dict[tuple[int, str], float]:
    def grams(text: str) -> set[tuple[str, ...]]:
        spelled = slow_words(text)
        found = (tuple(spelled[i : i + words]) for i in range(len(spelled) - words + 1))
        telling = [(g, {w for w in g if len(w) > 1 and not w.isdigit()}) for g in found]
        return {g for g, different in telling if len(different) >= 2}

    found = {}
    for document, text in enumerate(texts):
        for number, item in enumerate(items):
            evidence = grams(item)
            shared = evidence & grams(text)
            if shared:
                found[document, f"{number:03d}"] = len(shared) / len(evidence)
    return found


few_words = st.lists(st.sampled_from(["ox", "\u00c9lan", "cat", "7", "x", "dog"]), max_size=14)
sentences = few_words.map(", ".join)


@given(st.lists(sentences, min_size=1, max_size=5), st.lists(sentences, max_size=6))
def test_overlaps_equal_those_of_the_slow_twin(items: list[str], texts: list[str]) -> None:
    index = index_of(*items, words=3, guards=Guards(min_words=99))
    matches = index.match(column(*texts), record_above=0.0)
    found = {(d, i): o for d, i, o in matches.select("document", "item", "overlap").rows()}
    assert found == slow_overlaps(items, texts, 3)


@given(st.lists(sentences, min_size=1, max_size=4), st.lists(sentences, max_size=6))
def test_a_whole_item_is_found_exactly_where_its_words_stand_in_a_row(
    items: list[str], texts: list[str]
) -> None:
    guards = Guards(min_words=2, min_chars=1, max_items=99)
    index = index_of(*items, words=99, guards=guards)
    expected = set()
    for document, text in enumerate(texts):
        for number, item in enumerate(items):
            mine = slow_words(item)
            telling = {w for w in mine if len(w) > 1 and not w.isdigit()}
            inside = f" {' '.join(mine)} " in f" {' '.join(slow_words(text))} "
            if inside and len(mine) >= 2 and len(telling) >= 2:
                expected.add((document, f"{number:03d}"))
    matches = index.match(column(*texts))
    assert set(matches.select("document", "item").rows()) == expected
    assert set(matches["overlap"]) <= {1.0}


@given(st.text())
def test_every_word_span_holds_the_word_of_that_number(text: str) -> None:
    hashes, _ = word_hashes(column(text))
    starts, stops = word_spans(text)
    data = text.encode()
    pieces = [data[a:b].decode() for a, b in zip(starts, stops, strict=True)]
    alone, offsets = word_hashes(column(*pieces))
    assert np.array_equal(alone, hashes)
    assert len(offsets) == len(hashes) + 1


texts_of_all_kinds = st.text(st.sampled_from("aZ9 -\u00e9\u0301\u4e2d\uac00\u03a3\U0001f600\0"))


@given(st.lists(st.text() | texts_of_all_kinds, max_size=5), st.integers(1, 4))
def test_places_of_words_are_those_of_the_slow_twin(texts: list[str], length: int) -> None:
    for part in hashed_words(column(*texts)):
        document, word, expected = [], [], []
        for number, text in enumerate(texts):
            starts, stops = word_spans(text)
            for k in range(len(starts) - length + 1):
                document.append(number)
                word.append(k)
                expected.append((starts[k], stops[k + length - 1]))
        items = Words.of(column(*texts))
        places = [np.array(side, dtype=np.int64) for side in (document, word)]
        head = items.offsets[places[0]] + places[1]
        hits = part.hits(*places, head, length, items, head)
        assert list(zip(hits.begin, hits.end, strict=True)) == expected


def test_the_span_runs_from_the_first_to_the_last_matched_word_in_bytes() -> None:
    before = "Caf\u00e9 \u2014 na\u00efve: "
    matches = index_of(LONG, SHORT).match(column(before + LONG + " End.", "\U0001f300 " + SHORT))
    texts = [before + LONG + " End.", "\U0001f300 " + SHORT]
    spans = [
        texts[d].encode()[start : start + length].decode()
        for d, start, length in matches.select("document", "span_start", "span_length").rows()
    ]
    assert spans == [LONG.rstrip("."), SHORT.rstrip("?")]


def test_a_word_ends_after_its_marks_and_begins_at_its_letter() -> None:
    text = "\u0301 cafe\u0301\u0301, x\u0301y"
    starts, stops = word_spans(text)
    data = text.encode()
    pieces = [data[a:b].decode() for a, b in zip(starts, stops, strict=True)]
    assert pieces == ["cafe\u0301\u0301", "x\u0301y"]


def test_an_item_that_a_document_repeats_counts_once() -> None:
    matches = index_of(LONG, SHORT).match(column(f"{LONG} {LONG} {SHORT} {SHORT}"))
    assert matches["overlap"].to_list() == [1.0, 1.0]
    assert matches["span_start"].to_list() == [0, 2 * len(LONG) + 2]
    assert matches["span_length"].to_list() == [2 * len(LONG), 2 * len(SHORT)]
    short = 2 * len(LONG) + 2
    places = [short, short + len(SHORT) + 1]
    spans = [{"start": place, "length": len(SHORT) - 1} for place in places]
    assert matches["spans"][1].to_list() == spans


def test_case_marks_and_punctuation_do_not_hide_an_item() -> None:
    disguised = LONG.upper().replace("A", "A\u0301").replace(" ", " -- ")
    assert index_of(LONG).match(column(disguised))["overlap"].to_list() == [1.0]


def test_half_an_item_has_half_the_overlap_and_the_floor_decides_what_is_recorded() -> None:
    half = " ".join(LONG.split()[:21])
    index = index_of(LONG)
    overlap = index.match(column(half), record_above=0.0)["overlap"][0]
    assert 0.4 < overlap < 0.6
    assert index.match(column(half), record_above=0.7).is_empty()


def test_digits_and_single_letters_are_no_evidence() -> None:
    digits = "0 1 2 3 4 5 6 7 8 9 a b c d e f"
    index = index_of("def hexadecimal(number): " + digits + " return the count of prime digits")
    assert index.match(column("digits = " + digits), record_above=0.0).is_empty()
    assert counts(index_of(digits)) == (1, 0, 0, 1)
    assert counts(index_of("la " * 40)) == (1, 0, 0, 1)


def test_a_template_is_no_evidence_but_the_items_inside_it_are_found() -> None:
    template = (
        "Complete the rest of the following sequence and make sure that the brackets are closed "
        "in the right order, as in the examples that were given to you above: "
    )
    names = ["ant bee cow", "dog eel fox", "gnu hen ibis", "jay kiwi lark"]
    index = index_of(*(template + name for name in names), guards=Guards(max_items=3))
    assert index.match(column(template + "something else entirely"), record_above=0.0).is_empty()
    matches = index.match(column(template + names[2]), record_above=0.5)
    assert matches.select("item", "overlap").rows() == [("002", 1.0)]


def test_an_item_that_its_template_has_eaten_is_matched_whole() -> None:
    pieces = ["turn left now", "turn right then", "walk three steps"]
    texts = [" ".join([a, b, c, a]) for a in pieces for b in pieces for c in pieces]
    index = index_of(*texts, words=4, guards=Guards(max_items=2))
    whole = counts(index)[2]
    assert whole > 0
    matches = index.match(column(*texts), record_above=1.0)
    assert set(zip(matches["document"], matches["item"].cast(pl.Int64), strict=True)) >= {
        (i, i) for i in range(len(texts))
    }


def test_items_that_repeat_word_for_word_stay_covered() -> None:
    index = index_of(*[LONG] * 30)
    assert counts(index) == (30, 30, 0, 0)
    assert index.match(column(LONG)).height == 30


def test_short_items_are_guarded_and_counted() -> None:
    assert counts(index_of(SHORT, "Who was she?", "a is to b as c is to d", "")) == (4, 0, 1, 3)
    assert counts(index_of(*[SHORT] * 11)) == (11, 0, 0, 11)
    matches = index_of(SHORT).match(column("Quiz: " + SHORT, "the largest known volcano"))
    assert matches.select("document", "overlap").rows() == [(0, 1.0)]


def test_the_index_survives_arrow_ipc_and_does_not_depend_on_the_order_of_items() -> None:
    items = pl.DataFrame(
        {"benchmark": ["b", "a", "a"], "item": ["1", "2", "1"], "text": [LONG, SHORT, LONG]}
    )
    index = BenchmarkIndex.build(items, words=8)
    again = BenchmarkIndex.build(items.reverse(), words=8)
    assert index.to_table().equals(again.to_table(), check_metadata=True)
    sink = io.BytesIO()
    with ipc.new_stream(sink, index.to_table().schema) as writer:
        writer.write_table(index.to_table())
    read = BenchmarkIndex.from_table(ipc.open_stream(sink.getvalue()).read_all())
    assert read.words == 8
    texts = column(LONG, None, SHORT, "nothing")
    assert read.match(texts).equals(index.match(texts))
    assert read.coverage().equals(index.coverage())


def test_matches_do_not_depend_on_how_the_documents_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = index_of(LONG, SHORT)
    texts = column(LONG, None, "x", SHORT + LONG, "", SHORT)
    whole = index.match(texts)
    monkeypatch.setattr("curate.contamination.index._SLICE_BYTES", 50)
    assert index.match(texts).equals(whole)
    assert index.match(pa.chunked_array([texts.slice(0, 2), texts.slice(2)])).equals(whole)
    parts = [index.match(texts.slice(i, 1)).with_columns(pl.col("document") + i) for i in range(6)]
    assert pl.concat(parts).equals(whole)


def test_nothing_gives_an_empty_table_of_the_same_columns() -> None:
    full = index_of(LONG).match(column(LONG))
    for empty in (index_of().match(column(LONG)), index_of(LONG).match(column())):
        assert empty.is_empty()
        assert empty.schema == full.schema


def test_wrong_items_are_refused_in_plain_words() -> None:
    items = pl.DataFrame({"benchmark": ["b", "b"], "item": ["1", "1"], "text": [LONG, SHORT]})
    with pytest.raises(InputError, match="more than one item named '1'"):
        BenchmarkIndex.build(items)
    with pytest.raises(InputError, match="there are: benchmark, text"):
        BenchmarkIndex.build(items.drop("item"))
    with pytest.raises(InputError, match="min_words must be 1 or more"):
        Guards(min_words=0)
    table = index_of(LONG).to_table()
    with pytest.raises(IntegrityError):
        BenchmarkIndex.from_table(table.replace_schema_metadata(None))

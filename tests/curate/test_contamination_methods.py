"""The methods against slow obvious twins, their guards, and planted items with words edited."""

import itertools
import math
import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contamination.decon import weigh
from curate.contamination.grams import Grams, Words, hashed_words
from curate.contamination.guards import Guards, common_keys
from curate.contamination.index import BenchmarkIndex
from curate.contamination.matching import merged
from curate.contamination.methods import Decon, Llama3, Ngram, required, strictness
from curate.corpus.errors import InputError

WORDS = ["ox", "cat", "dog", "hen", "bee"]
few_words = st.lists(st.sampled_from(WORDS), max_size=14)
LOOSE = Guards(min_words=99, max_items=99)


def column(*texts: str | None) -> pa.Array:
    return pa.array(texts, pa.large_string())


def items_of(*texts: str, **parts: list[str | None]) -> pl.DataFrame:
    names = [f"{i:03d}" for i in range(len(texts))]
    data = {"benchmark": ["b"] * len(texts), "item": names, "text": list(texts), **parts}
    return pl.DataFrame(data, schema=dict.fromkeys(data, pl.String))


def grams(words: list[str], width: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]


def telling(gram: tuple[str, ...]) -> bool:
    return len(set(gram)) >= 2


@given(
    st.lists(few_words, min_size=1, max_size=5),
    st.lists(few_words, max_size=6),
    st.integers(1, 6),
)
def test_hits_are_the_places_that_the_slow_twin_finds(
    items: list[list[str]], texts: list[list[str]], width: int
) -> None:
    places = [(n, at) for n, item in enumerate(items) for at in range(len(item) - width + 1)]
    owner, at = (np.array(side, dtype=np.int64) for side in zip(*places, strict=True)) if places \
        else (np.empty(0, np.int64),) * 2  # fmt: skip
    table = Grams(Words.of(column(*map(" ".join, items))), owner, at, width)
    found = set()
    for part in hashed_words(column(*map(" ".join, texts))):
        hits = table.find(part)
        which, pair = table.items_of(hits.key)
        places = (hits.document[which], hits.word[which], table.pair_item[pair])
        assert len(set(zip(*places, strict=True))) == len(which)
        found |= set(zip(*(side.tolist() for side in places), strict=True))
    expected = {
        (document, start, number)
        for document, text in enumerate(texts)
        for start, gram in enumerate(grams(text, width))
        for number, item in enumerate(items)
        if gram in grams(item, width)
    }
    assert found == expected


@given(st.lists(few_words, min_size=1, max_size=4), st.lists(few_words, max_size=5))
def test_llama3_coverage_equals_that_of_the_slow_twin(
    items: list[list[str]], texts: list[list[str]]
) -> None:
    def covered(item: list[str], known: set[tuple[str, ...]]) -> int:
        inside = {
            at + k for at, gram in enumerate(grams(item, 3)) if gram in known for k in range(3)
        }
        return len(inside)

    index = BenchmarkIndex.build(
        items_of(*map(" ".join, items)), guards=LOOSE, methods=[Llama3(words=3)]
    )
    found = index.match(column(*map(" ".join, texts)), record_above=0.0)
    expected = {}
    for document, text in enumerate(texts):
        for number, item in enumerate(items):
            evidence = {gram for gram in grams(item, 3) if telling(gram)}
            shared = evidence & set(grams(text, 3))
            if shared:
                share = covered(item, shared) / covered(item, evidence)
                expected[document, f"{number:03d}"] = share
    rows = found.select("document", "item", "overlap").rows()
    assert {(d, i): share for d, i, share in rows} == expected


@given(st.lists(few_words, min_size=1, max_size=4), st.lists(few_words, max_size=5))
def test_decon_clusters_equal_those_of_the_slow_twin(
    items: list[list[str]], texts: list[list[str]]
) -> None:
    sets = [{gram for gram in grams(item, 2) if telling(gram)} for item in items]
    number = sum(map(bool, sets))
    weight = {
        gram: round(math.log((number + 1) / sum(gram in own for own in sets)) * (1 << 24))
        for own in sets
        for gram in own
    }
    expected = {}
    for document, text in enumerate(texts):
        for name, (item, own) in enumerate(zip(items, sets, strict=True)):
            del item
            runs: list[list[int]] = []
            for place, gram in enumerate(grams(text, 2)):
                if gram in own:
                    if not runs or place - runs[-1][-1] > 30:
                        runs.append([])
                    runs[-1].append(place)
            for run in runs[:1]:
                hit = {grams(text, 2)[place] for place in run}
                share = sum(weight[g] for g in hit) / max(1, sum(weight[g] for g in own))
                if share > 0:
                    expected[document, f"{name:03d}"] = share
    method = Decon(words=2, misses=30)
    index = BenchmarkIndex.build(items_of(*map(" ".join, items)), guards=LOOSE, methods=[method])
    found = index.match(column(*map(" ".join, texts)), record_above=0.0)
    rows = found.select("document", "item", "overlap").rows()
    assert {(d, i): share for d, i, share in rows} == expected


def sentence(seed: int, number: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghij", k=rng.randint(3, 8))) for _ in range(number))


def test_a_cluster_ends_after_so_many_misses_and_begins_at_a_sampled_word() -> None:
    question = sentence(1, 60)
    half = question.split()
    apart = " ".join([*half[:30], sentence(2, 40), *half[30:]])
    near = " ".join([*half[:30], sentence(2, 3), *half[30:]])
    index = BenchmarkIndex.build(items_of(question), methods=[Decon()])
    found = index.match(column(apart, near), record_above=0.0)["overlap"].to_list()
    assert found[0] < 0.5 < 0.9 < found[1] < 1
    rare = BenchmarkIndex.build(items_of(question), methods=[Decon(sample=1000)])
    assert rare.match(column(" ".join(["word", near])), record_above=0.0).is_empty()
    assert rare.match(column(question), record_above=0.0)["overlap"].to_list() == [1.0]


def test_decon_asks_for_the_answer_behind_the_question_and_hardly_for_the_passage() -> None:
    question, answer, passage = sentence(1, 40), sentence(2, 12), sentence(3, 90)
    parts = {"question": [question], "answer": [answer], "passage": [passage]}
    index = BenchmarkIndex.build(items_of(f"{question} {answer}", **parts), methods=[Decon()])
    texts = [
        f"{passage} {question} {answer}",
        f"{question} {answer}",
        f"{answer} {question}",
        question,
        passage,
        f"{question} {sentence(4, 300)} {answer}",
    ]
    found = index.match(column(*texts), record_above=0.0)
    assert found["overlap"].to_list() == [1.0, 0.9, 0.7, 0.7, 0.7]
    assert found["document"].to_list() == [0, 1, 2, 3, 5]
    assert found["span_length"][1] == len(f"{question} {answer}")


def test_to_ngram_a_question_counts_without_its_answer_where_it_is_known_which_it_is() -> None:
    question, answer = sentence(1, 30), sentence(2, 90)
    both, parts = f"{question}\n{answer}", {"question": [question], "answer": [answer]}
    half = " ".join(question.split()[:21])
    texts = column(f"x {question} y", f"{half} y", answer, both)

    def overlaps(items: pl.DataFrame) -> list[float]:
        index = BenchmarkIndex.build(items, methods=[Ngram()])
        return index.match(texts, record_above=0.0)["overlap"].to_list()

    assert overlaps(items_of(both)) == [18 / 108, 9 / 108, 78 / 108, 1.0]
    assert overlaps(items_of(both, **parts)) == [1.0, 0.5, 78 / 108, 1.0]
    elsewhere = items_of(f"{answer}\n{question}", question=[question])
    assert overlaps(elsewhere)[:3] == [18 / 108, 9 / 108, 78 / 108]
    assert overlaps(items_of("", question=[question])) == []


@given(st.lists(st.tuples(few_words, few_words), min_size=1, max_size=4), st.lists(few_words))
def test_ngram_shares_of_items_with_a_question_equal_those_of_the_slow_twin(
    asked: list[tuple[list[str], list[str]]], texts: list[list[str]]
) -> None:
    expected = {}
    for document, text in enumerate(texts):
        for number, (question, answer) in enumerate(asked):
            sets = [set(filter(telling, grams(own, 2))) for own in (question + answer, question)]
            shares = [len(own & set(grams(text, 2))) / max(1, len(own)) for own in sets]
            if max(shares) > 0:
                expected[document, f"{number:03d}"] = max(shares)
    questions, answers = ([" ".join(one[k]) for one in asked] for k in (0, 1))
    both = [f"{q}\n{a}" for q, a in zip(questions, answers, strict=True)]
    items = items_of(*both, question=questions, answer=answers)
    index = BenchmarkIndex.build(items, guards=LOOSE, methods=[Ngram(words=2)])
    found = index.match(column(*map(" ".join, texts)), record_above=0.0)
    rows = found.select("document", "item", "overlap").rows()
    assert {(d, i): share for d, i, share in rows} == expected


@pytest.mark.parametrize("above", [0.0, 0.2, 0.5, 0.55, 0.6, 0.625, 0.65, 0.7, 0.75, 0.8, 1.0])
@pytest.mark.parametrize("with_passage", [False, True])
def test_no_floor_loses_a_match_that_the_slow_twin_puts_above_it(
    above: float, with_passage: bool
) -> None:
    expected, texts, asked = {}, [], []
    for size, answer_size in itertools.product((5, 9, 14, 24, 60), (1, 3, 60)):
        question, answer, passage = (
            sentence(7 * len(asked) + k, n) for k, n in enumerate((size, answer_size, 30))
        )
        number = f"{len(asked):03d}"
        asked.append((question, answer, passage))
        for taken in {5, 7, size // 2, size}:
            for bring in (0, answer_size // 2, answer_size):
                said = [question.split()[:taken], answer.split()[:bring]]
                text = " ".join([*said[0], *said[1], *(passage.split() if with_passage else ())])
                score = slow_score(question, answer, passage if with_passage else None, text)
                if score > 0 and score >= above:
                    expected[len(texts), number] = score
                texts.append(text)
    questions, answers, passages = (list(column) for column in zip(*asked, strict=True))
    parts = {"question": questions, "answer": answers}
    if with_passage:
        parts["passage"] = passages
    both = [f"{q} {a}" for q, a in zip(questions, answers, strict=True)]
    index = BenchmarkIndex.build(items_of(*both, **parts), guards=LOOSE, methods=[Decon()])
    rows = index.match(column(*texts), record_above=above).select("document", "item", "overlap")
    assert {(d, i): round(share, 6) for d, i, share in rows.rows()} == {
        key: round(share, 6) for key, share in expected.items()
    }


def slow_score(question: str, answer: str, passage: str | None, text: str) -> float:
    """Return decon's score of a text that has a beginning of the question and then the rest.

    All n-grams are of one item each, so their weights are the same.
    """

    def share(part: str, width: int) -> float:
        own = set(grams(part.split(), width))
        return len(own & set(grams(text.split(), width))) / len(own) if own else 0.0

    short = len(answer.split()) <= 3
    found = float(f" {answer}" in text) if short else share(answer, 3)
    about = None if passage is None else share(passage, 4)
    asked = share(question, 5)
    if not asked:
        return 0.0  # an answer alone is no evidence
    return weigh(asked, found, about, len(grams(question.split(), 5)), len(answer.split()))


def test_short_answers_are_looked_for_as_they_are() -> None:
    question = sentence(1, 40)
    parts = {"question": [question], "answer": ["1889"]}
    index = BenchmarkIndex.build(items_of(f"{question} 1889", **parts), methods=[Decon()])
    texts = [f"{question} A: 1889", f"{question} A: 1890", f"{question} {sentence(5, 60)} 1889"]
    found = index.match(column(*texts), record_above=0.0)
    assert found["overlap"].to_list() == [1.0, 0.75, 0.75]


def test_the_weights_of_all_parts_add_up_to_one() -> None:
    for answer in (None, 1.0):
        for passage in (None, 1.0):
            for size in (1, 7, 20, 90):
                assert weigh(1.0, answer, passage, size, 2) == 1.0


def test_short_items_need_more_and_the_thresholds_are_reached_exactly() -> None:
    lengths = np.array([1, 20, 35, 50, 999])
    strict = strictness(20, 50, lengths)
    assert strict.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert required(0.8, strict).tolist() == [1.0, 1.0, 0.9, 0.8, 0.8]
    assert strictness(9, 9, np.array([9, 10])).tolist() == [1.0, 0.0]


def test_a_short_phrase_in_a_short_question_is_not_enough_for_llama3() -> None:
    phrase = "the president of the united states of america"
    question = f"Which woman was {phrase} in the year of the great fire"
    index = BenchmarkIndex.build(items_of(question), methods=[Llama3()])
    (row,) = index.match(column(f"He became {phrase} at forty.")).to_dicts()
    assert 0.3 < row["overlap"] < required(0.3, row["strictness"])


def test_all_methods_at_once_give_what_each_gives_alone() -> None:
    texts = [sentence(i, 40) for i in range(6)] + ["which planet has the largest known volcano"]
    documents = column(*[f"{sentence(50 + i, 20)} {t} {t}" for i, t in enumerate(texts)], None, "")
    methods = [Ngram(), Llama3(), Decon()]
    together = BenchmarkIndex.build(items_of(*texts), methods=methods).match(documents)
    alone = [BenchmarkIndex.build(items_of(*texts), methods=[m]).match(documents) for m in methods]
    order = ["document", "benchmark", "item", "method"]
    expected = pl.concat(alone).unique([*order], maintain_order=True).sort(order)
    assert together.equals(expected)
    assert set(together["method"]) == {"ngram", "llama3", "decon", "whole"}


def test_common_keys_are_neither_counted_nor_asked_for() -> None:
    licence, own = sentence(1, 40), sentence(2, 40)
    index = BenchmarkIndex.build(items_of(f"{licence} {own}"), methods=[Ngram(), Llama3()])
    found = index.find(column(*[licence] * 5))
    counts = {name: np.zeros(size, np.int64) for name, size in index.num_keys().items()}
    for name in counts:
        hits = found[name]
        for document in range(5):
            counts[name][np.unique(hits.key[hits.document == document])] += 1
    common = common_keys(counts, 5, 4, 0.5)
    assert [len(keys) for keys in common.values()] == [28, 33]
    assert common_keys(counts, 5, 5, 0.0)["ngram"].size == 0
    assert common_keys(counts, 5, 1, 1.0)["ngram"].size == 0
    assert index.match(column(licence), common=common, record_above=0.0).is_empty()
    overlaps = index.match(column(f"x {own} y"), common=common)["overlap"].to_list()
    assert min(overlaps) > 0.6
    assert index.silenced(common) == {}
    alone = BenchmarkIndex.build(items_of(licence), methods=[Ngram()])
    assert alone.silenced({"ngram": np.arange(28)}) == {"b": 1}


def test_a_word_that_only_has_the_hash_of_an_items_word_is_no_evidence() -> None:
    words = [f"extraordinary{chr(97 + i)}" for i in range(20)]
    text = column(f"\u00c9 {' '.join(words)}", "")

    def forged(*which: str) -> BenchmarkIndex:
        """Return an index that spells some of its words otherwise than their hashes say."""
        index = BenchmarkIndex.build(items_of(" ".join(words)))
        for word in which:
            at = 14 * words.index(word)
            index._words.letters[at : at + 14] = np.frombuffer(word.upper().encode(), np.uint8)
        return index

    assert forged().match(text)["overlap"].to_list() == [1.0]
    (found,) = forged(words[3]).match(text).to_dicts()
    assert found["overlap"] == 4 / 8  # the n-grams without the fourth word
    assert found["span_start"] == len("\u00c9 ".encode()) + 4 * 15
    assert forged(*words).match(text).is_empty()


def test_an_item_and_a_document_that_say_the_same_over_and_over_stay_small() -> None:
    item = "tick tock " * 300
    index = BenchmarkIndex.build(items_of(item), methods=[Ngram(), Llama3(), Decon()])
    found = index.match(column("tick tock " * 100_000))
    assert found["overlap"].to_list() == [1.0, 1.0, 1.0]
    assert [len(spans) for spans in found["spans"]] == [1, 1, 1]


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), min_size=1, max_size=6)


@given(st.lists(spans, max_size=5))
def test_spans_are_merged_as_the_slow_twin_merges_them(owners: list[list[tuple[int, int]]]) -> None:
    expected = []
    for pieces in owners:
        covered = sorted({2 * a + k for a, size in pieces for k in range(2 * size + 1)})
        edges = (
            [k for k in covered if k - 1 not in covered],
            [k for k in covered if k + 1 not in covered],
        )
        expected.append([(a // 2, b // 2) for a, b in zip(*edges, strict=True)])
    flat = [piece for pieces in owners for piece in pieces]
    begin = np.array([a for a, _ in flat], dtype=np.int64)
    end = begin + np.array([size for _, size in flat], dtype=np.int64)
    ends = np.cumsum([0, *map(len, owners)])
    bounds, begin, end = merged(ends, begin, end)
    found = [
        list(zip(begin[a:b].tolist(), end[a:b].tolist(), strict=True))
        for a, b in itertools.pairwise(bounds.tolist())
    ]
    assert found == expected


@pytest.mark.parametrize("method", [Ngram, Llama3, Decon])
def test_methods_refuse_numbers_below_one(method: type[Ngram]) -> None:
    with pytest.raises(InputError, match=r"words must be 1 or more, got 0"):
        method(words=0)
    with pytest.raises(InputError, match="must not be smaller"):
        Decon(perfect=60)


def test_planted_items_are_found_verbatim_by_all_and_edited_by_llama3() -> None:
    rng = random.Random(3)
    texts = [sentence(1000 + i, rng.randint(30, 80)) for i in range(300)]
    items = items_of(*texts)

    def planted(share: float) -> pa.Array:
        changed = [
            " ".join(w if rng.random() >= share else "edited" for w in t.split()) for t in texts
        ]
        return column(*[f"{sentence(i, 40)} {t} {sentence(-i, 40)}" for i, t in enumerate(changed)])

    for method, threshold in ((Ngram(), 0.5), (Llama3(), 0.3), (Decon(), 0.8)):
        index = BenchmarkIndex.build(items, methods=[method])
        for share, least in ((0.0, 0.99), (0.05, 0.97), (0.1, 0.9)):
            found = index.match(planted(share))
            enough = found["overlap"].to_numpy() >= required(threshold, found["strictness"])
            right = enough & (found["document"] == found["item"].cast(pl.Int64)).to_numpy()
            if share == 0 or isinstance(method, Llama3):
                assert right.sum() >= least * len(texts)
            assert not (enough & ~right).any()

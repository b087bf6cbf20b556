"""Measured recall and precision over a store: right, and the same for any split of the input."""

import hashlib
import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from curate.corpus.schema import SCHEMAS
from curate.dedup.minhash import MinHashScheme
from curate.dedup.plain import plain_similarity
from curate.kernels.shingles import Shingling
from pipelines.engine import DaskEngine, SerialEngine
from pipelines.passes import measured
from pipelines.passes.base import Context, Workspace
from pipelines.store import Store

SHINGLING = Shingling(width=3)
SCHEME = MinHashScheme(shingling=SHINGLING, bands=4, rows=2)


def corpus(lab, families=30):
    """Return id -> text: families of a text, an exact copy and four edits, among strangers."""
    texts = []
    for number in range(families):
        words = lab.text(number, 60).split()
        texts += [" ".join(words), " ".join(words).upper()]
        for edit in range(4):
            changed = list(words)
            for k in range(edit + 1):
                changed[7 + 11 * k] = f"changed{edit}"
            texts.append(" ".join(changed))
    texts += [lab.text(1000 + number, 60) for number in range(60)] + ["", "too short"]
    return {hashlib.blake2b(t.encode(), digest_size=16).digest(): t for t in texts}


def true_edges(texts, threshold, similarity="jaccard"):
    """Return (exact, near) edges as the pass makes them, but all of them."""
    speakers = {}
    for one in sorted(texts):
        speakers.setdefault(" ".join(texts[one].lower().split()), one)
    exact = [
        (one, speakers[text])
        for one, text in ((one, " ".join(texts[one].lower().split())) for one in sorted(texts))
        if speakers[text] != one
    ]
    near = [
        (high, low)
        for low, high in itertools.combinations(sorted(speakers.values()), 2)
        if plain_similarity(texts[low], texts[high], SHINGLING, similarity) >= threshold
    ]
    return exact, near


def write(workspace, table, columns):
    """Write a shard; columns that do not matter here hold anything."""
    rows = len(columns["doc_id"])
    fill = {pa.binary(16): bytes(16), pa.int64(): 2, pa.float64(): 1.0}
    arrays = [
        pa.array(
            columns.get(f.name, [None if f.nullable else fill.get(f.type, "any")] * rows), f.type
        )
        for f in SCHEMAS[table]
    ]
    with workspace.writer(table) as writer:
        writer.write(pa.table(arrays, schema=SCHEMAS[table]))
        return writer.commit()


class Bench:
    """A store with documents and edges in any split."""

    def __init__(self, folder, texts, exact, near, *, parts=1, seed=0, engine=None, outside=()):
        self.context = Context(
            store=Store(str(folder)), engine=engine or SerialEngine(), recipe=None
        )
        workspace = Workspace(self.context.store, "clean")
        ids = list(texts)
        edges = [(*edge, "exact", None) for edge in exact]
        edges += [(*edge, "near", None) for edge in near]
        edges += [(*edge, "near", "base@1") for edge in outside]
        random.Random(seed).shuffle(ids)
        random.Random(seed).shuffle(edges)
        self.documents = [
            write(workspace, "documents", {"doc_id": part, "text": [texts[i] for i in part]})
            for part in (ids[k::parts] for k in range(parts))
        ]
        self.duplicates = [
            write(
                workspace,
                "duplicates",
                dict(
                    zip(
                        ("doc_id", "twin_id", "kind", "twin_corpus"),
                        zip(*part, strict=True),
                        strict=True,
                    )
                ),
            )
            for part in (edges[k::parts] for k in range(parts))
            if part
        ]

    def run(self, threshold=0.6, similarity="jaccard", sample=1000):
        return measured.run(
            self.context, self.documents, self.duplicates, SCHEME, threshold, similarity, sample
        )


@pytest.fixture(scope="module")
def texts(lab):
    return corpus(lab)


@pytest.fixture(scope="module")
def edges(texts):
    return true_edges(texts, 0.6)


def all_pairs(texts, threshold, similarity="jaccard"):
    """Count the similar pairs of which neither is a copy of the other."""
    speaks = dict(true_edges(texts, 2.0)[0])
    return sum(
        plain_similarity(texts[one], texts[two], SHINGLING, similarity) >= threshold
        for one, two in itertools.combinations(texts, 2)
        if speaks.get(one, one) != speaks.get(two, two)
    )


def test_all_edges_give_a_recall_and_a_precision_of_one(texts, edges, tmp_path):
    rates = Bench(tmp_path, texts, *edges).run()
    assert rates["sampled_documents"] == rates["probed_documents"] == len(texts)
    assert rates["true_pairs"] == rates["found_pairs"] == all_pairs(texts, 0.6)
    assert (rates["recall"], rates["recall_high"]) == (1.0, 1.0)
    assert 0.9 < rates["recall_low"] < 1.0
    assert rates["checked_edges"] == rates["correct_edges"] == 200 <= len(edges[1])
    assert (rates["precision"], rates["confidence"]) == (1.0, 0.95)


def test_what_was_not_found_is_missing_from_the_recall(texts, edges, tmp_path):
    exact, near = edges
    rates = Bench(tmp_path, texts, exact, near[::2]).run()
    speaks = dict(exact)
    kept = {frozenset(edge) for edge in near[::2]}
    found = sum(
        frozenset((speaks.get(one, one), speaks.get(two, two))) in kept
        for one, two in itertools.combinations(texts, 2)
    )
    assert rates["found_pairs"] == found
    assert rates["recall"] == round(found / rates["true_pairs"], 6)
    assert 0.4 < rates["recall_low"] < rates["recall"] < rates["recall_high"] < 0.7


def test_a_sample_estimates_the_recall_of_the_whole(texts, edges, tmp_path):
    exact, near = edges
    whole = Bench(tmp_path, texts, exact, near[::3]).run()
    some = Bench(tmp_path, texts, exact, near[::3]).run(sample=60)
    assert some["sampled_documents"] == 60
    assert some["probed_documents"] == len(texts)
    assert 40 < some["true_pairs"] < whole["true_pairs"]
    assert some["recall_low"] <= whole["recall"] <= some["recall_high"]


def test_edges_that_are_wrong_lower_the_precision(texts, edges, tmp_path):
    exact, near = edges
    strangers = [(one, two) for (one, _), (_, two) in zip(near, near[200:], strict=False)]
    rates = Bench(tmp_path, texts, exact, near[:100] + strangers[:100]).run()
    assert rates["checked_edges"] == 200
    assert abs(rates["correct_edges"] - 100) < 10
    assert rates["precision_low"] < 0.5 < rates["precision_high"]


def test_containment_is_measured_as_containment(texts, tmp_path):
    texts = dict(list(texts.items())[:60])
    longer = {
        one[::-1]: text + " and some more words of its own" * 9 for one, text in texts.items()
    }
    texts |= longer
    exact, near = true_edges(texts, 0.9, "containment")
    rates = Bench(tmp_path, texts, exact, near).run(0.9, "containment")
    assert rates["true_pairs"] == rates["found_pairs"] == all_pairs(texts, 0.9, "containment")
    assert rates["true_pairs"] > 2 * all_pairs(texts, 0.9)
    assert rates["correct_edges"] == rates["checked_edges"] > 50


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("parts", [2, 7])
def test_no_split_or_order_of_the_input_shows(texts, edges, tmp_path, monkeypatch, parts, seed):
    monkeypatch.setattr(measured, "PROBE_BYTES", 40_000)  # some of the documents only
    monkeypatch.setattr(measured, "SAMPLE_BYTES", 18_000)  # before there are 70 of them
    monkeypatch.setattr(measured, "MAX_TWINS", 3)
    monkeypatch.setattr(measured, "BLOCK_DOCS", 17)
    exact, near = edges
    one = Bench(tmp_path / "one", texts, exact, near[::2]).run(sample=70)
    bench = Bench(tmp_path / "other", texts, exact, near[::2], parts=parts, seed=seed)
    assert bench.run(sample=70) == one
    assert 0.2 * len(texts) < one["probed_documents"] < 0.8 * len(texts)
    assert 20 < one["sampled_documents"] < 70
    assert one["recall"] is not None


@pytest.mark.dask
def test_two_workers_measure_the_same(texts, edges, tmp_path):
    one = Bench(tmp_path / "one", texts, *edges, parts=3).run(sample=70)
    with DaskEngine(2) as engine:
        two = Bench(tmp_path / "two", texts, *edges, parts=3, engine=engine).run(sample=70)
    assert one == two


def test_what_was_measured_is_not_measured_again(texts, edges, tmp_path):
    bench = Bench(tmp_path, texts, *edges, parts=3)
    first, executed = bench.run(sample=70), bench.context.executed
    assert executed == 3 + 1 + 3 + 1
    assert bench.run(sample=70) == first
    assert bench.context.executed == executed


def test_one_file_more_picks_from_that_file_only(texts, edges, tmp_path):
    bench = Bench(tmp_path, texts, edges[0], [], parts=6)
    last = bench.documents.pop()
    bench.run(sample=10)
    bench.documents.append(last)
    stages = []
    bench.context.observe = lambda event: (
        stages.append(event.stage) if event.kind == "part" else None
    )
    bench.run(sample=10)
    assert stages.count("sample") == 1


@pytest.mark.parametrize("sample", [0, 5])
def test_no_documents_or_no_sample_measure_nothing(texts, edges, tmp_path, sample):
    bench = Bench(tmp_path, texts, *edges)
    if sample:
        bench.documents = []
    rates = bench.run(sample=sample)
    assert rates["recall"] is rates["precision"] is None
    assert bench.context.executed == 0


def test_documents_without_any_duplicates_measure_nothing_but_say_so(lab, tmp_path):
    texts = {np.uint64(k + 1).tobytes() * 2: lab.text(k) for k in range(30)}
    rates = Bench(tmp_path, texts, [], []).run(0.8)
    assert rates["probed_documents"] == 30
    assert rates["true_pairs"] == 0
    assert rates["recall"] is rates["precision"] is None


def test_edges_to_documents_of_another_corpus_are_not_checked(texts, edges, tmp_path):
    exact, near = edges
    # That corpus may have other texts under the ids of ours.
    strangers = [(one, two) for (one, _), (_, two) in zip(near, near[200:], strict=False)]
    rates = Bench(tmp_path, texts, exact, [], outside=strangers[:50]).run()
    assert rates["checked_edges"] == 0
    assert rates["precision"] is None
    rates = Bench(tmp_path, texts, exact, near, outside=strangers[:50]).run()
    assert rates["correct_edges"] == rates["checked_edges"] == 200


def test_exact_copies_are_neither_sought_nor_found(lab, tmp_path):
    texts = {}
    for number in range(40):
        for copy in (lab.text(number), lab.text(number).upper(), lab.text(number).title()):
            texts[hashlib.blake2b(copy.encode(), digest_size=16).digest()] = copy
    exact, _ = true_edges(texts, 2.0)
    rates = Bench(tmp_path / "copies", texts, exact, []).run()
    assert len(exact) == 80
    assert (rates["true_pairs"], rates["recall"], rates["recall_low"]) == (0, None, None)
    pairs = {}
    for number in range(100, 120):
        for text in (lab.text(number), lab.near(number)):
            pairs[hashlib.blake2b(text.encode(), digest_size=16).digest()] = text
    _, near = true_edges(pairs, 0.6)
    rates = Bench(tmp_path / "both", texts | pairs, exact, near[:5]).run()
    assert (rates["found_pairs"], rates["true_pairs"], rates["recall"]) == (5, 20, 0.25)


def test_texts_are_compared_whole_or_as_the_shingling_says(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "SAMPLE_BYTES", 1 << 22)
    shared = " ".join(lab.text(number, 1000) for number in range(3000, 3040))
    ends = [" ".join(lab.text(n, 1000) for n in range(k, k + 80)) for k in (4000, 5000)]
    texts = {bytes([k]) * 16: f"{shared} {end}" for k, end in enumerate(ends)}
    bench = Bench(tmp_path, texts, [], [tuple(sorted(texts, reverse=True))])
    assert all(len(text) > 500_000 for text in texts.values())
    rates = bench.run(0.6)
    assert (rates["true_pairs"], rates["correct_edges"], rates["checked_edges"]) == (0, 0, 1)
    capped = MinHashScheme(
        shingling=Shingling(width=3, max_document_bytes=len(shared)), bands=4, rows=2
    )
    monkeypatch.setitem(globals(), "SCHEME", capped)
    rates = bench.run(0.6)
    assert (rates["true_pairs"], rates["correct_edges"], rates["checked_edges"]) == (1, 1, 1)


def test_pairs_of_a_crowd_count_as_found(lab, tmp_path):
    words = lab.text(0, 200).split()
    rows = [{"text": lab.text(1000 + number)} for number in range(20)]
    rows += [
        {"text": " ".join([*words[:100], f"serial{number}", *words[100:]])} for number in range(300)
    ]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    recipe = lab.recipe(tmp_path, deduplicate={"near": {"max_bucket": 20}})
    outcome, _ = lab.run(recipe, tmp_path / "store")
    manifest = outcome.manifests["deduplicate"]
    assert manifest.tables["crowds"]
    assert manifest.counts["near"] < 300 * 299 // 4
    rates = manifest.info["measured"]
    assert rates["true_pairs"] == 300 * 299 // 2
    assert rates["recall"] > 0.99
    assert rates["precision"] == 1.0

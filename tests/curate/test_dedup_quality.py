"""The gates of quality: recall, precision and survivors on real texts whose duplicates are known.

A gate is a function that lists what is wrong, so that the mutants at the end of this file can show
that it sees what it is for: threshold 0, one band, and verification left out.
"""

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
import zstandard

from curate.dedup.candidates import candidate_pairs
from curate.dedup.cover import greedy_cover
from curate.dedup.exact import normalised_hashes
from curate.dedup.find import near_duplicates
from curate.dedup.minhash import MinHashScheme, sketch
from curate.dedup.plain import plain_similarity
from curate.dedup.verify import jaccard
from curate.kernels.shingles import Shingling, shingle_sets

WORDS = Shingling()
PROMISE = MinHashScheme()  # the scheme of a recipe that says nothing
THRESHOLD = 0.8
NUM_SEEDS = 20


def load(path):
    """Return (ids, texts) of a JSONL file, compressed as its suffix says."""
    if path.suffix == ".zst":
        with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as raw:
            rows = [orjson.loads(line) for line in io.BufferedReader(raw)]
    else:
        with gzip.open(path) as lines:
            rows = [orjson.loads(line) for line in lines]
    ids = [row.get("id") for row in rows]
    return ids, pa.array([row["text"] for row in rows], pa.large_string())


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Texts, and the pairs listed with them: their similarity there and under our words."""

    texts: pa.LargeStringArray
    pairs: np.ndarray
    listed: np.ndarray
    ours: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to deduplicate: the house's own, or a mutant of it."""

    scheme: MinHashScheme = field(default_factory=MinHashScheme)
    threshold: float = THRESHOLD
    is_verified: bool = True

    def edges(self, texts):
        """Return (pairs, similarity); one that verifies nothing believes all of its candidates."""
        if self.is_verified:
            found = near_duplicates(texts, self.scheme, self.threshold, max_bucket=10_000)
            return found.pairs, found.jaccard
        found = sketch(texts, self.scheme)
        pairs = candidate_pairs(found.keys, found.num_shingles > 0, max_bucket=10_000).pairs
        return pairs, np.ones(len(pairs))


@pytest.fixture(scope="module", params=["licenses", "pep_revisions"])
def labelled(request, shared_data):
    ids, texts = load(shared_data / "neardup" / f"{request.param}.jsonl.zst")
    ordinal = {doc_id: k for k, doc_id in enumerate(ids)}
    listed = pl.read_csv(shared_data / "neardup" / f"{request.param}.pairs.tsv.gz", separator="\t")
    ends = [listed[name].replace_strict(ordinal).to_numpy() for name in ("id_a", "id_b")]
    pairs = np.sort(np.stack(ends, axis=1), axis=1).astype(np.int64)
    return Labelled(
        texts=texts,
        pairs=pairs,
        listed=listed["jaccard5"].to_numpy(),
        ours=jaccard(pairs, *shingle_sets(texts, WORDS)),
    )


def are_candidates(texts, pairs, scheme):
    """Say which pairs share a band: the candidate stage alone, without caps or the exact pass."""
    keys = sketch(texts, scheme).keys
    return (keys[pairs[:, 0]] == keys[pairs[:, 1]]).any(axis=1)


def wrong_recall(labelled: Labelled, schemes: Sequence[MinHashScheme], promise: MinHashScheme):
    """Gate: similar pairs become candidates at the rate that was promised, within its error."""
    found = np.stack([are_candidates(labelled.texts, labelled.pairs, one) for one in schemes])
    wrong = []
    for low, high in [(0.8, 0.85), (0.85, 0.9), (0.9, 1.01), (0.8, 1.01)]:
        chosen = (labelled.ours >= low) & (labelled.ours < high)
        shares = found[:, chosen].mean(axis=1)
        expected = np.mean([promise.s_curve(s) for s in labelled.ours[chosen]])
        # Pairs share documents, so seeds (not pairs) are the independent trials.
        error = np.std(shares, ddof=1) / np.sqrt(len(schemes))
        if abs(np.mean(shares) - expected) > 3.5 * error + 0.002:
            wrong.append(f"J in [{low}, {high}): {np.mean(shares):.4f}, not {expected:.4f}")
    return wrong


def wrong_removals(texts, way: Way):
    """Gate: whoever is removed duplicates somebody who is kept, by a count in plain Python."""
    pairs, score = way.edges(texts)
    kept_by = greedy_cover(np.arange(len(texts)), np.ones(len(texts), dtype=bool), pairs, score)
    removed = np.flatnonzero(kept_by >= 0)
    wrong = [f"{one} is removed for {kept_by[one]}, who is not kept" for one in removed.tolist()
             if kept_by[kept_by[one]] >= 0]  # fmt: skip
    drawn = np.random.default_rng(0).permutation(removed)[:60].tolist()
    for one in drawn:
        other = int(kept_by[one])
        true = plain_similarity(texts[one].as_py(), texts[other].as_py(), WORDS, "jaccard")
        if true < THRESHOLD:
            wrong.append(f"{one} is removed for {other}, but their similarity is {true:.3f}")
    return wrong


def wrong_pairs(labelled: Labelled, way: Way, promise: MinHashScheme):
    """Gate: of the pairs listed, similar ones have an edge as promised, and no others."""
    pairs, _ = way.edges(labelled.texts)
    found = {tuple(pair) for pair in pairs.tolist()}
    similar = labelled.ours >= THRESHOLD
    wrong = [
        f"{pair} is an edge, but its similarity is {true:.3f}"
        for pair, true in zip(labelled.pairs.tolist(), labelled.ours.tolist(), strict=True)
        if tuple(pair) in found and true < THRESHOLD
    ]
    share = np.mean([tuple(pair) in found for pair in labelled.pairs[similar].tolist()])
    expected = np.mean([promise.s_curve(s) for s in labelled.ours[similar]])
    if share < expected - 0.02:  # one seed: twice what pairs with common documents vary by
        wrong.append(f"{share:.4f} of the similar pairs have an edge, not {expected:.4f}")
    return wrong


@pytest.mark.parametrize("shape", [(16, 7), (14, 8)])
def test_similar_pairs_are_found_at_the_rate_of_the_s_curve(labelled, shape):
    bands, rows = shape
    schemes = [MinHashScheme(bands=bands, rows=rows, seed=seed) for seed in range(NUM_SEEDS)]
    assert (labelled.ours >= THRESHOLD).sum() > 500
    assert wrong_recall(labelled, schemes, schemes[0]) == []


def test_the_house_passes_its_gates(labelled):
    assert wrong_removals(labelled.texts, Way()) == []
    assert wrong_pairs(labelled, Way(), PROMISE) == []


def test_our_jaccard_is_near_the_listed_one(labelled):
    """The list was made with `\\w+`: underscores join words there and separate here."""
    assert np.abs(labelled.ours - labelled.listed).mean() < 0.005
    assert np.abs(labelled.ours - labelled.listed).max() < 0.2


def test_verified_edges_are_exactly_the_similar_candidates(labelled):
    edges = near_duplicates(labelled.texts, max_bucket=10_000)
    shingles, offsets = shingle_sets(labelled.texts, WORDS)
    drawn = np.random.default_rng(1).permutation(len(edges.pairs))[:1000]
    for (i, j), similarity in zip(
        edges.pairs[drawn].tolist(), edges.jaccard[drawn].tolist(), strict=True
    ):
        one = set(shingles[offsets[i] : offsets[i + 1]].tolist())
        two = set(shingles[offsets[j] : offsets[j + 1]].tolist())
        assert similarity == len(one & two) / len(one | two) >= THRESHOLD
    # No similar pair that the signatures found was lost: a much finer net catches all of them.
    fine = sketch(labelled.texts, MinHashScheme(bands=200, rows=2))
    truth = candidate_pairs(fine.keys, fine.num_shingles > 0, max_bucket=10_000).pairs
    truth = truth[jaccard(truth, shingles, offsets) >= THRESHOLD]
    caught = are_candidates(labelled.texts, truth, edges.scheme)
    assert np.array_equal(edges.pairs, truth[caught])
    assert caught.mean() > 0.97


MUTANTS = {
    "threshold 0": Way(threshold=1e-9),
    "bands 1": Way(scheme=MinHashScheme(bands=1)),
    "verification off": Way(is_verified=False),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_the_gates(labelled, mutant):
    way = MUTANTS[mutant]
    assert wrong_pairs(labelled, way, PROMISE) != []
    if mutant == "bands 1":
        schemes = [MinHashScheme(bands=1, seed=seed) for seed in range(NUM_SEEDS)]
        assert len(wrong_recall(labelled, schemes, PROMISE)) == 4
    else:
        assert wrong_removals(labelled.texts, way) != []


def vocabulary(rng, num_words):
    return [f"w{k}" for k in rng.integers(0, 10_000, num_words)]


def sum_of_chances(chances):
    """Return the distribution of how many of independent events happen, float64 [n + 1]."""
    mass = np.ones(1)
    for chance in chances:
        mass = np.convolve(mass, [1.0 - chance, chance])
    return mass


@pytest.mark.parametrize("shape", [(16, 7), (14, 8), (20, 13)])
def test_every_rung_of_a_ladder_of_edits_lies_in_the_band_of_the_s_curve(shape):
    """11 rates of replaced words, 200 pairs each; the number of candidates in its 99 % band."""
    bands, rows = shape
    scheme = MinHashScheme(bands=bands, rows=rows)
    rng = np.random.default_rng(21)
    for rate in np.linspace(0.005, 0.105, 11):
        texts = []
        for _ in range(200):
            words = vocabulary(rng, 200)
            edited = [w if rng.random() > rate else f"x{rng.integers(10**9)}" for w in words]
            texts += [" ".join(words), " ".join(edited)]
        column = pa.array(texts, pa.large_string())
        pairs = np.arange(400, dtype=np.int64).reshape(200, 2)
        true = jaccard(pairs, *shingle_sets(column, scheme.shingling))
        found = int(are_candidates(column, pairs, scheme).sum())
        mass = np.cumsum(sum_of_chances([scheme.s_curve(s) for s in true]))
        low, high = np.searchsorted(mass, [0.005, 0.995])
        assert low <= found <= high, (rate, low, found, high)


@pytest.mark.parametrize("max_bucket", [50, 1000, 10_000])
def test_a_thousand_documents_of_one_template_survive(max_bucket):
    """80 % of each is boilerplate that all share; a fifth is its own."""
    rng = np.random.default_rng(5)
    template = vocabulary(rng, 160)
    texts = [" ".join(template + vocabulary(rng, 40)) for _ in range(1000)]
    edges = near_duplicates(pa.array(texts, pa.large_string()), max_bucket=max_bucket)
    assert edges.num_candidates > 1000
    kept_by = greedy_cover(np.arange(1000), np.ones(1000, bool), edges.pairs, edges.jaccard)
    assert (kept_by < 0).all()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_the_end_of_a_chain_is_kept_unless_it_duplicates_a_kept_one(order):
    rng = np.random.default_rng(9)
    first = vocabulary(rng, 300)
    second = first[30:] + vocabulary(rng, 30)
    third = second[30:] + vocabulary(rng, 30)
    texts = [" ".join(words) for words in (first, second, third)]
    assert plain_similarity(texts[0], texts[2], WORDS, "jaccard") < THRESHOLD
    edges = near_duplicates(pa.array(texts, pa.large_string()), MinHashScheme(bands=30, rows=4))
    assert edges.pairs.tolist() == [[0, 1], [1, 2]]
    rank = np.argsort(np.array(order))
    kept_by = greedy_cover(rank, np.ones(3, dtype=bool), edges.pairs, edges.jaccard).tolist()
    # The middle one stands for both ends only if it is wanted before either.
    assert kept_by == ([1, -1, 1] if order[0] == 1 else [-1, order[0], -1])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_documents_changes_no_edge(labelled, seed):
    texts = labelled.texts.slice(0, 500)
    order = np.random.default_rng(seed).permutation(500)
    edges = near_duplicates(texts)
    moved = near_duplicates(texts.take(pa.array(order)))
    back = np.sort(order[moved.pairs], axis=1)
    by = np.lexsort((back[:, 1], back[:, 0]))
    assert np.array_equal(back[by], edges.pairs)
    assert np.array_equal(moved.jaccard[by], edges.jaccard)
    assert len(edges.pairs) > 20


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("probe/sms_spam.jsonl.gz", 415),
        ("text/docs_tldr.jsonl.gz", 20),
        ("neardup/pep_revisions.jsonl.zst", 3),
        ("text/multilingual_udhr.jsonl.zst", 1),
        ("text/code_python.parquet", 174),
    ],
)
def test_exact_duplicates_are_as_many_as_the_data_says(shared_data, path, expected):
    source = shared_data / path
    if source.suffix == ".parquet":
        texts = pl.read_parquet(source, columns=["text"])["text"].to_arrow()
        texts = texts.cast(pa.large_string())
    else:
        _, texts = load(source)
    hashes = normalised_hashes(texts)
    assert len(texts) - len(hashes.unique()) == expected

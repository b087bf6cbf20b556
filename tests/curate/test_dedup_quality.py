"""Recall, precision and counts on real texts whose duplicates are known."""

import gzip
import io

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
import zstandard

from curate.dedup.candidates import candidate_pairs
from curate.dedup.exact import normalised_hashes
from curate.dedup.find import near_duplicates
from curate.dedup.minhash import MinHashScheme, band_keys, signatures
from curate.dedup.verify import jaccard
from curate.kernels.words import shingle_sets


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


@pytest.fixture(scope="module", params=["licenses", "pep_revisions"])
def labelled(request, shared_data):
    """Texts, their shingle sets, and the file's pairs with their Jaccard similarity."""
    ids, texts = load(shared_data / "neardup" / f"{request.param}.jsonl.zst")
    ordinal = {doc_id: k for k, doc_id in enumerate(ids)}
    listed = pl.read_csv(shared_data / "neardup" / f"{request.param}.pairs.tsv.gz", separator="\t")
    ends = [listed[name].replace_strict(ordinal).to_numpy() for name in ("id_a", "id_b")]
    pairs = np.sort(np.stack(ends, axis=1), axis=1).astype(np.int64)
    return texts, shingle_sets(texts, 5), pairs, listed["jaccard5"].to_numpy()


def are_found(pairs, shingles, offsets, scheme):
    keys = band_keys(signatures(shingles, offsets, scheme), scheme)
    return (keys[pairs[:, 0]] == keys[pairs[:, 1]]).any(axis=1)


def test_our_jaccard_is_near_the_listed_one(labelled):
    """The list was made with `\\w+`: underscores join words there and separate here."""
    _, (shingles, offsets), pairs, listed = labelled
    ours = jaccard(pairs, shingles, offsets)
    assert np.abs(ours - listed).mean() < 0.005
    assert np.abs(ours - listed).max() < 0.2


def test_recall_follows_the_s_curve_over_twenty_seeds(labelled):
    _, (shingles, offsets), pairs, _ = labelled
    ours = jaccard(pairs, shingles, offsets)
    found = np.stack(
        [are_found(pairs, shingles, offsets, MinHashScheme(seed=seed)) for seed in range(20)]
    )
    for low, high in [(0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.8, 1.01)]:
        chosen = (ours >= low) & (ours < high)
        shares = found[:, chosen].mean(axis=1)
        expected = np.mean([MinHashScheme().s_curve(s) for s in ours[chosen]])
        # Pairs share documents, so seeds (not pairs) are the independent trials.
        error = np.std(shares, ddof=1) / np.sqrt(20)
        assert abs(np.mean(shares) - expected) < 3.5 * error + 0.002, (low, np.mean(shares))


def test_verified_edges_are_exactly_the_similar_candidates(labelled):
    texts, (shingles, offsets), _, _ = labelled
    edges = near_duplicates(texts, max_bucket=10_000)
    for (i, j), similarity in zip(edges.pairs.tolist(), edges.jaccard.tolist(), strict=True):
        one = set(shingles[offsets[i] : offsets[i + 1]].tolist())
        two = set(shingles[offsets[j] : offsets[j + 1]].tolist())
        assert similarity == len(one & two) / len(one | two) >= 0.8
    # No similar pair that the signatures found was lost: a much finer net catches all of them.
    fine = MinHashScheme(bands=200, rows=2)
    keys = band_keys(signatures(shingles, offsets, fine), fine)
    truth = candidate_pairs(keys, np.diff(offsets) > 0, max_bucket=10_000).pairs
    truth = truth[jaccard(truth, shingles, offsets) >= 0.8]
    caught = are_found(truth, shingles, offsets, edges.scheme)
    assert np.array_equal(edges.pairs, truth[caught])
    assert caught.mean() > 0.97


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

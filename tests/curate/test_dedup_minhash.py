"""Exact hashes, signatures and candidates against datasketch and plain Python."""

import hashlib
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup import candidates as candidates_module
from curate.dedup import minhash as minhash_module
from curate.dedup.candidates import candidate_pairs
from curate.dedup.exact import normalised_hashes
from curate.dedup.minhash import MinHashScheme, band_keys, signatures

uint64s = st.integers(0, 2**64 - 1)
documents = st.lists(st.lists(uint64s, max_size=12), max_size=8)


def ragged(docs):
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in docs])]).astype(np.int64)
    return np.array([h for d in docs for h in d], dtype=np.uint64), offsets


def datasketch_of(doc, scheme):
    mask = 2**64 - 1 if scheme.scheme == "affine64" else 2**32 - 1
    sketch = MinHash(
        num_perm=scheme.num_perm,
        seed=scheme.seed,
        scheme=scheme.scheme,
        hashfunc=lambda h: h & mask,
    )
    sketch.update_batch([int(h) for h in doc])
    return sketch


def similar_documents(num_docs, seed=0, size=80):
    """Families of random shingle sets that share between half and all of their shingles."""
    rng = np.random.default_rng(seed)
    docs, base = [], rng.integers(0, 2**63, size, dtype=np.uint64)
    for k in range(num_docs):
        if k % 5 == 0:
            base = rng.integers(0, 2**63, size, dtype=np.uint64)
        doc = base.copy()
        changed = rng.random(size) < rng.random() * 0.4
        doc[changed] = rng.integers(0, 2**63, changed.sum(), dtype=np.uint64)
        docs.append(np.unique(doc))
    return docs


@pytest.mark.parametrize("scheme", ["affine32", "affine64", "legacy"])
@given(documents, st.integers(0, 5))
def test_signatures_are_those_of_datasketch_bit_for_bit(scheme, docs, seed):
    chosen = MinHashScheme(bands=3, rows=2, seed=seed, scheme=scheme)
    found = signatures(*ragged(docs), chosen)
    assert found.shape == (len(docs), 6)
    for row, doc in zip(found, docs, strict=True):
        expected = datasketch_of(doc, chosen).hashvalues
        assert row.dtype == expected.dtype
        assert np.array_equal(row, expected)


@given(documents, st.integers(1, 9))
def test_signatures_do_not_depend_on_blocks_or_slices(docs, block):
    scheme = MinHashScheme(bands=2, rows=2)
    shingles, offsets = ragged(docs)
    whole = signatures(shingles, offsets, scheme)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash_module, "BLOCK_SHINGLES", block)
        assert np.array_equal(signatures(shingles, offsets, scheme), whole)
    half = len(docs) // 2
    assert np.array_equal(signatures(shingles, offsets[half:], scheme), whole[half:])


def test_default_signature_of_a_long_document_equals_datasketch():
    doc = np.random.default_rng(3).integers(0, 2**63, 100_000, dtype=np.uint64)
    scheme = MinHashScheme()
    found = signatures(doc, np.array([0, 100_000]), scheme)
    assert np.array_equal(found[0], datasketch_of(doc, scheme).hashvalues)


def test_band_keys_agree_exactly_where_bands_agree():
    scheme = MinHashScheme(bands=5, rows=3)
    found = signatures(*ragged(similar_documents(60)), scheme)
    keys = band_keys(found, scheme)
    assert keys.shape == (60, 5)
    assert keys.dtype == np.uint64
    for i, j in combinations(range(60), 2):
        for band in range(5):
            part = slice(3 * band, 3 * band + 3)
            same = np.array_equal(found[i, part], found[j, part])
            assert (keys[i, band] == keys[j, band]) == same


def test_keys_of_different_bands_never_meet():
    scheme = MinHashScheme(bands=4, rows=2)
    keys = band_keys(np.zeros((1, 8), dtype=np.uint32), scheme)
    assert len(set(keys[0].tolist())) == 4


@pytest.mark.parametrize("shape", [(14, 8), (20, 4), (3, 2)])
def test_candidates_are_those_of_datasketch_lsh(shape):
    bands, rows = shape
    scheme = MinHashScheme(bands=bands, rows=rows)
    docs = similar_documents(200)
    shingles, offsets = ragged(docs)
    lsh = MinHashLSH(num_perm=scheme.num_perm, params=shape)
    sketches = [datasketch_of(doc, scheme) for doc in docs]
    for k, sketch in enumerate(sketches):
        lsh.insert(k, sketch)
    expected = {(k, other) for k, s in enumerate(sketches) for other in lsh.query(s) if other > k}
    keys = band_keys(signatures(shingles, offsets, scheme), scheme)
    found = candidate_pairs(keys, np.ones(200, dtype=bool))
    assert found.pairs.tolist() == sorted(map(list, expected))
    assert len(expected) > 50


small_keys = st.integers(1, 30).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=n, max_size=n)
)


def plain_candidates(keys, eligible, max_bucket, num_hubs):
    pairs, capped, capped_docs = set(), 0, set()
    for band in range(keys.shape[1]):
        for key in set(keys[:, band].tolist()):
            bucket = [i for i in range(len(keys)) if eligible[i] and keys[i, band] == key]
            if len(bucket) <= max_bucket:
                pairs |= set(combinations(bucket, 2))
                continue
            capped += 1
            capped_docs |= set(bucket)
            pairs |= set(pairwise(bucket))
            pairs |= {(h, d) for h in bucket[:num_hubs] for d in bucket if h < d}
    return sorted(map(list, pairs)), capped, len(capped_docs)


@given(small_keys, st.integers(2, 8), st.integers(0, 3), st.integers(1, 20), st.data())
def test_candidates_equal_the_plain_twin(keys, max_bucket, num_hubs, block, data):
    keys = np.array(keys, dtype=np.uint64)
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates_module, "BLOCK_PAIRS", block)
        found = candidate_pairs(keys, eligible, max_bucket, num_hubs=num_hubs)
    pairs, capped, capped_docs = plain_candidates(keys, eligible, max_bucket, num_hubs)
    assert found.pairs.tolist() == pairs
    assert (found.num_capped_buckets, found.num_capped_documents) == (capped, capped_docs)


def test_documents_without_shingles_are_nobodys_candidates():
    scheme = MinHashScheme(bands=2, rows=1)
    shingles, offsets = ragged([[], [], [1], [1]])
    keys = band_keys(signatures(shingles, offsets, scheme), scheme)
    found = candidate_pairs(keys, np.diff(offsets) > 0)
    assert found.pairs.tolist() == [[2, 3]]


def test_no_documents_at_all_is_fine():
    scheme = MinHashScheme()
    empty = signatures(np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.int64), scheme)
    found = candidate_pairs(band_keys(empty, scheme), np.empty(0, dtype=bool))
    assert found.pairs.shape == (0, 2)


def test_s_curve_has_the_published_values():
    curve = {s: round(MinHashScheme().s_curve(s), 3) for s in (0.5, 0.7, 0.75, 0.8, 0.85)}
    assert curve == {0.5: 0.053, 0.7: 0.565, 0.75: 0.772, 0.8: 0.924, 0.85: 0.988}
    assert round(MinHashScheme(bands=20, rows=13).s_curve(0.8), 3) == 0.677


def test_candidates_appear_at_the_rate_of_the_s_curve():
    """A ladder of Jaccard values; the count must lie in the binomial 99.9 % band of each."""
    scheme, num_pairs, size = MinHashScheme(), 300, 100
    rng = np.random.default_rng(11)
    for shared in range(50, 100, 5):
        unique = size - shared
        fresh = rng.integers(0, 2**63, (num_pairs, size + unique), dtype=np.uint64)
        docs = np.stack([fresh[:, :size], fresh[:, unique:]], axis=1).reshape(2 * num_pairs, size)
        offsets = np.arange(0, docs.size + 1, size)
        keys = band_keys(signatures(docs.reshape(-1), offsets, scheme), scheme)
        found = (keys[::2] == keys[1::2]).any(axis=1).sum()
        chance = scheme.s_curve(shared / (size + unique))
        spread = 3.3 * np.sqrt(num_pairs * chance * (1 - chance)) + 1
        assert abs(found - num_pairs * chance) <= spread, (shared, found, num_pairs * chance)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bands": 0}, "bands must be at least 1, got 0"),
        ({"seed": -1}, "seed must be in"),
        ({"scheme": "afine32"}, "Did you mean 'affine32'"),
        ({"hash": "md5"}, "there are: mix64"),
    ],
)
def test_a_wrong_scheme_shows_the_bad_value(wrong, message):
    with pytest.raises(InputError, match=message):
        MinHashScheme(**wrong)


def test_signatures_of_another_scheme_are_refused():
    with pytest.raises(InputError, match=r"expected \[n, 112\]"):
        band_keys(np.zeros((3, 128), dtype=np.uint32), MinHashScheme())


def slow_exact(text):
    folded = " ".join((text or "").lower().split())
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()


@given(st.lists(st.none() | st.text(alphabet="aA b\t\n\u00a0\u3000\u00c9\u4e2d."), max_size=9))
def test_exact_hashes_equal_the_slow_twin(texts):
    found = normalised_hashes(pa.array(texts, pa.large_string()))
    assert found.type == pa.binary(16)
    assert found.to_pylist() == [slow_exact(t) for t in texts]
    sliced = normalised_hashes(pa.array(["x", *texts], pa.large_string()).slice(1))
    assert sliced.to_pylist() == found.to_pylist()

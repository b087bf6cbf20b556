"""Exact hashes, signatures and candidates against datasketch and plain Python."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.dedup import candidates as candidates_module
from curate.dedup.candidates import candidate_pairs
from curate.dedup.exact import normalised_hashes
from curate.dedup.minhash import (
    MinHashScheme,
    band_keys,
    signatures,
    signatures_of,
    sketch,
    to_datasketch,
)
from curate.kernels.fold import UNICODE_VERSION
from curate.kernels.shingles import Shingling, shingle_sets

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


@given(documents)
def test_signatures_do_not_depend_on_slices(docs):
    scheme = MinHashScheme(bands=2, rows=2)
    shingles, offsets = ragged(docs)
    whole = signatures(shingles, offsets, scheme)
    half = len(docs) // 2
    assert np.array_equal(signatures(shingles, offsets[half:], scheme), whole[half:])


@given(documents, st.integers(0, 5))
def test_mersenne_signatures_are_those_of_plain_integers(docs, seed):
    """datatrove's arithmetic: the product wraps at 2^64 before it is taken modulo 2^61 - 1."""
    scheme = MinHashScheme(bands=1, rows=3, seed=seed, scheme="mersenne61")
    draw = np.random.RandomState(seed)
    prime = 2**61 - 1
    a = draw.randint(1, prime, dtype=np.uint64, size=3).tolist()
    b = draw.randint(0, prime, dtype=np.uint64, size=3).tolist()
    expected = [
        [min(((h * a[k] + b[k]) % 2**64 % prime for h in doc), default=2**64 - 1) for k in range(3)]
        for doc in docs
    ]
    assert signatures(*ragged(docs), scheme).tolist() == expected


@pytest.mark.parametrize("value", [0, 1, 2**61 - 2, 2**61 - 1, 2**61, 2**62 - 2, 2**64 - 1])
def test_the_mersenne_remainder_is_right_at_its_edges(value):
    from curate.kernels import permute

    one, none = np.ones(1, dtype=np.uint64), np.zeros(1, dtype=np.uint64)
    found = np.full((1, 1), 2**64 - 1, dtype=np.uint64)
    shingle, scratch = np.array([value], dtype=np.uint64), np.zeros(64, dtype=np.uint64)
    bits = np.uint64(2**64 - 1)
    permute.permute_mersenne(shingle, np.array([0, 1]), one, none, bits, scratch, found)
    assert found[0, 0] == value % (2**61 - 1)


def test_default_signature_of_a_long_document_equals_datasketch():
    doc = np.random.default_rng(3).integers(0, 2**63, 100_000, dtype=np.uint64)
    scheme = MinHashScheme()
    found = signatures(doc, np.array([0, 100_000]), scheme)
    assert np.array_equal(found[0], datasketch_of(doc, scheme).hashvalues)


texts_of_words = st.lists(
    st.none() | st.text(alphabet="ab \u00e9\u4e2d1.", max_size=40), max_size=8
)
schemes = st.builds(
    MinHashScheme,
    shingling=st.builds(
        Shingling,
        unit=st.sampled_from(["words", "characters"]),
        width=st.integers(1, 4),
        numbers=st.sampled_from(["keep", "zero"]),
        max_document_bytes=st.sampled_from([0, 10]),
    ),
    bands=st.integers(1, 4),
    rows=st.integers(1, 4),
    seed=st.integers(0, 3),
    scheme=st.sampled_from(["affine32", "affine64", "legacy", "mersenne61"]),
)


@given(texts_of_words, schemes)
def test_a_sketch_is_shingles_then_signatures_then_band_keys(texts, scheme):
    column = pa.array(texts, pa.large_string())
    expected = signatures(*shingle_sets(column, scheme.shingling), scheme)
    assert np.array_equal(signatures_of(column, scheme), expected)
    found = sketch(column, scheme)
    assert np.array_equal(found.keys, band_keys(expected, scheme))
    sizes = np.diff(shingle_sets(column, scheme.shingling)[1])
    assert ((found.num_shingles > 0) == (sizes > 0)).all()
    assert (found.num_shingles >= sizes).all()
    cap = scheme.shingling.max_document_bytes or 1000
    assert found.is_capped.tolist() == [len((t or "").encode()) > cap for t in texts]
    half = len(texts) // 2
    assert np.array_equal(sketch(column.slice(half), scheme).keys, found.keys[half:])
    chunked = pa.chunked_array([column.slice(0, half), column.slice(half)], pa.large_string())
    assert np.array_equal(sketch(chunked, scheme).keys, found.keys)


def test_threads_give_the_sketches_of_one():
    scheme = MinHashScheme()
    column = pa.array([f"text {i} " * (i % 50) for i in range(2000)], pa.large_string())
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda i: sketch(column.slice(i, 250), scheme).keys, range(0, 2000, 250))
        assert np.array_equal(np.concatenate(list(parts)), sketch(column, scheme).keys)


@pytest.mark.parametrize("scheme", ["affine32", "affine64", "legacy"])
def test_datasketch_takes_our_signatures_for_its_own(scheme):
    chosen = MinHashScheme(bands=8, rows=4, seed=7, scheme=scheme)
    docs = similar_documents(40)
    found = to_datasketch(signatures(*ragged(docs), chosen), chosen)
    lsh = MinHashLSH(num_perm=chosen.num_perm, params=(8, 4))
    with lsh.insertion_session() as session:
        for i, ours in enumerate(found):
            session.insert(i, ours)
    for ours, doc in zip(found, docs, strict=True):
        theirs = datasketch_of(doc, chosen)
        assert ours == theirs
        assert ours.jaccard(theirs) == 1.0
        assert sorted(lsh.query(ours)) == sorted(lsh.query(theirs))
        ours.update(doc[0])
        assert ours == theirs
        ours.update(12345)
        theirs.update(12345)
        assert ours == theirs
    assert found[0].jaccard(found[1]) < 1.0


def test_datasketch_has_no_scheme_of_datatrove():
    scheme = MinHashScheme.named("datatrove")
    with pytest.raises(InputError, match="no permutation scheme 'mersenne61'"):
        to_datasketch(np.zeros((1, 112), dtype=np.uint64), scheme)


def test_named_schemes_have_the_shapes_of_their_tools():
    shapes = {}
    for name in ("datatrove", "nemo", "dolma3"):
        scheme = MinHashScheme.named(name, max_document_bytes=1000)
        assert scheme.shingling.max_document_bytes == 1000
        shingling = scheme.shingling
        shapes[name] = (scheme.bands, scheme.rows, scheme.seed, shingling.width, shingling.unit)
    assert shapes == {
        "datatrove": (14, 8, 1, 5, "words"),
        "nemo": (20, 13, 42, 24, "characters"),
        "dolma3": (26, 11, 1, 5, "words"),
    }
    assert MinHashScheme.named("dolma3", bands=2, width=3).shingling.width == 3
    with pytest.raises(InputError, match="Did you mean 'datatrove'"):
        MinHashScheme.named("datatrov")


def test_the_record_of_a_scheme_makes_the_scheme_again():
    scheme = MinHashScheme.named("nemo", numbers="zero")
    record = json.loads(json.dumps(scheme.to_dict()))
    assert record.pop("unicode") == UNICODE_VERSION
    assert MinHashScheme(**{**record, "shingling": Shingling(**record["shingling"])}) == scheme
    assert scheme.shingling.to_dict() == {**record["shingling"], "unicode": UNICODE_VERSION}


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
    for k, one in enumerate(sketches):
        lsh.insert(k, one)
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
    assert curve == {0.5: 0.118, 0.7: 0.747, 0.75: 0.899, 0.8: 0.977, 0.85: 0.998}
    datatrove = MinHashScheme.named("datatrove")
    assert [round(datatrove.s_curve(s), 3) for s in (0.7, 0.75, 0.8, 0.85)] == [
        0.565,
        0.772,
        0.924,
        0.988,
    ]
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
    ],
)
def test_a_wrong_scheme_shows_the_bad_value(wrong, message):
    with pytest.raises(InputError, match=message):
        MinHashScheme(**wrong)


def test_signatures_of_another_scheme_are_refused():
    with pytest.raises(InputError, match=r"expected \[n, 112\]"):
        band_keys(np.zeros((3, 128), dtype=np.uint32), MinHashScheme())


WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def slow_exact(text):
    lowered = "".join(c.lower() for c in text or "").replace("\u03c2", "\u03c3")
    folded = " ".join(re.split(f"[{WHITE_SPACE}]+", lowered)).strip(" ")
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()


tricky = (
    "aA b\t\n\u00a0\u3000\u00c9\u4e2d.\x1c\u200b\u0130\u03a3\u03c2\u023a\u212a\U00010400\U0001f600"
)


@given(st.lists(st.none() | st.text() | st.text(alphabet=tricky, max_size=150), max_size=9))
def test_exact_hashes_equal_the_slow_twin(texts):
    found = normalised_hashes(pa.array(texts, pa.large_string()))
    assert found.type == pa.binary(16)
    assert found.to_pylist() == [slow_exact(t) for t in texts]
    sliced = normalised_hashes(pa.array(["x", *texts], pa.large_string()).slice(1))
    assert sliced.to_pylist() == found.to_pylist()
    chunked = pa.chunked_array([pa.array([t], pa.large_string()) for t in texts], pa.large_string())
    assert normalised_hashes(chunked).to_pylist() == found.to_pylist()


def test_exact_hashes_of_every_character_equal_the_slow_twin():
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["b".join(map(chr, codes[k : k + 512])) for k in range(0, len(codes), 512)]
    found = normalised_hashes(pa.array(texts, pa.large_string()))
    assert found.to_pylist() == [slow_exact(t) for t in texts]


@given(st.text(alphabet="a \n", max_size=300), st.integers(0, 70))
def test_white_space_is_squeezed_across_any_boundary(text, shift):
    moved = "x" * shift + text
    assert normalised_hashes(pa.array([moved])).to_pylist() == [slow_exact(moved)]


def test_exact_hashes_refuse_what_is_no_text():
    with pytest.raises(InputError, match="got int64"):
        normalised_hashes(pa.array([1, 2]))

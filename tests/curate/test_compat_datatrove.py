"""Signatures equal to datatrove's: against recorded numbers, and against datatrove if installed."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from curate.dedup.minhash import MinHashScheme, signatures_of, sketch
from curate.kernels.datatrove import simplify

SCHEME = MinHashScheme.named("datatrove")
TEXTS = [
    "The quick brown fox, 12.5 years old, jumps over 3 lazy dogs; again and again!",
    "Caf\u00e9 \u039f\u0394\u039f\u03a3 na\u00efve \u0130stanbul \u201cquoted\u201d \u2014 "
    "\u0661\u0662\u066b\u0663 \uff11\uff12 e\u0301 end",
    "one two three four",
    " ".join(f"word{k % 7} {k * k}" for k in range(300)),
]
# Made with datatrove 0.10.1 and xxhash 3, its word tokenizer replaced by `str.split`: number of
# shingles, the first slots, and blake2b-64 of all 112 as little-endian bytes.
RECORDED = [
    (11, [153706031891268216, 389561679210592615, 96194298783852953], "c46061d3fa7518d1"),
    (5, [496630033965540258, 553882185034762731, 97955475960461215], "d6e10cb424958d69"),
    (0, None, None),  # datatrove signs no document without shingles
    (596, [568575308675754645, 568471613113095488, 1001844398744914314], "b900690304d8c1db"),
]


def column(texts):
    return pa.array(texts, pa.large_string())


def test_signatures_are_the_recorded_ones_of_datatrove():
    found = signatures_of(column(TEXTS), SCHEME)
    num_shingles = sketch(column(TEXTS), SCHEME).num_shingles
    for row, count, (expected, first, digest) in zip(found, num_shingles, RECORDED, strict=True):
        assert count == expected
        if first:
            assert row[:3].tolist() == first
            assert hashlib.blake2b(row.astype("<u8").tobytes(), digest_size=8).hexdigest() == digest


def test_signatures_and_words_are_those_of_an_installed_datatrove(monkeypatch, tmp_path):
    theirs = pytest.importorskip("datatrove.pipeline.dedup.minhash", exc_type=ImportError)
    xxhash = pytest.importorskip("xxhash")
    from datatrove.utils.text import simplify_text

    class Words:
        def word_tokenize(self, text):
            return text.split()

    monkeypatch.setattr(theirs, "load_word_tokenizer", lambda language: Words())
    reference = theirs.MinhashDedupSignature(str(tmp_path))
    # datatrove 0.10 hands a str to xxhash, which takes bytes only from its version 4 on.
    reference._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())
    draw = np.random.default_rng(5)
    letters = [
        *"aaab  z9.,!\n\x1c\x85\u00e9\u0130\u0301\u03a3\u0660\u066b\u2019\u201d",
        *"\u3002\u4e2d\ufb01\uff11\U0001d7d8",
    ]
    texts = TEXTS + ["".join(draw.choice(letters, size)) for size in range(0, 600, 7)]
    for text, ours in zip(texts, signatures_of(column(texts), SCHEME), strict=True):
        assert simplify(text) == " ".join(simplify_text(text).split())
        shingles = reference.get_shingles(text)
        if shingles.size:
            assert np.concatenate(reference.get_signature(shingles)).tolist() == ours.tolist()


def test_the_cap_and_nulls_hold_for_foreign_normalisers_too():
    capped = MinHashScheme.named("datatrove", max_document_bytes=40)
    found = sketch(column([TEXTS[0], None, TEXTS[0][:40]]), capped)
    assert found.is_capped.tolist() == [True, False, False]
    assert np.array_equal(found.keys[0], found.keys[2])
    assert found.num_shingles.tolist() == [4, 0, 4]

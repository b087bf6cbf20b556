"""The xxHash64 kernel against recorded vectors and the `xxhash` package."""

import numpy as np
import pytest

from curate.kernels.xxh64 import hash_spans, hash_word_runs

# Digests of the first n bytes of 0, 1, ..., 255, 0, 1, ..., made with xxhash 4.1.0.
RECORDED = {
    0: 0xEF46DB3751D8E999,
    1: 0xE934A84ADB052768,
    3: 0xE5C7BB4533BC65DD,
    4: 0xFFCED8604453CC1E,
    7: 0x14CC643F630C72D2,
    8: 0x884A173614B81B8D,
    12: 0x424AF23F1F08DCA5,
    31: 0xC346D2B59B4D8EE1,
    32: 0xCBF59C5116FF32B4,
    33: 0x0C535D1ACAFB8EAD,
    64: 0xF7C67301DB6713F0,
    1000: 0x6EF436B00EBA4078,
}
DATA = np.arange(4096 + 8, dtype=np.uint64).astype(np.uint8)


def digests(starts, stops):
    out = np.zeros(len(starts), dtype=np.uint64)
    hash_spans(DATA, np.array(starts), np.array(stops), out)
    return out.tolist()


def test_digests_are_the_recorded_ones():
    lengths = list(RECORDED)
    assert digests([0] * len(lengths), lengths) == list(RECORDED.values())


def test_digests_are_those_of_the_package():
    xxhash = pytest.importorskip("xxhash")
    starts = [s for s in range(9) for _ in range(120)]
    stops = [s + n for s in range(9) for n in range(120)]
    spans = zip(starts, stops, strict=True)
    expected = [xxhash.xxh64_intdigest(DATA[a:b].tobytes()) for a, b in spans]
    assert digests(starts, stops) == expected


def test_runs_of_words_are_hashed_as_their_slices():
    texts = [b"one two three four", b"", b"one", b"two three"]
    bounds = np.cumsum([0, *map(len, texts)])
    data = np.frombuffer(b"".join(texts) + bytes(8), dtype=np.uint8).copy()
    starts, out, offsets = np.zeros(8, np.int64), np.zeros(9, np.uint64), np.zeros(5, np.int64)
    hash_word_runs(data, bounds, 2, starts, out, offsets)
    assert offsets.tolist() == [0, 3, 3, 3, 4]
    expected = np.zeros(4, dtype=np.uint64)
    spans = np.array([[0, 7], [4, 13], [8, 18], [21, 30]])
    hash_spans(data, spans[:, 0].copy(), spans[:, 1].copy(), expected)
    assert out[:4].tolist() == expected.tolist()

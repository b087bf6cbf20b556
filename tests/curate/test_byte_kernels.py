"""Kernels over bytes against the libraries that say what is right."""

import hashlib
import re

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.blake2 import blake2b_many
from curate.kernels.buffers import text_buffers
from curate.kernels.controls import find_controls

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]|^\ufeff")


def as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    st.binary(max_size=150),
    st.binary(max_size=64),
    st.sampled_from([8, 16, 64]),
)
@settings(deadline=None)
def test_blake2b_of_many_strings_is_hashlibs(
    strings: list[bytes], head: bytes, key: bytes, size: int
) -> None:
    data, offsets = text_buffers(pa.array([b"", *strings], pa.large_binary())[1:])
    out = np.empty((len(strings), size), dtype=np.uint8)
    blake2b_many(data, offsets, as_bytes(head), as_bytes(key), out)
    for row, text in zip(out, strings, strict=True):
        assert row.tobytes() == hashlib.blake2b(head + text, digest_size=size, key=key).digest()


def test_blake2b_at_the_edges_of_blocks() -> None:
    strings = [bytes([n & 0xFF]) * n for n in (0, 1, 127, 128, 129, 255, 256, 257, 5000)]
    data, offsets = text_buffers(pa.array(strings, pa.large_binary()))
    for key in (b"", b"k", b"k" * 64):
        out = np.empty((len(strings), 16), dtype=np.uint8)
        blake2b_many(data, offsets, as_bytes(b""), as_bytes(key), out)
        want = [hashlib.blake2b(text, digest_size=16, key=key).digest() for text in strings]
        assert [row.tobytes() for row in out] == want


@given(
    st.lists(
        st.text(
            alphabet=st.one_of(
                st.characters(codec="utf-8"), st.sampled_from("a\n\t\x85\xa0\xc2\ufeff\x1f")
            ),
            max_size=200,
        ),
        max_size=6,
    ),
    st.integers(0, 130),
)
@settings(deadline=None)
def test_control_characters_are_found_as_the_expression_says(texts: list[str], pad: int) -> None:
    texts = [text for one in texts for text in (one, "x" * pad + one)]
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    found = np.zeros(len(texts), dtype=np.bool_)
    find_controls(data, offsets, found)
    assert found.tolist() == [CONTROLS.search(text) is not None for text in texts]

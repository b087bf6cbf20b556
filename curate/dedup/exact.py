r"""Exact duplicates: equal text once case is lowered and white space is collapsed.

>>> import pyarrow as pa
>>> texts = pa.array(["Good  day\n", "good day", "Good bye"], pa.large_string())
>>> hashes = normalised_hashes(texts)
>>> len(set(hashes.to_pylist()))
2
"""

import hashlib

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.errors import InputError

__all__ = ["normalised_hashes"]

SLICE_DOCS = 16_384
DIGEST_BYTES = 16


def normalised_hashes(texts: pa.LargeStringArray) -> pa.FixedSizeBinaryArray:
    """Return blake2b-128 of each text, lower-cased, runs of white space as one space, trimmed.

    White space is Unicode's `White_Space`. A null text counts as the empty text; two empty texts
    are duplicates of each other. Raises InputError if `texts` is not a string array.
    """
    if not (pa.types.is_large_string(texts.type) or pa.types.is_string(texts.type)):
        raise InputError(
            f"texts must be an Arrow array of large_string, got {texts.type}; "
            "cast the column with `.cast(pyarrow.large_string())`"
        )
    digests = bytearray()
    for start in range(0, len(texts), SLICE_DOCS):
        folded = _fold(texts.slice(start, SLICE_DOCS))
        offsets = np.frombuffer(folded.buffers()[1], dtype=np.int64)[folded.offset :].tolist()
        data = memoryview(folded.buffers()[2] or b"")
        for i in range(len(folded)):
            digest = hashlib.blake2b(data[offsets[i] : offsets[i + 1]], digest_size=DIGEST_BYTES)
            digests += digest.digest()
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), len(texts), [None, pa.py_buffer(bytes(digests))]
    )


def _fold(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    column = pl.Series(texts, dtype=pl.String).fill_null("").str.to_lowercase()
    folded = column.str.replace_all(r"\s+", " ").str.strip_chars(" ")
    return folded.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())

r"""Exact duplicates: equal text once case is lowered and white space is collapsed.

Lower case is taken character by character, in full (one may become two); final sigma, which only
its place sets apart, counts as sigma. White space is Unicode's `White_Space`.

>>> import pyarrow as pa
>>> texts = pa.array(["Good  day\n", "good day", "Good bye"], pa.large_string())
>>> hashes = normalised_hashes(texts)
>>> len(set(hashes.to_pylist()))
2
"""

import hashlib
import itertools
from typing import Any

import pyarrow as pa

from curate.kernels.scratch import borrowed_scratch, text_slices

__all__ = ["normalised_hashes"]

DIGEST_BYTES = 16


def normalised_hashes(texts: Any) -> pa.FixedSizeBinaryArray:
    """Return blake2b-128 of each text, lower-cased, runs of white space as one space, trimmed.

    A null text counts as the empty text; two empty texts are duplicates of each other. Raises
    InputError if `texts` is not an Arrow string array.
    """
    from curate.kernels import squeeze  # numba: half a second

    table, digests = squeeze.lower_table(), bytearray()
    with borrowed_scratch() as scratch:
        block = scratch.uint8("block", squeeze.BLOCK_BYTES)
        for part in text_slices(texts):
            bounds = scratch.int64("bounds", part.num_texts + 1)
            # Lower case grows a character from 2 bytes to 3 at most.
            out = scratch.uint8("squeezed", 2 * part.num_bytes)
            squeeze.squeeze_documents(part.data, part.starts, part.stops, table, block, out, bounds)
            data = out.data
            for start, stop in itertools.pairwise(bounds.tolist()):
                digests += hashlib.blake2b(data[start:stop], digest_size=DIGEST_BYTES).digest()
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), len(texts), [None, pa.py_buffer(bytes(digests))]
    )

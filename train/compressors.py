"""What general compressors make of the same bytes: zlib, xz and zstd at their strongest.

The documents of a source go through one stream, so a compressor learns from the documents before
(a model that scores documents alone does not), and need not tell where one ends. It starts with no
knowledge of the training text.
"""

import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

__all__ = ["COMPRESSORS", "GROUPS", "sizes"]


def _xz(data: bytes) -> bytes:
    """Compress as `xz -9e`, but with no larger a dictionary than there is text: it costs 11 x."""
    size = min(max(len(data), 1 << 12), 1 << 26)
    best = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}
    return lzma.compress(data, filters=[best])


COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "xz": _xz,
    "zstd": lambda data: pa.Codec("zstd", compression_level=19).compress(data, asbytes=True),
    "zlib": lambda data: zlib.compress(data, 9),
}
#: Documents fall into so many groups; leaving out one at a time gives the standard error.
GROUPS = 8


def sizes(
    texts: Sequence[Sequence[bytes]], *, threads: int = 2
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Compress each source's documents, whole and with every `GROUPS`-th one left out.

    Args:
        texts: of each source, its documents.
        threads: at work at once; compressors let others run meanwhile.

    Returns:
        compressor -> bytes [sources, 1 + GROUPS] int64: of all documents, then without those whose
        number modulo `GROUPS` is 0, 1, ...; 0 where a source has no document left.
    """

    def size(name: str, source: int, left_out: int) -> int:
        kept = [t for i, t in enumerate(texts[source]) if i % GROUPS != left_out]
        return len(COMPRESSORS[name](b"".join(kept))) if kept else 0

    jobs = [
        (name, source, left_out)
        for name in COMPRESSORS
        for source in range(len(texts))
        for left_out in range(-1, GROUPS)
    ]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda job: size(*job), jobs))
    shaped = np.array(found, dtype=np.int64).reshape(len(COMPRESSORS), len(texts), 1 + GROUPS)
    return dict(zip(COMPRESSORS, shaped, strict=True))

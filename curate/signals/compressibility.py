"""How far a text can be compressed: by zstd at level 1, which finds what repeats within it.

Text that repeats itself becomes small, and so does long text of any kind a little; keys, encoded
data and short texts do not. Lower is more repetitive. The bytes that zstd makes depend on its
version, so what another one measured is measured again.

>>> import pyarrow as pa
>>> texts = pa.array(["abc " * 1000, ""], pa.large_string())
>>> FAMILY.measure(texts)["compression_ratio"].to_pylist()  # doctest: +ELLIPSIS
[0.00..., None]
"""

from typing import Any

import numpy as np
import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table, nulls_of

__all__ = ["FAMILY"]

SIGNALS = {
    "compression_ratio": Signal(pa.float64(), "bytes after zstd level 1, per byte of the text"),
}


def _measure(texts: Any) -> Any:
    import zstandard

    # Neither a checksum nor the size is stored: of a short text they would be most.
    compressor = zstandard.ZstdCompressor(
        level=1, write_checksum=False, write_content_size=False, write_dict_id=False
    )
    data = memoryview(texts.buffers()[2] or b"")
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)
    bounds = offsets[texts.offset : texts.offset + len(texts) + 1].tolist()
    ratios = np.full(len(texts), np.nan)
    for row in range(len(texts)):
        size = bounds[row + 1] - bounds[row]
        if size:
            packed = compressor.compress(data[bounds[row] : bounds[row + 1]])
            ratios[row] = len(packed) / size
    return columns_table({"compression_ratio": ratios}, SIGNALS, nulls_of(texts))


FAMILY = Family(
    name="compressibility",
    signals=SIGNALS,
    measure=_measure,
    default=False,
    needs=("zstandard",),
)

r"""The counts behind the dialects of Dolma and DCLM: see `curate.kernels.shapes` for their names.

>>> import pyarrow as pa
>>> counts = shape_counts(pa.array(["to be\n\n- to be", None], pa.large_string()), lines=True)
>>> counts["stop_words"].tolist(), counts["lines"].tolist(), counts["null"].tolist()
([4, 0], [3, 1], [False, True])
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from curate.kernels.buffers import text_buffers
from curate.kernels.scratch import borrowed_scratch
from curate.signals.base import nulls_of

__all__ = ["shape_counts"]


def shape_counts(texts: Any, *, lines: bool = False, visible: bool = False) -> Mapping[str, Any]:
    """Return the counts of texts by name.

    Args:
        texts: pa.LargeStringArray [n], each text of fewer than 2^31 bytes.
        lines: count lines as they stand; else 0 under their names.
        visible: count lines that are not blank, and paragraphs; else 0 likewise.

    Returns:
        Int64 arrays [n] under the names of `curate.kernels.shapes.COLUMNS` and the bool array
        `null` [n]; a null text counts as an empty one.
    """
    from curate.kernels import ngrams, shapes  # numba: half a second

    data, offsets = text_buffers(texts)
    longest = int(np.diff(offsets).max(initial=0))
    assert longest < 1 << 31, f"a text of {longest} bytes"
    size = longest + 1
    out = np.empty((offsets.size - 1, len(shapes.COLUMNS)), dtype=np.int64)
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    with borrowed_scratch() as scratch:
        shapes.measure_shapes(
            data, np.require(offsets, np.int64, ["C", "W"]), shapes.character_classes(),
            lines, visible,
            scratch.uint64("keys", size), scratch.uint32("chars", size),
            scratch.uint32("groups", size), scratch.uint32("counts", size),
            scratch.uint32("lengths", size), scratch.uint64("table", ngrams.table_size(size)), out,
        )  # fmt: skip
    columns = np.ascontiguousarray(out.T)
    return dict(zip(shapes.COLUMNS, columns, strict=True)) | {"null": nulls_of(texts)}

r"""The counts behind the families document, gopher and repetition, from one pass over the bytes.

The three families are measured on the same slice of texts, one after the other. The first one has
it scanned (`curate.kernels.statistics`), the others find the counts of the very same Arrow array
and divide them as they need. They are kept for one array per thread, and no longer than it lives.

>>> import pyarrow as pa
>>> counts = text_counts(pa.array(["one two\n\n- three ...", None], pa.large_string()))
>>> counts["words"].tolist(), counts["bullet_lines"].tolist(), counts["null"].tolist()
([5, 0], [1, 0], [False, True])
"""

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels.buffers import text_buffers
from curate.kernels.scratch import borrowed_scratch
from curate.signals.base import nulls_of

__all__ = ["divided", "text_counts"]

I64 = npt.NDArray[np.int64]

# In the order of the columns that `curate.kernels.statistics` writes.
SIZES = (
    "bytes",
    "chars",
    "newlines",
    "open_lines",  # 1 where the text ends without a newline
    "words",
    "white_chars",
    "hashes",
    "ellipses",
    "alpha_words",
    "stop_words",
    "lines",  # those that are not blank, as in all that follows
    "bullet_lines",
    "ellipsis_lines",
    "lines_again",
    "line_chars",
    "line_chars_again",
    "paragraphs",
    "paragraphs_again",
    "paragraph_chars",
    "paragraph_chars_again",
)

GIANT_BYTES = 4 << 20

_THREAD = threading.local()


def text_counts(texts: Any) -> Mapping[str, Any]:
    """Return the counts of texts by name.

    Args:
        texts: pa.LargeStringArray [n], each text of fewer than 2^31 bytes.

    Returns:
        Int64 arrays [n] under the names of `SIZES`, `ngrams`
        (`curate.kernels.ngrams.NgramCounts`), and the bool array `null` [n]; a null text counts
        as an empty one. Nothing of it may be written to.
    """
    kept = getattr(_THREAD, "kept", None)
    if kept is not None and kept[0]() is texts:
        found: Mapping[str, Any] = kept[1]
        return found
    counts = _measured(texts)
    spare = _THREAD.__dict__

    def forget(dead: Any) -> None:
        if "kept" in spare and spare["kept"][0] is dead:
            del spare["kept"]

    spare["kept"] = weakref.ref(texts, forget), counts
    return counts


def divided(part: I64, whole: I64) -> npt.NDArray[np.float64]:
    """Return part / whole as float64 [n], NaN where there is nothing to divide by."""
    result: npt.NDArray[np.float64] = np.full(part.size, np.nan)
    return np.divide(part, whole, out=result, where=whole > 0)


def _measured(texts: Any) -> Mapping[str, Any]:
    from curate.kernels import ngrams, statistics  # numba: half a second

    data, offsets = text_buffers(texts)
    num_texts = offsets.size - 1
    sizes = np.empty((num_texts, len(SIZES)), dtype=np.int64)
    grams = np.empty((num_texts, ngrams.NUM_COLUMNS), dtype=np.int64)
    # The kernel reads whole vectors: the last texts get room for them behind, in a copy.
    last = int(np.searchsorted(offsets, data.size - statistics.SLACK, side="right")) - 1
    last = max(last, 0)
    cut = int(offsets[last])
    behind = np.zeros(data.size - cut + statistics.SLACK, dtype=np.uint8)
    behind[: data.size - cut] = data[cut:]
    _measure_documents(data, offsets[: last + 1], sizes[:last], grams[:last])
    _measure_documents(behind, offsets[last:] - cut, sizes[last:], grams[last:])
    counts: dict[str, Any] = dict(zip(SIZES, np.ascontiguousarray(sizes.T), strict=True))
    return counts | {"ngrams": ngrams.named_counts(grams), "null": nulls_of(texts)}


def _most_gaps(data: Any, longest: int) -> int:
    """Return how much white space a text may hold: for a giant one few words, so little memory."""
    if longest < GIANT_BYTES:
        return longest
    white = np.zeros(256, dtype=bool)
    white[: ord(" ") + 1] = True
    white[[0xC2, 0xE1, 0xE2, 0xE3]] = True  # the first bytes of what is white beyond ASCII
    step = 1 << 20
    return sum(
        int(np.count_nonzero(white[data[at : at + step]])) for at in range(0, data.size, step)
    )


def _measure_documents(data: Any, offsets: I64, sizes: I64, grams: I64) -> None:
    from curate.kernels import ngrams, statistics
    from curate.kernels.classes import class_table

    if offsets.size < 2:
        return
    longest = int(np.diff(offsets).max())
    assert longest < 1 << 31, f"a text of {longest} bytes"
    most_words = min(longest // 2, _most_gaps(data, longest)) + 2
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    with borrowed_scratch() as scratch:
        statistics.measure_documents(
            data, np.require(offsets, np.int64, ["C", "W"]), class_table(),
            scratch.uint32("edges", longest + 65), scratch.uint32("lines", most_words),
            scratch.uint32("paragraphs", most_words), scratch.int64("sums", most_words),
            scratch.uint64("words", most_words), scratch.uint64("keys", most_words),
            scratch.uint32("groups", most_words), scratch.uint32("counts", most_words),
            scratch.uint32("picked", most_words),
            scratch.uint64("table", ngrams.table_size(most_words)), sizes, grams,
        )  # fmt: skip

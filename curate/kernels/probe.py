"""Every pair of a probed and an indexed set that is similar enough, found exactly.

For Jaccard the caller (`curate.dedup.measured.SampleIndex`) has indexed the *prefix* of each of its
sets: two sets that share at least `a` values share one among the `size - a + 1` smallest of either
(Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins in Data Cleaning, ICDE 2006).
What shares a value there is compared value by value until too many differ. Containment has no such
prefix, so all values are indexed and what two sets share is counted. A bitmap that fits a core's
cache says "not indexed" of nearly all values of strangers.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["SLACK", "count_shared", "probe_prefixes"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

SLACK = 1e-6  # a float product may lie above its integer: rather one value too many
_ONE, _SHIFT, _LOW = np.uint64(1), np.uint64(6), np.uint64(63)


@compiled
def probe_prefixes(
    values: U64, offsets: I64, keys: U64, begin: int, sets: U64, bounds: I64, limits: U64,
    bits: U64, indexed: U64, starts: I64, members: I32, threshold: float,
    seen: I64, probed: I64, matched: I64, shared: I64,
) -> tuple[int, int]:  # fmt: skip
    """Write the pairs of documents `begin`, `begin + 1`, ... until the output is full.

    Args:
        values, offsets: the probed documents' sorted sets, offsets [n + 1].
        keys: [n]; document i is not compared with set s when keys[i] > limits[s].
        begin: the first document.
        sets, bounds: the indexed sets, sorted, bounds [m + 1].
        limits: [m].
        bits: a power of two of them; bit `value mod 64 len(bits)` of an indexed value is 1.
        indexed, starts, members: sorted [k], [k + 1]; the sets that have value j in their prefix
            are members[starts[j] : starts[j + 1]].
        threshold: a pair has shared / union >= threshold.
        seen: [m], scratch: -1 before the first call.
        probed, matched, shared: [at least m], filled.

    Returns:
        The document to go on with (n: all are done), and how many pairs were written.
    """
    num_docs, count = offsets.size - 1, 0
    for doc in range(begin, num_docs):
        if count + bounds.size - 1 > probed.size:
            return doc, count
        first, last = offsets[doc], offsets[doc + 1]
        size = last - first
        reach = min(last, last - math.ceil(threshold * size - SLACK) + 1)
        for k in range(first, reach):
            at = _find(bits, indexed, values[k])
            if at < 0:
                continue
            for j in range(starts[at], starts[at + 1]):
                one = members[j]
                if seen[one] == doc or keys[doc] > limits[one]:
                    continue
                seen[one] = doc
                low, high = bounds[one], bounds[one + 1]
                both = _overlap(values, first, last, sets, low, high, threshold)
                if both > 0 and both / (size + high - low - both) >= threshold:
                    probed[count], matched[count], shared[count] = doc, one, both
                    count += 1
    return num_docs, count


@compiled
def count_shared(
    values: U64, offsets: I64, keys: U64, begin: int, bounds: I64, limits: U64,
    bits: U64, indexed: U64, starts: I64, members: I32, threshold: float,
    counts: I64, probed: I64, matched: I64, shared: I64,
) -> tuple[int, int]:  # fmt: skip
    """Do `probe_prefixes` for shared / the smaller set; all values of the sets are indexed.

    `counts` [m] is scratch: zeros before the first call.
    """
    num_docs, count = offsets.size - 1, 0
    touched = np.empty(counts.size, dtype=np.int64)
    for doc in range(begin, num_docs):
        if count + bounds.size - 1 > probed.size:
            return doc, count
        num_touched = 0
        for k in range(offsets[doc], offsets[doc + 1]):
            at = _find(bits, indexed, values[k])
            if at < 0:
                continue
            for j in range(starts[at], starts[at + 1]):
                one = members[j]
                if counts[one] == 0:
                    touched[num_touched] = one
                    num_touched += 1
                counts[one] += 1
        size = offsets[doc + 1] - offsets[doc]
        for k in range(num_touched):
            one = touched[k]
            both = counts[one]
            counts[one] = 0
            if both / min(size, bounds[one + 1] - bounds[one]) < threshold:
                continue
            if keys[doc] <= limits[one]:
                probed[count], matched[count], shared[count] = doc, one, both
                count += 1
    return num_docs, count


@part_of_kernels
def _find(bits: U64, indexed: U64, value: Any) -> int:
    """Return where a value stands in sorted unique values, or -1."""
    place = value & np.uint64(bits.size * 64 - 1)
    if not (bits[place >> _SHIFT] >> (place & _LOW)) & _ONE:
        return -1
    low, high = 0, indexed.size
    while low < high:
        middle = (low + high) >> 1
        if indexed[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < indexed.size and indexed[low] == value else -1


@part_of_kernels
def _overlap(
    left: U64, i: int, i_end: int, right: U64, j: int, j_end: int, threshold: float
) -> int:
    """Return how many values two sorted sets share, or -1 as soon as they cannot be enough."""
    size, other = i_end - i, j_end - j
    needed = math.ceil(threshold / (1.0 + threshold) * (size + other) - SLACK)
    spare_left, spare_right = size - needed, other - needed
    both = 0
    while i < i_end and j < j_end and spare_left >= 0 and spare_right >= 0:
        if left[i] == right[j]:
            both += 1
            i += 1
            j += 1
        elif left[i] < right[j]:
            i += 1
            spare_left -= 1
        else:
            j += 1
            spare_right -= 1
    return both if both >= needed else -1

"""Columns of texts cut into slices that fit a core's caches, and the scratch memory of kernels."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.fold import ascii_table, fold_table

__all__ = ["Scratch", "TextSlice", "borrowed_scratch", "text_slices"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SLICE_BYTES = 1 << 20
SLICE_TEXTS = 4096
KEPT_BYTES = 32 << 20
SLACK = 64  # that of the kernels, which read and write whole vectors


_THREAD = threading.local()


@dataclass(frozen=True, kw_only=True)
class TextSlice:
    """Consecutive texts `data[starts[i] : stops[i]]` of a column.

    Attributes:
        first: number of the first text in its column.
        data: UTF-8 bytes, those of other texts among them.
        starts: int64 [num_texts].
        stops: int64 [num_texts]; a null text is empty.
        is_capped: bool [num_texts], whether a text was cut short.
        num_bytes: bytes of all texts.
        longest: bytes of the longest text.
        is_ascii: whether all their bytes are ASCII.
    """

    first: int
    data: U8
    starts: I64
    stops: I64
    is_capped: Bools
    num_bytes: int
    longest: int
    is_ascii: bool

    @property
    def num_texts(self) -> int:
        """Number of texts."""
        return int(self.starts.size)

    @property
    def table(self) -> U64:
        """`curate.kernels.fold`'s entries for all characters in here; making them takes time."""
        return ascii_table() if self.is_ascii else fold_table()

    @property
    def longest_folded(self) -> int:
        """Upper bound of the bytes of any folded text: a syllable of Hangul grows from 3 to 9."""
        return self.longest * (1 if self.is_ascii else 3)


class Scratch:
    """Arrays by name that grow and are used again; each has room for a vector behind its size."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, Any], Any] = {}

    def uint8(self, name: str, size: int) -> U8:
        """Return an array of at least this size, of unknown content."""
        array: U8 = self._array(name, size, np.uint8)
        return array

    def uint32(self, name: str, size: int) -> U32:
        """Return an array of at least this size, of unknown content."""
        array: U32 = self._array(name, size, np.uint32)
        return array

    def uint64(self, name: str, size: int) -> U64:
        """Return an array of at least this size, of unknown content."""
        array: U64 = self._array(name, size, np.uint64)
        return array

    def int64(self, name: str, size: int) -> I64:
        """Return an array of exactly this size, of unknown content."""
        array: I64 = self._array(name, size, np.int64)
        return array[:size]

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(int(array.nbytes) for array in self._arrays.values())

    def _array(self, name: str, size: int, dtype: Any) -> Any:
        array = self._arrays.get((name, dtype))  # two kernels may mean different things by a name
        if array is None or array.size < size + SLACK:
            array = self._arrays[name, dtype] = np.empty(size + size // 4 + SLACK, dtype=dtype)
        return array


@contextlib.contextmanager
def borrowed_scratch() -> Iterator[Scratch]:
    """Lend scratch of earlier calls in this thread to nobody else until it is given back.

    New memory is not free: the system clears every page of it. A giant text's is not kept.
    """
    spare: list[Scratch] = _THREAD.__dict__.setdefault("spare", [])
    scratch = spare.pop() if spare else Scratch()
    try:
        yield scratch
    finally:
        if scratch.num_bytes <= KEPT_BYTES and len(spare) < 4:
            spare.append(scratch)


def text_slices(texts: Any, max_bytes: int = 0) -> Iterator[TextSlice]:
    """Yield the texts of an Arrow string array (or chunked array) in slices, without a copy.

    Args:
        texts: string or large_string; string_view is cast.
        max_bytes: cut longer texts at the last character that ends within; 0 for no cap.

    Raises:
        InputError: it is not a string array.
    """
    first = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        data, starts, stops = _spans(chunk)
        is_capped = np.zeros(starts.size, dtype=bool)
        if max_bytes:
            stops, is_capped = _cut(data, starts, stops, max_bytes)
        sizes = stops - starts
        total = np.cumsum(sizes)
        begin = 0
        while begin < starts.size:
            limit = (total[begin - 1] if begin else 0) + SLICE_BYTES
            end = int(np.searchsorted(total, limit, side="right"))
            end = min(max(begin + 1, end), begin + SLICE_TEXTS)
            yield TextSlice(
                first=first + begin,
                data=data,
                starts=starts[begin:end],
                stops=stops[begin:end],
                is_capped=is_capped[begin:end],
                num_bytes=int(sizes[begin:end].sum()),
                longest=int(sizes[begin:end].max()),
                is_ascii=bool(data[starts[begin] : stops[end - 1]].max(initial=0) < 0x80),
            )
            begin = end
        first += starts.size


def _spans(texts: Any) -> tuple[U8, I64, I64]:
    """Return the bytes behind an array, and where each text starts and stops in them."""
    if pa.types.is_string_view(texts.type):
        texts = texts.cast(pa.large_string())
    if not (pa.types.is_large_string(texts.type) or pa.types.is_string(texts.type)):
        raise InputError(
            f"texts must be an Arrow array of large_string, got {texts.type}; "
            "cast the column with `.cast(pyarrow.large_string())`"
        )
    if len(texts) == 0:
        return np.empty(0, dtype=np.uint8), np.empty(0, np.int64), np.empty(0, np.int64)
    _, offset_buffer, data_buffer = texts.buffers()
    dtype: Any = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(offset_buffer, dtype=dtype, count=texts.offset + len(texts) + 1)
    offsets = offsets[texts.offset :].astype(np.int64)
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)
    data.flags.writeable = False  # one type of array, one compiled kernel
    starts, stops = offsets[:-1], offsets[1:]
    if texts.null_count:
        is_null = texts.is_null().to_numpy(zero_copy_only=False)
        stops = np.where(is_null, starts, stops)  # a null may stand over any bytes
    return data, starts, stops


def _cut(data: U8, starts: I64, stops: I64, max_bytes: int) -> tuple[I64, Bools]:
    """Cut long texts before the character that crosses the cap."""
    is_capped = stops - starts > max_bytes
    stops = np.where(is_capped, starts + max_bytes, stops)
    for _ in range(3):  # UTF-8 has at most three bytes after the first
        inside = np.flatnonzero(is_capped)
        inside = inside[(data[stops[inside]] & 0xC0) == 0x80]
        stops[inside] -= 1
    return np.maximum(stops, starts), is_capped

"""What every token format is given: documents end to end, each closed by its end token.

>>> import pyarrow as pa
>>> documents = Documents(
...     doc_ids=pa.array([b"a" * 16, b"b" * 16], pa.binary(16)),
...     sources=pa.array(["x", "y"]),
...     values=np.array([1, 7, 8, 2, 1, 9], dtype=np.uint16),
...     offsets=np.array([0, 4, 6]),
... )
>>> framed(documents, bos=1, eos=2, keep_bos=False).values.tolist()
[7, 8, 2, 9, 2]
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "Documents",
    "TokenFormat",
    "TokenWriter",
    "Told",
    "columns_of",
    "framed",
    "pieces",
]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A few documents, in order.

    Attributes:
        doc_ids: `binary(16)` array [n].
        sources: string array [n].
        values: uint16 or uint32 [total], their tokens end to end.
        offsets: int64 [n + 1], from 0.
    """

    doc_ids: Any
    sources: Any
    values: Any
    offsets: I64

    @property
    def lengths(self) -> I64:
        """Tokens of each document, int64 [n]."""
        return np.diff(self.offsets)

    def part(self, start: int, stop: int) -> "Documents":
        """Return the documents `start` to `stop`, over the same tokens."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return Documents(
            doc_ids=self.doc_ids.slice(start, stop - start),
            sources=self.sources.slice(start, stop - start),
            values=self.values[first:last],
            offsets=self.offsets[start : stop + 1] - first,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the names in a format's files need to know.

    Attributes:
        dtype: of the tokens, uint16 or uint32.
        tokenizer: a name for the tokenizer's file.
    """

    dtype: np.dtype[Any]
    tokenizer: str = "tokenizer.json"


class TokenWriter(Protocol):
    """Writes one split into a folder that is its own."""

    def write(self, documents: Documents) -> None:
        """Append documents, each at least one token long."""

    def close(self) -> list[str]:
        """Finish; return the names of the files, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFormat:
    """A format; a module of this package publishes one as `FORMAT`.

    Attributes:
        name: as on the command line; the module's name.
        description: one sentence for people.
        open: (a new folder, facts) -> the writer of one split.
        reads: how its consumer opens a split, one line for people; `{folder}` is the split's.
    """

    name: str
    description: str
    open: Callable[[Path, Told], TokenWriter]
    reads: str


def framed(documents: Documents, *, bos: int, eos: int, keep_bos: bool) -> Documents:
    """Return documents that each end in `eos`, and begin with `bos` only if that is wanted.

    The formats know an end of a document and no beginning; a tokenizer whose bos is its eos would
    otherwise end every document twice.
    """
    starts, stops = documents.offsets[:-1], documents.offsets[1:]
    assert bool((stops > starts).all()), "a document has a token"
    values, lengths = documents.values, documents.lengths
    if not keep_bos:
        first = (values[starts] == bos) & (lengths > 1)
        mask = np.ones(len(values), dtype=np.bool_)
        mask[starts[first]] = False
        values, lengths = values[mask], lengths - first
    ends = np.cumsum(lengths)
    missing = values[ends - 1] != eos
    values = np.insert(values, ends[missing], eos)
    return Documents(
        doc_ids=documents.doc_ids,
        sources=documents.sources,
        values=values,
        offsets=np.concatenate([[0], np.cumsum(lengths + missing)]).astype(np.int64),
    )


def pieces(documents: Documents, room: int, size: int) -> Iterator[tuple[Documents, bool]]:
    """Cut documents into runs that fit files of `size` tokens, the first with `room` left.

    Yields:
        (documents, whether their file is full then). A document longer than a file has its own.
    """
    start, total = 0, len(documents.doc_ids)
    while start < total:
        limit = int(documents.offsets[start]) + room
        stop = int(np.searchsorted(documents.offsets, limit, side="right")) - 1
        if stop <= start and room == size:
            stop = start + 1
        stop = max(start, min(stop, total))
        full = stop < total or int(documents.offsets[stop]) >= limit
        yield documents.part(start, stop), full
        start, room = stop, size


def columns_of(documents: Documents) -> Mapping[str, Any]:
    """Return what a side table tells of each document: its id in hex, source and tokens."""
    return {
        "doc_id": [one.hex() for one in documents.doc_ids.to_pylist()],
        "source": documents.sources,
        "tokens": documents.lengths,
    }

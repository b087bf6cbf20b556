r"""Megatron's `.bin` and `.idx`: all tokens in one file, and an index of where documents end.

Layout (NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py, version 1), little-endian:
`MMIDIDX\0\0`, uint64 version 1, uint8 code of the type (8 uint16, 4 int32), uint64 sequences n,
uint64 n + 1; then int32 [n] lengths, int64 [n] byte offsets, int64 [n + 1] the first sequence of
each document and the end. A document is one sequence here. Ids of 32 bits are stored signed, as
Megatron knows no uint32.
"""

from pathlib import Path

import numpy as np

from curate.tokens.exporters.base import I64, Documents, TokenFormat, Told

__all__ = ["FORMAT", "MegatronWriter", "index_bytes"]

_MAGIC = b"MMIDIDX\x00\x00"
_CODES = {"uint16": 8, "int32": 4}
_MAX = np.iinfo(np.int32).max


def index_bytes(lengths: I64, dtype: np.dtype[np.generic]) -> bytes:
    """Return the index of documents of these lengths.

    >>> index_bytes(np.array([3, 1]), np.dtype(np.uint16))[9:18].hex()
    '010000000000000008'
    """
    assert not len(lengths) or int(lengths.max()) <= _MAX, "a length is an int32"
    head = np.array([len(lengths), len(lengths) + 1], dtype="<u8").tobytes()
    offsets = (np.cumsum(lengths) - lengths) * dtype.itemsize
    return b"".join(
        [
            _MAGIC,
            np.array([1], dtype="<u8").tobytes(),
            bytes([_CODES[dtype.name]]),
            head,
            lengths.astype("<i4").tobytes(),
            offsets.astype("<i8").tobytes(),
            np.arange(len(lengths) + 1, dtype="<i8").tobytes(),
        ]
    )


class MegatronWriter:
    """Writes `tokens.bin` and `tokens.idx`."""

    def __init__(self, folder: Path, told: Told) -> None:
        self._folder = folder
        self._dtype = np.dtype(np.uint16 if told.dtype == np.uint16 else np.int32)
        self._stream = (folder / "tokens.bin").open("wb")
        self._lengths: list[I64] = []

    def write(self, documents: Documents) -> None:
        """Append documents."""
        assert not len(documents.values) or int(documents.values.max()) <= _MAX, "ids are int32"
        data = documents.values.astype(self._dtype.newbyteorder("<"), copy=False)
        np.ascontiguousarray(data).tofile(self._stream)
        self._lengths.append(documents.lengths)

    def close(self) -> list[str]:
        """Write the index."""
        self._stream.close()
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, dtype=np.int64)
        (self._folder / "tokens.idx").write_bytes(index_bytes(lengths, self._dtype))
        return ["tokens.bin", "tokens.idx"]


FORMAT = TokenFormat(
    name="megatron",
    description="Megatron-LM: tokens.bin and tokens.idx for each split",
    open=MegatronWriter,
    reads="--data-path {folder}/tokens (without a suffix)",
)

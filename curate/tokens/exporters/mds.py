"""MosaicML's MDS: shards of samples with offsets in front, and `index.json`.

Layout (mosaicml/streaming, base/format/mds, version 2), little-endian: a shard is uint32 n,
uint32 [n + 1] byte offsets, the columns as JSON, the samples. A sample is uint32 sizes of its
columns, then their values, columns by name: `id` and `source` as UTF-8, `tokens` as an array of
one axis (a byte `ndim << 2 | width of the shape`, its length, the ids).
"""

import json
import struct
from pathlib import Path
from typing import Any

from curate.tokens.exporters.base import Documents, TokenFormat, Told, columns_of

__all__ = ["FORMAT", "MdsWriter"]

_SHARD_BYTES = 1 << 26
_MAX_SHARD = (1 << 32) - 1
_WIDTHS = ((1 << 8, "<B"), (1 << 16, "<H"), (1 << 32, "<I"))


def _shape(length: int) -> bytes:
    r"""Return the head of an array of one axis.

    >>> _shape(5), _shape(300)
    (b'\x04\x05', b'\x05,\x01')
    """
    code = next(k for k, (limit, _) in enumerate(_WIDTHS) if length < limit)
    return bytes([1 << 2 | code]) + struct.pack(_WIDTHS[code][1], length)


class MdsWriter:
    """Writes `shard.00000.mds` ... and `index.json`."""

    def __init__(self, folder: Path, told: Told) -> None:
        self._folder = folder
        self._config: dict[str, Any] = {
            "version": 2,
            "format": "mds",
            "compression": None,
            "hashes": [],
            "size_limit": _SHARD_BYTES,
            "column_names": ["id", "source", "tokens"],
            "column_encodings": ["str", "str", f"ndarray:{told.dtype.name}"],
            "column_sizes": [None, None, None],
        }
        self._head = json.dumps(self._config, sort_keys=True).encode()
        self._samples: list[bytes] = []
        self._size = self._empty = 4 + 4 + len(self._head)
        self._shards: list[dict[str, Any]] = []

    def write(self, documents: Documents) -> None:
        """Append documents, one sample each."""
        told = columns_of(documents)
        values = documents.values.astype(documents.values.dtype.newbyteorder("<"), copy=False)
        bounds = documents.offsets.tolist()
        names = zip(told["doc_id"], told["source"].to_pylist(), strict=True)
        for row, (doc_id, source) in enumerate(names):
            ids = values[bounds[row] : bounds[row + 1]]
            columns = [doc_id.encode(), source.encode(), _shape(len(ids)) + ids.tobytes()]
            sample = struct.pack("<3I", *map(len, columns)) + b"".join(columns)
            if self._size + len(sample) + 4 > _SHARD_BYTES:
                self._flush()
            self._samples.append(sample)
            self._size += len(sample) + 4

    def _flush(self) -> None:
        if not self._samples:
            return
        assert self._size <= _MAX_SHARD, "offsets are uint32"
        offsets = [4 + 4 * (len(self._samples) + 1) + len(self._head)]
        for sample in self._samples:
            offsets.append(offsets[-1] + len(sample))
        name = f"shard.{len(self._shards):05d}.mds"
        with (self._folder / name).open("wb") as stream:
            stream.write(struct.pack(f"<{len(offsets) + 1}I", len(self._samples), *offsets))
            stream.write(self._head)
            stream.writelines(self._samples)
        self._shards.append(
            {
                **self._config,
                "samples": len(self._samples),
                "raw_data": {"basename": name, "bytes": offsets[-1], "hashes": {}},
                "zip_data": None,
            }
        )
        self._samples, self._size = [], self._empty

    def close(self) -> list[str]:
        """Finish the last shard and write the index."""
        self._flush()
        index = json.dumps({"version": 2, "shards": self._shards}, sort_keys=True)
        (self._folder / "index.json").write_text(index, encoding="utf-8")
        return ["index.json", *(shard["raw_data"]["basename"] for shard in self._shards)]


FORMAT = TokenFormat(
    name="mds",
    description="MosaicML Streaming: shard.*.mds and index.json for each split",
    open=MdsWriter,
    reads="StreamingDataset(local='{folder}')",
)

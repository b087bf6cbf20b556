"""From what readers give to rows of `documents`: identities, hashes, and media that can be decoded.

An image or a sound is known by the hash of its bytes, and with its caption by the hash of both; so
a caption that changes makes another revision, and no caption makes two images equal.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.identity import ID_BYTES, content_hash, media_text_hash
from curate.corpus.schema import MEDIA_DOCUMENTS, SCHEMAS
from curate.kernels.buffers import text_buffers
from curate.readers.base import Batch, Slice, rejected
from curate.readers.columns import Problem, as_json

__all__ = ["decoded", "documents_of"]


def decoded(batch: Batch, kind: str) -> Batch:
    """Return a batch of MEDIA without what cannot be decoded; the headers' facts join the meta.

    A name that the source uses itself keeps its value as `source_NAME`.
    """
    from curate.media.decode import check

    records = batch.records
    rejects, kept, told = list(batch.rejects), [], []
    columns = (records.column(name) for name in ("position", "meta", "media"))
    for row, (position, meta, media) in enumerate(zip(*columns, strict=True)):
        facts = check(media.as_py(), kind)
        if isinstance(facts, Problem):
            rejects.append(rejected(position.as_py(), facts.reason, facts.detail))
            continue
        own = orjson.loads(meta.as_py() or b"{}")
        own = {f"source_{name}" if name in facts else name: own[name] for name in own}
        kept.append(row)
        told.append(as_json(own | facts))
    place = records.schema.get_field_index("meta")
    chosen = records.take(pa.array(kept, pa.int64()))
    chosen = chosen.set_column(place, records.schema.field(place), pa.array(told, pa.string()))
    return Batch(chosen, rejects)


def documents_of(source: Mapping[str, Any], piece: Slice, records: Any) -> Any:
    """Turn reader records into rows of `documents` (occurrence 0 everywhere)."""
    rows = records.num_rows
    name = source["name"]
    hashes = [content_hash(text) for text in _utf8(records.column("text"))]
    media: dict[str, Any] = {}
    if "media" in records.schema.names:
        data = list(_utf8(records.column("media")))
        own = [content_hash(one) for one in data]
        hashes = list(map(media_text_hash, own, _utf8(records.column("text"))))
        media = {
            "media": records.column("media"),
            "media_hash": pa.array(own, pa.binary(16)),
            "media_bytes": pa.array([len(one) for one in data], pa.int64()),
        }
    licenses = records.column("license")
    if source["license"] is not None:
        licenses = pc.fill_null(licenses, source["license"])
    hash_column = pa.array(hashes, pa.binary(16))
    columns = {
        "doc_id": _ids(name, records.column("key"), hash_column),
        "source": pa.array([name] * rows, pa.string()),
        "key": records.column("key"),
        "text": records.column("text"),
        "url": records.column("url"),
        "license": licenses,
        "timestamp": records.column("timestamp"),
        "path": pa.array([piece.file.path] * rows, pa.string()),
        "position": records.column("position"),
        "meta": records.column("meta"),
        "raw_hash": hash_column,
        "text_hash": hash_column,
        **media,
    }
    return pa.table(columns, schema=MEDIA_DOCUMENTS if media else SCHEMAS["documents"])


def _ids(source: str, keys: Any, hashes: Any) -> Any:
    """Return `document_id(source, key=identity_key(key, hash))` of every record, binary(16) [n]."""
    from curate.kernels.blake2 import blake2b_many  # numba: half a second

    own = keys.is_valid()
    known = pa.concat_arrays(
        [_joined(b"k", keys.filter(own)), _joined(b"c", hashes.filter(pc.invert(own)))]
    )
    sizes = pc.binary_length(known).to_numpy().astype("<i8")
    lengths = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(8), len(sizes), [None, pa.py_buffer(sizes)]
    )
    data, offsets = text_buffers(_joined(b"", lengths, known))
    head = len(name := source.encode()).to_bytes(8, "little") + name
    found = np.empty((len(sizes), ID_BYTES), dtype=np.uint8)
    head_bytes, no_key = (np.frombuffer(part, dtype=np.uint8) for part in (head, b""))
    blake2b_many(data, offsets, head_bytes, no_key, found)
    has_key = own.to_numpy(zero_copy_only=False)
    ids = np.empty_like(found)
    ids[np.concatenate([np.flatnonzero(has_key), np.flatnonzero(~has_key)])] = found
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(ID_BYTES), len(ids), [None, pa.py_buffer(ids)]
    )


def _joined(head: bytes, *columns: Any) -> Any:
    """Return `head` + the columns' bytes, row by row, large_binary [n]."""
    whole = [column.cast(pa.large_binary()) for column in columns]
    ends = [pa.scalar(part, pa.large_binary()) for part in (head, b"")]
    return pc.binary_join_element_wise(ends[0], *whole, ends[1])


def _utf8(texts: Any) -> Iterator[memoryview]:
    """Yield the bytes of each text, or binary value, without making Python strings."""
    buffers = texts.buffers()
    offsets = np.frombuffer(buffers[1], dtype=np.int64, count=texts.offset + len(texts) + 1)[
        texts.offset :
    ]
    data = memoryview(buffers[2] if buffers[2] is not None else b"")
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield data[start:stop]

"""Who a document is: 128-bit hashes over length-prefixed fields, and sums of them as evidence.

A document is known by its source's name and its own key, or by its content where it has no key;
never by position, file or time. A multiset hash (a sum modulo 2**128) says whether two tables hold
the same documents, in any order and any number of files.

>>> document_id("books", key=b"b-1").hex() == document_id("books", key=b"b-1").hex()
True
>>> document_id("ab", key=b"c") == document_id("a", key=b"bc")
False
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = [
    "ID_BYTES",
    "MultisetHash",
    "canonical_json",
    "content_hash",
    "document_id",
    "fingerprint",
    "hex_id",
    "ids_to_numpy",
    "media_text_hash",
    "parse_id",
]

ID_BYTES = 16


def fingerprint(*fields: bytes | str) -> str:
    """Return 32 hex digits of blake2b-128 over the fields, each prefixed by its length."""
    return _hash(fields).hex()


def content_hash(data: bytes | memoryview) -> bytes:
    """Return the 16-byte blake2b hash of some content."""
    return hashlib.blake2b(data, digest_size=ID_BYTES).digest()


def media_text_hash(media_hash: bytes, caption: bytes | memoryview) -> bytes:
    """Return the hash of an image or a sound with its caption: that of both, in this order.

    Without a caption it is the hash of the media: two images are never the same for having none.

    >>> media_text_hash(b"m" * 16, b"") == b"m" * 16
    True
    """
    return content_hash(b"".join([media_hash, caption])) if len(caption) else media_hash


def document_id(source: str, *, key: bytes, occurrence: int = 0) -> bytes:
    """Return the 16-byte identity of a document.

    Args:
        source: the source's name in the recipe.
        key: `b"k" + the record's own key`, or `b"c" + content_hash(text)` where it has none.
        occurrence: 0, 1, 2 ... among records of the source with the same key and the same content.
    """
    fields: list[bytes | str] = [source, key]
    if occurrence:
        fields.append(str(occurrence))
    return _hash(fields)


def _hash(fields: Iterable[bytes | str]) -> bytes:
    state = hashlib.blake2b(digest_size=ID_BYTES)
    for field in fields:
        data = field.encode() if isinstance(field, str) else field
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.digest()


def canonical_json(data: Any) -> bytes:
    """Return the one JSON form of some data: sorted keys, no spaces, ASCII, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def hex_id(doc_id: bytes) -> str:
    """Return the 32 hex digits people see."""
    return doc_id.hex()


def parse_id(text: str) -> bytes:
    """Turn 32 hex digits into an id.

    Raises:
        ValueError: when the text is not 32 hexadecimal digits.
    """
    try:
        doc_id = bytes.fromhex(text.strip())
    except ValueError:
        doc_id = b""
    if len(doc_id) != ID_BYTES:
        raise ValueError(f"a document id has 32 hexadecimal digits, got {text!r}")
    return doc_id


def ids_to_numpy(ids: Any) -> np.ndarray:
    """View a `binary(16)` Arrow array without nulls as uint64 [num_docs, 2], little-endian."""
    if isinstance(ids, pa.ChunkedArray):
        chunks = [ids_to_numpy(chunk) for chunk in ids.chunks]
        return np.concatenate(chunks) if chunks else np.empty((0, 2), dtype=np.uint64)
    data = np.frombuffer(ids.buffers()[1] or b"", dtype="<u8")
    return data[2 * ids.offset : 2 * (ids.offset + len(ids))].reshape(-1, 2)


class MultisetHash:
    """The sum of 128-bit ids modulo 2**128: equal for equal multisets in any order.

    >>> a, b = MultisetHash(), MultisetHash()
    >>> a.add(pa.array([b"x" * 16, b"y" * 16], pa.binary(16)))
    >>> b.add(pa.array([b"y" * 16], pa.binary(16))); b.add(pa.array([b"x" * 16], pa.binary(16)))
    >>> a.hexdigest() == b.hexdigest()
    True
    """

    _MODULUS = 1 << 128

    def __init__(self, hexdigest: str = "") -> None:
        self._sum = int(hexdigest, 16) if hexdigest else 0

    def add(self, ids: Any) -> None:
        """Add the ids of a `binary(16)` array."""
        words = np.ascontiguousarray(ids_to_numpy(ids)).view(np.uint32).reshape(-1, 4)
        for lane in range(4):  # 32-bit lanes summed in 64 bits cannot overflow below 2**32 rows
            total = int(words[:, lane].sum(dtype=np.uint64))
            self._sum = (self._sum + (total << (32 * lane))) % self._MODULUS

    def merge(self, hexdigest: str) -> None:
        """Add the digest of another multiset."""
        self._sum = (self._sum + int(hexdigest, 16)) % self._MODULUS

    def hexdigest(self) -> str:
        """Return 32 hex digits; all zeros for the empty multiset."""
        return f"{self._sum:032x}"

"""The few texts a report shows: asked for while the sections are counted, fetched in one go.

At most `MAX_DOCUMENTS` documents, each clipped. Of every shard only the ids are read, and the text
of those row groups that hold a wanted document.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.shard import is_media, iter_chosen
from pipelines.corpus import Corpus
from pipelines.report.text import clip, visible
from pipelines.report.thumbnails import shown

__all__ = ["MAX_DOCUMENTS", "MAX_TEXT_BYTES", "Snippets"]

MAX_DOCUMENTS = 200
MAX_TEXT_BYTES = 2000
_AROUND_BYTES = 120  # text before and after a span
_COLUMNS = ["doc_id", "text", "path", "position", "license"]


class Snippets:
    """Requests for pieces of text, and their answer."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._wanted: dict[bytes, list[tuple[dict[str, Any], int, int, int]]] = defaultdict(list)

    def beginning(self, doc_id: bytes, max_bytes: int) -> dict[str, Any] | None:
        """Ask for a document's beginning; None when the report is full."""
        return self._ask(doc_id, 0, 0, max_bytes)

    def span(self, doc_id: bytes, start: int, length: int, max_bytes: int) -> dict[str, Any] | None:
        """Ask for a span (UTF-8 bytes) with a little text around it; None when full."""
        return self._ask(doc_id, start, length, max_bytes)

    def _ask(self, doc_id: bytes, start: int, length: int, limit: int) -> dict[str, Any] | None:
        assert limit <= MAX_TEXT_BYTES, "no sample is longer than that"
        if doc_id not in self._wanted and len(self._wanted) >= MAX_DOCUMENTS:
            return None
        slot: dict[str, Any] = {"doc_id": doc_id.hex(), "path": "", "text": ""}
        self._wanted[doc_id].append((slot, start, length, limit))
        return slot

    def fill(self) -> None:
        """Fetch every text that was asked for into its slot."""
        if not self._wanted:
            return
        wanted = pa.array(sorted(self._wanted), pa.binary(16))
        storage = self._corpus.store.storage

        def among(ids: Any) -> np.ndarray:
            found: np.ndarray = pc.is_in(ids, value_set=wanted).to_numpy()
            return found

        gone = self._corpus.forgotten()
        for shard in self._corpus.shards("documents"):
            columns = [*_COLUMNS, "media"] if is_media(storage, shard) else _COLUMNS
            for table in iter_chosen(storage, shard, columns, among):
                for row in table.to_pylist():  # at most 200 in all
                    hidden = {"text": "", "media": b""} if row["doc_id"] in gone else {}
                    self._answer(row | hidden)

    def _answer(self, row: dict[str, Any]) -> None:
        data: bytes | None = None
        media = shown(row["media"]) if row.get("media") else None
        for slot, start, length, limit in self._wanted[row["doc_id"]]:
            slot["path"] = visible(f"{row['path'][-300:]}:{row['position']}")
            slot["license"] = visible(row["license"][:100]) if row["license"] else None
            if media is not None:
                slot["media"] = media
            if not length:
                slot["text"] = clip(row["text"][: 2 * limit], limit)
                continue
            data = row["text"].encode() if data is None else data
            before = data[max(0, start - _AROUND_BYTES) : start].decode(errors="ignore")
            after = data[start + length : start + length + _AROUND_BYTES].decode(errors="ignore")
            slot["before"] = ("... " if start > _AROUND_BYTES else "") + visible(before)
            slot["text"] = clip(data[start : start + length].decode(errors="ignore"), limit)
            slot["after"] = visible(after)
            slot["span"] = [start, length]

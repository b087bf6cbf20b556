"""What a purge deleted is not read back into the store: its rows are read without their content.

A run that must read a file anew (a line was added, another source names it, the readers changed)
meets the document again. The row keeps its id, its place and its hashes, by which it is forgotten,
and conservation holds; text, key, address and the rest are left out as a takedown leaves them out.
A store without a purge pays for one look.
"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.store import Log, Store

__all__ = ["Purged", "emptied", "emptied_column", "note_purged"]

_ID = pa.binary(16)
_STAYS = frozenset(
    (
        *("doc_id", "source", "license", "timestamp", "path", "position"),
        *("raw_hash", "text_hash", "media_hash"),
    )
)


def emptied(rows: Any, mask: Any) -> Any:
    """Return a table or batch of `documents` without the contents of some rows, as a table."""
    return pa.table(
        {
            field.name: column if field.name in _STAYS else emptied_column(column, mask, field)
            for field, column in zip(rows.schema, rows.columns, strict=True)
        }
    )


def emptied_column(column: Any, mask: Any, field: Any) -> Any:
    """Return a column that is null, or empty where it may not be null, in some rows."""
    if field.nullable:
        return pc.if_else(mask, pa.scalar(None, field.type), column)
    empty: Any = "" if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) else 0
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        empty = b""
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        empty = []
    return pc.if_else(mask, pa.scalar(empty, field.type), column)


def _log(store: Store) -> Log:
    return Log(store.storage, "forgotten/purged")


def note_purged(store: Store, ids: Iterable[bytes], raw: Iterable[bytes], when: str) -> bool:
    """Have these documents read without content from now on; return whether that is new.

    Args:
        store: where they are purged.
        ids, raw: 16-byte ids, and hashes of what was read, of documents that are forgotten there.
        when: the time, for the log.
    """
    log = _log(store)
    while True:
        records = list(log)
        known_ids, known_raw = _joined(records, "ids"), _joined(records, "raw")
        new = {"ids": set(ids) - known_ids, "raw": set(raw) - known_raw}
        if not any(new.values()):
            return False
        told = {name: sorted(one.hex() for one in values) for name, values in new.items()}
        if log.append({"when": when, **told}, after=len(records)):
            return True


def _joined(records: Iterable[Any], name: str) -> set[bytes]:
    return {bytes.fromhex(one) for record in records for one in record[name]}


class Purged:
    """Empties what is read of purged documents; one for each job."""

    def __init__(self, store: Store) -> None:
        records = list(_log(store))
        self._ids = pa.array(sorted(_joined(records, "ids")), _ID)
        self._raw = pa.array(sorted(_joined(records, "raw")), _ID)
        self._texts: set[str] = set()
        self._keys: set[str] = set()

    def emptied(self, table: Any) -> Any:
        """Return a table of `documents` without the contents of purged ones."""
        if not len(self._ids):
            return table
        mask = pc.or_(
            pc.is_in(table["doc_id"], value_set=self._ids),
            pc.is_in(table["raw_hash"], value_set=self._raw),
        )
        if "media_hash" in table.schema.names:  # whatever the caption
            mask = pc.or_(mask, pc.is_in(table["media_hash"], value_set=self._raw))
        if not pc.any(mask, min_count=0).as_py():
            return table
        mine = table.filter(mask)
        self._texts.update(mine["text"].to_pylist())
        self._keys.update(key for key in mine["key"].to_pylist() if key)
        return emptied(table, mask)

    def unquote(self, rows: list[dict[str, Any]]) -> None:
        """Take the messages that quote a text emptied here out of rows of `quarantine`."""
        if not rows or not (self._texts or self._keys):
            return
        from pipelines.forget.quotes import Texts

        told = Texts(self._texts, self._keys).quoted([row["detail"] for row in rows])
        for row, is_told in zip(rows, told.tolist(), strict=True):
            if is_told:
                row["detail"] = ""

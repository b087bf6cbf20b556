"""Records one by one become Arrow batches of bounded size."""

from typing import Any

import pyarrow as pa

from curate.readers.base import RECORDS, Batch, Reject, rejected
from curate.readers.columns import Columns, Problem, Row, map_record

__all__ = ["BATCH_BYTES", "BATCH_RECORDS", "Builder"]

BATCH_RECORDS = 2048
BATCH_BYTES = 8 << 20


class Builder:
    """Collects rows and rejects until there are enough for a batch.

    A batch is `full` at BATCH_RECORDS records or BATCH_BYTES of input, whichever comes first, so
    memory is bounded by that plus one record.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._positions: list[int] = []
        self._rejects: list[Reject] = []
        self._num_bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time to `take`."""
        count = len(self._rows) + len(self._rejects)
        return count >= BATCH_RECORDS or self._num_bytes >= BATCH_BYTES

    def __bool__(self) -> bool:
        return bool(self._rows or self._rejects)

    def record(self, position: int, columns: Columns, record: dict[str, Any], size: int) -> None:
        """Map a record of `size` bytes of input to a row or a reject."""
        row = map_record(columns, record)
        if isinstance(row, Problem):
            self.reject(position, row.reason, row.detail)
        else:
            self.row(position, row, size)

    def row(self, position: int, row: Row, size: int) -> None:
        """Add a finished row."""
        self._rows.append(row)
        self._positions.append(position)
        self._num_bytes += size

    def reject(self, position: int, reason: str, detail: str) -> None:
        """Add a record that cannot become a document."""
        self._rejects.append(rejected(position, reason, detail))

    def take(self) -> Batch:
        """Return what was collected and start anew."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(Row._fields)
        arrays = dict(zip(Row._fields, columns, strict=True)) | {"position": self._positions}
        batch = pa.RecordBatch.from_arrays(
            [pa.array(arrays[field.name], field.type) for field in RECORDS],
            schema=RECORDS,
        )
        taken = Batch(batch, self._rejects)
        self.__init__()  # type: ignore[misc]
        return taken

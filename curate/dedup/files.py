"""Parquet files that are deduplicated: what is accepted, read, and written all or not at all.

Arrow has few kernels for its view types, so that views are read as the large types and written as
those; a column of another type comes back as it was.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["check_inputs", "read_texts", "whole_folder", "without_views", "write_rows"]

BATCH_ROWS = 2048
_GROUP_BYTES = 32 << 20
_PARTIAL = ".preceptor-partial"  # of a run that goes on, or was killed
_RESULTS = ("duplicates.parquet", "summary.json")


def check_inputs(inputs: Sequence[Path], out: Path, text: str) -> None:
    """Refuse files and columns that cannot be read, and a folder that holds something.

    Raises:
        InputError: what is wrong with which file.
    """
    if not inputs:
        raise InputError("no input files; name at least one Parquet file")
    if len({path.name for path in inputs}) < len(inputs):
        raise InputError(
            "two input files have the same name; the results would overwrite each other"
        )
    for path in inputs:
        try:
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"cannot read {path} as Parquet: {error}") from None
        if text not in schema.names:
            raise InputError(
                f"{path} has no column {text!r}; columns are: {', '.join(schema.names)}."
                f"{did_you_mean(text, schema.names)}"
            )
        kind = schema.types[schema.names.index(text)]
        if not _is_text(kind):
            raise InputError(
                f"{path}: column {text!r} is of type {kind}, not of strings; "
                "name another column, or cast it"
            )
        if path.name in _RESULTS:
            raise InputError(f"{path}: the name {path.name} is taken by the result")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a new folder")
    if out.exists() and any(path.name != _PARTIAL for path in out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_one = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in is_one)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder inside `out`, whose files move to `out` at the end, all or none.

    What a killed run left is removed first.
    """
    is_new = not out.exists()
    partial = out / _PARTIAL
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    moved: list[Path] = []
    try:
        yield partial
        # The summary comes last: where it stands, everything does.
        for path in sorted(partial.iterdir(), key=lambda path: (path.name in _RESULTS, path.name)):
            moved.append(out / path.name)
            path.rename(moved[-1])
        partial.rmdir()
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        if is_new and not any(out.iterdir()):
            out.rmdir()
        raise


def read_texts(inputs: Sequence[Path], text: str) -> Iterator[tuple[int, Any]]:
    """Yield (first row, texts as large_string) over all files."""
    row = 0
    for path in inputs:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[text]):
                yield row, batch.column(0).cast(pa.large_string())
                row += batch.num_rows


def without_views(kind: Any) -> Any:
    """Return the type with large strings and binaries instead of views, also inside others.

    >>> str(without_views(pa.list_(pa.string_view())).value_type)
    'large_string'
    """
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([_field_without_views(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        key, item = _field_without_views(kind.key_field), _field_without_views(kind.item_field)
        return pa.map_(key, item, keys_sorted=kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_field_without_views(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_field_without_views(kind.value_field))
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_field_without_views(kind.value_field))
    return kind


def _field_without_views(field: Any) -> Any:
    return field.with_type(without_views(field.type))


def write_rows(inputs: Sequence[Path], folder: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Write the kept rows of every file under its own name."""
    row = 0
    for path in inputs:
        with pq.ParquetFile(path) as file:
            old = file.schema_arrow
            schema = pa.schema([_field_without_views(field) for field in old], old.metadata)
            has_views = schema != old
            with pq.ParquetWriter(
                folder / path.name,
                schema,
                compression="zstd",
                compression_level=1,
                write_statistics=False,  # of long texts, which nobody filters by
            ) as writer:
                waiting: list[Any] = []
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    mask = kept[row : row + batch.num_rows]
                    row += batch.num_rows
                    batch = batch.cast(schema) if has_views else batch
                    waiting.append(batch if mask.all() else batch.filter(pa.array(mask)))
                    if sum(part.nbytes for part in waiting) > _GROUP_BYTES:
                        writer.write_table(pa.Table.from_batches(waiting))
                        waiting = []
                if waiting:
                    writer.write_table(pa.Table.from_batches(waiting))

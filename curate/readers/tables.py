"""Arrow batches of any schema become record batches of ours, column by column.

What is said twice is checked once: strings are validated as UTF-8 whatever the file claims (a
Parquet page or an Arrow buffer may hold anything), and a record that fails is a reject.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import RECORDS, Batch, Reject, rejected
from curate.readers.columns import Columns, Problem, as_json, as_timestamp, scalar_text, text_of
from curate.readers.media import MEDIA

__all__ = ["check_schema", "convert", "first_record", "with_media"]

_MEDIA_NAMES = ("image", "audio", "bytes", "media")


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(type_) for test in tests) or _is_bytes(type_)


def _is_bytes(type_: pa.DataType) -> bool:
    return any(
        test(type_)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
            pa.types.is_binary_view,
        )
    )


def check_schema(schema: pa.Schema, columns: Columns, where: str) -> list[str]:
    """Return the names of the columns to read, or say what does not fit.

    Raises:
        InputError: a column that the recipe names is missing or appears twice, or the text column
            is of a type that holds no text.
    """
    names = list(schema.names)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: two columns have the name {name!r}; rename one.")
    columns.require(names, where)
    if not columns.joined:
        type_ = schema.field(columns.text[0]).type
        if not _is_text(type_) and not pa.types.is_null(type_):
            texts = [field.name for field in schema if _is_text(field.type)]
            raise InputError(
                f"{where}: the text column {columns.text[0]!r} is {type_}, not text; columns of "
                f"text are: {', '.join(texts) or 'none'}."
            )
    wanted = columns.mapped | set(columns.meta_of(names))
    return [name for name in names if name in wanted]


def with_media(
    schema: pa.Schema, columns: Columns, options: Mapping[str, Any], where: str
) -> Columns:
    """Return the columns with the one that holds images or sounds; without texts if there are none.

    Raises:
        InputError: there is no such column, it holds something else, or pairs have no captions.
    """
    names = list(schema.names)
    media = columns.media or next((name for name in _MEDIA_NAMES if name in names), None)
    if media is None or media not in names:
        wanted = media or " or ".join(_MEDIA_NAMES[:2])
        raise InputError(
            f"{where} has no column {wanted!r}; its columns are: {', '.join(names)}. Say which one "
            "holds the files' bytes: columns: {media: NAME}."
        )
    kind = schema.field(media).type
    inner = kind.field("bytes").type if _is_hugging_face(kind) else kind
    if not _is_bytes(inner):
        raise InputError(f"{where}: the column {media!r} is {kind}; media is a column of bytes.")
    text = columns.text
    if not set(text) & set(names) and not set(text) & columns.named:
        text = ("caption",) if "caption" in names else ()
    if options["pair"] and not text:
        raise InputError(
            f"{where} has no column 'text' or 'caption'; its columns are: {', '.join(names)}. Say "
            "which one holds the captions: columns: {text: NAME}."
        )
    return replace(columns, media=media, text=text, joined=columns.joined or not text)


def _is_hugging_face(kind: Any) -> bool:
    """Say whether a column is as `datasets` writes images and sounds: {bytes, path}."""
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _media_of(batch: Any, columns: Columns, rejects: "_Rejects", max_bytes: int) -> pa.Array:
    """Return the files' bytes, large_binary; a row without is a reject."""
    assert columns.media is not None, "with_media names it"
    column = batch.column(columns.media)
    if _is_hugging_face(column.type):
        inner = pc.struct_field(column, "bytes")  # of a null struct: null
        column = pc.if_else(column.is_valid(), inner, pa.scalar(None, inner.type))
    found = column.cast(pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(found), 0)
    empty = np.flatnonzero(pc.equal(lengths, 0))
    rejects.add(
        empty, "invalid_media", f"{columns.media} is empty; files named beside are not read"
    )
    above = np.flatnonzero(pc.greater(lengths, max_bytes))
    rejects.add(above, "too_large", f"a file above max_document_bytes, {max_bytes:,}")
    return pc.fill_null(found, b"")


def _captions(
    batch: Any, columns: Columns, rejects: "_Rejects", limits: tuple[int, str], pair: bool
) -> pa.Array:
    """Return the captions, "" where one is missing and needs not be there."""
    if not columns.text:
        return pa.array([""] * batch.num_rows, pa.large_string())
    own = _Rejects(batch.num_rows)
    texts = _texts(batch, columns, own, *limits)
    for row, why in own.why.items():
        if why[0] != "no_text" or pair:
            rejects.add([row], *why)
    return pc.fill_null(texts, "")


class _Rejects:
    """The rows of a batch that are refused, the first reason of each row."""

    def __init__(self, num_rows: int) -> None:
        self.why: dict[int, tuple[str, str]] = {}
        self._num_rows = num_rows

    def add(self, rows: Any, reason: str, detail: str) -> None:
        for row in rows:
            self.why.setdefault(int(row), (reason, detail))

    def keep(self) -> pa.Array:
        mask = np.ones(self._num_rows, dtype=bool)
        mask[list(self.why)] = False
        return pa.array(mask)


def convert(
    batch: pa.RecordBatch,
    columns: Columns,
    position: int,
    max_bytes: int,
    where: str,
    pair: bool = False,
) -> Batch:
    """Map a batch whose first row is record number `position`.

    Its records are MEDIA where `columns` names media, of which a `pair` needs a caption.

    Raises:
        UnreadableFileError: the buffers contradict each other (offsets out of range).
    """
    rejects = _Rejects(batch.num_rows)
    schema, media = RECORDS, {}
    if columns.media is None:
        text = _texts(batch, columns, rejects, max_bytes, where)
    else:
        schema, media = MEDIA, {"media": _media_of(batch, columns, rejects, max_bytes)}
        text = _captions(batch, columns, rejects, (max_bytes, where), pair)
    names = set(batch.schema.names)
    fields = {
        field: _scalars(batch.column(name), name, rejects, where)
        if name is not None and name in names
        else pa.nulls(batch.num_rows, pa.string())
        for field, name in (
            ("key", columns.key),
            ("url", columns.url),
            ("license", columns.license),
        )
    }
    fields["timestamp"], unread = _timestamps(batch, columns, rejects, where)
    meta = _meta(batch, columns.meta_of(names), unread, rejects, where)
    positions = pa.array(np.arange(position, position + batch.num_rows, dtype=np.int64))
    fields |= {"text": text, "position": positions, "meta": meta, **media}
    whole = pa.RecordBatch.from_arrays([fields[name] for name in schema.names], schema.names)
    if rejects.why:
        whole = whole.filter(rejects.keep())
    refused: list[Reject] = [
        rejected(position + row, *why) for row, why in sorted(rejects.why.items())
    ]
    return Batch(pa.RecordBatch.from_arrays(whole.columns, schema=schema), refused)


def _utf8(column: pa.Array, name: str, rejects: _Rejects, where: str) -> pa.Array:
    """Return a column as large_string; rows that are no UTF-8 become null and rejects."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column.validate(full=False)
    raw = column.cast(pa.large_binary())
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UnreadableFileError(
            f"{where}: column {name!r} is damaged ({error}).", reason="corrupt"
        ) from error
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        values = [_decoded(value.as_py()) for value in raw]  # rare: only batches with bad bytes
        bad = [row for row, value in enumerate(values) if value is None and raw[row].is_valid]
        rejects.add(bad, "invalid_utf8", f"{name} is no UTF-8")
        return pa.array(values, pa.large_string())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _texts(
    batch: pa.RecordBatch, columns: Columns, rejects: _Rejects, max_bytes: int, where: str
) -> pa.Array:
    if columns.joined:
        lists = {name: _values(batch.column(name), name, rejects, where) for name in columns.text}
        rows = zip(*lists.values(), strict=True)
        texts = [text_of(columns, dict(zip(lists, row, strict=True))) for row in rows]
        for row, text in enumerate(texts):
            if isinstance(text, Problem):
                rejects.add([row], text.reason, text.detail)
        found = pa.array(
            [None if isinstance(text, Problem) else text for text in texts], pa.large_string()
        )
    else:
        name = columns.text[0]
        column = batch.column(name)
        if pa.types.is_null(column.type):
            column = pa.nulls(len(column), pa.large_string())
        found = _utf8(column, name, rejects, where)
        rejects.add(np.flatnonzero(pc.is_null(found)), "no_text", f"{name} is null")
        lengths = pc.fill_null(pc.binary_length(found), 1)
        rejects.add(np.flatnonzero(pc.equal(lengths, 0)), "no_text", f"{name} is empty")
    lengths = pc.fill_null(pc.binary_length(found), 0)
    above = np.flatnonzero(pc.greater(lengths, max_bytes))
    rejects.add(above, "too_large", f"a text above max_document_bytes, {max_bytes:,}")
    return found


def _scalars(column: pa.Array, name: str, rejects: _Rejects, where: str) -> pa.Array:
    """Return a key, url or licence column as strings; empty ones become null."""
    type_ = column.type
    if pa.types.is_null(type_):
        return pa.nulls(len(column), pa.string())
    if _is_text(type_) and not _is_bytes(type_):
        text = _utf8(column, name, rejects, where)
        empty = pc.equal(pc.binary_length(text), 0)
        return pc.if_else(empty, pa.scalar(None, text.type), text).cast(pa.string())
    if pa.types.is_integer(type_):
        return column.cast(pa.string())
    values = _values(column, name, rejects, where, bytes_as_length=False)
    return pa.array([scalar_text(value) for value in values], pa.string())


def _timestamps(
    batch: pa.RecordBatch, columns: Columns, rejects: _Rejects, where: str
) -> tuple[pa.Array, dict[int, dict[str, Any]]]:
    """Return the times, and for each row whose value is none, what goes to meta instead."""
    name = columns.timestamp
    if name is None or name not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.string()), {}
    values = _values(batch.column(name), name, rejects, where)
    times = [as_timestamp(value) for value in values]
    unread = {
        row: {name: value}
        for row, (value, time) in enumerate(zip(values, times, strict=True))
        if time is None and value is not None and columns.meta is None
    }
    return pa.array(times, pa.string()), unread


def _meta(
    batch: pa.RecordBatch,
    names: list[str],
    more: dict[int, dict[str, Any]],
    rejects: _Rejects,
    where: str,
) -> pa.Array:
    if not names and not more:
        return pa.nulls(batch.num_rows, pa.string())
    lists = [_values(batch.column(name), name, rejects, where) for name in names]
    rows = zip(*lists, strict=True) if names else [()] * batch.num_rows
    # JSON objects are made one by one anyway; orjson writes some two million small ones a second.
    return pa.array(
        [
            as_json(dict(zip(names, row, strict=True)) | more.get(number, {}))
            if names or number in more
            else None
            for number, row in enumerate(rows)
        ],
        pa.string(),
    )


def _values(
    column: pa.Array, name: str, rejects: _Rejects, where: str, bytes_as_length: bool = True
) -> list[Any]:
    """Return a column as Python values that JSON can hold; bytes as a note of their length."""
    type_ = column.type
    if bytes_as_length and _is_bytes(type_):
        lengths = pc.binary_length(column.cast(pa.large_binary()))
        return [None if n is None else f"<{n} bytes>" for n in lengths.to_pylist()]
    if _is_text(type_) and not _is_bytes(type_):
        return list(_utf8(column, name, rejects, where).to_pylist())
    try:
        column = column.cast(_in_microseconds(type_), safe=False)
        return list(column.to_pylist())
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return [_value(scalar, row, name, rejects) for row, scalar in enumerate(column)]


def _value(scalar: pa.Scalar, row: int, name: str, rejects: _Rejects) -> Any:
    """Return one value of a column that holds something Python cannot, such as the year 20000."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        rejects.add([row], "invalid_utf8", f"{name} is no UTF-8")
        return None
    except (ValueError, OverflowError, TypeError):
        return f"<{scalar.type}>"


def _in_microseconds(type_: pa.DataType) -> pa.DataType:
    """Return the type with nanoseconds made microseconds: Python's dates know no finer unit."""
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    if pa.types.is_duration(type_) and type_.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(type_) and type_.unit == "ns":
        return pa.time64("us")
    if pa.types.is_dictionary(type_):
        return _in_microseconds(type_.value_type)
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_in_microseconds(type_.value_type)))
    if pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_in_microseconds(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_in_microseconds(field.type)) for field in type_])
    return type_


def first_record(batches: Iterator[pa.RecordBatch]) -> Mapping[str, Any] | None:
    """Return the first row of the first batch that has one, for a look at its columns."""
    for batch in batches:
        if batch.num_rows:
            rejects = _Rejects(1)
            head = batch.slice(0, 1)
            return {
                name: _values(head.column(name), name, rejects, "")[0]
                for name in batch.schema.names
            }
    return None

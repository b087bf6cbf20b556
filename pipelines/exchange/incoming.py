"""Files of other tools -> one row per record: who it is about, and the numbers told of it.

A frame has `_id` (a document's id in hex, or a record's own key), `_source` and `_hash` (null where
nothing is told), then the columns of numbers.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus.errors import InputError, one_of
from curate.readers.base import InputFile
from curate.readers.jsonl import lines
from curate.readers.registry import suffix_of
from curate.readers.streams import COMPRESSIONS, open_stream

__all__ = ["IDENTITY", "SPANS", "read_datatrove", "read_dolma", "read_table"]

IDENTITY = ("_id", "_source", "_hash")
_NAMES = {"doc_id": "_id", "id": "_id", "key": "_id", "source": "_source", "text_hash": "_hash"}
_IDS = ("doc_id", "id", "key")
_LINE_BYTES = 64 << 20
_CSV_BYTES = 4 << 30
_MAX_INT = (1 << 63) - 1
_JSONL = (".jsonl", ".ndjson", ".json")


def files_in(paths: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Return the files that paths mean, folders with all below them, sorted, each once.

    Raises:
        InputError: a path that is not there or holds nothing of the kind.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            mine = [p for p in inside if suffix_of(p.name)[0] in suffixes]
            if not mine:
                raise InputError(f"--from {path} holds no file that ends in {', '.join(suffixes)}")
        elif path.is_file():
            mine = [path]
            if suffix_of(path.name)[0] not in suffixes:
                raise InputError(f"--from {path}: it should end in {', '.join(suffixes)}")
        else:
            raise InputError(f"--from {path}: there is no such file or folder")
        found |= {str(one): one for one in mine}
    return [found[name] for name in sorted(found)]


def _stream(path: Path) -> Any:
    """Open a file, decompressed; what expands too far is refused (`curate.readers.streams`)."""
    file = InputFile(uri=str(path.absolute()), path=path.name, size=path.stat().st_size, version="")
    compression = suffix_of(path.name)[1]
    return open_stream(file, compression if compression in COMPRESSIONS else None, None)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSONL file.

    Raises:
        InputError: a line that is too long, no JSON, or no object.
    """
    with _stream(path) as stream:
        for number, (_, line, _) in enumerate(lines(stream, 0, -1, _LINE_BYTES), 1):
            if line is None:
                raise InputError(f"{path}: line {number} is longer than {_LINE_BYTES >> 20} MB")
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                record = _lenient(path, number, line)
            if not isinstance(record, dict):
                raise InputError(f"{path}: line {number} is no JSON object")
            yield record


def _lenient(path: Path, number: int, line: bytes) -> Any:
    """Read what Python's own writer writes: NaN and Infinity, which are no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: line {number} is no JSON: {str(error)[:80]}") from None


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return values of one kind; what is not a finite number is null.

    Raises:
        InputError: values of several kinds, lists or objects, integers beyond 64 bits.

    >>> column("x", [1, None, float("nan"), 2.5]).to_list()
    [1.0, None, None, 2.5]
    """
    kinds = {type(value) for value in values if value is not None}
    dtypes: tuple[tuple[set[type], pl.DataType], ...] = (
        (set(), pl.Null()),
        ({bool}, pl.Boolean()),
        ({int}, pl.Int64()),
        ({int, float}, pl.Float64()),
        ({str}, pl.String()),
    )
    dtype = next((dtype for known, dtype in dtypes if kinds <= known), None)
    if dtype is None:
        told = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"column {name!r} holds values of several kinds, or lists: {told}")
    if dtype == pl.Int64() and any(v is not None and abs(v) > _MAX_INT for v in values):
        raise InputError(f"column {name!r} holds an integer beyond 64 bits; write it as a float")
    if dtype == pl.Float64():
        values = [v if v is None or math.isfinite(v) else None for v in values]
    return pl.Series(name, values, dtype=dtype, strict=False)


def _plain(series: pl.Series, *, named: bool) -> pl.Series | None:
    """Return a table's column as one of the four kinds, None where it is left out."""
    dtype = series.dtype
    if dtype == pl.Boolean or (named and dtype == pl.String):
        return series
    if named and dtype in (pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    if dtype.is_integer():
        cast = series.cast(pl.Int64, strict=False)
        if cast.null_count() != series.null_count():
            raise InputError(f"column {series.name!r} holds an integer beyond 64 bits")
        return cast
    if dtype.is_float() or dtype.is_decimal():
        numbers = series.cast(pl.Float64)
        return numbers.set(~numbers.is_finite().fill_null(True), None)
    if named:
        raise InputError(f"column {series.name!r} is {dtype}; numbers, flags or text can be used")
    return None


def read_table(paths: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    """Read Parquet, Arrow, CSV, TSV or JSONL tables with a column doc_id, id or key.

    Args:
        paths: files or folders.
        columns: what is taken; by default every column of numbers or flags.
    """
    suffixes = (".parquet", ".arrow", ".feather", ".csv", ".tsv", *_JSONL)
    frames = [_one_table(path, columns) for path in files_in(paths, suffixes)]
    return _together(frames)


def _one_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    try:
        frame = _frame(path)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0][:120]}") from None
    identity = next((name for name in _IDS if name in frame.columns), None)
    if identity is None:
        raise InputError(f"{path} has no column doc_id, id or key; it has: {_list(frame.columns)}")
    told = [name for name in ("source", "text_hash") if name in frame.columns]
    series = [_identity(path, frame[name]).alias(_NAMES[name]) for name in (identity, *told)]
    for name in columns:
        if name not in frame.columns:
            raise InputError(f"{path}: {one_of('column', name, frame.columns)}")
    for name in columns or [n for n in frame.columns if n not in _NAMES]:
        plain = _plain(frame[name], named=bool(columns))
        series += [] if plain is None else [plain]
    if len(series) == 1 + len(told):
        raise InputError(f"{path} has no column of numbers or flags; name one with --column")
    return pl.DataFrame(series)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")


def _frame(path: Path) -> pl.DataFrame:
    suffix = suffix_of(path.name)[0]
    if suffix == ".parquet":
        return pl.DataFrame(pl.from_arrow(pq.ParquetFile(path).read()))
    if suffix in (".arrow", ".feather"):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # offsets of a hostile file may point anywhere
        return pl.DataFrame(pl.from_arrow(table))
    if suffix in (".csv", ".tsv"):
        with _stream(path) as stream:
            data = stream.read(_CSV_BYTES + 1)
        if len(data) > _CSV_BYTES:
            raise InputError(f"{path} holds more than {_CSV_BYTES >> 30} GB; write Parquet")
        separator = "\t" if suffix == ".tsv" else ","
        options = {"key": pl.String, "id": pl.String, "doc_id": pl.String, "text_hash": pl.String}
        return pl.read_csv(
            data, separator=separator, infer_schema_length=None, schema_overrides=options
        )
    rows = list(records(path))
    names = dict.fromkeys(name for row in rows for name in row)
    kept = []
    for name in names:
        values = [row.get(name) for row in rows]
        if name in _IDS and all(isinstance(v, int | str) for v in values if v is not None):
            values = [None if v is None else str(v) for v in values]
        if any(isinstance(v, list | dict) for v in values):
            continue
        kept.append(column(name, values))
    return pl.DataFrame(kept)


def _identity(path: Path, series: pl.Series) -> pl.Series:
    """Return ids as text: 16 bytes as their hex."""
    if series.dtype == pl.Binary:
        lengths = series.bin.size().drop_nulls()
        if len(lengths) and not bool((lengths == 16).all()):
            raise InputError(f"{path}: column {series.name!r} holds bytes that are not 16 long")
        return series.bin.encode("hex")
    if not (series.dtype == pl.String or series.dtype.is_integer() or series.dtype == pl.Null):
        raise InputError(f"{path}: column {series.name!r} is {series.dtype}; an id is text")
    return series.cast(pl.String)


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    try:
        frame = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        raise InputError("the files have columns of the same name and different kinds") from None
    missing = [pl.lit(None, pl.String).alias(n) for n in IDENTITY if n not in frame.columns]
    return frame.with_columns(missing)


def read_dolma(paths: Sequence[Path], columns: Sequence[str], spans: str) -> pl.DataFrame:
    """Read Dolma's attributes: {id, attributes: {tag: [[start, end, score], ...]}}.

    Args:
        paths: attribute files (.jsonl, .gz or .zst), or folders of them.
        columns: tags that are taken; by default all.
        spans: how the spans of a document become one number, see `SPANS`.
    """
    if spans not in SPANS:
        raise InputError(f"--spans: {one_of('way to sum up spans', spans, SPANS)}")
    frames = []
    for path in files_in(paths, _JSONL):
        told: dict[str, list[Any]] = {}
        ids, sources = [], []
        for number, record in enumerate(records(path)):
            attributes = record.get("attributes")
            if not isinstance(attributes, dict) or "id" not in record:
                raise InputError(f"{path}: record {number + 1} has no id or no attributes")
            ids.append(str(record["id"]))
            sources.append(str(record["source"]) if record.get("source") is not None else None)
            for tag in columns or attributes:
                values = told.setdefault(tag, [])
                values += [None] * (number - len(values))
                values.append(_span_score(path, tag, attributes.get(tag), spans))
        for values in told.values():
            values += [None] * (len(ids) - len(values))
        series = [column(name, values).cast(pl.Float64) for name, values in told.items()]
        schema = [pl.Series("_id", ids, pl.String), pl.Series("_source", sources, pl.String)]
        frames.append(pl.DataFrame([*schema, *series]))
    return _named(_together(frames), columns)


def _mean(spans: Sequence[tuple[float, float]]) -> float | None:
    """The mean score, each span weighing what it is long; of empty spans the plain mean."""
    length = sum(size for size, _ in spans)
    if not spans:
        return None
    if not length:
        return math.fsum(score for _, score in spans) / len(spans)
    return math.fsum(size * score for size, score in spans) / length


SPANS: Mapping[str, Callable[[Sequence[tuple[float, float]]], float | None]] = {
    "mean": _mean,  # the score itself where one span is the whole document
    "max": lambda spans: max((score for _, score in spans), default=None),
    "sum": lambda spans: math.fsum(score for _, score in spans),
    "count": lambda spans: float(len(spans)),
}


def _span_score(path: Path, tag: str, value: Any, how: str) -> float | None:
    if value is None:
        return None
    try:
        spans = [(float(stop) - float(start), float(score)) for start, stop, score in value]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: {tag!r} is no list of [start, end, score]") from None
    if any(size < 0 or not math.isfinite(size) for size, _ in spans):
        raise InputError(f"{path}: {tag!r} has a span that ends before it begins")
    return SPANS[how]([one for one in spans if math.isfinite(one[1])])


def _named(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    there = [name for name in frame.columns if name not in IDENTITY]
    if not there:
        raise InputError("the files tell no numbers")
    for name in columns:
        if name not in there or frame[name].null_count() == frame.height:
            known = [one for one in there if frame[one].null_count() < frame.height]
            raise InputError(one_of("column", name, known))
    return frame


def read_datatrove(paths: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    """Read datatrove's documents: {id, metadata: {name: number, ...}}, as its writers leave them.

    Args:
        paths: JSONL files (.gz, .zst), or folders of them.
        columns: names in `metadata`; by default every one that holds numbers or flags only.
    """
    frames = []
    for path in files_in(paths, _JSONL):
        rows = list(records(path))
        for number, row in enumerate(rows):
            if "id" not in row or not isinstance(row.get("metadata", {}), dict):
                raise InputError(f"{path}: record {number + 1} has no id, or metadata of no use")
        told = [row.get("metadata", {}) for row in rows]
        series = [pl.Series("_id", [str(row["id"]) for row in rows], pl.String)]
        for name in columns or dict.fromkeys(name for one in told for name in one):
            values = [one.get(name) for one in told]
            usable = all(isinstance(v, int | float | None) for v in values)
            if columns or usable:
                series.append(column(name, values))
        frames.append(pl.DataFrame(series))
    return _named(_together(frames), columns)

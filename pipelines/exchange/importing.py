"""Import: numbers that another tool computed become a file that recipes can measure with.

Rows are joined to the documents of a corpus version by their id, or by the record's own key, and by
the hash of their text where that is told. The file holds what matched, sorted by id; the recipe
names it, and its content is part of what `measure` is fingerprinted by.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from curate.corpus.errors import InputError, one_of
from curate.corpus.shard import read_shard
from curate.signals.imported import file_schema, kind_of
from curate.signals.registry import available_signals
from pipelines.corpus import Corpus
from pipelines.exchange.incoming import IDENTITY, read_datatrove, read_dolma, read_table
from pipelines.exchange.removals import has_removals, read_removals

__all__ = ["FORMATS", "Imported", "import_signals", "tell"]

FORMATS = ("table", "dolma", "datatrove")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_MAX_SIGNAL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import wrote.

    Attributes:
        out: the file.
        name: of the unit.
        corpus: the version it was matched with.
        signals: name -> kind.
        rows: that were read.
        matched: documents that have numbers.
        strange: rows of no document of this version.
        documents: of this version.
    """

    out: Path
    name: str
    corpus: str
    signals: dict[str, str]
    rows: int
    matched: int
    strange: int
    documents: int


def import_signals(
    corpus: Corpus,
    format_name: str,
    paths: Sequence[Path],
    *,
    name: str,
    out: Path,
    source: str | None = None,
    columns: Sequence[str] = (),
    spans: str = "mean",
) -> Imported:
    """Match the rows of some files with a corpus, and write an Arrow file of signals.

    Args:
        corpus: the version whose documents are meant.
        format_name: one of `FORMATS`.
        paths: files or folders.
        name: signals are called `<name>_<column>`, or `<name>` where a column has that name.
        out: the file to write; one that is there is replaced.
        source: whose keys, or files, are meant.
        columns: what is taken; by default all numbers and flags.
        spans: for Dolma, how a document's spans become one number.

    Raises:
        InputError: nothing matches; rows that contradict each other, or were computed on another
            text; a signal that there is already; files that cannot be read.
    """
    if format_name not in FORMATS:
        raise InputError(one_of("import format", format_name, FORMATS))
    if not _NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: write small letters, digits and underscores")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file, such as {out / (name + '.arrow')}")
    sources = [str(one["name"]) for one in corpus.recipe["sources"]]
    if source is not None and source not in sources:
        raise InputError(one_of("source", source, sources))
    frame = _read(corpus, format_name, paths, source, columns, spans)
    values = [n for n, t in frame.schema.items() if n not in IDENTITY and t != pl.Null]
    if not values:
        raise InputError("the files tell no number: every one is null")
    called = _signal_names(corpus, name, values)
    matched, strange, total = _match(corpus, frame, source)
    matched = _once(matched, values).rename(called)
    table = _table(matched, list(called.values()))
    _write(table, out)
    kinds = {one: str(kind_of(table.schema.field(one).type)) for one in called.values()}
    return Imported(
        out=out,
        name=name,
        corpus=str(corpus.version),
        signals=kinds,
        rows=frame.height,
        matched=table.num_rows,
        strange=strange,
        documents=total,
    )


def _read(
    corpus: Corpus,
    format_name: str,
    paths: Sequence[Path],
    source: str | None,
    columns: Sequence[str],
    spans: str,
) -> pl.DataFrame:
    if format_name == "table":
        return read_table(paths, columns)
    if format_name == "dolma":
        return read_dolma(paths, columns, spans)
    if not has_removals(paths):
        return read_datatrove(paths, columns)
    names = [str(one["name"]) for one in corpus.recipe["sources"]]
    if source is None and len(names) > 1:
        raise InputError(
            f"MinHash results are about the files of one source; add --source, one of "
            f"{', '.join(names)}"
        )
    return read_removals(corpus, paths, source or names[0])


def _signal_names(corpus: Corpus, name: str, columns: Sequence[str]) -> dict[str, str]:
    """Return column -> signal; names of Dolma lose what stands before their last `__`."""
    asked = dict(corpus.recipe.get("measure") or {})
    others = {unit: one for unit, one in (asked.get("imported") or {}).items() if unit != name}
    taken = available_signals({**asked, "imported": others})
    called: dict[str, str] = {}
    for column in columns:
        last = re.sub(r"[^a-z0-9]+", "_", column.rpartition("__")[2].lower()).strip("_")
        signal = name if last in ("", name) else f"{name}_{last}"
        if len(signal) > _MAX_SIGNAL:
            raise InputError(
                f"the signal {signal[:60]}... would have more than {_MAX_SIGNAL} "
                "characters; take others with --column"
            )
        if signal in taken:
            raise InputError(f"there is a signal {signal!r} already; choose another --name")
        if signal in called.values():
            raise InputError(
                f"two columns would be called {signal!r}, the second is {column!r}; "
                "take one of them with --column"
            )
        called[column] = signal
    return called


def _match(
    corpus: Corpus, frame: pl.DataFrame, source: str | None
) -> tuple[pl.DataFrame, int, int]:
    """Return the rows that belong to documents (with `doc_id`), the number of others, documents."""
    storage = corpus.store.storage
    columns = ["doc_id", "source", "key", "text_hash"]
    tables = [read_shard(storage, shard, columns) for shard in corpus.shards("documents")]
    documents = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    documents = documents.with_columns(hex=pl.col("doc_id").bin.encode("hex"))
    if source is not None:
        documents = documents.filter(pl.col("source") == source)
    rows = frame.with_row_index("_row")
    by_id = rows.with_columns(hex=pl.col("_id").str.to_lowercase()).join(
        documents, on="hex", how="inner"
    )
    rest = rows.join(by_id.select("_row"), on="_row", how="anti")
    keyed = documents.filter(pl.col("key").is_not_null())
    by_key = rest.join(keyed, left_on="_id", right_on="key", how="inner")
    named = set(documents["source"].unique())
    here = pl.col("_source").is_in(named) & (pl.col("_source") != pl.col("source"))
    by_key = by_key.filter(~here.fill_null(False))
    _refuse_ambiguous(by_key)
    same = [*rows.columns, "doc_id", "text_hash"]
    matched = pl.concat([by_id.select(same), by_key.select(same)])
    if matched.is_empty():
        some = ", ".join(repr(str(one)[:40]) for one in frame["_id"].drop_nulls().head(2))
        raise InputError(
            f"no row belongs to a document of {corpus.version}: ids are like {some or 'null'}, and "
            "should be ids of documents (32 hexadecimal digits) or the records' own keys"
        )
    _refuse_other_texts(corpus, matched)
    return matched, frame.height - matched.height, documents.height


def _refuse_ambiguous(by_key: pl.DataFrame) -> None:
    twice = by_key.filter(pl.col("_row").is_duplicated())
    if twice.height:
        names = ", ".join(sorted(set(twice["source"]))[:4])
        raise InputError(
            f"{twice['_row'].n_unique():,} keys are in several sources ({names}); say which one "
            "is meant with --source"
        )


def _refuse_other_texts(corpus: Corpus, matched: pl.DataFrame) -> None:
    told = matched.filter(pl.col("_hash").is_not_null())
    other = told.filter(pl.col("_hash").str.to_lowercase() != pl.col("text_hash").bin.encode("hex"))
    if other.height:
        raise InputError(
            f"{other.height:,} of {told.height:,} rows were computed on another text than "
            f"{corpus.version} holds, the first is of document {other['doc_id'][0].hex()}; compute "
            "them again on this version"
        )


def _once(matched: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    """Return one row per document; rows that say the same twice count once."""
    unique = matched.select("doc_id", "_hash", "text_hash", *values).unique()
    twice = unique.filter(pl.col("doc_id").is_duplicated())
    if twice.height:
        first = min(twice["doc_id"].to_list()).hex()
        raise InputError(
            f"{twice['doc_id'].n_unique():,} documents have several rows that differ, the first is "
            f"{first}; leave one row for each"
        )
    return unique.sort("doc_id")


def _table(matched: pl.DataFrame, signals: Sequence[str]) -> Any:
    """Return the file's table, in one batch so that it can be searched where it lies."""
    frame = matched.with_columns(
        pl.when(pl.col("_hash").is_not_null()).then(pl.col("text_hash")).alias("text_hash")
    ).select("doc_id", "text_hash", *signals)
    empty = [name for name in signals if frame[name].null_count() == frame.height]
    if len(empty) == len(signals):
        raise InputError("every number that matched is null; nothing is there to import")
    kinds = {
        pl.Boolean: "flag",
        pl.Int64: "integer",
        pl.Float64: "number",
        pl.String: "text",
    }
    schema = file_schema({name: kinds[frame[name].dtype.base_type()] for name in signals})
    arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return arrow.cast(schema).combine_chunks()


def _write(table: Any, out: Path) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_file(str(temporary), table.schema) as writer:
            writer.write_table(table)
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def tell(done: Imported) -> list[str]:
    """Return what people want to read of an import."""
    lines = [
        f"{done.out}: numbers of {done.matched:,} of {done.documents:,} documents of {done.corpus}"
    ]
    if done.strange:
        lines.append(f"{done.strange:,} of {done.rows:,} rows belong to no document of it")
    if done.matched < done.documents:
        lines.append(
            f"{done.documents - done.matched:,} documents have none: rules see null (`on_null`)"
        )
    signals = ", ".join(f"{name}: {kind}" for name, kind in done.signals.items())
    lines.append(
        f"use it: measure: {{imported: {{{done.name}: {{path: {done.out}, "
        f"signals: {{{signals}}}}}}}}}"
    )
    return lines

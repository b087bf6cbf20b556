"""Collect: any archive -> documents with a stable identity; what cannot be read -> quarantine.

Two stages. `read` turns each slice of input into shards, giving every record the identity of its
key (or content). `identify` looks for records that share one: identical ones get an occurrence
number, and a key that comes back with another text goes to quarantine; only the shards concerned
are written again.

Images and sounds are decoded once here, and thrown away: what cannot be decoded is told now, with
the file it stands in, and not where it is needed.
"""

import functools
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, IntegrityError, UnreadableFileError
from curate.corpus.manifest import Manifest
from curate.corpus.schema import MEDIA_DOCUMENTS, SCHEMAS
from curate.corpus.shard import Shard, ShardWriter, footer
from curate.readers.base import Batch, InputFile, Reader, Slice
from curate.readers.discover import expand, group, left_alone, open_stream
from curate.readers.registry import reader_for, readers
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    add_counts,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.documents import decoded, documents_of
from pipelines.passes.identify import identify
from pipelines.passes.purged import Purged
from pipelines.sections import Collect, Recipe, Source
from pipelines.store import Store

__all__ = ["files_of", "media_options", "read_slices", "run"]

_SHARD_ROWS = 200_000
_NAMED = 5  # files, in a note
_BIN_BYTES = 8 << 20  # small files are binned finer than large inputs are cut


def run(context: Context) -> Manifest:
    """Read every source of the recipe."""
    began = time.monotonic()
    recipe = context.recipe
    jobs: list[PartJob] = []
    owner: list[str] = []
    files: dict[str, set[str]] = defaultdict(set)
    for source in recipe.sources:
        _tell_left_alone(context, source)
        for slices in _groups(source, recipe):
            files[source.name].update(piece.file.uri for piece in slices)
            jobs.append(_job(source, slices, recipe))
            owner.append(source.name)
    parts = run_parts(context, "collect", "read", jobs)
    by_source: dict[str, list[Parts]] = {
        source.name: [part for part, name in zip(parts, owner, strict=True) if name == source.name]
        for source in recipe.sources
    }
    for source in recipe.sources:
        _check_policy(source.name, by_source[source.name], len(files[source.name]), recipe.collect)
    identified = [
        part
        for source in recipe.sources
        for part in identify(context, source.name, by_source[source.name], recipe.limit)
    ]
    tables = tables_of(identified, "documents", "quarantine")
    counts = add_counts(identified)
    _check_rows(context.store, tables, counts, limited=recipe.limit is not None)
    if not tables["documents"]:
        told = _first_reason(counts)
        raise InputError(
            f"the sources of {recipe.name!r} hold no document ({counts.get('quarantined', 0):,} "
            f"records in quarantine{told and ': '}{told}); see the files, or `columns:`"
        )
    settings = {
        "sources": [source.model_dump(mode="json") for source in recipe.sources],
        "collect": recipe.collect.model_dump(mode="json"),
        "limit": recipe.limit,
        **media_options(recipe),
    }
    manifest = Manifest(
        name="collect",
        settings=settings,
        code=code_digest(__name__),
        parents={},
        tables=tables,
        counts=counts,
    )
    return finish(context, manifest, began)


def _tell_left_alone(context: Context, source: Source) -> None:
    """Name what lies in a folder of images or sounds and is neither."""
    kind = context.recipe.media_of
    if kind == "text" or source.format is not None:
        return
    names = left_alone(source.paths, context.recipe.base, kind)
    if names:
        some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        files = f"{len(names):,} file{'s' * (len(names) != 1)}"
        told = (
            f"source {source.name!r} leaves {files} alone that hold no {kind} it can read: {some}"
        )
        context.note("collect", told)


def media_options(recipe: Recipe) -> dict[str, Any]:
    """Return what readers of images and sounds are told; {} for text."""
    if recipe.kind == "text":
        return {}
    return {"of": recipe.media_of, "pair": recipe.kind == "pair"}


def files_of(source: Source, recipe: Recipe) -> list[InputFile]:
    """Return a source's files, all of which hold what the recipe's schema says.

    Raises:
        InputError: there are none, or one holds something else.
    """
    kind = recipe.media_of
    files = expand(source.paths, recipe.base, source.format, kind=kind)
    for file in files:
        reader = reader_for(file.path, source.format)[0]
        if not reader.gives(kind):
            gives = {"text": "texts", "image": "images", "audio": "sounds"}.get(
                reader.schema, "images and sounds"
            )
            other = reader.schema if reader.schema in ("image", "audio") else "image"
            hint = "text" if kind != "text" and reader.schema == "text" else other
            raise InputError(
                f"{file.path} is read by {reader.name!r}, which gives "
                f"{gives}, and the recipe's schema is {recipe.kind}; say `schema: {hint}`, or "
                "leave such files out of `paths:`."
            )
    return files


def _groups(source: Source, recipe: Recipe) -> list[list[Slice]]:
    """Return the slices of a source's input, grouped into jobs."""
    by_reader: dict[str, list[Any]] = defaultdict(list)
    found, settings = readers(), recipe.collect
    for file in files_of(source, recipe):
        by_reader[reader_for(file.path, source.format)[0].name].append(file)
    return [
        slices
        for name in sorted(by_reader)
        for slices in group(by_reader[name], found[name], _part_bytes(found[name], settings))
    ]


def _part_bytes(reader: Reader, settings: Collect) -> int:
    return (
        min(_BIN_BYTES, settings.part_bytes)
        if reader.one_document_per_file
        else settings.part_bytes
    )


def _job(source: Source, slices: Sequence[Slice], recipe: Recipe) -> PartJob:
    settings, limit = recipe.collect, recipe.limit
    reader = reader_for(slices[0].file.path, source.format)[0]
    more = [] if recipe.kind == "text" else ["curate.readers.media", "curate.media.decode"]
    code = code_digest(__name__, reader.read.__module__, *more)
    spec = source.model_dump(mode="json", exclude={"paths"})
    options = {
        "max_document_bytes": settings.max_document_bytes,
        "limit": limit,
        "part_bytes": settings.part_bytes,
        **media_options(recipe),
    }
    inputs = [
        f"{piece.file.uri}|{piece.file.path}|{piece.file.size}|{piece.file.version}|{piece.start}|{piece.stop}"
        for piece in slices
    ]
    return PartJob(
        part_key(code, [spec, options], *inputs), read_slices, (spec, list(slices), options)
    )


class _Shards:
    """Consecutive document shards of bounded size, and one quarantine shard."""

    def __init__(self, workspace: Workspace, max_bytes: int) -> None:
        self._workspace, self._max_bytes = workspace, max_bytes
        self._writer: ShardWriter | None = None
        self._bytes = 0
        self.documents: list[Shard] = []
        self.quarantined: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:  # an error interrupted a shard: nothing of it stays
            self._writer.__exit__(*error)

    def write(self, table: Any) -> None:
        while table.num_rows:
            lengths = np.cumsum(_lengths(table))
            room = max(
                1, int(np.searchsorted(lengths, self._max_bytes - self._bytes, side="right"))
            )
            head = table.slice(0, room)
            if self._writer is None:
                schema = MEDIA_DOCUMENTS if "media" in table.schema.names else None
                self._writer = self._workspace.writer("documents", schema).__enter__()
            self._writer.write(head)
            self._bytes += int(lengths[head.num_rows - 1])
            if (
                self._bytes >= self._max_bytes
                or self._writer.rows >= _SHARD_ROWS
                or head.num_rows < table.num_rows
            ):
                self.close()
            table = table.slice(head.num_rows)

    def close(self) -> None:
        if self._writer is not None:
            self.documents.append(self._writer.commit())
            self._writer = None
            self._bytes = 0

    def quarantine(self) -> list[Shard]:
        if not self.quarantined:
            return []
        with self._workspace.writer("quarantine") as writer:
            writer.write(pa.Table.from_pylist(self.quarantined, SCHEMAS["quarantine"]))
            return [writer.commit()]


def _lengths(table: Any) -> np.ndarray:
    """Return the bytes of text, and of media where there are any, int64 [n]."""
    lengths = np.asarray(pc.binary_length(table["text"]).to_numpy(), dtype=np.int64)
    return lengths + table["media_bytes"].to_numpy() if "media" in table.schema.names else lengths


def read_slices(
    workspace: Workspace,
    source: Mapping[str, Any],
    slices: Sequence[Slice],
    options: Mapping[str, Any],
) -> Parts:
    """Job: read slices of one source into document and quarantine shards."""
    with _Shards(workspace, options["part_bytes"]) as shards:
        return _read(shards, source, slices, options, Purged(workspace.store))


def _read(
    shards: "_Shards",
    source: Mapping[str, Any],
    slices: Sequence[Slice],
    options: Mapping[str, Any],
    purged: Purged,
) -> Parts:
    bad: list[dict[str, Any]] = []
    records = 0
    left = options["limit"]
    for piece in slices:
        if left is not None and left <= 0:
            break
        position = 0
        try:
            for batch in _batches(source, piece, options):
                cut = batch if left is None else _first(batch, left)
                shards.write(purged.emptied(documents_of(source, piece, cut.records)))
                for reject in cut.rejects:
                    position = max(position, reject.position)
                    shards.quarantined.append(
                        _quarantine(source, piece, reject.position, reject.reason, reject.detail)
                    )
                count = cut.records.num_rows + len(cut.rejects)
                records += count
                if left is not None and (left := left - count) <= 0:
                    break
        except UnreadableFileError as error:
            bad.append({"path": piece.file.path, "uri": piece.file.uri, "message": str(error)})
            records += 1
            shards.quarantined.append(
                _quarantine(source, piece, error.offset, f"unreadable:{error.reason}", str(error))
            )
    shards.close()
    purged.unquote(shards.quarantined)
    counts = {
        "records": records,
        "documents": sum(s.rows for s in shards.documents),
        "quarantined": len(shards.quarantined),
    }
    reasons = Counter(row["reason"] for row in shards.quarantined)
    counts |= {f"quarantined:{reason}": number for reason, number in sorted(reasons.items())}
    return Parts(
        {"documents": shards.documents, "quarantine": shards.quarantine()},
        counts,
        {"bad_files": bad},
    )


def _batches(
    source: Mapping[str, Any], piece: Slice, options: Mapping[str, Any]
) -> Iterator[Batch]:
    reader, compression = reader_for(piece.file.path, source["format"])
    settings = {
        "columns": source["columns"] or {},
        "delimiter": source["delimiter"],
        "options": source["options"],
        "max_document_bytes": options["max_document_bytes"],
    }
    opener = functools.partial(open_stream, piece.file, compression, None)
    if "of" not in options:
        return reader.read(piece, opener, settings)
    assert reader.media is not None, "the recipe's schema and the reader's go together"
    settings |= {"of": options["of"], "pair": options["pair"]}
    batches = reader.media(piece, opener, settings)
    return (decoded(batch, options["of"]) for batch in batches)


def _first(batch: Batch, count: int) -> Batch:
    """Return the first `count` records of a batch (documents first, then rejects)."""
    records = batch.records.slice(0, count)
    return Batch(records, batch.rejects[: count - records.num_rows])


def _quarantine(
    source: Mapping[str, Any], piece: Slice, offset: int, reason: str, detail: str
) -> dict[str, Any]:
    return {
        "source": source["name"],
        "uri": piece.file.path,
        "offset": offset,
        "reason": reason,
        "detail": detail[:300],
    }


def _check_policy(source: str, parts: Sequence[Parts], num_files: int, settings: Collect) -> None:
    """Stop when more is unreadable than the recipe allows; nothing is lost."""
    bad = {row["uri"]: row for part in parts for row in part.info["bad_files"]}
    if len(bad) > settings.bad_files * num_files:
        told = "; ".join(" ".join(row["message"].split()) for row in list(bad.values())[:3])
        raise InputError(
            f"source {source!r}: {len(bad)} of {num_files} files cannot be read ({told}).\n"
            "Mend or remove them, or allow a share with `collect: "
            f"{{bad_files: {-(-100 * len(bad) // num_files) / 100}}}`"
        )
    counts = add_counts(parts)
    quarantined, records = counts.get("quarantined", 0), counts.get("records", 0)
    if quarantined > settings.bad_records * records:
        raise InputError(
            f"source {source!r}: {quarantined} of {records} records cannot be read, more than "
            f"`collect.bad_records` = {settings.bad_records} allows; first: {_first_reason(counts)}"
        )


def _first_reason(counts: Mapping[str, int]) -> str:
    reasons = {
        k.removeprefix("quarantined:"): v for k, v in counts.items() if k.startswith("quarantined:")
    }
    return ", ".join(
        f"{name} {number}" for name, number in sorted(reasons.items(), key=lambda kv: -kv[1])[:3]
    )


def _check_rows(
    store: Store, tables: Mapping[str, Sequence[Shard]], counts: dict[str, int], *, limited: bool
) -> None:
    """Every record read is one document or one quarantine row, by the files' own footers."""
    found = {
        name: sum(int(footer(store.storage, shard)["rows"]) for shard in shards)
        for name, shards in tables.items()
    }
    counts["documents"], counts["quarantined"] = found["documents"], found["quarantine"]
    if limited:  # parts read ahead of the limit; the surplus is cut afterwards
        counts["records"] = found["documents"] + found["quarantine"]
    if found["documents"] + found["quarantine"] != counts["records"]:
        raise IntegrityError(
            f"conservation broken in collect: {counts['records']} records were read, "
            f"{found['documents']} became "
            f"documents and {found['quarantine']} went to quarantine; nothing was committed"
        )

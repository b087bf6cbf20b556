"""The artefacts behind made signals: read from the recipe's files, or fitted and pinned.

What is fitted is counted shard by shard and merged once. It is then pinned, like the tokenizer: a
later run with more documents measures with the same model, so that numbers stay comparable, until
a refit is asked for. What is read from files follows the files.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import sha256_of
from curate.readers.base import InputFile, Slice
from curate.readers.discover import expand, open_stream
from curate.readers.registry import reader_for
from curate.signals.making import CORPUS, REFERENCE, Reference, Role
from curate.signals.registry import Unit, makers
from pipelines.digest import code_digest
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts

__all__ = [
    "FACTS",
    "artefact_of",
    "count_reference",
    "count_shard",
    "file_contents",
    "reference_files",
    "unit_code",
]

FACTS = b"preceptor.facts"  # in an artefact's schema: what it tells of itself, as JSON
_MAX_FILE_BYTES = 64 << 20
_SLICE_BYTES = 64 << 20


def unit_code(unit: Unit, *modules: str) -> str:
    """Return the digest of the code that makes and measures a unit."""
    code = makers()[unit.maker].code
    own = code_digest(*modules, f"curate.signals.{unit.maker}")
    return own if code is None else fingerprint(own, code(unit.settings))


def artefact_of(context: Context, unit: Unit, documents: Sequence[Shard]) -> Parts | None:
    """Return the part that holds a unit's artefact, None where it has none."""
    maker = makers()[unit.maker]
    if maker.adopt is not None:
        return _adopted(context, unit)
    contents = file_contents(context.recipe.base, unit)
    if contents is not None:
        key = part_key(
            unit_code(unit, __name__), _key_of(unit), *(fingerprint(data) for data in contents)
        )
        (loaded,) = run_parts(
            context, "measure", "load", [PartJob(key, load_artefact, (unit, contents))]
        )
        return loaded
    return _fitted(context, unit, documents) if maker.fit is not None else None


def _adopted(context: Context, unit: Unit) -> Parts:
    """Return the part that holds a copy of a large file, named by its content."""
    path = Path(context.recipe.base) / unit.settings["path"]
    digest = _digest(unit, path)
    key = part_key(unit_code(unit, __name__), _key_of(unit), digest)
    job = PartJob(key, adopt_file, (unit, str(path.absolute()), digest))
    (adopted,) = run_parts(context, "measure", "load", [job])
    return adopted


def _digest(unit: Unit, path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return sha256_of(stream)
    except OSError as error:
        told = f"cannot read {unit.settings['path']}: {error.strerror}"
        raise InputError(f"measure: {unit.label}: {told}") from None


def adopt_file(workspace: Workspace, unit: Unit, path: str, digest: str) -> Parts:
    """Job: copy a file of the recipe into the store, mapped and not read as a whole.

    Raises:
        InputError: it is not what it was when the run began.
    """
    adopt = makers()[unit.maker].adopt
    assert adopt is not None, "only such makers come here"
    if _digest(unit, Path(path)) != digest:
        raise InputError(f"measure: {unit.label}: {path} changed while the run began; run it again")
    return _written(workspace, adopt(unit.settings, Path(path)), kind="arrow")


def file_contents(base: str, unit: Unit) -> tuple[bytes, ...] | None:
    """Return the content of the files a unit is read from, None where it is read from none.

    Raises:
        InputError: a file that cannot be read.
    """
    maker = makers()[unit.maker]
    if maker.files is None:
        return None
    contents = []
    for name in maker.files(unit.settings):
        try:
            with (Path(base) / name).open("rb") as stream:
                data = stream.read(_MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            told = getattr(error, "strerror", None) or error
            raise InputError(f"measure: {unit.label}: cannot read {name}: {told}") from None
        if len(data) > _MAX_FILE_BYTES:
            raise InputError(
                f"measure: {unit.label}: {name} is too large (limit {_MAX_FILE_BYTES >> 20} MB)"
            )
        contents.append(data)
    return tuple(contents)


def _key_of(unit: Unit) -> dict[str, Any]:
    return {"maker": unit.maker, "unit": unit.name, "settings": dict(unit.settings)}


def load_artefact(workspace: Workspace, unit: Unit, contents: Sequence[bytes]) -> Parts:
    """Job: read an artefact from the content of its files."""
    load = makers()[unit.maker].load
    assert load is not None, "whoever has files reads them"
    return _written(workspace, load(unit.settings, contents))


def _written(workspace: Workspace, table: Any, kind: str = "parquet") -> Parts:
    facts = (table.schema.metadata or {}).get(FACTS)
    with workspace.writer("artefact", table.schema, kind=kind) as writer:
        writer.write(table)
        written = writer.commit()
    return Parts({"artefact": [written]}, {}, {"facts": json.loads(facts) if facts else {}})


def _fitted(context: Context, unit: Unit, documents: Sequence[Shard]) -> Parts:
    """Return the pinned artefact, or count, merge and pin it."""
    fit = makers()[unit.maker].fit
    assert fit is not None, "only what is fitted comes here"
    recipe = context.recipe
    wanted = {**_key_of(unit), "form": fit.form, "limit": recipe.limit}
    pins = context.store.pins("measure", fingerprint(recipe.name, canonical_json(wanted)))
    length = pins.length()
    if length and not context.refit:
        return Parts.from_dict(pins.read(length)["artefact"])
    code = unit_code(unit, __name__)
    counted: dict[Role, tuple[Shard, ...]] = {}
    for role in fit.roles(unit.settings):
        if role == CORPUS:
            jobs = [
                PartJob(
                    part_key(code, _key_of(unit), role, shard.sha256), count_shard, (unit, shard)
                )
                for shard in documents
            ]
        else:
            jobs = _reference_jobs(code, unit, fit.reference(unit.settings), recipe.base)
        parts = run_parts(context, "measure", f"count {unit.label}", jobs)
        counted[role] = tuple(shard for part in parts for shard in part.tables["counts"])
    content = [f"{role}:{shard.sha256}" for role in counted for shard in counted[role]]
    job = PartJob(
        part_key(code, _key_of(unit), "merge", *content),
        merge_counts,
        (unit, counted.get(CORPUS, ()), counted.get(REFERENCE, ())),
    )
    (fitted,) = run_parts(context, "measure", f"fit {unit.label}", [job])
    record = fitted.to_dict()
    if not context.peek and (not length or pins.read(length)["artefact"] != record):
        pins.append({"artefact": record}, after=length)
        return Parts.from_dict(pins.read(pins.length())["artefact"])
    return fitted


def count_shard(workspace: Workspace, unit: Unit, shard: Shard) -> Parts:
    """Job: count one shard of documents."""
    return _counted(
        workspace, unit, CORPUS, iter_batches(workspace.storage, shard, ["text", "text_hash"])
    )


def _counted(workspace: Workspace, unit: Unit, role: Role, batches: Iterator[Any]) -> Parts:
    fit = makers()[unit.maker].fit
    assert fit is not None, "only what is fitted is counted"
    table = fit.count(role, batches, unit.settings)
    with workspace.writer("counts", table.schema) as writer:
        writer.write(table)
        return Parts({"counts": [writer.commit()]})


def merge_counts(
    workspace: Workspace, unit: Unit, corpus: Sequence[Shard], reference: Sequence[Shard]
) -> Parts:
    """Job: add up the counts of all shards and make the artefact."""
    fit = makers()[unit.maker].fit
    assert fit is not None, "only what is fitted is merged"
    tables: Mapping[Role, Any] = {
        CORPUS: (read_shard(workspace.storage, shard) for shard in corpus),
        REFERENCE: (read_shard(workspace.storage, shard) for shard in reference),
    }
    return _written(workspace, fit.merge(tables, unit.settings))


def reference_files(base: str, unit: Unit, reference: Reference) -> list[InputFile]:
    """Return the files of a reference set.

    Raises:
        InputError: a pattern without files, a format that nobody reads.
    """
    try:
        return expand(list(reference.paths), base, reference.format)
    except InputError as error:
        raise InputError(f"measure: {unit.label}: {error}") from None


def _reference_jobs(code: str, unit: Unit, reference: Reference | None, base: str) -> list[PartJob]:
    assert reference is not None, "a unit that counts a reference set has one"
    jobs = []
    for file in reference_files(base, unit, reference):
        reader, _ = reader_for(file.path, reference.format)
        readers = code_digest(reader.read.__module__)
        for piece in reader.split(file, _SLICE_BYTES):
            identity = f"{file.uri}|{file.size}|{file.version}|{piece.start}|{piece.stop}"
            key = part_key(code, _key_of(unit), REFERENCE, identity, readers)
            jobs.append(PartJob(key, count_reference, (unit, piece)))
    return jobs


def count_reference(workspace: Workspace, unit: Unit, piece: Slice) -> Parts:
    """Job: count one slice of a reference set.

    Raises:
        InputError: a record that cannot be read.
    """
    fit = makers()[unit.maker].fit
    reference = fit.reference(unit.settings) if fit else None
    assert reference is not None, "a unit that counts a reference set has one"
    return _counted(workspace, unit, REFERENCE, _texts(unit, reference, piece))


def _texts(unit: Unit, reference: Reference, piece: Slice) -> Iterator[Any]:
    """Yield the records of a slice, as batches with a column text."""
    reader, compression = reader_for(piece.file.path, reference.format)
    names = list(reference.columns)
    options = {
        "columns": {"text": names if len(names) > 1 else names[0]},
        "delimiter": None,
        "max_document_bytes": None,
        "options": {},
    }
    opener = functools.partial(open_stream, piece.file, compression, None)
    for batch in reader.read(piece, opener, options):
        if batch.rejects:
            first = batch.rejects[0]
            raise InputError(
                f"measure: {unit.label}: {piece.file.path} record {first.position} cannot be read "
                f"({first.reason}: {first.detail}); a reference set must be whole"
            )
        if batch.records.num_rows:
            yield batch.records.select(["text"])

"""Numbers that another tool computed, joined on the document's id and, where told, its text.

`preceptor import` writes them into an Arrow file, sorted by id; a recipe names the file and the
signals it takes from it. A document without a row is null. A row that tells the hash of the text
it was computed on is refused for any other revision of that text.

>>> import pyarrow as pa
>>> one = {"path": "x.arrow", "signals": {"edu": "number"}, "stale": "refuse"}
>>> rows = {"doc_id": [b"a" * 16], "text_hash": [None], "edu": [0.5]}
>>> schema = file_schema(one["signals"])
>>> family = MAKER.make("edu", one, pa.table(rows, schema=schema))
>>> ids = pa.array([b"b" * 16, b"a" * 16], pa.binary(16))
>>> family.measure(ids, ids)["edu"].to_pylist()
[None, 0.5]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, one_of
from curate.signals.base import Family, Signal
from curate.signals.making import Maker, Settings

__all__ = ["KINDS", "LEAVE_OUT", "MAKER", "file_schema", "kind_of", "open_imported"]

KINDS: dict[str, Any] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "text": pa.string(),
}
LEAVE_OUT = "leave_out"
_IDENTITY = [pa.field("doc_id", pa.binary(16)), pa.field("text_hash", pa.binary(16))]


def kind_of(dtype: Any) -> str | None:
    """Return what a recipe calls a type, None where it has no name for it."""
    return next((kind for kind, known in KINDS.items() if known == dtype), None)


def file_schema(signals: Mapping[str, str]) -> Any:
    """Return the columns of a file of imported numbers; `signals` is name -> kind."""
    return pa.schema([*_IDENTITY, *(pa.field(name, KINDS[kind]) for name, kind in signals.items())])


def open_imported(settings: Settings, path: Path) -> Any:
    """Open a file and return what the recipe asks of it, memory-mapped.

    Raises:
        InputError: no such file, no Arrow file, no such signal, another kind, ids that are null,
            unordered or there twice.
    """
    where = f"measure.imported: {settings['path']}"
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # offsets of a hostile file may point anywhere
        there = dict(zip(table.column_names, table.schema.types, strict=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        told = getattr(error, "strerror", None) or "it is no Arrow file of `preceptor import`"
        raise InputError(f"{where} cannot be read: {told}") from None
    wanted = file_schema(settings["signals"])
    for field in wanted:
        if field.name not in there:
            names = [name for name in there if name not in ("doc_id", "text_hash")]
            raise InputError(f"{where}: {one_of('signal', field.name, names)}")
        found = there[field.name]
        if found != field.type:
            kinds = kind_of(found) or str(found), kind_of(field.type) or str(field.type)
            raise InputError(f"{where}: {field.name} is {kinds[0]} there, and {kinds[1]} here")
    table = table.select(wanted.names).cast(wanted)
    keys = _keys(_one(table["doc_id"])) if not table["doc_id"].null_count else None
    if keys is None or not bool((keys[1:] > keys[:-1]).all()):
        raise InputError(
            f"{where} is not sorted by doc_id, each once; `preceptor import` writes so"
        )
    return table


def _one(column: Any) -> Any:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _keys(ids: Any) -> Any:
    """View ids as fixed strings: NumPy orders them as bytes, and ends of zeros are equal."""
    buffer = ids.buffers()[1]
    if buffer is None or not len(ids):
        return np.empty(0, dtype="S16")
    return np.frombuffer(buffer, dtype="S16")[ids.offset : ids.offset + len(ids)]


def _units(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "path": one["path"],
            "signals": dict(one["signals"]),
            "stale": one.get("stale", "refuse"),
        }
        for name, one in value.items()
    }


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    about = f"imported as {unit}"
    return {name: Signal(KINDS[kind], about) for name, kind in settings["signals"].items()}


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    signals = _signals(unit, settings)
    names = list(signals)
    rows = {name: _one(artefact[name]) for name in ("doc_id", "text_hash", *names)}
    keys = _keys(rows["doc_id"])

    def measure(ids: Any, hashes: Any) -> Any:
        if not len(keys) or ids.type != pa.binary(16):
            empty = [pa.nulls(len(ids), signal.dtype) for signal in signals.values()]
            return pa.table(empty, names=names)
        mine = _keys(ids)
        at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        found = keys[at] == mine
        index = pa.array(at, mask=~found)
        told = rows["text_hash"].take(index)
        other = pc.fill_null(pc.not_equal(told, hashes), False).to_numpy(zero_copy_only=False)
        if other.any():
            if settings["stale"] != LEAVE_OUT:
                raise InputError(_stale(unit, ids, other))
            index = pa.array(at, mask=~found | other)
        return pa.table([rows[name].take(index) for name in names], names=names)

    return Family(
        name=f"imported:{unit}", signals=signals, measure=measure, reads=("doc_id", "text_hash")
    )


def _stale(unit: str, ids: Any, other: Any) -> str:
    first = ids[int(np.flatnonzero(other)[0])].as_py().hex()
    return (
        f"measure.imported.{unit}: {int(other.sum()):,} of {len(ids):,} documents looked at have "
        f"another text than the one their numbers were computed on, the first is {first}; compute "
        f"and import them again, or say `stale: {LEAVE_OUT}`"
    )


MAKER = Maker(
    name="imported",
    columns="<name>_<column>",
    description="what another tool computed, from a file of `preceptor import`",
    units=_units,
    signals=_signals,
    make=_make,
    adopt=open_imported,
)

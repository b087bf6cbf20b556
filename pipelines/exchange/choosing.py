"""Which documents an export holds: as kept, every one once, or as the mixture drew them.

`kept` follows the corpus: shards in order, documents in order. `drawn` is the training stream of
each phase in turn: the copies of a document lie in different rounds, and a round follows an order
keyed by the recipe's seed, so consumers that do not shuffle are served too. Held-out splits are
never drawn; of them an export holds what is packed, one copy each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, one_of
from curate.corpus.identity import ids_to_numpy
from curate.corpus.shard import read_shard
from curate.mixture.keyed import keyed_order
from pipelines.corpus import Corpus

__all__ = [
    "SPLITS",
    "WHAT",
    "Choice",
    "choose",
    "copies_in",
    "drawn_places",
    "held_out_in",
    "phases_of",
    "round_order",
    "told",
]

SPLITS = ("train", "validation", "test")
WHAT = ("kept", "drawn")
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to export.

    Attributes:
        what: kept or drawn.
        phases: numbers of the phases, in order; empty for `kept`.
        draws: doc_id, phase, copies of those phases, only drawn ones; None for `kept`.
        held_out: doc_id of the held-out documents that are packed; None: all of them.
        names: of the phases.
    """

    what: str
    phases: tuple[int, ...] = ()
    draws: Any = None
    held_out: Any = None
    names: tuple[str, ...] = ()


def phases_of(corpus: Corpus) -> list[str]:
    """Return the names of the mixture's phases; one, `train`, without a curriculum."""
    settings = corpus.manifest("mix").settings
    return [str(phase["name"]) for phase in settings.get("phases") or [{"name": "train"}]]


def choose(corpus: Corpus, what: str = "kept", phase: str | None = None) -> Choice:
    """Read the draws that are wanted.

    Raises:
        InputError: an unknown choice or phase, a phase of what is not drawn.
    """
    if what not in WHAT:
        raise InputError(one_of("choice of documents", what, WHAT))
    if what == "kept":
        if phase is not None:
            raise InputError("--phase chooses among what is drawn; add --what drawn")
        return Choice(what=what)
    names = phases_of(corpus)
    if phase is not None and phase not in names:
        raise InputError(one_of("phase", phase, names))
    numbers = tuple(n for n, name in enumerate(names) if phase in (None, name))
    storage = corpus.store.storage
    columns = ["doc_id", "copies"]
    tables = []
    for shard in corpus.shards("draws"):
        table = read_shard(storage, shard)
        number = (
            table["phase"].cast(pa.int16())
            if "phase" in table.column_names
            else pa.array(np.zeros(table.num_rows, dtype=np.int16))
        )
        tables.append(table.select(columns).append_column("phase", number))
    draws = pa.concat_tables(tables) if tables else _NO_DRAWS.empty_table()
    wanted = pc.and_(
        pc.greater(draws["copies"], 0), pc.is_in(draws["phase"], pa.array(numbers, pa.int16()))
    )
    held = corpus.manifest("mix").tables.get("held_out")
    ids = [read_shard(storage, shard, ["doc_id"])["doc_id"] for shard in held or ()]
    return Choice(
        what=what,
        phases=numbers,
        names=tuple(names[n] for n in numbers),
        draws=draws.filter(wanted).combine_chunks(),
        held_out=None if held is None else _one_array(ids),
    )


_NO_DRAWS = pa.schema([("doc_id", pa.binary(16)), ("copies", pa.int32()), ("phase", pa.int16())])


def _one_array(columns: Sequence[Any]) -> Any:
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.binary(16)).combine_chunks()


def copies_in(choice: Choice, phase: int) -> Callable[[Any], I64]:
    """Return a function: ids -> how often each is drawn in a phase, int64 [n]."""
    mine = _of_phase(choice, phase)
    return _looked_up(mine["doc_id"], mine["copies"].to_numpy())


def round_order(ids: Any, seed: int, phase: int, number: int) -> I64:
    """Return the order of the documents in a round of a phase: positions in `ids`, int64 [n]."""
    return keyed_order(ids, seed, f"export:{phase}:{number}")


def held_out_in(choice: Choice) -> Callable[[Any], I64]:
    """Return a function: ids of held-out documents -> 1 for each that the choice holds, else 0."""
    if choice.held_out is None:
        return lambda ids: np.ones(len(ids), dtype=np.int64)
    return _looked_up(choice.held_out, np.ones(len(choice.held_out), dtype=np.int64))


def _looked_up(ids: Any, values: np.ndarray) -> Callable[[Any], I64]:
    """Return a function that looks ids up in a table sorted once; 0 where there is no row."""
    keys = _keys(ids)
    order = np.argsort(keys)
    keys, values = keys[order], values[order].astype(np.int64)

    def look(wanted: Any) -> I64:
        mine = _keys(wanted)
        if not len(keys):
            return np.zeros(len(mine), dtype=np.int64)
        at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        return np.where(keys[at] == mine, values[at], 0)

    return look


def _keys(ids: Any) -> Any:
    """Return ids as fixed strings, which NumPy orders as bytes."""
    return np.ascontiguousarray(ids_to_numpy(ids)).view("S16").reshape(-1)


def _of_phase(choice: Choice, phase: int) -> Any:
    return choice.draws.filter(pc.equal(choice.draws["phase"], pa.scalar(phase, pa.int16())))


def drawn_places(choice: Choice, phase: int, places: pl.DataFrame) -> tuple[pl.DataFrame, I64]:
    """Return the places (doc_id and columns) of a phase's documents, and their copies.

    Raises:
        AssertionError: a document is drawn that has no place.
    """
    frame = pl.DataFrame(pl.from_arrow(_of_phase(choice, phase))).select("doc_id", "copies")
    joined = frame.join(places, on="doc_id", how="inner").sort("shard", "row")
    assert joined.height == frame.height, "every drawn document is tokenized"
    return joined.drop("copies"), joined["copies"].to_numpy().astype(np.int64)


def told(choice: Choice) -> Mapping[str, Any]:
    """Return what the lineage says of the choice."""
    return {"what": choice.what, **({"phases": list(choice.names)} if choice.names else {})}

"""What every pass shares: parts that are done once, and a manifest assembled from their records.

Resume, retry and incremental build are one thing: a job whose key has a record is done. A key is a
digest of the content the job reads, its settings and its code, so the second run of a recipe finds
every record and starts no worker.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, ShardWriter, hold
from curate.corpus.storage import Storage
from pipelines.engine import Engine
from pipelines.recipe import Recipe
from pipelines.store import Store

__all__ = [
    "Context",
    "Event",
    "PartJob",
    "Parts",
    "PerShard",
    "Workspace",
    "part_key",
    "run_parts",
    "tables_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a person may want to see while a pass runs.

    Attributes:
        kind: `start` (of a stage), `part` (one more part is done), `done` (the pass is), or `note`.
        name: the pass.
        stage: what the parts are, such as `read` or `match`.
        done: parts finished so far, of `total`.
        reused: of those, found finished from an earlier run.
        message: for notes.
        seconds: for `done`.
    """

    kind: Literal["start", "part", "done", "note"]
    name: str
    stage: str = ""
    done: int = 0
    total: int = 0
    reused: int = 0
    message: str = ""
    seconds: float = 0.0


def _ignore(event: Event) -> None:
    del event


@dataclass(slots=True, kw_only=True)
class Context:
    """What a pass may use: the store, the engine, the recipe, and the manifests made so far."""

    store: Store
    engine: Engine
    recipe: Recipe
    manifests: dict[str, Manifest] = field(default_factory=dict)
    observe: Callable[[Event], None] = _ignore
    refit: bool = False
    executed: int = 0  # parts that were not found done
    followers: Sequence["PerShard"] = ()  # what `clean` may do at once with what it has written
    ahead: set[tuple[str, str]] = field(default_factory=set)  # (pass, key) done by a follower
    peek: bool = False  # only look at what is done; `run_parts` raises PendingError for the rest

    def note(self, name: str, message: str) -> None:
        """Tell the person something worth knowing."""
        self.observe(Event(kind="note", name=name, message=message))


class PendingError(RuntimeError):
    """A pass has work to do (raised instead of doing it when only looking)."""

    def __init__(self, name: str, todo: int, total: int) -> None:
        super().__init__(f"{name}: {todo} of {total} parts to do")
        self.name, self.todo, self.total = name, todo, total


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a job writes: opens shards of its pass in its store."""

    store: Store
    name: str
    held: "Held | None" = None

    @property
    def storage(self) -> Storage:
        """The store's storage."""
        return self.store.storage

    def writer(self, table: str, schema: Any = None, *, kind: str = "parquet") -> ShardWriter:
        """Open a shard of a table; the schema is the declared one unless given."""
        return ShardWriter(
            self.storage,
            f"{self.name}/data",
            table,
            SCHEMAS[table] if schema is None else schema,
            kind=kind,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """The result of a job: shards by table, integers, and JSON facts."""

    tables: Mapping[str, Sequence[Shard]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the part record."""
        return {
            "tables": {
                name: [shard.to_dict() for shard in shards] for name, shards in self.tables.items()
            },
            "counts": dict(self.counts),
            "info": dict(self.info),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Parts":
        """Rebuild from the part record."""
        tables = {
            name: [Shard.from_dict(shard) for shard in shards]
            for name, shards in record["tables"].items()
        }
        return cls(tables, record["counts"], record["info"])


@dataclass(frozen=True, slots=True)
class PartJob:
    """A job with the key under which its result is remembered."""

    key: str
    function: Callable[..., Parts]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerShard:
    """A stage that does the same to every shard of documents.

    Attributes:
        name: the pass.
        code: digest of its sources.
        settings: what is asked, for the keys.
        content: what else the jobs read, for the keys.
        function: the job: (workspace, shard, *arguments) -> Parts.
        arguments: the same for every shard, small.
    """

    name: str
    code: str
    settings: Any
    content: tuple[str, ...] = ()
    function: Callable[..., Parts]
    arguments: tuple[Any, ...] = ()

    def job(self, shard: Shard) -> PartJob:
        """Return the job for one shard."""
        key = part_key(self.code, self.settings, shard.sha256, *self.content)
        return PartJob(key, self.function, (shard, *self.arguments))


@dataclass(slots=True)
class Held:
    """The shard of documents that a job has written, kept in memory for its followers."""

    shard: Shard | None = None
    batches: list[Any] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of documents held."""
        return sum(batch.num_rows for batch in self.batches)


def part_key(code: str, settings: Any, *content: str) -> str:
    """Return a part's key: a digest of code, settings and the content it reads."""
    return fingerprint(code, canonical_json(settings), *content)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A long list of shards, as a file in the store: every job of a stage would carry it."""

    path: str


_LONG_LIST = 64  # shards
_KEPT = 8


def _listed(store: Store, name: str, argument: Any, known: dict[int, Catalogue]) -> Any:
    """Put a long tuple of shards, or that of a dataclass, into the store; return what is sent."""
    if isinstance(argument, tuple):
        if len(argument) <= _LONG_LIST or not isinstance(argument[0], Shard):
            return argument
        if id(argument) not in known:
            data = canonical_json([shard.to_dict() for shard in argument])
            path = f"{name}/data/{fingerprint(data)}.json"
            store.storage.create(path, data)
            known[id(argument)] = Catalogue(path)
        return known[id(argument)]
    return _with_fields(argument, lambda value: _listed(store, name, value, known))


def _opened(store: Store, argument: Any) -> Any:
    """Undo `_listed`."""
    if isinstance(argument, Catalogue):
        return _read_catalogue(store, argument.path)
    return _with_fields(argument, lambda value: _opened(store, value))


_catalogues: dict[tuple[str, str], tuple[Shard, ...]] = {}  # the last ones read in this process


def _read_catalogue(store: Store, path: str) -> tuple[Shard, ...]:
    found = _catalogues.get((store.uri, path))
    if found is None:
        data = store.storage.read(path)
        if data is None:
            raise IntegrityError(f"{path} is missing from the store {store.uri}")
        found = tuple(Shard.from_dict(shard) for shard in json.loads(data))
        if len(_catalogues) >= _KEPT:
            _catalogues.clear()
        _catalogues[store.uri, path] = found
    return found


def _with_fields(argument: Any, change: Callable[[Any], Any]) -> Any:
    """Return a dataclass whose tuples of shards are changed; anything else as it is."""
    if not is_dataclass(argument) or isinstance(argument, type | Shard | Catalogue):
        return argument
    changed = {
        item.name: change(value)
        for item in fields(argument)
        if isinstance(value := getattr(argument, item.name), tuple | Catalogue)
    }
    return replace(argument, **changed) if changed else argument


def _execute(
    store: Store,
    name: str,
    key: str,
    function: Callable[..., Parts],
    arguments: tuple[Any, ...],
    followers: Sequence[PerShard] = (),
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Run one job where the engine put it, and publish its record.

    Returns:
        The record, and (pass, key) of what the followers did.
    """
    held = Held() if followers else None
    workspace = Workspace(store, name, held)
    parts = function(workspace, *(_opened(store, one) for one in arguments))
    record = store.put_part(name, key, parts.to_dict())
    if held is None or held.shard is None or held.rows != held.shard.rows:
        return record, []  # a row that was lost on the way is the pass's to tell
    with hold(store.storage, held.shard, held.batches):
        return record, [done for one in followers if (done := _follow(store, one, held.shard))]


def _follow(store: Store, stage: PerShard, shard: Shard) -> tuple[str, str] | None:
    """Do a later pass's job on a shard whose text is in memory; return its (pass, key).

    It spares one reading of the text. Whatever goes wrong is left to that pass, which runs the job
    again and tells.
    """
    job = stage.job(shard)
    if store.get_part(stage.name, job.key) is not None:
        return None
    with contextlib.suppress(Exception):
        parts = job.function(Workspace(store, stage.name), *job.arguments)
        store.put_part(stage.name, job.key, parts.to_dict())
        return stage.name, job.key
    return None


def run_parts(
    context: Context,
    name: str,
    stage: str,
    jobs: Sequence[PartJob],
    followers: Sequence[PerShard] = (),
) -> list[Parts]:
    """Return the results of all jobs in order, running those that have no record yet.

    Args:
        context: of the run.
        name: the pass.
        stage: what the parts are, for people.
        jobs: what is to be done.
        followers: stages of later passes that may follow each job while its text is in memory.
    """
    records: list[dict[str, Any] | None] = [context.store.get_part(name, job.key) for job in jobs]
    todo = [index for index, record in enumerate(records) if record is None]
    ahead = sum((name, job.key) in context.ahead for job in jobs)
    reused = len(jobs) - len(todo) - ahead
    if todo and context.peek:
        raise PendingError(name, len(todo), len(jobs))

    def tell(kind: Literal["start", "part"], done: int) -> None:
        context.observe(
            Event(kind=kind, name=name, stage=stage, done=done, total=len(jobs), reused=reused)
        )

    tell("start", reused)
    done = reused
    for _ in range(ahead):
        done += 1
        context.executed += 1
        tell("part", done)
    known: dict[int, Catalogue] = {}
    work = []
    for job in (jobs[index] for index in todo):
        sent = tuple(_listed(context.store, name, one, known) for one in job.arguments)
        arguments = (context.store, name, job.key, job.function, sent, tuple(followers))
        work.append((_execute, arguments))
    for position, (record, followed) in context.engine.run_all(work):
        records[todo[position]] = record
        context.ahead.update(followed)
        done += 1
        context.executed += 1
        tell("part", done)
    assert all(record is not None for record in records), "an engine must run every job"
    return [Parts.from_dict(record) for record in records if record is not None]


def tables_of(parts: Sequence[Parts], *names: str) -> dict[str, tuple[Shard, ...]]:
    """Collect the shards of some tables over all parts, in order; empty shards are left out."""
    return {
        name: tuple(shard for part in parts for shard in part.tables.get(name, ()) if shard.rows)
        for name in names
    }


def add_counts(parts: Sequence[Parts]) -> dict[str, int]:
    """Sum the parts' integers by name."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.counts.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def finish(context: Context, manifest: Manifest, began: float) -> Manifest:
    """Publish a pass's manifest and tell it."""
    if not context.peek:
        context.store.put_manifest(manifest)
    context.manifests[manifest.name] = manifest
    context.observe(Event(kind="done", name=manifest.name, seconds=time.monotonic() - began))
    return manifest


def check_text_hash(name: str, left: Any, right: Any) -> None:
    """Refuse to join rows that were computed on another revision of the text.

    Raises:
        IntegrityError: any hash differs.
    """
    if not left.equals(right):
        raise IntegrityError(
            f"{name} was computed on another revision of the text; remove the store and run again"
        )

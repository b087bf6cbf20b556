"""The bytes of forgotten documents out of every file of the store.

The current versions are free of them already (`masking`). Here every file of the store is looked
at, by the table its footer names, whoever made it and whether or not anything names it still: what
holds a forgotten text is deleted, and the versions that need such a file are marked withdrawn.
Nothing is edited in place, since a file's name is its content.

The order matters, for a process may be killed between any two steps:

    withdraw    versions, before any of their files goes: no reader finds half of one
    records     of finished parts that name such a file: those of `collect` name the emptied shard
                from now on, so that a later run of the same input reads no text again; the others
                go, and a later run makes them anew
    files       samples and tokens first and the documents themselves last, by which the rest is
                recognised

So whatever is left is found again by the same command. A run in progress beside it may fail for a
file that is gone; started again, it makes what it needs.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import canonical_json
from curate.corpus.shard import PARQUET, Shard
from curate.corpus.storage import Storage
from pipelines.corpus import Corpus
from pipelines.evidence import HELD_OUT
from pipelines.forget.masking import blank_documents, blank_values
from pipelines.forget.quotes import Texts
from pipelines.store import Store

__all__ = ["Purge", "mark_for_refit", "purge"]

_LAST = ("clean", "collect")  # whose documents recognise the rest
_DATA = ("parquet", "arrow")
_TOKENS = {"doc_id", "source", "split", "num_bytes"}  # of a shard of tokens, or of other units
_TEXT_COLUMNS = ("text", "detail", "example", "line_text", "sample")


@dataclass(kw_only=True)
class Purge:
    """What a purge did.

    Attributes:
        withdrawn: versions, such as `archive@1`.
        deleted: names of files, relative to the store.
        replaced: part records of `collect` that name an emptied shard now.
        dropped: part records that went.
        bytes: of the deleted files.
    """

    withdrawn: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    bytes: int = 0

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.withdrawn or self.deleted or self.replaced or self.dropped)

    def told(self) -> dict[str, Any]:
        """Return it for a receipt."""
        return {
            "withdrawn": self.withdrawn,
            "deleted_files": sorted(self.deleted),
            "deleted_bytes": self.bytes,
            "replaced_records": sorted(self.replaced),
            "dropped_records": sorted(self.dropped),
        }


def purge(store: Store, ids: set[bytes], *, why: str, when: str) -> Purge:
    """Delete every file of the store that holds one of the documents.

    Raises:
        IntegrityError: a current version needs such a file; nothing was deleted.
    """
    storage = store.storage
    storage.sweep()
    names = sorted(_names(storage))
    tainted, texts = _tainted(storage, names, ids)
    done = Purge()
    _withdraw(store, tainted, why, when, done)
    _mend_records(store, names, tainted, _emptier(storage, ids, texts), done)
    any_left = bool(tainted) or done.changed
    made_from_it = [name for name in names if any_left and _is_made_anew(name)]
    for name in [*made_from_it, *sorted(tainted, key=_place)]:
        num_bytes = 0
        with contextlib.suppress(IntegrityError):  # another purge was first
            num_bytes = storage.size(name)
        if storage.remove(name):
            done.bytes += num_bytes
            done.deleted.append(name)
    return done


def _is_made_anew(name: str) -> bool:
    """Say whether a file is a report or what checks found: both quote texts, both come again."""
    folders = name.split("/")
    is_result = folders[0] == "corpora" and folders[2:4] == ["checks", "results"]
    return is_result or folders[0] == "reports"


def _place(name: str) -> tuple[int, str]:
    """Return when a file goes: what was collected last, what was cleaned before it."""
    owner = name.partition("/")[0]
    return (1 + _LAST.index(owner) if owner in _LAST else 0), name


def _names(storage: Storage) -> Iterator[str]:
    """Yield every file of the store: what nothing names must be found too."""
    root = storage.root.lstrip("/")
    for path in storage.fs.find(storage.root):
        yield str(path).lstrip("/").removeprefix(root).lstrip("/")


def _tainted(storage: Storage, names: Sequence[str], ids: set[bytes]) -> tuple[set[str], Texts]:
    """Return the files that hold a text, or the tokens, of one of the documents; and the texts."""
    data = [name for name in names if name.rpartition(".")[2] in _DATA and "/data/" in name]
    wanted = pa.array(sorted(ids), pa.binary(16))
    texts: set[str] = set()
    keys: set[str] = set()
    tainted = set()
    rest = []
    for name in data:
        with _opened(storage, name) as file:
            if {"doc_id", "text"} <= set(file.names):
                if mine := list(file.texts(wanted)):
                    tainted.add(name)
                    texts.update(text for text, _ in mine)
                    keys.update(key for _, key in mine if key)
            elif set(file.names) >= _TOKENS and "kept" not in file.names:
                if file.has_tokens(wanted):
                    tainted.add(name)
            else:
                rest.append(name)
    known = Texts(texts, keys)
    for name in rest:
        with _opened(storage, name) as file:
            if file.tells(known, ids):
                tainted.add(name)
    return tainted, known


class _File:
    """A shard of any table, read column by column."""

    def __init__(self, names: Sequence[str], read: Callable[[list[str]], Any]) -> None:
        self.names, self._read = list(names), read

    def texts(self, wanted: Any) -> Iterator[tuple[str, str | None]]:
        """Yield text and key of the documents that have a text, or media, here."""
        if not pc.any(pc.is_in(self._read(["doc_id"])["doc_id"], value_set=wanted)).as_py():
            return
        more = [name for name in ("key", "media_bytes") if name in self.names]
        table = self._read(["doc_id", "text", *more])
        mine = table.filter(pc.is_in(table["doc_id"], value_set=wanted))
        none = [None] * mine.num_rows
        keys, sizes = (
            mine[name].to_pylist() if name in more else none for name in ("key", "media_bytes")
        )
        for text, key, size in zip(mine["text"].to_pylist(), keys, sizes, strict=True):
            if text or key or size:
                yield text, key

    def has_tokens(self, wanted: Any) -> bool:
        """Say whether a document's tokens are here and not masked."""
        table = self._read(["doc_id", "num_bytes"])
        here = pc.is_in(table["doc_id"], value_set=wanted)
        return bool(pc.any(pc.and_(here, pc.greater(table["num_bytes"], 0)), min_count=0).as_py())

    def tells(self, texts: Texts, ids: set[bytes]) -> bool:
        """Say whether a sample or message here tells of a text."""
        if {"benchmark", "item", "text"} <= set(self.names):  # an index: what was held out
            table = self._read(["benchmark", "item", "text"])
            names = pa.array(sorted(one.hex() for one in ids), pa.string())
            mine = pc.and_(
                pc.equal(table["benchmark"].cast(pa.string()), HELD_OUT),
                pc.is_in(table["item"].cast(pa.string()), value_set=names),
            )
            left = table.filter(pc.and_(mine, pc.greater(pc.binary_length(table["text"]), 0)))
            return bool(left.num_rows)
        for name in (column for column in _TEXT_COLUMNS if column in self.names):
            is_told = texts.quoted if name == "detail" else texts.held
            if is_told(pc.unique(self._read([name])[name]).to_pylist()).any():
                return True
        return False


@contextlib.contextmanager
def _opened(storage: Storage, name: str) -> Iterator[_File]:
    """Open a shard; what another purge has deleted since it was listed has no columns."""
    try:
        opened = storage.open(name)
    except IntegrityError:
        opened = None
    if opened is None:
        yield _File((), lambda columns: pa.table({}).select(columns))
        return
    with opened as stream:
        try:
            if name.endswith(PARQUET):
                parquet = pq.ParquetFile(stream)
                yield _File(parquet.schema_arrow.names, lambda columns: parquet.read(columns))
            else:
                reader = ipc.open_file(stream)
                yield _File(reader.schema.names, lambda columns: reader.read_all().select(columns))
        except pa.ArrowInvalid as error:
            raise IntegrityError(
                f"{name} cannot be read, so it cannot be purged: {error}"
            ) from None


def _withdraw(store: Store, tainted: set[str], why: str, when: str, done: Purge) -> None:
    """Mark the versions withdrawn whose files go; refuse if a current one were among them."""
    for name in store.corpora():
        current = store.current(name)
        withdrawn = store.withdrawn(name)
        for version in store.history(name):
            corpus, number = Corpus(store, version), version.number
            used = {
                file.path
                for one in version.manifests
                for shards in corpus.manifest(one).tables.values()
                for shard in shards
                for file in shard.files
            }
            if number in withdrawn or not used & tainted:
                continue
            if current is not None and number == current.number:
                raise IntegrityError(
                    f"{version} is current and needs {min(used & tainted)}, which holds a "
                    "forgotten text; nothing was deleted. Was it published a moment ago? Run the "
                    "same command again"
                )
            log = store.withdrawals(name)
            while not log.append({"version": number, "when": when, "why": why}, after=log.length()):
                pass
            done.withdrawn.append(str(version))


def _mend_records(
    store: Store,
    names: Sequence[str],
    tainted: set[str],
    emptied: Callable[[str, Shard], Shard | None],
    done: Purge,
) -> None:
    """Let no record of a finished part name a file that goes."""
    storage = store.storage
    for name in names:
        owner, _, rest = name.partition("/")
        if not (rest.startswith("parts/") and name.endswith(".json")):
            continue
        data = storage.read(name)
        if data is None or not _paths(data) & tainted:
            continue
        record = json.loads(data)
        new = _replaced(record, tainted, emptied) if owner == "collect" else None
        storage.remove(name)
        if new is None:
            done.dropped.append(name)
        else:
            storage.create(name, canonical_json(new))
            done.replaced.append(name)


def _paths(data: bytes) -> set[str]:
    """Return the paths of the files that a part record names."""
    tables = json.loads(data).get("tables", {})
    shards = (Shard.from_dict(entry) for entries in tables.values() for entry in entries)
    return {file.path for shard in shards for file in shard.files}


def _emptier(
    storage: Storage, ids: set[bytes], texts: Texts
) -> Callable[[str, Shard], Shard | None]:
    """Return what empties a shard of a table of `collect`, and None where it is gone already."""

    def emptied(table: str, shard: Shard) -> Shard | None:
        try:
            if table == "quarantine":
                return blank_values(storage, shard, "detail", texts.quoted)
            return blank_documents(storage, shard, ids)
        except IntegrityError:
            if storage.exists(shard.path):
                raise
            return None

    return emptied


def _replaced(
    record: Mapping[str, Any], tainted: set[str], emptied: Callable[[str, Shard], Shard | None]
) -> dict[str, Any] | None:
    """Return a record that names emptied shards, None where one cannot be emptied."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, shards in record["tables"].items():
        tables[table] = []
        for entry in shards:
            shard: Shard | None = Shard.from_dict(entry)
            if entry["path"] in tainted:
                shard = emptied(table, Shard.from_dict(entry))
            if shard is None:
                return None
            tables[table].append(shard.to_dict())
    return {**record, "tables": tables}


def mark_for_refit(corpus: Corpus) -> list[dict[str, str]]:
    """Return the fitted artefacts of a version, which may have seen any of its documents."""
    found = []
    tokenizer = corpus.recipe.get("tokenize", {}).get("tokenizer", {})
    facts = corpus.manifest("tokenize").info["tokenizer"]
    if tokenizer.get("path") is None and facts is not None:
        found.append({"pass": "tokenize", "artefact": facts["path"]})
    for table, shards in corpus.manifest("measure").tables.items():
        if table == "artefacts":
            found += [{"pass": "measure", "artefact": shard.path} for shard in shards]
    return found

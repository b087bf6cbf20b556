"""The run file: what the command line resolved, checked before the first step.

`run.json` names files by uri and digest. Whatever is missing, cut short or made with another
tokenizer is refused here, with what was found and what to do.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from curate.corpus.errors import InputError, one_of
from train.config import TrainConfig
from train.order import Phase
from train.shards import map_table

__all__ = ["Run", "file_sha256", "load_run", "locked", "read_json", "write_json"]

#: Settings that may change between two starts of one run: they do not touch the arithmetic.
FREE_SETTINGS = frozenset(
    {
        "log_every",
        "eval_every",
        "eval_rows",
        "eval_max_rows",
        "checkpoint_every",
        "keep_checkpoints",
        "baseline_max_tokens",
        "init_from",  # the digest of its weights is in the identity, as are the plans it merges
        "replay",
        "replay_corpus",
        "device",
        "feedback_every",
        "alarms",
        "max_skipped",
        "chance_margin",
        "spike_deviations",
        "spike_steps",
        "max_starved",
        # These move the last bits of a loss, never a row: a run may go on with other machines.
        "micro_rows",
        "parallel",
    }
)
#: Shards of so many bytes in all are compared with their digests whenever a run starts.
QUICK_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Run:
    """A checked run: local files, settings, and the identity that a checkpoint must match.

    `media` says what images, sounds or pairs are like; it is empty for text. Images and sounds have
    no tokenizer: `vocab_size` is 0 and there are no `specials`.
    """

    folder: Path
    id: str
    corpus: Mapping[str, Any]
    tokenizer: Path | None
    vocab_size: int
    specials: Mapping[str, int]
    sources: Sequence[str]
    shards: Sequence[Path]
    plans: Mapping[str, Sequence[Path]]
    row_tokens: int
    config: TrainConfig
    seed: int
    phases: Sequence[Phase]
    identity: Mapping[str, Any]
    token_bytes: Path | None = None
    initial: Mapping[str, Any] | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    media: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_rows(self) -> int:
        """Rows in one step."""
        return self.config.rows_per_step(self.row_tokens)


def load_run(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    verify: bool | None = False,
) -> Run:
    """Read and check a run file; nothing is trained when this raises `InputError`.

    Args:
        path: of `run.json`.
        columns: that the shards must have; by default what the run's objective needs.
        verify: compare the shards' digests too, for which they are read whole; None: if they are
            small enough for that to take seconds.
    """
    file = Path(path).absolute()
    raw = read_json(file)
    if raw.get("format") != 1:
        raise InputError(f"{file}: format is {raw.get('format')!r}; this trainer reads format 1")
    for key, kind in _SHAPE.items():
        if not isinstance(raw.get(key), kind) or (kind is int and isinstance(raw[key], bool)):
            raise InputError(f"{file}: {key!r} is {raw.get(key)!r:.60}; want {kind.__name__}")
    config = TrainConfig.from_mapping(raw["config"])
    media = _media(raw, file)
    why = ""
    if columns is None:
        batch_rows = config.rows_per_step(max(1, raw["row_tokens"]))
        columns, why = _needed(config.objective, media, batch_rows)
    least = 1 if media else 2
    if raw["row_tokens"] < least:
        raise InputError(
            f"{file}: row_tokens is {raw['row_tokens']}; a row has at least {least} tokens or units"
        )
    if not raw["shards"]:
        raise InputError(f"{file} names no shards, so there are no rows; resolve the run again")
    try:
        phases = [
            Phase(first_row=p["first_row"], plan=p["plan"], epoch=p["epoch"])
            for p in raw.get("phases") or [{"first_row": 0, "plan": "train", "epoch": 0}]
        ]
        if verify is None:
            verify = sum(entry.get("bytes", 0) for entry in raw["shards"]) <= QUICK_BYTES
        files = _files(raw, file, columns, verify=verify, why=why)
        tokenizer = raw["tokenizer"] or {"vocab_size": 0, "specials": {}}
        vocab_size, specials = int(tokenizer["vocab_size"]), dict(tokenizer["specials"])
        for name in ("bos", "eos", "pad") if raw["tokenizer"] else ():
            if not 0 <= specials.get(name, -1) < vocab_size:
                raise InputError(f"{file}: the tokenizer has no id for {name!r} below {vocab_size}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: an entry is not as expected: {error!r}") from error
    initial = _initial(raw, file)
    for phase in phases:
        if phase.plan not in raw["plans"]:
            names = sorted(raw["plans"])
            raise InputError(one_of("plan", phase.plan, names) + f" (phases of {file})")
    return Run(
        folder=file.parent,
        id=raw["id"],
        corpus=raw["corpus"],
        vocab_size=vocab_size,
        specials=specials,
        sources=raw["sources"],
        row_tokens=raw["row_tokens"],
        config=config,
        seed=config.seed if config.seed is not None else raw["seed"],
        phases=phases,
        identity=_identity(raw, config, phases, initial),
        initial=initial,
        checks=raw.get("checks") or {},
        media=media,
        **files,
    )


def _media(raw: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the checked `media` of a run file; {} for text, which needs a tokenizer."""
    media: dict[str, Any] = {}
    if raw.get("media") is not None:
        from train.media import checked_media  # imports `train.rows`, which this module serves

        media = checked_media(raw["media"], str(file))
    speaks = media.get("kind") in (None, "pair")
    if speaks != isinstance(raw.get("tokenizer"), dict) or (
        not speaks and raw.get("tokenizer") is not None
    ):
        found = f"{file}: 'tokenizer' is {raw.get('tokenizer')!r:.60}"
        what = f"a corpus of {media.get('kind', 'text')}"
        raise InputError(f"{found}; {what} " + ("wants one: dict" if speaks else "has none: null"))
    return media


#: What a column that a task needs is a column of.
_HOLDS = {"tokens": "text", "pixels": "images", "samples": "sounds", "caption": "captions"}


def _needed(
    objective: str, media: Mapping[str, Any], batch_rows: int
) -> tuple[tuple[str, ...], str]:
    """Return the columns that shards must have for a task, and what to say where one is missing.

    Raises:
        InputError: it is no task for a corpus of this kind, or for steps of so few rows.
    """
    from train.media import columns_of
    from train.objectives import find  # torch

    task = find(objective)
    columns, there = task.needs.names, columns_of(media)
    if batch_rows < task.least_rows:
        raise InputError(
            f"{objective} compares the rows of a step with one another, and train.batch_rows is "
            f"{batch_rows}; give {task.least_rows} or more, the more the better"
        )
    for name in columns:
        if name in _HOLDS and name not in there:
            kind = {None: "text", "image": "images", "audio": "sounds", "pair": "pairs"}
            raise InputError(
                f"{objective} needs {_HOLDS[name]} (column {name}); this corpus holds "
                f"{kind[media.get('kind')]}: choose an objective of it, or another corpus"
            )
    why = f"; the objective {objective!r} needs it: choose another, or tokenize again"
    return (*dict.fromkeys((*there, *columns, "num_bytes")),), why


def _files(
    raw: Mapping[str, Any], file: Path, columns: Sequence[str], *, verify: bool, why: str
) -> dict[str, Any]:
    """Check what a run names; return the local files, by the names that `Run` has for them."""
    base, speaks = file.parent, raw["tokenizer"] or {}
    tokenizer = _tokenizer(speaks, base) if speaks else None
    shards = [_table(entry, base, columns, digest=verify, why=why) for entry in raw["shards"]]
    plans = {
        name: [_table(entry, base, ["spans"], digest=True) for entry in entries]
        for name, entries in raw["plans"].items()
    }
    sizes, ids = speaks.get("num_bytes"), speaks.get("vocab_size")
    token_bytes = _table(sizes, base, ["num_bytes"], digest=True) if sizes else None
    if sizes and sizes["rows"] != ids:
        raise InputError(f"{file}: {sizes['rows']} ids have bytes, of {ids}")
    return {"tokenizer": tokenizer, "shards": shards, "plans": plans, "token_bytes": token_bytes}


def _identity(
    raw: Mapping[str, Any],
    config: TrainConfig,
    phases: Sequence[Phase],
    initial: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what a checkpoint must agree with: whatever shapes the rows and the arithmetic."""
    settings = {k: v for k, v in config.to_mapping().items() if k not in FREE_SETTINGS | {"seed"}}
    return {
        "tokenizer": (raw["tokenizer"] or {}).get("sha256"),
        "shards": _digest([entry["sha256"] for entry in raw["shards"]]),
        "plans": {k: _digest([e["sha256"] for e in v]) for k, v in raw["plans"].items()},
        "phases": [[phase.first_row, phase.plan, phase.epoch] for phase in phases],
        "sources": raw["sources"],
        "row_tokens": raw["row_tokens"],
        "seed": config.seed if config.seed is not None else raw["seed"],
        **({"initial": initial["sha256"]} if initial else {}),
        **({"media": raw["media"]} if raw.get("media") else {}),
        **settings,
    }


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; however this process ends, the system lets go of it.

    Raises:
        InputError: another process holds it.
    """
    with (folder / "train.lock").open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is being trained by another process; wait for it, or stop it, and run "
                "again"
            ) from error
        except OSError:  # some network file systems have no locks; most runs are alone
            pass
        yield


#: What to do where the run's folder takes nothing.
ROOM = "make room or make it writable, and run the same command again"
_SHAPE: dict[str, type] = {
    "id": str,
    "corpus": dict,
    "sources": list,
    "shards": list,
    "plans": dict,
    "row_tokens": int,
    "config": dict,
    "seed": int,
}


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, or raise `InputError`."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{file} holds a {type(raw).__name__}, not an object")
    return raw


def _initial(raw: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    """Return where the run starts: {folder, sha256, spec}, or None for random weights."""
    initial: Any = raw.get("initial")
    if initial is None:
        if raw["config"].get("init_from"):
            raise InputError(f"{file}: init_from is set, 'initial' is missing; resolve it again")
        return None
    for name, kind in (("folder", str), ("sha256", str), ("spec", dict)):
        if not isinstance(initial, dict) or not isinstance(initial.get(name), kind):
            raise InputError(f"{file}: 'initial' is {initial!r:.60}; it has a {name!r} ({kind})")
    return dict(initial)


def _digest(digests: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _local(entry: Mapping[str, Any], base: Path) -> Path:
    """Return a local path; what is remote is copied to a cache named by its digest, verified."""
    uri = str(entry["uri"])
    parts = urlparse(uri)
    if parts.scheme in ("", "file"):
        path = base / (unquote(parts.path) if parts.scheme else uri)
        if not path.is_file():
            raise InputError(f"{path} is named by the run but does not exist; build it again")
        return path
    cache = Path(os.environ.get("PRECEPTOR_CACHE", "~/.cache/preceptor")).expanduser()
    path = cache / f"{entry['sha256']}{Path(parts.path).suffix}"
    if not path.exists() or file_sha256(path) != entry["sha256"]:
        import fsspec

        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with fsspec.open(uri, "rb") as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            found = file_sha256(partial)
            if found != entry["sha256"]:
                raise InputError(f"{uri} has sha256 {found}; the run names {entry['sha256']}")
            partial.replace(path)
        except (OSError, ImportError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{uri} cannot be copied to {cache}: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return path


def _check_digest(entry: Mapping[str, Any], path: Path, what: str) -> None:
    found = file_sha256(path)
    if found != entry["sha256"]:
        raise InputError(
            f"{what} {path} has sha256 {found[:16]}..., the run names {entry['sha256'][:16]}...; "
            "it changed since the run was resolved: resolve the run again"
        )


def _table(
    entry: Mapping[str, Any],
    base: Path,
    columns: Sequence[str],
    *,
    digest: bool = False,
    why: str = "",
) -> Path:
    """Check a shard or plan: size, digest (plans; shards if asked), columns, rows."""
    path = _local(entry, base)
    size = path.stat().st_size
    if "bytes" in entry and size != entry["bytes"]:
        raise InputError(
            f"{path} has {size:,} bytes, the run names {entry['bytes']:,}; it was cut short or "
            "changed: build it again"
        )
    if digest:
        _check_digest(entry, path, "the file")
    found = map_table(path, columns, why).num_rows
    if found != entry["rows"]:
        raise InputError(f"{path} has {found:,} rows, the run names {entry['rows']:,}")
    return path


def _tokenizer(entry: Mapping[str, Any], base: Path) -> Path:
    """Check the tokenizer's digest and that its ids are as many as the run says."""
    path = _local(entry, base)
    _check_digest(entry, path, "the tokenizer")
    content = read_json(path)
    vocabulary = content.get("model", {}).get("vocab", {})
    # A WordLevel or BPE vocabulary is {token: id}; Unigram's is a list, where ids are places.
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = [token["id"] for token in content.get("added_tokens") or []]
    found = max([-1, *ids, *added]) + 1
    if found != entry["vocab_size"]:
        raise InputError(
            f"the tokenizer {path} has {found:,} ids, the run says {entry['vocab_size']:,}; "
            "resolve the run again with the tokenizer that made its shards"
        )
    return path


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}; {ROOM}") from error

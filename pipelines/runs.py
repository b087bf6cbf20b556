"""The training runs of a store: found by id or path, how far each came, and what it reported.

A run is a folder with a `run.json`. What became of it is read from the files that the trainer left
there, so a run that was killed is told as truly as one that ended.
"""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.corpus.errors import InputError, did_you_mean
from pipelines.store import Store, Version

__all__ = [
    "FoundRun",
    "document_losses",
    "feedback",
    "find_run",
    "metrics_of",
    "runs_in",
    "runs_of",
    "show_runs",
]

_SHAPE = {
    "id": str,
    "corpus": dict,
    "config": dict,
    "plans": dict,
    "sources": list,
    "shards": list,
    "row_tokens": int,
}
_FEEDBACK = re.compile(r"feedback-(\d+)-(\d+)\.arrow")  # first and last step
_TAIL_BYTES = 1 << 16  # of the metrics, where only the end is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run on disk.

    Attributes:
        path: of its `run.json`.
        content: of that file.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.path.parent

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.content["id"])

    @property
    def corpus(self) -> str:
        """NAME@VERSION of what it trains on."""
        return f"{self.content['corpus']['name']}@{self.content['corpus']['version']}"

    @property
    def result(self) -> dict[str, Any] | None:
        """What it came to, None where it is not finished."""
        return _json(self.folder / "result.json")

    @property
    def steps(self) -> int | None:
        """How many steps it has, None where that is settled at its start and it has not begun."""
        for known in (_json(self.folder / "resolved.json"), self.result, self.content["config"]):
            if known and known.get("steps") is not None:
                return int(known["steps"])
        return None

    @property
    def changed(self) -> float:
        """When it last came further, in seconds since 1970."""
        files = [self.folder / name for name in ("result.json", "metrics.jsonl", "run.json")]
        return next(path.stat().st_mtime for path in files if path.exists())

    def reads(self, version: Version) -> bool:
        """Return whether it trains on this version."""
        return bool(self.content["corpus"]["fingerprint"] == version.fingerprint)

    def told(self) -> dict[str, Any]:
        """Return its state in a few numbers.

        Keys: run, corpus, state (finished, stopped, step or new), step, steps, alarm (why it
        stopped, or None), held_out_bits_per_byte, when (UTC), folder.
        """
        result, last = self.result, _tail(self.folder / "metrics.jsonl")
        step = max([0, *(int(line["step"]) for line in last)])
        alarm = str(last[-1]["alarm"]) if last and "alarm" in last[-1] else None
        scores = ((result or {}).get("held_out") or {}).get("model") or {}
        state = "finished" if result else "stopped" if alarm else "step" if step else "new"
        return {
            "run": self.id,
            "corpus": self.corpus,
            "state": state,
            "step": step,
            "steps": self.steps,
            "alarm": alarm,
            "held_out_bits_per_byte": scores.get("bits_per_byte"),
            "when": f"{datetime.datetime.fromtimestamp(self.changed, datetime.UTC):%Y-%m-%d %H:%M}",
            "folder": str(self.folder),
        }


def _json(path: Path) -> dict[str, Any] | None:
    """Return a file's object; None where it is not there, or not whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics; one that was cut short ends them."""
    path = folder / "metrics.jsonl"
    return list(_lines(path.read_bytes())) if path.is_file() else []


def _tail(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _TAIL_BYTES))
        data = stream.read()
    return list(_lines(data if size <= _TAIL_BYTES else data.partition(b"\n")[2]))


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for text in data.splitlines():
        try:
            line = json.loads(text)
            line["step"] = int(line["step"])
        except (ValueError, KeyError, TypeError):
            return
        yield line


def runs_in(store: Store, folders: Sequence[str | Path] = ()) -> list[Path]:
    """Return the `run.json` files of a local store and of more folders of runs.

    Raises:
        InputError: a folder that is none, or holds no run.
    """
    found: list[Path] = []
    if store.storage.is_local:
        found += sorted(Path(store.storage.full("runs")).glob("*/run.json"))
    for folder in map(Path, folders):
        mine = [folder / "run.json"] if (folder / "run.json").is_file() else []
        mine += sorted(folder.glob("*/run.json"))
        if not mine:
            raise InputError(f"--runs {folder} holds no run; a run is a folder with a run.json")
        found += mine
    return list(dict.fromkeys(path.resolve() for path in found))


def runs_of(
    store: Store, version: Version | None = None, folders: Sequence[str | Path] = ()
) -> list[FoundRun]:
    """Return the runs of a store, or those of a version, the latest first; others are left out."""
    found = [run for path in runs_in(store, folders) for run in [_opened(path)] if run is not None]
    mine = [run for run in found if version is None or run.reads(version)]
    return sorted(mine, key=lambda run: (-run.changed, run.id))


def _opened(path: Path) -> FoundRun | None:
    content = _json(path) or {}
    if any(not isinstance(content.get(key), kind) for key, kind in _SHAPE.items()):
        return None
    if not isinstance(content.get("tokenizer") or {}, dict):  # images and sounds have none
        return None
    if not {"name", "version", "fingerprint"} <= content["corpus"].keys():
        return None
    return FoundRun(path=path, content=content)


def find_run(name: str, *, store: Store, folders: Sequence[str | Path] = ()) -> FoundRun:
    """Return a run: a folder, a `run.json`, or the beginning of an id in the store.

    Raises:
        InputError: nothing, or several, are called so.
    """
    path = Path(name)
    path = path / "run.json" if path.is_dir() else path
    if path.is_file():
        run = _opened(path.absolute())
        if run is None:
            raise InputError(f"{path} does not describe a run; a run is a folder with a run.json")
        return run
    runs = runs_of(store, folders=folders)
    found = [run for run in runs if run.id.startswith(name)] if name else []
    if len(found) == 1:
        return found[0]
    ids = [run.id for run in found or runs]
    if found:
        raise InputError(f"{name} begins {len(found)} ids of runs: {', '.join(ids[:8])}")
    known = (
        f"there are: {', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''}" if ids else "none yet"
    )
    raise InputError(
        f"no run {name!r} in the store {store.uri}: {known}.{did_you_mean(name, ids)}\n"
        "RUN is a run's folder, its run.json, or the beginning of its id (`preceptor runs`)"
    )


def feedback(runs: Sequence[FoundRun], step: int | None = None) -> pl.LazyFrame:
    """Return what runs measured of each document, a row per step and document.

    Columns: those of the table `feedback`, with the loss as `nats` for each token and as
    `bits_per_byte` (null where a row has no bytes) beside them; ids are binary.

    Args:
        runs: whose files are read.
        step: the only one that is asked for.
    """
    from curate.corpus.schema import SCHEMAS

    empty = pl.LazyFrame(pl.from_arrow(SCHEMAS["feedback"].empty_table()))
    files = [
        path
        for run in runs
        for path in sorted(run.folder.glob("feedback/*.arrow"))
        if _has(path, step)
    ]
    names = empty.collect_schema()
    frames = [empty]
    if files:
        frames.append(pl.scan_ipc(files).select(pl.col(n).cast(names[n]) for n in names))
    found = pl.concat(frames) if step is None else pl.concat(frames).filter(step=step)
    bits = pl.col("loss_sum") / math.log(2)
    return found.with_columns(
        nats=pl.col("loss_sum") / pl.col("tokens"),
        bits_per_byte=pl.when(pl.col("bytes") > 0).then(bits / pl.col("bytes")),
    )


def document_losses(runs: Sequence[FoundRun]) -> pl.LazyFrame:
    """Return a row per document: what the first of these runs that kept feedback measured of it.

    Columns: doc_id (binary), run, readings, first_step, last_step, tokens, nats (for each token),
    bits_per_byte.
    """
    kept = [run for run in runs if any(_has(p, None) for p in run.folder.glob("feedback/*"))]
    total = pl.col("loss_sum").sum()
    return (
        feedback(kept[:1])
        .group_by("doc_id")
        .agg(
            pl.col("run").first(),
            readings=pl.len().cast(pl.Int64),
            first_step=pl.col("step").min(),
            last_step=pl.col("step").max(),
            tokens=pl.col("tokens").sum().cast(pl.Int64),
            nats=total / pl.col("tokens").sum(),
            bits_per_byte=pl.when(pl.col("bytes").sum() > 0).then(
                total / math.log(2) / pl.col("bytes").sum()
            ),
        )
    )


def _has(path: Path, step: int | None) -> bool:
    """Return whether a file is one of feedback and, if a step is asked for, has it."""
    named = _FEEDBACK.fullmatch(path.name)
    return named is not None and (step is None or int(named[1]) <= step <= int(named[2]))


def show_runs(corpus: str | None, *, store: str, folders: Sequence[Path], as_json: bool) -> None:
    """Print the runs of a store, or of a corpus, as a table."""
    from rich.markup import escape

    from pipelines.console import new_table, plain, say, show

    opened = Store(store)
    version = opened.find(corpus) if corpus and "@" in corpus else None
    runs = runs_of(opened, version, folders)
    if corpus and version is None:
        opened.find(corpus)
        runs = [run for run in runs if run.content["corpus"]["name"] == corpus]
    rows = [run.told() for run in runs]
    if as_json:
        say(json.dumps(rows, indent=1))
        return
    if not rows:
        about = f" on {corpus}" if corpus else ""
        say(f"no runs{about} in the store {store}; `preceptor train CONFIG.yaml --corpus NAME`")
        return
    table = new_table(
        ("run", "left"),
        ("corpus", "left"),
        ("state", "left"),
        ("bits/byte", "right"),
        ("when (UTC)", "left"),
    )
    for row in rows:
        score = row["held_out_bits_per_byte"]
        table.add_row(
            escape(plain(row["run"], 40)),
            escape(plain(row["corpus"], 80)),
            _state(row),
            "-" if score is None else f"{score:.3f}",
            row["when"],
        )
    show(table)
    for row in rows:
        if row["alarm"] and row["state"] == "stopped":
            say(f"{row['run']}: {plain(row['alarm'], 300)}")


def _state(row: Mapping[str, Any]) -> str:
    of = "" if row["steps"] is None else f" of {row['steps']:,}"
    if row["state"] == "finished":
        return f"finished, {row['steps']:,} steps"
    if row["state"] == "stopped":
        return f"[red]alarm[/] at step {row['step']:,}{of}"
    return f"step {row['step']:,}{of}" if row["state"] == "step" else "not begun"

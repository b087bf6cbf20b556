"""Which training runs have read a document, and at which steps: by arithmetic, without a scan.

A run is its `run.json`: shards, plans, phases and a seed. A document's row in a shard gives its
spans in the plans; the permutation of the plan's rows, inverted, gives the samples and so the steps
(`curate.corpus.order`). How far the run came is what its folder says: its result, its checkpoints,
its metrics. Steps are counted from 1: a checkpoint of step n has seen steps 1 to n.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from curate.corpus.order import samples_of
from pipelines.forget.finding import span_rows
from train.config import TrainConfig

__all__ = ["exposures"]

_MAX_STEPS = 1000  # listed of one run; `num_steps` counts all


def exposures(paths: Iterable[Path], ids: set[bytes]) -> list[dict[str, Any]]:
    """Return what each run has to do with the documents; runs that never held them are left out."""
    wanted = pa.array(sorted(ids), pa.binary(16))
    known: dict[str, np.ndarray] = {}
    found = []
    for path in paths:
        try:
            told = _exposure(json.loads(path.read_text(encoding="utf-8")), path, wanted, known)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            told = {"run": path.parent.name, "cannot_be_read": str(error)[:300]}
        if told is not None:
            found.append({"folder": str(path.parent), **told})
    return found


def _exposure(
    run: Mapping[str, Any], path: Path, wanted: Any, known: dict[str, np.ndarray]
) -> dict[str, Any] | None:
    keys = [
        np.int64(ordinal) << 32 | rows
        for ordinal, entry in enumerate(run["shards"])
        for rows in [_rows(entry, path.parent, wanted, known)]
    ]
    mine = np.concatenate([np.empty(0, dtype=np.int64), *keys])
    if not mine.size:
        return None
    config = TrainConfig.from_mapping(run["config"])
    batch_rows = config.rows_per_step(run["row_tokens"])
    done = _steps_done(path.parent)
    phases = run.get("phases") or [{"first_row": 0, "plan": "train", "epoch": 0}]
    rows, sizes = {}, {}
    for name, entries in run["plans"].items():
        rows[name], sizes[name] = _plan_rows(entries, path.parent, mine)
    read = {phase["plan"] for phase in phases}
    samples = samples_of(
        rows,
        sizes,
        phases,
        seed=config.seed if config.seed is not None else run["seed"],
        num_samples=done * batch_rows,
    )
    steps = np.unique(samples // batch_rows) + 1
    first = int(steps[0]) if steps.size else None
    model = path.parent / "model"
    return {
        "run": run["id"],
        "corpus": f"{run['corpus']['name']}@{run['corpus']['version']}",
        "documents": int(mine.size),
        "plan_rows": {name: rows[name].tolist() for name in sorted(read) if rows[name].size},
        "measured_on": sorted(n for n in rows if n not in read and rows[n].size),
        "steps_done": done,
        "num_steps": int(steps.size),
        "steps": steps[:_MAX_STEPS].tolist(),
        "first_step": first,
        "last_step": int(steps[-1]) if steps.size else None,
        "checkpoints": [
            {"step": step, "has_seen": first is not None and step >= first}
            for step in _checkpoints(path.parent)
        ],
        "model": str(model) if model.is_dir() and first is not None else None,
    }


def _local(entry: Mapping[str, Any], base: Path) -> Path:
    uri = urlparse(str(entry["uri"]))
    if uri.scheme not in ("", "file"):
        raise ValueError(f"{entry['uri']} is not on this machine")
    return base / unquote(uri.path) if uri.scheme else base / str(entry["uri"])


def _table(entry: Mapping[str, Any], base: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(_local(entry, base)))).read_all()


def _rows(
    entry: Mapping[str, Any], base: Path, wanted: Any, known: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the rows of a run's token shard that hold one of the documents, int64 [n]."""
    if entry["sha256"] not in known:
        here = pc.is_in(_table(entry, base)["doc_id"], value_set=wanted)
        known[entry["sha256"]] = np.flatnonzero(here.to_numpy())
    return known[entry["sha256"]]


def _plan_rows(
    entries: Sequence[Mapping[str, Any]], base: Path, keys: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the distinct rows of a plan that read one of the documents, and how many it has."""
    found, first = [np.empty(0, dtype=np.int64)], 0
    for entry in entries:
        table = _table(entry, base)
        spans = span_rows(table["spans"], np.sort(keys))
        found.append(first + np.array([span[1] for span in spans], dtype=np.int64))
        first += table.num_rows
    return np.unique(np.concatenate(found)), first


def _checkpoints(folder: Path) -> list[int]:
    names = (path.name.removeprefix("step-") for path in folder.glob("checkpoints/step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def _steps_done(folder: Path) -> int:
    """Return how many steps a run has certainly begun to learn from."""
    steps = [0, *_checkpoints(folder), *_noted(folder / "metrics.jsonl")]
    result = folder / "result.json"
    if result.is_file():
        steps.append(int(json.loads(result.read_text(encoding="utf-8"))["steps"]))
    return max(steps)


def _noted(metrics: Path) -> Iterator[int]:
    """Yield the steps of the metrics' lines; a line that was cut short ends them."""
    if not metrics.is_file():
        return
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                return

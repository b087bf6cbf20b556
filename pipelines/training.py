"""From a corpus and a training config to `run.json`: the one file the trainer reads.

The run's id is a digest of what it trains on and how, so asking twice finds the first run: finished
(nothing is done again) or interrupted (it goes on from its newest checkpoint).
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest
from pipelines.checks.records import admit
from pipelines.corpus import Corpus
from pipelines.packing import num_rows, phases_of
from pipelines.recipe import read_yaml
from train.config import TrainConfig

__all__ = ["finished", "load_config", "prepare_run", "train_run"]


def load_config(path: str | Path | None) -> dict[str, Any]:
    """Read and check a training config; None gives the defaults.

    Raises:
        InputError: unreadable, or a setting the trainer does not have.
    """
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the training config {path}: {error}") from None
    _, data = read_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: a training config is a mapping such as `depth: 4`")
    try:
        TrainConfig.from_mapping(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return data


def prepare_run(
    corpus: Corpus,
    config: Mapping[str, Any],
    folder: str | Path | None = None,
    despite: str | None = None,
) -> Path:
    """Write the run's `run.json` (once) and return its path.

    Args:
        corpus: the version to train on.
        config: settings of `train.config.TrainConfig`.
        folder: where runs go; by default `runs` in the store, which must then be local.
        despite: why to train although checks of the version fail.

    Raises:
        InputError: nothing to train on, no place for the run, or checks that fail.
    """
    TrainConfig.from_mapping(config)
    storage = corpus.store.storage
    if folder is None and not storage.is_local:
        raise InputError(
            f"the store {storage.uri} is remote; say with --runs where the run's files go"
        )
    tokenized, packed = corpus.manifest("tokenize"), corpus.manifest("pack")
    content = [tokenized.content, packed.content, tokenized.info["tokenizer"]["sha256"]]
    run_id = fingerprint(*content, canonical_json(dict(config)))[:16]
    base = Path(folder) if folder is not None else Path(storage.full("runs"))
    path = base.absolute() / run_id / "run.json"
    if not num_rows(packed):
        raise InputError(
            f"{corpus.version} has no training rows; see `preceptor report {corpus.version}` for "
            "what was dropped"
        )
    checks = admit(corpus, run_id, despite)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{id(path)}.tmp")
        temporary.write_text(
            json.dumps({**_contents(corpus, run_id, config), "checks": checks}, indent=1) + "\n",
            encoding="utf-8",
        )
        temporary.replace(path)
    return path


def _contents(corpus: Corpus, run_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    storage, version = corpus.store.storage, corpus.version
    tokenized, packed = corpus.manifest("tokenize"), corpus.manifest("pack")
    tokenizer = tokenized.info["tokenizer"]

    def uri(name: str) -> str:
        return storage.full(name) if storage.is_local else f"{storage.uri}/{name}"

    def entries(shards: Any) -> list[dict[str, Any]]:
        return [
            {"uri": uri(s.path), "sha256": s.sha256, "rows": s.rows, "bytes": s.bytes}
            for s in shards
        ]

    return {
        "format": 1,
        "id": run_id,
        "corpus": {
            "name": version.name,
            "version": version.number,
            "fingerprint": version.fingerprint,
        },
        "tokenizer": {
            "uri": uri(tokenizer["path"]),
            "sha256": tokenizer["sha256"],
            "vocab_size": tokenizer["vocab_size"],
            "specials": tokenizer["specials"],
        },
        "sources": packed.settings["sources"],
        "shards": entries(tokenized.tables["tokens"]),
        "plans": {name.removeprefix("plan_"): entries(s) for name, s in packed.tables.items()},
        "row_tokens": packed.settings["row_tokens"],
        "config": dict(config),
        "seed": packed.settings["seed"],
        "phases": _phases(packed),
    }


def _phases(packed: Manifest) -> list[dict[str, Any]]:
    """Return one pass over each phase's plan; the last one repeats when the run is longer."""
    phases, first = [], 0
    for phase in phases_of(packed):
        if phase["rows"]:
            phases.append({"first_row": first, "plan": phase["plan"], "epoch": 0})
        first += phase["rows"]
    return phases


def finished(run_json: Path) -> dict[str, Any] | None:
    """Return the result of a run that is done, else None."""
    path = run_json.parent / "result.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def train_run(
    run_json: Path, progress: Callable[[int, int, dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Train in a process of its own, or return the result that is there.

    The trainer is started by its absolute file with `-P`, so that a `train.py` in the user's folder
    cannot win.

    Raises:
        InputError: the run cannot start, or it failed; the message is the trainer's own.
    """
    done = finished(run_json)
    if done is not None:
        return done
    trainer = Path(__file__).resolve().parents[1] / "train" / "__main__.py"
    command = [sys.executable, "-P", str(trainer), str(run_json), "--json"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None, "asked for a pipe"
        try:
            for line in process.stdout:
                if progress is not None and line.startswith("{"):
                    told = json.loads(line)
                    progress(told.pop("step"), told.pop("steps"), told)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        errors.seek(0)
        said = errors.read().strip()
    result = finished(run_json)
    if code or result is None:
        raise InputError(_failure(code, said, run_json))
    return result


def _failure(code: int, said: str, run_json: Path) -> str:
    """Return what the trainer said last, for people."""
    if code == 2 and said:
        return said.removeprefix("error: ")
    if "No module named 'torch'" in said or "No module named 'safetensors'" in said:
        return "training needs torch and safetensors: pip install 'preceptor[train]'"
    last = said.splitlines()[-1] if said else "it said nothing"
    return (
        f"training stopped with exit code {code}: {last}\n"
        f"The same command goes on from the newest checkpoint in {run_json.parent}"
    )

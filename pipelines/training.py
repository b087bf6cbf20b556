"""From a corpus and a training config to `run.json`: the one file the trainer reads.

The run's id is a digest of what it trains on and how, so asking twice finds the first run: finished
(nothing is done again) or interrupted (it goes on from its newest checkpoint).
"""

import contextlib
import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import train.config
from curate.corpus.errors import InputError, did_you_mean
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest
from pipelines.buried import refuse_buried
from pipelines.checks.records import admit
from pipelines.corpus import Corpus
from pipelines.packing import num_rows, phases_of
from pipelines.recipe import read_yaml
from pipelines.replay import Replay, entries_of, uri_of
from pipelines.trainer import StoppedError, call
from train.config import TrainConfig

__all__ = ["finished", "load_config", "prepare_run", "train_run"]

#: What a model's sizes and a run's settings both name, and the run decides.
_OF_THE_RUN = {"document_mask", "objective"}


_SCIENTIFIC = re.compile(r"[+-]?\d+[eE][+-]?\d{1,3}")


def load_config(path: str | Path | None) -> dict[str, Any]:
    """Read and check a training config, a file or a name in `train/configs`; None: the defaults.

    Raises:
        InputError: unreadable, or a setting the trainer does not have.
    """
    if path is None:
        return {}
    path = _shipped(Path(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the training config {path}: {error}") from None
    _, data = read_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: a training config is a mapping such as `depth: 4`")
    # YAML 1.1 reads 1e-3 as a word, for want of a dot; everybody writes rates so.
    data = {
        name: float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value
        for name, value in data.items()
    }
    try:
        TrainConfig.from_mapping(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if data.get("init_from") is not None:
        data["init_from"] = str(Path(path).absolute().parent / Path(data["init_from"]).expanduser())
    return data


def _shipped(path: Path) -> Path:
    """Return the config of `train/configs` that a plain name stands for, where no file has it."""
    if path.exists() or path.suffix or path.name != str(path):
        return path
    folder = Path(train.config.__file__).parent / "configs"
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if path.name not in names:
        told = ", ".join(name for name in names if not name.endswith("-gpu"))
        raise InputError(
            f"there is no training config {path}, neither a file nor a shipped one."
            f"{did_you_mean(path.name, names) or f' Shipped are: {told}'}"
        )
    return folder / f"{path}.yaml"


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
    if not num_rows(packed):
        raise InputError(
            f"{corpus.version} has no training rows; see `preceptor report {corpus.version}` for "
            "what was dropped"
        )
    refuse_buried(corpus)
    initial = _initial(corpus, config)
    settings = dict(config) if initial is None else _with_sizes(config, initial)
    replay = _replay(corpus, settings, initial)
    tokenizer = tokenized.info["tokenizer"] or {"sha256": ""}  # images and sounds have none
    content = [tokenized.content, packed.content, tokenizer["sha256"]]
    content += [] if initial is None else ["initial", initial["sha256"]]
    content += [] if replay is None else ["replay", *replay.content]
    told = {name: value for name, value in settings.items() if name != "init_from"}
    run_id = fingerprint(*content, canonical_json(told))[:16]
    base = Path(folder) if folder is not None else Path(storage.full("runs"))
    path = base.absolute() / run_id / "run.json"
    checks = admit(corpus, run_id, despite)
    if replay is not None and replay.share:
        admit(replay.old, run_id, despite)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = _contents(corpus, run_id, settings)
        if replay is not None:
            contents |= replay.merged(contents, path.parent)
        contents |= {"phases": _phases(packed, contents["plans"]), "checks": checks}
        contents |= {} if initial is None else {"initial": initial}
        _write(path, contents)
    elif initial is not None:
        contents = json.loads(path.read_text(encoding="utf-8"))
        if contents["initial"]["folder"] != initial["folder"]:  # the same weights, moved
            _write(path, {**contents, "initial": initial})
    return path


def _replay(
    corpus: Corpus, settings: Mapping[str, Any], initial: Mapping[str, Any] | None
) -> Replay | None:
    """Return the old rows that a run asks for; of media there are none."""
    if corpus.manifest("tokenize").info.get("media"):
        if settings.get("replay") or settings.get("replay_corpus"):
            raise InputError(
                f"train.replay is for corpora of text; {corpus.version} holds media: leave it out, "
                "and collect both corpora as one"
            )
        return None
    return Replay.of(corpus, settings, (initial or {}).get("corpus"))


def _write(path: Path, contents: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(f".{id(path)}.tmp")
    temporary.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _initial(corpus: Corpus, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the trainer says of the folder that `init_from` names; None without one.

    Raises:
        InputError: it refuses the folder, or the corpus's tokenizer is not the model's.
    """
    if config.get("init_from") is None:
        return None
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        storage = corpus.store.storage
        asked = ["initial"]
        if tokenizer is not None:
            file = storage.local_copy(tokenizer["path"], tokenizer["sha256"], Path(cache))
            asked += ["--tokenizer", str(file)]
        call([*asked, "--", _start_of(config["init_from"], corpus)], on_line=lines.append)
    initial: dict[str, Any] = json.loads(lines[-1])
    return initial


def _start_of(folder: str, corpus: Corpus) -> str:
    """Return the folder to start from; what is none may be the beginning of a run's id."""
    from pipelines.runs import find_run

    if not Path(folder).is_dir():
        with contextlib.suppress(InputError):
            return str(find_run(Path(folder).name, store=corpus.store).path.parent)
    return folder


def _with_sizes(config: Mapping[str, Any], initial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the sizes of the model that is gone on from.

    Raises:
        InputError: the config asks for another size.
    """
    knobs = {knob.name for knob in dataclasses.fields(TrainConfig)} - _OF_THE_RUN
    sizes = {name: value for name, value in initial["spec"].items() if name in knobs}
    for name, value in sizes.items():
        asked = config.get(name)
        if asked is not None and asked != value:
            raise InputError(
                f"train.{name} is {asked!r}, but the model in {initial['folder']} has {value!r}; "
                f"leave {name} out: the sizes come from there"
            )
    # A run goes on with the task of its start, unless it asks for another on the same backbone.
    settings = {"objective": initial["spec"].get("objective", "next_token"), **config, **sizes}
    TrainConfig.from_mapping(settings)
    return settings


def _contents(corpus: Corpus, run_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run file says of a corpus and a config."""
    storage, version = corpus.store.storage, corpus.version
    tokenized, packed = corpus.manifest("tokenize"), corpus.manifest("pack")
    tokenizer = tokenized.info["tokenizer"]
    plans = {name.removeprefix("plan_"): shards for name, shards in packed.tables.items()}
    return {
        "format": 1,
        "id": run_id,
        "corpus": {
            "name": version.name,
            "version": version.number,
            "fingerprint": version.fingerprint,
            "recipe": fingerprint(canonical_json(dict(version.recipe))),
        },
        "tokenizer": None if tokenizer is None else _tokenizer_entry(corpus, tokenizer),
        **({"media": tokenized.info["media"]} if tokenized.info.get("media") else {}),
        "sources": packed.settings["sources"],
        "shards": entries_of(storage, tokenized.tables["tokens"]),
        "plans": {name: entries_of(storage, shards) for name, shards in plans.items()},
        "row_tokens": packed.settings["row_tokens"],
        "config": dict(config),
        "seed": packed.settings["seed"],
    }


def _tokenizer_entry(corpus: Corpus, tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    storage, tables = corpus.store.storage, corpus.manifest("tokenize").tables
    sizes = entries_of(storage, tables.get("token_bytes", ()))  # of text, of each id
    return {
        "uri": uri_of(storage, tokenizer["path"]),
        "sha256": tokenizer["sha256"],
        "vocab_size": tokenizer["vocab_size"],
        "specials": tokenizer["specials"],
        "num_bytes": sizes[0] if sizes else None,
    }


def _phases(packed: Manifest, plans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one pass over each phase's plan; the last one repeats when the run is longer."""
    phases, first = [], 0
    for phase in phases_of(packed):
        rows = sum(entry["rows"] for entry in plans.get(phase["plan"], ()))
        if rows:
            phases.append({"first_row": first, "plan": phase["plan"], "epoch": 0})
        first += rows
    return phases


def finished(run_json: Path) -> dict[str, Any] | None:
    """Return the result of a run that is done, else None."""
    path = run_json.parent / "result.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def train_run(
    run_json: Path,
    progress: Callable[[int, int, dict[str, Any]], None] | None = None,
    *,
    processes: int = 1,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train in processes of its own, or return the result that is there.

    Args:
        run_json: the run.
        progress: called with (step, steps, metrics) after each interval.
        processes: how many share the work (torchrun, on this machine).
        tell: called with what the trainer says before its first interval.

    Raises:
        InputError: the run cannot start, or it failed; the message is the trainer's own.
    """
    done = finished(run_json)
    if done is not None:
        return done

    begun = False

    def told(line: str) -> None:
        nonlocal begun
        if line.startswith("{"):
            begun = True
            if progress is not None:
                metrics = json.loads(line)
                progress(metrics.pop("step"), metrics.pop("steps"), metrics)
        elif tell is not None and not begun and line:
            tell(line)

    try:
        call([str(run_json), "--json"], processes=processes, on_line=told)
        result = finished(run_json)
        if result is None:
            raise StoppedError("training ended without a result")
    except StoppedError as error:
        again = f"The same command goes on from the newest checkpoint in {run_json.parent}"
        raise StoppedError(f"{error}\n{again}") from None
    return result

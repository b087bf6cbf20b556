"""`python -m train probe RUN.json --labels FILE`: what a run's representation is worth to people.

The file says which documents have which label; a document is one row: an image, a sound, or the
beginning of a text. The protocol is that of `train.probes`: few labels, ten draws of them, and a
paired difference against the encoder untrained, the raw input, and the labels alone.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch

from curate.corpus.errors import InputError
from train import probes
from train.data import Reader
from train.generate import load_model
from train.model import Model
from train.objectives.base import Rows
from train.rows import reader_of
from train.runfile import Run, load_run
from train.shards import SPAN_FIELDS, Plan, Shards

__all__ = ["main", "probe", "rows_of"]

Array = np.ndarray[Any, np.dtype[Any]]
#: Labelled documents that are used at most, and of them the test part.
MOST, TEST = 5000, 1500


def rows_of(run: Run, shards: Shards, ordinals: Array) -> Rows:
    """Return documents as rows, one each; a text is cut to a row."""
    shard = np.searchsorted(shards.first, ordinals, side="right") - 1
    lengths = shards.lengths[ordinals]
    columns = {
        "shard": shard,
        "document": ordinals - shards.first[shard],
        "start": np.zeros(len(ordinals), np.int64),
        "length": lengths if run.media else np.minimum(lengths, run.row_tokens),
        "source": np.zeros(len(ordinals), np.int64),
    }
    spans = pa.StructArray.from_arrays(
        [pa.array(columns[name], pa.int64()) for name in SPAN_FIELDS], SPAN_FIELDS
    )
    offsets = pa.array(np.arange(len(ordinals) + 1), pa.int32())
    table = pa.table({"spans": pa.ListArray.from_arrays(offsets, spans)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.arrow"
        with pa.ipc.new_file(str(path), table.schema) as sink:
            sink.write_table(table)
        plan = Plan([path], shards, num_sources=len(run.sources))
        found: Rows = reader_of(run, shards, Reader).rows(plan, np.arange(len(ordinals)))
    return found


def _labelled(path: Path, shards: Shards) -> tuple[Array, Array, Array | None]:
    """Return the ordinals, labels and groups of a file's documents that are in the shards."""
    from pyarrow.parquet import read_table

    table = read_table(path).to_pydict()
    place: dict[bytes, int] = {}
    for begin, batch in zip(shards.begins.tolist(), shards.batches, strict=False):
        for i, doc_id in enumerate(batch["doc_id"].to_pylist()):
            place[doc_id] = begin + i
    at = [place.get(bytes.fromhex(doc_id), -1) for doc_id in table["doc_id"]]
    there = np.array([i >= 0 and not shards.withdrawn[i] for i in at], dtype=bool)
    if not there.any():
        raise InputError(
            f"none of the {len(at)} labelled documents is among the {len(place)} of this run; are "
            "the labels of the corpus that it was trained on?"
        )
    groups = None
    if "group" in table:
        groups = np.array(table["group"], dtype=object)[there].astype(str)
    return np.array(at)[there], np.array(table["label"], dtype=object)[there].astype(str), groups


def _checked(
    classes: Array, labels: Array, parts: probes.Split, shots: Sequence[int | None]
) -> None:
    """Refuse labels that nothing can be learnt from, or that hold fewer than is asked for."""
    most = max((k for k in shots if k is not None), default=1)
    for name, part, least in (("learn from", parts.train, most), ("measure on", parts.test, 1)):
        counts = np.bincount(labels[part], minlength=len(classes))
        if counts.min() < least:
            i = int(counts.argmin())
            raise InputError(
                f"label {str(classes[i])!r:.60} has {counts[i]} documents in the part to {name}, "
                f"and {least} are wanted: give more labels, leave that one out, or ask for a "
                "smaller --k"
            )


def probe(
    run_json: Path,
    labels_path: Path,
    *,
    shots: Sequence[int | None] = probes.SHOTS,
    draws: int = 10,
    seed: int = 0,
    tune: bool = True,
    tell: Any = lambda _: None,
) -> dict[str, Any]:
    """Probe a finished run with people's labels; see `main` for the result.

    Args:
        run_json: of the run.
        labels_path: Parquet with `doc_id` (32 hex digits), `label` and perhaps `group` (strings).
        shots, draws, seed: of labels.
        tune: also train on the labels: from scratch, and from the run's weights.
        tell: called with what is being done.

    Raises:
        InputError: the run has no model yet; labels match no document, are of one class, or few.
    """
    run = load_run(run_json)
    if not (run.folder / "model" / "config.json").is_file():
        raise InputError(f"{run.folder} holds no finished model; train it to the end first")
    shards = Shards(run.shards)
    ordinals, named, groups = _labelled(labels_path, shards)
    order = np.random.default_rng([seed, 0xAB]).permutation(len(ordinals))[:MOST]
    ordinals, named = ordinals[order], named[order]
    groups = None if groups is None else groups[order]
    classes, labels = np.unique(named, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"all {len(labels)} labelled documents of this run have the label "
            f"{str(classes[0])!r:.60}; a probe tells labels apart, and needs two or more"
        )
    parts = probes.split(labels, groups, seed=seed)
    parts = probes.Split(
        train=parts.train, validation=parts.validation[:TEST], test=parts.test[:TEST]
    )
    _checked(classes, labels, parts, shots)
    model, _ = load_model(run.folder / "model")
    cuda = run.config.device != "cpu" and torch.cuda.is_available()
    model = model.to("cuda" if cuda else "cpu")
    tell("reading the documents")
    rows = rows_of(run, shards, ordinals)
    scores = _scores(model, rows, labels, parts, shots, draws, seed, tune, tell)
    found = probes.compared(scores)
    return {
        "run": run.id,
        "corpus": dict(run.corpus),
        "objective": run.config.objective,
        "classes": classes.tolist(),
        "documents": {k: len(v) for k, v in vars(parts).items()},
        "groups": None if groups is None else len(np.unique(groups)),
        "rows": [{**vars(one), "better": one.better, "worse": one.worse} for one in found],
        "works": probes.works(found),
        "protocol": _protocol(groups is not None),
    }


def _scores(
    model: Model,
    rows: Rows,
    labels: Array,
    parts: probes.Split,
    shots: Sequence[int | None],
    draws: int,
    seed: int,
    tune: bool,
    tell: Any,
) -> list[probes.Score]:
    scores: list[probes.Score] = []
    for arm in ("ours", "untrained", "raw input"):
        tell(f"probing: {arm}")
        if arm == "raw input":
            layers = probes.raw_input(rows, model.spec)
        else:
            encoder = model if arm == "ours" else probes.untrained(model, seed)
            layers = probes.features(encoder, rows)
        scores += probes.frozen(arm, layers, labels, parts, shots=shots, draws=draws, seed=seed)
    for arm in ("scratch", "ours") if tune else ():
        tell(f"training on the labels: {'from scratch' if arm == 'scratch' else 'fine-tuning'}")
        scores += probes.tuned(
            arm,
            model,
            rows,
            labels,
            parts,
            scratch=arm == "scratch",
            shots=shots,
            draws=draws,
            seed=seed,
        )
    return scores


def _protocol(grouped: bool) -> str:
    split = "by group" if grouped else "at random: name a --group where documents share a speaker"
    return (
        f"Split {split}. Layer, strength and rate are chosen on a validation slice; an error is "
        "over draws of labels, for all labels over test documents."
    )


def shots_of(text: str) -> list[int | None]:
    """Return labels of each class from a list such as "1,10,all".

    >>> shots_of("1,all")
    [1, None]

    Raises:
        InputError: something else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(p == "all" or (p.isdecimal() and int(p) > 0) for p in parts):
        raise InputError(f"--k is {text!r:.60}; give numbers above 0 or `all`, such as 1,10,all")
    return list(dict.fromkeys(None if p == "all" else int(p) for p in parts))


def main(arguments: Sequence[str]) -> int:
    """Print the result as one line of JSON; lines that begin with `...` say what is being done."""
    parser = argparse.ArgumentParser(prog="python -m train probe", description=main.__doc__)
    parser.add_argument("run", type=Path, help="path of run.json")
    parser.add_argument(
        "--labels", type=Path, required=True, help="Parquet: doc_id (hex), label, perhaps group"
    )
    parser.add_argument("--k", default="1,10,all", help="labels of each class")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-tune", action="store_true", help="frozen features alone")
    given = parser.parse_args(arguments)
    result = probe(
        given.run,
        given.labels,
        shots=shots_of(given.k),
        draws=given.draws,
        seed=given.seed,
        tune=not given.no_tune,
        tell=lambda what: print(f"... {what}", flush=True),
    )
    print(json.dumps(result), flush=True)
    return 0

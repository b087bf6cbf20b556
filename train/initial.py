"""Where a run starts: the weights of a folder in the place of random ones.

`init_from` names a folder that `transformers` can load, or a model or run of this trainer. Of
another objective the backbone alone is taken. What it
holds is described once, before anything of the run is written (`python -m train initial FOLDER`),
and goes into `run.json`: the sizes of the model, so that a run can go on when the folder is gone,
and the digest of its weights, so that it cannot go on from others. The ids of the corpus must be
the model's own.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train.huggingface import PER_ID, read_folder
from train.model import Model, ModelSpec, padded_size
from train.runfile import Run, file_sha256, read_json

__all__ = [
    "describe",
    "initial_weights",
    "main",
    "parent_of",
    "same_ids",
    "scaled",
    "spec_of",
    "start_from",
]


def describe(folder: str | Path, tokenizer: str | Path | None) -> dict[str, Any]:
    """Return what `run.json` records of a start, or refuse it.

    Args:
        folder: a model's, or that of a finished run.
        tokenizer: the `tokenizer.json` of the corpus to train on; None: it has none.

    Returns:
        {folder, sha256, spec, scales, run, corpus}; the last two None for a model made elsewhere.

    Raises:
        InputError: no model of a known family there; other token ids; fewer rows than ids.
    """
    place = model_folder(folder)
    spec, weights = read_folder(place)
    num_ids = 0 if tokenizer is None else same_ids(place, Path(tokenizer))
    if spec.vocab_size < num_ids:
        raise InputError(
            f"the model in {place} has {spec.vocab_size:,} ids, its tokenizer {num_ids:,}; resize "
            "the model's embedding first"
        )
    lineage = read_json(place / "lineage.json") if (place / "lineage.json").is_file() else {}
    return {
        "folder": str(place),
        "sha256": digest_of(place),
        "spec": dict(spec.to_mapping()),
        "scales": scales_of(weights, spec),
        "run": lineage.get("run"),
        "corpus": lineage.get("corpus"),
    }


def scales_of(weights: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, float]:
    """Return by what the peak rates of embedding and head are multiplied, going on from weights.

    AdamW moves each number by about its rate, however small the number is. The rates suit an
    embedding that starts at N(0, 1); one with a root mean square of 0.02 gets a fiftieth. Where
    the embedding is small, another trainer made the model, and its head is treated alike.
    """
    found: dict[str, float] = {}
    for kind, name in zip(("embedding", "head"), PER_ID, strict=True):
        if name in weights and found.get("embedding", 0.0) < 0.5:
            rms = float(weights[name][: spec.vocab_size].square().mean().sqrt())
            found[kind] = min(1.0, rms) or 1.0  # zeros are no scale
    return found


def model_folder(folder: str | Path) -> Path:
    """Return the folder that holds the weights: that of a run has it one level down."""
    place = Path(folder).expanduser().absolute()
    if not place.is_dir():
        raise InputError(f"train.init_from: there is no folder {place}; download the model first")
    if (place / "run.json").is_file():
        if not (place / "model").is_dir():
            raise InputError(
                f"train.init_from: the run in {place} has no model yet; train it to the end first"
            )
        return place / "model"
    if not (place / "config.json").is_file():
        raise InputError(f"train.init_from: {place} has no config.json, so it holds no model")
    return place


def digest_of(place: Path) -> str:
    """Return the sha256 of the weights: of the file, or of the digests of several."""
    files = sorted(place.glob("*.safetensors"))
    if not files:
        raise InputError(f"train.init_from: {place} has no *.safetensors; others are not read")
    digests = [file_sha256(file) for file in files]
    return (
        digests[0] if len(files) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    )


def same_ids(place: Path, tokenizer: Path) -> int:
    """Return the number of ids of the corpus's tokenizer, which must be the model's ids.

    A file that differs will do if every token has the same id in both.

    Raises:
        InputError: other tokens or other ids; it says how many and what to do.
    """
    mine = place / "tokenizer.json"
    if not mine.is_file():
        raise InputError(
            f"{place} has no tokenizer.json, so its ids cannot be compared with the corpus's; save "
            "the model's fast tokenizer there"
        )
    theirs, ours = token_ids(mine), token_ids(tokenizer)
    if theirs != ours:
        other = sorted(token for token, i in ours.items() if theirs.get(token) != i)
        missing = theirs.keys() - ours.keys()
        example = f", such as {other[0]!r}: {ours[other[0]]}, there {theirs.get(other[0])}"
        raise InputError(
            f"the corpus's tokenizer is not the one of {place}: {len(other):,} of its "
            f"{len(ours):,} tokens have other ids{example if other else ''}; "
            f"{len(missing):,} of the model's are missing\n"
            f"Make the corpus with it: tokenize: {{tokenizer: {{path: {mine}}}}} in the recipe"
        )
    return max(ours.values()) + 1


def token_ids(path: Path) -> dict[str, int]:
    """Return token -> id of a `tokenizer.json`; Unigram's ids are the places of its tokens."""
    content = read_json(path)
    vocabulary = content.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):
        vocabulary = {pair[0]: i for i, pair in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    if not vocabulary and not added:
        raise InputError(f"{path} has no vocabulary; it is not a tokenizer.json")
    return {**vocabulary, **added}


#: What of a start's `ModelSpec` shapes its backbone; the rest is the run's.
SIZES = (
    *("architecture", "depth", "width", "heads", "kv_heads", "head_width", "mlp_width"),
    *("rope_base", "norm_eps", "tied", "logit_cap"),
)


def spec_of(run: Run) -> ModelSpec:
    """Return the model of a run: the sizes of its start, if it has one, and the run's task."""
    spec = ModelSpec.of(
        run.config,
        vocab_size=run.vocab_size,
        row_tokens=run.row_tokens,
        specials=run.specials,
        media=run.media,
    )
    if run.initial is None:
        return spec
    start: Any = ModelSpec(**run.initial["spec"])
    return replace(spec, **{name: getattr(start, name) for name in SIZES})


def start_from(model: Model, run: Run) -> str:
    """Put a start's weights in the place of a model's random ones; return what was done.

    Of another objective the backbone alone is taken: the head stays random, and what begins as a
    copy of the backbone is copied anew.

    Raises:
        InputError: see `initial_weights`; or the backbone has other tensors than the run's.
    """
    assert run.initial is not None, "the run starts from weights"
    weights, mine, place = initial_weights(run), model.state_dict(), run.initial["folder"]
    same = run.initial["spec"].get("objective", "next_token") == run.config.objective
    wanted = [name for name in mine if same or name.startswith("backbone.")]
    for name in wanted:
        if name not in weights or weights[name].shape != mine[name].shape:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise InputError(
                f"the model in {place} has {found} where this run has {name} of "
                f"{tuple(mine[name].shape)}: they are not made for the same kind of data or task; "
                "leave out init_from"
            )
    model.load_state_dict({name: weights[name] for name in wanted}, strict=same)
    if same:
        return f"starting from the weights in {place}"
    model.objective.attach(model.backbone)
    return f"starting from the backbone in {place}; what {run.config.objective} adds is new"


def scaled(run: Run) -> Mapping[str, Any] | None:
    """Return what the optimizer is told of a start: a head that is new has its usual rate."""
    if run.initial is None:
        return None
    if run.initial["spec"].get("objective", "next_token") == run.config.objective:
        return run.initial
    scales = {k: v for k, v in run.initial.get("scales", {}).items() if k != "head"}
    return {**run.initial, "scales": scales}


def initial_weights(run: Run) -> dict[str, Tensor]:
    """Return the start's weights under our names, with as many rows per id as the run's model.

    Rows of ids that the model did not have are zero: they are padding, of no probability.

    Raises:
        InputError: the folder is gone, or its weights have changed since the run was resolved.
    """
    assert run.initial is not None, "the run starts from weights"
    place = Path(run.initial["folder"])
    if not place.is_dir():
        raise InputError(f"the run starts from {place}, which is gone; bring it back")
    found = digest_of(place)
    if found != run.initial["sha256"]:
        raise InputError(
            f"the weights in {place} have sha256 {found[:16]}..., the run was resolved with "
            f"{run.initial['sha256'][:16]}...; bring those back, or train again for a new run"
        )
    _, weights = read_folder(place)
    rows = padded_size(run.vocab_size)
    for name in PER_ID:
        if name in weights:
            weights[name] = fitted(weights[name], rows)
    return weights


def fitted(weight: Tensor, rows: int) -> Tensor:
    """Cut a matrix [n, C] to `rows` rows, or fill it up with zeros.

    >>> fitted(torch.ones(2, 3), 4).sum(1).tolist()
    [3.0, 3.0, 0.0, 0.0]
    """
    more = weight.new_zeros(max(0, rows - len(weight)), *weight.shape[1:])
    return torch.cat([weight[:rows], more])


def parent_of(run: Run) -> dict[str, Any] | None:
    """Return what the lineage of the trained model says of its start."""
    if run.initial is None:
        return None
    return {name: value for name, value in run.initial.items() if name != "spec"}


def main(arguments: list[str] | None = None) -> int:
    """`python -m train initial FOLDER --tokenizer FILE`: print the description as a JSON line."""
    parser = argparse.ArgumentParser(prog="python -m train initial", description=describe.__doc__)
    parser.add_argument("folder", help="a model's folder, or a run's")
    parser.add_argument("--tokenizer", help="the corpus's tokenizer.json, if it has one")
    given = parser.parse_args(arguments)
    print(json.dumps(describe(given.folder, given.tokenizer)))
    return 0

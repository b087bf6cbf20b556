"""Samples from a trained folder: temperature, top-k, a seed, and a stop at the end of document.

The row is read anew for each token: at this size a cache of keys and values would cost more lines
than seconds.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train import native
from train.huggingface import read_folder
from train.model import Model
from train.runfile import read_json

__all__ = ["generate", "load_model", "main", "sample"]


def load_model(folder: Path) -> tuple[Model, dict[str, int]]:
    """Load a model's folder in float32; return the model and the ids of its specials."""
    spec, weights = read_folder(folder)
    model = Model(spec)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights in {folder} do not fit its config.json: {error}") from error
    return model.eval(), specials_of(read_json(folder / "config.json"))


def specials_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of a `config.json`'s specials by name; of another's folder bos and eos."""
    if "preceptor" in config:
        return dict(config["preceptor"]["specials"])
    eos = config.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos
    if not isinstance(eos, int):
        raise InputError(f"the model names no end of text: eos_token_id is {eos!r} in config.json")
    bos = config.get("bos_token_id")
    return {"bos": eos if bos is None else bos, "eos": eos}


@torch.no_grad()
def sample(
    model: Model,
    prompt: list[int],
    num_tokens: int,
    *,
    specials: dict[str, int],
    temperature: float = 0.8,
    top_k: int = 50,
    seed: int = 0,
) -> list[int]:
    """Return up to `num_tokens` new ids; specials other than eos have no chance.

    Args:
        prompt: ids that come first, bos included.
        temperature: 0 takes the likeliest id each time.
        top_k: draw among this many likeliest ids; 0 for all.
    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(seed)
    banned = sorted({*specials.values()} - {specials["eos"]})
    ids = list(prompt)
    for _ in range(num_tokens):
        row = torch.tensor([ids[-model.spec.row_tokens :]], device=device)
        logits: Tensor = model.objective.logits(model.backbone, row)[0].cpu()
        logits[banned] = -math.inf
        ids.append(_draw(logits, temperature, top_k, random))
        if ids[-1] == specials["eos"]:
            break
    return ids[len(prompt) :]


def _draw(logits: Tensor, temperature: float, top_k: int, random: torch.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    if 0 < top_k < len(logits):
        least = logits.topk(top_k).values[-1]
        logits = logits.masked_fill(logits < least, -math.inf)
    probabilities = (logits / temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=random))


def generate(
    run_dir: str | PathLike[str],
    prompt: str,
    num_tokens: int = 128,
    *,
    temperature: float = 0.8,
    top_k: int = 50,
    seed: int = 0,
) -> str:
    """Continue `prompt` with the model of a finished run and return the new text.

    Raises:
        InputError: the run has no model yet, or `tokenizers` is not installed.
    """
    if num_tokens < 1:
        raise InputError(f"num_tokens is {num_tokens}; ask for at least 1")
    folder = Path(run_dir)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    if not (folder / "config.json").is_file():
        raise InputError(f"{run_dir} holds no finished model; train it to the end first")
    if read_json(folder / "config.json").get("model_type") == native.TYPE:
        raise InputError(f"the model in {folder} does not continue text: it is no decoder of it")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError("samples need the package tokenizers: pip install tokenizers") from error
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # a prompt can spell a special, it cannot be one
    model, specials = load_model(folder)
    ids = [specials["bos"], *tokenizer.encode(prompt, add_special_tokens=False).ids]
    new = sample(
        model,
        ids,
        num_tokens,
        specials=specials,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    text: str = tokenizer.decode(new, skip_special_tokens=True)
    return text


def main(arguments: Sequence[str]) -> int:
    """Print a continuation as a JSON string: `python -m train generate RUN PROMPT`."""
    parser = argparse.ArgumentParser(prog="python -m train generate", description=main.__doc__)
    parser.add_argument("run", help="folder of a finished run, or of a model")
    parser.add_argument("prompt")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    text = generate(
        given.run,
        given.prompt,
        given.tokens,
        temperature=given.temperature,
        top_k=given.top_k,
        seed=given.seed,
    )
    print(json.dumps(text), flush=True)
    return 0

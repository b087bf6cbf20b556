"""How large the model of a config is, without making it: for programs that may not load torch."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from curate.corpus.errors import InputError
from train.config import TrainConfig
from train.model import Model, ModelSpec

__all__ = ["main", "sizes"]


def sizes(
    configs: Sequence[Mapping[str, Any]], *, vocab_size: int, row_tokens: int
) -> list[dict[str, int]]:
    """Return {parameters, matmul_parameters} of the model of each config.

    The latter are the weights of all matrix products, the head's among them and the embedding's
    not: what a step computes with, and what scaling laws of small models are clearest in.
    """
    found = []
    for config in configs:
        spec = ModelSpec.of(
            TrainConfig.from_mapping(config), vocab_size=vocab_size, row_tokens=row_tokens
        )
        with torch.device("meta"):
            model = Model(spec)
        parameters = sum(p.numel() for p in model.parameters())
        found.append({"parameters": parameters, "matmul_parameters": spec.matmul_parameters()})
    return found


def main(arguments: list[str] | None = None) -> int:
    """`python -m train sizes JSON`: {configs, vocab_size, row_tokens} in, a JSON line out."""
    parser = argparse.ArgumentParser(prog="python -m train sizes", description=__doc__)
    parser.add_argument("asked", help="{configs: [...], vocab_size, row_tokens} as JSON")
    try:
        asked = json.loads(parser.parse_args(arguments).asked)
        found = sizes(
            asked["configs"], vocab_size=asked["vocab_size"], row_tokens=asked["row_tokens"]
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"sizes wants configs, vocab_size and row_tokens: {error}") from error
    print(json.dumps(found))
    return 0

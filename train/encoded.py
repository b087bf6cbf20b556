"""What a row is to a probe: an encoder's features, the same encoder's untrained, or the raw input.

Features are frozen: the mean over a row's units after the last and after the middle block
(reconstruction and language modelling leave their best features mid-stack; report both).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.model import Model
from train.models.linear import Linear
from train.objectives.base import Rows

__all__ = ["features", "raw_input", "taken", "untrained"]

Array = np.ndarray[Any, np.dtype[Any]]
#: Ids of text that a bag of tokens counts: the most frequent ones.
BAG = 4096


def taken(rows: Rows, places: Array | Tensor) -> Rows:
    """Return some of the rows."""
    at = torch.as_tensor(places)
    # `cu_seqlens` is of the batch, not of a row; without it attention reads the pieces.
    found: Any = {k: None if v is None else v[at] for k, v in vars(rows).items()}
    return replace(Rows(**{**found, "cu_seqlens": None}))


@torch.no_grad()
def features(model: Model, rows: Rows, batch_rows: int = 128) -> dict[str, Array]:
    """Return layer -> [N, D] float32 of a frozen encoder: "last" and "middle"."""
    model.eval()
    device = next(model.parameters()).device
    depth = len(model.backbone.blocks)
    layers = {"last": None, "middle": depth // 2} if depth > 1 else {"last": None}
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    for first in range(0, len(rows.tokens), batch_rows):
        some = taken(rows, np.arange(first, min(first + batch_rows, len(rows.tokens)))).to(device)
        for name, blocks in layers.items():
            found[name].append(model.objective.encode(model.backbone, some, blocks).float().cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


@torch.no_grad()
def raw_input(rows: Rows, spec: Any) -> dict[str, Array]:
    """Return what needs no encoder: pixels, log-mel mean and deviation, or a bag of tokens.

    Args:
        rows: N of them.
        spec: the model's `train.model.ModelSpec`.
    """
    if rows.pixels is not None:
        return {"input": rows.pixels.flatten(1).float().numpy() / 255}
    if rows.samples is not None:
        from train.models.frames import Frames

        stem = Frames(spec.media.get("of") or spec.media, spec.width)
        parts = []
        for first in range(0, len(rows.samples), 128):
            part = slice(first, first + 128)
            lengths = None if rows.lengths is None else rows.lengths[part]
            logs = stem.log_mels(rows.samples[part], lengths)
            there = stem.inside(rows.samples[part], lengths)[:, :, None].float()
            count = there.sum(1).clamp(min=1)
            mean = (logs * there).sum(1) / count
            variance = ((logs - mean[:, None]).square() * there).sum(1) / count
            parts.append(torch.cat([mean, variance.sqrt()], dim=1))
        return {"input": torch.cat(parts).numpy()}
    tokens, inside = rows.tokens.numpy(), (rows.documents >= 0).numpy()
    common = np.bincount(tokens[inside]).argsort(kind="stable")[::-1][:BAG]
    column = np.full(int(tokens.max()) + 1, -1)
    column[common] = np.arange(len(common))
    bag = np.zeros((len(tokens), len(common) + 1), np.float32)
    column_of = np.where(inside, column[tokens], -1)
    np.add.at(bag, (np.arange(len(tokens))[:, None], column_of), 1)
    return {"input": np.log1p(bag[:, :-1])}


def untrained(model: Model, seed: int = 0, *, drawn: bool = True) -> Model:
    """Return the same network without its training.

    Args:
        model: whose sizes are taken.
        seed: of the weights.
        drawn: also draw the matrices that a training begins with at zero: its blocks are the
            identity then, which is too easy a control.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Model(model.spec, attention=model.backbone.form)
        if drawn:
            for module in fresh.backbone.modules():
                if isinstance(module, Linear) and not module.weight.any():
                    std = module.in_features**-0.5
                    torch.nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)
        # A teacher begins as a copy of what was just drawn.
        fresh.objective.attach(fresh.backbone)
    return fresh.to(next(model.parameters()).device).eval()

"""Which tokens of text are hidden, what stands in their place, and the loss of restoring them.

Shared by the tasks that restore tokens. All is drawn by `train.keyed`, so a row's mask depends on
nothing but the row's key.

>>> round(start_rate(0.15, 1), 3), round(start_rate(0.15, 4), 3)
(0.15, 0.04)
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train import keyed
from train.objectives.base import Rows
from train.objectives.next_token import capped_cross_entropy, slice_tokens

__all__ = ["bounds", "ordinary", "restored", "spans", "special", "start_rate"]

#: The house's tokenizers keep their first ids for specials, of which these are named, in order.
HOUSE = ("bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix")
RESERVED = 25


def special(specials: Mapping[str, int], name: str, objective: str) -> int:
    """Return a special's id.

    Raises:
        InputError: the tokenizer does not have it.
    """
    if name not in specials:
        raise InputError(
            f"{objective} needs a token {name!r}, and the corpus's tokenizer has only "
            f"{', '.join(specials) or 'none'}; name one of its own under "
            "tokenize.tokenizer.specials, or let the recipe train a tokenizer"
        )
    return specials[name]


def ordinary(specials: Mapping[str, int], vocab_size: int) -> Tensor:
    """Return [vocab_size] bool: the ids of text; no specials, nor the house's spare ones."""
    mask = torch.ones(vocab_size, dtype=torch.bool)
    mask[sorted(set(specials.values()))] = False
    if all(specials.get(name) == i for i, name in enumerate(HOUSE)):
        mask[:RESERVED] = False
    return mask


def bounds(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the first place of each token's piece and the place behind its last, [B, T] int64."""
    pieces = rows.pieces
    at = torch.arange(pieces.size(1), device=pieces.device).expand_as(pieces)
    turns = pieces[:, 1:] != pieces[:, :-1]
    edge = torch.ones_like(turns[:, :1])
    begin = (at * torch.cat([edge, turns], dim=1)).cummax(1).values
    stops = torch.where(torch.cat([turns, edge], dim=1), at + 1, pieces.size(1))
    return begin, stops.flip(1).cummin(1).values.flip(1)


def start_rate(rate: float, span: int) -> float:
    """Return the share of places where a span begins, so that `rate` of all places are hidden.

    Lengths are geometric of mean `span`: a span reaches k places further with chance
    (1 - 1 / span)^k, so a place is seen with chance prod_k (1 - s (1 - 1 / span)^k).
    """
    going_on = 1 - 1 / span
    low, high = 0.0, rate
    for _ in range(50):
        middle = (low + high) / 2
        seen, left = 1.0, middle
        while left > 1e-9:
            seen, left = seen * (1 - left), left * going_on
        low, high = (middle, high) if 1 - seen < rate else (low, middle)
    return high


def spans(rows: Rows, rate: float, span: int) -> tuple[Tensor, Tensor]:
    """Choose places in spans that end with their piece: [B, T] bool, and where each began [B, T].

    Args:
        rows: of text.
        rate: share of the places, about: less at a piece's beginning, where none reaches in.
        span: mean length, geometric (SpanBERT, Joshi et al. 2020, which also cuts at 10); 1: each
            place for itself (BERT, Devlin et al. 2019).
    """
    length = rows.tokens.size(1)
    at = torch.arange(length, device=rows.tokens.device).expand_as(rows.tokens)
    begins = keyed.uniform(rows.keys, "mask", length) < start_rate(rate, span)
    if span == 1:
        return begins, at
    draws = (1 - keyed.uniform(rows.keys, "mask_span", length)).double()  # in (0, 1]
    reach = at + 1 + (draws.log() / math.log(1 - 1 / span)).long()
    reach = torch.minimum(reach, bounds(rows)[1]) * begins
    return reach.cummax(1).values > at, (at * begins).cummax(1).values


def restored(
    hidden: Tensor, weight: Tensor, targets: Tensor, num_ids: int, cap: float, *, count: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the sum of losses, each place's [B, T], and how many are right if `count`.

    On a CPU only the places with a target meet the head; elsewhere all do, so that nothing waits
    for the device and shapes stay the same.

    Args:
        hidden: [B, T, C].
        weight, num_ids, cap: see `capped_cross_entropy`.
        targets: [B, T] int64, -100 where nothing is predicted.
        count: of the likeliest ids, also count those that are the targets.
    """
    flat, vectors = targets.flatten(), hidden.flatten(0, 1)
    on_cpu = hidden.device.type == "cpu"
    places = (flat >= 0).nonzero()[:, 0] if on_cpu else slice(None)
    vectors, wanted = vectors[places], flat[places]
    total, losses = capped_cross_entropy(vectors, weight, wanted, num_ids, cap)
    units = torch.zeros(len(flat), dtype=torch.float32, device=hidden.device)
    units[places] = losses
    right = None
    if count:
        right = torch.zeros((), device=hidden.device)
        size = slice_tokens(len(weight), on_cpu=on_cpu)
        head = weight.detach()[:num_ids].to(hidden.dtype).T
        for some, ids in zip(vectors.detach().split(size), wanted.split(size), strict=True):
            right += ((some @ head).argmax(-1) == ids).sum()
    return total, units.view_as(targets), right

"""Held-out bits per byte, per document, against a bigram that only counts.

Nats are summed per document over the spans of the validation plan and divided by the bytes of
its text, so two tokenizers can be compared. Model and baselines are scored on the same targets of
the same documents; the difference is paired, and its standard error is over documents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.baselines import KneserNey
from train.data import Plan, Reader, Shards
from train.model import Model

__all__ = ["HeldOut", "fit_bigram", "glance", "measure", "ratio_difference", "summary"]

Array = np.ndarray[Any, np.dtype[Any]]
LN2 = math.log(2)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Sums per held-out document, all [n]; only documents whose every target was scored.

    Attributes:
        ordinals: the documents, as in `Shards`.
        sources: source codes.
        targets, num_bytes: how many.
        nats: name of the scorer (`model`, `bigram`, `unigram`) to float64 sums.
        num_planned: documents in the plan, scored or not.
    """

    ordinals: Array
    sources: Array
    targets: Array
    num_bytes: Array
    nats: dict[str, Array]
    num_planned: int


def fit_bigram(shards: Shards, plan: Plan, *, vocab_size: int, max_tokens: int) -> KneserNey:
    """Fit on the plan's documents, each once, in the shards' order, up to `max_tokens` tokens."""
    ordinals = plan.documents()
    ordinals = ordinals[~shards.withdrawn[ordinals]]
    used = ordinals[np.cumsum(shards.lengths[ordinals]) <= max_tokens]
    return KneserNey.fit((shards.tokens(i) for i in used.tolist()), vocab_size=vocab_size)


def spread(num_rows: int, wanted: int, blocks: int = 16) -> Array:
    """Choose `wanted` of `num_rows` rows as blocks of neighbours, so that documents stay whole.

    >>> spread(10, 4, blocks=2).tolist()
    [0, 1, 5, 6]
    """
    if wanted >= num_rows:
        return np.arange(num_rows)
    blocks = min(blocks, wanted)
    starts = np.arange(blocks) * num_rows // blocks
    sizes = np.diff(np.arange(blocks + 1) * wanted // blocks)
    return np.concatenate([np.arange(a, a + n) for a, n in zip(starts, sizes, strict=True)])


@torch.no_grad()
def glance(model: Model, reader: Reader, plan: Plan, device: torch.device, num_rows: int) -> float:
    """Return held-out nats per target over some rows: cheap, for a curve."""
    model.eval()
    wanted = spread(plan.num_rows, num_rows)
    total, count = 0.0, 0
    for part in np.array_split(wanted, -(-len(wanted) // 16)):
        loss = model(reader.rows(plan, part).to(device))
        total, count = total + loss.total.item(), count + int(loss.count)
    model.train()
    return total / max(count, 1)


@torch.no_grad()
def measure(
    model: Model,
    reader: Reader,
    plan: Plan,
    device: torch.device,
    *,
    bigram: KneserNey,
    max_rows: int,
    batch_rows: int = 16,
) -> HeldOut:
    """Score model, bigram and unigram on the plan's documents (`spread` over `max_rows` rows)."""
    model.eval()
    unigram = bigram.unigram()
    ordinals = plan.documents()
    sums = {name: np.zeros(len(ordinals)) for name in ("model", "bigram", "unigram")}
    targets = np.zeros(len(ordinals), dtype=np.int64)
    wanted = spread(plan.num_rows, max_rows)
    for start in range(0, len(wanted), batch_rows):
        rows = reader.rows(plan, wanted[start : start + batch_rows])
        units = model(rows.to(device)).units.double().cpu().numpy()
        counted = rows.targets.numpy() >= 0
        context, target = rows.tokens.numpy()[counted], rows.targets.numpy()[counted]
        place = np.searchsorted(ordinals, rows.documents.numpy()[counted])
        scores = {
            "model": units[counted],
            "bigram": bigram.nats(context, target),
            "unigram": unigram.nats(target),
        }
        for name, nats in scores.items():
            sums[name] += np.bincount(place, weights=nats, minlength=len(ordinals))
        targets += np.bincount(place, minlength=len(ordinals))
    model.train()
    sources = np.zeros(len(ordinals), dtype=np.int64)
    sources[np.searchsorted(ordinals, plan.ordinals)] = plan.sources
    whole = np.flatnonzero((targets == reader.shards.lengths[ordinals] - 1) & (targets > 0))
    return HeldOut(
        ordinals=ordinals[whole],
        sources=sources[whole],
        targets=targets[whole],
        num_bytes=reader.shards.num_bytes[ordinals[whole]],
        nats={name: values[whole] for name, values in sums.items()},
        num_planned=len(ordinals),
    )


def ratio_difference(bits: Array, num_bytes: Array) -> tuple[float, float | None]:
    """Return sum(bits) / sum(bytes) and its standard error over documents, by linearisation.

    The ratio estimator R = sum d / sum b has residuals e = d - R b, and variance
    n / (n - 1) * sum e^2 / (sum b)^2 (Cochran 1977, section 2.11). One document: no error.

    Args:
        bits: [n] each document's difference in bits.
        num_bytes: [n] each document's bytes.
    """
    total = num_bytes.sum()
    ratio = bits.sum() / total
    n = len(bits)
    if n < 2:
        return float(ratio), None
    residuals = bits - ratio * num_bytes
    return float(ratio), float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / total)


def summary(held_out: HeldOut, sources: Sequence[str]) -> dict[str, Any]:
    """Return bits per byte, the paired difference, and the same for each source."""
    result = _compare(held_out, np.ones(len(held_out.ordinals), dtype=bool))
    result["documents_planned"] = held_out.num_planned
    result["text"] = _sentence(result)
    result["sources"] = {
        name: _compare(held_out, held_out.sources == code)
        for code, name in enumerate(sources)
        if (held_out.sources == code).any()
    }
    return result


def _compare(held_out: HeldOut, chosen: Array) -> dict[str, Any]:
    num_bytes = held_out.num_bytes[chosen]
    count, total = int(held_out.targets[chosen].sum()), int(num_bytes.sum())
    result: dict[str, Any] = {"documents": int(chosen.sum()), "targets": count, "bytes": total}
    if not total or not count:
        return result
    for name, nats in held_out.nats.items():
        bits = float(nats[chosen].sum()) / LN2
        result[name] = {"bits_per_byte": bits / total, "nats_per_target": bits * LN2 / count}
    paired = (held_out.nats["model"] - held_out.nats["bigram"])[chosen] / LN2
    difference, error = ratio_difference(paired, num_bytes)
    result["difference"] = difference
    result["standard_error"] = error
    result["standard_errors_below"] = -difference / error if error else None
    return result


def _sentence(result: dict[str, Any]) -> str:
    if "model" not in result:
        return "held-out: no whole document was scored"
    text = (
        f"held-out: {result['model']['bits_per_byte']:.3f} bits/byte; Kneser-Ney bigram "
        f"{result['bigram']['bits_per_byte']:.3f}; difference {result['difference']:+.3f}"
    )
    below = result["standard_errors_below"]
    if below is None:
        return f"{text} (one document: no standard error)"
    side = "below" if below >= 0 else "ABOVE"
    return (
        f"{text} +- {result['standard_error']:.3f} (s.e.), {abs(below):.0f} standard errors "
        f"{side}; {result['documents']} documents"
    )

"""Held-out bits per byte, per document, against models that only count tokens.

Nats are summed per document over the spans of the validation plan and divided by the bytes of
its text, so two tokenizers can be compared. Model and baselines are scored on the same targets of
the same documents; the difference is paired, and its standard error is over documents.
`train.contest` measures more, after training. What another task than the next token loses is
measured row by row instead, with its metrics.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.baselines import KneserNey
from train.data import Plan, Reader, Shards
from train.glance import glance, spread
from train.model import Model
from train.runfile import Run

__all__ = [
    "HeldOut",
    "fit",
    "glance",
    "held_out_of",
    "main",
    "measure",
    "measure_rows",
    "ratio_difference",
    "sources_of",
    "summary",
    "summary_of_rows",
    "sums",
    "thinned",
]

Array = np.ndarray[Any, np.dtype[Any]]
LN2 = math.log(2)
SCORED = 1 << 20  # tokens of documents that a baseline scores at once


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


def fit(
    shards: Shards, plans: Iterable[Plan], *, vocab_size: int, max_tokens: int, order: int
) -> KneserNey:
    """Fit on the plans' documents, each once, thinned to about `max_tokens` tokens."""
    ordinals = np.unique(np.concatenate([plan.documents() for plan in plans]))
    used = thinned(shards, ordinals[~shards.withdrawn[ordinals]], max_tokens)
    documents = map(shards.tokens, used.tolist())
    return KneserNey.fit(documents, vocab_size=vocab_size, order=order)


def thinned(shards: Shards, ordinals: Array, max_tokens: int) -> Array:
    """Return some of the documents, evenly spaced, so that about `max_tokens` tokens remain."""
    total = int(shards.lengths[ordinals].sum())
    kept = max(1, len(ordinals) * max_tokens // max(total, 1))
    return ordinals if kept >= len(ordinals) else ordinals[np.arange(kept) * len(ordinals) // kept]


def sums(baseline: KneserNey, shards: Shards, ordinals: Array) -> Array:
    """Return each document's nats under a baseline, float64 [n]."""
    ends = np.cumsum(shards.lengths[ordinals])
    found = np.zeros(len(ordinals))
    for part in np.split(np.arange(len(ordinals)), np.flatnonzero(np.diff(ends // SCORED)) + 1):
        targets = np.maximum(shards.lengths[ordinals[part]] - 1, 0)
        nats = baseline.nats([shards.tokens(i) for i in ordinals[part].tolist()])
        place = np.repeat(np.arange(len(part)), targets)
        found[part] = np.bincount(place, weights=nats, minlength=len(part))
    return found


def sources_of(plan: Plan, ordinals: Array) -> Array:
    """Return the source codes of some of a plan's documents [n]."""
    distinct, first = np.unique(plan.ordinals, return_index=True)
    found: Array = plan.sources[first[np.searchsorted(distinct, ordinals)]]
    return found


@torch.no_grad()
def measure(
    model: Model,
    reader: Reader,
    plan: Plan,
    device: torch.device,
    *,
    baselines: Mapping[str, KneserNey],
    max_rows: int,
    batch_rows: int = 16,
) -> HeldOut:
    """Score the plan's documents (`spread` over `max_rows` rows), packed as for training.

    A document counts when all its targets were scored.
    """
    model.eval()
    shards, ordinals = reader.shards, plan.documents()
    nats, targets = np.zeros(len(ordinals)), np.zeros(len(ordinals), dtype=np.int64)
    wanted = spread(plan.num_rows, max_rows)  # by size: the whole is a figure of the split
    for start in range(0, len(wanted), batch_rows):
        rows = reader.rows(plan, wanted[start : start + batch_rows])
        units = model(rows.to(device)).units.double().cpu().numpy()
        counted = rows.targets.numpy() >= 0
        place = np.searchsorted(ordinals, rows.documents.numpy()[counted])
        nats += np.bincount(place, weights=units[counted], minlength=len(ordinals))
        targets += np.bincount(place, minlength=len(ordinals))
    model.train()
    whole = np.flatnonzero((targets == shards.lengths[ordinals] - 1) & (targets > 0))
    chosen = ordinals[whole]
    return HeldOut(
        ordinals=chosen,
        sources=sources_of(plan, chosen),
        targets=targets[whole],
        num_bytes=shards.num_bytes[chosen],
        nats={"model": nats[whole]} | {k: sums(v, shards, chosen) for k, v in baselines.items()},
        num_planned=len(ordinals),
    )


@dataclass(frozen=True, kw_only=True)
class Rowwise:
    """What any task's loss is on held-out rows, all [n]: what is measured of no bytes.

    Attributes:
        sources: source codes.
        losses, targets: sums of each row.
        metrics: name -> (sum, count).
    """

    sources: Array
    losses: Array
    targets: Array
    metrics: Mapping[str, tuple[float, float]]


@torch.no_grad()
def measure_rows(
    model: Model,
    reader: Any,
    plan: Plan,
    device: torch.device,
    *,
    max_rows: int,
    batch_rows: int,
) -> Rowwise:
    """Score a plan's rows (`spread` over `max_rows`) with the run's own objective.

    Args:
        model, reader, plan, device: what is scored, and where.
        max_rows: at most so many rows.
        batch_rows: of a step of the run. The rows of a batch-coupled task are scored so many at
            once, as in training; what is left of them is not comparable and is left out, unless it
            is all that there is.
    """
    model.eval()
    coupled = model.objective.batch_coupled
    wanted = spread(plan.num_rows, max_rows)
    size = min(batch_rows, len(wanted)) if coupled else 16
    parts: list[Array] = []
    metrics: dict[str, Tensor] = {}
    for start in range(0, len(wanted) - size + 1 if coupled else len(wanted), size):
        rows = reader.rows(plan, wanted[start : start + size]).to(device)
        loss = model(rows)
        counted = loss.told(rows.targets >= 0).double().sum(1)
        mine = torch.stack([rows.sources[:, 0].double(), loss.units.double().sum(1), counted])
        parts.append(mine.cpu().numpy())
        for name, pair in loss.metrics.items():
            found = pair.double().cpu()
            metrics[name] = metrics[name] + found if name in metrics else found
    model.train()
    sources, losses, targets = np.concatenate(parts, axis=1)
    return Rowwise(
        sources=sources.astype(np.int64),
        losses=losses,
        targets=targets,
        metrics={name: (float(pair[0]), float(pair[1])) for name, pair in metrics.items()},
    )


def summary_of_rows(
    rows: Rowwise, sources: Sequence[str], *, unit: str, chance: float | None
) -> dict[str, Any]:
    """Return the loss per target with its standard error over rows, by source; the metrics."""
    found = _loss_of(rows, np.ones(len(rows.sources), dtype=bool))
    metrics = {name: a / b if b else None for name, (a, b) in sorted(rows.metrics.items())}
    told = [f"{k.replace('_', ' ')} {v:.3f}" for k, v in metrics.items() if v is not None]
    text = "held-out: nothing was measured: no row has a target"
    if found["loss"] is not None:
        beside = "" if chance is None else f" (knowing nothing: {chance:.3f})"
        text = f"held-out: loss {found['loss']:.4f} {unit}{beside}"
        text = ", ".join([text, *told, f"{found['rows']} rows"])
    return {
        **found,
        "unit": unit,
        "chance": chance,
        "metrics": metrics,
        "text": text,
        "sources": {
            name: _loss_of(rows, rows.sources == code)
            for code, name in enumerate(sources)
            if (rows.sources == code).any()
        },
    }


def _loss_of(rows: Rowwise, chosen: Array) -> dict[str, Any]:
    chosen = chosen & (rows.targets > 0)
    losses, targets = rows.losses[chosen], rows.targets[chosen]
    loss, error = ratio_difference(losses, targets) if len(losses) else (None, None)
    return {
        "loss": loss if loss is None or math.isfinite(loss) else None,
        "standard_error": error if error is None or math.isfinite(error) else None,
        "targets": round(float(targets.sum())),
        "rows": len(losses),
    }


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
        return (
            "held-out: no whole document was scored, so nothing is told of them; where documents "
            "are longer than a row, raise train.eval_max_rows"
        )
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


def held_out_of(
    run: Run,
    model: Model,
    shards: Shards,
    plans: Mapping[str, Plan],
    reader: Any,
    device: torch.device,
    *,
    chance: float | None,
) -> dict[str, Any] | None:
    """Measure the validation plan: of the next token bits per byte, of another task its loss."""
    plan = plans.get("validation")
    if plan is None or not plan.num_rows:
        return None
    rows = run.config.eval_max_rows
    if run.config.objective != "next_token":
        size = run.batch_rows
        if model.objective.batch_coupled and min(rows, plan.num_rows) < size:
            chance = None  # it is that of choosing among a step's rows, and these are fewer
        scores = measure_rows(model, reader, plan, device, max_rows=rows, batch_rows=size)
        return summary_of_rows(scores, run.sources, unit=model.objective.unit, chance=chance)
    baselines = {
        name: fit(
            shards,
            [plans[phase.plan] for phase in run.phases],
            vocab_size=run.vocab_size,
            max_tokens=run.config.baseline_max_tokens,
            order=order,
        )
        for name, order in (("bigram", 2), ("unigram", 1))
    }
    found = measure(model, reader, plan, device, baselines=baselines, max_rows=rows)
    return summary(found, run.sources)


def main(arguments: list[str] | None = None) -> int:
    """`python -m train evaluate RUN.json`: the contest, which needs what is here."""
    from train.contest import main as contest

    return contest(arguments)

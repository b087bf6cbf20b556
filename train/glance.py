"""A glance at held-out rows while a run goes on: losses by source and metrics, cheap, for a curve.

Rows are chosen so that a small source is seen beside large ones. Ranks share them. The rows of a
batch-coupled task are compared with one another as in training, whatever the number of ranks: in
groups of a step's rows, of which one at least is looked at; all of them where the plan has fewer.

>>> spread(10, 4, blocks=2).tolist()
[0, 1, 5, 6]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.coupled import in_order
from train.model import Model
from train.objectives import Loss
from train.parallel import Ranks
from train.rows import IGNORE
from train.shards import Ints, Plan

__all__ = ["glance", "rows_of_sources", "spread"]

#: Rows that are scored at once.
BATCH = 16


def spread(num_rows: int, wanted: int, blocks: int = 16) -> Ints:
    """Choose `wanted` of `num_rows` rows as blocks of neighbours, so that documents stay whole."""
    if wanted >= num_rows:
        return np.arange(num_rows)
    blocks = min(blocks, wanted)
    starts = np.arange(blocks) * num_rows // blocks
    sizes = np.diff(np.arange(blocks + 1) * wanted // blocks)
    return np.concatenate([np.arange(a, a + n) for a, n in zip(starts, sizes, strict=True)])


def rows_of_sources(plan: Plan, wanted: int) -> Ints:
    """Choose about `wanted` rows of a held-out plan, so that no source is lost among larger ones.

    Half of them are shared by size, half equally; a row of such a plan is of one source.
    """
    if wanted >= plan.num_rows:
        return np.arange(plan.num_rows)
    codes = plan.sources[plan.first[:-1]]
    names, counts = np.unique(codes, return_counts=True)
    shares = np.ceil(wanted / 2 * (counts / counts.sum() + 1 / len(names)))
    return np.concatenate(
        [
            np.flatnonzero(codes == name)[spread(int(count), int(share))]
            for name, count, share in zip(names, counts, shares, strict=True)
        ]
    )


@torch.no_grad()
def glance(
    model: Model,
    reader: Any,
    plan: Plan,
    device: torch.device,
    num_rows: int,
    *,
    num_sources: int,
    ranks: Ranks | None = None,
    batch_rows: int | None = None,
    metrics: dict[str, float | None] | None = None,
) -> Tensor:
    """Return held-out nats and targets of each source over some rows: cheap, for a curve.

    Args:
        model, reader, plan, device: what is scored, and where.
        num_rows: about so many rows.
        num_sources: of the run.
        ranks: share the rows; every rank must ask. None: this process scores all of them.
        batch_rows: rows of a step, which a batch-coupled task compares with one another: at least
            so many are looked at, and what is left of groups of them is left out. None: all rows
            are compared.
        metrics: filled with the objective's metrics over these rows.

    Returns:
        [2, num_sources] float64 on the CPU; the only wait for the device is at the end.
    """
    model.eval()
    coupled, ranks = model.objective.batch_coupled, ranks or Ranks(device=device)
    chosen = rows_of_sources(plan, max(num_rows, batch_rows or 0) if coupled else num_rows)
    sums = torch.zeros(2, num_sources, dtype=torch.float64, device=device)
    pairs: dict[str, Tensor] = {}

    def note(loss: Loss, sources: Tensor, counted: Tensor, share: float = 1.0) -> None:
        sums.add_(share * loss.per_source(sources, num_sources, counted))
        for name, pair in loss.metrics.items():
            pairs[name] = pairs.get(name, 0) + share * pair.double()

    if not coupled:
        for rows in _shared(reader, plan, chosen, ranks, device):
            note(model(rows), rows.sources, rows.targets >= 0)
    for group in _groups(chosen, batch_rows) if coupled else ():
        features = []
        for rows in _shared(reader, plan, group, ranks, device):
            mine, beside = model(rows, "both")
            features.append(mine)
            if beside is not None:
                note(beside, rows.sources, rows.targets >= 0)
        whole = in_order(ranks.gather_rows(torch.cat(features)), ranks.world)[: len(group)]
        loss = model(whole, "couple")  # the same on all ranks; the first one tells it
        sources = torch.from_numpy(plan.sources[plan.first[group]].astype(np.int64)).to(device)
        told = torch.ones_like(loss.units)
        note(loss, sources[:, None], told, share=float(ranks.rank == 0))
    model.train()
    if metrics is not None and pairs:
        found = ranks.sum_(torch.stack([pairs[name] for name in sorted(pairs)])).tolist()
        metrics |= {k: a / b if b else None for k, (a, b) in zip(sorted(pairs), found, strict=True)}
    return ranks.sum_(sums).cpu()


def _groups(chosen: Ints, batch_rows: int | None) -> list[Ints]:
    """Return groups of at most `batch_rows` rows; each has some of every part of `chosen`."""
    size = min(batch_rows or len(chosen), len(chosen))
    number = len(chosen) // max(size, 1)
    return [chosen[i::number][:size] for i in range(number)]


def _shared(
    reader: Any, plan: Plan, chosen: Ints, ranks: Ranks, device: torch.device
) -> Iterator[Any]:
    """Yield this rank's rows, every world-th, on the device, `BATCH` at a time.

    All ranks call the model equally often, as FSDP needs: the last of them may repeat a row, which
    then has no target.
    """
    places = np.arange(ranks.rank, -(-len(chosen) // ranks.world) * ranks.world, ranks.world)
    wanted, extra = chosen[np.minimum(places, len(chosen) - 1)], places >= len(chosen)
    for first in range(0, len(wanted), BATCH):
        rows = reader.rows(plan, wanted[first : first + BATCH])
        rows.targets[torch.from_numpy(extra[first : first + BATCH])] = IGNORE
        yield rows.to(device)

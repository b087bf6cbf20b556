"""Batch-coupled losses over micro-batches and ranks: cached gradients (GradCache, Gao et al. 2021).

A loss that compares the rows of a step with one another cannot be summed over parts of the step.
But it depends on the model through the rows' features alone. So features are made first, without a
graph; all of them, from all ranks, in the order of the stream, give the loss and the gradient of
each feature; then every micro-batch makes its features again, with a graph, and takes its gradients
through it. The step is the same, whatever its parts, and holds the graph of one part at a time.

What the loss itself has as parameters (a temperature, a head) gets the whole gradient on every
rank; it is divided by their number, since gradients are summed over ranks later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from train.objectives import Loss, Rows
from train.parallel import Ranks

__all__ = ["backward_in_parts", "in_order"]


def in_order(gathered: Tensor, world: int) -> Tensor:
    """Put what ranks gave, one after another, into the order of the stream.

    Rank r has every world-th row of a step, from r on.

    >>> in_order(torch.tensor([0, 2, 4, 1, 3, 5]), 2).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return gathered.unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1)


def backward_in_parts(
    model: Any,
    batch: Sequence[Rows],
    ranks: Ranks,
    observe: Callable[[Rows, Loss], None] | None = None,
) -> Tensor:
    """Accumulate the gradients of a step's batch-coupled loss; every rank must ask.

    Args:
        model: a `train.model.Model` whose objective is batch-coupled.
        batch: this rank's micro-batches, in order.
        ranks: who this is.
        observe: called with each micro-batch and what is told of its rows.

    Returns:
        [2] float64, this rank's part of the loss and of the count: their sum over ranks is the
        step's.
    """
    with torch.no_grad():
        mine = torch.cat([model(rows, "features") for rows in batch])
    features = in_order(ranks.gather_rows(mine), ranks.world).requires_grad_()
    loss: Loss = model(features, "couple")
    (loss.total / ranks.world).backward()
    assert features.grad is not None, "the loss depends on the features"
    gradients = _share(features.grad * ranks.world, ranks)
    counted = torch.ones_like(loss.units) if loss.counted is None else loss.counted
    units, counted = _share(loss.units, ranks), _share(counted, ranks)

    sums = torch.stack([loss.total.detach().double(), loss.count.double()]) * ranks.first
    first = 0
    for rows in batch:
        part = slice(first, first + len(rows.tokens))
        again, beside = model(rows, "both")
        told = Loss(
            total=loss.total.detach(),
            count=loss.count,
            units=units[part],
            counted=counted[part],
            metrics=loss.metrics if ranks.first and not first else {},
        )
        if beside is None:
            torch.autograd.backward([again], [gradients[part]])
        else:
            from train.mixing import added

            torch.autograd.backward([again, beside.total], [gradients[part], None])
            sums += torch.stack([beside.total.detach().double(), beside.count.double()])
            told = added(told, beside)
        if observe is not None:
            observe(rows, told)
        first = part.stop
    return sums


def _share(whole: Tensor, ranks: Ranks) -> Tensor:
    """Return this rank's rows of what is in the order of the stream."""
    return whole.detach()[ranks.rank :: ranks.world]

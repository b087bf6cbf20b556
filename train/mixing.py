"""Several pretext tasks on one backbone: `masked_token + 20 * sentence_order`.

A weight is one of each target: the loss is sum w_i total_i over sum w_i count_i, so a task with one
target a row is not drowned by one with a hundred. Each part makes its own inputs of the rows, runs
the backbone with its own `causal`, and keeps its own head and state. One part may be batch-coupled;
the loop then couples its features and takes the others' losses along.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from curate.corpus.errors import InputError
from train.config import parts_of
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["Mixed", "mixed"]


class Mixed(Objective):
    """The weighted sum of several tasks; `mixed` makes a class of it for each mix.

    Args:
        spec: a `train.model.ModelSpec`; each part gets it with its own name, `causal` and knobs.
    """

    weights: Mapping[str, float]
    kinds: Mapping[str, type[Objective]]

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.tasks = nn.ModuleDict(
            {
                name: kind(
                    replace(
                        spec,
                        objective=name,
                        causal=kind.causal,
                        task={k: v for k, v in spec.task.items() if k in kind.knobs},
                    )
                )
                for name, kind in self.kinds.items()
            }
        )

    def _each(self) -> Iterator[tuple[str, float, Any]]:
        for name, task in self.tasks.items():
            yield name, self.weights[name], task

    def attach(self, backbone: nn.Module) -> None:
        """Let each part make its teacher."""
        for _, _, task in self._each():
            with _seen_by(task, backbone):
                task.attach(backbone)

    def manufacture(self, rows: Rows) -> Batch:
        """Leave it to the parts: each makes its own inputs of the same rows."""
        return Batch(inputs=rows.tokens, targets=rows.targets, rows=rows)

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Return the weighted sum of all parts."""
        found = self._sum(backbone, batch, coupled=True)
        assert found is not None, "a mix has parts"
        return found

    def beside(self, backbone: nn.Module, batch: Batch) -> Loss | None:
        """Return the weighted sum of the parts that are not batch-coupled; None without any."""
        return self._sum(backbone, batch, coupled=False)

    def _sum(self, backbone: nn.Module, batch: Batch, *, coupled: bool) -> Loss | None:
        found: Loss | None = None
        for name, weight, task in self._each():
            if task.batch_coupled and not coupled:
                continue
            with _seen_by(task, backbone):
                one = task(backbone, task.manufacture(batch.rows))
            one = weighted(one, weight, name, batch.rows)
            found = one if found is None else added(found, one)
        return found

    def _coupled(self) -> tuple[str, float, Any]:
        return next(part for part in self._each() if part[2].batch_coupled)

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return the features of the part that is batch-coupled."""
        _, _, task = self._coupled()
        with _seen_by(task, backbone):
            features: Tensor = task.embed(backbone, task.manufacture(batch.rows))
        return features

    def couple(self, features: Tensor) -> Loss:
        """Return that part's loss, weighted."""
        name, weight, task = self._coupled()
        return weighted(task.couple(features), weight, name, None)

    def encode(self, backbone: Any, rows: Rows, blocks: int | None = None) -> Tensor:
        """Return what the first part makes of the rows."""
        _, _, task = next(self._each())
        with _seen_by(task, backbone):
            found: Tensor = task.encode(backbone, rows, blocks)
        return found

    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Advance each part."""
        for _, _, task in self._each():
            task.after_step(backbone, step, steps)

    def health(self) -> Mapping[str, float]:
        """Return the health of each part, with its name before it."""
        return {f"{n}/{k}": v for n, _, task in self._each() for k, v in task.health().items()}

    def chance(self) -> float | None:
        """Return None: how often each part has a target is not known before."""
        return None


@contextlib.contextmanager
def _seen_by(task: Any, backbone: Any) -> Iterator[None]:
    """Let the backbone hide later tokens as this part is used to, unless it says otherwise."""
    before = backbone.causal
    backbone.causal = task.causal
    try:
        yield
    finally:
        backbone.causal = before


def weighted(loss: Loss, weight: float, name: str, rows: Rows | None) -> Loss:
    """Return a part's loss times its weight; its metrics stay as they are, under its name.

    Args:
        loss, weight, name: of the part.
        rows: for what counts where the loss does not say; None: one target a row.
    """
    counted = loss.counted
    if counted is None:
        counted = torch.ones_like(loss.units) if rows is None else loss.told(rows.targets >= 0)
    metrics = {f"{name}/{k}": v for k, v in loss.metrics.items()}
    metrics[f"{name}/loss"] = torch.stack([loss.total.detach(), loss.count.to(loss.total)])
    return Loss(
        total=weight * loss.total,
        count=weight * loss.count,
        units=weight * loss.units,
        counted=weight * counted,
        metrics=metrics,
    )


def added(one: Loss, other: Loss) -> Loss:
    """Return the sum of two losses of the same rows; [B, 1] is added at a row's first place."""
    wide, narrow = (one, other) if one.units.size(1) >= other.units.size(1) else (other, one)
    assert wide.counted is not None
    assert narrow.counted is not None
    units, counted = wide.units.clone(), wide.counted.clone().to(narrow.counted.dtype)
    size = narrow.units.size(1)
    units[:, :size] += narrow.units
    counted[:, :size] += narrow.counted
    return Loss(
        total=one.total + other.total,
        count=one.count + other.count,
        units=units,
        counted=counted,
        metrics={**one.metrics, **other.metrics},
    )


@cache
def mixed(objective: str) -> type[Mixed]:
    """Return the class of a mix, or refuse tasks that do not go together."""
    from train.objectives import find

    weights = parts_of(objective)
    kinds = {name: find(name) for name in weights}
    several = [name for name, kind in kinds.items() if kind.batch_coupled]
    if len(several) > 1:
        raise InputError(
            f"train.objective: {' and '.join(several)} both compare the rows of a step with one "
            "another; a mix has room for one such task"
        )
    units = {name: kind.unit for name, kind in kinds.items()}
    columns = {field.name: field for kind in kinds.values() for field in kind.needs}
    knobs: dict[str, Any] = {}
    for kind in reversed(kinds.values()):
        knobs |= kind.knobs
    floors = {f"{n}/{k}": v for n, kind in kinds.items() for k, v in kind.floors.items()}
    return type(
        "Mixed",
        (Mixed,),
        {
            "__doc__": f"The mix {objective}.",
            "weights": weights,
            "kinds": kinds,
            "least_rows": max(kind.least_rows for kind in kinds.values()),
            "needs": pa.schema(list(columns.values())),
            "batch_coupled": bool(several),
            "causal": all(kind.causal for kind in kinds.values()),
            "unit": " + ".join(dict.fromkeys(units.values())),
            "knobs": knobs,
            "floors": floors,
        },
    )

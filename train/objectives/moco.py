"""MoCo v2: a view finds the teacher's key of its partner among keys of earlier steps.

InfoNCE (He et al. 2020; v2: Chen et al. 2020): -log of the share of exp(q k / t) among its own key
and the K keys of a queue. The teacher is a moving average of the student. It moves after each
update, so before the next step's keys are made, as in the paper's pseudo-code.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.objectives.base import Batch, Loss
from train.views import ViewTask, copy_of, follow, pooled, projector

__all__ = ["OBJECTIVE", "MoCo"]


class MoCo(ViewTask):
    """Contrast with a queue: as many negatives as it holds, whatever the batch.

    Empty places of the queue are left out: the first step has no wrong answer, and no gradient.

    Args:
        spec: a `train.model.ModelSpec`.
    """

    queue: Tensor
    seen: Tensor
    knobs: ClassVar[Mapping[str, Any]] = {
        "temperature": 0.2,
        "projection": 64,
        "queue_size": 2048,
        "teacher_momentum": 0.99,
        "views": None,
    }

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.projector = projector(spec.width, 4 * spec.width, self.knob["projection"])
        self.register_buffer("queue", torch.zeros(self.knob["queue_size"], self.knob["projection"]))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._keys: Tensor | None = None

    def attach(self, backbone: nn.Module) -> None:
        """Make the teacher, backbone and projector."""
        self.teacher = nn.ModuleList([copy_of(backbone), copy_of(self.projector)])

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2, D] unit vectors: the query and its key, which has no gradient."""
        query = self.projector(pooled(backbone, batch.inputs[:, 0]))
        with torch.no_grad():
            key = self.teacher[1](pooled(self.teacher[0], batch.inputs[:, 1]))
        z = F.normalize(torch.stack([query, key], 1), dim=-1)
        return z * (batch.rows.targets[:, :1, None] >= 0)

    def couple(self, features: Tensor) -> Loss:
        """Contrast the queries of [N, 2, D] with their keys and the queue; keep the keys."""
        query, key = features.float().unbind(1)
        own = (query * key.detach()).sum(-1, keepdim=True)
        empty = torch.arange(len(self.queue), device=query.device) >= self.seen
        others = (query @ self.queue.T).masked_fill(empty, -math.inf)
        logits = torch.cat([own, others], 1) / self.knob["temperature"]
        present = self.present(features)[:, None]
        losses = (logits.logsumexp(1, keepdim=True) - logits[:, :1]) * present
        right = ((logits.argmax(1, keepdim=True) == 0) & present).sum().float()
        counted = present.float()
        self.keep(query)
        if self.training:
            self._keys = key.detach()
        return Loss(
            total=losses.sum(),
            count=counted.sum(),
            units=losses.detach(),
            counted=counted,
            metrics={"accuracy": torch.stack([right, counted.sum()])},
        )

    @torch.no_grad()
    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Put the step's keys in the place of the oldest; move the teacher."""
        if self._keys is not None:
            keys = self._keys[-len(self.queue) :]
            places = (self.seen + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            sound = keys.isfinite().all()  # a bad step leaves everything as it was
            self.queue[places] = torch.where(sound, keys, self.queue[places])
            self.seen += sound * len(keys)
            self._keys = None
        follow(self.teacher[0], backbone, self.knob["teacher_momentum"])
        follow(self.teacher[1], self.projector, self.knob["teacher_momentum"])

    def chance(self) -> float:
        """Return ln(1 + K), K being the length of the queue."""
        return math.log(1 + len(self.queue))


OBJECTIVE = MoCo

"""DINO: the student tells from one view which codes its teacher gives to the other.

Self-distillation without labels (Caron et al. 2021, algorithm 1): the cross-entropy between the
teacher's softmax and the student's, over pairs of different views, the teacher being a moving
average of the student. A low temperature keeps the teacher from calling all codes alike; what keeps
it from giving one code to all is the `variant`:

- `sinkhorn`: its answers are made to use all codes equally over the step, by three iterations of
  Sinkhorn and Knopp (SwAV, Caron et al. 2020; DINOv2, Oquab et al. 2024). Short runs learn with it.
- `centre`: a moving average of its answers is subtracted, as in the first paper.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Rows
from train.views import ViewTask, copy_of, distillation, follow, pooled, projector, sinkhorn

__all__ = ["DINO", "OBJECTIVE"]

#: The teacher's temperature as a share of the student's; momentum of the centre.
SHARPNESS, CENTRE_MOMENTUM = 0.1, 0.9
VARIANTS = ("sinkhorn", "centre")


class DINO(ViewTask):
    """Distil a teacher that is the student's own average.

    Args:
        spec: a `train.model.ModelSpec`.
    """

    centre: Tensor
    knobs: ClassVar[Mapping[str, Any]] = {
        "temperature": 0.1,
        "projection": 64,
        "codes": 1024,
        "teacher_momentum": 0.99,
        "variant": "sinkhorn",
        "views": None,
    }
    floors: ClassVar[Mapping[str, float]] = {"teacher_information": 0.1}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        if self.knob["variant"] not in VARIANTS:
            raise InputError(one_of("train.variant of dino", self.knob["variant"], VARIANTS))
        narrow = self.knob["projection"]
        self.projector = projector(spec.width, 4 * spec.width, narrow)
        self.prototypes = Linear(narrow, self.knob["codes"])
        self.register_buffer("centre", torch.zeros(self.knob["codes"]))
        self._mean: Tensor | None = None

    def attach(self, backbone: nn.Module) -> None:
        """Make the teacher: backbone, projector, prototypes."""
        self.teacher = nn.ModuleList(copy_of(part) for part in self._parts(backbone))

    def _parts(self, backbone: Any) -> tuple[Any, Any, Any]:
        return backbone, self.projector, self.prototypes

    def _logits(self, parts: Any, images: Tensor) -> Tensor:
        """Return cosines with the prototypes (their norm is taken out), [B, codes]."""
        backbone, project, prototypes = parts
        z = F.normalize(project(pooled(backbone, images)), dim=-1)
        return z @ F.normalize(prototypes.weight, dim=-1).T

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 4, codes]: the student's logits of both views, then the teacher's."""
        images = batch.inputs.flatten(0, 1)
        student = self._logits(self._parts(backbone), images)
        with torch.no_grad():
            teacher = self._logits(self.teacher, images)
        both = torch.cat([some.unflatten(0, (-1, 2)) for some in (student, teacher)], 1)
        return both * (batch.rows.targets[:, :1, None] >= 0)

    def couple(self, features: Tensor) -> Loss:
        """Distil [N, 4, codes]; a centre is that of earlier steps."""
        student, teacher = features.float().split(2, 1)
        there = self.present(features)
        shares = self._shares(teacher.detach(), there)
        present = there[:, None].float()
        losses = distillation(student, shares, self.knob["temperature"])[:, None] * present
        if self.training:
            self._seen = shares.detach().flatten(0, 1)
            rows = present.sum().clamp(min=1)
            self._mean = teacher.detach().mean(1).sum(0) / rows
        agree = shares[:, 0].argmax(-1) == student[:, 1].argmax(-1)
        return Loss(
            total=losses.sum(),
            count=present.sum(),
            units=losses.detach(),
            counted=present,
            metrics={"accuracy": torch.stack([(agree * present[:, 0]).sum(), present.sum()])},
        )

    def _shares(self, teacher: Tensor, present: Tensor) -> Tensor:
        """Return what the teacher says, [N, V, codes], from its logits."""
        heat = SHARPNESS * self.knob["temperature"]
        if self.knob["variant"] == "centre":
            return ((teacher - self.centre) / heat).softmax(-1)
        views = teacher.size(1)
        flat = teacher.flatten(0, 1) / heat
        return sinkhorn(flat, present.repeat_interleave(views)).unflatten(0, (-1, views))

    @torch.no_grad()
    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Move the centre and the teacher, whose momentum rises to 1 on half a cosine."""
        if self._mean is not None:
            mean = torch.where(self._mean.isfinite().all(), self._mean, self.centre)
            self.centre.lerp_(mean, 1 - CENTRE_MOMENTUM)
            self._mean = None
        rest = 1 - self.knob["teacher_momentum"]
        momentum = 1 - rest * 0.5 * (1 + math.cos(math.pi * (step + 1) / max(1, steps)))
        for teacher, student in zip(self.teacher, self._parts(backbone), strict=True):
            follow(teacher, student, momentum)

    def encode(self, backbone: Any, rows: Rows, blocks: int | None = None) -> Tensor:
        """Return [B, D] of the teacher, which is better than its student (section 5.1)."""
        return super().encode(self.teacher[0], rows, blocks)

    def health(self) -> Mapping[str, float]:
        """Return nats of the last step: the teacher's entropy, that of all its answers together.

        Their difference is what a code tells of an image: 0 in either collapse.
        """
        if self._seen is None:
            return {}
        mean = self._seen.mean(0)
        each, all_ = (-(p * p.clamp(min=1e-12).log()).sum(-1).mean() for p in (self._seen, mean))
        return {
            "teacher_entropy": float(each),
            "code_entropy": float(all_),
            "teacher_information": float(all_ - each),
        }

    def chance(self) -> float:
        """Return ln K: all codes alike."""
        return math.log(self.knob["codes"])


OBJECTIVE = DINO

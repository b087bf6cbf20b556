"""SimCLR: the two views of an image find one another among all views of the step.

NT-Xent (Chen et al. 2020, equation 1): for a view i with its partner j among the 2N views of N
images, -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), s being the cosine of projections.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.objectives.base import Batch, Loss
from train.views import ViewTask, pooled, projector

__all__ = ["OBJECTIVE", "SimCLR", "nt_xent"]


def nt_xent(z: Tensor, present: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return [N, 2]: the loss in nats of each view, and whether its partner is the nearest.

    Args:
        z: [N, 2, D] unit vectors.
        present: [N] bool; what is False is nobody's example, and its losses are 0.
        temperature: by which cosines are divided.
    """
    flat, there = z.flatten(0, 1), present.repeat_interleave(2)
    logits = flat @ flat.T / temperature
    of_partner = (z[:, 0] * z[:, 1]).sum(-1).repeat_interleave(2) / temperature
    self_ = torch.eye(len(flat), dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(self_ | ~there, torch.finfo(logits.dtype).min)
    losses = torch.where(there, logits.logsumexp(1) - of_partner, 0.0)
    partner = torch.arange(len(flat), device=z.device) ^ 1
    return losses.view(-1, 2), ((logits.argmax(1) == partner) & there).view(-1, 2)


class SimCLR(ViewTask):
    """Contrast views within the step; larger steps have more negatives.

    Args:
        spec: a `train.model.ModelSpec`.
    """

    least_rows: ClassVar[int] = 2
    knobs: ClassVar[Mapping[str, Any]] = {"temperature": 0.2, "projection": 64, "views": None}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.projector = projector(spec.width, 4 * spec.width, self.knob["projection"])
        self._rows = 0

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2, D] unit vectors; zeros where the image was withdrawn."""
        hidden = pooled(backbone, batch.inputs.flatten(0, 1))
        z = F.normalize(self.projector(hidden), dim=-1).unflatten(0, (-1, 2))
        return z * (batch.rows.targets[:, :1, None] >= 0)

    def couple(self, features: Tensor) -> Loss:
        """Contrast [N, 2, D]; two targets a row."""
        present = self.present(features)
        losses, right = nt_xent(features.float(), present, self.knob["temperature"])
        counted = 2 * present[:, None].float()
        self.keep(features[:, 0])
        if self.training:
            self._rows = len(features)
        return Loss(
            total=losses.sum(),
            count=counted.sum(),
            units=losses.detach().sum(1, keepdim=True),
            counted=counted,
            metrics={"accuracy": torch.stack([right.sum().float(), counted.sum()])},
        )

    def chance(self) -> float | None:
        """Return ln(2N - 1), N being the images of the last step; None before the first."""
        return math.log(2 * self._rows - 1) if self._rows else None


OBJECTIVE = SimCLR

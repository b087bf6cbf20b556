"""VICReg: views agree, while every channel keeps its variance and tells something of its own.

Variance, invariance and covariance (Bardes et al. 2022, equations 1 to 6), with no negatives, no
teacher and no normalised vectors.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from train.objectives.base import Batch, Loss
from train.views import ViewTask, pooled, projector

__all__ = ["OBJECTIVE", "VICReg", "variance_covariance"]

#: The paper's weights of invariance, variance and covariance; and what is added to a variance.
INVARIANCE, VARIANCE, COVARIANCE, EPS = 25.0, 25.0, 1.0, 1e-4


def variance_covariance(z: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far deviations fall short of 1 (equation 1), and covariances (equation 4).

    Args:
        z: [N, D].
        present: [N] bool, rows that count; at least two, else both are 0.
    """
    share = present.float()[:, None]
    rows = share.sum()
    centred = (z - (z * share).sum(0) / rows.clamp(min=1)) * share
    covariance = centred.T @ centred / (rows - 1).clamp(min=1)
    deviations = (covariance.diagonal() + EPS).sqrt()
    off = covariance - covariance.diagonal().diag()
    enough = rows > 1
    return (1 - deviations).relu().mean() * enough, off.square().sum() / z.size(1) * enough


class VICReg(ViewTask):
    """Agree without collapsing.

    Args:
        spec: a `train.model.ModelSpec`.
    """

    unit: ClassVar[str] = "VICReg"
    least_rows: ClassVar[int] = 2
    knobs: ClassVar[Mapping[str, Any]] = {"projection": 256, "views": None}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        wide = self.knob["projection"]
        self.projector = projector(spec.width, wide, wide, wide)

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2, D]; zeros where the image was withdrawn."""
        z = self.projector(pooled(backbone, batch.inputs.flatten(0, 1))).unflatten(0, (-1, 2))
        return z * (batch.rows.targets[:, :1, None] >= 0)

    def couple(self, features: Tensor) -> Loss:
        """Measure [N, 2, D]; a row's unit is its own invariance and what all rows share."""
        z, present = features.float(), self.present(features)
        invariance = (z[:, 0] - z[:, 1]).square().mean(-1)
        terms = [variance_covariance(view, present) for view in z.unbind(1)]
        shared = VARIANCE * sum(v for v, _ in terms) + COVARIANCE * sum(c for _, c in terms)
        losses = (INVARIANCE * invariance + shared) * present
        counted = present[:, None].float()
        self.keep(z[:, 0])
        return Loss(
            total=losses.sum(),
            count=counted.sum(),
            units=losses.detach()[:, None],
            counted=counted,
        )

    def chance(self) -> float:
        """Return the loss of one answer for all: no variance in either view."""
        return 2 * VARIANCE * (1 - math.sqrt(EPS))


OBJECTIVE = VICReg

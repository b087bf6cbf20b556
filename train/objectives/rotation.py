"""Rotation: by how many quarter turns an image was turned.

RotNet (Gidaris, Singh and Komodakis 2018): all four rotations of each image, 0, 90, 180 and 270
degrees counter-clockwise, and which it is of the four. What looks the same when turned cannot be
told, and a slant may be all that tells it: read the accuracy by class. Nothing of it is random.
"""

import math
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "Rotation", "turned"]

TURNS = 4


def turned(pixels: Tensor) -> Tensor:
    """[B, C, H, H] -> [B, 4, C, H, H], by 0 to 3 quarter turns counter-clockwise."""
    return torch.stack([torch.rot90(pixels, turns, (2, 3)) for turns in range(TURNS)], dim=1)


class Rotation(Objective):
    """Tell the rotation from the mean over patches; each image has four targets.

    Args:
        spec: a `train.model.ModelSpec` of images.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("pixels", pa.list_(pa.uint8()))])

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.head = Linear(spec.width, TURNS, zero=True)

    def manufacture(self, rows: Rows) -> Batch:
        """Turn: inputs [B, 4, C, H, H] uint8, targets [B, 4], -100 of a withdrawn image."""
        assert rows.pixels is not None
        turns = torch.arange(TURNS, device=rows.targets.device).expand(len(rows.targets), TURNS)
        targets = turns.where(rows.targets >= 0, -100)
        return Batch(inputs=turned(rows.pixels), targets=targets, rows=rows)

    def logits(self, backbone: Any, images: Tensor) -> Tensor:
        """[N, C, H, H] -> [N, 4] float32."""
        logits: Tensor = self.head(backbone(backbone.stem(images)).float().mean(1))
        return logits

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Measure; the accuracy is told of all turns and of each (`turn 0` is upright)."""
        logits = self.logits(backbone, batch.inputs.flatten(0, 1))
        targets = batch.targets.flatten()
        losses = F.cross_entropy(logits, targets, reduction="none").view_as(batch.targets)
        counted = batch.targets >= 0
        right = (logits.argmax(1) == targets).view_as(counted) & counted
        tallies = torch.stack([right.sum(0), counted.sum(0)], dim=1).float()
        metrics = {f"turn {turn}": tallies[turn] for turn in range(TURNS)}
        return Loss(
            total=losses.sum(),
            count=counted.sum(),
            units=losses.detach().sum(1, keepdim=True),
            counted=counted.sum(1, keepdim=True),
            metrics={"accuracy": tallies.sum(0), **metrics},
        )

    def chance(self) -> float:
        """Return ln 4."""
        return math.log(TURNS)


OBJECTIVE = Rotation

"""Stems: what turns an image or a sound into vectors for the transformer, one for each unit.

A patch is a square of pixels (ViT, Dosovitskiy et al. 2021) with the place of its square added as
fixed sines in two dimensions (MAE, He et al. 2022, appendix A); pixels are scaled to [-1, 1]. The
stem of frames is in `train.models.frames`.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train.models.linear import Linear

__all__ = ["Patches", "patches_of", "sines", "stem_of"]


def stem_of(media: Mapping[str, Any], width: int) -> nn.Module | None:
    """Return the stem for a run's media, `ModelSpec.media`; None for text.

    A pair has the stem of its image or sound: its caption is text.
    """
    kind = media.get("kind")
    if kind == "pair":
        return stem_of(media["of"], width)
    if kind == "image":
        return Patches(media, width)
    if kind == "audio":
        from train.models.frames import Frames

        return Frames(media, width)
    return None


def patches_of(pixels: Tensor, patch: int) -> Tensor:
    """Cut [B, C, H, W] into squares, row by row: [B, (H / patch)(W / patch), C * patch^2]."""
    cut = pixels.unfold(2, patch, patch).unfold(3, patch, patch)  # [B, C, h, w, p, p]
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def sines(side: int, width: int) -> Tensor:
    """Return [side * side, width] float32: half the channels tell the row, half the column."""
    quarter = width // 4
    rates = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], dim=2)
    flat = both.flatten(0, 1).float()
    return nn.functional.pad(flat, (0, width - flat.size(1)))


class Patches(nn.Module):
    """Pixels [B, C, H, W] (uint8, or float in [0, 1]) to [B, patches, width].

    Args:
        media: `size` (pixels of a side), `channels`, `patch` (pixels of a patch's side).
        width: channels of the transformer.
    """

    places: Tensor

    def __init__(self, media: Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.patch, self.side = media["patch"], media["size"] // media["patch"]
        self.project = Linear(media["channels"] * self.patch**2, width)
        self.register_buffer("places", sines(self.side, width) / math.sqrt(2), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Cut, project, add the places."""
        if not pixels.is_floating_point():
            pixels = pixels.float() / 255
        x: Tensor = self.project(patches_of(2 * pixels - 1, self.patch))
        return x + self.places

"""Relative patch position: where in an image's 3 x 3 grid a tile lies, seen from the middle one.

Context prediction (Doersch, Gupta and Efros 2015): the middle tile and each of its eight neighbours
go through one encoder, both features through a head of two layers, which tells the neighbour of the
eight. A line that runs on over the border would give it away: each tile is cut at random inside its
cell, with a gap between cells, and brought to mean 0 and deviation 1. `jitter` is the pixels that a
cell has beside its tile, and 0 shows that shortcut: tiles touch, and the task is easier for it.
"""

import math
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError
from train import keyed
from train.models.linear import Linear
from train.models.stems import patches_of
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "RelativePatch"]

GRID, MIDDLE = 3, 4
NEIGHBOURS = 8
#: Added to a tile's variance, of pixels in [0, 1]: an empty tile stays empty.
EPS = 1e-2
#: Pixels between a cell's tile and the next cell's, where there is jitter.
GAP = 1


class RelativePatch(Objective):
    """Tell where a tile lies from the middle one; each image has eight targets.

    Tiles are whole patches of the stem, with the places that its first patches have: an encoder
    does not learn from the stem where in the image they are.

    Args:
        spec: a `train.model.ModelSpec` of images.

    Raises:
        InputError: the images are too small for the patch and the jitter.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("pixels", pa.list_(pa.uint8()))])
    knobs: ClassVar[dict[str, Any]] = {"jitter": 2}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        media = spec.media.get("of") or spec.media
        self.jitter, self.patch = self.knob["jitter"], media["patch"]
        self.gap = GAP if self.jitter else 0
        room = (media["size"] - 2 * self.gap) // GRID - self.jitter
        self.tile = room // self.patch * self.patch
        if not self.tile:
            raise InputError(
                f"relative_patch: a third of {media['size']} pixels, less a jitter of "
                f"{self.jitter}, holds no patch of {self.patch}; make the jitter or the patch "
                "smaller, or the images larger"
            )
        # Cells lie around the middle of the image.
        self.step = self.tile + self.jitter + self.gap
        self.margin = (media["size"] - GRID * self.step + self.gap) // 2
        self.hidden = Linear(2 * spec.width, spec.width)
        self.head = Linear(spec.width, NEIGHBOURS, zero=True)

    def manufacture(self, rows: Rows) -> Batch:
        """Cut: inputs [B, 9, C, tile, tile] in [-1, 1] about; targets [B, 8]."""
        tiles = self.cut(rows)
        counts = torch.arange(NEIGHBOURS, device=rows.targets.device)
        targets = counts.expand(len(tiles), -1).where(rows.targets >= 0, -100)
        return Batch(inputs=tiles, targets=targets, rows=rows)

    def cut(self, rows: Rows) -> Tensor:
        """Return the tiles [B, 9, C, tile, tile] float32, row by row, each normalised."""
        assert rows.pixels is not None
        pixels, device = rows.pixels, rows.pixels.device
        cells = torch.arange(GRID * GRID, device=device)
        corner = torch.stack([cells // GRID, cells % GRID], dim=1) * self.step + self.margin
        moved = keyed.integers(rows.keys, "jitter", self.jitter + 1, GRID * GRID, 2) + corner
        reach = torch.arange(self.tile, device=device)
        y, x = ((moved[:, :, i, None] + reach) for i in (0, 1))  # [B, 9, tile]
        each = torch.arange(len(pixels), device=device)[:, None, None, None]
        tiles = pixels.permute(0, 2, 3, 1)[each, y[:, :, :, None], x[:, :, None]]
        tiles = tiles.permute(0, 1, 4, 2, 3).float() / 255
        variance, mean = torch.var_mean(tiles, (2, 3, 4), correction=0, keepdim=True)
        return (tiles - mean) * (variance + EPS).rsqrt()

    def features(self, backbone: Any, tiles: Tensor) -> Tensor:
        """[N, C, tile, tile] -> [N, width] float32, the mean over a tile's patches."""
        stem, side = backbone.stem, self.tile // self.patch
        places = stem.places.view(stem.side, stem.side, -1)[:side, :side].flatten(0, 1)
        vectors = stem.project(patches_of(tiles, self.patch)) + places
        hidden: Tensor = backbone(vectors).float().mean(1)
        return hidden

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Measure; the accuracy is told of all neighbours together."""
        features = self.features(backbone, batch.inputs.flatten(0, 1)).unflatten(0, (-1, 9))
        others = features[:, [i for i in range(GRID * GRID) if i != MIDDLE]]
        middle = features[:, MIDDLE, None].expand_as(others)
        logits = self.head(F.relu(self.hidden(torch.cat([middle, others], dim=2))))
        losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        counted = batch.targets >= 0
        right = ((logits.argmax(2) == batch.targets) & counted).sum()
        losses = losses.view_as(batch.targets)
        return Loss(
            total=losses.sum(),
            count=counted.sum(),
            units=losses.detach().sum(1, keepdim=True),
            counted=counted.sum(1, keepdim=True),
            metrics={"accuracy": torch.stack([right, counted.sum()]).float()},
        )

    def chance(self) -> float:
        """Return ln 8."""
        return math.log(NEIGHBOURS)


OBJECTIVE = RelativePatch

"""Masked patches: an image with most of its patches gone in, the pixels of those out.

MAE (He et al. 2022): `mask_rate` (0.75) of the patches are removed at random; the encoder sees only
what is left, and a small decoder puts one learnt vector in each empty place and tells the pixels.
The loss is the squared error on removed patches alone, whose pixels are brought to mean 0 and
deviation 1 patch by patch (`norm_pix_loss`), so that knowing nothing scores 1; patches of one
colour have no such pixels and do not count. The variant `pixels` tells the pixels themselves, in
[0, 1], of all removed patches. Judge its encoder by fine-tuning: its features are not linear ones.
"""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train import keyed
from train.models.attention import scope
from train.models.linear import Linear
from train.models.stems import patches_of, sines
from train.models.transformer import Block, Norm
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "MaskedPatches"]

#: Blocks of the decoder.
DECODER = 1
#: A patch of less variance, of pixels in [0, 1], is of one colour: half a step of 8 bits.
FLAT = (0.5 / 255) ** 2
VARIANTS = ("normalised", "pixels")


class MaskedPatches(Objective):
    """Restore removed patches; a target is a patch, its loss the mean over its pixels.

    Args:
        spec: a `train.model.ModelSpec` of images.

    Raises:
        InputError: `mask_rate` leaves no patch, or removes none; no such variant.
    """

    places: Tensor
    needs: ClassVar[pa.Schema] = pa.schema([("pixels", pa.list_(pa.uint8()))])
    unit: ClassVar[str] = "squared error"
    knobs: ClassVar[dict[str, Any]] = {"mask_rate": 0.75, "variant": "normalised"}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        media = spec.media.get("of") or spec.media
        self.patch, side = media["patch"], media["size"] // media["patch"]
        self.patches = side * side
        self.kept = round(self.patches * (1 - self.knob["mask_rate"]))
        if not 0 < self.kept < self.patches:
            raise InputError(
                f"train.mask_rate {self.knob['mask_rate']} leaves {self.kept} of {self.patches} "
                "patches; some stay and some go: change it, or take a smaller patch"
            )
        if self.knob["variant"] not in VARIANTS:
            raise InputError(one_of("train.variant", self.knob["variant"], VARIANTS))
        self.embed_decoder = Linear(spec.width, spec.width)
        self.empty = nn.Parameter(torch.zeros(spec.width))
        self.decoder = nn.ModuleList(Block(spec, "fused") for _ in range(DECODER))
        self.norm = Norm(spec.width, spec.norm_eps, learned=False)
        self.head = Linear(spec.width, media["channels"] * self.patch**2, zero=True)
        self.register_buffer("places", sines(side, spec.width) / 2**0.5, persistent=False)

    def manufacture(self, rows: Rows) -> Batch:
        """Choose what stays: inputs are the pixels, `order` [B, P] patches, the kept ones first."""
        assert rows.pixels is not None
        order = keyed.permutation(rows.keys, "mask", self.patches)
        return Batch(inputs=rows.pixels, targets=rows.targets, rows=rows, more={"order": order})

    def restore(self, backbone: Any, pixels: Tensor, order: Tensor) -> Tensor:
        """Return what the decoder tells of each patch, [B, P, C p^2] float32.

        Args:
            backbone: sees the first `kept` patches of `order` alone.
            pixels: [B, C, H, H] uint8.
            order: [B, P] int64.
        """
        vectors = backbone.stem(pixels)
        index = order[:, : self.kept, None].expand(-1, -1, vectors.size(2))
        seen = self.embed_decoder(backbone(vectors.gather(1, index)))
        x = self.empty.to(seen.dtype).expand_as(vectors).scatter(1, index, seen)
        x = x + self.places.to(x.dtype)
        where = scope(x, causal=False, form="fused", pieces=None, cu_seqlens=None)
        for block in self.decoder:
            x = block(x, backbone.cos, backbone.sin, where)  # images have places, no angles
        told: Tensor = self.head(self.norm(x)).float()
        return told

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Measure removed patches.

        The metric `pixels` is the squared error of pixels in [0, 1], of all removed patches; where
        they are normalised, with each patch's own mean and deviation put back.
        """
        told = self.restore(backbone, batch.inputs, batch.more["order"])
        pixels = patches_of(batch.inputs.float() / 255, self.patch)
        gone = torch.ones_like(pixels[:, :, 0], dtype=torch.bool)
        gone = gone.scatter(1, batch.more["order"][:, : self.kept], value=False)
        gone = gone & (batch.targets >= 0)
        counted, scale = gone, torch.ones_like(pixels[:, :, :1])
        if self.knob["variant"] == "normalised":
            variance, mean = torch.var_mean(pixels, 2, correction=0, keepdim=True)
            counted, scale = gone & (variance[:, :, 0] > FLAT), variance.clamp(min=FLAT)
            pixels = (pixels - mean) * scale.rsqrt()
        errors = (told - pixels).square().mean(2)
        total = (errors * counted).sum(1, keepdim=True)
        back = (errors * scale[:, :, 0] * counted).detach().sum()
        return Loss(
            total=total.sum(),
            count=counted.sum(),
            units=total.detach(),
            counted=counted.sum(1, keepdim=True),
            metrics={"pixels": torch.stack([back, gone.sum()])},
        )

    def chance(self) -> float | None:
        """Return 1, the variance of a normalised patch; of pixels that depends on the images."""
        return 1.0 if self.knob["variant"] == "normalised" else None


OBJECTIVE = MaskedPatches

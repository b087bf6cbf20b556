"""CLIP: an image or a sound and its caption find one another among the pairs of the step.

Both towers end in unit vectors, and s is their cosine times a learned scale. `variant`:

- clip (Radford et al. 2021): cross-entropy of the right caption for each image and of the right
  image for each caption, their mean; the scale starts at 1 / 0.07 and stays at or below 100.
- siglip (Zhai et al. 2023): each of the N^2 combinations is right or wrong by itself,
  -log sigmoid(y (s + bias)), y = 1 for a pair and -1 for the others, summed over captions; the
  scale starts at 10, the bias at -10.

The backbone is the tower of the image or sound; a transformer of the same sizes is that of the
caption. Vectors are means over patches, frames and tokens. Captions that are the same count as
wrong for one another, as in the papers.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train.augment import View, views
from train.masks import special
from train.models.linear import Linear
from train.models.transformer import Transformer
from train.objectives.base import Batch, Loss, Objective, Rows
from train.objectives.sentence_contrast import contrast
from train.parallel import local
from train.views import effective_rank, spread

__all__ = ["OBJECTIVE", "Clip"]

#: variant -> ln of the scale, and the bias, at the start.
STARTS = {"clip": (math.log(1 / 0.07), 0.0), "siglip": (math.log(10), -10.0)}
HIGHEST = math.log(100)
CROP = View(area=(0.7, 1.0))


class Clip(Objective):
    """Two towers that agree on pairs.

    Args:
        spec: a `train.model.ModelSpec` whose media is a pair.

    Raises:
        InputError: no such variant, or the corpus has no pairs.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("caption", pa.large_list(pa.uint16()))])
    batch_coupled: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Any]] = {"variant": "clip", "projection": 128}
    least_rows: ClassVar[int] = 2
    floors: ClassVar[Mapping[str, float]] = {"feature_std": 0.05, "effective_rank": 1.5}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.variant = self.knob["variant"]
        if self.variant not in STARTS:
            raise InputError(one_of("train.variant", self.variant, sorted(STARTS)))
        if spec.media.get("kind") != "pair":
            raise InputError("clip learns from pairs; give it a corpus with schema: pair")
        self.pad = special(spec.specials, "pad", spec.objective)
        tokens = spec.media["caption_tokens"]
        written = replace(spec, media={}, row_tokens=tokens, causal=False, document_mask=True)
        self.tower = Transformer(written, torch.float32, "fused")
        self.project = Linear(spec.width, self.knob["projection"])
        self.project_caption = Linear(spec.width, self.knob["projection"])
        scale, bias = STARTS[self.variant]
        self.scale = nn.Parameter(torch.tensor([scale]))  # its logarithm
        self.bias = nn.Parameter(torch.tensor([bias])) if self.variant == "siglip" else None
        self._rows, self._seen = 0, torch.zeros(0, self.knob["projection"])

    def attach(self, backbone: Any) -> None:
        """Let the caption's tower compute as the other one does."""
        self.tower.dtype = backbone.dtype

    def manufacture(self, rows: Rows) -> Batch:
        """Crop images in training, the paper's only augmentation; else pairs are what they are."""
        captions = rows.captions
        assert captions is not None
        if self.training and rows.pixels is not None:
            rows = replace(rows, pixels=views(rows.pixels, rows.keys, "crop", CROP))
        return Batch(inputs=captions, targets=rows.targets, rows=rows)

    def captions(self, captions: Tensor) -> Tensor:
        """[B, L] ids -> [B, projection] unit vectors."""
        inside = captions != self.pad
        hidden = self.tower(captions, inside.long()).float()
        shares = inside / inside.sum(1, keepdim=True).clamp(min=1)
        mean = torch.einsum("btc,bt->bc", hidden, shares)
        return F.normalize(self.project_caption(mean), dim=-1)

    def media(self, backbone: nn.Module, rows: Rows) -> Tensor:
        """Images or sounds of B rows -> [B, projection] unit vectors."""
        return F.normalize(self.project(self.encode(backbone, rows)), dim=-1)

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2, projection], zeros where the pair was withdrawn."""
        both = [self.media(backbone, batch.rows), self.captions(batch.inputs)]
        return torch.stack(both, 1) * (batch.targets[:, :1, None] >= 0)

    def couple(self, features: Tensor) -> Loss:
        """Contrast the pairs of a step; one target a row, its loss that of both directions."""
        present = (features.detach() != 0).any(2).all(1)
        a, b = features.float().unbind(1)
        scale = self.scale.exp()
        ours, found = contrast(a, b, present, scale)
        theirs, named = contrast(b, a, present, scale)
        losses = (ours + theirs) / 2
        if self.bias is not None:
            own = torch.eye(len(a), device=a.device)
            agree = (2 * own - 1) * (scale * a @ b.T + self.bias)
            counts = present[:, None] & present
            losses = -F.logsigmoid(agree).where(counts, 0.0).sum(1)
        if self.training:
            self._rows, self._seen = len(a), a.detach()
        count = present.sum()
        return Loss(
            total=losses.sum(),
            count=count,
            units=losses.detach()[:, None],
            counted=present[:, None].float(),
            metrics={
                "caption_of_media": torch.stack([found.sum(), count]),
                "media_of_caption": torch.stack([named.sum(), count]),
            },
        )

    @torch.no_grad()
    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Keep CLIP's scale at or below 100."""
        if self.variant == "clip":
            local(self.scale).clamp_(max=HIGHEST)

    def health(self) -> Mapping[str, float]:
        """Return the scale and how the features of the last step's media spread."""
        seen = self._seen[(self._seen != 0).any(1)]
        if len(seen) < 2:
            return {}
        found = {"feature_std": spread(seen), "effective_rank": effective_rank(seen)}
        return {"scale": float(self.scale.detach().exp()), **found}

    def chance(self) -> float | None:
        """Return what N rows of the last step cost who knows nothing of them; None before.

        clip: ln N. siglip: ln N + (N - 1) ln(N / (N - 1)), every combination right at 1 / N.
        """
        rows = self._rows
        if rows < 2:
            return None
        rest = (rows - 1) * math.log(rows / (rows - 1))
        return math.log(rows) + (rest if self.variant == "siglip" else 0.0)


OBJECTIVE = Clip

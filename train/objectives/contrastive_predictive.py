"""Contrastive predictive coding (CPC): which of K + 1 frames comes k frames from here.

Van den Oord, Li and Vinyals 2018: a causal network gives a context c_t, and for every k up to
`steps_ahead` a linear map of it is to score the code z_(t+k) above the codes of K other frames of
the same utterance: -ln softmax(W_k c_t . z)_(t+k), InfoNCE. A frame's code is made from its
spectrum alone. Negatives are drawn by key; one whose spectrum is that of the right frame, as in
digital silence, is left out.
"""

import math
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from train import keyed
from train.models.frames import deviation, inside, trimmed
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "ContrastivePredictive", "info_nce", "others"]


def others(keys: Tensor, name: str, length: Tensor, num_frames: int, *shape: int) -> Tensor:
    """Return [B, F, *shape] int64 in [0, length - 1): numbers of frames when one is left out.

    Args:
        keys: [B, 3], see `train.keyed`.
        name: what they are for.
        length: [B] frames to choose from, the one left out among them.
        num_frames: F.
        shape: draws of each frame.
    """
    drawn = keyed.uniform(keys, name, num_frames, *shape)
    most = (length - 1).clamp(min=1).view(-1, *[1] * (drawn.ndim - 1))
    return (drawn * most).long().clamp(max=most - 1)


def info_nce(right: Tensor, wrong: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return -ln softmax of the right score among all, and whether it is the highest; [...].

    Args:
        right: [...] scores.
        wrong: [..., K] scores.
        allowed: [..., K] bool: which of them are really wrong.
    """
    scores = torch.cat([right[..., None], wrong.masked_fill(~allowed, -math.inf)], -1).float()
    return -scores.log_softmax(-1)[..., 0], (scores[..., :1] > scores[..., 1:]).all(-1)


class ContrastivePredictive(Objective):
    """Tell the frames to come from others; a target is a frame and a distance.

    Args:
        spec: a `train.model.ModelSpec` of sounds.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("samples", pa.large_list(pa.int16()))])
    causal: ClassVar[bool] = True
    knobs: ClassVar[dict[str, Any]] = {"steps_ahead": 12, "negatives": 10, "projection": 64}
    floors: ClassVar[dict[str, float]] = {"deviation": 0.02, "code_deviation": 0.02}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        media = spec.media.get("of") or spec.media
        self.hop, self.wide = media["hop"], self.knob["projection"]
        self.ahead = self.knob["steps_ahead"]
        self.widen = Linear(media["mels"], 4 * self.wide)
        self.code = Linear(4 * self.wide, self.wide)
        self.maps = Linear(spec.width, *[self.wide] * self.ahead, zero=True)
        self.deviations: dict[str, Tensor] = {}

    def manufacture(self, rows: Rows) -> Batch:
        """Draw the negatives of every frame and distance: frames other than the right one."""
        samples = trimmed(rows, self.hop)
        there = inside(samples, rows.lengths, self.hop)
        num_frames, length = there.size(1), there.sum(1)
        shape = (self.ahead, self.knob["negatives"])
        drawn = others(rows.keys, "negative", length, num_frames, *shape)
        frames = torch.arange(num_frames, device=there.device)
        right = frames[:, None] + torch.arange(1, self.ahead + 1, device=there.device)  # [F, k]
        drawn = drawn + (drawn >= right[:, :, None])
        counted = (right < length[:, None, None]) & (length > 1)[:, None, None]
        more = {
            "negatives": drawn.clamp(max=num_frames - 1),
            "right": right.clamp(max=num_frames - 1),
            "counted": counted & (rows.targets >= 0)[:, :, None],
        }
        return Batch(inputs=samples, targets=rows.targets, rows=rows, more=more)

    def forward(self, backbone: Any, batch: Batch) -> Loss:
        """Run the backbone; metrics: accuracy at each distance."""
        stem, more = backbone.stem, batch.more
        there = stem.inside(batch.inputs, batch.rows.lengths)
        spectra = stem.spectra(batch.inputs, batch.rows.lengths)
        hidden = backbone(stem.project(spectra), there.long())
        codes = self.code(F.gelu(self.widen(spectra.to(hidden.dtype))))
        self.deviations = {
            "deviation": deviation(hidden, there),
            "code_deviation": deviation(codes, there),
        }
        guesses = self.maps(hidden).unflatten(-1, (self.ahead, self.wide))
        # All pairs of frames are fewer products than K drawn codes of every frame and distance.
        scores = torch.einsum("btkd,bsd->btks", guesses, codes) * self.wide**-0.5
        right = more["right"][None].expand(len(scores), -1, -1)[..., None]
        wrong = more["negatives"]
        same = _equal_frames(spectra)[:, :, None].expand(-1, -1, self.ahead, -1)
        allowed = ~same.gather(1, right.expand(-1, -1, -1, same.size(-1))).gather(3, wrong)
        losses, best = info_nce(scores.gather(3, right)[..., 0], scores.gather(3, wrong), allowed)
        counted = more["counted"] & allowed.any(-1)  # there is something to tell it from
        units = (losses * counted).sum((1, 2))[:, None]
        hits, tries = (best & counted).sum((0, 1)).float(), counted.sum((0, 1)).float()
        metrics = {f"accuracy_{k + 1}": torch.stack([hits[k], tries[k]]) for k in range(self.ahead)}
        count = counted.sum((1, 2))[:, None]
        return Loss(
            total=units.sum(),
            count=count.sum(),
            units=units.detach(),
            counted=count,
            metrics={"accuracy": torch.stack([hits.sum(), tries.sum()]), **metrics},
        )

    def health(self) -> dict[str, float]:
        """Return the standard deviations of contexts and of codes over frames."""
        return {name: float(value) for name, value in self.deviations.items()}

    def chance(self) -> float:
        """Return ln(1 + K): every candidate equally likely."""
        return math.log(1 + self.knob["negatives"])


def _equal_frames(spectra: Tensor) -> Tensor:
    """[B, F, mels] -> [B, F, F] bool: which frames have one spectrum."""
    return torch.cdist(spectra, spectra, compute_mode="donot_use_mm_for_euclid_dist") == 0


OBJECTIVE = ContrastivePredictive

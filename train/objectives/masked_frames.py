"""Masked frames: a sound with holes in, the spectra of the holes out.

Mockingjay (Liu, Yang, Chi, Hsu and Lee 2020): spans of `mask_span` consecutive frames are chosen
until about `mask_rate` of an utterance is, and for the whole utterance they are all zeroed (80 %),
all replaced by other frames of it (10 %) or all left as they are (10 %); the loss is L1 on what was
chosen. The variant `bands` also zeroes a band of neighbouring frequencies, at most a fifth of them
(TERA, Liu, Li and Lee 2021), and counts it. Spectra are normalised, so a zero is the mean.
"""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train import keyed
from train.models.frames import deviation, inside, trimmed
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "MaskedFrames", "spans"]

#: Shares of utterances whose chosen frames are zeroed, or come from elsewhere in it.
ZEROED, REPLACED = 0.8, 0.1
#: The widest band of frequencies, as a share of all.
WIDEST = 0.2
VARIANTS = ("frames", "bands")


def spans(keys: Tensor, there: Tensor, rate: float, span: int) -> Tensor:
    """Return [B, F] bool: about `rate` of each row's frames, in spans.

    Spans begin at random frames of the row, all of the same chance, without replacement; they may
    overlap or touch, and are cut at the row's end. At least one begins in every row.

    Args:
        keys: [B, 3], see `train.keyed`.
        there: [B, F] bool, the frames of each row, first in it.
        rate: share of a row's frames that spans would cover, did they not overlap.
        span: frames of a span.
    """
    length = there.sum(1, keepdim=True)
    wanted = (length * rate / span).round().clamp(min=1)
    draws = keyed.uniform(keys, "span", there.size(1)).masked_fill(~there, 2.0)
    rank = draws.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    begins = (rank < wanted) & there
    before = nn.functional.pad(begins.float(), (span - 1, 0))[:, None]
    covered: Tensor = nn.functional.max_pool1d(before, span, 1)[:, 0] > 0
    return covered & there


class MaskedFrames(Objective):
    """Restore what was hidden of a sound; a target is a frame (`bands`: a frame's worth of mels).

    Args:
        spec: a `train.model.ModelSpec` of sounds.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("samples", pa.large_list(pa.int16()))])
    unit: ClassVar[str] = "absolute error"
    knobs: ClassVar[dict[str, Any]] = {"mask_rate": 0.15, "mask_span": 7, "variant": "frames"}
    floors: ClassVar[dict[str, float]] = {"deviation": 0.02}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        media = spec.media.get("of") or spec.media
        self.hop, self.mels = media["hop"], media["mels"]
        if self.knob["variant"] not in VARIANTS:
            raise InputError(one_of("train.variant", self.knob["variant"], VARIANTS))
        self.head = Linear(spec.width, self.mels, zero=True)
        self.deviation: Tensor | None = None

    def manufacture(self, rows: Rows) -> Batch:
        """Choose what is hidden, and in which of the three ways."""
        samples = trimmed(rows, self.hop)
        there = inside(samples, rows.lengths, self.hop)
        chosen = spans(rows.keys, there, self.knob["mask_rate"], self.knob["mask_span"])
        way = keyed.uniform(rows.keys, "way", 1)
        others = keyed.uniform(rows.keys, "other", there.size(1)) * there.sum(1, keepdim=True)
        more = {
            "chosen": chosen,
            "zeroed": way < ZEROED,
            "replaced": (way >= ZEROED) & (way < ZEROED + REPLACED),
            "others": others.long(),
            "band": self._band(rows.keys),
        }
        return Batch(inputs=samples, targets=rows.targets, rows=rows, more=more)

    def _band(self, keys: Tensor) -> Tensor:
        """Return [B, mels] bool: 0 to `WIDEST` of the mels, neighbours."""
        mels = torch.arange(self.mels, device=keys.device)
        if self.knob["variant"] == "frames":
            return torch.zeros(len(keys), self.mels, dtype=torch.bool, device=keys.device)
        wide = keyed.integers(keys, "wide", int(WIDEST * self.mels) + 1, 1)
        low = (keyed.uniform(keys, "low", 1) * (self.mels - wide + 1)).long()
        return (mels >= low) & (mels < low + wide)

    def hide(self, spectra: Tensor, more: Any) -> tuple[Tensor, Tensor]:
        """Return the spectra with what is hidden changed, and what of them is a target.

        Args:
            spectra: [B, F, mels].
            more: of the batch.
        """
        chosen, band = more["chosen"][:, :, None], more["band"][:, None]
        others = spectra.gather(1, more["others"][:, :, None].expand_as(spectra))
        seen = torch.where(chosen & more["replaced"][:, :, None], others, spectra)
        return seen.masked_fill(chosen & more["zeroed"][:, :, None] | band, 0.0), chosen | band

    def forward(self, backbone: Any, batch: Batch) -> Loss:
        """Run the backbone on what is left; `zero` is the error of the mean spectrum."""
        stem = backbone.stem
        there = stem.inside(batch.inputs, batch.rows.lengths)
        spectra = stem.spectra(batch.inputs, batch.rows.lengths)
        seen, hidden = self.hide(spectra, batch.more)
        features = backbone(stem.project(seen), there.long())
        self.deviation = deviation(features, there)
        counted = hidden & (there & (batch.targets >= 0))[:, :, None]
        share = counted.float() / self.mels
        units = ((self.head(features).float() - spectra).abs() * share).sum((1, 2))[:, None]
        count = share.sum((1, 2))[:, None]
        zero = (spectra.abs() * share).sum()
        return Loss(
            total=units.sum(),
            count=count.sum(),
            units=units.detach(),
            counted=count,
            metrics={"zero": torch.stack([zero, count.sum()])},
        )

    def health(self) -> dict[str, float]:
        """Return the features' standard deviation over frames."""
        return {} if self.deviation is None else {"deviation": float(self.deviation)}

    def chance(self) -> None:
        """Return None: what the mean spectrum scores depends on the sounds."""


OBJECTIVE = MaskedFrames

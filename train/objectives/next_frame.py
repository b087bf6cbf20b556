"""Next frame (APC): from a sound so far, the spectrum a few frames ahead.

Autoregressive predictive coding (Chung, Hsu, Tang and Glass 2019): a causal network reads the
frames x_1 .. x_t, normalised log-mel energies, and the loss is |x_(t+n) - y_t|, L1. One frame ahead
(n = 1) neighbours share most of their samples and a copy will do; n = 3 to 5 asks for the sounds
of speech. The normalisation knows the whole utterance, so it tells every predictor the same.
"""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from train.models.frames import deviation, trimmed
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "NextFrame"]


class NextFrame(Objective):
    """Predict each frame `steps_ahead` frames early; a target is a frame.

    Args:
        spec: a `train.model.ModelSpec` of sounds.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("samples", pa.large_list(pa.int16()))])
    causal: ClassVar[bool] = True
    unit: ClassVar[str] = "absolute error"
    knobs: ClassVar[dict[str, Any]] = {"steps_ahead": 3}
    floors: ClassVar[dict[str, float]] = {"deviation": 0.02}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        media = spec.media.get("of") or spec.media
        self.hop = media["hop"]
        self.head = Linear(spec.width, media["mels"], zero=True)
        self.deviation: Tensor | None = None

    def manufacture(self, rows: Rows) -> Batch:
        """A sound is its own target."""
        samples = trimmed(rows, self.hop)
        return Batch(inputs=samples, targets=rows.targets, rows=rows)

    def forward(self, backbone: Any, batch: Batch) -> Loss:
        """Run the backbone; `copied` is the error of repeating the newest frame."""
        stem, ahead = backbone.stem, self.knob["steps_ahead"]
        inside = stem.inside(batch.inputs, batch.rows.lengths)
        spectra = stem.spectra(batch.inputs, batch.rows.lengths)
        hidden = backbone(stem.project(spectra), inside.long())
        self.deviation = deviation(hidden, inside)
        counted = inside[:, ahead:] & (batch.targets >= 0)
        error = self._error(self.head(hidden)[:, :-ahead].float(), spectra[:, ahead:], counted)
        copied = self._error(spectra[:, :-ahead], spectra[:, ahead:], counted)
        units, count = error.sum(1, keepdim=True), counted.sum(1, keepdim=True)
        return Loss(
            total=units.sum(),
            count=count.sum(),
            units=units.detach(),
            counted=count,
            metrics={"copied": torch.stack([copied.sum(), count.sum().float()])},
        )

    @staticmethod
    def _error(predicted: Tensor, spectra: Tensor, counted: Tensor) -> Tensor:
        """[B, F, mels] twice, [B, F] -> [B, F]: mean over mels, 0 where nothing is counted."""
        return (predicted - spectra).abs().mean(2) * counted

    def predictions(self, backbone: nn.Module, rows: Rows) -> Tensor:
        """Return [B, frames, mels] float32: at t, what is expected at t + `steps_ahead`."""
        stem: Any = backbone.stem
        inside = stem.inside(rows.samples, rows.lengths)
        return self.head(backbone(stem(rows.samples, rows.lengths), inside.long())).float()

    def health(self) -> dict[str, float]:
        """Return the features' standard deviation over frames."""
        return {} if self.deviation is None else {"deviation": float(self.deviation)}

    def chance(self) -> None:
        """Return None: what a constant scores depends on the sounds."""


OBJECTIVE = NextFrame

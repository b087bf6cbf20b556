"""Frames: sound as log-mel spectra, one vector per hop of samples."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Frames"]


class Frames(nn.Module):
    """Samples [B, S] (int16) to [B, ceil(S / hop), width].

    Args:
        media: `sample_rate` (Hz), `hop` and `window` (samples), `mels`.
        width: channels of the transformer.
    """

    def __init__(self, media: Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.hop = media["hop"]

    def forward(self, samples: Tensor) -> Tensor:
        """Window, transform, project."""
        raise NotImplementedError

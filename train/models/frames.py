"""Frames: sound as log-mel spectra, one vector per hop of samples.

A frame is a Hann window centred on its hop, its power spectrum, the energies under triangles that
are even on the mel scale (2595 log10(1 + f / 700), O'Shaughnessy 1987; the form of HTK: triangles
of height 1), and their logarithm. Every energy of an utterance then has mean 0 and variance 1 over
the utterance's own frames (cepstral mean and variance normalisation, Viikki and Laurila 1998), so
that a microphone or a distance is not what tells one sound from another. What stands behind a
sound's end takes no part in any of it.

>>> [round(hz) for hz in mel_points(4, 4000.0)]
[0, 324, 799, 1494, 2511, 4000]
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError
from train.models.linear import Linear

__all__ = [
    "Convolutions",
    "Frames",
    "deviation",
    "inside",
    "mel_filters",
    "mel_points",
    "strides",
    "trimmed",
]

#: Added to an energy before its logarithm: about that of the rounding to 16 bits.
FLOOR = 1e-6
#: Added to a variance, in squared nats: below it a band is silence.
LEAST_VARIANCE = 1e-3
#: The largest transform that is tried, as a multiple of the window.
FINEST = 8


def inside(samples: Tensor, lengths: Tensor | None, hop: int) -> Tensor:
    """Return [B, ceil(S / hop)] bool: which frames begin before their sound's end.

    Args:
        samples: [B, S].
        lengths: [B] samples of each sound; None: all of S.
        hop: samples from frame to frame.
    """
    starts = torch.arange(0, samples.size(1), hop, device=samples.device)
    ends = samples.new_tensor(samples.size(1), dtype=torch.int64) if lengths is None else lengths
    return (starts < ends.reshape(-1, 1)).expand(len(samples), -1)


def trimmed(rows: Any, hop: int) -> Tensor:
    """Return the samples of `train.objectives.Rows` without padding that no sound of them reaches.

    Nothing that is made of a sound depends on it. Only on a CPU, and not compiled: elsewhere shapes
    stay as they are.
    """
    samples: Tensor = rows.samples
    fixed = samples.device.type != "cpu" or torch.compiler.is_compiling()
    if rows.lengths is None or fixed:
        return samples
    longest = -(-int(rows.lengths.max()) // hop) * hop
    return samples[:, : max(hop, longest)]


def deviation(features: Tensor, there: Tensor) -> Tensor:
    """Return a scalar: the standard deviation of features over all frames, mean over channels.

    Args:
        features: [B, F, C]; it is 0 where all frames are told alike.
        there: [B, F] bool.
    """
    kept, share = features.detach().float(), there[:, :, None] / there.sum().clamp(min=1)
    centred = kept - (kept * share).sum((0, 1))
    return (centred.square() * share).sum((0, 1)).sqrt().mean()


def mel_points(mels: int, highest: float) -> list[float]:
    """Return mels + 2 frequencies in Hz from 0 to `highest`, even on the mel scale."""
    top = math.log10(1 + highest / 700)
    return [700 * (10 ** (top * i / (mels + 1)) - 1) for i in range(mels + 2)]


def mel_filters(mels: int, sample_rate: int, size: int) -> Tensor:
    """Return [size / 2 + 1, mels] float32: the weight of each frequency in each triangle.

    Args:
        mels: number of triangles from 0 to half the sample rate.
        sample_rate: Hz.
        size: points of the Fourier transform.
    """
    points = torch.tensor(mel_points(mels, sample_rate / 2), dtype=torch.float64)
    hertz = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / size
    left, centre, right = points[:-2], points[1:-1], points[2:]
    rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


class Frames(nn.Module):
    """Samples [B, S] (int16, or float in [-1, 1]) to [B, ceil(S / hop), width].

    Args:
        media: `sample_rate` (Hz), `hop` and `window` (samples), `mels`.
        width: channels of the transformer.

    Raises:
        InputError: so many mels that some of them have no frequency.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, media: Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.hop, self.mels, long = media["hop"], media["mels"], media["window"]
        self.size = 1 << (long - 1).bit_length()
        # A longer transform of the same window has finer frequencies: none of the mels is empty.
        while not (filters := mel_filters(self.mels, media["sample_rate"], self.size)).any(0).all():
            self.size *= 2
            if self.size > FINEST * long:
                raise InputError(
                    f"media.mels: {self.mels} are too many for {media['sample_rate']} samples a "
                    f"second in windows of {long}; take fewer mels or a longer window"
                )
        self.register_buffer("window", torch.hann_window(long), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.matrix = Linear(self.mels, width)
        # As large as the spectra: what is the same in all frames is what attention to a distance is
        # learnt from, and without it a hidden frame, being zero, would have no query to ask with.
        self.bias = nn.Parameter(torch.randn(width))

    def inside(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return [B, frames] bool; see the function."""
        return inside(samples, lengths, self.hop)

    def log_mels(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return [B, frames, mels] float32: logarithms of energies; zeros behind the end."""
        scale = 1.0 if samples.is_floating_point() else 2.0**-15
        num_frames, long = -(-samples.size(1) // self.hop), len(self.window)
        before = max(0, long - self.hop) // 2
        after = max(0, (num_frames - 1) * self.hop + long - before - samples.size(1))
        padded = F.pad(samples.float() * scale, (before, after))
        cut = padded.unfold(1, long, self.hop)[:, :num_frames] * self.window
        power = torch.view_as_real(torch.fft.rfft(cut, self.size)).square().sum(-1)
        logs = (power @ self.filters + FLOOR).log()
        return logs * self.inside(samples, lengths)[:, :, None]

    def spectra(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return [B, frames, mels] float32: `log_mels`, normalised; zeros behind the end."""
        logs, there = self.log_mels(samples, lengths), self.inside(samples, lengths)[:, :, None]
        count = there.sum(1, keepdim=True).clamp(min=1)
        centred = (logs - logs.sum(1, keepdim=True) / count) * there
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * (variance + LEAST_VARIANCE).rsqrt()

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Window, transform, normalise, project."""
        return self.project(self.spectra(samples, lengths))

    def project(self, spectra: Tensor) -> Tensor:
        """[B, frames, mels] -> [B, frames, width]."""
        projected: Tensor = self.matrix(spectra)
        return projected + self.bias.to(projected.dtype)


def strides(hop: int) -> list[int]:
    """Split a hop into the strides of layers, each at most 5 if it can be, large ones first.

    >>> strides(80), strides(320)
    ([5, 4, 4], [5, 4, 4, 4])
    """
    found, left = [], hop
    while left > 1:
        best = next((s for s in (5, 4, 3, 2) if left % s == 0), left)
        found.append(best)
        left //= best
    return found


class Convolutions(nn.Module):
    """A waveform to features, one per hop: convolution, norm over channels, GELU, in each layer.

    Args:
        hop: samples from frame to frame, the product of the strides.
        channels: of every layer.
    """

    def __init__(self, hop: int, channels: int) -> None:
        super().__init__()
        self.hop, self.strides = hop, strides(hop)
        wide = [1] + [channels] * (len(self.strides) - 1)
        # A convolution is a matrix over windows, and is optimised as one.
        self.layers = nn.ModuleList(
            Linear(2 * s * c, channels) for c, s in zip(wide, self.strides, strict=True)
        )
        # Norms fix the size of what they give; a penalty on it would bend the features instead.
        self.gain = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, samples: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, S] int16 -> [B, ceil(S / hop), channels]; zeros behind the end."""
        short = -samples.size(1) % self.hop
        there = F.pad(inside(samples, lengths, 1), (0, short))
        x = F.pad(samples.float(), (0, short)) * there
        count = there.sum(1, keepdim=True).clamp(min=1)
        x = (x - x.sum(1, keepdim=True) / count) * there
        x = (x * (x.square().sum(1, keepdim=True) / count + 1).rsqrt())[:, :, None]
        for layer, stride in zip(self.layers, self.strides, strict=True):
            there = there[:, ::stride]
            windows = F.pad(x, (0, 0, stride // 2, stride - stride // 2)).unfold(
                1, 2 * stride, stride
            )
            x = layer(windows.flatten(2))
            x = F.gelu(F.layer_norm(x, x.shape[-1:])) * there[:, :, None]
        return x * self.gain

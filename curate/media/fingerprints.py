"""What of a sound is compared: landmarks, pairs of its loudest spots in time and frequency.

Wang 2003, "An Industrial-Strength Audio Search Algorithm". A spectrogram (Hann window of 64 ms,
hop of 8 ms, channels averaged) is searched for peaks: cells that are the largest within 10 frames
and 6 bins either way, and within 50 dB of the loudest one. Each peak is paired with the next 8 that
follow within 1 s and 1 kHz; a landmark is (first frequency, difference of frequencies, time between
in steps of 16 ms), hashed to 64 bits. It names no time and no level, so a cut at either end, a gain
and noise leave most landmarks as they were. Frequencies are in steps of 15.6 Hz up to 4 kHz at any
sample rate, so a sound that was resampled keeps its own, while another speed changes them all. Of
a sound the first 15 minutes are compared.

The landmarks of a sound are a set, as the shingles of a text are: MinHash finds candidates, and the
exact Jaccard similarity of two sets decides.

>>> steps = np.repeat(np.random.default_rng(0).uniform(300, 3000, 20), 400)  # tones of 50 ms
>>> tune = 20000 * np.sin(2 * np.pi * np.cumsum(steps) / 8000)
>>> first, again = (landmarks((gain * tune).astype(np.int16)[:, None], 8000) for gain in (1, 0.25))
>>> first.size > 50, np.intersect1d(first, again).size > 0.7 * first.size
(True, True)
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.dedup.minhash import MinHashScheme, Sketch, band_keys, signatures
from curate.kernels.mix import fmix64
from curate.media.decode import decoders
from curate.media.opening import sound_of

__all__ = ["FingerprintScheme", "landmarks"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

WINDOW_S, HOP_S = 0.064, 0.008
COMPARED_S = 900  # of a longer sound the beginning; its spectrogram has 230 MB
_BINS = 256  # of 1 / 64 ms: up to 4 kHz
_LOWEST = 4  # bins; below 62 Hz there is hum
_BESIDE_FRAMES, _BESIDE_BINS = 10, 6
_RANGE = 10 ** (-50 / 20)
_FAN, _REACH_FRAMES, _REACH_BINS = 8, 126, 64
_FLOOR = 2.0  # steps of a 16-bit sample; a spectrum below is quantisation


@dataclass(frozen=True, kw_only=True)
class FingerprintScheme:
    """How sounds are compared; record it beside anything made of it.

    Attributes:
        minhash: bands, rows, seed and permutations; it has no shingles to make.
    """

    minhash: MinHashScheme = field(default_factory=lambda: MinHashScheme(bands=60, rows=2))

    @property
    def bands(self) -> int:
        """Keys of a sound."""
        return self.minhash.bands

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides what is found, for a manifest."""
        told = {name: getattr(self.minhash, name) for name in ("bands", "rows", "seed", "scheme")}
        return {
            **told,
            "landmarks": 1,
            "compared_s": COMPARED_S,
            **decoders("audio"),
            "numpy": np.__version__,
        }

    def finer(self) -> "FingerprintScheme":
        """Return what tells more sounds apart, for crowded buckets."""
        bands, rows = 5 * self.minhash.bands, 2 * self.minhash.rows
        return replace(self, minhash=replace(self.minhash, bands=bands, rows=rows))

    def s_curve(self, jaccard: float) -> float:
        """Return the probability that a pair of this similarity becomes a candidate."""
        return self.minhash.s_curve(jaccard)

    def sketch(self, media: Any) -> Sketch:
        """Return the keys of each sound; of what has no landmarks, none count."""
        values, offsets, is_capped = self._sets(media)
        keys = band_keys(signatures(values, offsets, self.minhash), self.minhash)
        return Sketch(keys, np.diff(offsets), is_capped)

    def sets(self, media: Any) -> tuple[U64, I64]:
        """Return each sound's landmarks, sorted, end to end, and offsets [n + 1]."""
        values, offsets, _ = self._sets(media)
        return values, offsets

    def _sets(self, media: Any) -> tuple[U64, I64, npt.NDArray[np.bool_]]:
        found = []
        is_capped = np.zeros(len(media), dtype=bool)
        for row, value in enumerate(media):
            data = value.as_py()
            sound = sound_of(data) if isinstance(data, bytes) else None
            if sound is None:
                found.append(np.empty(0, np.uint64))
                continue
            samples, rate = sound
            is_capped[row] = len(samples) > COMPARED_S * rate
            found.append(landmarks(samples[: COMPARED_S * rate], rate))
        offsets = np.zeros(len(found) + 1, dtype=np.int64)
        np.cumsum([one.size for one in found], out=offsets[1:])
        return np.concatenate([np.empty(0, np.uint64), *found]), offsets, is_capped


def landmarks(samples: npt.NDArray[np.int16], rate: int) -> U64:
    """Return the landmarks of a sound, sorted and without repeats.

    Args:
        samples: int16 [S, channels].
        rate: Hz.
    """
    times, bins = _peaks(_spectrogram(samples, rate))
    pieces = []
    for ahead in range(1, times.size):
        later, other = times[ahead:] - times[:-ahead], bins[ahead:] - bins[:-ahead]
        near = (later > 0) & (later <= _REACH_FRAMES) & (np.abs(other) <= _REACH_BINS)
        first = np.flatnonzero(near)
        pieces.append(np.stack([first, bins[first], other[first], later[first]]))
        if later.min() > _REACH_FRAMES:
            break
    if not pieces:
        return np.empty(0, dtype=np.uint64)
    first, low, step, later = np.concatenate(pieces, axis=1)
    order = np.argsort(first, kind="stable")  # the nearest follow first
    rank = np.arange(first.size) - np.searchsorted(first[order], first[order])
    kept = order[rank < _FAN]
    packed = (low[kept] << 16) | ((step[kept] + _REACH_BINS) << 8) | (later[kept] + 1 >> 1)
    return np.unique(fmix64(packed.astype(np.uint64)))


def _spectrogram(samples: npt.NDArray[np.int16], rate: int) -> npt.NDArray[np.float64]:
    """Return magnitudes [frames, bins up to 4 kHz], in steps of a sample; a short sound has one."""
    window, hop = max(2, round(rate * WINDOW_S)), max(1, round(rate * HOP_S))
    wave = samples.sum(axis=1, dtype=np.int64) / samples.shape[1]
    wave = np.pad(wave, (0, max(0, window - wave.size)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    shape = np.hanning(window + 1)[:-1]
    rows = [
        np.abs(np.fft.rfft(frames[at : at + 1024] * shape, axis=1))[:, :_BINS]
        for at in range(0, len(frames), 1024)
    ]
    return np.asarray(np.concatenate(rows) * (2 / shape.sum()))


def _peaks(spectrum: npt.NDArray[np.float64]) -> tuple[I64, I64]:
    """Return frame and bin of each peak, in the order of time, then frequency."""
    from scipy.ndimage import maximum_filter

    size = (2 * _BESIDE_FRAMES + 1, 2 * _BESIDE_BINS + 1)
    around = maximum_filter(spectrum, size, mode="constant", cval=0.0)
    least = max(_FLOOR, _RANGE * float(spectrum.max(initial=0.0)))
    is_peak = (spectrum == around) & (spectrum >= least)
    is_peak[:, :_LOWEST] = False
    times, bins = np.nonzero(is_peak)
    return times.astype(np.int64), bins.astype(np.int64)

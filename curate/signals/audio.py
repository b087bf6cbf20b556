"""What a sound measures: length and rate, how loud, how much of it is silence or clipped.

Samples are read as 16-bit integers; 0 dBFS is full scale. Levels are of frames of 20 ms over all
channels. A frame below -60 dBFS counts as silence: 60 dB is also what librosa's `trim` takes,
below the loudest frame there.

>>> import io, soundfile
>>> file = io.BytesIO(); soundfile.write(file, np.zeros(4000, np.int16), 8000, format="WAV")
>>> row = FAMILY.measure(pa.array([file.getvalue(), b"?", None], pa.large_binary())).to_pylist()
>>> row[0]["audio_duration_s"], row[0]["audio_silence_fraction"], row[1]["audio_duration_s"]
(0.5, 1.0, None)
"""

from typing import Any

import numpy as np
import pyarrow as pa

from curate.media.opening import sound_of
from curate.signals.base import Family, Signal

__all__ = ["FAMILY"]

SIGNALS = {
    "audio_duration_s": Signal(pa.float64(), "seconds"),
    "audio_sample_rate": Signal(pa.int64(), "Hz"),
    "audio_channels": Signal(pa.int64(), "channels"),
    "audio_num_bytes": Signal(pa.int64(), "of the file"),
    "audio_silence_fraction": Signal(pa.float64(), "20 ms frames below -60 dBFS"),
    "audio_clipped_fraction": Signal(pa.float64(), "samples at full scale"),
    "audio_peak_dbfs": Signal(pa.float64(), "largest sample, 0 is full scale; null for silence"),
    "audio_rms_dbfs": Signal(pa.float64(), "root mean square of all samples; null for silence"),
    "audio_dc_offset": Signal(pa.float64(), "mean sample as a share of full scale"),
    "audio_snr_db": Signal(
        pa.float64(), "an estimate: 95th less 10th percentile of the levels of 20 ms frames"
    ),
    "audio_zero_crossings": Signal(pa.float64(), "sign changes per second, of the first channel"),
}

_FULL = 32768
_FRAME_S = 0.02
_SILENCE = _FULL * 10 ** (-60 / 20)  # root mean square of a frame at -60 dBFS
_FLOOR = 1.0  # the least level of a frame, one step of a 16-bit sample: -90 dBFS


def _decibels(level: float) -> float | None:
    return 20 * float(np.log10(level / _FULL)) if level > 0 else None


def _frame_levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the root mean square of each whole frame, of what there is in a shorter sound."""
    length = min(max(1, round(rate * _FRAME_S)), len(samples))
    whole = samples[: len(samples) // length * length].astype(np.int64)
    squares = (whole * whole).reshape(-1, length * samples.shape[1])
    return np.asarray(np.sqrt(squares.sum(axis=1) / squares.shape[1]))


def _facts(samples: np.ndarray, rate: int, num_bytes: int) -> dict[str, Any]:
    """Return the numbers of int16 samples [S, channels]; sums are of integers."""
    wide = samples.astype(np.int64)
    magnitude = np.abs(wide)
    levels = _frame_levels(samples, rate)
    low, high = np.percentile(np.maximum(levels, _FLOOR), [10, 95])
    signs = samples[:, 0] >= 0
    return {
        "audio_duration_s": len(samples) / rate,
        "audio_sample_rate": rate,
        "audio_channels": samples.shape[1],
        "audio_num_bytes": num_bytes,
        "audio_silence_fraction": float((levels < _SILENCE).mean()),
        "audio_clipped_fraction": float((magnitude >= _FULL - 1).mean()),
        "audio_peak_dbfs": _decibels(float(magnitude.max())),
        "audio_rms_dbfs": _decibels(float(np.sqrt(int((wide * wide).sum()) / wide.size))),
        "audio_dc_offset": int(wide.sum()) / wide.size / _FULL,
        "audio_snr_db": 20 * float(np.log10(high / low)),
        "audio_zero_crossings": int((signs[1:] != signs[:-1]).sum()) * rate / len(samples),
    }


def _measure(media: Any) -> Any:
    rows: list[dict[str, Any]] = []
    for value in media:
        data = value.as_py()
        sound = sound_of(data) if isinstance(data, bytes) else None
        rows.append({} if sound is None else _facts(*sound, len(data)))
    columns = [pa.array([row.get(k) for row in rows], s.dtype) for k, s in SIGNALS.items()]
    return pa.table(columns, names=list(SIGNALS))


FAMILY = Family(
    name="audio",
    signals=SIGNALS,
    measure=_measure,
    reads=("media",),
    default=False,
    media=("audio", "pair"),
    needs=("soundfile",),
)

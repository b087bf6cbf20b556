"""What an image measures: its size from the header, its light, detail and colour from its pixels.

Statistics of pixels are taken once the longer side is reduced to 512 to 1023 pixels (whole blocks
averaged; smaller images as they are), on white where an image is transparent. So they cost the same
for a photograph as for a thumbnail, and mean the same for both. Gray is the luma of ITU-R BT.601.

>>> import io; from PIL import Image
>>> file = io.BytesIO(); Image.new("L", (40, 20), 255).save(file, "PNG")
>>> row = FAMILY.measure(pa.array([file.getvalue(), b"?", None], pa.large_binary())).to_pylist()
>>> row[0]["image_aspect"], row[0]["image_brightness"], row[1]["image_width"]
(2.0, 1.0, None)
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from curate.media.opening import image_of, pixels_of
from curate.signals.base import Family, Signal

__all__ = ["FAMILY"]

SIGNALS = {
    "image_width": Signal(pa.int64(), "pixels, before any rotation"),
    "image_height": Signal(pa.int64(), "pixels, before any rotation"),
    "image_min_side": Signal(pa.int64(), "pixels of the shorter side"),
    "image_aspect": Signal(pa.float64(), "longer side / shorter side, 1 for a square"),
    "image_megapixels": Signal(pa.float64(), "width x height / 10^6"),
    "image_format": Signal(pa.string(), "png, jpeg, gif, webp or bmp"),
    "image_mode": Signal(pa.string(), "as Pillow names it: L, RGB, RGBA, P, CMYK ..."),
    "image_channels": Signal(pa.int64(), "colour and alpha channels as stored"),
    "image_num_bytes": Signal(pa.int64(), "of the file"),
    "image_bytes_per_pixel": Signal(pa.float64(), "of the file; little means flat or squeezed"),
    "image_entropy": Signal(pa.float64(), "bits, of the gray histogram: 0 one tone, 8 at most"),
    "image_brightness": Signal(pa.float64(), "mean gray, 0 black to 1 white"),
    "image_contrast": Signal(pa.float64(), "standard deviation of gray, 0 to 0.5"),
    "image_sharpness": Signal(
        pa.float64(),
        "variance of the Laplacian (4 neighbours, gray of 0 to 255): little is blurred",
    ),
    "image_colourfulness": Signal(
        pa.float64(), "Hasler and Suesstrunk 2003: 0 gray, 33 moderate, 59 quite, 109 extreme"
    ),
    "image_blank_fraction": Signal(
        pa.float64(), "pixels within 2 levels of the commonest gray: 1 for an empty sheet"
    ),
}

_WORKING_SIDE = 512


def _header(image: Any, num_bytes: int) -> dict[str, Any]:
    width, height = image.size
    return {
        "image_width": width,
        "image_height": height,
        "image_min_side": min(width, height),
        "image_aspect": max(width, height) / min(width, height),
        "image_megapixels": width * height / 1e6,
        "image_format": str(image.format).lower(),
        "image_mode": image.mode,
        "image_channels": len(image.getbands()),
        "image_num_bytes": num_bytes,
        "image_bytes_per_pixel": num_bytes / (width * height),
    }


def _statistics(image: Any) -> dict[str, Any]:
    """Return the numbers of an RGB image; sums are of integers, so every machine has the same."""
    histogram = np.array(image.convert("L").histogram(), dtype=np.int64)
    total = int(histogram.sum())
    levels = np.arange(256)
    mean = float(histogram @ levels) / total
    variance = float(histogram @ levels**2) / total - mean**2
    shares = histogram[histogram > 0] / total
    window = np.convolve(histogram, np.ones(5, dtype=np.int64), mode="same")
    gray = np.asarray(image.convert("L"), dtype=np.int32)
    return {
        "image_entropy": float(-(shares * np.log2(shares)).sum()) + 0.0,
        "image_brightness": mean / 255,
        "image_contrast": max(variance, 0.0) ** 0.5 / 255,
        "image_sharpness": _sharpness(gray),
        "image_colourfulness": _colourfulness(np.asarray(image, dtype=np.int64)),
        "image_blank_fraction": int(window[histogram.argmax()]) / total,
    }


def _sharpness(gray: np.ndarray) -> float | None:
    """Variance of the Laplacian, inside the border (Pech-Pacheco et al. 2000)."""
    if min(gray.shape) < 3:
        return None
    middle = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return _variance((around - 4 * middle).astype(np.int64))


def _variance(values: np.ndarray) -> float:
    total = int(values.sum())
    return (int((values * values).sum()) - total * total / values.size) / values.size


def _colourfulness(pixels: np.ndarray) -> float:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    warm, cold = red - green, red + green - 2 * blue  # the second one is twice the paper's
    spread = max(_variance(warm) + _variance(cold) / 4, 0.0)
    offset = float(warm.mean()) ** 2 + float(cold.mean()) ** 2 / 4
    return math.sqrt(spread) + 0.3 * math.sqrt(offset)


def _measure(media: Any) -> Any:
    rows = []
    for value in media:
        data = value.as_py()
        image = image_of(data) if isinstance(data, bytes) else None
        row: dict[str, Any] = {}
        if image is not None:
            row = _header(image, len(data))
            pixels = pixels_of(image, _WORKING_SIDE)
            row |= {} if pixels is None else _statistics(pixels)
        rows.append(row)
    columns = [pa.array([row.get(k) for row in rows], s.dtype) for k, s in SIGNALS.items()]
    return pa.table(columns, names=list(SIGNALS))


FAMILY = Family(
    name="image",
    signals=SIGNALS,
    measure=_measure,
    reads=("media",),
    default=False,
    media=("image", "pair"),
    needs=("pillow",),
)

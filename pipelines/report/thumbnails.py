"""Media made small enough to stand in a page: a picture as a data URI, a sound as its outline.

Nothing of the file itself gets into a page: pixels are unpacked, reduced and written anew as JPEG,
so metadata and whatever hides behind an image stay where they are; the outline is a path of digits
that is made here. What cannot be opened shows nothing.
"""

import base64
import io
from typing import Any

import numpy as np

from curate.media.opening import image_of, pixels_of, sound_of

__all__ = ["shown"]

_SIDE = 96  # pixels of the longer side, at most
_COLUMNS, _HEIGHT = 96, 24  # of an outline
_QUALITY = 80


def shown(media: bytes) -> dict[str, Any] | None:
    """Return what a page shows of a file: `src`, `outline`, `width`, `height`, `facts`; or None.

    `src` is a data URI of a picture, `outline` the path of a sound; the other of the two is None.
    """
    image = image_of(media)
    return _picture(image) if image is not None else _outline(media)


def _picture(image: Any) -> dict[str, Any] | None:
    width, height = image.size
    facts = f"{width:,} x {height:,} {str(image.format).lower()}"
    pixels = pixels_of(image, _SIDE)
    if pixels is None:
        return None
    pixels.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=_QUALITY)
    src = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    size = {"width": pixels.width, "height": pixels.height}
    return {"src": src, "outline": None, **size, "facts": facts}


def _outline(media: bytes) -> dict[str, Any] | None:
    """Return the loudest sample of each of 96 stretches as one closed path."""
    sound = sound_of(media)
    if sound is None:
        return None
    samples, rate = sound
    loud = np.abs(samples.astype(np.int32)).max(axis=1)
    edges = np.linspace(0, len(loud), min(_COLUMNS, len(loud)) + 1).astype(int)
    half = _HEIGHT // 2
    rises = np.ceil(np.maximum.reduceat(loud, edges[:-1]) * (half / 32768)).astype(int).tolist()
    upper = [f"{x} {half - rise}" for x, rise in enumerate(rises)]
    lower = [f"{x} {half + rise}" for x, rise in enumerate(rises)]
    channels = {1: "mono", 2: "stereo"}.get(samples.shape[1], f"{samples.shape[1]} channels")
    return {
        "src": None,
        "outline": f"M{'L'.join([*upper, *lower[::-1]])}Z",
        "width": _COLUMNS,
        "height": _HEIGHT,
        "facts": f"{len(loud) / rate:.2f} s, {rate:,} Hz, {channels}",
    }

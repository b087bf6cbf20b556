"""Media for whoever looks at it: signals, hashes, samples of a report.

`curate.media.decode` makes what a trainer eats, one size for all; here an image keeps its shape and
is unpacked no further than a look needs, and a sound keeps its rate and channels. What is no image
or sound is None and never an error: `collect` has put broken files into quarantine, and a document
that was withdrawn is empty.

>>> image_of(b"no image") is None, sound_of(b"no sound") is None
(True, True)
"""

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.media.decode import MAX_PIXELS, MAX_SAMPLES
from curate.readers import images
from curate.readers.columns import Problem

__all__ = ["image_of", "pixels_of", "sound_of"]

_BLOCK_FRAMES = 1 << 18
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM")


def image_of(data: bytes | None) -> Any:
    """Return the image as Pillow opens it, its pixels not yet unpacked; None if it is none."""
    if not data or isinstance(images.header(data), Problem):
        return None
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size, which is bounded where it is unpacked
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception:  # Pillow's decoders raise whatever a broken header makes of them
        return None
    return image if image.width > 0 and image.height > 0 else None


def pixels_of(image: Any, most: int) -> Any:
    """Return an image as RGB on white, turned as its EXIF says, its longer side from `most` on.

    JPEG is unpacked at the power of two that suffices (T.81's DCT makes that cheap); what is left
    of the factor averages whole blocks of pixels.

    Args:
        image: as `image_of` returns it; it is used up.
        most: pixels of the longer side below which nothing is reduced further; 0 for full size.

    Returns:
        A Pillow image of mode RGB, None where the file is broken or unpacks to too much.
    """
    from PIL import ImageOps

    factor = max(image.size) // most if most else 1
    try:
        if factor >= 2:
            image.draft("RGB", (image.width // factor, image.height // factor))
        if image.width * image.height > MAX_PIXELS:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken meta data beside the pixels
            flat = _on_white(ImageOps.exif_transpose(image))
        left = max(flat.size) // most if most else 1
        return flat.reduce(left) if left >= 2 else flat
    except Exception:  # as above: a broken file is no image
        return None


def _on_white(image: Any) -> Any:
    from PIL import Image

    if image.mode in ("RGB", "L"):
        return image.convert("RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them at 255
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    paper = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(paper, seen).convert("RGB")


def _as_integers(block: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return samples in 16 bits; libsndfile itself would take those of a float file for steps."""
    finite = np.nan_to_num(block.astype(np.float64), posinf=1.0, neginf=-1.0)
    scaled = np.rint(finite * 32768.0)
    return np.asarray(np.clip(scaled, -32768, 32767), dtype=np.int16)


def sound_of(data: bytes | None) -> tuple[npt.NDArray[np.int16], int] | None:
    """Return (samples int16 [S, channels], rate in Hz) of a sound, None if it is none."""
    if not data:
        return None
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate < 1 or not 0 < file.frames * file.channels <= MAX_SAMPLES:
                return None
            blocks = file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            samples = np.concatenate([_as_integers(block) for block in blocks])
            return samples, int(file.samplerate)
    except Exception:  # libsndfile's errors have no base of their own
        return None

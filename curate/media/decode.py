r"""From the bytes of an image or a sound to numbers, and whether they can be made at all.

A header is read before anything is decoded, so that a file of a kilobyte that claims 100,000 x
100,000 pixels or a day of sound is refused for what it says. What it says is compared with what the
decoder finds. Everything that a corpus keeps was decoded once by `check`.

Pillow and soundfile (the extra `preceptor[media]`) are imported when something is decoded.

>>> check(b"P5 2 2 255\n" + bytes(4), "image")
{'format': 'pnm', 'width': 2, 'height': 2}
>>> check(b"no image", "image").reason
'invalid_media'
"""

import importlib
import io
import math
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from curate.readers import audio, images
from curate.readers.columns import Problem

__all__ = [
    "MAX_CHANNELS",
    "MAX_PIXELS",
    "MAX_RATE",
    "MAX_SAMPLES",
    "MAX_SECONDS",
    "check",
    "decode_image",
    "decode_sound",
    "decoders",
    "need_decoders",
]

MAX_PIXELS = 1 << 26  # 8192 x 8192, some 200 MB as RGB
MAX_SAMPLES = 1 << 27  # over all channels: 46 minutes of one channel at 48 kHz
MAX_CHANNELS = 32
MAX_SECONDS = 7200  # a slow rate makes hours of few bytes, and all of it is brought to another rate
MAX_RATE = 1 << 20  # Hz; the filter between two rates is as long as the larger

_BLOCK_FRAMES = 1 << 18
_FORMATS = {"png": "PNG", "jpeg": "JPEG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "pnm": "PPM"}
_PACKAGES = {"image": ("PIL",), "audio": ("soundfile", "scipy")}
_WHITE = 255
#: What Pillow raises for a damaged file; its plug-ins are many hands' work.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    Warning,
)


def need_decoders(kind: str) -> None:
    """Refuse, before any work, to go on without the packages that decode.

    Raises:
        InputError: what is missing, and how to install it.
    """
    for name in _PACKAGES[kind]:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: libsndfile is missing
            package = {"PIL": "Pillow"}.get(name, name)
            raise InputError(
                f"a corpus of {kind} is decoded by {package}, which is not there ({error}); "
                "pip install 'preceptor[media]'"
            ) from None


def decoders(kind: str) -> dict[str, str]:
    """Return the versions of what decodes: they are part of what a token shard is made from."""
    import importlib.metadata

    packages = {"PIL": "pillow"}
    return {
        packages.get(name, name): importlib.metadata.version(packages.get(name, name))
        for name in _PACKAGES[kind]
    }


def check(data: bytes, kind: str) -> dict[str, Any] | Problem:
    """Return what the header of an image or a sound says, once it was decoded; or why it is none.

    Args:
        data: the file.
        kind: image or audio.
    """
    found = images.header(data) if kind == "image" else audio.header(data)
    if isinstance(found, Problem):
        return found
    return _checked_image(data, found) if kind == "image" else _checked_sound(data, found)


def _checked_image(data: bytes, facts: dict[str, Any]) -> dict[str, Any] | Problem:
    width, height = facts["width"], facts["height"]
    if width < 1 or height < 1:
        return Problem("invalid_media", f"an image of {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        told = f"its header claims {width:,} x {height:,} pixels, above {MAX_PIXELS:,} in all"
        return Problem("too_large", told)
    opened = _opened_image(data, str(facts["format"]))
    if isinstance(opened, Problem):
        return opened
    moves = getattr(opened, "is_animated", False)
    return {**facts, "animated": True} if moves else facts  # the first picture is what counts


def _opened_image(data: bytes, form: str) -> Any:
    """Return a decoded Pillow image, or a Problem."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken meta data beside the pixels
            image = Image.open(io.BytesIO(data), formats=[_FORMATS[form]])
            if image.width * image.height > MAX_PIXELS:
                told = f"{image.width:,} x {image.height:,} pixels, above {MAX_PIXELS:,} in all"
                return Problem("too_large", told)
            image.load()
    except _BROKEN as error:
        cut = "truncated" in str(error).lower()
        reason = "truncated" if cut else "invalid_media"
        return Problem(reason, f"the {form} cannot be decoded: {error}")
    return image


def decode_image(data: bytes, media: Mapping[str, Any]) -> np.ndarray:
    """Return an image as uint8 [channels, size, size].

    It is turned as its EXIF says and laid over white where it is transparent. The aspect is kept:
    the shorter side becomes `size` (bicubic, antialiased) and the middle of the longer one stays;
    with `fit: pad` the longer side becomes `size`, with white beside. An image that has the size
    already keeps its pixels.

    Raises:
        ValueError: it cannot be decoded; `check` would have said so.
    """
    from PIL import Image, ImageOps

    found = images.header(data)
    image = found if isinstance(found, Problem) else _opened_image(data, str(found["format"]))
    if isinstance(image, Problem):
        raise ValueError(image.detail)
    image = ImageOps.exif_transpose(image)
    mode = "L" if media["channels"] == 1 else "RGB"
    if image.mode.startswith("I;16"):  # 16 bits of grey, of which Pillow would keep the lower 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        over = Image.new("RGBA", image.size, (_WHITE,) * 4)
        image = Image.alpha_composite(over, image)
    image, size = image.convert(mode), (media["size"],) * 2
    if image.size != size and media.get("fit") == "pad":
        white = _WHITE if mode == "L" else (_WHITE,) * 3
        image = ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=white)
    elif image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.uint8)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _checked_sound(data: bytes, facts: dict[str, Any]) -> dict[str, Any] | Problem:
    """Return the facts; of what is compressed, or was streamed, the decoder knows the length."""
    channels, samples = facts["num_channels"], facts["num_samples"]
    if channels > MAX_CHANNELS:
        return Problem("too_large", f"{channels} channels, above {MAX_CHANNELS}")
    if channels * samples > MAX_SAMPLES:
        told = f"its header claims {facts['duration_s'] / 60:,.0f} minutes, {samples:,} samples"
        return Problem("too_large", f"{told} x {channels} channels, above {MAX_SAMPLES:,} in all")
    if facts["sample_rate"] > MAX_RATE:
        return Problem("too_large", f"a rate of {facts['sample_rate']:,} Hz, above {MAX_RATE:,}")
    found = _read_sound(data)
    if isinstance(found, Problem):
        return found
    wave, rate = found
    if wave.size > MAX_SECONDS * rate:
        told = f"{wave.size / rate / 3600:,.1f} hours, above {MAX_SECONDS / 3600:g}"
        return Problem("too_large", told)
    if not wave.size:
        return Problem("invalid_media", "a sound without a sample")
    if wave.size < samples:
        told = f"{wave.size:,} of the {samples:,} samples can be decoded"
        return Problem("truncated", told)
    if wave.size == samples:
        return facts
    return {**facts, "num_samples": int(wave.size), "duration_s": wave.size / rate}


def _read_sound(data: bytes) -> tuple[np.ndarray, int] | Problem:
    """Return the mean of all channels as float32 [samples], and the rate in Hz; or a Problem."""
    import soundfile

    blocks, total = [], 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, most = file.samplerate, MAX_SAMPLES // max(1, file.channels)
            while True:  # never by the header's length: a stream may not know its own
                block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
                total += len(block)
                if total > most:
                    return Problem("too_large", f"more than {MAX_SAMPLES:,} samples in all")
                blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
                if len(block) < _BLOCK_FRAMES:
                    break
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        return Problem("invalid_media", f"the sound cannot be decoded: {error}")
    return np.concatenate(blocks), int(rate)


def decode_sound(data: bytes, sample_rate: int) -> np.ndarray:
    """Return a sound as int16 [samples] of one channel, the mean of all, at `sample_rate` Hz.

    Another rate is brought to it by a polyphase filter (`scipy.signal.resample_poly`, a Kaiser
    window). Sixteen bits of one channel at the same rate come back as they are.

    Raises:
        ValueError: it cannot be decoded; `check` would have said so.
    """
    found = _read_sound(data)
    if isinstance(found, Problem):
        raise ValueError(found.detail)
    samples, rate = found
    if rate != sample_rate:
        from scipy.signal import resample_poly

        shared = math.gcd(rate, sample_rate)
        wave = samples.astype(np.float64)
        samples = resample_poly(wave, sample_rate // shared, rate // shared)
    finite = np.nan_to_num(samples.astype(np.float64), posinf=1.0, neginf=-1.0)
    scaled = np.rint(finite * 32768.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16)

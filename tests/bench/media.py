"""Near-duplicates of media: how many transformed copies are found, how many different ones merge.

    python tests/bench/media.py ../shared/data

Images: Noto emoji (64 x 64, laid on white) and MNIST digits; sounds: spoken digits (FSDD), one at a
time and eight in a row. A copy is found when its pair verifies by the defaults of a recipe; a false
merge is a verified pair of two originals whose files differ. Many emoji are drawn to differ little
(families, flags, speakers), so theirs is an upper bound.
"""

import gzip
import io
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image, ImageEnhance
from scipy.signal import resample_poly

from curate.media.fingerprints import landmarks
from curate.media.perceptual import LIKENESS, PerceptualScheme, hamming, likeness, views_of

DISTANCE, THRESHOLD, RATE = PerceptualScheme().distance, 0.2, 8000


def _file(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _noisy(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(float)
    noise = np.random.default_rng(0).normal(0, 8, values.shape)
    return Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8))


def _cropped(image: Image.Image, share: float) -> Image.Image:
    cut = max(1, round(image.width * share))
    return image.crop((cut, cut, image.width - cut, image.height - cut))


IMAGE_COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "resized to 0.5": lambda i: _file(i.resize((i.width // 2, i.height // 2))),
    "resized to 2": lambda i: _file(i.resize((i.width * 2, i.height * 2))),
    "JPEG, quality 90": lambda i: _file(i, "JPEG", quality=90),
    "JPEG, quality 30": lambda i: _file(i, "JPEG", quality=30),
    "WebP, quality 50": lambda i: _file(i, "WEBP", quality=50),
    "brightness x 1.2": lambda i: _file(ImageEnhance.Brightness(i).enhance(1.2)),
    "brightness x 0.7": lambda i: _file(ImageEnhance.Brightness(i).enhance(0.7)),
    "contrast x 0.7": lambda i: _file(ImageEnhance.Contrast(i).enhance(0.7)),
    "noise, deviation 8": lambda i: _file(_noisy(i)),
    "2 % cut off each side": lambda i: _file(_cropped(i, 0.02)),
    "5 % cut off each side": lambda i: _file(_cropped(i, 0.05)),
}


def _noised(wave: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, wave.std() * 10 ** (-decibels / 20), wave.size)
    return wave + noise


def _vorbis(wave: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    soundfile.write(stream, wave.astype(np.int16), RATE, format="OGG")
    stream.seek(0)
    return np.asarray(soundfile.read(stream, dtype="int16")[0], dtype=float)


SOUND_COPIES: dict[str, Callable[[np.ndarray], tuple[np.ndarray, int]]] = {
    "gain -12 dB": lambda x: (x / 4, RATE),
    "gain +6 dB, clipped": lambda x: (x * 2, RATE),
    "resampled to 16 kHz": lambda x: (resample_poly(x, 2, 1), 2 * RATE),
    "resampled to 44.1 kHz": lambda x: (resample_poly(x, 441, 80), 44100),
    "noise at 40 dB": lambda x: (_noised(x, 40), RATE),
    "noise at 30 dB": lambda x: (_noised(x, 30), RATE),
    "noise at 20 dB": lambda x: (_noised(x, 20), RATE),
    "Ogg Vorbis": lambda x: (_vorbis(x), RATE),
    "0.05 s cut off the start": lambda x: (x[400:], RATE),
    "10 % cut off each end": lambda x: (x[x.size // 10 : -(x.size // 10)], RATE),
    "0.5 s of silence before": lambda x: (np.pad(x, (4000, 0)), RATE),
    "5 % faster": lambda x: (resample_poly(x, 20, 21), RATE),
}


def _views(files: list[bytes]) -> Any:
    views, seen = views_of(pa.array(files, pa.large_binary()))
    assert seen.all()
    return views


def _images(name: str, images: list[Image.Image], every: int) -> None:
    files = [_file(image) for image in images]
    began = time.perf_counter()
    views = _views(files)
    cost = (time.perf_counter() - began) / len(files)
    some = list(range(0, len(images), every))
    print(f"\n{name}: {len(images):,} images, {cost * 1e3:.2f} ms each; copies of {len(some)}")
    for what, change in IMAGE_COPIES.items():
        copies = _views([change(images[k]) for k in some])
        near = hamming(views[some, 0], copies[:, 0]) <= DISTANCE
        alike = likeness(views[some, 1:], copies[:, 1:]) >= LIKENESS
        print(f"  {what:26} hash {near.mean():6.1%}   verified {(near & alike).mean():6.1%}")
    by_hash, merged = 0, []
    for row in range(len(files)):
        others = row + 1 + np.flatnonzero(hamming(views[row, 0], views[row + 1 :, 0]) <= DISTANCE)
        others = np.array([k for k in others if files[k] != files[row]], dtype=np.int64)
        by_hash += others.size
        same = likeness(np.repeat(views[[row], 1:], others.size, axis=0), views[others, 1:])
        merged += [(row, int(k)) for k in others[same >= LIKENESS]]
    touched = len({k for pair in merged for k in pair})
    print(f"  different ones: {by_hash} pairs by the hash alone, {len(merged)} verified")
    print(f"  of {len(files):,} images {touched} ({touched / len(files):.2%}) stand in one")


def _landmarks(wave: np.ndarray, rate: int) -> np.ndarray:
    whole = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return landmarks(whole[:, None], rate)


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.intersect1d(a, b, assume_unique=True).size
    return shared / max(1, a.size + b.size - shared)


def _sounds(name: str, waves: list[np.ndarray], every: int) -> None:
    began = time.perf_counter()
    sets = [_landmarks(wave, RATE) for wave in waves]
    cost = (time.perf_counter() - began) / len(waves)
    some = range(0, len(waves), every)
    print(f"\n{name}: {len(waves):,} sounds, {cost * 1e3:.2f} ms each; copies of {len(some)}")
    for what, change in SOUND_COPIES.items():
        scores = np.array([_jaccard(sets[k], _landmarks(*change(waves[k]))) for k in some])
        found = (scores >= THRESHOLD).mean()
        print(f"  {what:26} verified {found:6.1%}   median Jaccard {np.median(scores):.2f}")
    worst = [_jaccard(a, b) for k, a in enumerate(sets[:400]) for b in sets[:k]]
    false = sum(score >= THRESHOLD for score in worst)
    print(f"  different ones: {false} of {len(worst):,} pairs verified, largest {max(worst):.3f}")


def main(folder: Path) -> None:
    """Print the tables."""
    emoji = pq.read_table(folder / "image_text" / "noto_emoji_64px.parquet", columns=["image"])
    drawn = []
    for data in emoji["image"].to_pylist():
        clear = Image.open(io.BytesIO(data)).convert("RGBA")
        drawn.append(
            Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
        )
    _images("emoji", drawn, 4)
    packed = folder / "images" / "mnist" / "t10k-images-idx3-ubyte.gz"
    digits = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16)
    _images("MNIST", [Image.fromarray(one) for one in digits.reshape(-1, 28, 28)[:5000]], 8)
    with zipfile.ZipFile(folder / "audio" / "fsdd_1200.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))
        read = (soundfile.read(io.BytesIO(archive.read(n)), dtype="int16")[0] for n in names)
        waves = [wave.astype(float) for wave in read]
    _sounds("one spoken digit", waves[::3], 2)
    rows = [np.concatenate(waves[k : k + 8]) for k in range(0, len(waves) - 7, 8)]
    _sounds("eight in a row", rows, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))

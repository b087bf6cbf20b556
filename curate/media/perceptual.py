"""Images that look the same: a 64-bit perceptual hash to find them, a thumbnail to make sure.

**The hash** (pHash, Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 3.2.1): the image on white, as gray (ITU-R BT.601), reduced to 32 x 32 (Lanczos); its
type-II DCT; the 8 x 8 coefficients of the rows and columns 1 to 8, so without any constant; a bit
is 1 where the coefficient is above the median of the 64. Bit 63 - (8 u + v) belongs to row u,
column v of the 8 x 8. The DCT is done in integers (cosines times 2^14), so no machine rounds
another way. Two images are as similar as 1 - d / 64, d being the bits in which they differ.

**Candidates** need no luck: cut 64 bits into t + 3 blocks, and two hashes that differ in at most t
bits agree in at least three of them (pigeonhole; Manku, Jain and Das Sarma 2007). So every triple
of blocks is a band key, and every pair of images within t shares one.

**The second look**: 64 bits see shapes, not colours, and flat or small images have few. So a pair
also needs 32 x 32 thumbnails in colour (bilinear) that are alike everywhere: both are brought to
mean 0 and deviation 1, which takes light and contrast out, and `likeness` is 1 less half the mean
square difference of the worst of 8 x 8 blocks. Over the whole image that would be the correlation;
of the worst block it sees the one stripe of a flag and the one stroke of a digit that differ. It
must be `LIKENESS`. What is flat has no deviation, and must be equal to 4 levels.

>>> a, b = 0b1011, 0b0010
>>> hamming(np.array([a], np.uint64), np.array([b], np.uint64)).tolist()
[2]
"""

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError
from curate.dedup.minhash import Sketch
from curate.kernels.mix import fmix64
from curate.media.decode import decoders
from curate.media.opening import image_of, pixels_of

__all__ = [
    "LIKENESS",
    "PerceptualScheme",
    "hamming",
    "hashes_of",
    "likeness",
    "perceptual_hash",
    "similarities",
    "views_of",
]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

BITS = 64
_SIDE, _LOW, _SCALE = 32, 8, 1 << 14
_THUMB = 32
WORDS = 1 + _THUMB * _THUMB * 3 // 8  # of a view: the hash, then the thumbnail's bytes
_UNPACKED_SIDE = 256  # JPEG is unpacked no further
_BLOCKS = 8
LIKENESS = 0.8  # chosen by measurement: tests/bench/media.py
_FLAT = 4.0  # levels: root mean square deviation of what has no correlation


@dataclass(frozen=True, kw_only=True)
class PerceptualScheme:
    """How images are compared; record it beside anything made of it.

    Attributes:
        distance: most bits of 64 in which near-duplicates differ.
        spare: blocks of a key; more make keys longer and their number larger, and change no result.
    """

    distance: int = 8
    spare: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 16:
            raise InputError(f"distance should be 0 to 16 of 64 bits, got {self.distance}")

    @property
    def bands(self) -> int:
        """Keys of an image."""
        return len(self._choices)

    @property
    def _choices(self) -> list[tuple[int, ...]]:
        blocks = self.distance + self.spare
        return list(itertools.combinations(range(blocks), self.spare))

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides what is found, for a manifest."""
        versions = decoders("image")
        return {
            **asdict(self),
            "hash": "dct-64",
            "thumbnail": _THUMB,
            "likeness": LIKENESS,
            **versions,
        }

    def finer(self) -> "PerceptualScheme":
        """Return what finds the same pairs in smaller buckets, by more keys."""
        return replace(self, spare=self.spare + 1)

    def sketch(self, media: Any) -> Sketch:
        """Return the keys of each image; of what is none, none count."""
        hashes, seen = hashes_of(media)
        uncut = np.zeros(len(media), dtype=bool)
        return Sketch(self.keys(hashes), seen.astype(np.int64), uncut, hashes)

    def keys(self, hashes: U64) -> U64:
        """Return the band keys of hashes, uint64 [n, bands]."""
        blocks = self.distance + self.spare
        edges = [BITS * k // blocks for k in range(blocks + 1)]
        masks = [((1 << hi) - 1) ^ ((1 << lo) - 1) for lo, hi in itertools.pairwise(edges)]
        keys = np.empty((hashes.size, self.bands), dtype=np.uint64)
        for band, chosen in enumerate(self._choices):
            mask = np.uint64(sum(masks[k] for k in chosen))
            keys[:, band] = fmix64(fmix64(hashes & mask) ^ np.uint64(band + 1))
        return keys

    def sets(self, media: Any) -> tuple[U64, I64]:
        """Return what pairs of images are verified by: views (see `views_of`) and offsets."""
        views, seen = views_of(media)
        offsets = np.zeros(len(media) + 1, dtype=np.int64)
        np.cumsum(np.where(seen, WORDS, 0), out=offsets[1:])
        return views[seen].reshape(-1), offsets


def hamming(left: U64, right: U64) -> I64:
    """Return the number of bits in which hashes differ, int64 [n]."""
    return np.asarray(np.bitwise_count(left ^ right), dtype=np.int64)


def _cosines() -> I64:
    """Return rows 1 to 8 of the type-II DCT of length 32, times 2^14, int64 [8, 32]."""
    row, place = np.arange(1, _LOW + 1)[:, None], np.arange(_SIDE)[None, :]
    exact = np.cos(np.pi * row * (2 * place + 1) / (2 * _SIDE))
    return np.asarray(np.rint(exact * _SCALE), dtype=np.int64)


_DCT = _cosines()


def perceptual_hash(gray: npt.NDArray[np.uint8]) -> int:
    """Return the hash of a gray image [32, 32], uint8."""
    low = _DCT @ gray.astype(np.int64) @ _DCT.T
    flat = low.reshape(-1)
    middle = np.sort(flat)[BITS // 2 - 1 : BITS // 2 + 1].sum()  # twice the median
    bits = np.packbits(2 * flat > middle)
    return int.from_bytes(bits.tobytes(), "big")


def _pixels(data: Any) -> Any:
    """Return an image as far unpacked as a look needs, RGB; None if it is none."""
    image = image_of(data) if isinstance(data, bytes) else None
    return None if image is None else pixels_of(image, _UNPACKED_SIDE)


def _hash_of(pixels: Any) -> int:
    from PIL import Image

    gray = pixels.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return perceptual_hash(np.asarray(gray))


def hashes_of(media: Any) -> tuple[U64, npt.NDArray[np.bool_]]:
    """Return the hash of each file, uint64 [n], and whether it is an image, bool [n]."""
    hashes = np.zeros(len(media), dtype=np.uint64)
    seen = np.zeros(len(media), dtype=bool)
    for row, value in enumerate(media):
        pixels = _pixels(value.as_py())
        if pixels is not None:
            hashes[row], seen[row] = _hash_of(pixels), True
    return hashes, seen


def views_of(media: Any) -> tuple[U64, npt.NDArray[np.bool_]]:
    """Return what is compared of images.

    Args:
        media: files, an Arrow array of binaries [n].

    Returns:
        Views, uint64 [n, 385]: the hash, then the bytes of the thumbnail (32 x 32 x RGB, little
        endian); and whether there is an image, bool [n].
    """
    from PIL import Image

    views = np.zeros((len(media), WORDS), dtype=np.uint64)
    seen = np.zeros(len(media), dtype=bool)
    for row, value in enumerate(media):
        pixels = _pixels(value.as_py())
        if pixels is None:
            continue
        thumb = pixels.resize((_THUMB, _THUMB), Image.Resampling.BILINEAR)
        views[row, 0], seen[row] = _hash_of(pixels), True
        views[row, 1:] = np.frombuffer(thumb.tobytes(), dtype="<u8")
    return views, seen


def likeness(left: U64, right: U64) -> F64:
    """Return how alike the worst block of two thumbnails is, float64 [n], at most 1.

    Both as in a view, uint64 [n, 384]. Of a pair of which one is flat (all channels within 4
    levels, root mean square) it is 1 if the two are as near to each other, else 0. Sums are of
    integers, so that every machine has the same.
    """
    a, b = (one.astype("<u8").view(np.uint8).astype(np.int64) for one in (left, right))
    size = a.shape[1]
    centred_a, centred_b = (size * v - v.sum(axis=1, keepdims=True) for v in (a, b))
    # These are size^2 times squares of levels: below 2^53, and so are the sums over a block.
    own_a, own_b, both = (
        _block_sums(x * y)
        for x, y in ((centred_a, centred_a), (centred_b, centred_b), (centred_a, centred_b))
    )
    spread_a, spread_b = own_a.sum(axis=1) / size, own_b.sum(axis=1) / size  # (size x deviation)^2
    flat = np.minimum(spread_a, spread_b) <= (_FLAT * size) ** 2
    near = ((a - b) ** 2).sum(axis=1) <= _FLAT**2 * size
    var_a, var_b = (np.where(flat, 1.0, spread)[:, None] for spread in (spread_a, spread_b))
    apart = own_a / var_a + own_b / var_b - 2 * both / (np.sqrt(var_a) * np.sqrt(var_b))
    worst = 1 - apart.max(axis=1) / (2 * (size // _BLOCKS**2))
    result: F64 = np.where(flat, near.astype(np.float64), worst)
    return result


def _block_sums(values: I64) -> I64:
    """Return the sums of the 8 x 8 blocks of thumbnails [n, 32 x 32 x 3], int64 [n, 64]."""
    edge = _THUMB // _BLOCKS
    cut = values.reshape(-1, _BLOCKS, edge, _BLOCKS, edge * 3)
    return np.asarray(cut.sum(axis=(2, 4)).reshape(-1, _BLOCKS**2))


def similarities(pairs: I64, views: U64, offsets: I64, floor: float = 0.0) -> F64:
    """Return 1 - d / 64 of pairs whose thumbnails are alike by at least `LIKENESS`, 0 of others.

    The second look costs a thousand times the first: pairs below `floor` are spared it and have 0.

    Args:
        pairs: int64 [m, 2] ordinals of images; who has no image is like nobody.
        views: uint64, those of all images end to end.
        offsets: int64 [n + 1] into `views`.
        floor: similarity from which on a pair matters.
    """
    result = np.zeros(len(pairs))
    places = np.flatnonzero((np.diff(offsets)[pairs] == WORDS).all(axis=1))
    starts = offsets[:-1][pairs[places]]
    near = 1 - hamming(views[starts[:, 0]], views[starts[:, 1]]) / BITS
    matters = near >= floor
    places, starts, near = places[matters], starts[matters], near[matters]
    for begin in range(0, places.size, 512):
        some = slice(begin, begin + 512)
        left, right = (views[starts[some, k, None] + np.arange(1, WORDS)] for k in (0, 1))
        alike = likeness(left, right) >= LIKENESS
        result[places[some]] = np.where(alike, near[some], 0.0)
    return result

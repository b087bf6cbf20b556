"""What a scheme compares, and how: shingles of texts, looks of images, landmarks of sounds.

A scheme of media says itself how it makes keys and sets (`sketch`, `sets`); that of texts has its
functions in `curate.dedup.minhash` and `curate.kernels.shingles`. Whatever is compared, the rest is
the same: keys give candidate pairs, sets decide about them.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.dedup.minhash import MinHashScheme, Sketch, sketch
from curate.kernels.shingles import Shingling, shingle_sets
from curate.media.fingerprints import FingerprintScheme
from curate.media.perceptual import PerceptualScheme

__all__ = ["Compared", "Scheme", "column_of", "compared_of", "finer_of", "sets_of", "sketch_of"]

Scheme: TypeAlias = MinHashScheme | PerceptualScheme | FingerprintScheme
Compared: TypeAlias = Shingling | PerceptualScheme | FingerprintScheme

_FINER_BANDS, _FINER_ROWS = 5, 2  # times those of the recipe, for crowded buckets


def column_of(scheme: Scheme | Compared) -> str:
    """Return the column of the documents that is compared."""
    return "text" if isinstance(scheme, MinHashScheme | Shingling) else "media"


def sketch_of(column: Any, scheme: Scheme) -> Sketch:
    """Return the band keys of each document."""
    return sketch(column, scheme) if isinstance(scheme, MinHashScheme) else scheme.sketch(column)


def finer_of(scheme: Scheme) -> Scheme:
    """Return the scheme that bands the documents of crowded buckets again."""
    if not isinstance(scheme, MinHashScheme):
        return scheme.finer()
    return replace(scheme, bands=_FINER_BANDS * scheme.bands, rows=_FINER_ROWS * scheme.rows)


def compared_of(scheme: Scheme) -> Compared:
    """Return what sets are made by: of texts without a cap, as all of a text decides."""
    if not isinstance(scheme, MinHashScheme):
        return scheme
    return replace(scheme.shingling, max_document_bytes=0)


def sets_of(
    column: Any, compared: Compared
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return what pairs are verified by, each document's end to end, and offsets [n + 1]."""
    if isinstance(compared, Shingling):
        return shingle_sets(column, compared)
    return compared.sets(column)

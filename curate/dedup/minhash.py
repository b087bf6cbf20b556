"""MinHash signatures and LSH band keys, equal to datasketch's bit for bit.

A signature slot is the minimum of one pseudo-random permutation over a document's shingles, so two
documents agree in a slot with the probability of their Jaccard similarity (Broder 1997). Rows of
slots are glued into bands; two documents that agree in a whole band become a candidate pair. The
permutations are datasketch 2.0's (`scheme`); token hashes go in as they are, reduced to 32 bits
by taking the low half where the scheme is 32 bits wide.

>>> scheme = MinHashScheme()
>>> scheme.num_perm, round(scheme.s_curve(0.8), 3), round(scheme.s_curve(0.5), 3)
(112, 0.924, 0.053)
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError, one_of
from curate.kernels.fold import UNICODE_VERSION
from curate.kernels.mix import GOLDEN, fmix32, fmix64

__all__ = ["MinHashScheme", "band_keys", "signatures"]

Signatures = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SCHEMES = ("affine32", "affine64", "legacy")
HASHES = ("mix64",)
MERSENNE_PRIME = np.uint64((1 << 61) - 1)
LOW_HALF = np.uint64((1 << 32) - 1)
BAND_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
# Shingles permuted at a time: 128 KiB of uint32, to stay in a core's cache.
BLOCK_SHINGLES = 1 << 15


@dataclass(frozen=True, kw_only=True)
class MinHashScheme:
    """Everything that decides a signature's bytes; hash values carry no trace of it, so record it.

    Attributes:
        shingle_words: words per shingle.
        bands: independent chances of a pair to become a candidate.
        rows: slots that must all agree in a band.
        seed: of the permutations.
        hash: the hash of words and shingles; `mix64` is `curate.kernels.words`.
        scheme: datasketch's permutation scheme (affine32, affine64, legacy).
    """

    shingle_words: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 1
    hash: str = "mix64"
    scheme: str = "affine32"

    def __post_init__(self) -> None:
        for name in ("shingle_words", "bands", "rows"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be in 0 ... 2^32 - 1, got {self.seed}")
        if self.scheme not in SCHEMES:
            raise InputError(one_of("permutation scheme", self.scheme, SCHEMES))
        if self.hash not in HASHES:
            raise InputError(one_of("shingle hash", self.hash, HASHES))

    @property
    def num_perm(self) -> int:
        """Slots of a signature."""
        return self.bands * self.rows

    def s_curve(self, jaccard: float) -> float:
        """Return the probability that a pair of this Jaccard similarity becomes a candidate.

        1 - (1 - s^rows)^bands: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2.
        """
        return float(1.0 - (1.0 - jaccard**self.rows) ** self.bands)

    def to_dict(self) -> dict[str, int | str]:
        """Return all fields and the Unicode version of the word normaliser, for a manifest."""
        return {**asdict(self), "unicode": UNICODE_VERSION}


def signatures(shingles: U64, offsets: I64, scheme: MinHashScheme) -> Signatures:
    """Return the MinHash signature of each document.

    Args:
        shingles: uint64 [num_shingles] hashes; repeats inside a document do no harm.
        offsets: int64 [n + 1] into `shingles`.
        scheme: see `MinHashScheme`.

    Returns:
        [n, num_perm], uint32 for affine32, uint64 otherwise: `MinHash.hashvalues` of datasketch fed
        with the same hashes. A document without shingles has the largest value in every slot.
    """
    from datasketch import MinHash  # half a second, and a run that finds its work done needs none

    reference = MinHash(num_perm=scheme.num_perm, seed=scheme.seed, scheme=scheme.scheme)
    multipliers, increments = reference.permutations
    result = np.tile(reference.hashvalues, (offsets.size - 1, 1))
    for block, starts, docs in _blocks(shingles, offsets):
        hashes = _premixed(block, scheme.scheme)
        minima = np.empty((scheme.num_perm, docs.size), dtype=result.dtype)
        permuted = np.empty_like(hashes)
        for k in range(scheme.num_perm):
            np.multiply(hashes, multipliers[k], out=permuted)
            np.add(permuted, increments[k], out=permuted)
            if scheme.scheme == "legacy":
                np.remainder(permuted, MERSENNE_PRIME, out=permuted)
                np.bitwise_and(permuted, LOW_HALF, out=permuted)
            np.minimum.reduceat(permuted, starts, out=minima[k])
        # A document cut by a block's end meets its own earlier minima here.
        result[docs] = np.minimum(result[docs], minima.T)
    return result


def band_keys(signatures: Signatures, scheme: MinHashScheme) -> U64:
    """Return a 64-bit key of each band of each document, uint64 [n, bands].

    The band's index is mixed in, so keys of different bands never meet by being equal.
    """
    if signatures.ndim != 2 or signatures.shape[1] != scheme.num_perm:
        raise InputError(
            f"signatures of shape {signatures.shape} do not fit {scheme.bands} bands x "
            f"{scheme.rows} rows; expected [n, {scheme.num_perm}]"
        )
    slots = signatures.reshape(signatures.shape[0], scheme.bands, scheme.rows)
    index = np.arange(1, scheme.bands + 1, dtype=np.uint64)
    keys = np.tile(fmix64(index * GOLDEN), (signatures.shape[0], 1))
    for row in range(scheme.rows):
        keys ^= slots[:, :, row]
        keys *= BAND_MULTIPLIER
        keys ^= keys >> np.uint64(32)
    return fmix64(keys)


def _premixed(shingles: U64, scheme: str) -> Signatures:
    """Do what datasketch does with a token's hash before the permutations."""
    if scheme == "affine64":
        return fmix64(shingles)
    if scheme == "affine32":
        return fmix32(shingles.astype(np.uint32))  # the cast keeps the low half
    return shingles & LOW_HALF


def _blocks(shingles: U64, offsets: I64) -> list[tuple[U64, I64, I64]]:
    """Cut into (shingles, start of each document in them, its ordinal); none of them is empty."""
    blocks = []
    docs = np.flatnonzero(np.diff(offsets))
    begins, ends = offsets[docs], offsets[docs + 1]
    for low in range(int(offsets[0]), int(offsets[-1]), BLOCK_SHINGLES):
        high = min(low + BLOCK_SHINGLES, int(offsets[-1]))
        first = int(np.searchsorted(ends, low, side="right"))
        stop = int(np.searchsorted(begins, high, side="left"))
        starts = np.maximum(begins[first:stop], low) - low
        blocks.append((shingles[low:high], starts, docs[first:stop]))
    return blocks

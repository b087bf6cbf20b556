"""MinHash signatures and LSH band keys, equal to datasketch's bit for bit.

A signature slot is the minimum of one pseudo-random permutation over a document's shingles, so two
documents agree in a slot with the probability of their Jaccard similarity (Broder 1997). Rows of
slots are glued into bands; two documents that agree in a whole band become a candidate pair. The
permutations are datasketch 2.0's, or datatrove's (`scheme`); shingle hashes go in as they are,
reduced to 32 bits by taking the low half where the scheme is 32 bits wide.

>>> scheme = MinHashScheme()
>>> scheme.num_perm, round(scheme.s_curve(0.8), 3), round(scheme.s_curve(0.5), 3)
(112, 0.977, 0.118)
"""

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError, one_of
from curate.kernels.fold import UNICODE_VERSION
from curate.kernels.scratch import Scratch, TextSlice, borrowed_scratch
from curate.kernels.shingles import Shingling, hashed_slices

__all__ = [
    "MinHashScheme",
    "Sketch",
    "band_keys",
    "signatures",
    "signatures_of",
    "sketch",
    "to_datasketch",
]

Signatures: TypeAlias = Any  # uint32 or uint64 [n, num_perm]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# The width of each scheme's slots in bits, and the largest value: that of an empty document.
SCHEMES = {
    "affine32": (32, (1 << 32) - 1),
    "affine64": (64, (1 << 64) - 1),
    "legacy": (64, (1 << 32) - 1),
    "mersenne61": (64, (1 << 64) - 1),
}
MERSENNE_PRIME = np.uint64((1 << 61) - 1)

# Named schemes of other tools. `datatrove` gives datatrove's own signatures (`MinhashConfig` and
# `HashConfig` of datatrove 0.10). The others have no reference on a CPU (cuDF's murmur3; the
# byte-pair tokens of p50k): the shape and the shingles are theirs, the hashes ours.
# nemo: `FuzzyDeduplicationWorkflow` of NeMo Curator 1.4. dolma3: 26 x 11 over 5-grams (OLMo 3).
NAMED: dict[str, dict[str, Any]] = {
    "datatrove": {
        "unit": "words",
        "width": 5,
        "numbers": "zero",
        "hash": "xxh64",
        "normaliser": "datatrove",
        "bands": 14,
        "rows": 8,
        "seed": 1,
        "scheme": "mersenne61",
    },
    "nemo": {"unit": "characters", "width": 24, "bands": 20, "rows": 13, "seed": 42},
    "dolma3": {"unit": "words", "width": 5, "bands": 26, "rows": 11, "seed": 1},
}


@dataclass(frozen=True, kw_only=True)
class MinHashScheme:
    """Everything that decides a signature's bytes; hash values carry no trace of it, so record it.

    Attributes:
        shingling: how texts become shingle hashes.
        bands: independent chances of a pair to become a candidate.
        rows: slots that must all agree in a band.
        seed: of the permutations.
        scheme: the permutations: datasketch's affine32, affine64 and legacy, or mersenne61,
            (a h + b mod 2^64) mod 2^61 - 1, datatrove's over 64-bit hashes.
    """

    shingling: Shingling = field(default_factory=Shingling)
    bands: int = 16
    rows: int = 7
    seed: int = 1
    scheme: str = "affine32"

    def __post_init__(self) -> None:
        for name in ("bands", "rows"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be in 0 ... 2^32 - 1, got {self.seed}")
        if self.scheme not in SCHEMES:
            raise InputError(one_of("permutation scheme", self.scheme, tuple(SCHEMES)))

    @classmethod
    def named(cls, name: str, **changes: Any) -> "MinHashScheme":
        """Return another tool's scheme: "datatrove", "nemo" or "dolma3" (see `NAMED`).

        Args:
            name: of the tool.
            changes: fields of the scheme or of its shingling to set otherwise.
        """
        if name not in NAMED:
            raise InputError(one_of("MinHash scheme", name, tuple(NAMED)))
        chosen = {**NAMED[name], **changes}
        ours = {f.name for f in fields(Shingling)} & chosen.keys()
        shingling = replace(
            chosen.pop("shingling", Shingling()), **{key: chosen.pop(key) for key in sorted(ours)}
        )
        return cls(shingling=shingling, **chosen)

    @property
    def num_perm(self) -> int:
        """Slots of a signature."""
        return self.bands * self.rows

    def s_curve(self, jaccard: float) -> float:
        """Return the probability that a pair of this Jaccard similarity becomes a candidate.

        1 - (1 - s^rows)^bands: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2.
        """
        return float(1.0 - (1.0 - jaccard**self.rows) ** self.bands)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and the Unicode version of the word normaliser, for a manifest."""
        return {**asdict(self), "unicode": UNICODE_VERSION}


@dataclass(frozen=True)
class Sketch:
    """What finding candidates needs of each document.

    Attributes:
        keys: uint64 [n, bands], those of `band_keys`.
        num_shingles: int64 [n], repeats counted; without any, the keys mean nothing.
        is_capped: bool [n], whether the shingling's cap has cut the text.
        hashes: uint64 [n], of images: what tells most candidates apart before they are verified.
    """

    keys: U64
    num_shingles: I64
    is_capped: Bools
    hashes: U64 | None = None


def sketch(texts: Any, scheme: MinHashScheme) -> Sketch:
    """Return the band keys of each text, without keeping shingles or signatures.

    Equal to `band_keys(signatures_of(texts, scheme), scheme)`. Runs without the GIL but for some
    microseconds per 1 MiB: threads over slices of `texts` run side by side.

    Raises:
        InputError: `texts` is not an Arrow string array.
    """
    from curate.kernels import permute  # numba: half a second

    _check_texts(texts)
    keys = np.empty((len(texts), scheme.bands), dtype=np.uint64)
    num_shingles = np.empty(len(texts), dtype=np.int64)
    is_capped = np.empty(len(texts), dtype=bool)
    for part, offsets, found in _signed_slices(texts, scheme):
        here = slice(part.first, part.first + part.num_texts)
        permute.glue_bands(found, scheme.rows, keys[here])
        num_shingles[here] = np.diff(offsets)
        is_capped[here] = part.is_capped
    return Sketch(keys, num_shingles, is_capped)


def signatures_of(texts: Any, scheme: MinHashScheme) -> Signatures:
    """Return the signature of each text, [n, num_perm]; see `signatures`.

    Raises:
        InputError: `texts` is not an Arrow string array.
    """
    _check_texts(texts)
    result = _empty_signatures(len(texts), scheme)
    for part, _, found in _signed_slices(texts, scheme):
        result[part.first : part.first + part.num_texts] = found
    return result


def signatures(shingles: U64, offsets: I64, scheme: MinHashScheme) -> Signatures:
    """Return the MinHash signature of each document whose shingle hashes are given.

    Args:
        shingles: uint64 [num_shingles] hashes; repeats inside a document do no harm.
        offsets: int64 [n + 1] into `shingles`.
        scheme: see `MinHashScheme`.

    Returns:
        [n, num_perm], uint32 for affine32, uint64 otherwise: `MinHash.hashvalues` of datasketch fed
        with the same hashes. A document without shingles has the largest value in every slot.
    """
    for name, values in (("shingles", shingles), ("offsets", offsets)):
        _check_numpy(name, values)
    result = _empty_signatures(offsets.size - 1, scheme)
    shingles = np.require(shingles, np.uint64, ["C", "W"])
    _permute(shingles, np.require(offsets, np.int64, ["C", "W"]), scheme, Scratch(), result)
    return result


def band_keys(signatures: Signatures, scheme: MinHashScheme) -> U64:
    """Return a 64-bit key of each band of each document, uint64 [n, bands].

    The band's index is mixed in, so keys of different bands never meet by being equal.
    """
    _check_numpy("signatures", signatures)
    if signatures.ndim != 2 or signatures.shape[1] != scheme.num_perm:
        raise InputError(
            f"signatures of shape {signatures.shape} do not fit {scheme.bands} bands x "
            f"{scheme.rows} rows; expected [n, {scheme.num_perm}]"
        )
    from curate.kernels import permute

    keys = np.empty((signatures.shape[0], scheme.bands), dtype=np.uint64)
    permute.glue_bands(np.require(signatures, requirements=["C", "W"]), scheme.rows, keys)
    return keys


def to_datasketch(signatures: Signatures, scheme: MinHashScheme) -> list[Any]:
    """Return a `datasketch.MinHash` of each signature, for its LSH, storage and estimates.

    Each equals one that was fed with the same shingle hashes by `update`, and takes more of them.

    Raises:
        InputError: the scheme is not one of datasketch's.
    """
    if scheme.scheme == "mersenne61":
        raise InputError(
            "datasketch has no permutation scheme 'mersenne61'; use affine32, affine64 or legacy"
        )
    _check_numpy("signatures", signatures)
    from datasketch import MinHash  # half a second

    # One array for all, as MinHash.bulk does.
    permutations = np.array(_permutations(scheme.scheme, scheme.num_perm, scheme.seed))
    return [
        MinHash(
            seed=scheme.seed,
            hashfunc=_all_bits if scheme.scheme == "affine64" else _low_half,
            hashvalues=row,
            permutations=permutations,
            scheme=scheme.scheme,
        )
        for row in signatures
    ]


def _check_texts(texts: Any) -> None:
    """Refuse what is no Arrow array; of which type it is, is seen where its buffers are read."""
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        raise InputError(
            f"texts must be an Arrow array of strings, got {type(texts).__name__}; "
            "use `pa.array(list, pa.large_string())`"
        )


def _check_numpy(name: str, values: Any) -> None:
    if not isinstance(values, np.ndarray):
        raise InputError(f"{name} must be a NumPy array, got {type(values).__name__}")


def _low_half(shingle: int) -> int:
    return int(shingle) & 0xFFFFFFFF


def _all_bits(shingle: int) -> int:
    return int(shingle)


def _signed_slices(
    texts: Any, scheme: MinHashScheme
) -> Iterator[tuple[TextSlice, I64, Signatures]]:
    """Yield (slice, offsets of its shingles, signatures); the arrays are scratch."""
    width, largest = SCHEMES[scheme.scheme]
    with borrowed_scratch() as scratch:
        for part, hashes, offsets in hashed_slices(texts, scheme.shingling):
            size = part.num_texts * scheme.num_perm
            memory: Any = scratch.uint32 if width == 32 else scratch.uint64
            found = memory(f"found{width}", size)[:size].reshape(part.num_texts, scheme.num_perm)
            found.fill(largest)
            _permute(hashes, offsets, scheme, scratch, found)
            yield part, offsets, found


def _permute(
    shingles: U64, offsets: I64, scheme: MinHashScheme, scratch: Scratch, out: Signatures
) -> None:
    from curate.kernels import permute  # numba: half a second

    a, b = _permutations(scheme.scheme, scheme.num_perm, scheme.seed)
    if scheme.scheme == "affine32":
        mixed = scratch.uint32("mixed32", permute.BLOCK)
        permute.permute_affine32(shingles, offsets, a, b, mixed, out)
        return
    wide = scratch.uint64("mixed64", permute.BLOCK)
    if scheme.scheme == "affine64":
        permute.permute_affine64(shingles, offsets, a, b, wide, out)
        return
    bits = np.uint64((1 << 32) - 1 if scheme.scheme == "legacy" else (1 << 64) - 1)
    permute.permute_mersenne(shingles, offsets, a, b, bits, wide, out)


def _empty_signatures(num_documents: int, scheme: MinHashScheme) -> Signatures:
    width, largest = SCHEMES[scheme.scheme]
    dtype: Any = np.uint32 if width == 32 else np.uint64
    return np.full((num_documents, scheme.num_perm), largest, dtype=dtype)


@functools.lru_cache(maxsize=64)
def _permutations(scheme: str, num_perm: int, seed: int) -> tuple[Any, Any]:
    """Return multipliers and increments, [num_perm] each, as the scheme's tool draws them.

    The draws are those of `MinHash._init_permutations` in datasketch 2.0 and of
    `MinhashDedupSignature.parameters` in datatrove 0.10, whose import costs half a second and more;
    NumPy has promised never to change what `RandomState` gives (NEP 19).
    """
    draw = np.random.RandomState(seed)
    if scheme == "mersenne61":
        a = draw.randint(1, MERSENNE_PRIME, dtype=np.uint64, size=num_perm)
        return a, draw.randint(0, MERSENNE_PRIME, dtype=np.uint64, size=num_perm)
    if scheme == "legacy":
        pairs = [
            [draw.randint(low, MERSENNE_PRIME, dtype=np.uint64) for low in (1, 0)]
            for _ in range(num_perm)
        ]
        a, b = np.ascontiguousarray(np.array(pairs, dtype=np.uint64).T)
        return a, b
    dtype: Any = np.uint32 if scheme == "affine32" else np.uint64
    bits = 8 * np.dtype(dtype).itemsize
    a = draw.randint(0, 1 << (bits - 1), num_perm, dtype=dtype) * dtype(2) + dtype(1)  # odd
    return a, draw.randint(0, 1 << bits, num_perm, dtype=dtype)

r"""What of a text is compared: the hashes of its word or character n-grams (shingles).

A shingle hash is that of a run of units (`curate.kernels.words` defines it). Units are words, or
with `unit="characters"` the characters of the folded text, where separators are squeezed to one
space and removed at both ends, and letters of scripts without spaces stand together. A document
shorter than the shingle has none, an empty or null one neither.

With `numbers="zero"` every maximal run of decimal digits in the folded text becomes one 0, also
inside words: "v12b, 3.14" has the words v0b, 0, 0. With `normaliser="datatrove"` shingles are
those of datatrove (`curate.kernels.datatrove`).

Results are ragged: flat values plus int64 offsets [n + 1]; document i owns
`values[offsets[i] : offsets[i + 1]]`. Every function gives the same values for any slicing of the
input. Nothing here imports numba before it has work to do.

>>> import pyarrow as pa
>>> texts = pa.array(["One, two, three four", "too short", None], pa.large_string())
>>> values, offsets = shingle_sets(texts, Shingling(width=3))
>>> values.size, offsets.tolist()
(2, [0, 2, 2, 2])
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.corpus.errors import InputError, one_of
from curate.kernels.fold import UNICODE_VERSION
from curate.kernels.scratch import Scratch, TextSlice, borrowed_scratch, text_slices

__all__ = ["Shingling", "hashed_slices", "shingle_sets", "unique_sorted"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

UNITS = ("words", "characters")
NUMBERS = ("keep", "zero")
# Each normaliser with its hash: what a signature is made of is both or neither.
HASHES = {"preceptor": "mix64", "datatrove": "xxh64"}


@dataclass(frozen=True, kw_only=True)
class Shingling:
    """How texts become sets of shingle hashes; record it beside anything made of them.

    Attributes:
        unit: "words" or "characters".
        width: units per shingle, at least 1.
        numbers: "keep", or "zero" to make every run of decimal digits one 0.
        hash: "mix64" (`curate.kernels.words`), or "xxh64" of the words joined by spaces.
        normaliser: "preceptor" (`curate.kernels.fold`) or "datatrove".
        max_document_bytes: longer texts are cut before they are normalised, at the last character
            that ends within this many bytes; 0 for no cap.
    """

    unit: str = "words"
    width: int = 5
    numbers: str = "keep"
    hash: str = "mix64"
    normaliser: str = "preceptor"
    max_document_bytes: int = 0

    def __post_init__(self) -> None:
        choices = {
            "unit": UNITS,
            "numbers": NUMBERS,
            "normaliser": tuple(HASHES),
            "hash": tuple(HASHES.values()),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(one_of(f"shingle {name}", getattr(self, name), known))
        _check_width(self.width)
        if self.max_document_bytes < 0:
            raise InputError(
                f"max_document_bytes must be 0 (no cap) or more, got {self.max_document_bytes}"
            )
        if HASHES[self.normaliser] != self.hash:
            raise InputError(
                f"the normaliser {self.normaliser!r} goes with the hash "
                f"{HASHES[self.normaliser]!r}, got {self.hash!r}"
            )
        if self.normaliser == "datatrove" and (self.unit, self.numbers) != ("words", "zero"):
            raise InputError(
                "datatrove's normaliser makes words and zeros numbers; set unit='words' and "
                f"numbers='zero', got {self.unit!r} and {self.numbers!r}"
            )

    def to_dict(self) -> dict[str, int | str]:
        """Return all fields and the Unicode version, for a manifest."""
        return {**asdict(self), "unicode": UNICODE_VERSION}


def shingle_sets(texts: Any, shingling: Shingling | int) -> tuple[U64, I64]:
    """Return each document's set of shingle hashes, sorted, and offsets [n + 1].

    Args:
        texts: an Arrow string array; a null is an empty text.
        shingling: see `Shingling`; a number stands for that many words.

    Raises:
        InputError: `texts` is not a string array, or the shingle's width is below 1.
    """
    if isinstance(shingling, int):
        shingling = Shingling(width=shingling)
    values, counts = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for _, hashes, offsets in hashed_slices(texts, shingling):
        part, part_offsets = unique_sorted(hashes, offsets)
        values.append(part)
        counts.append(np.diff(part_offsets))
    return np.concatenate(values), ragged_offsets(np.concatenate(counts))


def hashed_slices(texts: Any, shingling: Shingling) -> Iterator[tuple[TextSlice, U64, I64]]:
    """Yield (slice, shingle hashes in the order of the text, offsets) of consecutive documents.

    The arrays are scratch memory, overwritten when the next slice is asked for.
    """
    with borrowed_scratch() as scratch:
        for part in text_slices(texts, shingling.max_document_bytes):
            yield part, *_hashed(part, shingling, scratch)


def _hashed(part: TextSlice, shingling: Shingling, scratch: Scratch) -> tuple[U64, I64]:
    offsets = scratch.int64("offsets", part.num_texts + 1)
    if shingling.normaliser == "datatrove":
        from curate.kernels import datatrove

        return datatrove.hash_slice(part, shingling.width, scratch, offsets)
    from curate.kernels import hashing  # numba: half a second

    zero = shingling.numbers == "zero"
    if shingling.unit == "characters":
        out = scratch.uint64("out", part.num_bytes + 1)
        units = scratch.uint64("units", part.longest_folded)
        hashing.hash_characters(
            part.data, part.starts, part.stops, part.table, zero, shingling.width,
            scratch.uint8("folded", part.longest_folded), units, out, offsets,
        )  # fmt: skip
    else:
        out = hash_words(part, shingling.width, zero, scratch, offsets)
    return out[: offsets[-1]], offsets


def hash_words(part: TextSlice, width: int, zero: bool, scratch: Scratch, offsets: I64) -> U64:
    """Return the n-gram hashes of a slice, or with width 0 those of its words; fill `offsets`."""
    from curate.kernels import hashing

    # A word has at least one byte, and another byte before the next one.
    most = part.longest // 2 + 1
    out = scratch.uint64("out", part.num_bytes // 2 + part.num_texts)
    hashing.hash_words(
        part.data, part.starts, part.stops, part.table, zero, width,
        scratch.uint8("folded", part.longest_folded), scratch.int64("edges", 2 * most),
        scratch.int64("longer", most + 1), scratch.uint64("units", most), out, offsets,
    )  # fmt: skip
    return out


def unique_sorted(hashes: U64, offsets: I64) -> tuple[U64, I64]:
    """Return each document's hashes as a sorted set, and the new offsets [n + 1].

    Fastest where the hashes are spread evenly, right in any case.
    """
    from curate.kernels import sorting  # numba: half a second

    bounds = np.require(offsets, np.int64, ["C", "W"])
    hashes = np.require(hashes, np.uint64, ["C", "W"])
    longest = int(np.diff(bounds).max(initial=0))
    counts = np.empty(min(2 * longest, sorting.MAX_BUCKETS) + 1, dtype=np.uint32)
    out = np.empty(int(bounds[-1] - bounds[0]), dtype=np.uint64)
    new_offsets = np.empty(bounds.size, dtype=np.int64)
    if sorting.sort_sets(hashes, bounds, counts, out, new_offsets) >= 0:
        pairs = itertools.pairwise(bounds.tolist())
        sets = [np.unique(hashes[start:stop]) for start, stop in pairs]
        new_offsets = ragged_offsets(np.array([one.size for one in sets], dtype=np.int64))
        return np.concatenate(sets), new_offsets
    return out[: new_offsets[-1]], new_offsets


def ragged_offsets(counts: I64) -> I64:
    """Return offsets [n + 1] of rows with these lengths."""
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _check_width(width: int) -> None:
    if width < 1:
        raise InputError(f"a shingle has at least 1 unit, got width {width}; use 5, for example")

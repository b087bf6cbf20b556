r"""Where the texts that go are quoted: samples of lines, messages of the quarantine.

Every piece of a text is hashed once (a polynomial over its bytes, all places at a time), so a value
is looked up in time that is linear in its length however many texts there are; what the hashes say
is then compared byte by byte.

>>> texts = Texts(["One line of a long text.\nAnother line of it."])
>>> texts.held(["Another line of it.", "Another line of them.", "", None]).tolist()
[True, False, False, False]
>>> texts.quoted(["bad JSON: 'line of a long text.'", "bad JSON"]).tolist()
[True, False]
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

__all__ = ["Texts"]

Bools = np.ndarray[Any, np.dtype[np.bool_]]
_PIECE = 16  # bytes; a shorter value tells nothing unless it is a whole text
_MIN_KEY = 6  # characters of a record's key that are told from chance
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _hashes(data: bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the hash of the _PIECE bytes at every place, uint64 [len(data) - _PIECE + 1]."""
    values = np.frombuffer(data, dtype=np.uint8).astype(np.uint64)
    count = max(0, len(values) - _PIECE + 1)
    found = np.zeros(count, dtype=np.uint64)
    for i in range(_PIECE):
        found = found * _FACTOR + values[i : i + count]
    return found


class Texts:
    """The texts that go, and the keys of their records."""

    def __init__(self, texts: Iterable[str], keys: Iterable[str] = ()) -> None:
        self._whole = frozenset(text.encode() for text in texts if text)
        self._joined = b"\0".join(sorted(self._whole))
        self._pieces = np.unique(_hashes(self._joined))
        bits = (8 * len(self._pieces) + 1).bit_length()
        self._shift = np.uint64(64 - bits)  # most pieces of other texts are told by a look at this
        self._filter = np.zeros(1 << bits, dtype=bool)
        self._filter[self._pieces >> self._shift] = True
        self._keys = sorted({key for key in keys if len(key) >= _MIN_KEY})

    def _shared(self, values: Sequence[bytes]) -> Bools:
        """Say which values have _PIECE bytes in common with a text, bool [n]."""
        joined = b"\0".join(values)
        hashes = _hashes(joined)
        places = np.flatnonzero(self._filter[hashes >> self._shift])
        places = places[np.isin(hashes[places], self._pieces)]
        ends = np.cumsum([len(value) + 1 for value in values])
        found = np.zeros(len(values), dtype=bool)
        if len(places):
            rows = np.searchsorted(ends, places, side="right")
            inside = places + _PIECE < ends[rows]  # not across the end of a value
            found[rows[inside]] = True
        return found

    def held(self, values: Sequence[str | None]) -> Bools:
        """Say which values are a part of a text, or have one as a part, bool [n]."""
        data = [(value or "").encode() for value in values]
        found = np.array([value in self._whole for value in data], dtype=bool)
        for row in np.flatnonzero(self._shared(data) & ~found).tolist():
            value = data[row]
            found[row] = value in self._joined or any(text in value for text in self._whole)
        return found

    def quoted(self, values: Sequence[str | None]) -> Bools:
        """Say which messages quote a text, or name the key of its record, bool [n]."""
        data = [(value or "").encode() for value in values]
        found = self._shared(data)
        if self._keys and data:
            told = pl.Series(values, dtype=pl.String).str.contains_any(self._keys)
            found |= told.fill_null(value=False).to_numpy()
        return found

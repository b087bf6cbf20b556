r"""Fold UTF-8 text for comparison: lower-cased letters and numbers stay, the rest becomes 0 bytes.

The fold is per character, so it needs no context and can be cut anywhere between characters:
lower case of the character alone (no final-sigma rule; final sigma itself becomes sigma), then
NFD, then combining marks (categories M*) are removed; what remains is a word character if it is a
letter or a number (categories L*, N*) and a separator otherwise. The Unicode version is that of
the running Python (`UNICODE_VERSION`): record it beside anything computed from folded text.

>>> import numpy as np
>>> text = "Caf\u00e9, 2nd".encode()
>>> folded, _ = fold_utf8(np.frombuffer(text, np.uint8), np.array([0, len(text)]))
>>> folded.tobytes()
b'cafe\x00\x002nd'
"""

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["UNICODE_VERSION", "fold_character", "fold_utf8"]

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

UNICODE_VERSION = unicodedata.unidata_version

SIGMA, FINAL_SIGMA = "\u03c3", "\u03c2"
MAX_CODE_POINT = 0x10FFFF
# Planes 4 to 13 are unassigned and 15, 16 private in every Unicode version so far: separators.
ASSIGNED_RANGES = (range(0x40000), range(0xE0000, 0xF0000))


def fold_character(character: str) -> str:
    r"""Return what one character becomes: word characters, "\0" (separator) or "" (a mark).

    >>> [fold_character(c) for c in "A\u00e9-\u0301"]
    ['a', 'e', '\x00', '']
    """
    lowered = character.lower().replace(FINAL_SIGMA, SIGMA)
    decomposed = unicodedata.normalize("NFD", lowered)
    rest = [c for c in decomposed if unicodedata.category(c)[0] != "M"]
    if not rest:
        return ""
    if all(unicodedata.category(c)[0] in "LN" for c in rest):
        return "".join(rest)
    # No character yields a mixture of both (a test walks all of Unicode), so one separator does.
    return "\0"


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Folded UTF-8 of every code point: `pool[start[c] : start[c] + length[c]]`."""

    length: U8
    start: npt.NDArray[np.int32]
    pool: U8


def _ascii_table() -> U8:
    table = np.zeros(256, dtype=np.uint8)
    for code in range(128):
        table[code] = ord(fold_character(chr(code)))
    return table


ASCII_TABLE = _ascii_table()


@functools.cache
def _table() -> _Table:
    """Build the table once per process (0.2 s), on the first text that is not plain ASCII."""
    length = np.ones(MAX_CODE_POINT + 1, dtype=np.uint8)
    start = np.zeros(MAX_CODE_POINT + 1, dtype=np.int32)
    pool = bytearray(b"\0")
    for codes in ASSIGNED_RANGES:
        for code in codes:
            if unicodedata.category(chr(code))[0] == "C":
                continue  # unassigned, private, control, format, surrogate: separators
            folded = fold_character(chr(code)).encode()
            length[code] = len(folded)
            if folded != b"\0":
                start[code] = len(pool)
                pool += folded
    return _Table(length=length, start=start, pool=np.frombuffer(bytes(pool), dtype=np.uint8))


def fold_utf8(data: U8, offsets: I64) -> tuple[U8, I64]:
    """Fold the documents `data[offsets[i] : offsets[i + 1]]`.

    Args:
        data: valid UTF-8 bytes, shape [num_bytes].
        offsets: int64 [n + 1] into `data`, from 0 to `num_bytes`, on character boundaries.

    Returns:
        Folded bytes (0 = separator; no other byte of a word is 0) and their offsets [n + 1].
    """
    high = np.flatnonzero(data >= 0x80)
    if high.size == 0:
        return ASCII_TABLE[data], offsets
    lead = high[data[high] >= 0xC0]
    table = _table()
    code, width = _decode(data, lead)
    length = table.length[code]

    # Only characters outside ASCII can change the length, so only they are counted.
    shift = np.zeros(lead.size + 1, dtype=np.int64)
    np.cumsum(length.astype(np.int64) - width, out=shift[1:])
    repeats = np.ones(data.size, dtype=np.uint8)
    repeats[high] = 0
    repeats[lead] = length
    folded = np.repeat(ASCII_TABLE[data], repeats)
    assert folded.size == data.size + shift[-1], "texts must be valid UTF-8"

    target = lead + shift[:-1]
    source = table.start[code]
    for k in range(int(length.max(initial=0))):
        chosen = np.flatnonzero(length > k)
        folded[target[chosen] + k] = table.pool[source[chosen] + k]
    return folded, offsets + shift[np.searchsorted(lead, offsets)]


def _decode(data: U8, lead: I64) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Return code point and width in bytes of the characters that start at `lead`."""
    first = data[lead].astype(np.uint32)
    width = 2 + (first >= 0xE0).astype(np.int64) + (first >= 0xF0)
    code = first & (np.uint32(0xFF) >> (width + 1).astype(np.uint32))
    for k in range(1, 4):
        chosen = np.flatnonzero(width > k)
        tail = data[lead[chosen] + k].astype(np.uint32) & np.uint32(0x3F)
        code[chosen] = (code[chosen] << np.uint32(6)) | tail
    return code, width

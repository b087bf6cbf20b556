r"""Fold UTF-8 text for comparison: lower-cased letters and numbers stay, the rest becomes 0 bytes.

The fold is per character, so it needs no context and can be cut anywhere between characters:
lower case of the character alone (no final-sigma rule; final sigma itself becomes sigma), then
NFD, then combining marks (categories M*) are removed; what remains is a word character if it is a
letter or a number (categories L*, N*) and a separator otherwise. The Unicode version is that of
the running Python (`UNICODE_VERSION`): record it beside anything computed from folded text.

Scripts that put no space between words (`UNSPACED`) would make a word of every clause. Each of
their letters is a word of its own instead; their decimal digits form numbers as in every script.

This module is the slow truth and makes the table that the kernels (`curate.kernels.folding`) look
characters up in: 0.3 s once per machine, then read from `curate.kernels.cache`.

>>> [fold_character(c) for c in "A\u00e9-\u0301"]
['a', 'e', '\x00', '']
>>> [is_alone(c) for c in "a\u4e2d\u30ab\ud55c"]
[False, True, True, False]
"""

import functools
import io
import unicodedata

import numpy as np
import numpy.typing as npt

from curate.kernels.cache import cache_folder, keep

__all__ = [
    "UNICODE_VERSION",
    "ascii_table",
    "fold_character",
    "fold_table",
    "fold_utf8",
    "is_alone",
]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

UNICODE_VERSION = unicodedata.unidata_version

SIGMA, FINAL_SIGMA = "\u03c3", "\u03c2"

# Blocks of scripts without spaces between words: line-break classes ID and SA of Unicode's UAX 14,
# less symbols. Hangul has spaces, and Tibetan has its tsheg between syllables, a separator here.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3000, 0x312F),  # Han iteration marks and zero, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31BF),  # Bopomofo Extended
    (0x31F0, 0x31FF),  # Katakana Phonetic Extensions
    (0x3400, 0x4DBF),  # Han Extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xA9E0, 0xA9FF),  # Myanmar Extended-B
    (0xAA60, 0xAADF),  # Myanmar Extended-A, Tai Viet
    (0xF900, 0xFAFF),  # Han Compatibility
    (0xFF66, 0xFF9F),  # Katakana, half width
    (0x11700, 0x1174F),  # Ahom
    (0x16FE0, 0x18D8F),  # Ideographic marks, Tangut, Khitan
    (0x1AFF0, 0x1B2FF),  # Kana Extended and Supplement, Nushu
    (0x20000, 0x3FFFF),  # Han Extension B and later
)

# Planes 4 to 13 are unassigned and 15, 16 private in every Unicode version so far: separators.
# The table has planes 0 to 3, then plane 14.
NUM_LOW_PLANES = 0x40000
ASSIGNED_RANGES = (range(NUM_LOW_PLANES), range(0xE0000, 0xF0000))
HANGUL = range(0xAC00, 0xD7A4)

# An entry of the table: the folded UTF-8 in bits 0 to 31, its length in bits 32 to 34, and flags.
LENGTH_SHIFT = 32
IS_ALONE = 1 << 35
IS_DIGIT = 1 << 36
IS_HANGUL = 1 << 37  # syllables become two or three jamo, by arithmetic
SEPARATOR = 1 << LENGTH_SHIFT


def fold_character(character: str) -> str:
    r"""Return what one character becomes: word characters, "\0" (separator) or "" (a mark)."""
    lowered = character.lower().replace(FINAL_SIGMA, SIGMA)
    decomposed = unicodedata.normalize("NFD", lowered)
    rest = [c for c in decomposed if unicodedata.category(c)[0] != "M"]
    if not rest:
        return ""
    if all(unicodedata.category(c)[0] in "LN" for c in rest):
        return "".join(rest)
    # No character yields a mixture of both (a test walks all of Unicode), so one separator does.
    return "\0"


def is_alone(character: str) -> bool:
    """Say whether a character is a word of its own: a letter of a script without spaces."""
    code = ord(character)
    if code < UNSPACED[0][0] or not any(low <= code <= high for low, high in UNSPACED):
        return False
    return unicodedata.category(character) in ("Lo", "Lm", "Nl")


@functools.cache
def ascii_table() -> U64:
    """Return the entries of ASCII only, uint64 [128]."""
    return _frozen(np.array([_entry(code) for code in range(128)], dtype=np.uint64))


@functools.cache
def fold_table() -> U64:
    """Return the entries of planes 0 to 3 and 14, uint64 [5 * 65536]."""
    folder = cache_folder()
    path = folder / f"fold-{UNICODE_VERSION}.npy" if folder else None
    if path and path.exists():
        try:
            table = np.load(path)
            if table.dtype == np.uint64 and table.shape == (5 << 16,):
                return _frozen(table)
        except (OSError, ValueError, EOFError):
            pass  # cut short or not ours: it is made again and replaced
    table = _frozen(_built())
    if path:
        file = io.BytesIO()
        np.save(file, table)
        keep(path, file.getvalue())
    return table


def _built() -> U64:
    table = np.full(5 << 16, SEPARATOR, dtype=np.uint64)
    index = 0
    for codes in ASSIGNED_RANGES:
        for code in codes:
            # Unassigned, private, control, format and surrogate characters are separators.
            if unicodedata.category(chr(code))[0] != "C":
                table[index] = _entry(code)
            index += 1
    return table


def _entry(code: int) -> int:
    if code in HANGUL:
        return IS_HANGUL
    character = chr(code)
    folded = fold_character(character)
    data = folded.encode()
    assert len(folded) <= 1, "only Hangul folds to more than one character"
    entry = int.from_bytes(data, "little") | len(data) << LENGTH_SHIFT
    if unicodedata.category(character) == "Nd":
        entry |= IS_DIGIT
    return entry | IS_ALONE if folded and is_alone(folded) else entry


def _frozen(table: U64) -> U64:
    table.flags.writeable = False
    return table


def fold_utf8(data: U8, offsets: I64, *, alone: bool = True, zero: bool = False) -> tuple[U8, I64]:
    """Fold the documents `data[offsets[i] : offsets[i + 1]]`.

    Args:
        data: valid UTF-8 bytes.
        offsets: int64 [n + 1] into `data`, on character boundaries.
        alone: set letters of scripts without spaces between separators.
        zero: make every maximal run of decimal digits in the folded text one 0.

    Returns:
        Folded bytes (0 = separator; no other byte of a word is 0) and their offsets [n + 1].
    """
    from curate.kernels import folding  # numba: half a second

    here = data[offsets[0] : offsets[-1]]
    is_ascii = here.max(initial=0) < 0x80
    # A syllable of Hangul grows from 3 bytes to 9, and nothing grows more.
    out = np.empty(here.size * (1 if is_ascii else 3) + folding.SLACK, dtype=np.uint8)
    bounds = np.empty(offsets.size, dtype=np.int64)
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    table = ascii_table() if is_ascii else fold_table()
    offsets = np.require(offsets, np.int64, ["C", "W"])
    folding.fold_documents(data, offsets[:-1], offsets[1:], table, alone, zero, out, bounds)
    return out[: bounds[-1]], bounds

"""The class of each character for `curate.signals.characters`: its script, or what ails it.

>>> NAMES[class_of("a") - FIRST_SCRIPT], class_of(chr(0xFFFD)) == REPLACEMENT
('Latn', True)
"""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from curate.kernels.tables import TABLE_SIZE, kept_table

__all__ = [
    "CONTROL",
    "FIRST_SCRIPT",
    "MOJIBAKE",
    "NAMES",
    "PRIVATE",
    "REPLACEMENT",
    "SCRIPTS",
    "UNASSIGNED",
    "class_of",
    "class_table",
]

U8 = npt.NDArray[np.uint8]

# The first word of a letter's Unicode name -> its script. The order numbers the classes.
SCRIPTS = {
    "LATIN": "Latn", "GREEK": "Grek", "CYRILLIC": "Cyrl", "ARMENIAN": "Armn", "HEBREW": "Hebr",
    "ARABIC": "Arab", "SYRIAC": "Syrc", "THAANA": "Thaa", "NKO": "Nkoo", "DEVANAGARI": "Deva",
    "BENGALI": "Beng", "GURMUKHI": "Guru", "GUJARATI": "Gujr", "ORIYA": "Orya", "TAMIL": "Taml",
    "TELUGU": "Telu", "KANNADA": "Knda", "MALAYALAM": "Mlym", "SINHALA": "Sinh", "THAI": "Thai",
    "LAO": "Laoo", "TIBETAN": "Tibt", "MYANMAR": "Mymr", "GEORGIAN": "Geor", "HANGUL": "Hang",
    "ETHIOPIC": "Ethi", "CHEROKEE": "Cher", "CANADIAN": "Cans", "KHMER": "Khmr",
    "MONGOLIAN": "Mong", "HIRAGANA": "Jpan", "KATAKANA": "Jpan", "BOPOMOFO": "Bopo",
    "CJK": "Hani", "IDEOGRAPHIC": "Hani", "YI": "Yiii", "TIFINAGH": "Tfng", "VAI": "Vaii",
    "JAVANESE": "Java", "BALINESE": "Bali", "SUNDANESE": "Sund", "ADLAM": "Adlm", "OL": "Olck",
    "COPTIC": "Copt", "GOTHIC": "Goth", "MEETEI": "Mtei", "CHAM": "Cham", "BUGINESE": "Bugi",
    "RUNIC": "Runr",
}  # fmt: skip
_UNKNOWN = "Zzzz"
NAMES = [*dict.fromkeys(SCRIPTS.values()), _UNKNOWN]
CONTROL, REPLACEMENT, PRIVATE, UNASSIGNED, MOJIBAKE, FIRST_SCRIPT = 1, 2, 3, 4, 5, 6
_CONTINUES = 64
_USUAL = "\t\n\r"
# Letters that belong to no script: modifiers, letter-like symbols, mathematical alphabets.
_COMMON = (
    range(0x00AA, 0x00AB), range(0x00B5, 0x00B6), range(0x00BA, 0x00BB), range(0x02B0, 0x0300),
    range(0x2000, 0x2C00), range(0x30FC, 0x30FD), range(0xFF70, 0xFF71), range(0x1D400, 0x1D800),
)  # fmt: skip


def class_of(character: str) -> int:
    """Return the class of a character: 0, 1 to 4 for ill ones, 6 and on for a script's letters."""
    if character == "\ufffd":
        return REPLACEMENT
    category = unicodedata.category(character)
    if category == "Cc":
        return 0 if character in _USUAL else CONTROL
    if category == "Co":
        return PRIVATE
    if category == "Cn":
        return UNASSIGNED
    if category[0] != "L" or any(ord(character) in codes for codes in _COMMON):
        return 0
    words = unicodedata.name(character, "UNNAMED").split()
    word = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") else words[0]
    return FIRST_SCRIPT + NAMES.index(SCRIPTS.get(word, _UNKNOWN))


@functools.cache
def class_table() -> U8:
    """Return the entries of the code points below 0x40000 for `curate.kernels.characters`."""
    return kept_table(f"scripts-{unicodedata.unidata_version}", _made)


def _made() -> U8:
    table = np.fromiter(map(class_of, map(chr, range(TABLE_SIZE))), np.uint8, TABLE_SIZE)
    for byte in range(0x80, 0xC0):
        read = {chr(byte), bytes([byte]).decode("cp1252", "replace")} - {"\ufffd"}
        for character in read:
            table[ord(character)] |= _CONTINUES
    return table

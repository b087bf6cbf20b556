r"""The script of a text, and the health of its characters: one pass over the bytes.

A text's script is the one of most of its letters, as an ISO 15924 code (`Latn`, `Cyrl`, `Arab`).
The script of a letter is read off its Unicode name (`GREEK SMALL LETTER ALPHA`), which agrees with
Unicode's Script property for letters; `Zzzz` stands for rarer scripts; modifier letters and
mathematical alphabets have none. Hiragana and Katakana are `Jpan`, and Han too in a text where more
than a tenth of both is kana; else Han is `Hani`.

The shares are of all characters. Control characters are those of category Cc but tab, newline and
carriage return. Mojibake is UTF-8 that somebody took for Latin-1 or Windows-1252: a character of
U+00C2 to U+00EF, as far as it would begin a common alphabet's UTF-8, with as many characters after
it as then must follow, all of which stand for the bytes 80 to BF.

>>> import pyarrow as pa
>>> texts = pa.array(["\u043c\u0438\u0440 ok", "caf\u00c3\u00a9"], pa.large_string())
>>> FAMILY.measure(texts).select(["script", "script_share", "mojibake_fraction"]).to_pylist()
... # doctest: +NORMALIZE_WHITESPACE
[{'script': 'Cyrl', 'script_share': 0.6, 'mojibake_fraction': 0.0},
 {'script': 'Latn', 'script_share': 1.0, 'mojibake_fraction': 0.4}]
"""

import functools
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.kernels.scratch import text_slices
from curate.signals.base import Family, Signal, columns_table, nulls_of

__all__ = ["FAMILY", "SCRIPTS", "class_of", "class_table"]

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
_NAMES = [*dict.fromkeys(SCRIPTS.values()), _UNKNOWN]
_CONTROL, _REPLACEMENT, _PRIVATE, _UNASSIGNED, _MOJIBAKE, _FIRST_SCRIPT = 1, 2, 3, 4, 5, 6
_CONTINUES = 64
_TABLE_SIZE = 0x40000
_USUAL = "\t\n\r"
# Letters that belong to no script: modifiers, letter-like symbols, mathematical alphabets.
_COMMON = (
    range(0x00AA, 0x00AB), range(0x00B5, 0x00B6), range(0x00BA, 0x00BB), range(0x02B0, 0x0300),
    range(0x2000, 0x2C00), range(0x30FC, 0x30FD), range(0xFF70, 0xFF71), range(0x1D400, 0x1D800),
)  # fmt: skip

SIGNALS = {
    "script": Signal(pa.string(), "script of most letters, ISO 15924, such as Latn"),
    "script_share": Signal(pa.float64(), "share of the letters that are of that script"),
    "replacement_fraction": Signal(pa.float64(), "share of characters that are U+FFFD"),
    "control_fraction": Signal(
        pa.float64(), "share of control characters other than tab, newline, return"
    ),
    "private_use_fraction": Signal(pa.float64(), "share of private use characters"),
    "unassigned_fraction": Signal(
        pa.float64(), "share of characters that this Python's Unicode does not have"
    ),
    "mojibake_fraction": Signal(
        pa.float64(), "share of characters in what looks like UTF-8 decoded as Windows-1252"
    ),
}


def class_of(character: str) -> int:
    """Return the class of a character: 0, 1 to 4 for ill ones, 6 and on for a script's letters."""
    if character == "\ufffd":
        return _REPLACEMENT
    category = unicodedata.category(character)
    if category == "Cc":
        return 0 if character in _USUAL else _CONTROL
    if category == "Co":
        return _PRIVATE
    if category == "Cn":
        return _UNASSIGNED
    if category[0] != "L" or any(ord(character) in codes for codes in _COMMON):
        return 0
    words = unicodedata.name(character, "UNNAMED").split()
    word = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") else words[0]
    return _FIRST_SCRIPT + _NAMES.index(SCRIPTS.get(word, _UNKNOWN))


@functools.cache
def class_table() -> npt.NDArray[np.uint8]:
    """Return the entries of the code points below 0x40000 for `curate.kernels.characters`."""
    table = np.fromiter(map(class_of, map(chr, range(_TABLE_SIZE))), np.uint8, _TABLE_SIZE)
    for byte in range(0x80, 0xC0):
        read = {chr(byte), bytes([byte]).decode("cp1252", "replace")} - {"\ufffd"}
        for character in read:
            table[ord(character)] |= _CONTINUES
    table.flags.writeable = False
    return table


def _measure(texts: Any) -> Any:
    from curate.kernels import characters  # numba: half a second

    counts = np.zeros((len(texts), characters.NUM_CLASSES), dtype=np.int64)
    totals = np.zeros(len(texts), dtype=np.int64)
    for part in text_slices(texts):
        rows = slice(part.first, part.first + part.num_texts)
        characters.count_classes(
            part.data, part.starts, part.stops, class_table(), counts[rows], totals[rows]
        )
    letters = counts[:, _FIRST_SCRIPT : _FIRST_SCRIPT + len(_NAMES)]
    han, kana = _NAMES.index("Hani"), _NAMES.index("Jpan")
    is_japanese = 10 * letters[:, kana] > letters[:, han] + letters[:, kana]
    letters[:, kana] += np.where(is_japanese, letters[:, han], 0)
    letters[:, han] -= np.where(is_japanese, letters[:, han], 0)
    best = letters.argmax(axis=1)
    most, all_letters = letters.max(axis=1, initial=0), letters.sum(axis=1)
    null = nulls_of(texts)
    columns = {
        "script_share": _share(most, all_letters),
        "replacement_fraction": _share(counts[:, _REPLACEMENT], totals),
        "control_fraction": _share(counts[:, _CONTROL], totals),
        "private_use_fraction": _share(counts[:, _PRIVATE], totals),
        "unassigned_fraction": _share(counts[:, _UNASSIGNED], totals),
        "mojibake_fraction": _share(counts[:, _MOJIBAKE], totals),
    }
    numbers = {name: signal for name, signal in SIGNALS.items() if name != "script"}
    table = columns_table(columns, numbers, null)
    scripts = pa.array(np.array(_NAMES, dtype=object)[best], pa.string(), mask=all_letters == 0)
    return table.add_column(0, "script", scripts)


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return part / whole, NaN where there is nothing to divide by."""
    shares: npt.NDArray[np.float64] = np.full(part.size, np.nan)
    return np.divide(part, whole, out=shares, where=whole > 0) if part.size else shares


FAMILY = Family(name="characters", signals=SIGNALS, measure=_measure)

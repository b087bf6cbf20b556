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

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.kernels.scratch import text_slices
from curate.kernels.scripts import (
    CONTROL,
    FIRST_SCRIPT,
    MOJIBAKE,
    NAMES,
    PRIVATE,
    REPLACEMENT,
    UNASSIGNED,
    class_table,
)
from curate.signals.base import Family, Signal, columns_table, nulls_of

__all__ = ["FAMILY"]

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


def _measure(texts: Any) -> Any:
    from curate.kernels import characters  # numba: half a second

    counts = np.zeros((len(texts), characters.NUM_CLASSES), dtype=np.int64)
    totals = np.zeros(len(texts), dtype=np.int64)
    for part in text_slices(texts):
        rows = slice(part.first, part.first + part.num_texts)
        characters.count_classes(
            part.data, part.starts, part.stops, class_table(), counts[rows], totals[rows]
        )
    letters = counts[:, FIRST_SCRIPT : FIRST_SCRIPT + len(NAMES)]
    han, kana = NAMES.index("Hani"), NAMES.index("Jpan")
    is_japanese = 10 * letters[:, kana] > letters[:, han] + letters[:, kana]
    letters[:, kana] += np.where(is_japanese, letters[:, han], 0)
    letters[:, han] -= np.where(is_japanese, letters[:, han], 0)
    best = letters.argmax(axis=1)
    most, all_letters = letters.max(axis=1, initial=0), letters.sum(axis=1)
    null = nulls_of(texts)
    columns = {
        "script_share": _share(most, all_letters),
        "replacement_fraction": _share(counts[:, REPLACEMENT], totals),
        "control_fraction": _share(counts[:, CONTROL], totals),
        "private_use_fraction": _share(counts[:, PRIVATE], totals),
        "unassigned_fraction": _share(counts[:, UNASSIGNED], totals),
        "mojibake_fraction": _share(counts[:, MOJIBAKE], totals),
    }
    numbers = {name: signal for name, signal in SIGNALS.items() if name != "script"}
    table = columns_table(columns, numbers, null)
    scripts = pa.array(np.array(NAMES, dtype=object)[best], pa.string(), mask=all_letters == 0)
    return table.add_column(0, "script", scripts)


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return part / whole, NaN where there is nothing to divide by."""
    shares: npt.NDArray[np.float64] = np.full(part.size, np.nan)
    return np.divide(part, whole, out=shares, where=whole > 0) if part.size else shares


FAMILY = Family(name="characters", signals=SIGNALS, measure=_measure)

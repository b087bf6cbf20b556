r"""Gopher's statistics as Dolma counts them (allenai/dolma 1.2.1, `taggers/gopher.py`, gopher_v1).

Words are what Python's `str.split` gives. The word length is the median; a symbol word holds a `#`
or U+2026; stop words count as often as they stand there, in lower case only. Lines end at newlines,
blank ones count, and nothing is trimmed: a bullet is `*` or `-` in the first column, an ellipsis
U+2026 in the last. A line that another line equals counts with all its copies, blank lines too;
characters of such lines are divided by the characters of words, so their share can pass 1.

N-gram shares: the copies of the most common 2-, 3- or 4-gram (of several the first), by characters
of all words; every copy of 5- to 10-grams that occur twice, by characters of all n-grams. Null
where a text has fewer words; all else is 0 for a text without words.

>>> import pyarrow as pa
>>> table = FAMILY.measure(pa.array(["to be or not to be\n\n\nthat is", ""], pa.large_string()))
>>> table.column("num_stop_words_dolma").to_pylist(), table.column(1).to_pylist()
([5, 0], [2.0, 0.0])
>>> table.column("top_2gram_char_fraction_dolma").to_pylist()
[0.42105263157894735, None]
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table
from curate.signals.fused import divided, text_counts
from curate.signals.shapes import shape_counts

__all__ = ["FAMILY", "split_like_python"]

TOP_WIDTHS = (2, 3, 4)
REPEATED_WIDTHS = (5, 6, 7, 8, 9, 10)
SEPARATORS = r"[\x{1C}-\x{1F}]"  # white space to Python, not to Unicode

SIGNALS = {
    "num_words_dolma": Signal(pa.int64(), "words, as str.split gives them"),
    "median_word_length_dolma": Signal(pa.float64(), "characters of the median word"),
    "symbol_word_fraction_dolma": Signal(pa.float64(), "share of words with # or U+2026"),
    "alpha_word_fraction_dolma": Signal(pa.float64(), "share of words with a letter"),
    "num_stop_words_dolma": Signal(
        pa.int64(), "occurrences of: the be to of and that have with, in lower case"
    ),
    "bullet_line_fraction_dolma": Signal(pa.float64(), "share of all lines that begin with * or -"),
    "ellipsis_line_fraction_dolma": Signal(pa.float64(), "share of all lines that end with U+2026"),
    "duplicate_line_fraction_dolma": Signal(
        pa.float64(), "share of all lines that equal another one, blank lines and all copies"
    ),
    "duplicate_line_char_fraction_dolma": Signal(
        pa.float64(), "characters of such lines per character of words; can pass 1"
    ),
    **{
        f"top_{n}gram_char_fraction_dolma": Signal(
            pa.float64(), f"share of the words' characters in copies of the most common {n}-gram"
        )
        for n in TOP_WIDTHS
    },
    **{
        f"duplicate_{n}gram_char_fraction_dolma": Signal(
            pa.float64(), f"share of the {n}-grams' characters in {n}-grams that occur twice"
        )
        for n in REPEATED_WIDTHS
    },
}


def split_like_python(texts: Any) -> Any:
    """Return texts whose words by Unicode's white space are those of Python's `str.split`.

    Only texts with a character of U+001C to U+001F change: it becomes a space.
    """
    series = pl.from_arrow(texts)
    assert isinstance(series, pl.Series)
    if not series.str.contains(SEPARATORS).any():
        return texts
    cast = series.str.replace_all(SEPARATORS, " ").to_arrow(compat_level=pl.CompatLevel.oldest())
    return cast.cast(pa.large_string())


def _measure(texts: Any) -> Any:
    counts = shape_counts(texts, lines=True)
    grams = text_counts(split_like_python(texts))["ngrams"]
    words, lines = counts["words"], np.maximum(counts["lines"], 1)
    some_words = np.maximum(words, 1)
    chars = np.maximum(counts["word_chars"], 1)
    columns = {
        "num_words_dolma": words,
        "median_word_length_dolma": (counts["low_length"] + counts["high_length"]) / 2,
        "symbol_word_fraction_dolma": counts["symbol_words"] / some_words,
        "alpha_word_fraction_dolma": counts["alpha_words"] / some_words,
        "num_stop_words_dolma": counts["stop_words"],
        "bullet_line_fraction_dolma": counts["bullet_lines"] / lines,
        "ellipsis_line_fraction_dolma": counts["ellipsis_lines"] / lines,
        "duplicate_line_fraction_dolma": counts["equal_lines"] / lines,
        "duplicate_line_char_fraction_dolma": counts["equal_line_chars"] / chars,
    }
    for k, n in enumerate(TOP_WIDTHS):
        share = grams.top_count[:, k] * grams.top_characters[:, k] / chars
        columns[f"top_{n}gram_char_fraction_dolma"] = np.where(words < n, np.nan, share)
    for k, n in enumerate(REPEATED_WIDTHS):
        share = divided(grams.repeated_characters[:, k], grams.all_characters[:, k])
        columns[f"duplicate_{n}gram_char_fraction_dolma"] = share
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="dolma", signals=SIGNALS, measure=_measure, default=False)

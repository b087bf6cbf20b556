r"""Repetition inside one document (Rae et al. 2021, appendix A.1.1, table A1): its 13 statistics.

A line or paragraph is a duplicate when the same text stood earlier in the document; the first copy
is none. Lines are compared without the white space around them, paragraphs likewise, and blank
lines do not count. The fractions `*_char_*` weigh each by its characters, against all characters of
lines (or paragraphs), so they lie in [0, 1]. Null where there is no line.

N-grams are of white-space words as they stand, and only the characters of words count, above and
below the line. `top_*`: the occurrences of the most common n-gram (the first of several) times its
characters; occurrences may overlap, so `a a a a` has 1.5 for n = 2, and an n-gram that occurs once
counts, as in datatrove and Dolma. `duplicate_*`: walking from word to word, an n-gram that was met
before counts and the walk goes on behind it (datatrove's way: overlaps count once, as the paper
asks), so these lie in [0, 1]. Zero for fewer than n words, null for none.

>>> import pyarrow as pa
>>> row = FAMILY.measure(pa.array(["menu\nnews\n menu\nend"], pa.large_string())).to_pylist()[0]
>>> row["duplicate_line_fraction"], row["top_2gram_char_fraction"]
(0.25, 0.5333333333333333)
"""

from typing import Any

import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table
from curate.signals.fused import divided, text_counts

__all__ = ["FAMILY"]

UNITS = ("line", "paragraph")
TOP_WIDTHS = (2, 3, 4)
DUPLICATE_WIDTHS = (5, 6, 7, 8, 9, 10)

SIGNALS = {
    **{
        name: Signal(pa.float64(), description)
        for unit in UNITS
        for name, description in (
            (f"duplicate_{unit}_fraction", f"share of {unit}s that repeat an earlier {unit}"),
            (f"duplicate_{unit}_char_fraction", f"the same share, by characters of the {unit}s"),
        )
    },
    **{
        f"top_{n}gram_char_fraction": Signal(
            pa.float64(),
            f"characters of words in the most common {n} words in a row, per character",
        )
        for n in TOP_WIDTHS
    },
    **{
        f"duplicate_{n}gram_char_fraction": Signal(
            pa.float64(),
            f"share of the words' characters in {n} words in a row that were met before",
        )
        for n in DUPLICATE_WIDTHS
    },
}


def _measure(texts: Any) -> Any:
    counts = text_counts(texts)
    columns = {}
    for unit in UNITS:
        again, chars_again = counts[f"{unit}s_again"], counts[f"{unit}_chars_again"]
        columns[f"duplicate_{unit}_fraction"] = divided(again, counts[f"{unit}s"])
        columns[f"duplicate_{unit}_char_fraction"] = divided(chars_again, counts[f"{unit}_chars"])
    ngrams = counts["ngrams"]
    top = ngrams.top_count * ngrams.top_characters
    for k, n in enumerate(TOP_WIDTHS):
        columns[f"top_{n}gram_char_fraction"] = divided(top[:, k], ngrams.characters)
    for k, n in enumerate(DUPLICATE_WIDTHS):
        columns[f"duplicate_{n}gram_char_fraction"] = divided(
            ngrams.skipped_characters[:, k], ngrams.characters
        )
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="repetition", signals=SIGNALS, measure=_measure)

r"""Gopher's quality statistics (Rae et al. 2021, arXiv:2112.11446, appendix A), white-space words.

The paper leaves open what a word, a bullet or an occurrence is, and every tool chose differently.
Choices made here: white-space words (see `base`); fractions are of the lines that are not blank;
a bullet is one of `-`, `*`, U+2022, U+25CF after optional white space; an ellipsis is `...` or
U+2026; a letter is Unicode category L; the eight stop words count once each, in any ASCII case, and
only as whole words (`the,` is another word). Where there are no words or lines, a ratio is null.

>>> import pyarrow as pa
>>> table = FAMILY.measure(pa.array(["The cat and the dog ...\n- one #tag"], pa.large_string()))
>>> [table.column(name)[0].as_py() for name in ("num_stop_words", "bullet_line_fraction")]
[2, 0.5]
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import BLANKS, LINE, WORD, Family, Signal, ratio, text_frame, to_table

__all__ = ["FAMILY", "STOP_WORDS"]

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
ELLIPSIS = r"(?:\.\.\.|\x{2026})"
ALPHA_WORD = r"\p{L}\S*"  # from a word's first letter to its end: one match per word with a letter
BULLET_LINE = rf"(?m)^{BLANKS}[-*\x{{2022}}\x{{25CF}}]"
ELLIPSIS_LINE = rf"(?m){ELLIPSIS}{BLANKS}$"

SIGNALS = {
    "mean_word_length": Signal(pa.float64(), "characters per white-space word"),
    "hash_word_ratio": Signal(pa.float64(), "'#' characters per white-space word"),
    "ellipsis_word_ratio": Signal(pa.float64(), "ellipses per white-space word"),
    "bullet_line_fraction": Signal(pa.float64(), "share of visible lines that begin with a bullet"),
    "ellipsis_line_fraction": Signal(
        pa.float64(), "share of visible lines that end with an ellipsis"
    ),
    "alpha_word_fraction": Signal(pa.float64(), "share of white-space words with a letter"),
    "num_stop_words": Signal(pa.int64(), "distinct words of: the be to of and that have with"),
}


def _measure(texts: Any) -> Any:
    text = pl.col("text")

    def count(pattern: str) -> pl.Expr:
        return text.str.count_matches(pattern).cast(pl.Int64)

    # Spaces and newlines by byte search; the rest of White_Space is rare: twice as fast as `\s`.
    spaces = (
        text.str.count_matches(" ", literal=True).cast(pl.Int64)
        + text.str.count_matches("\n", literal=True).cast(pl.Int64)
        + count(r"[\s&&[^ \n]]")
    )
    stop_words = [text.str.contains(rf"(?:^|\s)(?i-u:{w})(?:\s|$)") for w in STOP_WORDS]
    counts = text_frame(texts).select(
        words=count(WORD),
        visible=text.str.len_chars().cast(pl.Int64) - spaces,
        hashes=text.str.count_matches("#", literal=True).cast(pl.Int64),
        ellipses=count(ELLIPSIS),
        lines=count(LINE),
        bullet_lines=count(BULLET_LINE),
        ellipsis_lines=count(ELLIPSIS_LINE),
        alpha_words=count(ALPHA_WORD),
        num_stop_words=pl.sum_horizontal(
            *(flag.cast(pl.Int64) for flag in stop_words), ignore_nulls=False
        ),
    )
    words, lines = pl.col("words"), pl.col("lines")
    frame = counts.select(
        "num_stop_words",
        mean_word_length=ratio(pl.col("visible"), words),
        hash_word_ratio=ratio(pl.col("hashes"), words),
        ellipsis_word_ratio=ratio(pl.col("ellipses"), words),
        bullet_line_fraction=ratio(pl.col("bullet_lines"), lines),
        ellipsis_line_fraction=ratio(pl.col("ellipsis_lines"), lines),
        alpha_word_fraction=ratio(pl.col("alpha_words"), words),
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="gopher", signals=SIGNALS, measure=_measure)

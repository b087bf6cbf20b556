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

import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table
from curate.signals.fused import divided, text_counts

__all__ = ["FAMILY"]

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
    counts = text_counts(texts)
    words, lines = counts["words"], counts["lines"]
    columns = {
        "mean_word_length": divided(counts["chars"] - counts["white_chars"], words),
        "hash_word_ratio": divided(counts["hashes"], words),
        "ellipsis_word_ratio": divided(counts["ellipses"], words),
        "bullet_line_fraction": divided(counts["bullet_lines"], lines),
        "ellipsis_line_fraction": divided(counts["ellipsis_lines"], lines),
        "alpha_word_fraction": divided(counts["alpha_words"], words),
        "num_stop_words": counts["stop_words"],
    }
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="gopher", signals=SIGNALS, measure=_measure)

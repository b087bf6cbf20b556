r"""RefinedWeb's rules (Penedo et al. 2023, arXiv:2306.01116) as DCLM (mlfoundations/dclm) has them.

DCLM's `dclm_baseline_refinedweb.yaml` runs Gopher's rules, removes lines, and drops a text that
lost more than 5 % of its words. Words are `str.split`'s for word length, symbols, letters and stop
words (any occurrence, any case); those that begin with a letter or a number, by ASCII white space,
for the length of the text and the words lost (fastText's cut); and Unicode's word boundaries for
n-grams (`curate.kernels.dclm`). Lines and paragraphs are trimmed and blank ones left out; one that
another equals counts with all its copies. The lines that fall are those of
`curate.signals.line_rules`.

DCLM takes addresses out of the text first, with IANA's list of domains; this is for cleaning, and
the signals are those of the text as it is. Language and lists of addresses are no part either.

>>> import pyarrow as pa
>>> text = "READ THIS\nThe rain fell on the fields for two days.\n3 likes\nNobody minded the rain."
>>> row = FAMILY.measure(pa.array([text], pa.large_string())).to_pylist()[0]
>>> row["removed_word_fraction_dclm"], row["num_stop_words_dclm"]
(0.23529411764705882, 3)
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.kernels.buffers import text_buffers
from curate.kernels.scratch import borrowed_scratch
from curate.signals.base import Family, Signal, columns_table, text_frame
from curate.signals.fused import divided
from curate.signals.line_rules import judge_lines, lines_of
from curate.signals.shapes import shape_counts

__all__ = ["FAMILY"]

I64 = npt.NDArray[np.int64]

SYMBOLS = ("#", "...", ". . .", "\u2026")
COUNTED_WORD = r"(?:^|[\x00\t\x{0B}\x{0C}\r ])[\p{L}\p{N}]"
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10)

SIGNALS = {
    "num_words_dclm": Signal(
        pa.int64(), "words by ASCII white space that begin with a letter or a number"
    ),
    "mean_word_length_dclm": Signal(pa.float64(), "characters per word"),
    "symbol_word_ratio_dclm": Signal(pa.float64(), "'#' and ellipses of three forms per word"),
    "bullet_line_fraction_dclm": Signal(
        pa.float64(), "share of visible lines that begin with - * U+2022 or U+25CF"
    ),
    "ellipsis_line_fraction_dclm": Signal(
        pa.float64(), "share of visible lines that end with an ellipsis of three forms"
    ),
    "nonalpha_word_fraction_dclm": Signal(pa.float64(), "share of words without a letter"),
    "num_stop_words_dclm": Signal(
        pa.int64(), "occurrences of: the be to of and that have with, in any case"
    ),
    **{
        name: Signal(pa.float64(), description)
        for unit in ("line", "paragraph")
        for name, description in (
            (f"duplicate_{unit}_fraction_dclm", f"share of {unit}s that equal another, all copies"),
            (f"duplicate_{unit}_char_fraction_dclm", f"the same share, by characters of {unit}s"),
        )
    },
    **{
        f"{'top' if n < 5 else 'duplicate'}_{n}gram_char_fraction_dclm": Signal(
            pa.float64(),
            f"share of the words' characters in copies of the most common {n}-gram (the longest)"
            if n < 5
            else f"share of the words' characters in words of {n}-grams that occur twice",
        )
        for n in WIDTHS
    },
    "removed_word_fraction_dclm": Signal(
        pa.float64(), "share of words (as in num_words_dclm) that the line rules remove"
    ),
}


def _repeats(texts: Any) -> I64:
    from curate.kernels import dclm, ngrams  # numba: half a second

    data, offsets = text_buffers(texts)
    size = int(np.diff(offsets).max(initial=0)) + 1
    out = np.empty((offsets.size - 1, dclm.NUM_COLUMNS), dtype=np.int64)
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    with borrowed_scratch() as scratch:
        dclm.measure_repeats(
            data, np.require(offsets, np.int64, ["C", "W"]), dclm.break_classes(),
            scratch.uint64("words", size), scratch.int64("sums", size + 1),
            scratch.uint64("keys", size), scratch.uint32("groups", size),
            scratch.uint32("counts", size), scratch.uint32("picked", size),
            scratch.uint64("table", ngrams.table_size(size)), out,
        )  # fmt: skip
    return out


def _removed_words(texts: pl.Series) -> I64:
    """Return how many words the line rules take out of each text."""
    lines = lines_of(texts, "refinedweb_dclm").with_columns(cut=pl.col("line"))
    judged = judge_lines(lines, "refinedweb_dclm")
    changed = judged.filter(~pl.col("kept") | (pl.col("line") != pl.col("cut")))
    before, after = (
        pl.col(name).str.count_matches(COUNTED_WORD).cast(pl.Int64) for name in ("cut", "line")
    )
    lost = before - pl.when("kept").then(after).otherwise(0)
    sums = changed.group_by("document").agg(lost=lost.sum())
    removed: I64 = np.zeros(len(texts), dtype=np.int64)
    removed[sums.get_column("document").to_numpy()] = sums.get_column("lost").to_numpy()
    return removed


def _measure(texts: Any) -> Any:
    counts, repeats = shape_counts(texts, visible=True), _repeats(texts)
    series = text_frame(texts).get_column("text")
    text = pl.col("text")
    found = [text.str.count_matches(symbol, literal=True).cast(pl.Int64) for symbol in SYMBOLS]
    symbols = series.to_frame().select(pl.sum_horizontal(*found)).to_series().fill_null(0)
    words, lines = counts["words"], counts["visible_lines"]
    columns = {
        "num_words_dclm": counts["alnum_words"],
        "mean_word_length_dclm": divided(counts["word_chars"], words),
        "symbol_word_ratio_dclm": divided(symbols.to_numpy(), words),
        "bullet_line_fraction_dclm": divided(counts["visible_bullet_lines"], lines),
        "ellipsis_line_fraction_dclm": divided(counts["visible_ellipsis_lines"], lines),
        "nonalpha_word_fraction_dclm": divided(words - counts["alpha_words"], words),
        "num_stop_words_dclm": counts["stop_words_any_case"],
        "duplicate_line_fraction_dclm": divided(counts["visible_equal_lines"], lines),
        "duplicate_line_char_fraction_dclm": divided(
            counts["visible_equal_line_chars"], counts["visible_line_chars"]
        ),
        "duplicate_paragraph_fraction_dclm": divided(
            counts["equal_paragraphs"], counts["paragraphs"]
        ),
        "duplicate_paragraph_char_fraction_dclm": divided(
            counts["equal_paragraph_chars"], counts["paragraph_chars"]
        ),
        "removed_word_fraction_dclm": divided(_removed_words(series), counts["alnum_words"]),
    }
    for k, n in enumerate(WIDTHS):
        kind = "top" if n < 5 else "duplicate"
        columns[f"{kind}_{n}gram_char_fraction_dclm"] = divided(repeats[:, k + 1], repeats[:, 0])
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="refinedweb", signals=SIGNALS, measure=_measure, default=False)

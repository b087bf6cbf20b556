r"""Lines and paragraphs as datatrove's Gopher and FineWeb filters count them (datatrove 0.10).

What a line is depends on the filter there: `curate.kernels.datatrove_lines` tells. Shares of
duplicates by characters are of the whole text; FineWeb's is of the text without its newlines.

>>> import pyarrow as pa
>>> row = FAMILY.measure(pa.array(["- a\n- a\nb."], pa.large_string())).to_pylist()[0]
>>> row["bullet_line_fraction_datatrove"], row["duplicate_line_char_fraction_datatrove"]
(0.6666666666666666, 0.3)
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.kernels.buffers import text_buffers
from curate.signals.base import Family, Signal, ratio, to_table

__all__ = ["FAMILY", "fineweb_ratios", "line_columns"]

COUNTS = (
    *("chars", "newlines", "lines", "bullets", "ellipses"),
    *("runs", "run_repeats", "run_repeat_chars"),
    *("paragraphs", "paragraph_repeats", "paragraph_repeat_chars"),
    *("visible", "terminal", "short", "visible_repeat_chars"),
)

SIGNALS = {
    "bullet_line_fraction_datatrove": Signal(
        pa.float64(), "share of str.splitlines() that begin with U+2022 or -"
    ),
    "ellipsis_line_fraction_datatrove": Signal(
        pa.float64(), "share of str.splitlines() that end with an ellipsis"
    ),
    "duplicate_line_fraction_datatrove": Signal(
        pa.float64(), "share of lines (between runs of newlines) that repeat an earlier one"
    ),
    "duplicate_line_char_fraction_datatrove": Signal(
        pa.float64(), "characters of such lines per character of the text"
    ),
    "duplicate_paragraph_fraction_datatrove": Signal(
        pa.float64(), "share of paragraphs that repeat an earlier one"
    ),
    "duplicate_paragraph_char_fraction_datatrove": Signal(
        pa.float64(), "characters of such paragraphs per character of the text"
    ),
    "terminal_line_fraction_datatrove": Signal(
        pa.float64(), "share of visible lines that end in terminal punctuation of any script"
    ),
    "short_line_fraction_datatrove": Signal(
        pa.float64(), "share of visible lines of at most 30 characters"
    ),
    "repeated_line_char_fraction_datatrove": Signal(
        pa.float64(), "characters of visible lines met before, per character that is no newline"
    ),
}


def line_columns(texts: Any) -> pl.DataFrame:
    """Return the counts of each text as columns named by `COUNTS`, all null for a null text."""
    from curate.kernels import datatrove_lines, spacy_classes

    data, offsets = text_buffers(texts)
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    starts = np.ascontiguousarray(offsets[:-1])
    stops = np.ascontiguousarray(offsets[1:])
    longest = int((stops - starts).max(initial=0))
    size = 1 << (2 * longest + 3).bit_length()
    out = np.zeros((starts.size, datatrove_lines.NUM_COLUMNS), dtype=np.int64)
    datatrove_lines.measure_lines(
        data, starts, stops, spacy_classes.classes(), np.empty(longest + 1, dtype=np.uint32),
        np.empty(2 * size, dtype=np.int64), np.zeros(size, dtype=np.int64), out,
    )  # fmt: skip
    columns = np.ascontiguousarray(out.T)
    frame = pl.DataFrame(dict(zip(COUNTS, columns, strict=True)))
    if texts.null_count:
        frame = frame.select(pl.when(pl.Series(texts.is_valid())).then(pl.all()))
    return frame


def fineweb_ratios(suffix: str) -> dict[str, pl.Expr]:
    """Return FineWeb's three ratios of lines, over `COUNTS`, named with the suffix."""
    visible, chars = pl.col("visible"), pl.col("chars") - pl.col("newlines")
    return {
        f"terminal_line_fraction_{suffix}": ratio(pl.col("terminal"), visible),
        f"short_line_fraction_{suffix}": ratio(pl.col("short"), visible),
        f"repeated_line_char_fraction_{suffix}": ratio(pl.col("visible_repeat_chars"), chars),
    }


def _measure(texts: Any) -> Any:
    lines, chars = pl.col("lines"), pl.col("chars")
    frame = line_columns(texts).select(
        bullet_line_fraction_datatrove=ratio(pl.col("bullets"), lines),
        ellipsis_line_fraction_datatrove=ratio(pl.col("ellipses"), lines),
        duplicate_line_fraction_datatrove=ratio(pl.col("run_repeats"), pl.col("runs")),
        duplicate_line_char_fraction_datatrove=ratio(pl.col("run_repeat_chars"), chars),
        duplicate_paragraph_fraction_datatrove=ratio(
            pl.col("paragraph_repeats"), pl.col("paragraphs")
        ),
        duplicate_paragraph_char_fraction_datatrove=ratio(pl.col("paragraph_repeat_chars"), chars),
        **fineweb_ratios("datatrove"),
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="datatrove_lines", signals=SIGNALS, measure=_measure, default=False)

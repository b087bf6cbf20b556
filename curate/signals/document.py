r"""Plain sizes of a document: bytes, characters, lines, paragraphs, words.

>>> import pyarrow as pa
>>> FAMILY.measure(pa.array(["one two\nthree\n"], pa.large_string())).to_pylist()[0]["num_words"]
3
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import PARAGRAPH, WORD, Family, Signal, ratio, text_frame, to_table

__all__ = ["FAMILY"]

SIGNALS = {
    "num_bytes": Signal(pa.int64(), "UTF-8 bytes of the cleaned text"),
    "num_chars": Signal(pa.int64(), "characters (Unicode code points)"),
    "num_lines": Signal(pa.int64(), "lines, blank ones included; a final newline starts no line"),
    "num_paragraphs": Signal(pa.int64(), "runs of lines that are not blank"),
    "num_words": Signal(pa.int64(), "white-space words"),
    "mean_line_length": Signal(pa.float64(), "characters per line, newlines not counted"),
}


def _measure(texts: Any) -> Any:
    text = pl.col("text")
    frame = (
        text_frame(texts)
        .select(
            num_bytes=text.str.len_bytes().cast(pl.Int64),
            num_chars=text.str.len_chars().cast(pl.Int64),
            newlines=text.str.count_matches("\n", literal=True).cast(pl.Int64),
            open_line=(text.str.ends_with("\n").not_() & (text != "")).cast(pl.Int64),
            num_paragraphs=text.str.count_matches(PARAGRAPH).cast(pl.Int64),
            num_words=text.str.count_matches(WORD).cast(pl.Int64),
        )
        .with_columns(num_lines=pl.col("newlines") + pl.col("open_line"))
        .with_columns(
            mean_line_length=ratio(pl.col("num_chars") - pl.col("newlines"), pl.col("num_lines"))
        )
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="document", signals=SIGNALS, measure=_measure)

r"""Repeated lines and paragraphs inside one document (Rae et al. 2021, appendix A, table A1).

A line or paragraph is a duplicate when the same text stood earlier in the document; the first copy
is none. Lines are compared without the white space around them, paragraphs likewise, and blank
lines do not count. The fractions `*_char_*` weigh each by its characters, against all characters of
lines (or paragraphs), so they lie in [0, 1]. Null where there is no line.

>>> import pyarrow as pa
>>> FAMILY.measure(pa.array(["menu\nnews\n menu\nend"], pa.large_string())).to_pylist()[0]
... # doctest: +NORMALIZE_WHITESPACE
{'duplicate_line_fraction': 0.25, 'duplicate_line_char_fraction': 0.26666666666666666,
 'duplicate_paragraph_fraction': 0.0, 'duplicate_paragraph_char_fraction': 0.0}
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import PARAGRAPH, Family, Signal, ratio, text_frame, to_table

__all__ = ["FAMILY"]

UNITS = ("line", "paragraph")

SIGNALS = {
    name: Signal(pa.float64(), description)
    for unit in UNITS
    for name, description in (
        (f"duplicate_{unit}_fraction", f"share of {unit}s that repeat an earlier {unit}"),
        (f"duplicate_{unit}_char_fraction", f"the same share, by characters of the {unit}s"),
    )
}


def _units(unit: str) -> pl.Expr:
    """Return the list of a text's lines or paragraphs, still untrimmed."""
    text = pl.col("text")
    # Splitting is five times as fast as matching lines; blank ones are dropped after trimming.
    return text.str.split("\n") if unit == "line" else text.str.extract_all(PARAGRAPH)


def _fractions(documents: pl.DataFrame, unit: str) -> pl.DataFrame:
    """Return `document` and the two fractions of one unit, for documents that have any."""
    units = (
        documents.select("document", unit=_units(unit))
        .explode("unit")
        .with_columns(pl.col("unit").str.strip_chars())
        .filter(pl.col("unit") != "")
        .with_columns(chars=pl.col("unit").str.len_chars().cast(pl.Int64))
    )
    # Integer sums only: the order in which groups arrive cannot change them.
    again = pl.col("unit").is_first_distinct().not_()
    sums = units.group_by("document").agg(
        units=pl.len(),
        again=again.sum(),
        unit_chars=pl.col("chars").sum(),
        again_chars=pl.col("chars").filter(again).sum(),
    )
    return sums.select(
        "document",
        ratio(pl.col("again"), pl.col("units")).alias(f"duplicate_{unit}_fraction"),
        ratio(pl.col("again_chars"), pl.col("unit_chars")).alias(f"duplicate_{unit}_char_fraction"),
    )


def _measure(texts: Any) -> Any:
    documents = text_frame(texts).with_row_index("document")
    frame = documents.select("document")
    for unit in UNITS:
        fractions = _fractions(documents, unit)
        frame = frame.join(fractions, on="document", how="left", maintain_order="left")
    return to_table(frame, SIGNALS)


FAMILY = Family(name="repetition", signals=SIGNALS, measure=_measure)

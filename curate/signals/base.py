r"""What a signal is: a named number per document, a pure function of its text.

A family is measured together because its signals share the work. All text definitions live here,
so that two families mean the same by a word or a line:

* white space is Unicode's White_Space property (`\s`), the same set on every machine;
* a **word** is a maximal run of characters that are not white space (Gopher, Dolma, NeMo Curator);
* a **line** ends at `\n` and nowhere else; a line is blank when it holds white space only;
* a **paragraph** is a maximal run of lines that are not blank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

__all__ = [
    "BLANKS",
    "LINE",
    "PARAGRAPH",
    "WORD",
    "Family",
    "Signal",
    "ratio",
    "text_frame",
    "to_table",
]

WORD = r"\S+"
BLANKS = r"[\s&&[^\n]]*"  # white space inside a line
LINE = r"\S[^\n]*"  # one match per line that is not blank, from its first visible character
PARAGRAPH = rf"{LINE}(?:\n{BLANKS}{LINE})*"


@dataclass(frozen=True, slots=True)
class Signal:
    """A column of the signals table.

    Attributes:
        dtype: pa.int64(), pa.float64(), pa.bool_() or pa.string(); null where it is undefined.
        description: one sentence for people, with the unit.
    """

    dtype: Any
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Signals that are measured together; a module of this package publishes one as `FAMILY`.

    Attributes:
        name: the module's name.
        signals: name -> Signal, in column order.
        measure: pa.LargeStringArray [n] -> pa.Table [n rows, one column per signal]; row-wise,
            deterministic, all null for a null text. It is given slices of bounded size.
    """

    name: str
    signals: Mapping[str, Signal]
    measure: Callable[[Any], Any]


def text_frame(texts: Any) -> pl.DataFrame:
    """Return a one-column frame `text` over the same buffers."""
    series = pl.from_arrow(texts)
    assert isinstance(series, pl.Series)
    return series.alias("text").to_frame()


def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Return part / whole as float64, null where there is nothing to divide by (never NaN)."""
    return pl.when(whole > 0).then(part / whole)


def to_table(frame: pl.DataFrame, signals: Mapping[str, Signal]) -> Any:
    """Return the signals' columns of `frame` as Arrow, in order and with their declared types."""
    columns = [
        frame.get_column(name).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(signal.dtype)
        for name, signal in signals.items()
    ]
    return pa.table(columns, names=list(signals))

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

import numpy as np
import polars as pl
import pyarrow as pa

__all__ = [
    "BLANKS",
    "LINE",
    "PARAGRAPH",
    "WORD",
    "Family",
    "Signal",
    "columns_table",
    "nulls_of",
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
        measure: one array per name in `reads`, [n] each -> pa.Table [n rows, one column per
            signal]; row-wise, deterministic, all null for a null text. It is given slices of
            bounded size.
        reads: columns of the documents: `text` (large_string); `media` (large_binary, the bytes
            of the file); url, license, path, meta, key, source or timestamp (string); text_hash
            (binary(16)).
        default: measured in every run; else only when a rule or `keep:` reads one of its signals,
            or the recipe names it under `measure.families`.
        media: schemas of corpora (image, audio, pair) in every run of which it is measured; one
            that names any is measured in no other corpus.
        needs: packages (names on PyPI) whose versions shape the numbers beside the code; what is
            measured with another version is measured again.
    """

    name: str
    signals: Mapping[str, Signal]
    measure: Callable[..., Any]
    reads: tuple[str, ...] = ("text",)
    default: bool = True
    media: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def nulls_of(texts: Any) -> Any:
    """Return a numpy mask of the null texts, bool [n]."""
    return texts.is_null().to_numpy(zero_copy_only=False)


def columns_table(
    columns: Mapping[str, Any], signals: Mapping[str, Signal], null: Any = None
) -> Any:
    """Return numpy columns as a table of the signals, in order and with their declared types.

    Args:
        columns: name -> array [n] of numbers or strings; NaN becomes null.
        signals: what is declared.
        null: bool [n], rows that are all null.
    """
    arrays = []
    for name, signal in signals.items():
        values = columns[name]
        mask = None if null is None else null.copy()
        if values.dtype.kind == "f":
            missing = ~np.isfinite(values)
            mask = missing if mask is None else mask | missing
        arrays.append(pa.array(values, signal.dtype, mask=mask))
    return pa.table(arrays, names=list(signals))


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

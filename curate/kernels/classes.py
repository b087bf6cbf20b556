"""What the statistics of a text must know of each character beyond ASCII, in one byte.

White space is Unicode's White_Space, a letter is category L; both as polars' regular expressions
know them, so that a signal, a rule and a cleaning step mean the same whatever Python runs. Asking
them takes 0.1 s once per machine; then the table is read from `curate.kernels.cache`.

>>> table = class_table()
>>> [int(table[ord(c)]) for c in "a\u00a0\u2022\u2026"] == [LETTER, WHITE, BULLET, ELLIPSIS]
True
"""

import functools

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.kernels.tables import TABLE_SIZE, kept_table

__all__ = ["BULLET", "ELLIPSIS", "LETTER", "WHITE", "class_table"]

U8 = npt.NDArray[np.uint8]

WHITE, LETTER, BULLET, ELLIPSIS = 1, 2, 4, 8

_SURROGATES = range(0xD800, 0xE000)


@functools.cache
def class_table() -> U8:
    """Return the class of each code point below 0x40000; 0 for most."""
    return kept_table(f"classes-{pl.__version__}", _asked)


def _asked() -> U8:
    codes = [code for code in range(TABLE_SIZE) if code not in _SURROGATES]
    text = pl.Series(map(chr, codes), dtype=pl.String).str
    table = np.zeros(TABLE_SIZE, dtype=np.uint8)
    table[codes] = WHITE * text.contains(r"\s").to_numpy()
    table[codes] |= LETTER * text.contains(r"\p{L}").to_numpy().astype(np.uint8)
    table[[0x2022, 0x25CF]] = BULLET
    table[0x2026] = ELLIPSIS
    return table

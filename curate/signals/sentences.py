r"""Words and sentences of any script, also of those that put no space between words.

Words are those of `curate.kernels.words`: runs of letters and numbers, folded, and in Chinese,
Japanese, Thai, Lao, Khmer, Burmese and their like each letter is a word of its own. That is no
segmentation (a Chinese word has some 1.5 characters) but the same on every machine.

A sentence ends at a run of `.`, `!`, `?`, an ellipsis or their Arabic, Devanagari and Ethiopic
counterparts that white space, a closing quote or bracket or the end of the text follows; at an
ideographic full stop, exclamation or question mark in any case. What is left behind the last end
is one more if it holds a letter or number. So `e.g. this` has one end too many: it is a count for
rules, no parser.

>>> import pyarrow as pa
>>> texts = pa.array(["Is it 3.5? Yes! And", "\u4f60\u597d\u3002\u597d\u3002"], pa.large_string())
>>> FAMILY.measure(texts).to_pylist()
... # doctest: +NORMALIZE_WHITESPACE
[{'num_sentences': 3, 'num_words_folded': 6}, {'num_sentences': 2, 'num_words_folded': 3}]
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.kernels.words import word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of, text_frame

__all__ = ["FAMILY"]

ENDS = r".!?\x{2026}\x{061F}\x{06D4}\x{0964}\x{0965}\x{1362}\x{1367}"
WIDE_ENDS = r"\x{3002}\x{FF01}\x{FF1F}\x{FF61}\x{FF0E}"
CLOSING = r"""["'\)\]\x{2019}\x{201D}\x{00BB}]"""
END = rf"[{ENDS}]+{CLOSING}*(?:\s|$)|[{WIDE_ENDS}]+"
REST = rf"[\p{{L}}\p{{N}}][^{ENDS}{WIDE_ENDS}]*$"

SIGNALS = {
    "num_sentences": Signal(pa.int64(), "ends of sentences, and an unfinished one at the end"),
    "num_words_folded": Signal(
        pa.int64(), "runs of letters and numbers; each letter of a script without spaces is one"
    ),
}


def _measure(texts: Any) -> Any:
    text = pl.col("text")
    frame = text_frame(texts).select(
        ends=text.str.count_matches(END), rest=text.str.contains(REST).cast(pl.UInt32)
    )
    sentences = frame.select((pl.col("ends") + pl.col("rest")).fill_null(0).cast(pl.Int64))
    _, offsets = word_hashes(texts)
    columns = {
        "num_sentences": sentences.to_series().to_numpy(),
        "num_words_folded": np.diff(offsets),
    }
    return columns_table(columns, SIGNALS, nulls_of(texts))


FAMILY = Family(name="sentences", signals=SIGNALS, measure=_measure, default=False)

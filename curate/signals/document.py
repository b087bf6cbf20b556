r"""Plain sizes of a document: bytes, characters, lines, paragraphs, words.

>>> import pyarrow as pa
>>> FAMILY.measure(pa.array(["one two\nthree\n"], pa.large_string())).to_pylist()[0]["num_words"]
3
"""

from typing import Any

import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table
from curate.signals.fused import divided, text_counts

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
    counts = text_counts(texts)
    num_lines = counts["newlines"] + counts["open_lines"]
    columns = {
        "num_bytes": counts["bytes"],
        "num_chars": counts["chars"],
        "num_lines": num_lines,
        "num_paragraphs": counts["paragraphs"],
        "num_words": counts["words"],
        "mean_line_length": divided(counts["chars"] - counts["newlines"], num_lines),
    }
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="document", signals=SIGNALS, measure=_measure)

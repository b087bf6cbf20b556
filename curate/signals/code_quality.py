r"""What filters of source code ask: long lines, few letters, an XML header.

RedPajama's filter of GitHub (as Dolma's tagger `code_redpajama_taggers_v1` measures it) and the
filters of The Stack and StarCoder (Li et al. 2023, arXiv:2305.06161). Lines end where Python's
`str.splitlines` ends them; letters are Unicode's category L, numbers N. RedPajama itself divides by
the tokens of a model; Dolma by the pieces that runs of word characters and runs of other visible
characters leave when they are taken out: their number, plus one.

>>> import pyarrow as pa
>>> row = FAMILY.measure(pa.array(["x = 1\nprint(x)\n"], pa.large_string())).to_pylist()[0]
>>> row["max_line_length_code"], row["letters_per_token_redpajama"], row["has_xml_header"]
(8, 0.875, False)
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table, text_frame
from curate.signals.fused import divided
from curate.signals.shapes import shape_counts

__all__ = ["FAMILY"]

TOKEN = r"\w+|[^\w\s]+"
XML_HEADER = "<?xml version="
HEADER_CHARS = 100

SIGNALS = {
    "max_line_length_code": Signal(pa.int64(), "characters of the longest line"),
    "mean_line_length_code": Signal(pa.float64(), "characters per line; 0 without lines"),
    "alnum_char_fraction_code": Signal(
        pa.float64(), "share of characters that are letters or numbers; 0 for an empty text"
    ),
    "alpha_char_fraction_code": Signal(
        pa.float64(), "share of characters that are letters; 0 for an empty text"
    ),
    "letters_per_token_redpajama": Signal(
        pa.float64(), "letters per piece between runs of word characters and of signs"
    ),
    "has_xml_header": Signal(pa.bool_(), "whether '<?xml version=' is in the first 100 characters"),
}


def _measure(texts: Any) -> Any:
    counts = shape_counts(texts)
    text = pl.col("text")
    found = text_frame(texts).select(
        tokens=text.str.count_matches(TOKEN).cast(pl.Int64).fill_null(0) + 1,
        header=text.str.head(HEADER_CHARS)
        .str.contains(XML_HEADER, literal=True)
        .fill_null(value=False),
    )
    chars = np.maximum(counts["chars"], 1)
    columns = {
        "max_line_length_code": counts["longest_split_line"],
        "mean_line_length_code": counts["split_line_chars"] / np.maximum(counts["split_lines"], 1),
        "alnum_char_fraction_code": (counts["letter_chars"] + counts["number_chars"]) / chars,
        "alpha_char_fraction_code": counts["letter_chars"] / chars,
        "letters_per_token_redpajama": divided(
            counts["letter_chars"], found.get_column("tokens").to_numpy()
        ),
        "has_xml_header": found.get_column("header").to_numpy(),
    }
    return columns_table(columns, SIGNALS, counts["null"])


FAMILY = Family(name="code_quality", signals=SIGNALS, measure=_measure, default=False)

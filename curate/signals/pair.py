"""What a caption says of how it was made: its length, and marks of captions that describe nothing.

Length and language are those of any text (`num_words`, `num_chars`, `language`); here is what only
captions have. Whether image and words belong together is for a model to say, not for a rule here.

>>> texts = pa.array(["A red car on a hill", "IMG_2041.jpg", None], pa.large_string())
>>> [row["caption_is_file_name"] for row in FAMILY.measure(texts).to_pylist()]
[False, True, None]
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import WORD, Family, Signal, ratio, text_frame, to_table

__all__ = ["FAMILY"]

SIGNALS = {
    "caption_num_words": Signal(pa.int64(), "white-space words"),
    "caption_is_file_name": Signal(pa.bool_(), "one word that ends as a file of media does"),
    "caption_distinct_word_fraction": Signal(pa.float64(), "different words / words, case folded"),
    "caption_has_url": Signal(pa.bool_(), "holds http://, https:// or www."),
    "caption_digit_fraction": Signal(pa.float64(), "decimal digits / characters"),
}

_FILE = r"(?i)^\s*\S+\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|wav|flac|mp3|ogg|m4a)\s*$"


def _measure(texts: Any) -> Any:
    text = pl.col("text")
    words = text.str.extract_all(WORD)
    frame = text_frame(texts).select(
        caption_num_words=words.list.len().cast(pl.Int64),
        caption_is_file_name=text.str.contains(_FILE),
        caption_distinct_word_fraction=ratio(
            text.str.to_lowercase().str.extract_all(WORD).list.n_unique(), words.list.len()
        ),
        caption_has_url=text.str.contains(r"(?i)https?://|www\."),
        caption_digit_fraction=ratio(text.str.count_matches(r"[0-9]"), text.str.len_chars()),
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="pair", signals=SIGNALS, measure=_measure, default=False, media=("pair",))

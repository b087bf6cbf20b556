r"""What C4's rules need (Raffel et al. 2020, arXiv:1910.10683), as TFDS and as Dolma apply them.

C4 removes lines first and looks at the pages afterwards. In TFDS (`text/c4_utils.py`) a page falls
when a line that has passed the first line rules (end mark, five words, no word of more than 1,000
characters) holds `lorem ipsum`, or `{` without `javascript`; and when its remaining lines have
fewer than three sentences. Dolma (`taggers/c4.py`, c4_v2) looks for both and for `javascript` in
the whole text, and counts no sentences. Which lines fall is said by `curate.signals.line_rules`.

TFDS counts sentences with NLTK's trained English Punkt. Here a sentence ends at `.`, `?` or `!`,
closing quotes and brackets and white space, but not after an initial or a common English
abbreviation, and after several dots only where a capital follows: 205 of 16,544 kept lines of the
shared data get another number than from Punkt. A page of three kept lines has three sentences
whatever the splitter.

>>> import pyarrow as pa
>>> text = "Menu\nDr. Who came in. He sat down at once.\nWe use cookies to make this page work."
>>> row = FAMILY.measure(pa.array([text], pa.large_string())).to_pylist()[0]
>>> row["num_sentences_c4_tfds"], row["removed_word_fraction_c4_tfds"]
(2, 0.5)
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import WORD, Family, Signal, ratio, text_frame, to_table
from curate.signals.fused import text_counts
from curate.signals.line_rules import contains, judge_lines, lines_of

__all__ = ["FAMILY"]

ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Col|Sgt|Capt|Lt|Gov|Sen|Rep|Rev|Hon|Inc|Co|Corp|Ltd|vs"
    "|Vol|vol|Fig|fig|pp|cf|al|e\\.g|i\\.e|viz|approx|Jan|Feb|Mar|Apr|Aug|Sept|Sep|Oct|Nov"
    "|Dec|Ave|Blvd|Mt|Ft"
)
CLOSERS = r"""["'\u{2019}\u{201D})\]]*"""
# What follows is more than quotes and dots: `. . .` and a last `"""` are no sentences.
END = rf"""[.?!]{CLOSERS}\s+["'`(\[]*[^\s."'`)\]]"""
NO_END = rf"(?-u:\b)(?:[A-Z]|{ABBREVIATIONS})\.\s|(?-u:\b)Nos?\.\s+\d"
DOTS = rf"""\.\.{CLOSERS}\s+[^\s.\p{{Lu}}]|^\.\.\s+[^\s.]"""

SIGNALS = {
    "num_sentences_c4_tfds": Signal(pa.int64(), "sentences on the lines that C4 (TFDS) keeps"),
    "num_lorem_ipsum_lines_c4_tfds": Signal(
        pa.int64(), "lines that C4 (TFDS) reads with 'lorem ipsum' in any case"
    ),
    "num_curly_bracket_lines_c4_tfds": Signal(
        pa.int64(), "lines that C4 (TFDS) reads with '{' and without 'javascript'"
    ),
    "removed_word_fraction_c4_tfds": Signal(
        pa.float64(), "share of white-space words on lines that C4 (TFDS) removes"
    ),
    "num_curly_brackets": Signal(pa.int64(), "'{' in the text"),
    "has_lorem_ipsum": Signal(pa.bool_(), "whether the text has 'lorem ipsum' in any case"),
    "has_javascript": Signal(pa.bool_(), "whether the text has 'javascript' in any case"),
    "removed_word_fraction_c4_dolma": Signal(
        pa.float64(), "share of white-space words on lines that C4 (Dolma) removes"
    ),
}


def num_sentences(line: pl.Expr) -> pl.Expr:
    """Return how many sentences a line has, at least 1."""
    inside = line.str.count_matches(END).cast(pl.Int64)
    no_ends = line.str.count_matches(NO_END).cast(pl.Int64)
    dots = line.str.count_matches(DOTS).cast(pl.Int64)
    return (inside - no_ends - dots).clip(0) + 1


def _tfds(texts: pl.Series) -> pl.DataFrame:
    line = pl.col("line")
    judged = judge_lines(lines_of(texts, "c4_tfds"), "c4_tfds").filter("reached")
    read = judged.group_by("document").agg(
        num_lorem_ipsum_lines_c4_tfds=contains(line, "lorem ipsum").sum().cast(pl.Int64),
        num_curly_bracket_lines_c4_tfds=(
            line.str.contains("{", literal=True) & ~contains(line, "javascript")
        )
        .sum()
        .cast(pl.Int64),
    )
    kept = (
        judged.filter("kept")
        .group_by("document")
        .agg(
            num_sentences_c4_tfds=num_sentences(line).sum(),
            left=line.str.count_matches(WORD).sum().cast(pl.Int64),
        )
    )
    return read.join(kept, on="document", how="left")


def _dolma(texts: pl.Series) -> pl.DataFrame:
    judged = judge_lines(lines_of(texts, "c4_dolma"), "c4_dolma").filter("kept")
    words = pl.col("line").str.count_matches(WORD).sum().cast(pl.Int64)
    return judged.group_by("document").agg(left_dolma=words)


def _measure(texts: Any) -> Any:
    frame = text_frame(texts)
    text, words = pl.col("text"), pl.col("words")
    series = frame.get_column("text")
    counts = (
        frame.select(
            words=pl.when(text.is_not_null()).then(pl.Series(text_counts(texts)["words"])),
            num_curly_brackets=text.str.count_matches("{", literal=True).cast(pl.Int64),
            has_lorem_ipsum=contains(text, "lorem ipsum"),
            has_javascript=contains(text, "javascript"),
        )
        .with_row_index("document")
        .join(_tfds(series), on="document", how="left", maintain_order="left")
        .join(_dolma(series), on="document", how="left", maintain_order="left")
    )
    removed = {
        "removed_word_fraction_c4_tfds": ratio(words - pl.col("left").fill_null(0), words),
        "removed_word_fraction_c4_dolma": ratio(words - pl.col("left_dolma").fill_null(0), words),
    }
    lines = {name: pl.col(name).fill_null(0) for name in SIGNALS if name.startswith("num_")}
    zeroed = {name: pl.when(words.is_not_null()).then(count) for name, count in lines.items()}
    return to_table(counts.with_columns(**zeroed, **removed), SIGNALS)


FAMILY = Family(name="c4", signals=SIGNALS, measure=_measure, default=False)

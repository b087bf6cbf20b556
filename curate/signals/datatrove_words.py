r"""Gopher's word statistics as datatrove counts them: on spaCy's English words.

`GopherQualityFilter` and `GopherRepetitionFilter` of datatrove 0.10 (English; other languages there
have other tokenizers). Words are the tokens of `spacy.blank("en")` that are not white space
(`curate.kernels.spacy_words`); a word counts for the number and the mean length unless all its
characters are symbols; stop words are compared as they are, in lower case; an n-gram's fraction is
of all characters of the text. A ratio is null where there is nothing to divide by.

>>> import pyarrow as pa
>>> row = FAMILY.measure(pa.array(["Don't stop, the end."], pa.large_string())).to_pylist()[0]
>>> row["num_words_datatrove"], row["num_stop_words_datatrove"]
(5, 1)
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curate.kernels.buffers import text_buffers
from curate.signals.base import Family, Signal, ratio, to_table

__all__ = ["FAMILY", "STOP_WORDS", "pieces", "word_columns", "word_counts"]

I64 = npt.NDArray[np.int64]

PIECE_BYTES = 1 << 20
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
OWN = ("chars", "tokens", "words", "word_chars", "alpha", "stops", "newlines", "hashes", "ellipses")

SIGNALS = {
    "num_words_datatrove": Signal(pa.int64(), "spaCy words that are not only symbols"),
    "mean_word_length_datatrove": Signal(pa.float64(), "characters per such word"),
    "hash_word_ratio_datatrove": Signal(pa.float64(), "'#' characters per spaCy word"),
    "ellipsis_word_ratio_datatrove": Signal(pa.float64(), "ellipses per spaCy word"),
    "alpha_word_fraction_datatrove": Signal(pa.float64(), "share of spaCy words with a letter"),
    "num_stop_words_datatrove": Signal(pa.int64(), "distinct of Gopher's 8 stop words, lower case"),
    "newline_word_ratio_datatrove": Signal(pa.float64(), "newlines per spaCy word"),
} | {
    name: Signal(pa.float64(), description)
    for width in range(2, 11)
    for name, description in (
        (f"top_{width}_gram_char_fraction_datatrove", f"most common {width}-gram, share of text")
        if width < 5
        else (
            f"duplicate_{width}_gram_char_fraction_datatrove",
            f"{width}-grams met before, without overlaps, share of the text's characters",
        ),
    )
}


def word_counts(texts: Any, stop_words: tuple[str, ...] = STOP_WORDS) -> Mapping[str, I64]:
    """Return the counts of each text, int64 [n] by name; a null counts as an empty text.

    Args:
        texts: pa.LargeStringArray [n].
        stop_words: at most 63, of at most 32 characters.

    Returns:
        The names of `OWN`, `top_2` to `top_4` (characters of the most common n-gram, all copies)
        and `duplicate_5` to `duplicate_10`.
    """
    from curate.kernels import datatrove_words, ngrams, spacy_tables

    assert len(stop_words) <= 63, f"{len(stop_words)} stop words"
    data, offsets = text_buffers(texts)
    out = np.zeros((offsets.size - 1, datatrove_words.NUM_COLUMNS), dtype=np.int64)
    english = spacy_tables.english()
    hashes = spacy_tables.hashes_of(stop_words)
    for first, last in pieces(offsets):
        split = spacy_tables.split_texts(
            data, offsets[first:last], offsets[first + 1 : last + 1], english
        )
        longest = int(np.diff(split.bounds).max(initial=0))
        words, keys = (np.empty(longest + 1, dtype=np.uint64) for _ in range(2))
        groups, counts, picked = (np.empty(longest + 1, dtype=np.uint32) for _ in range(3))
        datatrove_words.count_words(
            *split, english.classes, hashes, words, np.empty(longest + 1, dtype=np.int64), keys,
            groups, counts, picked, np.empty(ngrams.table_size(longest + 1), dtype=np.uint64),
            out[first:last],
        )  # fmt: skip
    columns = dict(zip(OWN, out.T, strict=False))
    grams = ngrams.named_counts(out[:, datatrove_words.NUM_OWN :])
    for column, width in enumerate(ngrams.TOP_WIDTHS):
        joined = grams.top_characters[:, column] + width - 1  # with the spaces between the words
        columns[f"top_{width}"] = grams.top_count[:, column] * joined
    for column, width in enumerate(ngrams.REPEATED_WIDTHS):
        columns[f"duplicate_{width}"] = grams.skipped_characters[:, column]
    return columns


def pieces(offsets: I64) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of consecutive texts of about `PIECE_BYTES` together, at least one."""
    first = 0
    while first < offsets.size - 1:
        limit = offsets[first] + PIECE_BYTES
        last = max(first + 1, int(np.searchsorted(offsets, limit, side="right")) - 1)
        yield first, last
        first = last


def word_columns(texts: Any) -> pl.DataFrame:
    """Return the counts of each text as columns, all null for a null text."""
    counts = word_counts(texts)
    frame = pl.DataFrame({name: np.ascontiguousarray(column) for name, column in counts.items()})
    if texts.null_count:
        frame = frame.select(pl.when(pl.Series(texts.is_valid())).then(pl.all()))
    return frame


def _measure(texts: Any) -> Any:
    tokens, chars = pl.col("tokens"), pl.col("chars")
    frame = word_columns(texts).select(
        num_words_datatrove="words",
        mean_word_length_datatrove=ratio(pl.col("word_chars"), pl.col("words")),
        hash_word_ratio_datatrove=ratio(pl.col("hashes"), tokens),
        ellipsis_word_ratio_datatrove=ratio(pl.col("ellipses"), tokens),
        alpha_word_fraction_datatrove=ratio(pl.col("alpha"), tokens),
        num_stop_words_datatrove="stops",
        newline_word_ratio_datatrove=ratio(pl.col("newlines"), tokens),
        **{
            f"top_{n}_gram_char_fraction_datatrove": ratio(pl.col(f"top_{n}"), chars)
            for n in (2, 3, 4)
        },
        **{
            f"duplicate_{n}_gram_char_fraction_datatrove": ratio(pl.col(f"duplicate_{n}"), chars)
            for n in range(5, 11)
        },
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="datatrove_words", signals=SIGNALS, measure=_measure, default=False)

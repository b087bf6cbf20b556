r"""C4's rules as datatrove applies them, and FineWeb's on the text that they leave.

`C4QualityFilter` (datatrove 0.10) drops lines, then documents: see `curate.kernels.datatrove_c4`.
The signals named `c4_*_datatrove` are those of its defaults; `c4_*_fineweb` those of FineWeb, which
keeps lines without terminal punctuation. FineWeb judges by its own rules the text that C4's have
left, so the other signals named `*_fineweb` are measured on that: null where nothing is left.

>>> import pyarrow as pa
>>> texts = pa.array(["It rained all day. We stayed in.\nRead more here\n"], pa.large_string())
>>> FAMILY.measure(texts).to_pylist()[0]["c4_sentences_datatrove"]
2
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.kernels.buffers import text_buffers
from curate.signals.base import Family, Signal, ratio, to_table
from curate.signals.datatrove_lines import fineweb_ratios, line_columns
from curate.signals.datatrove_words import pieces, word_columns

__all__ = ["FAMILY", "cleaned_by_c4"]

COUNTS = ("sentences", "lorem_ipsum", "curly_bracket")
PYTHON_SPACE = "".join(chr(c) for c in range(0x3001) if chr(c).isspace())

SIGNALS = {
    name: Signal(kind, description)
    for suffix, which in (("datatrove", "C4's lines"), ("fineweb", "FineWeb's lines"))
    for name, kind, description in (
        (f"c4_sentences_{suffix}", pa.int64(), f"sentences of {which}, by spaCy's sentencizer"),
        (f"c4_lorem_ipsum_{suffix}", pa.int64(), f"lines with 'lorem ipsum' among {which}"),
        (f"c4_curly_bracket_{suffix}", pa.int64(), f"lines with a '{{' among {which}"),
    )
} | {
    "terminal_line_fraction_fineweb": Signal(
        pa.float64(), "share of visible lines that end in terminal punctuation, after C4's rules"
    ),
    "short_line_fraction_fineweb": Signal(
        pa.float64(), "share of visible lines of at most 30 characters, after C4's rules"
    ),
    "repeated_line_char_fraction_fineweb": Signal(
        pa.float64(), "characters of visible lines met before, per character, after C4's rules"
    ),
    "newline_word_ratio_fineweb": Signal(pa.float64(), "newlines per spaCy word, after C4's rules"),
}


def cleaned_by_c4(texts: Any, *, terminal: bool) -> tuple[Any, pl.DataFrame]:
    """Return what datatrove's C4 filter leaves of each text, and its counts.

    Args:
        texts: pa.LargeStringArray [n].
        terminal: drop lines that do not end in . ? ! " or '.

    Returns:
        pa.LargeStringArray [n], null for a null; a frame of `COUNTS`, all null for a null.
    """
    from curate.kernels import datatrove_c4, datatrove_words, spacy_tables

    data, offsets = text_buffers(texts)
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    starts = np.ascontiguousarray(offsets[:-1])
    stops = np.ascontiguousarray(offsets[1:])
    longest = int((stops - starts).max(initial=0))
    english = spacy_tables.english()
    out = np.zeros((starts.size, datatrove_c4.NUM_COLUMNS), dtype=np.int64)
    # A line may end without a newline, the last one of each text.
    room = data.size + starts.size
    cleaned = np.empty(room, dtype=np.uint8)
    line_bounds = np.empty(room + 1, dtype=np.int64)
    lines_of = np.empty(starts.size + 1, dtype=np.int64)
    datatrove_c4.clean_c4(
        data, starts, stops, english.classes, terminal, *datatrove_c4.phrases(),
        np.empty(longest + 1, dtype=np.uint32), np.empty(longest + 1, dtype=np.uint32),
        out, cleaned, line_bounds, lines_of,
    )  # fmt: skip
    line_bounds = line_bounds[: lines_of[-1] + 1]
    sentences = np.zeros(line_bounds.size, dtype=np.int64)  # and a last one to add up from
    for first, last in pieces(line_bounds):
        split = spacy_tables.split_texts(
            cleaned, line_bounds[first:last], line_bounds[first + 1 : last + 1] - 1, english
        )
        datatrove_words.count_sentences(*split, english.classes, sentences[first:last])
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(sentences)])[lines_of]
    frame = pl.DataFrame(
        {
            "sentences": np.diff(before),
            **dict(zip(COUNTS[1:], np.ascontiguousarray(out.T), strict=True)),
            "text": _stripped(cleaned, line_bounds[lines_of]),
        }
    )
    if texts.null_count:
        frame = frame.select(pl.when(pl.Series(texts.is_valid())).then(pl.all()))
    text = frame.get_column("text").to_arrow(compat_level=pl.CompatLevel.oldest())
    return text, frame.select(COUNTS)


def _stripped(cleaned: Any, bounds: Any) -> pl.Series:
    """Return the texts `cleaned[bounds[i] : bounds[i + 1]]` without white space at their ends."""
    texts = pa.LargeStringArray.from_buffers(
        bounds.size - 1, pa.py_buffer(np.ascontiguousarray(bounds)), pa.py_buffer(cleaned)
    )
    return pl.Series(texts, dtype=pl.String).str.strip_chars(PYTHON_SPACE)


def _measure(texts: Any) -> Any:
    _, strict = cleaned_by_c4(texts, terminal=True)
    left, mild = cleaned_by_c4(texts, terminal=False)
    words = word_columns(left)
    columns = [
        frame.get_column(count).alias(f"c4_{count}_{suffix}")
        for suffix, frame in (("datatrove", strict), ("fineweb", mild))
        for count in COUNTS
    ]
    frame = (
        line_columns(left)
        .with_columns(words.get_column("tokens"))
        .select(
            *columns,
            **fineweb_ratios("fineweb"),
            newline_word_ratio_fineweb=ratio(pl.col("newlines"), pl.col("tokens")),
        )
    )
    return to_table(frame, SIGNALS)


FAMILY = Family(name="datatrove_c4", signals=SIGNALS, measure=_measure, default=False)

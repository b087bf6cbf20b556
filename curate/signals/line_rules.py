r"""Rules that remove lines: which lines C4 and RefinedWeb keep, told by dialect.

A dialect says how a text is cut into lines, which lines stay, and how a line reads where it stays.
Signals (`curate.signals.c4`, `curate.signals.refinedweb`) and text revisions (`clean: lines`) both
ask here, so they mean the same.

>>> text = "Home\nOne mark is taken out of this line.[12]\nThis one has no end mark at all"
>>> keep_lines(pl.Series([text]), "c4_tfds").to_list()
['One mark is taken out of this line.']
>>> keep_lines(pl.Series([text]), "refinedweb_dclm").to_list()[0].splitlines()[0]
'One mark is taken out of this line.[12]'

What drops a whole text (`{`, lorem ipsum, too few sentences) is a rule over signals and no matter
of lines. The references are Python: white space is what `str.split` takes for it, U+001C to U+001F
included, and lower case finds the Kelvin sign (U+212A) in words with a k.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from curate.corpus.errors import InputError, one_of

__all__ = [
    "DIALECTS",
    "LineDialect",
    "judge_lines",
    "keep_lines",
    "keeps_line",
    "line_dialect",
    "lines_of",
    "strip",
]

PYTHON_SPACE = r"\s\x{1C}-\x{1F}"  # inside a class of a regular expression
WORD = rf"[^{PYTHON_SPACE}]"
SPACE_CHARACTERS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# What `str.splitlines` cuts at beside the newline.
OTHER_LINE_ENDS = r"\r\n?|[\x{0B}\x{0C}\x{1C}-\x{1E}\x{85}\x{2028}\x{2029}]"

C4_MARKS = (".", "?", "!", '"')
CITATION = r"\[\d*\]|\[edit\]|\[citation needed\]"
MAX_WORD_CHARS = 1000
KELVIN = "\u212a"
POLICY = (
    "terms of use",
    "privacy policy",
    *(word for k in ("k", KELVIN) for word in (f"coo{k}ie policy", f"uses coo{k}ies")),
    *(word for k in ("k", KELVIN) for word in (f"use of coo{k}ies", f"use coo{k}ies")),
)

CAPITAL = r"\p{Uppercase}"
# Digits beside Unicode's decimal numbers: superscripts, circled digits and such (`str.isdigit`).
DIGIT = (
    r"\p{Nd}\x{B2}-\x{B3}\x{B9}\x{1369}-\x{1371}\x{19DA}\x{2070}\x{2074}-\x{2079}\x{2080}-\x{2089}"
    r"\x{2460}-\x{2468}\x{2474}-\x{247C}\x{2488}-\x{2490}\x{24EA}\x{24F5}-\x{24FD}\x{24FF}"
    r"\x{2776}-\x{277E}\x{2780}-\x{2788}\x{278A}-\x{2792}\x{10A40}-\x{10A43}\x{10E60}-\x{10E68}"
    r"\x{11052}-\x{1105A}\x{1F100}-\x{1F10A}"
)
NOT_A_WORD = r"[^\p{L}\p{N}_]*"
# What a byte search looks for, and what a line that holds it must match.
COUNTED = (
    *("shares", "comments", "retweets", "reposts", "quotes", "upvotes", "downvotes", "downloads"),
    *("views", "followers", "likes", f"li{KELVIN}es", "boo"),
)
COUNTER = (
    rf"^{NOT_A_WORD}\d[,.\d]*[KkMmBb\x{{212A}}]?[{PYTHON_SPACE}]+"
    r"(?:(?i-u:shares|comments|retweets|reposts|quotes|upvotes|downvotes|downloads|views|followers)"
    r"|(?i-u:li)[kK\x{212A}](?i-u:es)|(?i-u:boo)[kK\x{212A}](?i-u:mar)[kK\x{212A}](?i-u:s))"
    rf"{NOT_A_WORD}$"
)
# Taken out of lines of at most 10 words: "items in cart", "Read more..." (a regular expression: the
# dots match anything) at the end, "Sign-in" at the beginning; Python's IGNORECASE knows more cases.
NOTICED = ("n cart", "read more", "gn-")
_I, _S, _GAP = r"[iI\x{130}\x{131}]", r"[sS\x{17F}]", f"[{PYTHON_SPACE}]?"
NOTICES = (
    rf"{_GAP}{_I}(?i-u:tem){_S} {_I}(?i-u:n cart)",
    rf"{_GAP}(?i-u:read more)[^\n]{{3}}$",
    rf"^{_S}{_I}(?i-u:gn-){_I}(?i-u:n){_GAP}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDialect:
    """How one reference removes lines.

    Attributes:
        name: `<rules>_<reference>`.
        source: the project and its file.
        every_line_end: lines end wherever `str.splitlines` ends them, else at a newline only.
        judge: frame with a column `line` (as cut) -> the same rows with `line` as it reads where
            it stays, and `kept`, boolean; other columns are left alone, and dialects of C4 add
            `reached` (C4 looked into the line) and `notice` (JavaScript or a policy).
    """

    name: str
    source: str
    every_line_end: bool
    judge: Callable[[pl.DataFrame], pl.DataFrame]


def lines_of(texts: pl.Series, dialect: str) -> pl.DataFrame:
    """Return every line of every text, untrimmed: `document` (the row, uint32) and `line`.

    A null text has one line, null; an empty one has one empty line.
    """
    text = pl.col("text")
    if line_dialect(dialect).every_line_end:
        text = text.str.replace_all(OTHER_LINE_ENDS, "\n")
    documents = texts.alias("text").to_frame().with_row_index("document")
    return documents.select("document", line=text.str.split("\n")).explode("line")


def judge_lines(lines: pl.DataFrame, dialect: str) -> pl.DataFrame:
    """Return the frame of `lines_of` judged: see `LineDialect.judge`."""
    return line_dialect(dialect).judge(lines)


def keeps_line(lines: pl.Series, dialect: str) -> pl.Series:
    """Return whether each line (as cut) stays; null for null."""
    judged = judge_lines(lines.alias("line").to_frame(), dialect)
    return judged.get_column("kept").alias(lines.name)


def keep_lines(texts: pl.Series, dialect: str) -> pl.Series:
    """Return the texts without the lines that the dialect removes.

    Lines that stay are joined by newlines and read as the dialect leaves them (C4 trims them and
    takes citation marks out); the text is trimmed, and empty where no line stays. Null stays null.

    Raises:
        InputError: there is no such dialect.
    """
    judged = judge_lines(lines_of(texts, dialect), dialect).filter("kept")
    joined = judged.group_by("document", maintain_order=True).agg(pl.col("line").str.join("\n"))
    documents = texts.alias("text").to_frame().with_row_index("document")
    result = documents.join(joined, on="document", how="left", maintain_order="left")
    kept = strip(pl.col("line").fill_null(""))
    kept_text = pl.when(pl.col("text").is_not_null()).then(kept)
    return result.select(kept_text.alias(texts.name)).to_series()


def strip(line: pl.Expr) -> pl.Expr:
    """Return the line without the white space around it, as Python's `strip`."""
    return line.str.strip_chars(SPACE_CHARACTERS)


def has_words(line: pl.Expr, at_least: int) -> pl.Expr:
    """Return whether the line has so many words; reads no further than the last of them."""
    gap = f"[{PYTHON_SPACE}]"
    return line.str.contains(rf"^{gap}*(?:{WORD}+{gap}+){{{at_least - 1}}}{WORD}")


def ends_with(line: pl.Expr, marks: tuple[str, ...]) -> pl.Expr:
    """Return whether the line ends with one of the marks."""
    return pl.any_horizontal(*(line.str.ends_with(mark) for mark in marks))


def contains(line: pl.Expr, *phrases: str) -> pl.Expr:
    """Return whether the line holds one of the phrases, in any ASCII case."""
    return line.str.contains_any(list(phrases), ascii_case_insensitive=True)


def _c4(
    lines: pl.DataFrame, *, marks: tuple[str, ...], min_words: int, cited: bool
) -> pl.DataFrame:
    """Judge lines as C4 does; `cited`: words are counted with the citation marks still in."""
    line, trimmed = pl.col("line"), pl.col("trimmed")
    lines = lines.with_columns(trimmed=strip(line))
    lines = lines.with_columns(line=trimmed.str.replace_all(CITATION, ""))
    lines = lines.with_columns(ended=ends_with(line, marks) & ~line.str.ends_with("..."))
    counted = pl.when("ended").then(trimmed if cited else line)
    # A word of more than 1,000 characters needs a line of more bytes; nearly no line has them.
    lines = lines.with_columns(
        counted=counted, long=pl.when(trimmed.str.len_bytes() > MAX_WORD_CHARS).then(trimmed)
    )
    reached = pl.col("ended") & has_words(pl.col("counted"), min_words).fill_null(value=False)
    lines = lines.with_columns(reached=reached)
    if lines.get_column("long").null_count() < lines.height:
        words = pl.col("long").str.extract_all(f"{WORD}+")
        longest = words.list.eval(pl.element().str.len_chars()).list.max().fill_null(0)
        lines = lines.with_columns(reached=pl.col("reached") & (longest <= MAX_WORD_CHARS))
    lines = lines.with_columns(counted=pl.when("reached").then(line))
    notice = contains(pl.col("counted"), "javascript", *POLICY).fill_null(value=False)
    lines = lines.with_columns(notice=notice).drop("trimmed", "ended", "counted", "long")
    kept = pl.when(line.is_not_null()).then(pl.col("reached") & ~pl.col("notice"))
    return lines.with_columns(kept=kept)


def _c4_tfds(lines: pl.DataFrame) -> pl.DataFrame:
    return _c4(lines, marks=C4_MARKS, min_words=5, cited=False)


def _c4_datatrove(lines: pl.DataFrame) -> pl.DataFrame:
    return _c4(lines, marks=(*C4_MARKS, "'"), min_words=3, cited=True)


def _c4_dolma(lines: pl.DataFrame) -> pl.DataFrame:
    lines = lines.with_columns(trimmed=strip(pl.col("line")))
    trimmed = pl.col("trimmed")
    kept = ends_with(trimmed, C4_MARKS) & has_words(trimmed, 3)
    return lines.with_columns(kept=kept).drop("trimmed")


def _refinedweb(lines: pl.DataFrame) -> pl.DataFrame:
    line, part = pl.col("line"), pl.col("part")
    # A line that is more than half capitals has two side by side, or one at either end.
    capitals = line.str.contains(rf"{CAPITAL}{{2}}|^{CAPITAL}(?:.*{CAPITAL})?$")
    lines = lines.with_columns(part=pl.when(capitals).then(line))
    shouted = part.str.count_matches(CAPITAL).cast(pl.Int64) * 2 > part.str.len_chars()
    digits = line.str.contains(rf"^[{DIGIT}]+$")
    lines = lines.with_columns(
        kept=~shouted.fill_null(value=False) & ~digits & has_words(line, 2),
        part=pl.when(contains(line, *COUNTED)).then(line),
    )
    lines = lines.with_columns(
        kept=pl.col("kept") & ~part.str.contains(COUNTER).fill_null(value=False), as_cut=line
    )
    found = lines.select(contains(line, *NOTICED).fill_null(value=False)).to_series()
    lines = lines.drop("part").with_columns(blank=pl.lit(value=False))
    noticed = lines.get_column("line").alias("part").filter(found)
    if len(noticed):
        lines = lines.with_columns(**_without_notices(lines.get_column("line"), found, noticed))
    kept = (pl.col("as_cut") == "") | (pl.col("kept") & ~pl.col("blank"))
    return lines.with_columns(kept=kept).drop("as_cut", "blank")


def _without_notices(
    lines: pl.Series, found: pl.Series, noticed: pl.Series
) -> dict[str, pl.Series]:
    """Return `line` without the notices, and `blank` where nothing is left of a line.

    Few lines hold a notice: `noticed` are those of `lines` where `found` is true.
    """
    part = pl.col("part")
    frame = noticed.to_frame()
    for pattern in NOTICES:
        shorter = pl.when(~has_words(part, 11)).then(part.str.replace_all(pattern, ""))
        frame = frame.with_columns(shorter.fill_null(part))
    left = frame.get_column("part")
    gone = frame.select(~has_words(part, 1)).to_series()
    place = (found.cum_sum().cast(pl.Int64) - 1).clip(0)
    choice = pl.DataFrame({"line": lines, "found": found, "left": left.gather(place)})
    revised = pl.when("found").then("left").otherwise("line")
    return {
        "line": choice.select(revised.alias("line")).to_series(),
        "blank": found & gone.gather(place),
    }


_KNOWN = (
    LineDialect(
        name="c4_tfds",
        source="tensorflow/datasets, text/c4_utils.py, clean_page",
        every_line_end=True,
        judge=_c4_tfds,
    ),
    LineDialect(
        name="c4_datatrove",
        source="datatrove 0.10.1, pipeline/filters/c4_filters.py, C4QualityFilter",
        every_line_end=True,
        judge=_c4_datatrove,
    ),
    LineDialect(
        name="c4_dolma",
        source="dolma 1.2.1, taggers/c4.py (c4_v2) with configs/c4-replication/mixer.yaml",
        every_line_end=False,
        judge=_c4_dolma,
    ),
    LineDialect(
        name="refinedweb_dclm",
        source="mlfoundations/dclm, baselines_configs/dclm_baseline_refinedweb.yaml, modifiers.py",
        every_line_end=False,
        judge=_refinedweb,
    ),
)
DIALECTS: Mapping[str, LineDialect] = {dialect.name: dialect for dialect in _KNOWN}


def line_dialect(name: str) -> LineDialect:
    """Return a dialect by name.

    Raises:
        InputError: there is no such dialect; the message lists those there are.
    """
    found = DIALECTS.get(name)
    if found is None:
        raise InputError(one_of("dialect of line rules", str(name), DIALECTS))
    return found

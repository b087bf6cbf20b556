r"""Questionable sentences (Kudugunta et al. 2023, MADLAD-400, arXiv:2309.04662, section 2.3).

A document goes when more than a fifth of its sentences are questionable: more than half of at least
12 words begin with a capital; fewer than 20 characters or more than 500; more than a fifth of the
characters are digits or one of `{}+/()>`; or one of the paper's "cursed" patterns is found (its
appendix; placeholder Latin, broken encodings, adverts). Its fifth criterion, a sentence in another
language than its document, needs a language model and is not measured here.

The paper leaves open what a sentence is. Here, as in AI2's datamap-rs, one ends behind `.`, `!` or
`?` and white space, without these, and blank ones are left out; so a line alone ends none. Words
are white-space words and lengths are characters (datamap-rs: Unicode's words, and bytes; and it
reads all but the last four patterns as plain text, in which a `\.` is never found). U+0000 ends
a sentence too.

>>> import pyarrow as pa
>>> text = "The rain fell on all of the fields. Download MP3! It went on for two days and nights."
>>> row = FAMILY.measure(pa.array([text], pa.large_string())).to_pylist()[0]
>>> row["num_sentences_madlad"], row["cursed_sentence_fraction_madlad"]
(3, 0.3333333333333333)
"""

from typing import Any

import polars as pl
import pyarrow as pa

from curate.signals.base import WORD, Family, Signal, ratio, text_frame, to_table

__all__ = ["CURSED", "FAMILY"]

END = r"[.!?]+\s+"
MIN_WORDS, MIN_CHARS, MAX_CHARS = 12, 20, 500
TECHNICAL = r"[0-9{}+/()>]"
CURSED = (
    " \u2116", "\ufffd\ufffd\ufffd", r"\|\s*$", r" nr\.$", "aute irure dolor ",
    " sunt in culpa qui ", "orem ipsum ", " quis nostrud ", " adipisicing ", " dolore eu ",
    " cupidatat ", "autem vel eum", "wisi enim ad", " sex ", " porn ", "\u9ec4\u8272\u7535\u5f71",
    "mp3", "ownload", r"Vol\.", r" Ep\.", "Episode", " \u0433\\.\\s*$", " \u043a\u0433\\.\\s*$",
    " \u0448\u0442\\.", "Develop", "Facebook", " crusher ", " xxx ",
    # In these a dot is any character.
    " ..." * 9, " ...." * 9, " [^ ]" * 9, ", ..,,? ..,,? ..,,? ..,,?",
)  # fmt: skip
KINDS = ("cased", "length", "technical", "cursed")

SIGNALS = {
    "num_sentences_madlad": Signal(pa.int64(), "sentences that are not blank"),
    **{
        f"{kind}_sentence_fraction_madlad": Signal(pa.float64(), f"share of sentences {which}")
        for kind, which in (
            ("cased", "of 12 words and more, most of which begin with a capital"),
            ("length", "of fewer than 20 or more than 500 characters"),
            ("technical", "with more than a fifth digits and signs of markup"),
            ("cursed", "that hold one of the paper's patterns"),
            ("questionable", "with one of these faults or more"),
        )
    },
}


def _measure(texts: Any) -> Any:
    documents = text_frame(texts).with_row_index("document")
    sentence = pl.col("sentence")
    cut = pl.col("text").str.replace_all(END, "\x00").str.split("\x00")
    sentences = (
        documents.select("document", sentence=cut)
        .explode("sentence")
        .filter(sentence.str.contains(r"\S"))
        .with_columns(
            chars=sentence.str.len_chars().cast(pl.Int64),
            words=sentence.str.count_matches(WORD).cast(pl.Int64),
            capitals=sentence.str.count_matches(r"(?:^|\s)\p{Uppercase}").cast(pl.Int64),
            signs=sentence.str.count_matches(TECHNICAL).cast(pl.Int64),
        )
        .with_columns(
            cased=(pl.col("words") >= MIN_WORDS) & (pl.col("capitals") * 2 > pl.col("words")),
            length=~pl.col("chars").is_between(MIN_CHARS, MAX_CHARS),
            technical=pl.col("signs") * 5 > pl.col("chars"),
            cursed=sentence.str.contains("|".join(CURSED)),
        )
        .with_columns(questionable=pl.any_horizontal(*KINDS))
    )
    counts = sentences.group_by("document").agg(
        pl.len().cast(pl.Int64).alias("num"),
        *(pl.col(kind).sum().cast(pl.Int64) for kind in (*KINDS, "questionable")),
    )
    frame = documents.join(counts, on="document", how="left", maintain_order="left")
    num = pl.when(pl.col("text").is_not_null()).then(pl.col("num").fill_null(0))
    shares = {
        f"{kind}_sentence_fraction_madlad": ratio(pl.col(kind), pl.col("num"))
        for kind in (*KINDS, "questionable")
    }
    return to_table(frame.with_columns(num_sentences_madlad=num, **shares), SIGNALS)


FAMILY = Family(name="madlad", signals=SIGNALS, measure=_measure, default=False)

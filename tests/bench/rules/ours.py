"""Our own decisions: the preset's signals measured, its rules evaluated, as a run does it."""

import random
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.kernels import spacy_classes
from curate.kernels.spacy_exceptions import UNITS, exceptions
from curate.kernels.spacy_tables import english, words_of
from curate.rules.preset import preset_rules
from curate.rules.verdict import evaluate
from curate.signals.registry import available_columns, families, measure

BLOCK = 500
FLAGS = (
    *("ALPHA", "LOWER", "UPPER", "PREFIX", "SUFFIX", "INFIX", "QUOTE", "BEFORE_DOT", "CURRENCY"),
    *("SENTENCE", "SYMBOL", "TERMINAL", "SPACE", "LETTER", "WORD", "DECIMAL", "PUNCTUATION"),
    "LINE_BREAK",
)
MARKS = (
    ".,:;!?()[]{}'\"-=/<>@#$+*^_~%\u2026\u2019\u2018\u201c\u2014\u2013\xb0\xd7 \n\t059kmsSUSACTGMx"
)


def decide(preset: str, texts: Sequence[str]) -> tuple[dict[str, list[bool]], float]:
    """Return rule -> kept, per text, and `*` for all rules; and the CPU seconds it took."""
    rules = preset_rules(preset, available_columns())
    read = {column for rule in rules for column in rule.reads}
    needed = [name for name, family in families().items() if read & set(family.signals)]
    measure(pa.array(["Compile first."], pa.large_string()), needed)
    columns = []
    start = time.process_time()
    for first in range(0, len(texts), BLOCK):
        block = pa.array(texts[first : first + BLOCK], pa.large_string())
        columns.append(evaluate(rules, pl.DataFrame(measure(block, needed))))
    seconds = time.process_time() - start
    frame = pl.concat(columns).rename(lambda reason: reason.rpartition(".")[2])
    whole = frame.select(pl.all_horizontal(pl.all()).alias("*"))
    return pl.concat([frame, whole], how="horizontal").to_dict(as_series=False), seconds


def splitter_facts(texts: Sequence[str]) -> dict[str, Any]:
    """Return our side of what splitter.py compares: tables, and the tokens of texts.

    Each text is also there with marks strewn into a piece of it, and so is what exceptions make
    when they meet each other.
    """
    pick = random.Random(1)
    hostile = []
    for text in texts:
        start = pick.randrange(len(text))
        piece = list(text[start : start + 120])
        for _ in range(12):
            piece.insert(pick.randrange(len(piece) + 1), pick.choice(MARKS))
        hostile.append("".join(piece))
        chunks = pick.choices(sorted(exceptions()), k=6)
        hostile.append("".join(chunk + pick.choice(("", " ", "-", "a", ".")) for chunk in chunks))
    splitter = english()
    table = spacy_classes.classes()
    return {
        "flags": {name: _ranges(table & getattr(spacy_classes, name)) for name in FLAGS},
        "exceptions": {chunk: list(pieces) for chunk, pieces in exceptions().items()},
        "units": list(UNITS),
        "texts": [
            (text, blake2b("\0".join(words_of(text, splitter)).encode(), digest_size=8).hexdigest())
            for text in (*texts, *hostile)
        ],
    }


def _ranges(flags: Any) -> list[tuple[int, int]]:
    codes = np.flatnonzero(flags)
    cuts = np.flatnonzero(np.diff(codes) > 1)
    firsts, lasts = codes[np.r_[0, cuts + 1]], codes[np.r_[cuts, codes.size - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

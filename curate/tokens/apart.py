"""What tells two encoders apart: difficult texts, and code points that they class differently.

A tokenizer splits text into words by what each character is: letter, number, white space, other.
Two libraries with tables of different Unicodes split a text with a newer letter differently. So
both are asked for every code point between its neighbours, with merges that show any split, and
what they see differently is told. Planes 4 and above are alike: no letter, number or blank yet.
"""

import importlib.metadata
import itertools
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.identity import canonical_json, fingerprint
from curate.kernels.buffers import text_buffers
from curate.kernels.tables import TABLE_SIZE, kept_table
from curate.tokens.tokenizer import byte_letters

__all__ = ["Flat", "difficult_texts", "every_letter", "unlike_points"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
Flat = Callable[[U8, I64], tuple[U32, I64]]

# In plane 3, what is above this is not assigned yet.
_END = 0x34000
# Han, Hangul, private use: the same since Unicode 3.1, so a few of them are asked for all.
_OLD = ((0x3400, 0x4DB5), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x20000, 0x2A6D6))
_STEP = 31
_RUN = 256  # code points that are compared at once
_NEIGHBOURS = "aA1."
# Where {} stands next to a letter, a number or a sign, one word shows in the ids.
_GPT2 = ("{}a", "{}1", "{}.")
# As many more as the patterns and normal forms in use tell apart: cases, marks, contractions.
_OTHERS = (*_GPT2, "a{}", "1{}", "..{}", "{}Aa", "'{}a", " {}a", "e{}\u0323", "{}{}")
_MANY = 1000  # added tokens
# Where tokenizers part ways: classes of characters, contractions, numbers, runs of blanks.
_ODD = (
    *("a", "The", "WORD", "camelCase", "don't", "I'LL", "'S", "\u2019s", "e\u0301", "\u00e9"),
    *("1", "1234567", "3.14", "\u00b2", "\u2167", "\u0663", " ", "  ", " " * 9, "\t", "\n", "\n\n"),
    *("\r\n", "\x00", "\x0b", "\x1f", "\x85", "\u00a0", "\u2028", "\u3000", "\u200b", "\ufeff"),
    *("_", "-", "...", "!?", "/", "</", "<|", "|>", "#", "\u2014", "\u2581", "\ud55c\uad6d"),
    *(
        "\u4e2d\u6587",
        "\u3042",
        "\u0e01\u0e33",
        "\u0928\u092e\u0938\u094d",
        "\u0639\u0631",
        "\u017f",
    ),
    *("\u0130", "\u01c5", "\u00df", "\ufb01", "\u1e9e", "\U0001d49c", "\U0001f600", "\u200d"),
    *("\U0001f468\u200d\U0001f469", "\U0010ffff", "\ue000", "\u0378", "\u202e"),
)


def difficult_texts(added_tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return texts where tokenizers part ways, with what is added to the vocabulary in them."""
    texts = ["", *_ODD, "".join(a + b for a in _ODD for b in _ODD)]
    for token in [token["content"] for token in added_tokens][:_MANY]:
        texts.append(
            f"{token}{token} {token} x{token}y\u00e9{token[:-1]}{token}{token[1:]}\n {token}\n"
        )
        if not token.isascii():
            texts += [unicodedata.normalize(form, token) for form in ("NFC", "NFD", "NFKC")]
    return texts


def every_letter() -> list[str]:
    """Return texts of most code points, in runs; letters and marks also between others."""
    every = (range(0x3400), range(0xA000, 0xAC00), range(0xF900, 0x17000), range(0x18D00, 0x20000))
    some = (range(0x3400, 0xA000, 97), range(0xAC00, 0xD800, 97), range(0xE000, 0xF900, 97))
    few = (range(0x17000, 0x18D00, 97), range(0x20000, 0x110000, 997))
    points = list(map(chr, itertools.chain(*every, *some, *few)))
    runs = [points[i : i + 256] for i in range(0, len(points), 256)]
    between = ["".join(f"a{c}b {c}1" for c in letters) for letters in runs[: 0x3400 // 256]]
    return [*map("".join, runs), *between]


def unlike_points(
    data: dict[str, Any], load: Callable[[dict[str, Any]], tuple[Flat, Flat]], *, gpt2: bool
) -> U8:
    """Return which code points two encoders see differently, uint8 [TABLE_SIZE], 0 or 1.

    It takes 1 s for GPT-2's word split, 4 s for another; then the table is kept on the machine.

    Args:
        data: a `tokenizer.json`.
        load: (a `tokenizer.json`) -> two encoders, each (bytes [total], int64 offsets [n + 1]) ->
            (uint32 ids, int64 offsets [n + 1]).
        gpt2: whether words are split as GPT-2 does and the text is not normalised.

    Raises:
        Whatever `load` and the encoders raise.
    """
    contexts = _GPT2 if gpt2 else _OTHERS
    probe = _probe(data)
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "gigatoken")]
    content = canonical_json([probe, contexts, versions, unicodedata.unidata_version, _END, _STEP])
    return kept_table(
        f"unlike-{fingerprint(content)}", lambda: _asked(*load(probe), contexts, probe)
    )


def _probe(data: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer that splits text alike, and whose ids show where if it is byte-level."""
    nothing = dict.fromkeys(("post_processor", "truncation", "padding"))
    probe = {**data, **nothing, "added_tokens": []}
    byte_level = '"ByteLevel"' in json.dumps(data["pre_tokenizer"])
    if data["model"].get("type") != "BPE" or not byte_level:
        return probe
    from tokenizers import Tokenizer, models

    letters = byte_letters()
    merges = [
        *((last, near) for last in letters[0x80:0xC0] for near in _NEIGHBOURS),
        *((near, first) for first in letters[0xC2:0xF5] for near in _NEIGHBOURS),
    ]
    vocab = {piece: i for i, piece in enumerate((*letters, *map("".join, merges)))}
    model = json.loads(Tokenizer(models.BPE(vocab=vocab, merges=merges)).to_str())["model"]
    return {**probe, "model": model}


def _asked(one: Flat, two: Flat, contexts: tuple[str, ...], probe: dict[str, Any]) -> U8:
    """Ask both encoders: runs of code points at once, then each of the runs that differ."""
    asked = np.ones(_END, dtype=np.bool_)
    asked[0xD800:0xE000] = False
    for first, last in _OLD:
        asked[first : last + 1] = np.arange(last + 1 - first) % _STEP == 0
    codes = np.flatnonzero(asked)
    texts = ["\n".join(context.replace("{}", chr(c)) for context in contexts) for c in codes]
    runs = ["\n".join(texts[i : i + _RUN]) for i in range(0, len(texts), _RUN)]
    found = _different(one, two, runs)
    rows = [row for i in found for row in range(i * _RUN, min((i + 1) * _RUN, len(texts)))]
    differ = _different(one, two, [texts[row] for row in rows])
    table = np.zeros(TABLE_SIZE, dtype=np.uint8)
    table[codes[[rows[i] for i in differ]]] = 1
    if probe["normalizer"] is not None:
        table[[code for code in range(_END) if _composes_lately(chr(code))]] = 1
    return table


def _different(one: Flat, two: Flat, texts: list[str]) -> list[int]:
    """Return which texts get different ids."""
    column = text_buffers(pa.array(texts, pa.large_string()))
    (mine, ends), (theirs, stops) = one(*column), two(*column)
    return [
        i
        for i in range(len(texts))
        if not np.array_equal(mine[ends[i] : ends[i + 1]], theirs[stops[i] : stops[i + 1]])
    ]


def _composes_lately(letter: str) -> bool:
    """Whether versions of Unicode may normalise it differently; since 3.2 they are stable."""
    if unicodedata.ucd_3_2_0.category(letter) != "Cn":
        return False
    lately = unicodedata.category(letter)
    return lately == "Cn" or lately[0] == "M" or bool(unicodedata.decomposition(letter))

"""Compare our splitter with spaCy and datatrove, in their environment: `splitter.py OURS OUT`.

OURS holds our flags per code point as ranges, our exceptions and units, and texts with the digest
of our tokens; OUT gets `[what, compared, different]` rows. The standard library and the two only.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import spacy
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from spacy.lang import char_classes as classes
from spacy.pipeline.sentencizer import Sentencizer
from spacy.symbols import ORTH

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def expected(tokenizer) -> dict[str, Callable[[str], object]]:
    """Return what each of our flags says of a character, as the packages have it."""

    def one_of(inside: str) -> Callable[[str], object]:
        return re.compile(f"[{inside}]").match

    before_dot = rf"0-9{classes.ALPHA_LOWER}%\xb2\-\+{classes.PUNCT}(?:{classes.CONCAT_QUOTES})"
    return {
        "ALPHA": one_of(classes.ALPHA),
        "LOWER": one_of(classes.ALPHA_LOWER),
        "UPPER": one_of(classes.ALPHA_UPPER),
        "PREFIX": lambda char: char != "+" and tokenizer.prefix_search(char),
        "SUFFIX": tokenizer.suffix_search,
        "INFIX": lambda char: list(tokenizer.infix_finditer(char)),
        "QUOTE": one_of(classes.CONCAT_QUOTES),
        "BEFORE_DOT": one_of(before_dot),
        "CURRENCY": re.compile(f"(?:{classes.CURRENCY})$").match,
        "SENTENCE": set(Sentencizer.default_punct_chars).__contains__,
        "SYMBOL": PUNCTUATION_SET.__contains__,
        "TERMINAL": TERMINAL_PUNCTUATION.__contains__,
        "SPACE": str.isspace,
        "LETTER": str.isalpha,
        "WORD": one_of(r"\w"),
        "DECIMAL": one_of(r"\d"),
        "PUNCTUATION": lambda char: unicodedata.category(char)[0] == "P",
        "LINE_BREAK": lambda char: len(f"a{char}b".splitlines()) == 2,
    }


def main() -> None:
    """Compare characters, exceptions, units and the tokens of texts."""
    source, out = map(Path, sys.argv[1:])
    ours = json.loads(source.read_text())
    language = spacy.blank("en")
    rows = []
    for flag, says in expected(language.tokenizer).items():
        have = {code for low, high in ours["flags"][flag] for code in range(low, high + 1)}
        different = sum((code in have) != bool(says(chr(code))) for code in CODES)
        rows.append([f"characters, {flag}", len(CODES), different])
    rules = {
        chunk: [piece[ORTH] for piece in pieces]
        for chunk, pieces in language.tokenizer.rules.items()
    }
    different = sum(ours["exceptions"].get(chunk) != pieces for chunk, pieces in rules.items())
    different += len(ours["exceptions"].keys() - rules.keys())
    rows.append(["exceptions", len(rules), different])
    units = set(classes.LIST_UNITS)
    rows.append(["units", len(units), len(units ^ set(ours["units"]))])
    different = 0
    for text, digest in ours["texts"]:
        with language.memory_zone():
            tokens = [token.text for token in language.tokenizer(text)]
        different += blake2b("\0".join(tokens).encode(), digest_size=8).hexdigest() != digest
    rows.append(["tokens of texts", len(ours["texts"]), different])
    out.write_text(json.dumps(rows))


main()

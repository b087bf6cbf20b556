"""Scripts, health, entropy, languages and their like against slow twins; licences and hosts."""

import gzip
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from curate.corpus.errors import IntegrityError
from curate.kernels.scripts import SCRIPTS
from curate.kernels.words import normalise_words
from curate.signals import language
from curate.signals.license import normalised
from curate.signals.registry import families, measure

SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *[
                "e.g. ",
                "End. ",
                "so?) ",
                "...",
                "caf\u00c3\u00a9",
                "\u00e2\u20ac\u2122",
                " ",
                "the",
            ],
            *["\u4f60\u597d\u3002", "\u30ab\u306a", "\u0627\u0644", "\x07", "\ue000", "\u0378"],
            *["a" * 70, "\U000f0000", "\U000e0041", "\U00050000", "\n", "__label__en", "\x00"],
            *["\x1c", "\ufffd"],
        ]
    ),
)
TEXT = st.lists(PIECES, max_size=20).map("".join)
TEXTS = st.lists(st.none() | TEXT, max_size=5)


def column(texts: Iterable[str | None]) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def slow_script(text: str) -> dict[str, Any]:
    common = [range(0x2000, 0x2C00), range(0x2B0, 0x300), range(0x1D400, 0x1D800)]
    scripts: Counter[str] = Counter()
    for c in text:
        if unicodedata.category(c)[0] != "L" or any(ord(c) in codes for codes in common):
            continue
        if c in "\u00aa\u00b5\u00ba\u30fc\uff70":
            continue
        words = [w for w in unicodedata.name(c, "?").split() if w not in ("FULLWIDTH", "HALFWIDTH")]
        scripts[SCRIPTS.get(words[0], "Zzzz") if ord(c) < 0x40000 else "Zzzz"] += 1
    if 10 * scripts["Jpan"] > scripts["Jpan"] + scripts["Hani"]:
        scripts["Jpan"] += scripts.pop("Hani", 0)
    order = [*dict.fromkeys(SCRIPTS.values()), "Zzzz"]
    best = max(order, key=lambda name: scripts[name])
    if not scripts.total():
        return {"script": None, "script_share": None}
    return {"script": best, "script_share": scripts[best] / scripts.total()}


def slow_mojibake(text: str) -> int:
    looks = {chr(b) for b in range(0x80, 0xC0)}
    looks |= {bytes([b]).decode("cp1252", "ignore") for b in range(0x80, 0xC0)} - {""}
    found = at = 0
    while at < len(text):
        code = ord(text[at])
        wanted = 0
        if 0xC2 <= code <= 0xC5 or 0xCE <= code <= 0xD1:
            wanted = 1
        elif 0xE2 <= code <= 0xEF:
            wanted = 2
        run = text[at + 1 : at + 1 + wanted]
        if wanted and len(run) == wanted and set(run) <= looks:
            found += 1 + wanted
            at += 1 + wanted
        else:
            at += 1
    return found


def slow_characters(text: str) -> dict[str, Any]:
    kinds = Counter(unicodedata.category(c) for c in text if c not in "\t\n\r\ufffd")
    counts = {
        "replacement_fraction": text.count("\ufffd"),
        "control_fraction": kinds["Cc"],
        "private_use_fraction": kinds["Co"] if text else 0,
        "unassigned_fraction": sum(
            unicodedata.category(c) == "Cn" and not 0xE0000 <= ord(c) < 0xF0000 for c in text
        ),
        "mojibake_fraction": slow_mojibake(text),
    }
    counts["private_use_fraction"] += sum(
        ord(c) >= 0xF0000 and unicodedata.category(c) != "Co" for c in text
    )
    counts["unassigned_fraction"] -= sum(
        ord(c) >= 0xF0000 and unicodedata.category(c) == "Cn" for c in text
    )
    shares = {name: n / len(text) if text else None for name, n in counts.items()}
    return slow_script(text) | shares


def bits(units: Iterable[Any]) -> float | None:
    counts = Counter(units)
    total = counts.total()
    if not total:
        return None
    return math.log2(total) - sum(n * math.log2(n) for n in counts.values()) / total


def slow_entropy(text: str) -> dict[str, Any]:
    words = normalise_words(column([text]))[0].to_pylist()
    return {
        "char_entropy": bits(text),
        "word_entropy": bits(words),
        "word_bigram_entropy": bits(pairwise(words)),
    }


def slow_compressibility(text: str) -> dict[str, Any]:
    packer = zstandard.ZstdCompressor(level=1, write_content_size=False)
    data = text.encode()
    return {"compression_ratio": len(packer.compress(data)) / len(data) if data else None}


def slow_sentences(text: str) -> dict[str, Any]:
    narrow, wide = ".!?\u2026\u061f\u06d4\u0964\u0965\u1362\u1367", "\u3002\uff01\uff1f\uff61\uff0e"
    closing = "\"')]\u2019\u201d\u00bb"
    ends = at = 0
    while at < len(text):
        stop = at
        while stop < len(text) and text[stop] in narrow:
            stop += 1
        behind = stop
        while behind < len(text) and text[behind] in closing:
            behind += 1
        if stop > at and (behind == len(text) or text[behind] in SPACE):
            ends, at = ends + 1, behind
        elif text[at] in wide:
            while at < len(text) and text[at] in wide:
                at += 1
            ends += 1
        else:
            at = max(stop, at + 1)
    last = max((k + 1 for k, c in enumerate(text) if c in narrow + wide), default=0)
    rest = any(unicodedata.category(c)[0] in "LN" for c in text[last:])
    words = normalise_words(column([text]))[0]
    return {"num_sentences": ends + rest, "num_words_folded": len(words)}


TWINS: dict[str, Callable[[str], dict[str, Any]]] = {
    "characters": slow_characters,
    "entropy": slow_entropy,
    "compressibility": slow_compressibility,
    "sentences": slow_sentences,
}


@pytest.mark.parametrize("name", TWINS)
@given(TEXTS)
@example(["", "\u4e2d" * 9 + "\u306a", "\u4e2d" * 8 + "\u306a", "x" * 63 + "\u00e9" + "y" * 64])
@example(["\u00c3" * 3 + "\u00a9", "\u00e2\u0080", "\u00e2\u0080\u0099\u0099", "A\x7f\tB" * 40])
def test_a_family_equals_its_plain_twin_on_any_text(name: str, texts: list[str | None]) -> None:
    # Scripts that are younger than this Python are unassigned here and letters to polars.
    known = [t and "".join(c for c in t if name == "characters" or _is_known(c)) for t in texts]
    nothing = dict.fromkeys(families()[name].signals)
    wanted = [nothing if text is None else TWINS[name](text) for text in known]
    found = measure(column(known), [name]).to_pylist()
    assert [list(row) for row in found] == [list(nothing)] * len(found)
    for row, twin in zip(found, wanted, strict=True):
        assert row == {key: pytest.approx(value, abs=1e-9) for key, value in twin.items()}


def _is_known(character: str) -> bool:
    return unicodedata.category(character) != "Cn"


def test_every_character_is_of_one_class() -> None:
    texts = ["".join(map(chr, range(n, n + 4096))) for n in range(0, 0xD000, 4096)]
    assert measure(column(texts), ["characters"]).to_pylist() == [slow_characters(t) for t in texts]


def udhr(shared_data: Path) -> list[dict[str, Any]]:
    packed = (shared_data / "text" / "multilingual_udhr.jsonl.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines()
    return [json.loads(line) for line in lines]


def predicted(model: Any, text: str) -> tuple[str, float]:
    data = text.encode()
    if len(data) > language.MAX_BYTES:
        each = language.MAX_BYTES // 3
        middle = (len(data) - each) // 2
        pieces = [data[:each], data[middle : middle + each], data[-each:]]
        # A cut character belongs to nobody: the first byte in front, the rest behind a cut.
        text = " ".join(piece.decode(errors="ignore") for piece in pieces)
    (label,), (score,) = model.predict(text.replace("\n", " "))
    return label.removeprefix("__label__"), score


@pytest.fixture(scope="module")
def fasttext_model() -> Any:
    fasttext = pytest.importorskip("fasttext")
    return fasttext.load_model(str(language.model_path()))


@given(TEXTS)
@example(["__label__en __label__", "<a> \x0b\x0c\x00x", "\u00e9" * 40_000, "word " * 20_000])
def test_languages_are_those_of_fasttext_to_the_last_bit(
    fasttext_model: Any, texts: list[str | None]
) -> None:
    found = measure(column(texts), ["language"]).to_pylist()
    for text, row in zip(texts, found, strict=True):
        words = (text or "").replace("\0", " ")
        for space in "\t\n\x0b\x0c\r":
            words = words.replace(space, " ")
        if row["language"] is None:
            # No word, or none that the model knows anything of.
            assert row["language_score"] is None
            known = [w for w in words.split(" ") if w and not w.startswith("__label__")]
            assert text is None or not known or len("".join(known)) < 30
            continue
        assert text is not None
        assert (row["language"], row["language_score"]) == predicted(fasttext_model, text)


def test_languages_of_real_texts(fasttext_model: Any, shared_data: Path) -> None:
    rows = udhr(shared_data)
    found = measure(column(row["text"] for row in rows), ["language"]).to_pylist()
    for row, one in zip(rows[::20], found[::20], strict=True):
        assert (one["language"], one["language_score"]) == predicted(fasttext_model, row["text"])
    truth = {"eng": "en", "deu": "de", "fra": "fr", "spa": "es", "rus": "ru", "arb": "ar"}
    truth |= {"pol": "pl", "tur": "tr", "jpn": "ja", "kor": "ko", "nld": "nl", "cmn": "zh"}
    labels = [(row["lang"], one["language"]) for row, one in zip(rows, found, strict=True)]
    asked = [(truth[code], said) for code, said in labels if code in truth]
    right = np.mean([one == said for one, said in asked])
    assert len(asked) >= 15
    assert right > 0.9, f"{right:.4f} of {len(asked)} declarations"
    packed = gzip.decompress((shared_data / "text" / "docs_tldr.jsonl.gz").read_bytes())
    pages = [json.loads(line) for line in packed.splitlines()[::5]]
    said = measure(column(page["text"] for page in pages), ["language"])["language"].to_pylist()
    right = np.mean([one == page["lang"] for one, page in zip(said, pages, strict=True)])
    assert right > 0.97, f"{right:.4f} of the short pages"


@pytest.mark.parametrize("cut", [0, 7, 60, 100, 5000, 400_000, 930_000])
def test_a_damaged_language_model_is_refused(cut: int) -> None:
    data = language.model_path().read_bytes()
    with pytest.raises(IntegrityError, match="language model cannot be read"):
        language.read_model(data[:cut])


def test_a_host_is_read_off_a_url() -> None:
    hosts = {
        "https://www.Example.org/a?b=//x": "example.org",
        "HTTP://u:p@sub.example.co.uk:80#f": "sub.example.co.uk",
        "//cdn.example.net/x": "cdn.example.net",
        "https://[2001:db8::1]:443/": "[2001:db8::1]",
        "ftp://www.": None,
        "mailto:a@b.c": None,
        "example.org/page": None,
        "https:///x": None,
        "": None,
        "file:///etc": None,
        "https://xn--bcher-kva.example./": "xn--bcher-kva.example",
    }
    table = pa.table({"text": column([""] * len(hosts)), "url": pa.array(list(hosts))})
    assert measure(table, ["url"])["url_domain"].to_pylist() == list(hosts.values())
    assert measure(column(["no url"]), ["url"])["url_domain"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("stated", "spdx"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("MIT AND (apache-2.0 OR bsd-3-clause)", "MIT AND (Apache-2.0 OR BSD-3-Clause)"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("Public Domain", "LicenseRef-Public-Domain"),
        ("cc by 4.0", "CC-BY-4.0"),
        ("All rights reserved", "LicenseRef-All-rights-reserved"),
        ("LicenseRef-ours", "LicenseRef-ours"),
        ("MIT Apache-2.0", "LicenseRef-MIT-Apache-2.0"),
        (" \n", None),
        ("???", None),
        ("x" * 10_000, "LicenseRef-" + "x" * 200),
    ],
)
def test_a_stated_licence_becomes_spdx(stated: str, spdx: str | None) -> None:
    assert normalised(stated) == spdx


@given(st.text(max_size=60))
def test_a_normalised_licence_is_normal(stated: str) -> None:
    once = normalised(stated)
    assert once is None or normalised(once) == once


def test_a_licence_says_where_it_comes_from() -> None:
    texts = ["", "# SPDX-License-Identifier: MIT\n", "# SPDX-License-Identifier: MIT\n", "hm", None]
    stated = ["cc0", "BSD-2-Clause", None, " ", "MIT"]
    table = pa.table({"text": column(texts), "license": pa.array(stated, pa.string())})
    rows = [tuple(row.values()) for row in measure(table, ["license"]).to_pylist()]
    assert rows == [
        ("CC0-1.0", "record"),
        ("BSD-2-Clause", "record"),
        ("MIT", "text"),
        (None, "none"),
        (None, None),
    ]

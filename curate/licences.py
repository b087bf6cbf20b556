r"""Which licence a text is under, as an SPDX id: by a header line, a notice or its own words.

A licence is recognised by short distinctive phrases that must follow each other within a bounded
stretch, because what is inserted between them (a restriction, another condition) makes it another
licence. Two different licences in one text give none: which of them holds is for people to say.

>>> spdx_of("# SPDX-License-Identifier: (MIT OR Apache-2.0)\nimport os\n")
('MIT OR Apache-2.0', 'header')
>>> spdx_of("You may use it under the MIT license, they say.")
(None, '')
"""

import re

from curate.licence_phrases import LICENCES, Licence

__all__ = ["HEADER_LINES", "spdx_of"]

HEADER_LINES = 50
_MAX_CHARS = 100_000  # a licence is a file of its own or stands at the beginning of one
_MAX_HEADER_CHARS = 16_384
_MAX_EXPRESSION = 120

_HEADER = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]{1,200})")
_WORD = re.compile(r"[()]|[A-Za-z0-9][A-Za-z0-9.+:-]*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*\+?")
_OPERATORS = frozenset({"AND", "OR", "WITH"})
_NOT_WORDS = re.compile(r"[^a-z0-9]+")
_HYPHENATED = re.compile(r"-\r?\n[ \t*#/;]*")
_HINTS = ("licen", "permission", "redistribut", "public domain", "fuck you")


_TAIL = 200
# What stands around a short licence and makes it a part of something else: more conditions, other
# permissions, exceptions for somebody.
_OTHER_TERMS = (
    "acknowledg",
    "advertising",
    "conditions",
    "except for",
    "future license",
    "gplv",
    "granted",
    "licensee",
    "permission",
    "permitted",
)
_AROUND = 4_000
_SHORT = 3_300
_MAX_PREAMBLE = 1_000
# A licence that quotes or contains another one by nature: the container is what holds.
_CONTAINS = {
    "Python-2.0": {"PSF-2.0"},
    "AGPL-3.0-only": {"GPL-3.0-only"},
    "BSD-4-Clause": {"BSD-3-Clause", "BSD-2-Clause"},
}


def spdx_of(text: str) -> tuple[str | None, str]:
    """Return the SPDX id or expression of the licence that a text states, and how it says so.

    Args:
        text: a source file, a licence file or any document; its first 100,000 characters count.

    Returns:
        (id, how): how is `header` (a line SPDX-License-Identifier among the first 50), `text` (the
        licence's own words) or `notice` (its standard notice). (None, "several") when the texts
        of different licences are there, (None, "") when there is none that is known. A GNU
        licence's text alone grants that version, hence `GPL-2.0-only`; the notice says more.
    """
    head = text[:_MAX_CHARS]
    expression = _header(head[:_MAX_HEADER_CHARS])
    if expression is not None:
        return expression, "header"
    lowered = head.lower()
    if not any(hint in lowered for hint in _HINTS):
        return None, ""
    joined = _HYPHENATED.sub("", lowered)
    words = f" {_NOT_WORDS.sub(' ', joined).strip()} ".replace(" sub license ", " sublicense ")
    found: dict[str, tuple[int, str]] = {}
    for licence in LICENCES:
        begin = _begin(words, licence)
        if begin >= 0:
            found.setdefault(licence.spdx, (begin, licence.how))
    for outer, inner in _CONTAINS.items():
        if outer in found:
            found = {spdx: what for spdx, what in found.items() if spdx not in inner}
    found = _reconciled(found)
    if len(found) > 1:
        return None, "several"
    return next(((spdx, how) for spdx, (_, how) in found.items()), (None, ""))


def _begin(words: str, licence: Licence) -> int:
    """Return where the phrases begin to follow each other closely with nothing to the contrary."""
    first = f" {licence.phrases[0]} "
    if licence.how == "text" and licence.within > _SHORT:
        words = words[: _MAX_PREAMBLE + licence.within + _TAIL]
    begin = words.find(first)
    while begin >= 0:
        at = begin
        for phrase in licence.phrases:
            at = words.find(f" {phrase}", at, begin + licence.within + len(phrase))
            if at < 0:
                break
            at += len(phrase)
        if begin < at <= begin + licence.within + 1 and _alone(words, begin, at, licence):
            return begin
        begin = words.find(first, begin + 1)
    return -1


def _alone(words: str, begin: int, end: int, licence: Licence) -> bool:
    """Whether what stands around [begin, end) leaves the licence as it is."""
    tail = _TAIL if licence.how == "text" else 5 * _TAIL
    near = words[max(0, begin - tail) : end + tail]
    if any(f" {phrase}" in near for phrase in licence.never):
        return False
    if licence.how == "notice":
        return True
    if licence.within > _SHORT:
        return begin <= _MAX_PREAMBLE
    around = f"{words[max(0, begin - _AROUND) : begin]} {words[end : end + _AROUND]}"
    return not any(f" {term}" in around for term in _OTHER_TERMS)


def _reconciled(found: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Let a notice win over the text behind it; drop the one that the text itself quotes."""
    texts = {_family(spdx): begin for spdx, (begin, how) in found.items() if how == "text"}
    notices = {_family(spdx): begin for spdx, (begin, how) in found.items() if how == "notice"}
    kept = {}
    for spdx, (begin, how) in found.items():
        family = _family(spdx)
        other = (texts if how == "notice" else notices).get(family)
        if other is None or begin < other:
            kept[spdx] = (begin, how)
    return kept


def _family(spdx: str) -> str:
    return spdx.removesuffix("-or-later").removesuffix("-only")


def _header(head: str) -> str | None:
    """Return the expression of the first SPDX-License-Identifier line, if it is one."""
    match = _HEADER.search(head)
    if match is None or head.count("\n", 0, match.start()) >= HEADER_LINES:
        return None
    words = _WORD.findall(match[1])
    taken: list[str] = []
    depth = 0
    wants_id = True
    for word in words:
        if word == "(" and wants_id:
            depth += 1
        elif word == ")" and depth and not wants_id:
            depth -= 1
        elif word.upper() in _OPERATORS and not wants_id:
            word, wants_id = word.upper(), True
        elif _ID.fullmatch(word) and wants_id and word.upper() not in _OPERATORS:
            wants_id = False
        else:
            break
        taken.append(word)
    expression = " ".join(taken).replace("( ", "(").replace(" )", ")")
    if not taken or wants_id or depth or len(expression) > _MAX_EXPRESSION:
        return None
    outer = expression.startswith("(") and expression.endswith(")") and taken.count("(") == 1
    return expression[1:-1] if outer else expression

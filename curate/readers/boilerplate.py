"""Lines of a page that are no prose: runs of links, cookie banners, buttons, in its language.

Main-content extraction removes what the markup calls navigation; what it leaves is told from prose
as jusText does it (Pomikalek 2011, "Removing Boilerplate and Duplicate Content from Web Corpora"):
by the share of a line's characters that are links and the share of its words that are function
words of the language. Unlike there, nothing goes for a lack of function words alone, so that code,
tables, names and languages without spaces stay: only links and a language's own stock phrases do.

>>> prose = "It is one of the lines that a reader has come to the page for."
>>> without_boilerplate([("Home", 4), ("About us", 8), ("Contact", 7), (prose, 0)], "en")
['It is one of the lines that a reader has come to the page for.']
"""

import bisect
import functools
import importlib.resources
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

__all__ = [
    "is_boilerplate",
    "likely_language",
    "stop_words",
    "with_hidden_prose",
    "without_boilerplate",
]

# jusText calls a block bad when links are more than 0.2 of its characters, and good when 0.32 of
# its words are function words. A line is shorter than a block, and references are full of links.
_LINK_DENSITY = 0.75
_STOP_SHARE = 0.25
_INFLECTED = ("cs", "fi", "hu", "pl", "ru", "tr", "uk")  # endings say there what words say here
_INFLECTED_SHARE = 0.12
_LONG_LINE = 70  # characters, jusText's length-low
_VERY_LONG_LINE = 200  # jusText's length-high
_CJK_SHARE = 0.4  # a Chinese or Japanese sentence has less than half the characters
_LONG_BANNER = 400
_END = 12  # characters by which a paragraph is known when some of its middle is missing
_MAX_FULLER = 20
_LINK_RUN = 3  # this many lines of links in a row are a menu; fewer may be a heading or a reference

# blake2b of boilerplate.json: what was read with other lists is read anew, since the code differs.
WORD_LISTS = "89e3a81d6eda1cd1"

_SPACELESS = ("ja", "ko", "th", "zh")
_SAMPLE = 20_000  # characters that are looked at
_FEW = 0.1
_KANA = re.compile("[\u3041-\u30ff]")
_HAN = re.compile("[\u4e00-\u9fff]")
_SENTENCE_ENDS = ("\u3002", "\uff01", "\uff1f", ".")  # full-width stops, and the Korean one
_CLOSING = ")]\uff09\u300d\u300f\u3011 "
_AROUND = " |<>*-.:\u00ab\u00bb\u2039\u203a\u2190\u2192\u2191\u2022\u00b7"


@functools.cache
def _tables() -> dict[str, Any]:
    """Return the word lists: a data file, so that sources stay ASCII."""
    data = importlib.resources.files("curate.readers").joinpath("boilerplate.json").read_bytes()
    tables: dict[str, Any] = orjson.loads(data)
    return tables


def _words(language: str, kind: str, separator: str | None) -> frozenset[str]:
    said: str = _tables()["languages"].get(language, {}).get(kind, "")
    return frozenset(filter(None, said.split(separator)))


@functools.cache
def stop_words(language: str) -> frozenset[str]:
    """Return the function words of a language, lower case; empty where there is no list."""
    return _words(language, "stop_words", None)


def likely_language(text: str) -> str:
    """Return the language whose function words are the largest share of a text's; "" if few are.

    Good enough to choose a list of phrases, not to label a document.

    >>> likely_language("Das ist nicht mehr als ein Satz, und er ist kurz."), likely_language("zq")
    ('de', '')
    """
    words = Counter(text[:_SAMPLE].lower().split())
    languages: list[str] = sorted(_tables()["languages"])
    shares = {
        language: sum(words[word] for word in stop_words(language) & words.keys())
        for language in languages
    }
    best = max(languages, key=lambda language: shares[language])
    if shares[best] >= _FEW * max(1, words.total()):
        return best
    if len(_KANA.findall(text[:_SAMPLE])) >= _FEW * len(text[:_SAMPLE]):
        return "ja"
    return "zh" if len(_HAN.findall(text[:_SAMPLE])) >= _FEW * len(text[:_SAMPLE]) else ""


@functools.cache
def _phrases(language: str) -> frozenset[str]:
    return _words(language, "phrases", "|") | _words("en", "phrases", "|")


@functools.cache
def _consents(language: str) -> frozenset[str]:
    return _words(language, "consent", "|") | _words("en", "consent", "|")


@functools.cache
def _cookie_words() -> frozenset[str]:
    return frozenset(_tables()["cookie"].split("|"))


def _is_prose(line: str, language: str, least: int = _LONG_LINE) -> bool:
    """Whether a line of a length has as many function words as sentences of its language have."""
    if language in _SPACELESS and line.rstrip(_CLOSING).endswith(_SENTENCE_ENDS):
        return len(line) >= _CJK_SHARE * least
    if len(line) < least:
        return False
    words = line.lower().split()
    own = stop_words(language)
    for known in (own, stop_words("en")):
        count = sum(word.strip(".,;:!?()\"'") in known for word in words)
        share = _INFLECTED_SHARE if known is own and language in _INFLECTED else _STOP_SHARE
        if known and count >= share * len(words):
            return True
    return False


def with_hidden_prose(main: Sequence[str], whole: Sequence[str], language: str) -> list[str]:
    """Return the main content with the prose that it lacks but the whole page has.

    A paragraph without its formulas, or without the commas between its links, is taken as it
    stands on the page.

    Main-content extraction goes by names: it drops a box inside the text whose class is "sidebar".
    Such a stretch comes back if it lies between two lines of main content and one of its lines is
    long and has the function words of the language (jusText's "good" block), from its heading to
    its last sentence. What stands before or behind the main content never does.

    Args:
        main: lines of the main content.
        whole: lines of the whole page, in the same order.
        language: ISO 639-1 code, or "".
    """
    wholes = [" ".join(line.split()) for line in whole]
    mains = [" ".join(line.split()) for line in main]
    places: dict[str, list[int]] = {}
    for index, key in enumerate(wholes):
        places.setdefault(key, []).append(index)
    ends: dict[str, list[int]] = {}
    for index, key in enumerate(wholes):
        if len(key) >= _LONG_LINE:
            for end in _ends(key):
                ends.setdefault(end, []).append(index)
    known = set(mains)
    result: list[str] = []
    before = -1
    for line, key, stop in zip(main, mains, _bounds(mains, places), strict=True):
        index = _next(places.get(key, []), before) if key else -1
        if index < 0 and len(key) >= _LONG_LINE:
            index = _next(_fuller(key, ends, wholes), before)
            line = whole[index] if 0 <= index <= stop else line
        if 0 <= index <= stop:
            stretch = [whole[at] for at in range(before + 1, index) if wholes[at] not in known]
            if before >= 0:
                result += _hidden(stretch, language)
            before = index
        result.append(line)
    return result


def _next(places: Sequence[int], before: int) -> int:
    """Return the first of some ascending places behind one, -1 if there is none."""
    found = bisect.bisect_right(places, before)
    return places[found] if found < len(places) else -1


def _ends(key: str) -> set[str]:
    squeezed = key.replace(" ", "")
    return {"<" + squeezed[:_END], squeezed[-_END:] + ">"}


def _fuller(key: str, ends: Mapping[str, Sequence[int]], wholes: Sequence[str]) -> list[int]:
    """Return the lines of the whole page that a line of main content is what is left of.

    Extraction drops formulas and commas between links out of the middle of a paragraph.
    """
    found = {index for end in _ends(key) for index in ends.get(end, ())[:_MAX_FULLER]}
    return sorted(at for at in found if len(key) <= len(wholes[at]) <= 3 * len(key))


def _bounds(mains: Sequence[str], places: Mapping[str, Sequence[int]]) -> list[int]:
    """Return for each line where on the whole page it must lie at the latest.

    Lines that occur once on the page are certain; a line lies before the next certain one.
    """
    certain = [places[key][0] if key and len(places.get(key, ())) == 1 else None for key in mains]
    bounds = []
    bound = sys.maxsize
    for place in reversed(certain):
        if place is not None and place < bound:
            bound = place
        bounds.append(bound)
    return bounds[::-1]


def _hidden(lines: Sequence[str], language: str) -> list[str]:
    """Return what comes back of a stretch that main-content extraction dropped, gaps included."""
    prose = [
        index for index, line in enumerate(lines) if _is_prose(line.strip(), language, _LONG_LINE)
    ]
    if not any(_is_prose(lines[index].strip(), language, _VERY_LONG_LINE) for index in prose):
        return []
    start = prose[0]
    headings = 0
    for index in range(prose[0] - 1, -1, -1):
        headings += bool(lines[index].strip())
        if headings > 2:
            break
        start = index
    return ["", *lines[start : prose[-1] + 1], ""]


def _is_title(line: str, title: str | None) -> bool:
    said = " ".join(line.split())
    return title is not None and 3 * len(said) >= len(title) and said in title


def is_boilerplate(line: str, language: str) -> bool:
    """Whether a line is a button, a copyright notice or a cookie banner by its words alone.

    >>> is_boilerplate("Read more >>", "en"), is_boilerplate("The cookies are baked.", "en")
    (True, False)
    """
    if len(line) > _LONG_BANNER:
        return False
    low = " ".join(line.lower().split())
    if low.strip(_AROUND) in _phrases(language):
        return True
    if "\u00a9" in low and len(low) < 2 * _LONG_LINE:
        return True
    if not any(word in low for word in _cookie_words()):
        return False
    return any(word in low for word in _consents(language))


def without_boilerplate(
    lines: Sequence[tuple[str, int]], language: str | None, title: str | None = None
) -> list[str]:
    """Return the lines that stay; an empty line stays beside a line that does.

    A line goes if it is mostly links and stands in a run of three such lines, or at the top or
    bottom of the page; or if it is one of the language's stock phrases and stands at the top, the
    bottom, or beside a line that goes. Rows of tables stay, and so does the title of the page.

    Args:
        lines: (text, number of its characters inside links), of one page, top to bottom.
        language: ISO 639-1 code of the page, None if unknown; English phrases always count.
        title: of the page; a heading that says most of it stays although it is a link.
    """
    code = language or ""
    full = [index for index, (line, _) in enumerate(lines) if line.strip()]
    menu = []
    phrase = []
    for index in full:
        text, linked = lines[index]
        line = text.strip()
        stays = "\t" in line or _is_title(line, title)
        links = not stays and linked >= _LINK_DENSITY * len(line)
        menu.append(links and not _is_prose(line, code))
        phrase.append(not stays and is_boilerplate(line, code))
    gone = _in_runs(menu)
    _spread(gone, [a or b for a, b in zip(menu, phrase, strict=True)], phrase)
    dropped = {index for index, bad in zip(full, gone, strict=True) if bad}
    return _kept(lines, dropped)


def _in_runs(menu: list[bool]) -> list[bool]:
    gone = [False] * len(menu)
    start = 0
    for index in range(len(menu) + 1):
        if index < len(menu) and menu[index]:
            continue
        if index - start >= _LINK_RUN:
            gone[start:index] = [True] * (index - start)
        start = index + 1
    return gone


def _spread(gone: list[bool], at_edge: list[bool], beside: list[bool]) -> None:
    """Take from the edges inwards, then stock phrases next to what is taken, in both directions."""
    for order in (range(len(gone)), range(len(gone) - 1, -1, -1)):
        for index in order:
            if not (gone[index] or at_edge[index]):
                break
            gone[index] = True
        before = False
        for index in order:
            gone[index] = before = gone[index] or (before and beside[index])


def _kept(lines: Sequence[tuple[str, int]], dropped: set[int]) -> list[str]:
    kept: list[str] = []
    for index, (line, _) in enumerate(lines):
        if index in dropped:
            continue
        blank = not line.strip()
        if blank and not (kept and kept[-1]):
            continue  # one gap, not two, where lines between them are gone
        kept.append("" if blank else line)
    while kept and not kept[-1]:
        kept.pop()
    return kept

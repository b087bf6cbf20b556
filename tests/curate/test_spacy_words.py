"""The splitter of words that spaCy has for English: the kernel against regular expressions.

The twin is slow and obvious. Its character classes come from the kernel's table, which `make
bench-rules` compares with spaCy's own; its rules are written anew.
"""

import re
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.kernels import spacy_classes as flag
from curate.kernels.spacy_exceptions import UNITS, exceptions
from curate.kernels.spacy_tables import english, split_texts
from curate.kernels.spacy_tables import words_of as kernel_words

FACES = sorted(exceptions())
MARKS = (
    ".,:;!?()[]{}<>'\"-=/@#$+*^_~%&0123459kmsKxUSAC aZ\n\t\u2026\u2019\u2018\u201c\u2013\u2014"
    "\xb0\xd7\xa0\xe9\u4e2d\u0431\u03a9\u20ac\U0001f600\u2028\x1f\u3000"
)
URLS = (
    "http:// https:// a.com me@ x.org :80 /path 10.1.1.1 8.8.8.8 192.168.2.3 172.16.1.1 ?q #f "
    "user:pw@ www. Foo.Bar co.uk _x - . 1.2.3.4:8080 0.0.0.1 223.255.255.254 "
    "\u65e5\u672c.jp \xe9.fr"
)


@cache
def having(flags: int) -> str:
    """The characters with any of these flags, as the inside of a bracket expression."""
    codes = np.flatnonzero(flag.classes() & flags)
    breaks = np.flatnonzero(np.diff(codes) > 1)
    firsts = codes[np.r_[0, breaks + 1]].tolist()
    lasts = codes[np.r_[breaks, codes.size - 1]].tolist()
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in zip(firsts, lasts, strict=True))


@cache
def patterns() -> tuple[re.Pattern[str], ...]:
    """Prefix, suffix, infix, URL."""
    alpha, lower, upper = having(flag.ALPHA), having(flag.LOWER), having(flag.UPPER)
    quote, host = having(flag.QUOTE), having(flag.HOST)
    money = rf"US\$|C\$|A\$|[{having(flag.CURRENCY)}]"
    units = "|".join(re.escape(unit) for unit in UNITS)
    prefix = rf"^(?:[{having(flag.PREFIX)}]|\+(?![0-9])|\.\.+|US\$|C\$|A\$)"
    suffix = (
        rf"(?:[{having(flag.SUFFIX)}]|\u2026\u2026|\.\.+|['\u2019][sS]|(?<=[0-9])\+"
        rf"|(?<=\xb0[FfCcKk])\.|(?<=[0-9])(?:{money})|(?<=[0-9])(?:{units})"
        rf"|(?<=[{having(flag.BEFORE_DOT)}])\.|(?<=[{upper}][{upper}])\.)$"
    )
    infix = (
        rf"\.\.+|[{having(flag.INFIX)}]|(?<=[0-9])[+\-*^](?=[0-9-])"
        rf"|(?<=[{lower}{quote}])\.(?=[{upper}{quote}])|(?<=[{alpha}]),(?=[{alpha}])"
        rf"|(?<=[{alpha}0-9])(?:-|\u2013|\u2014|--|---|\u2014\u2014|~)(?=[{alpha}])"
        rf"|(?<=[{alpha}0-9])[:<>=/](?=[{alpha}])"
    )
    address = (
        r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})"
        r"(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])"
        r"(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
    )
    name = rf"(?:(?:[{host}][{host}_-]{{0,62}})?[{host}]\.)+[{lower}]{{2,63}}"
    url = rf"(?:[\w+.-]{{2,}}://)?(?:\S+@)?(?:{address}|{name})(?::\d{{2,5}})?(?:[/?#]\S*)?$"
    return tuple(re.compile(one) for one in (prefix, suffix, infix, url))


def chunk_tokens(string: str, rules: dict[str, tuple[str, ...]]) -> list[str]:
    """The tokens of what stands between white space."""
    prefix, suffix, infix, url = patterns()
    before: list[str] = []
    behind: list[str] = []
    while string and string not in rules:
        front = prefix.search(string)
        head = front.end() if front else 0
        if head and string[head:] in rules:
            before, string = [*before, string[:head]], string[head:]
            break
        back = suffix.search(string[head:])
        tail = back.end() - back.start() if back else 0
        if tail and string[:-tail] in rules:
            behind, string = [*behind, string[-tail:]], string[:-tail]
            break
        if not head and not tail:
            break
        before += [string[:head]] if head else []
        behind += [string[-tail:]] if tail else []
        string = string[head : len(string) - tail]
    middle = [*rules[string]] if string in rules else [string] if string else []
    if string not in rules and string and not url.match(string):
        middle, start = [], 0
        for match in infix.finditer(string):
            if match.start():
                middle += [string[start : match.start()], match.group()]
                start = match.end()
        middle.append(string[start:])
    return [*before, *filter(None, middle), *reversed(behind)]


@cache
def runs() -> dict[tuple[str, ...], str]:
    """Runs of tokens that spell an exception."""
    prefix, suffix, infix, _ = patterns()
    return {
        tuple(chunk_tokens(rule, {})): rule
        for rule in exceptions()
        if prefix.search(rule) or suffix.search(rule) or infix.search(rule)
    }


def words_of(text: str) -> list[str]:
    """All tokens of a text, white space among them."""
    rules = dict(exceptions())
    tokens: list[str] = []
    spaced: list[bool] = []
    for chunk in re.findall(r"\s+|\S+", text):
        if chunk.isspace():
            if chunk[0] == " " and tokens:
                spaced[-1] = True
                chunk = chunk[1:]
            new = [chunk] if chunk else []
        else:
            new = chunk_tokens(chunk, rules)
        tokens += new
        spaced += [False] * len(new)
    return _joined(tokens, spaced)


def _joined(tokens: list[str], spaced: list[bool]) -> list[str]:
    longest = max(map(len, runs()))
    matches = [
        (size, -start)
        for start in range(len(tokens))
        for size in range(1, longest + 1)
        if tuple(tokens[start : start + size]) in runs() and start + size <= len(tokens)
    ]
    covered: set[int] = set()
    chosen: dict[int, int] = {}
    for size, start in sorted(matches, reverse=True):
        first, last = -start, size - start
        if not any(spaced[first : last - 1]) and not {first, last - 1} & covered:
            chosen[first] = size
        covered |= set(range(first, last))
    out: list[str] = []
    i = 0
    while i < len(tokens):
        size = chosen.get(i, 0)
        rule = runs().get(tuple(tokens[i : i + size]), "")
        out += exceptions()[rule] if size else [tokens[i]]
        i += size or 1
    return out


texts = (
    st.text()
    | st.lists(st.sampled_from(MARKS), max_size=60).map("".join)
    | st.lists(st.sampled_from(FACES) | st.sampled_from(MARKS), max_size=12).map("".join)
    | st.lists(st.sampled_from(URLS.split()), max_size=5).map("".join)
)


@given(text=texts)
def test_the_kernel_splits_as_the_regular_expressions_do(text: str) -> None:
    assert kernel_words(text, english()) == words_of(text)


@given(text=texts)
def test_tokens_and_single_spaces_are_the_whole_text(text: str) -> None:
    place = 0
    for word in kernel_words(text, english()):
        assert word
        if not text.startswith(word, place):
            assert text[place] == " "
            place += 1
        assert text.startswith(word, place)
        place += len(word)
    assert text[place:] in ("", " ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop.", ["Do", "n't", "stop", "."]),
        ("(Mr. Smith's 5km run)", ["(", "Mr.", "Smith", "'s", "5", "km", "run", ")"]),
        ("U.S. and U.K.", ["U.S.", "and", "U.K."]),
        (
            "see http://a.b.com/x?y=1, me@x.org.",
            ["see", "http://a.b.com/x?y=1", ",", "me@x.org", "."],
        ),
        ("well--no... yes", ["well", "--", "no", "...", "yes"]),
        ("text:) foo:( (b)", ["text", ":)", "foo", ":", "(", "(", "b", ")"]),
        ("cannot, gonna", ["can", "not", ",", "gon", "na"]),
        ("10a.m. at 3.5kg", ["10", "a.m.", "at", "3.5", "kg"]),
        ("a  b\n c", ["a", " ", "b", "\n ", "c"]),
        ("", []),
    ],
)
def test_words_are_split_as_spacy_splits_them(text: str, words: list[str]) -> None:
    assert kernel_words(text, english()) == words


def test_texts_of_a_column_are_split_each_by_itself() -> None:
    parts = ["a (b", "", "c) d.", "'s"]
    data = np.frombuffer("".join(parts).encode(), dtype=np.uint8)
    bounds = np.cumsum([0, *map(len, parts)])
    split = split_texts(data, bounds[:-1], bounds[1:], english())
    found = [
        ["".join(map(chr, split.chars[split.starts[k] : split.ends[k]])) for k in range(low, high)]
        for low, high in zip(split.bounds[:-1], split.bounds[1:], strict=True)
    ]
    assert found == [kernel_words(part, english()) for part in parts]


@pytest.mark.parametrize(
    "unit", ["(", ".", "a.", "a@", "(a)", "'s", "5km", ":", ":-(", "http://a."]
)
def test_the_time_is_linear_in_the_longest_chunk(unit: str) -> None:
    kernel_words(unit, english())
    start = time.process_time()
    kernel_words(unit * (400_000 // len(unit)), english())
    assert time.process_time() - start < 5

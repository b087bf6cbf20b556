r"""Plain text from MediaWiki's markup, in time linear in the page, whatever is nested in it.

What a reader of the page would not read as its prose goes: templates (quotations apart), tables,
references, files, categories, comments, markup. Headings, lists and the labels of links stay.
Brackets are matched once before anything is written, so that what is never closed is text and costs
nothing.

>>> plain_text("'''A''' {{small|x}} is [[b|a ''b'']].<ref>no</ref>\n== More ==\n* [http://c d]")
'A is a b.\nMore\n- d'
"""

import functools
import html
import re
from typing import NamedTuple

__all__ = ["ENGLISH_NAMESPACES", "plain_text"]

# The names of the namespaces whose links are no text: files and categories.
ENGLISH_NAMESPACES = frozenset({"file", "image", "media", "category"})

_MAX_TITLE = 512
_DROPPED = frozenset(
    {"categorytree", "gallery", "graph", "hiero", "imagemap", "indicator", "inputbox", "mapframe"}
    | {"maplink", "ref", "score", "templatedata", "templatestyles", "timeline"}
)
_LITERAL = frozenset({"ce", "chem", "code", "math", "nowiki", "pre", "source", "syntaxhighlight"})
# Each branch begins with one sign, so that re runs to the next of these signs at once.
_TOKEN = re.compile(
    r"<!--|</?[A-Za-z][^<>]{0,2000}>|\{\{+|\}\}+|\n[ \t:]*\{\||\n[ \t]*\|\}(?!\})|\[\[|\]\]"
    r"|\[(?=(?:[A-Za-z]{2,10}:)?//|mailto:|news:)|''+|__[A-Z]{3,40}__"
)
_KINDS = {"{": "template", "}": "template_end"}
_TAG = re.compile(r"<([A-Za-z]+)(?=[\s/>])")
_CLOSES = {"template_end": "template", "table_end": "table", "link_end": "link"}
_BLOCKS = re.compile(r"</?(?i:blockquote|br|center|dd|div|dl|dt|hr|li|ol|p|poem|tr|ul)\b")
_INTERWIKI = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,12}){0,2}:")
# Templates whose first argument is prose of the page; who said it may follow as another line.
_QUOTE = re.compile(
    r"\s{0,20}(?i:(?:block|c|r|pull |centered pull )?quote|quotation|quote box|epigraph)"
    r"\s{0,20}\|\s{0,20}(?:(?i:quote|text|1)\s{0,20}=)?"
)
# Templates that stand for words in a sentence: a measure and its unit, a text in another language,
# one that only looks otherwise. Their arguments hold no markup here, or they go like the others.
_PLAIN = r"((?:(?!\'\')[^|{}\[\]<>=\n]){1,200})"
_INLINE = re.compile(
    rf"(?i:convert|cvt|val)\|{_PLAIN}(?:\|{_PLAIN})?(?=\||\}})"
    rf"|(?i:lang)\|[a-z-]{{2,12}}\|{_PLAIN}(?=\||\}})"
    rf"|(?i:nowrap|nobr|abbr|sc|transl)\|{_PLAIN}(?=\||\}})"
)
_ARGUMENT = re.compile(r"\|\s{0,20}[A-Za-z0-9_-]{1,20}\s{0,20}=[^|]{0,500}")
_URL = re.compile(r"[^\s\]\[<>\"]*")
_HEADING = re.compile(r"(={1,6})[ \t]*(.*?)[ \t]*\1?")
_EMPTY_BRACKETS = re.compile(r" \([ ,;]*\)")  # what a template stood in; f() is another thing
_BRACKET_BEGINS = re.compile(r" \([ ]?[,;][ ,;]{0,20}")
_LINE_SIGNS = "=-*#:; "
_SPACES = re.compile(r"[ \t\u00a0]+")
_VERBATIM = "\0"  # begins a line of code; XML cannot hold it


class _Token(NamedTuple):
    kind: str
    start: int
    end: int
    closed: int = -1  # the number of the token that closes this one; -1: none does


def plain_text(text: str, namespaces: frozenset[str] = ENGLISH_NAMESPACES) -> str:
    """Return the prose of a page.

    Args:
        text: wikitext.
        namespaces: lower-case names of the namespaces of files and categories in this wiki.

    Returns:
        Lines of text; one blank line at most between two of them, none around.
    """
    # A table is known by the line end before it.
    text = "\n" + text.replace(_VERBATIM, "").replace("\r\n", "\n")
    return _tidied("".join(_Writer(text, _matched(_tokens(text)), namespaces).written()))


def _tokens(text: str) -> list[_Token]:
    """Return what is markup, in order; what a raw tag encloses holds none."""
    tokens: list[_Token] = []
    nowhere: set[str] = set()  # tags that no closing one follows any more: looked for but once
    at = 0
    while match := _TOKEN.search(text, at):
        start, at = match.span()
        sign = text[start]
        if sign == "<":
            at = _tag(text, start, at, nowhere, tokens)
        elif sign in "{}":
            # Two braces are one bracket; the odd one of three goes with them.
            kind = _KINDS[sign]
            tokens += [_Token(kind, i, i + 2) for i in range(start, at - 1, 2)]
            if (at - start) % 2:
                tokens[-1] = tokens[-1]._replace(end=at)
        elif sign == "\n":
            tokens.append(_Token("table_end" if text[at - 1] == "}" else "table", start, at))
        elif sign == "[":
            tokens.append(_Token("link" if at - start == 2 else "external", start, at))
        else:
            tokens.append(_Token("link_end" if sign == "]" else "markup", start, at))
    return tokens


def _tag(text: str, start: int, end: int, nowhere: set[str], tokens: list[_Token]) -> int:
    """Add the tokens of a tag, or of a whole element if its content is no wikitext."""
    if text.startswith("<!--", start):
        close_at = text.find("-->", end)
        end = len(text) if close_at < 0 else close_at + 3
        tokens.append(_Token("markup", start, end))
        return end
    match = _TAG.match(text, start)
    name = match[1].lower() if match else ""
    is_raw = (name in _DROPPED or name in _LITERAL) and name not in nowhere
    close = None
    if is_raw and text[end - 2] != "/":
        close = _closing(name).search(text, end)
        if close is None:
            nowhere.add(name)
    if close is None:
        tokens.append(_Token("tag", start, end))
        return end
    if name in _DROPPED:
        tokens.append(_Token("markup", start, close.end()))
    else:
        tokens.append(_Token("tag", start, end))
        tokens.append(_Token("literal", end, close.start()))
        tokens.append(_Token("tag", close.start(), close.end()))
    return close.end()


@functools.cache
def _closing(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}\s{{0,20}}>", re.IGNORECASE)


def _matched(tokens: list[_Token]) -> list[_Token]:
    """Tell each opening bracket which one closes it, as the innermost open one of its kind."""
    open_: list[int] = []
    counts = {"template": 0, "table": 0, "link": 0}
    for number, token in enumerate(tokens):
        if token.kind in counts:
            counts[token.kind] += 1
            open_.append(number)
        elif token.kind in _CLOSES and counts[_CLOSES[token.kind]]:
            kind = ""
            while kind != _CLOSES[token.kind]:  # what is left open inside is text
                opened = open_.pop()
                kind = tokens[opened].kind
                counts[kind] -= 1
            tokens[opened] = tokens[opened]._replace(closed=number)
    return tokens


class _Writer:
    """Writes what is left of a page, from its first token to its last."""

    def __init__(self, text: str, tokens: list[_Token], namespaces: frozenset[str]) -> None:
        self._text = text
        self._tokens = tokens
        self._namespaces = namespaces
        self._out: list[str] = []
        self._bracket = -1  # the next "]" and the next line end behind where we are
        self._newline = -1
        self._quotes: list[int] = []  # where quotations end, the nearest last
        self._labels: list[int] = []  # where the labels of external links end, the nearest last

    def written(self) -> list[str]:
        """Return the pieces of the text."""
        at = 0
        number = 0
        while number < len(self._tokens):
            token = self._tokens[number]
            if token.start < at:  # a link's target has passed it
                number += 1
                continue
            self._write(at, token.start)
            number, at = self._after(number, token)
        self._write(at, len(self._text))
        return self._out

    def _write(self, start: int, end: int) -> None:
        """Write text as it is, without the brackets that end external links."""
        while self._labels and start <= self._labels[-1] < end:
            close = self._labels.pop()
            self._put(start, close)
            start = close + 1
        if start < end:
            self._put(start, end)

    def _put(self, start: int, end: int) -> None:
        while self._quotes and self._quotes[-1] <= start:
            self._quotes.pop()
        piece = self._text[start:end]
        if self._quotes:  # further arguments: by name they are no prose, else who said it
            piece = _ARGUMENT.sub("", piece).replace("|", "\n")
        self._out.append(html.unescape(piece))

    def _after(self, number: int, token: _Token) -> tuple[int, int]:
        """Write what a token stands for; return the number of the next one and where to go on."""
        if token.kind in ("template", "table") and token.closed >= 0:
            inline = _INLINE.match(self._text, token.end) if token.kind == "template" else None
            if inline is not None:
                self._out.append(html.unescape(" ".join(filter(None, inline.groups()))))
                return token.closed + 1, self._tokens[token.closed].end
            quoted = _QUOTE.match(self._text, token.end) if token.kind == "template" else None
            if quoted is None:
                return token.closed + 1, self._tokens[token.closed].end
            self._out.append("\n")
            self._quotes.append(self._tokens[token.closed].start)
            return number + 1, quoted.end()
        if token.kind == "link":
            return self._link(number, token)
        if token.kind == "external":
            return number + 1, self._external(token)
        if token.kind == "literal":
            code = self._text[token.start : token.end]
            if "\n" in code:
                code = f"\n{code.strip(chr(10))}\n".replace("\n", f"\n{_VERBATIM}") + "\n"
            self._out.append(code)
        elif token.kind != "tag":
            self._out.append("\n" if token.kind in ("table", "table_end") else "")
        elif _BLOCKS.match(self._text, token.start):
            self._out.append("\n")
        return number + 1, token.end

    def _link(self, number: int, token: _Token) -> tuple[int, int]:
        if token.closed < 0:
            return number + 1, token.end
        close = self._tokens[token.closed]
        pipe = self._text.find("|", token.end, min(close.start, token.end + _MAX_TITLE))
        end = close.start if pipe < 0 else pipe
        target = self._text[token.end : min(end, token.end + _MAX_TITLE)].strip()
        prefix = target.partition(":")[0].strip().lower() if ":" in target else ""
        if prefix in self._namespaces or (pipe < 0 and _INTERWIKI.match(target)):
            return token.closed + 1, close.end
        if pipe >= 0:
            return number + 1, pipe + 1
        if target.startswith((":", "#")):
            return number + 1, self._text.index(target[0], token.end) + 1
        return number + 1, token.end

    def _external(self, token: _Token) -> int:
        """Skip an external link's address; note where its label ends."""
        if self._bracket < token.end:
            found = self._text.find("]", token.end)
            self._bracket = len(self._text) if found < 0 else found
        if self._newline < token.end:
            found = self._text.find("\n", token.end)
            self._newline = len(self._text) if found < 0 else found
        if self._bracket >= self._newline:
            return token.start + (1 if self._text.startswith("[", token.start) else 0)
        url = _URL.match(self._text, token.end)
        end = url.end() if url else token.end
        if not self._labels or self._labels[-1] != self._bracket:
            self._labels.append(self._bracket)
        return end


def _tidied(text: str) -> str:
    lines: list[str] = []
    for raw in text.split("\n"):
        line = raw.rstrip()
        if line.startswith(_VERBATIM):
            line = line[1:]
        elif line:
            line = _SPACES.sub(" ", line)
            if "(" in line:
                line = _BRACKET_BEGINS.sub(" (", _EMPTY_BRACKETS.sub("", line))
            if line[:1] in _LINE_SIGNS:
                line = _line(line)
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n")


def _line(line: str) -> str:
    """Return a line without the signs at its beginning that make it a heading or a list item."""
    if line.startswith("="):
        match = _HEADING.fullmatch(line) if len(line) <= 1000 else None
        return match[2] if match else line.strip("= ")
    if line.startswith("----"):
        return line.lstrip("- ")
    rest = line.lstrip("*#:; ")
    marks = line[: len(line) - len(rest)]
    if not rest:
        return ""
    return f"- {rest}" if "*" in marks or "#" in marks else rest

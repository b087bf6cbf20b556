r"""How values are shown: numbers for people, and corpus text that cannot do anything.

Corpus text is hostile: characters that are invisible or reorder what stands around them are shown
as their codes. HTML is escaped later, by the templates.

>>> visible("pay \u202e001\x00\x00")
'pay [U+202E]001[U+0000 x2]'
>>> clip("abcdef", 4)
'abcd [...]'
>>> si(1_234_567), percent(0.0345), size(56_812_018)
('1.23M', '3.5 %', '56.8 MB')
"""

import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from curate.rules.dials import written

__all__ = ["FILTERS", "clip", "number", "percent", "si", "size", "visible"]

# Controls but tab and newline, bidirectional and other format characters, line separators,
# invisible fillers, surrogates, non-characters, tags and the variation selectors that can smuggle
# text. Left alone: the two joiners and the first 16 variation selectors, which scripts and emoji
# need. Spelt as ranges, so that the page does not depend on Python's Unicode version.
_HIDDEN = re.compile(
    "(["
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    r"])\1*"
)
_CODE = re.compile(r"\[U\+[0-9A-F]{4,6}(?: x\d+)?\]")
_CLIPPED = " [...]"


def visible(text: str) -> str:
    """Return the text with every hidden character as its code; a run of one is told once."""
    return _HIDDEN.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    times = f" x{len(match[0])}" if len(match[0]) > 1 else ""
    return f"[U+{ord(match[1]):04X}{times}]"


def clip(text: str, max_bytes: int) -> str:
    """Return `visible` text of at most `max_bytes` UTF-8 bytes and a mark where more was cut."""
    shown = visible(text)
    data = shown.encode()
    if len(data) <= max_bytes:
        return shown
    return data[:max_bytes].decode(errors="ignore") + _CLIPPED


def number(value: float | None) -> str:
    """Return an integer with thousands separators, a float with at most four digits, or a dash."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def si(value: int | None) -> str:
    """Return a count with three digits and K, M, B or T."""
    if value is None:
        return "-"
    if abs(value) < 1000:
        return str(value)
    scaled = float(value)
    for unit in "KMBT":
        scaled /= 1000
        if abs(scaled) < 999.5 or unit == "T":
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    raise AssertionError("unreachable")


def percent(share: float | None) -> str:
    """Return a share as a percentage; a small one is not rounded to nothing."""
    if share is None:
        return "-"
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %"


def size(num_bytes: int | None) -> str:
    """Return bytes in decimal units."""
    if num_bytes is None:
        return "-"
    if num_bytes < 1000:
        return f"{num_bytes} B"
    text = si(num_bytes)
    return f"{text[:-1]} {text[-1].replace('K', 'k').replace('B', 'G')}B"


def _soft(name: str) -> Markup:
    """Allow a long name to break after its separators."""
    return Markup(re.sub(r"([:@./])(?=[^\d])", r"\1<wbr>", str(escape(visible(name)))))


def _marked(text: str) -> Markup:
    """Escape text and set the codes of hidden characters apart."""
    safe = str(escape(visible(text)))
    return Markup(_CODE.sub(lambda m: f'<i class="u">{m[0][1:-1]}</i>', safe))


FILTERS: dict[str, Callable[..., Any]] = {
    "num": number,
    "si": si,
    "pct": percent,
    "size": size,
    "soft": _soft,
    "marked": _marked,
    "sql": written,
}

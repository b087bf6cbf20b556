"""Credentials: private keys, tokens that announce themselves, passwords in URLs, and assignments.

The prefixes are those the services document for their own scanners. A value assigned to a name such
as `api_key` counts when it looks random: letters and digits, of high entropy, no words.
"""

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Iterator

from curate.cleaning.detect.base import Detector, Span, is_word

__all__ = ["SECRET"]

_MAX_KEY = 20_000  # characters of a private key
_MIN_BODY = 48  # letters and digits; a page about keys shows none
_DASHES = "-----"
_END = "-----END "
_BODY = re.compile(r"[A-Za-z0-9+/=:,.\s\\>-]*")  # `>` begins the lines of a quotation
# `Version: GnuPG v2 (GNU/Linux)`, `Comment: Jo <jo@site.org>` (RFC 4880, 6.2).
_HEADER = re.compile(r"(?:\s|\\[rn]|>){1,40}[A-Za-z][A-Za-z0-9-]{0,30}: [^\n\\]{0,500}")
_MAX_HEADERS = 20
# What services publish about the form of their tokens.
_TOKENS = (
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS access key ids
    r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{16,}|xapp-[0-9]-[A-Za-z0-9-]{16,}",
    r"hooks\.slack\.com/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]{16,}",
    r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{30,}|GOCSPX-[A-Za-z0-9_-]{28}",
    r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,}",
    r"sk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic and others
    r"hf_[A-Za-z0-9]{30,}",
    r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",  # JSON web tokens (RFC 7519)
)
_NAMES = (
    r"api[_-]?key|apikey|api[_-]?secret|api[_-]?token|access[_-]?key|access[_-]?token|"
    r"auth[_-]?token|auth[_-]?key|client[_-]?secret|secret[_-]?access[_-]?key|secret[_-]?key|"
    r"app[_-]?secret|private[_-]?key|encryption[_-]?key|signing[_-]?key|account[_-]?key|"
    r"bearer|secret|token|passwd|password|pwd"
)
_VALUE = r"[A-Za-z0-9+/_=.~!@#$%^*-]{16,}"
_ASSIGNED = re.compile(
    rf"(?i:{_NAMES})[\"'\]]{{0,2}}\s{{0,3}}(?:=>|:=|[:=]|\s)\s{{0,3}}([\"'`]?)({_VALUE})"
)
_CODE = frozenset(".!@#$%^*~")
_MAX_VALUE = 512
_MIN_ENTROPY = 3.2  # bits a character; 16 characters have 4 at most
_RUN = re.compile(r"[A-Za-z]{5,}")
_TOKEN = re.compile("|".join(_TOKENS))


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    if text.startswith(_DASHES, start):
        yield from _private_key(text, start, end)
    elif text.startswith("://", start):
        yield from _login(text, start, end)
    elif _TOKEN.match(text, start):
        yield from _token(text, start, end)
    else:
        yield from _assigned(text, start, end)


def _private_key(text: str, start: int, end: int) -> Iterator[Span]:
    """Find a key's last line; of one that breaks off, as far as it looks like a key."""
    for _ in range(_MAX_HEADERS):
        header = _HEADER.match(text, end)
        end = end if header is None else header.end()
    close = text.find(_DASHES, end, end + _MAX_KEY)
    body = _BODY.match(text, end, min(len(text), end + _MAX_KEY) if close < 0 else close)
    assert body is not None
    stop = body.end()
    if stop == close and text.startswith(_END, close):
        last = text.find(_DASHES, close + len(_END), close + 80)
        stop = last + len(_DASHES) if last >= 0 else close
    if sum(map(str.isalnum, body[0])) >= _MIN_BODY:
        yield start, stop, text[start:stop]


def _token(text: str, start: int, end: int) -> Iterator[Span]:
    token = text[start:end]
    if is_word(text[start - 1 : start]) or is_word(text[end : end + 1]):
        return
    if token.startswith("eyJ"):
        if not _is_json(token.partition(".")[0]):
            return
    elif token.startswith(("sk-", "xox", "xapp", "SG.")) and not _is_random(token[3:]):
        return  # `sk-fading-circle` is a class of a style sheet
    yield start, end, token


def _login(text: str, start: int, end: int) -> Iterator[Span]:
    """Find the password in `://user:password@h` (RFC 3986, 3.2.1); a template or a mask is none."""
    user, _, password = text[start + 3 : end - 2].partition(":")
    begin = start + 4 + len(user)
    if password[0] not in "$%" and len(set(password)) > 1:
        yield begin, end - 2, password
        return
    for match in _TOKEN.finditer(text, start + 3, begin):
        yield from _token(text, match.start(), match.end())


def _assigned(text: str, start: int, end: int) -> Iterator[Span]:
    match = _ASSIGNED.match(text, start, end)
    if match is None or (text[start - 1 : start].isalpha() and text[start].islower()):
        return
    quote, value = match[1], match[2].rstrip(".=") if not match[1] else match[2]
    begin = match.start(2)
    stop = begin + len(value)
    follows = text[stop : stop + 1]
    if quote and follows != quote:
        return
    if not quote and (follows in ("(", "[", "{") or (follows and set(value) & _CODE)):
        return
    if len(value) <= _MAX_VALUE and _is_random(value):
        yield begin, stop, value


def _is_json(part: str) -> bool:
    if len(part) > 4096:
        return False
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
    except (ValueError, binascii.Error, RecursionError):
        return False


def _is_random(value: str) -> bool:
    """Say whether a value looks random: letters and digits mixed, no words, no paths."""
    sample = value[:_MAX_VALUE]
    if not any(map(str.isdigit, sample)) or not any(map(str.isalpha, sample)):
        return False
    if sample.count(".") > 2 or sample.startswith(("/", "./", "$", "%")) or "://" in sample:
        return False
    count = len(sample)
    entropy = -sum(n / count * math.log2(n / count) for n in Counter(sample).values())
    words = sum(len(word) for word in _RUN.findall(sample) if _is_worded(word))
    return entropy >= _MIN_ENTROPY and words < 0.4 * count


def _is_worded(run: str) -> bool:
    """Say whether letters read like words: one case after the first letter, with vowels."""
    lower = run[1:]
    vowels = sum(character in "aeiouyAEIOUY" for character in run)
    return (lower.islower() or run.isupper()) and 0.2 <= vowels / len(run) <= 0.7


SECRET = Detector(
    kind="secret",
    pattern=r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"|://[A-Za-z0-9_.%+~-]{0,64}:[A-Za-z0-9_.%+~!$&*(),;=^#?-]{1,128}@[A-Za-z0-9\[]"
    rf"|{'|'.join(_TOKENS)}"
    rf"|(?i:{_NAMES})[\"'\]]{{0,2}}\s{{0,3}}(?:=>|:=|[:=]|\s)\s{{0,3}}[\"'`]?{_VALUE}",
    spans=_spans,
)

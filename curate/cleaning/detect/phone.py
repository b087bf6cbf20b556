"""Telephone numbers: international ones, common national forms, and digits that a word announces.

International: `+` or `00`, a country's code (ITU-T E.164D), 8 to 15 digits in all. National without
an announcement: North American (NXX NXX XXXX), French pairs, British and other numbers with a
leading 0 in groups. Any other run of 7 to 15 digits has to follow `Tel.`, `phone:`, `call` ...
Dates, versions, decimals, ISBNs and plain digits are what these rules are there to spare.
"""

import itertools
import re
from collections.abc import Iterator

from curate.cleaning.detect.base import Detector, Span, before, is_word

__all__ = ["PHONE"]

_COUNTRY_CODES = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 "
    "64 65 66 81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 "
    "228 229 230 231 232 233 234 235 236 237 238 239 240 241 242 243 244 245 246 248 249 250 251 "
    "252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290 291 297 298 299 350 "
    "351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 380 381 382 383 385 "
    "386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596 "
    "597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 "
    "692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 "
    "967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998"
)
_CODES = frozenset(_COUNTRY_CODES.split())
_WORDS = (
    "tel|telephone|telefon|telefono|telefax|phone|phones|fax|mobile|mobil|mob|cell|cellphone|call|"
    "dial|whatsapp|sms|handy|rufnummer|hotline|helpline|tlf|gsm|ring"
)
_ANNOUNCED = re.compile(
    rf"\b(?:{_WORDS})\b\.?(?: ?(?:no|nr|num|number|us|me|at|on|office|line|home|work))*"
    rf"[.:#]{{0,2}}\W{{0,3}}$",
    re.ASCII | re.IGNORECASE,
)
_OTHER = re.compile(
    r"(?:isbn|issn|doi|arxiv|orcid|pmid|version|issue|bug|rfc|pep|cve|id|sku|part|model|serial|"
    r"order|invoice|ticket|dfars?|far|clause|cfr|usc|page|pages|pp|line|lines|date|port|code|zip)\b\W{0,4}(?:1[03]\W{0,3})?$",
    re.ASCII | re.IGNORECASE,
)
_FOLLOWS = re.compile(r"[0-9][ \t./-]{1,4}$")
_DIGITS = re.compile(r"[0-9]+")
_NANP = re.compile(r"(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}([ .-]))[0-9]{3}([ .-])[0-9]{4}")
_ISO_DATE = re.compile(r"(?:19|20)[0-9]{2}([-./ ])[01]?[0-9]\1[0-3]?[0-9](?![0-9])")
_DATE = re.compile(r"[0-3]?[0-9]([-./ ])[01]?[0-9]\1(?:19|20)?[0-9]{2}(?![0-9])")
_MIN_DIGITS, _USUAL_DIGITS, _MAX_DIGITS = 7, 13, 15
# Between two digits: one of these, or none.
_SEPARATOR = r"(?: ?\(|\)[ -]?|[ ./\x{A0}-]| - )?"


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    is_first = True
    while start < end:
        start = next((at for at in range(start, end) if text[at] in "+(0123456789"), end)
        stop = _stop(text, start, end, is_first=is_first) if start < end else None
        if stop is None and text[start : start + 1] == "(":  # all of it stands in brackets
            start += 1
            stop = _stop(text, start, end, is_first=is_first)
        if stop is None:
            return
        number = text[start:stop]
        yield start, stop, "+" * (number[0] == "+") + "".join(_DIGITS.findall(number))
        start, is_first = stop, False  # another may follow at once


def _stop(text: str, start: int, end: int, *, is_first: bool) -> int | None:
    """Return where the number ends that begins at a place, None if there is none."""
    told = before(text, start, 32)
    announced = bool(_ANNOUNCED.search(told)) or told.endswith("tel:")
    left = text[start - 1 : start]
    if is_word(left) or (left in "+-.,*#=/:)" and left and not announced):
        return None
    if _OTHER.search(told):
        return None
    if is_first and not announced and text[start] != "+" and _FOLLOWS.search(told):
        return None
    ends = [match.end() for match in _DIGITS.finditer(text, start, end)]
    for stop in reversed(ends):
        number = text[start:stop]
        digits = "".join(_DIGITS.findall(number))
        if len(digits) < _MIN_DIGITS:
            break
        if len(digits) > (_MAX_DIGITS if stop == end or announced else _USUAL_DIGITS):
            continue
        whole = number.count("(") == number.count(")")
        whole = whole and _may_end(text, stop, announced=announced)
        if whole and _is_phone(number, digits, announced=announced):
            return stop
    return None


def _may_end(text: str, stop: int, *, announced: bool) -> bool:
    right, follows = text[stop : stop + 1], text[stop + 1 : stop + 2]
    if is_word(right) or right in ("%", "*", "=", "+"):
        return False
    if right in (".", ",", "-", "/", ":") and follows.isdigit():
        return False
    # Unannounced, a row of numbers is a row of numbers.
    return announced or not text[stop : stop + 4].lstrip(" \t\xa0")[:1].isdigit()


def _is_phone(number: str, digits: str, *, announced: bool) -> bool:
    groups = _DIGITS.findall(number)
    if len(set(digits)) < 2:
        return False
    if _ISO_DATE.match(number) or _DATE.match(number):
        return False
    if number[0] == "+":
        return _is_international(number, groups, digits)
    if digits.startswith("00") and len(groups) > 2 and digits[2] != "0":
        return len(digits) >= 10 and _is_international(number[2:], groups, digits[2:])
    found = _NANP.fullmatch(number)
    if found:
        # 555 123 4567 may be any three numbers; dots stand in versions, too.
        dashed = found[1] == found[2] == "-" or not found[1]
        dotted = found[1] == found[2] == "." and digits[-10] in "23456789"
        return announced or dashed or dotted
    if announced:
        return not _is_decimal(groups, number)
    return digits[0] == "0" and digits[1] != "0" and _is_national(number, groups, digits)


def _is_international(number: str, groups: list[str], digits: str) -> bool:
    if len(digits) < 8 or not any(digits[:size] in _CODES for size in (1, 2, 3)):
        return False
    if digits[0] == "1":
        return len(digits) == 11
    if _is_decimal(groups, number):
        return False
    # +12 345 678 is a number with its thousands set apart.
    return len(groups) == 1 or not all(len(group) == 3 for group in groups[1:]) or len(digits) > 9


def _is_decimal(groups: list[str], number: str) -> bool:
    return len(groups) == 2 and number.count(".") == 1 and not set(number) & set(" -/()")


def _is_national(number: str, groups: list[str], digits: str) -> bool:
    """Say whether a number with its trunk prefix 0 is grouped as people write it."""
    sizes = tuple(map(len, groups))
    if not 9 <= len(digits) <= 11 or len(groups) < 2 or ("." in number and len(groups) != 5):
        return False
    if _is_isbn10(number, digits):
        return False
    if sizes == (2, 2, 2, 2, 2):  # France; not a row of numbers
        steps = {int(b) - int(a) for a, b in itertools.pairwise(groups)}
        return len(steps) > 1
    if number[0] == "(":
        return sum(sizes[1:]) >= 6 and len(groups) <= 4
    if sizes in ((3, 4, 4), (4, 3, 4), (5, 6), (5, 3, 3), (4, 7), (2, 4, 4), (4, 3, 3)):
        return True  # United Kingdom, Australia, much of Asia, Italy
    return "/" in number and sizes[0] in (3, 4, 5) and sum(sizes[1:]) >= 6


def _is_isbn10(number: str, digits: str) -> bool:
    if len(digits) != 10 or number.count("-") != 3:
        return False
    return sum((10 - place) * int(digit) for place, digit in enumerate(digits)) % 11 == 0


_MORE = rf"(?:{_SEPARATOR}[0-9])"
PHONE = Detector(
    kind="phone",
    # Announced; international; North American; with a trunk prefix.
    pattern=rf"(?i:{_WORDS})[A-Za-z. ]{{0,16}}[:.#]{{0,2}}[ (\x{{A0}}]{{0,3}}"
    rf"\+?[0-9]{_MORE}{{6,24}}"
    rf"|\(?\+\(?[0-9]{_MORE}{{7,24}}"
    rf"|00[1-9]{_MORE}{{7,24}}"
    rf"|(?:1[ .-])?\(?[0-9]{{3}}(?:\) ?|[ .-])[0-9]{{3}}[ .-][0-9]{{4}}"
    rf"|\(?0[1-9]{_MORE}{{7,24}}",
    spans=_spans,
)

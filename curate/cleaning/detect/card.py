"""Payment card numbers: 13 to 19 digits with a known issuer, its lengths, and Luhn's check digit.

Prefixes and lengths as the networks publish them (ISO/IEC 7812). Digits are written in one run or
in the groups that cards bear; one number in ten passes Luhn's check by chance, so what stands
around counts: no decimals, no identifiers in URLs.
"""

import itertools
import re
from collections.abc import Iterator

from curate.cleaning.detect.base import Detector, Span, before, is_word

__all__ = ["CARD", "luhn"]

_LENGTHS = range(13, 20)
_PRODUCT = 13  # digits of an EAN, which ends in a check digit too
_MAX_GROUPS = 64  # of a run; a table of numbers is not a list of cards
_GROUPS = re.compile(r"[0-9]+")
_IDENTIFIER = re.compile(
    r"(?:[/#&?=_]|\b(?:id|ids|uid|isbn|issn|ean|gtin|upc|doi|imei|sku|serial|order|tracking|"
    r"timestamp|version|issue|tweet|status)\W{0,3})$",
    re.ASCII | re.IGNORECASE,
)
_CARD_WORD = re.compile(
    r"card|visa|master|amex|american express|discover|pan\b|credit|debit|\bcc|karte|carte|tarjeta",
    re.ASCII | re.IGNORECASE,
)
# (first prefix, last prefix, lengths)
_ISSUERS = (
    (34, 34, (15,)),
    (37, 37, (15,)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (6011, 6011, (16, 19)),
    (644, 649, (16, 19)),
    (65, 65, (16, 19)),
    (300, 305, (14,)),
    (36, 36, (14,)),
    (38, 39, (14,)),
    (3528, 3589, (16,)),
    (62, 62, (16, 17, 18, 19)),
    (2200, 2204, (16,)),
    (4, 4, (13, 16, 19)),
    (5018, 5018, (16,)),
    (5020, 5020, (16,)),
    (5038, 5038, (16,)),
    (6304, 6304, (16,)),
    (6759, 6759, (16,)),
    (6761, 6763, (16,)),
)
_SHAPES = {
    13: ((4, 3, 3, 3), (4, 4, 5)),
    14: ((4, 6, 4), (4, 4, 4, 2)),
    15: ((4, 6, 5), (4, 4, 4, 3)),
    16: ((4, 4, 4, 4), (8, 8)),
    17: ((4, 4, 4, 5),),
    18: ((4, 4, 4, 6),),
    19: ((4, 4, 4, 4, 3), (6, 13)),
}


def luhn(digits: str) -> bool:
    """Say whether the last digit checks the others (Luhn, US patent 2,950,048).

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _is_issued(digits: str) -> bool:
    for first, last, lengths in _ISSUERS:
        if len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last:
            return True
    return False


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    left, right = text[start - 1 : start], text[end : end + 1]
    if is_word(left) or is_word(right) or left in (".", ",", "-", "+"):
        return
    if right in (".", ",") and text[end + 1 : end + 2].isdigit():
        return
    if end - start > 24 * _MAX_GROUPS:
        return
    groups = [match.span() for match in _GROUPS.finditer(text, start, end)]
    if len(groups) > _MAX_GROUPS:
        return
    done = 0
    for place in range(len(groups)):
        if place < done:
            continue
        for size, many in ((1, 1), *((0, n) for n in (2, 3, 4, 5))):
            chosen = groups[place : place + many]
            if len(chosen) < many or not _is_shape(text, chosen, alone=bool(size)):
                continue
            digits = "".join(text[a:b] for a, b in chosen)
            if _is_issued(digits) and luhn(digits) and not _is_other(text, chosen[0][0], digits):
                yield chosen[0][0], chosen[-1][1], digits
                done = place + many
                break


def _is_shape(text: str, groups: list[tuple[int, int]], *, alone: bool) -> bool:
    """Say whether digits are grouped as on a card, by one separator throughout."""
    lengths = tuple(b - a for a, b in groups)
    if sum(lengths) not in _LENGTHS:
        return False
    separators = {text[a[1] : b[0]] for a, b in itertools.pairwise(groups)}
    return alone or (lengths in _SHAPES[sum(lengths)] and len(separators) == 1)


def _is_other(text: str, start: int, digits: str) -> bool:
    """Say whether a number is somebody's identifier, or of 13 digits, as on every product."""
    told = before(text, start, 32)
    return bool(len(digits) == _PRODUCT or _IDENTIFIER.search(told)) and not _CARD_WORD.search(told)


CARD = Detector(kind="card", pattern=r"[0-9](?:[ \x{A0}\x{2013}-]?[0-9]){12,}", spans=_spans)

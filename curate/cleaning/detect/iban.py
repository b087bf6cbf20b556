"""International bank account numbers (ISO 13616): a country, its length, and a checksum modulo 97.

The registry's lengths; written in one run, or in groups after single blanks or hyphens.
"""

import re
from collections.abc import Iterator

from curate.cleaning.detect.base import Detector, Span, is_word

__all__ = ["IBAN"]

_LENGTHS = {
    length: frozenset(countries.split())
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
_LENGTH_OF = {country: length for length, of in _LENGTHS.items() for country in of}
_MAX_BLANKS = 9
_SEPARATORS = " \xa0-"
_BEGINNING = re.compile(r"[A-Z]{2}[0-9]{2}")


def is_iban(number: str) -> bool:
    """Check the digits of a number of the right length (ISO 7064, MOD 97-10).

    >>> is_iban("GB82WEST12345698765432"), is_iban("GB82WEST12345698765423")
    (True, False)
    """
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    return int(digits) % 97 == 1


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    done = start
    for match in _BEGINNING.finditer(text, start, end):
        first = match.start()
        length = _LENGTH_OF.get(match[0][:2])
        if length is None or first < done or is_word(text[first - 1 : first]):
            continue
        stop = _end(text, first, min(end, first + length + _MAX_BLANKS), length)
        if stop is None or is_word(text[stop : stop + 1]):
            continue
        number = "".join(one for one in text[first:stop] if one not in _SEPARATORS)
        if is_iban(number):
            yield first, stop, number
            done = stop


def _end(text: str, start: int, end: int, length: int) -> int | None:
    """Return where `length` characters that separate nothing end."""
    for place in range(start, end):
        length -= text[place] not in _SEPARATORS
        if not length:
            return place + 1
    return None


IBAN = Detector(kind="iban", pattern=r"[A-Z]{2}[0-9]{2}(?:[ \x{A0}-]?[A-Z0-9]){11,}", spans=_spans)

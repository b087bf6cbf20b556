r"""When a line of a log was written: the usual formats, found at the beginning of the line.

>>> find = TIMES["apache"]
>>> find('1.2.3.4 - - [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 12')
1431849903
>>> best_format(["2020-01-02 03:04:05,678 INFO up", "  at line 3"])
'iso'
"""

import datetime
import functools
import re
from collections.abc import Callable, Iterable, Mapping

__all__ = ["TIMES", "as_iso", "best_format"]

_HEAD = 300  # characters of a line in which its time is looked for
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_ISO = re.compile(
    r"[^\s\d]{0,20}(?:\S{1,40} ){0,3}?[^\s\d]{0,3}"
    r"(\d{4})[-/.](\d\d)[-/.](\d\d)[T ](\d\d):(\d\d)(?::(\d\d))?(?:[.,]\d{1,9})? ?"
    r"(Z|[+-]\d\d:?\d\d)?"
)
_APACHE = re.compile(
    r"[^\[]{0,250}\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(?: ([+-]\d{4}))?\]"
)
_APACHE_ERROR = re.compile(
    r"\[[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d\d?) (\d\d):(\d\d):(\d\d)(?:\.\d{1,9})? (\d{4})\]"
)
_SYSLOG = re.compile(r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) +(\d\d?) (\d\d):(\d\d):(\d\d)\b")
# Times without a year are ordered as if in this one, which has a 29 February and no logs.
_NO_YEAR = 4
_EPOCH = datetime.datetime(1970, 1, 1)


@functools.lru_cache(maxsize=4096)
def _day(year: int, month: int, day: int) -> int | None:
    """Return the seconds from 1970 to the beginning of a day, None if there is no such day."""
    try:
        return (datetime.date(year, month, day).toordinal() - 719_163) * 86_400
    except ValueError:
        return None


def _offset(zone: str | None) -> int:
    """Return the seconds that a zone such as +0200 is before UTC; without one it is UTC."""
    if not zone or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _moment(
    day: int | None, hour: str, minute: str, second: str | None, zone: str | None
) -> int | None:
    clock = int(hour) * 3600 + int(minute) * 60 + int(second or 0)
    if day is None or int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
        return None
    return day + clock - _offset(zone)


def _iso(line: str) -> int | None:
    match = _ISO.match(line, 0, _HEAD) if line[:1].strip() else None
    if match is None:
        return None
    year, month, day, hour, minute, second, zone = match.groups()
    return _moment(_day(int(year), int(month), int(day)), hour, minute, second, zone)


def _apache(line: str) -> int | None:
    if not line[:1].strip():
        return None
    match = _APACHE.match(line, 0, _HEAD)
    if match:
        day, name, year, hour, minute, second, zone = match.groups()
        date = _day(int(year), _MONTHS.get(name, 0), int(day))
        return _moment(date, hour, minute, second, zone)
    match = _APACHE_ERROR.match(line, 0, _HEAD)
    if match is None:
        return None
    name, day, hour, minute, second, year = match.groups()
    return _moment(_day(int(year), _MONTHS.get(name, 0), int(day)), hour, minute, second, None)


def _syslog(line: str) -> int | None:
    match = _SYSLOG.match(line, 0, _HEAD)
    if match is None:
        return _iso(line)  # as RFC 5424 writes it
    name, day, hour, minute, second = match.groups()
    return _moment(_day(_NO_YEAR, _MONTHS.get(name, 0), int(day)), hour, minute, second, None)


# Name -> the seconds since 1970 at which a line was written, None when it does not say.
TIMES: Mapping[str, Callable[[str], int | None]] = {
    "apache": _apache,
    "syslog": _syslog,
    "iso": _iso,
}


def as_iso(seconds: int) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC; None for a time that had no year.

    >>> as_iso(0), as_iso(-62_000_000_000)
    ('1970-01-01T00:00:00Z', None)
    """
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds)
    except OverflowError:  # the last hours of the year 9999, west of Greenwich
        return None
    return None if moment.year <= _NO_YEAR + 1 else f"{moment.isoformat()}Z"


def best_format(lines: Iterable[str]) -> str | None:
    """Return the format in which most of some lines have a time, None when none has one."""
    counts = dict.fromkeys(("iso", "apache", "syslog"), 0)
    for line in lines:
        for name in counts:
            counts[name] += TIMES[name](line) is not None
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None

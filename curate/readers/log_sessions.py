r"""Which session a line of a log belongs to: a field, or what a regular expression finds.

The expression is run by RE2 (through Arrow), whose time is linear in the line whatever a recipe or
a log holds; what RE2 does not have (backreferences, look-around) is refused.

>>> sessions_of(pattern_of("user"), ["GET /a?user=ann HTTP", '{"user": "bob"}', "none"])
['ann', 'bob', None]
>>> sessions_of(pattern_of(r"id-(\d+)"), ["id-12"])
['12']
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError

__all__ = ["pattern_of", "sessions_of"]

_GROUP = "session"
_HOST = rf"^(?P<{_GROUP}>[^\s\[]+)"
_SYSLOG_HOST = rf"^(?:<\d{{1,3}}>)?[A-Z]\w\w +\d+ [\d:]+ (?P<{_GROUP}>\S+)"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,60}")
_MAX_PATTERN = 500


def pattern_of(session: str, format: str | None = None) -> str:
    """Return an expression with one group `session` from what a recipe says.

    Args:
        session: `host` (the first word of a line; in syslog behind the time), the NAME of
            `NAME=value` or `"NAME": "value"`, or a regular expression; its one group, or all of
            it, is the session.
        format: how the lines tell their time.

    Raises:
        InputError: an expression that RE2 does not take, or that has several groups.
    """
    if session == "host":
        return _SYSLOG_HOST if format == "syslog" else _HOST
    if _NAME.fullmatch(session):
        name = re.escape(session)
        return rf"\b{name}[\"']?\s?[=:]\s?[\"']?(?P<{_GROUP}>[^\s\"',;&)\]}}]+)"
    starts = _groups(session)
    if len(session) > _MAX_PATTERN or len(starts) > 1:
        raise InputError(
            f"options: session is {session[:60]!r}; write an expression of at most "
            f"{_MAX_PATTERN} characters with one group, which is the session ((?:...) groups "
            "without being one)."
        )
    if not starts:
        pattern = f"(?P<{_GROUP}>{session})"
    else:
        begin, end = starts[0]
        pattern = f"{session[:begin]}(?P<{_GROUP}>{session[end:]}"
    try:
        sessions_of(pattern, [""])
    except (pa.ArrowException, ValueError) as error:
        raise InputError(
            f"options: session {session!r} is no regular expression that runs in linear time "
            f"(RE2): {error}"
        ) from None
    return pattern


def _groups(pattern: str) -> list[tuple[int, int]]:
    """Return [start, end) of what opens each capturing group."""
    found = []
    at = 0
    in_class = False
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            at += 2
            continue
        if in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
            at += 1 + pattern.startswith("^", at + 1)
            if pattern.startswith("]", at):  # the first one is a member
                at += 1
            continue
        elif sign == "(":
            named = re.match(r"\(\?P?<[A-Za-z]\w{0,60}>", pattern[at : at + 80])
            if named:
                found.append((at, at + named.end()))
            elif not pattern.startswith("(?", at):
                found.append((at, at + 1))
        at += 1
    return found


def sessions_of(pattern: str | None, lines: list[str]) -> list[str | None]:
    """Return the session of each line; None where the pattern finds none, or there is none."""
    if pattern is None or not lines:
        return [None] * len(lines)
    found = pc.extract_regex(pa.array(lines, pa.large_string()), pattern)
    return [value or None for value in pc.struct_field(found, _GROUP).to_pylist()]

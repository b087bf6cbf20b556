"""Public internet addresses, IPv4 and IPv6, told from versions, section numbers and times.

Private, loopback, link-local, documentation and other reserved ranges say nothing about anybody
and stay, by Python's `ipaddress` (the registries of RFC 6890). Four numbers that all are small are
a version or the number of a section unless a word before them says otherwise.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from curate.cleaning.detect.base import Detector, Span, after, before, is_word

__all__ = ["IP"]

_SMALL = 32
_MAX_CHARACTERS = 45
_VERSION = re.compile(
    r"(?:\b(?:v|ver|vers|version|versions|release|released|rev|revision|build|firmware|driver|"
    r"update|upgrade|patch|sdk|php|java|jdk|python|chrome|chromium|safari|firefox|opera|edge|"
    r"section|sections|sec|chapter|clause|paragraph|annex|appendix|table|figure|fig|oid|rfc|"
    r"mozilla|msie|webkit|gecko)\W{0,3}|[~^=<>!]=\s?|\bv)$",
    re.ASCII | re.IGNORECASE,
)
_UPDATE = re.compile(
    r"\b(?:v8|versions?|(?:up|down)grad(?:e|es|ed|ing)|updat(?:e|es|ed|ing)|bump(?:s|ed|ing)?)\b",
    re.ASCII | re.IGNORECASE,
)
_DRAWING = re.compile(r"[0-9]?\.[0-9]+[ ,-]-?[0-9]*\.[0-9]+[ ,]$")  # numbers of a path in SVG
_NETWORK = re.compile(
    r"\b(?:ips?|ipv4|dns|ping|servers?|hosts?|hostname|nameservers?|resolvers?|subnet|gateway)\b",
    re.ASCII | re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"(?:\b(?:ip|ips|ipv4|address|addr|host|hosts|server|client|remote|from|dns|nameserver|"
    r"resolver|gateway|proxy|ping|peer|src|dst|source|destination|login|at)\W{0,4}|://|@)$",
    re.ASCII | re.IGNORECASE,
)


def _spans(text: str, start: int, end: int) -> Iterator[Span]:
    left, right = text[start - 1 : start], text[end : end + 1]
    if ":" in text[start:end]:
        candidate = text[start:end]
        if not candidate.endswith("::"):
            candidate = candidate.rstrip(":")
        stop = start + len(candidate)
        whole = (
            not is_word(left) and left not in (".", ":", "-") and not is_word(text[stop : stop + 1])
        )
        found: list[Span] = []
        if whole and len(candidate) <= _MAX_CHARACTERS:
            found = list(_address(candidate, start))
            if not found and candidate[0] != ":":  # `2a00:1450::8.1.2.300` is one and something
                found = list(_address(candidate.partition(".")[0], start))
        if not found and candidate[0] == ":":
            found = list(_spans(text, start + len("::ffff:"), end))
        yield from found
        return
    if is_word(left) or is_word(right) or left in (".", "-", "+"):
        return
    if right in ("-", "+") or (right == "." and text[end + 1 : end + 2].isdigit()):
        return
    candidate = text[start:end]
    parts = candidate.split(".")
    if len(parts) != 4 or any(len(part) > 3 or (part[0] == "0" != part) for part in parts):
        return
    told = before(text, start, 24)
    if _VERSION.search(told) or _DRAWING.search(told) or parts[2:] == ["0", "0"]:
        return
    port = after(text, end, 2)
    named = port[:1] == ":" and port[1:].isdigit()
    if not named and _UPDATE.search(before(text, start, 48)):
        return
    is_small = all(int(part) < _SMALL for part in parts)
    if not is_small or named or _is_named(text, start, told, right):
        yield from _address(candidate, start)


def _is_named(text: str, start: int, told: str, right: str) -> bool:
    """Say whether words tell that it is an address: `ping 8.8.8.8`; `3.2.1.4.` begins a heading."""
    if _ADDRESS.search(told):
        return True
    begins = not told.strip() or told.rstrip().endswith(">")
    return not (right == "." and begins) and bool(_NETWORK.search(before(text, start, 48)))


def _address(candidate: str, start: int) -> Iterator[Span]:
    public = _public(candidate)
    if public is not None:
        yield start, start + len(candidate), public


@lru_cache(maxsize=1 << 14)  # the same few addresses fill a log
def _public(candidate: str) -> str | None:
    """Return an address in its short form, None if it is none or not public."""
    try:
        found = ipaddress.ip_address(candidate)
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    return found.compressed if found.is_global and not found.is_multicast else None


IP = Detector(
    kind="ip",
    # Runs as long as they go: five numbers are none. IPv6: global unicast is 2000::/3 (RFC 4291).
    # Both may end in an IPv4 address (2.2); `::ffff:` is what IPv4 is mapped to.
    pattern=r"[0-9]+(?:\.[0-9]+){3,}|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*[0-9A-Fa-f:](?:(?:\.[0-9]+){3})?"
    r"|::[Ff]{4}:[0-9]+(?:\.[0-9]+){3}",
    spans=_spans,
)

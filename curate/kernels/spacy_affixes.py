"""spaCy's English rules for prefixes, suffixes, infixes and URLs, as parts of kernels (numba).

`curate.kernels.spacy_words` says what they are for. Strings are ranges of code points; look-behinds
see no further than the string. A suffix is searched from the left, so the longest that fits wins;
of infixes the first alternative that fits wins. The URL pattern is Diego Perini's as spaCy has it,
with its backtracking taken apart: labels, digits and the top-level domain are maximal runs.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels import spacy_classes as flag
from curate.kernels.compiled import part_of_kernels
from curate.kernels.mix import GOLDEN
from curate.kernels.spacy_tables import UNIT, Splitter
from curate.kernels.utf8 import character_at, character_width

__all__ = ["decode", "has_affix", "hash_chars", "infix", "is_url", "known", "prefix", "suffix"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]

_DOT, _PLUS, _HYPHEN, _COLON, _SLASH, _AT = 0x2E, 0x2B, 0x2D, 0x3A, 0x2F, 0x40
_COMMA, _TILDE, _DOLLAR, _DEGREE, _S = 0x2C, 0x7E, 0x24, 0xB0, 0x73
_EN_DASH, _EM_DASH, _ELLIPSIS, _APOSTROPHE, _CURLY = 0x2013, 0x2014, 0x2026, 0x27, 0x2019


@part_of_kernels
def decode(data: U8, start: int, stop: int, chars: U32) -> int:
    """Write the code points of the UTF-8 `data[start:stop]` to `chars`; return how many."""
    n = 0
    i = start
    while i < stop:
        if data[i] < 0x80:
            chars[n] = data[i]
            i += 1
        else:
            width = character_width(data, i, stop)
            if width == 0:
                break
            chars[n] = character_at(data, i, width)
            i += width
        n += 1
    return n


@part_of_kernels
def hash_chars(chars: U32, start: int, stop: int) -> np.uint64:
    """Return the 64-bit hash of a string, never 0."""
    value = np.uint64(stop - start) * GOLDEN
    for i in range(start, stop):
        value = (value ^ np.uint64(chars[i])) * GOLDEN
        value ^= value >> np.uint64(29)
    return value | np.uint64(1)


@part_of_kernels
def known(chars: U32, start: int, stop: int, s: Splitter, kind: int) -> int:
    """Return the number of a known string of this kind, or -1."""
    size = stop - start
    if size > s.longest or size <= 0:
        return -1
    key = hash_chars(chars, start, stop)
    mask = s.keys.size - 1
    slot = np.int64(key >> np.uint64(20)) & mask
    while s.keys[slot] != 0:
        if s.keys[slot] == key:
            found = s.ids[slot]
            place = s.bounds[found]
            if s.bounds[found + 1] - place == size and s.kinds[found] & kind:
                same = True
                for i in range(size):
                    same &= s.chars[place + i] == chars[start + i]
                if same:
                    return int(found)
        slot = (slot + 1) & mask
    return -1


@part_of_kernels
def _is_digit(char: int) -> bool:
    return 0x30 <= char <= 0x39


@part_of_kernels
def prefix(chars: U32, start: int, stop: int, s: Splitter) -> int:
    """Return the length of the prefix, 0 for none."""
    first = chars[start]
    if s.classes[first] & flag.PREFIX:
        return 1
    if first == _DOT:
        i = start + 1
        while i < stop and chars[i] == _DOT:
            i += 1
        return i - start if i - start > 1 else 0
    if first == _PLUS:
        return 0 if start + 1 < stop and _is_digit(chars[start + 1]) else 1
    if first == 0x55 and start + 2 < stop and chars[start + 1] == 0x53:  # US$
        return 3 if chars[start + 2] == _DOLLAR else 0
    if (first == 0x43 or first == 0x41) and start + 1 < stop:  # C$, A$
        return 2 if chars[start + 1] == _DOLLAR else 0
    return 0


@part_of_kernels
def _money_or_unit(chars: U32, start: int, stop: int, s: Splitter) -> int:
    """Return the length of the longest currency or unit at the end that follows a digit."""
    longest = min(6, stop - start - 1)
    for size in range(longest, 0, -1):
        if not _is_digit(chars[stop - size - 1]):
            continue
        first = chars[stop - size]
        if size == 1 and s.classes[first] & flag.CURRENCY:
            return 1
        if chars[stop - 1] == _DOLLAR:
            if size == 2 and (first == 0x43 or first == 0x41):
                return 2
            if size == 3 and first == 0x55 and chars[stop - 2] == 0x53:
                return 3
        if known(chars, stop - size, stop, s, UNIT) >= 0:
            return size
    return 0


@part_of_kernels
def suffix(chars: U32, start: int, stop: int, s: Splitter) -> int:
    """Return the length of the suffix, 0 for none: of all that fit, the longest."""
    if start >= stop:
        return 0
    last = chars[stop - 1]
    before: Any = chars[stop - 2] if stop - start > 1 else np.uint32(0)
    if last == _DOT:
        if before == _DOT:
            i = stop - 2
            while i > start and chars[i - 1] == _DOT:
                i -= 1
            return stop - i
        if s.classes[before] & flag.BEFORE_DOT and stop - start > 1:
            return 1
        if stop - start < 3:
            return 0
        two = chars[stop - 3]
        if two == _DEGREE and (before | 0x20) in (0x63, 0x66, 0x6B):
            return 1
        return 1 if s.classes[before] & s.classes[two] & flag.UPPER else 0
    if (last | 0x20) == _S and before in (_APOSTROPHE, _CURLY):
        return 2
    found = 0
    if stop - start > 1:
        if last == _ELLIPSIS and before == _ELLIPSIS:
            return 2
        found = _money_or_unit(chars, start, stop, s)
        if last == _PLUS and _is_digit(before):
            found = max(found, 1)
    return max(found, 1) if s.classes[last] & flag.SUFFIX else found


@part_of_kernels
def infix(chars: U32, i: int, start: int, stop: int, s: Splitter) -> int:
    """Return the length of the infix at `i` of the string, 0 for none."""
    char = chars[i]
    if s.classes[char] & flag.INFIX:
        return 1
    if char == _DOT and i + 1 < stop and chars[i + 1] == _DOT:
        j = i + 2
        while j < stop and chars[j] == _DOT:
            j += 1
        return j - i
    if i == start or i + 1 >= stop:
        return 0
    left, right = s.classes[chars[i - 1]], s.classes[chars[i + 1]]
    digit = _is_digit(chars[i - 1])
    if char == _DOT:
        fits = left & (flag.LOWER | flag.QUOTE) and right & (flag.UPPER | flag.QUOTE)
        return 1 if fits else 0
    if char == _COMMA:
        return 1 if left & right & flag.ALPHA else 0
    counted = digit and (_is_digit(chars[i + 1]) or chars[i + 1] == _HYPHEN)
    if counted and char in (_PLUS, _HYPHEN, 0x2A, 0x5E):
        return 1
    if not (digit or left & flag.ALPHA):
        return 0
    if char in (_HYPHEN, _EM_DASH):
        most = 3 if char == _HYPHEN else 2
        size = 1
        while size < most and i + size < stop and chars[i + size] == char:
            size += 1
        fits = i + size < stop and s.classes[chars[i + size]] & flag.ALPHA
        return size if fits else 0
    if char in (_EN_DASH, _TILDE, _COLON, 0x3C, 0x3E, 0x3D, _SLASH):
        return 1 if right & flag.ALPHA else 0
    return 0


@part_of_kernels
def _ends_url(chars: U32, i: int, stop: int, s: Splitter) -> bool:
    """Say whether nothing but a port and a path follows the host."""
    if i < stop and chars[i] == _COLON:
        j = i + 1
        while j < stop and s.classes[chars[j]] & flag.DECIMAL:
            j += 1
        if not 2 <= j - i - 1 <= 5:
            return False
        i = j
    return i == stop or chars[i] == _SLASH or chars[i] == 0x3F or chars[i] == 0x23


@part_of_kernels
def _is_host(chars: U32, start: int, stop: int, s: Splitter) -> bool:
    """Say whether labels and a top-level domain begin here, and end the URL but for its path."""
    i = start
    label = start
    while i < stop:
        char = chars[i]
        if char == _DOT:
            size = i - label
            fits = s.classes[chars[label]] & s.classes[chars[i - 1]] & flag.HOST
            if not 1 <= size <= 64 or not fits:
                return False
            label = i + 1
            j = label
            while j < stop and s.classes[chars[j]] & flag.LOWER:
                j += 1
            if 2 <= j - label <= 63 and _ends_url(chars, j, stop, s):
                return True
        elif not (s.classes[char] & flag.HOST or char == _HYPHEN or char == 0x5F):
            return False
        i += 1
    return False


@part_of_kernels
def _is_address(chars: U32, start: int, stop: int, s: Splitter) -> bool:
    """Say whether a public IPv4 address begins here, and ends the URL but for its path."""
    i = start
    first = second = 0
    for part in range(4):
        begin = i
        value = 0
        ascii_only = True
        while i < stop and s.classes[chars[i]] & flag.DECIMAL:
            ascii_only &= _is_digit(chars[i])
            value = value * 10 + int(np.int64(chars[i]) - 0x30)
            i += 1
            if i - begin > 3:
                return False
        # Digits of other scripts would be allowed in places; no such address was ever written.
        if i == begin or not ascii_only:
            return False
        zero = chars[begin] == 0x30
        if part == 0:
            if zero or value > 223:
                return False
            first = value
        elif part < 3:
            if value > 255 or (zero and i - begin == 3):
                return False
            if part == 1:
                second = value
        elif zero or value > 254:
            return False
        if part < 3:
            if i >= stop or chars[i] != _DOT:
                return False
            i += 1
    private = first == 10 or first == 127 or (first == 169 and second == 254)
    private |= (first == 192 and second == 168) or (first == 172 and 16 <= second <= 31)
    return not private and _ends_url(chars, i, stop, s)


@part_of_kernels
def is_url(chars: U32, start: int, stop: int, s: Splitter) -> bool:
    """Say whether the string looks like a URL or an e-mail address to spaCy."""
    has_dot = False
    for i in range(start + 1, stop - 1):
        has_dot |= chars[i] == _DOT
    if not has_dot:
        return False
    scheme = start
    while scheme < stop and (
        s.classes[chars[scheme]] & flag.WORD
        or chars[scheme] == _PLUS
        or chars[scheme] == _HYPHEN
        or chars[scheme] == _DOT
    ):
        scheme += 1
    after = -1
    fits = scheme - start >= 2 and scheme + 3 <= stop and chars[scheme] == _COLON
    if fits and chars[scheme + 1] == _SLASH and chars[scheme + 2] == _SLASH:
        after = scheme + 3
    # A host may begin at the start, behind the scheme, and behind every @.
    for i in range(start, stop):
        begins = i in (start, after) or (i > start + 1 and chars[i - 1] == _AT)
        if begins and (_is_host(chars, i, stop, s) or _is_address(chars, i, stop, s)):
            return True
    return False


@part_of_kernels
def has_affix(chars: U32, n: int, s: Splitter) -> bool:
    """Say whether any prefix, infix or suffix rule fits the string."""
    found = prefix(chars, 0, n, s) + suffix(chars, 0, n, s)
    for i in range(n):
        found += infix(chars, i, 0, n, s)
    return found > 0

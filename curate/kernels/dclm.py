r"""Repeated n-grams as DCLM counts them, over words of Unicode's default word boundaries (numba).

DCLM (`massive_web_repetition_filters`) cuts words with the package uniseg and keeps those that
begin with a letter or a number. What is here follows UAX #29 for letters, numbers and the signs
that join them (`can't`, `3.5`, `foo_bar`); Han, Hiragana and the scripts of South-East Asia give a
word per character. Hebrew's own rules and emoji are left out.

Two more things differ from Gopher elsewhere: of several most common n-grams the longest counts; and
a word counts once however many repeated n-grams cover it. An n-gram that occurs once is no repeat.
"""

import functools

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.ngrams import (
    group_all,
    group_picked,
    joined,
    keep_repeated,
    keep_repeated_picked,
    mixed,
)
from curate.kernels.utf8 import character_at, character_width

__all__ = ["NUM_COLUMNS", "WIDTHS", "break_classes", "measure_repeats"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10)
NUM_COLUMNS = 1 + len(WIDTHS)  # characters of all words; then those of repeats, by width

_TABLE_SIZE = 0x40000
_LETTER, _NUMBER, _KATAKANA, _CONNECTOR, _ALONE = 1, 2, 3, 4, 5
_EXTENDS, _MID_LETTER, _MID_NUMBER, _MID_BOTH = 6, 7, 8, 9
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

# Later ones win.
_PATTERNS = (
    (_ALONE, r"[\p{L}\p{N}]"),
    (_LETTER, r"[\p{Alphabetic}--\p{Han}]"),
    (_ALONE, r"[\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{Tai_Le}&&\p{L}]"),
    (_ALONE, r"[\p{New_Tai_Lue}\p{Tai_Viet}\p{Ahom}&&\p{L}]"),
    (_KATAKANA, r"[\p{Katakana}\x{3031}-\x{3035}\x{309B}\x{309C}\x{30A0}\x{30FC}\x{FF70}]"),
    (_NUMBER, r"[\p{Nd}\x{66C}]"),
    (_CONNECTOR, r"[\p{Pc}\x{202F}]"),
    (_EXTENDS, r"[\p{M}\p{Cf}--\x{200B}]"),
    (_MID_LETTER, r"[:\x{B7}\x{387}\x{55F}\x{5F4}\x{2027}\x{FE13}\x{FE55}\x{FF1A}]"),
    (_MID_NUMBER, r"[,;\x{37E}\x{589}\x{60C}\x{60D}\x{7F8}\x{2044}\x{FE10}\x{FE14}]"),
    (_MID_NUMBER, r"[\x{FF0C}\x{FF1B}]"),
    (_MID_BOTH, r"[.'\x{2018}\x{2019}\x{2024}\x{FE52}\x{FF07}\x{FF0E}]"),
)


@functools.cache
def break_classes() -> U8:
    """Return what each code point below 0x40000 is to a word boundary."""
    codes = [code for code in range(_TABLE_SIZE) if not 0xD800 <= code < 0xE000]
    text = pl.Series(map(chr, codes), dtype=pl.String).str
    table = np.zeros(_TABLE_SIZE, dtype=np.uint8)
    for number, pattern in _PATTERNS:
        table[np.array(codes)[text.contains(pattern).to_numpy()]] = number
    table.flags.writeable = False
    return table


@compiled
def measure_repeats(
    data: U8, offsets: I64, classes: U8,
    words: U64, sums: I64, keys: U64, groups: U32, counts: U32, picked: U32, table: U64, out: I64,
) -> None:  # fmt: skip
    """Write the characters of each document `data[offsets[i] : offsets[i + 1]]`.

    Args:
        data: UTF-8.
        offsets: int64 [n + 1].
        classes: `break_classes`.
        words, sums, keys, groups, counts, picked: scratch for one more than the longest text's
            bytes.
        table: scratch for `ngrams.table_size` of that many.
        out: int64 [n, NUM_COLUMNS], filled.
    """
    for i in range(offsets.size - 1):
        out[i, :] = 0
        num = _cut_words(data, offsets[i], offsets[i + 1], classes, words, sums)
        out[i, 0] = sums[num]
        _count_repeats(words, sums, num, keys, groups, counts, picked, table, out[i])


@part_of_kernels
def _class_at(data: U8, i: int, stop: int, classes: U8) -> tuple[int, int]:
    """Return the class of the character at `i` and its bytes; class 0 behind the end."""
    if i >= stop:
        return 0, 1
    if data[i] < 0x80:
        return int(classes[data[i]]), 1
    width = character_width(data, i, stop)
    code = character_at(data, i, width) if width else 0
    return (int(classes[code]) if code < classes.size else 0), max(width, 1)


@part_of_kernels
def _skip_extending(data: U8, i: int, stop: int, classes: U8) -> tuple[int, int, int, int]:
    """Return the next character that is not a mark: its place, class, bytes, and marks between."""
    skipped = 0
    while True:
        kind, width = _class_at(data, i, stop, classes)
        if kind != _EXTENDS:
            return i, kind, width, skipped
        i += width
        skipped += 1


@part_of_kernels
def _cut_words(data: U8, start: int, stop: int, classes: U8, words: U64, sums: I64) -> int:
    """Write a hash of each word and the characters before it; return how many there are."""
    num = total = 0
    sums[0] = 0
    i = start
    while i < stop:
        first = i
        kind, width = _class_at(data, i, stop, classes)
        i += width
        if kind < _LETTER or kind > _ALONE:
            continue
        begins = kind
        size = 1
        while True:
            place, other, width, skipped = _skip_extending(data, i, stop, classes)
            size += skipped
            i = place
            if kind == _ALONE or other == 0:
                break
            if _joins(kind, other):
                kind = other
                size += 1
                i += width
                continue
            middle = other == _MID_BOTH
            middle |= kind == _LETTER and other == _MID_LETTER
            middle |= kind == _NUMBER and other == _MID_NUMBER
            if not middle or (kind != _LETTER and kind != _NUMBER):
                break
            behind, third, third_width, more = _skip_extending(data, i + width, stop, classes)
            if third != kind:
                break
            size += 2 + more
            i = behind + third_width
        if begins != _CONNECTOR:
            h = _OFFSET
            for k in range(first, i):
                h = (h ^ np.uint64(data[k])) * _PRIME
            words[num] = mixed(h)
            total += size
            num += 1
            sums[num] = total
    return num


@part_of_kernels
def _joins(left: int, right: int) -> bool:
    """Return whether there is no boundary between two characters side by side."""
    if right == _CONNECTOR or left == _CONNECTOR:
        return bool(_LETTER <= left <= _CONNECTOR and _LETTER <= right <= _CONNECTOR)
    if left == _KATAKANA or right == _KATAKANA:
        return left == right
    return bool(_LETTER <= left <= _NUMBER and _LETTER <= right <= _NUMBER)


@part_of_kernels
def _count_repeats(
    words: U64, sums: I64, size: int,
    keys: U64, groups: U32, counts: U32, picked: U32, table: U64, row: I64,
) -> None:  # fmt: skip
    if size < 2:
        return
    num = size - 1
    for k in range(num):
        keys[k] = joined(words[k], words[k + 1])
    most, _ = group_all(keys, num, groups, counts, table)
    num = keep_repeated(num, groups, counts, picked)
    for width in range(2, 11):
        if width > 2:
            while num and np.int64(picked[num - 1]) + width > size:
                num -= 1
            if num == 0:
                return
            for j in range(num):
                k = int(np.int64(picked[j]))
                keys[k] = joined(np.uint64(groups[k]), words[k + width - 1])
            most, _ = group_picked(keys, picked, num, groups, counts, table)
            num = keep_repeated_picked(num, groups, counts, picked) if most > 1 else 0
        if num == 0:
            return
        if width < 5:
            longest = 0
            for j in range(num):
                k = int(np.int64(picked[j]))
                if np.int64(counts[np.int64(groups[k])]) == most:
                    longest = max(longest, sums[k + width] - sums[k])
            row[width - 1] = longest * most
        else:
            covered = end = 0
            for j in range(num):
                k = int(np.int64(picked[j]))
                covered += sums[k + width] - sums[max(k, end)]
                end = k + width
            row[width - 1] = covered

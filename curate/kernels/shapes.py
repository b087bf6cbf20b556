r"""What words, lines and paragraphs look like to tools that cut text with Python: one pass (numba).

White space is what `str.split` and `str.strip` take for it: Unicode's White_Space and U+001C to
U+001F. A line ends at a newline and nowhere else, a paragraph at two newlines. The counts are those
that Dolma's and DCLM's filters divide (`curate.signals.dolma`, `curate.signals.refinedweb`); the
names are in `COLUMNS`. Lines and paragraphs are compared by 64-bit hashes of their bytes.
"""

import functools

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.ngrams import group_all, mixed
from curate.kernels.utf8 import character_at, character_width

__all__ = ["COLUMNS", "character_classes", "measure_shapes"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

COLUMNS = (
    "words",
    "word_chars",
    "low_length",  # of the two words in the middle of all, by their characters; one if odd
    "high_length",
    "alpha_words",  # words with a letter
    "symbol_words",  # words with a number sign or U+2026
    "stop_words",  # occurrences of the eight stop words, in lower case
    "stop_words_any_case",
    "alnum_words",  # words by ASCII white space that begin with a letter or a number
    "chars",
    "letter_chars",
    "number_chars",
    "split_lines",  # lines as `str.splitlines` gives them
    "split_line_chars",
    "longest_split_line",
    "lines",
    "bullet_lines",  # beginning with - or *, white space not skipped
    "ellipsis_lines",  # ending with U+2026
    "equal_lines",  # lines that another line equals, all copies
    "equal_line_chars",
    "visible_lines",  # lines that are not white space, trimmed, in all that follows
    "visible_bullet_lines",  # beginning with - * U+2022 U+25CF
    "visible_ellipsis_lines",  # ending with ... or . . . or U+2026
    "visible_equal_lines",
    "visible_line_chars",
    "visible_equal_line_chars",
    "paragraphs",  # trimmed, those that are not white space
    "equal_paragraphs",
    "paragraph_chars",
    "equal_paragraph_chars",
)
_WORDS, _WORD_CHARS, _LOW, _HIGH = 0, 1, 2, 3
_ALPHA, _SYMBOL, _STOP, _STOP_ANY, _ALNUM = 4, 5, 6, 7, 8
_CHARS, _LETTERS, _NUMBERS, _SPLIT, _SPLIT_CHARS, _LONGEST = 9, 10, 11, 12, 13, 14
_LINES, _VISIBLE, _PARAGRAPHS = 15, 20, 26

# Letters and numbers end far below; what is above has no class.
_TABLE_SIZE = 0x32400
_SPACE, _LETTER, _NUMBER, _SEPARATOR, _BREAK = 1, 2, 4, 8, 16

_NEWLINE, _DOT, _BLANK = np.uint8(10), np.uint8(ord(".")), np.uint8(32)
_SHORT = 1024  # words this long or longer are counted in one place, and sorted if they matter

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_BYTE_SHIFT, _LENGTH_SHIFT = np.uint64(8), np.uint64(56)
_LOWER = np.uint64(0x20202020)


def _stop_words() -> U64:
    words = ("the", "be", "to", "of", "and", "that", "have", "with")
    numbers = [int.from_bytes(word.encode(), "big") | len(word) << 56 for word in words]
    return np.array(numbers, dtype=np.uint64)


_STOPS = _stop_words()


@functools.cache
def character_classes() -> U8:
    """Return the class of each code point below 0x32400, as bits: white space, letter, number."""
    codes = [code for code in range(_TABLE_SIZE) if not 0xD800 <= code < 0xE000]
    text = pl.Series(map(chr, codes), dtype=pl.String).str
    table = np.zeros(_TABLE_SIZE, dtype=np.uint8)
    for bit, pattern in (
        (_SPACE, r"[\s\x{1C}-\x{1F}]"),
        (_LETTER, r"\p{L}"),
        (_NUMBER, r"\p{N}"),
    ):
        table[codes] |= bit * text.contains(pattern).to_numpy().astype(np.uint8)
    for code in (0, 9, 10, 11, 12, 13, 32):  # what fastText cuts at
        table[code] |= _SEPARATOR
    for code in (10, 11, 12, 13, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029):
        table[code] |= _BREAK
    table.flags.writeable = False
    return table


@compiled
def measure_shapes(
    data: U8, offsets: I64, classes: U8, lines: bool, visible: bool,
    keys: U64, chars: U32, groups: U32, counts: U32, lengths: U32, table: U64, out: I64,
) -> None:  # fmt: skip
    """Write the counts of each document `data[offsets[i] : offsets[i + 1]]`.

    Args:
        data: UTF-8.
        offsets: int64 [n + 1].
        classes: `character_classes`.
        lines, visible: whether to count lines; lines that are visible, and paragraphs. Else 0.
        keys, chars, groups, counts, lengths: scratch for one more than the longest text's bytes.
        table: scratch for `ngrams.table_size` of that many.
        out: int64 [n, len(COLUMNS)], filled.
    """
    for i in range(offsets.size - 1):
        row = out[i]
        row[:] = 0
        start, stop = offsets[i], offsets[i + 1]
        _read_words(data, start, stop, classes, lengths, row)
        if lines:
            num = _read_lines(data, start, stop, keys, chars, row)
            row[_LINES] = num
            row[_LINES + 3], row[_LINES + 4] = _equal(keys, chars, num, groups, counts, table)
        if visible:
            num = _read_visible(data, start, stop, classes, 1, keys, chars, row)
            row[_VISIBLE] = num
            row[_VISIBLE + 4] = _sum(chars, num)
            row[_VISIBLE + 3], row[_VISIBLE + 5] = _equal(keys, chars, num, groups, counts, table)
            num = _read_visible(data, start, stop, classes, 2, keys, chars, row)
            row[_PARAGRAPHS], row[_PARAGRAPHS + 2] = num, _sum(chars, num)
            again, again_chars = _equal(keys, chars, num, groups, counts, table)
            row[_PARAGRAPHS + 1], row[_PARAGRAPHS + 3] = again, again_chars


@part_of_kernels
def _read_words(data: U8, start: int, stop: int, classes: U8, lengths: U32, row: I64) -> None:
    """Count words; their lengths go to `lengths`, for the median."""
    histogram = np.zeros(_SHORT + 1, dtype=np.int64)
    num = total = size = 0
    alphas = with_symbols = stops = stops_any_case = alnums = 0
    letters = symbols = False
    packed = np.uint64(0)
    num_bytes = 0
    separated = True
    chars = letter_chars = number_chars = in_line = split_lines = split_chars = longest = 0
    i = start
    while i <= stop:
        kind = _SPACE
        width = 1
        byte = np.uint8(0)
        if i < stop:
            byte = data[i]
            code = int(byte)
            if byte >= 0x80:
                width = character_width(data, i, stop)
                code = character_at(data, i, width) if width else 0
                width = max(width, 1)
                symbols |= code == 0x2026
            else:
                symbols |= code == 0x23
            kind = int(classes[code]) if code < classes.size else 0
            alnums += separated and kind & (_LETTER | _NUMBER) != 0
            separated = kind & _SEPARATOR != 0
            chars += 1
            letter_chars += kind & _LETTER != 0
            number_chars += kind & _NUMBER != 0
            in_line += 1
            # Of "\r\n" the newline ends the line.
            if kind & _BREAK and not (byte == 13 and i + 1 < stop and data[i + 1] == _NEWLINE):
                in_line -= 1 + (byte == _NEWLINE and i > start and data[i - 1] == 13)
                split_lines += 1
                split_chars += in_line
                longest = max(longest, in_line)
                in_line = 0
        if kind & _SPACE == 0:
            letters |= kind & _LETTER != 0
            packed = packed << _BYTE_SHIFT | np.uint64(byte)
            num_bytes += width
            size += 1
        elif size:
            lengths[num] = size
            histogram[min(size, _SHORT)] += 1
            num += 1
            total += size
            alphas += letters
            with_symbols += symbols
            if num_bytes <= 4:
                marked = packed | np.uint64(num_bytes) << _LENGTH_SHIFT
                lowered = (packed | _lower(num_bytes)) | np.uint64(num_bytes) << _LENGTH_SHIFT
                for stop_word in _STOPS:
                    stops += marked == stop_word
                    stops_any_case += lowered == stop_word
            letters = False
            size = num_bytes = 0
            packed = np.uint64(0)
            symbols = False
        else:
            symbols = False
        i += width
    row[_WORDS], row[_WORD_CHARS], row[_ALPHA], row[_SYMBOL] = num, total, alphas, with_symbols
    row[_STOP], row[_STOP_ANY], row[_ALNUM] = stops, stops_any_case, alnums
    row[_CHARS], row[_LETTERS], row[_NUMBERS] = chars, letter_chars, number_chars
    row[_SPLIT], row[_SPLIT_CHARS] = split_lines + (in_line > 0), split_chars + in_line
    row[_LONGEST] = max(longest, in_line)
    if num:
        row[_LOW] = _ranked(histogram, lengths, num, (num - 1) // 2)
        row[_HIGH] = _ranked(histogram, lengths, num, num // 2)


@part_of_kernels
def _lower(num_bytes: int) -> np.uint64:
    """Return the bits that make a letter a small one, for a packed word of so many bytes."""
    return _LOWER >> np.uint64(8 * (4 - num_bytes))


@part_of_kernels
def _ranked(histogram: I64, lengths: U32, num: int, rank: int) -> int:
    """Return the length of the word of this rank, the shortest having rank 0."""
    below = 0
    for size in range(_SHORT):
        below += histogram[size]
        if below > rank:
            return size
    return int(np.sort(lengths[:num])[rank])


@part_of_kernels
def _read_lines(data: U8, start: int, stop: int, keys: U64, chars: U32, row: I64) -> int:
    """Hash the lines as they stand, blank ones too; return how many there are."""
    num = 0
    first = start
    h = _OFFSET
    size = 0
    for i in range(start, stop + 1):
        byte = data[i] if i < stop else _NEWLINE
        if byte != _NEWLINE:
            h = (h ^ np.uint64(byte)) * _PRIME
            size += byte & 0xC0 != 0x80
            continue
        keys[num] = mixed(h)
        chars[num] = size
        num += 1
        if i > first:
            row[_LINES + 1] += data[first] == ord("-") or data[first] == ord("*")
            row[_LINES + 2] += _ends_with_ellipsis(data, first, i)
        first = i + 1
        h = _OFFSET
        size = 0
    return num


@part_of_kernels
def _ends_with_ellipsis(data: U8, first: int, last: int) -> bool:
    if last - first < 3:
        return False
    return bool(data[last - 3] == 0xE2 and data[last - 2] == 0x80 and data[last - 1] == 0xA6)


@part_of_kernels
def _ends_with_dots(data: U8, first: int, last: int) -> bool:
    """Return whether the bytes end with `...` or `. . .`."""
    if last - first < 3 or data[last - 1] != _DOT:
        return False
    if data[last - 2] == _DOT and data[last - 3] == _DOT:
        return True
    if last - first < 5 or data[last - 2] != _BLANK or data[last - 3] != _DOT:
        return False
    return bool(data[last - 4] == _BLANK and data[last - 5] == _DOT)


@part_of_kernels
def _begins_with_bullet(data: U8, first: int, last: int) -> bool:
    if data[first] == ord("-") or data[first] == ord("*"):
        return True
    if last - first < 3 or data[first] != 0xE2:
        return False
    if data[first + 1] == 0x80:
        return bool(data[first + 2] == 0xA2)
    return bool(data[first + 1] == 0x97 and data[first + 2] == 0x8F)


@part_of_kernels
def _read_visible(
    data: U8, start: int, stop: int, classes: U8, newlines: int, keys: U64, chars: U32, row: I64
) -> int:
    """Hash the trimmed parts between so many newlines, blank ones left out; return how many."""
    num = 0
    first = last = -1  # of what is visible
    size = seen = 0  # characters up to the last visible one, and up to here
    h = until = _OFFSET  # the hash up to here, and up to the last visible one
    i = start
    while i <= stop:
        byte = data[i] if i < stop else _NEWLINE
        ends = byte == _NEWLINE
        if ends and newlines == 2 and i < stop:
            ends = i + 1 < stop and data[i + 1] == _NEWLINE
        if ends:
            if first >= 0:
                keys[num] = mixed(until)
                chars[num] = size
                num += 1
                if newlines == 1:
                    row[_VISIBLE + 1] += _begins_with_bullet(data, first, last)
                    dotted = _ends_with_dots(data, first, last)
                    row[_VISIBLE + 2] += dotted or _ends_with_ellipsis(data, first, last)
            first = last = -1
            i += newlines
            continue
        width = 1
        code = int(byte)
        if byte >= 0x80:
            width = character_width(data, i, stop)
            code = character_at(data, i, width) if width else 0
            width = max(width, 1)
        white = code < classes.size and classes[code] & _SPACE != 0
        if first < 0:
            if white:
                i += width
                continue
            first = i
            size = seen = 0
            h = _OFFSET
        for k in range(i, i + width):
            h = (h ^ np.uint64(data[k])) * _PRIME
        i += width
        seen += 1
        if not white:
            size = seen
            last = i
            until = h
    return num


@part_of_kernels
def _sum(chars: U32, num: int) -> int:
    total = 0
    for k in range(num):
        total += int(np.int64(chars[k]))
    return total


@part_of_kernels
def _equal(
    keys: U64, chars: U32, num: int, groups: U32, counts: U32, table: U64
) -> tuple[int, int]:
    """Return how many parts another part equals, and their characters."""
    parts = size = 0
    most, _ = group_all(keys, num, groups, counts, table)
    if most > 1:
        for k in range(num):
            if counts[np.int64(groups[k])] > 1:
                parts += 1
                size += int(np.int64(chars[k]))
    return parts, size

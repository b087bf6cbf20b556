"""Sizes, Gopher's quality and repetition counts of documents: one pass over their bytes (numba).

The bytes go through in blocks of 64, as masks in which a bit stands for a byte: of white space, of
letters, of newlines. A question such as "how many words hold a letter" is then an addition: add the
letters to the words, and where a word held one a carry comes out behind its end. So what is counted
per word or line costs a few instructions per 64 bytes. Characters beyond ASCII set their bits from
a table first (`curate.kernels.classes`).

The pass leaves the edges of words and the first word of each line that is not blank. Words become
numbers for `curate.kernels.ngrams`. Lines are compared by their ends first, and only what has an
equal there is read again; paragraphs are sequences of lines that are numbers by then.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.classes import BULLET, ELLIPSIS, LETTER, WHITE
from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.ngrams import (
    group_all,
    group_picked,
    joined,
    keep_repeated,
    measure_document,
    mixed,
)
from curate.kernels.ranges import between_64, letters_64
from curate.kernels.simd import count_ones, load_64, trailing_zeros
from curate.kernels.utf8 import character_at, character_width

__all__ = ["SLACK", "measure_documents"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Bytes that may be read behind a text.
SLACK = 72

# Columns of `sizes`; `curate.signals.fused` names them.
_BYTES, _CHARS, _NEWLINES, _OPEN_LINE, _WORDS, _SPACES = 0, 1, 2, 3, 4, 5
_HASHES, _ELLIPSES, _ALPHA_WORDS, _STOP_WORDS = 6, 7, 8, 9
_LINES, _BULLET_LINES, _ELLIPSIS_LINES = 10, 11, 12
_LINES_AGAIN, _LINE_CHARS, _LINE_CHARS_AGAIN = 13, 14, 15
_PARAGRAPHS, _PARAGRAPHS_AGAIN, _PARAGRAPH_CHARS, _PARAGRAPH_CHARS_AGAIN = 16, 17, 18, 19
NUM_SIZES = 20

_ZERO, _ONE, _TWO, _TOP, _ALL = (np.uint64(n) for n in (0, 1, 2, 63, 0xFFFFFFFFFFFFFFFF))
_SPACE, _NEWLINE, _TAB, _RETURN = (np.uint8(ord(c)) for c in " \n\t\r")
_HASH, _DOT, _DASH, _STAR = (np.uint8(ord(c)) for c in "#.-*")
_HIGH, _LAST_CONTINUATION, _LAST = np.uint8(0x80), np.uint8(0xBF), np.uint8(0xFF)
_WHITE, _LETTER = np.uint8(WHITE), np.uint8(LETTER)
_BULLET, _ELLIPSIS = np.uint8(BULLET), np.uint8(ELLIPSIS)

_LOW_BITS = np.uint64(0x0101010101010101)
_LOWER = np.uint64(0x2020202020202020)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LENGTH_SHIFT = np.uint64(56)
_SIX, _SEVEN = np.uint64(6), np.uint64(7)


def _stop_words() -> tuple[U64, np.uint64]:
    """Return the stop words as numbers, each at the place that its product with a factor says."""
    words = ("the", "be", "to", "of", "and", "that", "have", "with")
    numbers = [int.from_bytes(word.encode().ljust(8), "little") ^ len(word) << 56 for word in words]
    factor = 1
    while True:
        factor = (factor * 0x5851F42D4C957F2D + 0x14057B7EF767814F) % 2**64 | 1
        places = [number * factor % 2**64 >> 61 for number in numbers]
        if len(set(places)) == len(words):
            break
    table = np.zeros(8, dtype=np.uint64)
    table[places] = numbers
    return table, np.uint64(factor)


_STOP_TABLE, _STOP_FACTOR = _stop_words()
_STOP_SHIFT = np.uint64(61)


@compiled
def measure_documents(
    data: U8, offsets: I64, classes: U8,
    edges: U32, lines: U32, paragraphs: U32, sums: I64, words: U64,
    keys: U64, groups: U32, counts: U32, picked: U32, table: U64,
    sizes: I64, ngrams: I64,
) -> None:  # fmt: skip
    """Write the counts of each document `data[offsets[i] : offsets[i + 1]]`.

    Args:
        data: valid UTF-8, and SLACK bytes behind the last text.
        offsets: int64 [n + 1]; a text has fewer than 2^31 bytes.
        classes: of `curate.kernels.classes`.
        edges: scratch for [bytes of the longest text + 65].
        lines, paragraphs, sums, words, keys, groups, counts, picked: scratch for one more than the
            words of the longest text.
        table: scratch for `ngrams.table_size` of that many.
        sizes: int64 [n, NUM_SIZES], filled.
        ngrams: int64 [n, ngrams.NUM_COLUMNS], filled.
    """
    for i in range(offsets.size - 1):
        start, stop = offsets[i], offsets[i + 1]
        row = sizes[i]
        row[:] = 0
        _scan(data, start, stop, classes, edges, lines, paragraphs, row)
        num_words = row[_WORDS]
        _read_words(data, start, num_words, edges, words, sums, row)
        plain = row[_CHARS] == row[_BYTES]
        _compare_lines(
            data, start, num_words, plain, edges, lines, paragraphs,
            keys, groups, counts, picked, table, row,
        )  # fmt: skip
        measure_document(words, 0, num_words, sums, keys, groups, counts, picked, table, ngrams[i])


@part_of_kernels
def _scan(
    data: U8, start: int, stop: int, classes: U8, edges: U32, lines: U32, paragraphs: U32, row: I64
) -> None:
    """Count what needs no word by itself; find the edges of words, the lines and paragraphs.

    Writes to `edges` where each word starts and stops, to `lines` the number of the first word of
    each line that is not blank, to `paragraphs` the number of the first such line of each.
    """
    num_edges = num_lines = num_paragraphs = 0
    chars = newlines = spaces = hashes = alphas = ellipses = 0
    bullet_lines = ellipsis_lines = 0
    last_line = -2  # the newlines before the last line that was not blank
    dots_end = start - 1  # where the last ellipsis of dots ended
    white_spill = ellipsis_spill = _ZERO  # bits of the next block
    in_word = alpha_carry = blank_carry = after_carry = dots_before = _ZERO
    new_line = _ONE
    for base in range(start, stop, 64):
        valid = _ALL
        if stop - base < 64:
            valid = (_ONE << np.uint64(stop - base)) - _ONE
        newline = between_64(data, base, _NEWLINE, _NEWLINE) & valid
        white = between_64(data, base, _TAB, _RETURN) | between_64(data, base, _SPACE, _SPACE)
        letters = letters_64(data, base) & valid
        dots = between_64(data, base, _DOT, _DOT) & valid
        hashes += count_ones(between_64(data, base, _HASH, _HASH) & valid)
        other = between_64(data, base, _HIGH, _LAST) & valid
        first_bytes = valid
        bullets = single = _ZERO
        ellipsis_after = ellipsis_spill
        ellipsis_spill = _ZERO
        if other:
            first_bytes &= ~between_64(data, base, _HIGH, _LAST_CONTINUATION)
            white |= white_spill
            white_spill = _ZERO
            rest = other & first_bytes
            while rest:
                k = trailing_zeros(rest)
                bit = rest & (~rest + _ONE)
                rest ^= bit
                width = character_width(data, base + k, stop)
                code = character_at(data, base + k, width) if width else 0
                kind = classes[code] if code < classes.size else np.uint8(0)
                if kind == _LETTER:
                    letters |= bit
                elif kind == _WHITE:
                    span = (_ONE << np.uint64(width)) - _ONE
                    white |= span << np.uint64(k)
                    if k + width > 64:
                        white_spill = span >> np.uint64(64 - k)
                elif kind == _BULLET:
                    bullets |= bit
                elif kind == _ELLIPSIS:
                    single |= bit
                    if k + 3 < 64:
                        ellipsis_after |= bit << np.uint64(3)
                    else:
                        ellipsis_spill |= _ONE << np.uint64(k + 3 - 64)
        white &= valid
        inside = ~white & valid
        chars += count_ones(first_bytes)
        spaces += count_ones(white & first_bytes)
        # Words: their edges, and whether a letter's carry comes out behind their end.
        edge = inside ^ (inside << _ONE | in_word)
        starts = edge & inside
        with_letters = inside + letters
        carried = np.uint64(with_letters < inside)
        with_letters += alpha_carry
        alpha_carry = carried | np.uint64(with_letters < alpha_carry)
        alphas += count_ones(with_letters & ~inside)
        # The first visible byte of each line: from its beginning through blanks.
        blank = white & ~newline
        begin = newline << _ONE | new_line
        new_line = newline >> _TOP
        through = begin + blank
        carried = np.uint64(through < blank)
        through += blank_carry
        blank_carry = carried | np.uint64(through < blank_carry)
        first = through & ~blank & inside
        while first:
            bit = first & (~first + _ONE)
            first ^= bit
            byte = data[base + trailing_zeros(bit)]
            below = bit - _ONE
            bullet_lines += (byte == _DASH) | (byte == _STAR) | (bullets & bit != _ZERO)
            lines[num_lines] = (num_edges + 1) // 2 + count_ones(starts & below)
            line = newlines + count_ones(newline & below)
            paragraphs[num_paragraphs] = num_lines
            num_paragraphs += line - last_line > 1
            last_line = line
            num_lines += 1
        newlines += count_ones(newline)
        # Ellipses, and those with nothing visible behind them on their line.
        three = dots & (dots << _ONE | dots_before >> _TOP)
        three &= dots << _TWO | dots_before >> np.uint64(62)
        if three | single | ellipsis_after | after_carry:
            ellipses += count_ones(single)
            rest = three
            while rest:
                place = base + trailing_zeros(rest)
                rest &= rest - _ONE
                if place - dots_end >= 3:
                    ellipses += 1
                    dots_end = place
            after = (three << _ONE) | ellipsis_after
            ellipsis_spill |= three >> _TOP
            through = after + blank
            carried = np.uint64(through < blank)
            through += after_carry
            after_carry = carried | np.uint64(through < after_carry)
            ends = newline if stop - base >= 64 else newline | (valid + _ONE)
            ellipsis_lines += count_ones(through & ~blank & ends)
        dots_before = dots
        in_word = inside >> _TOP
        # Eight at a time, so that their number decides less often where to go next.
        here = num_edges
        num_edges += count_ones(edge)
        while here < num_edges:
            for k in range(8):
                edges[here + k] = base - start + trailing_zeros(edge)
                edge &= edge - _ONE
            here += 8
    if num_edges & 1:
        edges[num_edges] = stop - start
        num_edges += 1
    if (stop - start) & 63 == 0:  # nothing came behind the last block
        alphas += alpha_carry != _ZERO
        ellipsis_lines += (ellipsis_spill | after_carry) & _ONE != _ZERO
    row[_BYTES], row[_CHARS], row[_NEWLINES] = stop - start, chars, newlines
    row[_OPEN_LINE] = stop > start and data[stop - 1] != _NEWLINE
    row[_WORDS], row[_SPACES], row[_HASHES] = num_edges // 2, spaces, hashes
    row[_ELLIPSES], row[_ALPHA_WORDS] = ellipses, alphas
    row[_LINES], row[_BULLET_LINES], row[_ELLIPSIS_LINES] = num_lines, bullet_lines, ellipsis_lines
    row[_PARAGRAPHS] = num_paragraphs


@part_of_kernels
def _number(values: U32, k: int) -> int:
    """Return an entry as the kind of number that a difference can be taken of."""
    return int(np.int64(values[k]))


@part_of_kernels
def _chunk(data: U8, start: int, length: int) -> np.uint64:
    """Return up to 8 bytes as a little-endian number."""
    return load_64(data, start) & (_ALL >> np.uint64(64 - 8 * min(length, 8)))


@part_of_kernels
def _inner_bytes(chunk: np.uint64) -> int:
    """Return how many bytes of a number are not the first of their character."""
    return count_ones((chunk >> _SEVEN) & ~(chunk >> _SIX) & _LOW_BITS)


@part_of_kernels
def _read_words(
    data: U8, start: int, num_words: int, edges: U32, words: U64, sums: I64, row: I64
) -> None:
    """Write a number for each word and the characters before it; count the stop words."""
    found = np.int64(0)
    total = 0
    sums[0] = 0
    for k in range(num_words):
        place = start + _number(edges, 2 * k)
        length = start + _number(edges, 2 * k + 1) - place
        chunk = _chunk(data, place, length)
        # This bit makes a letter of letters only, and a space of zeros, so the length counts too.
        lowered = (chunk | _LOWER) ^ (np.uint64(length) << _LENGTH_SHIFT)
        which = (lowered * _STOP_FACTOR) >> _STOP_SHIFT
        found |= np.int64((_STOP_TABLE[which] == lowered) & (length <= 4)) << np.int64(which)
        total += length - _inner_bytes(chunk)
        number = chunk ^ (np.uint64(length) * _GOLDEN)
        while length > 8:
            place += 8
            length -= 8
            chunk = _chunk(data, place, length)
            total -= _inner_bytes(chunk)
            number = mixed(number) ^ chunk
        words[k] = mixed(number)
        sums[k + 1] = total
    row[_STOP_WORDS] = count_ones(np.uint64(found))


@part_of_kernels
def _compare_lines(
    data: U8, start: int, num_words: int, plain: bool, edges: U32, lines: U32, paragraphs: U32,
    keys: U64, groups: U32, counts: U32, picked: U32, table: U64, row: I64,
) -> None:  # fmt: skip
    """Count the lines and paragraphs that repeat an earlier one, and the characters of all."""
    num_lines, num_paragraphs = row[_LINES], row[_PARAGRAPHS]
    if num_lines == 0:
        return
    lines[num_lines] = num_words
    paragraphs[num_paragraphs] = num_lines
    total = 0
    for k in range(num_lines):
        first, last = _ends(edges, lines, k, k + 1)
        length = last - first
        total += length if plain else _characters(data, start + first, start + last)
        head = _chunk(data, start + first, length)
        tail = load_64(data, start + last - 8) if length > 8 else _ZERO
        keys[k] = joined(mixed(head ^ np.uint64(length) * _GOLDEN), tail)
    row[_LINE_CHARS] = total
    most, _ = group_all(keys, num_lines, groups, counts, table)
    num_again = 0
    if most > 1:
        num = keep_repeated(num_lines, groups, counts, picked)
        for j in range(num):
            k = picked[j]
            keys[k] = _hash_line(data, start, edges, lines, k, keys[k])
        group_picked(keys, picked, num, groups, counts, table)
        for j in range(num):
            k = picked[j]
            if groups[k] != k:
                num_again += 1
                row[_LINE_CHARS_AGAIN] += _span_characters(
                    data, start, plain, edges, lines, k, k + 1
                )
    row[_LINES_AGAIN] = num_again
    # A paragraph repeats another one if its lines do, with the same white space between them.
    total = 0
    for p in range(num_paragraphs):
        total += _span_characters(
            data, start, plain, edges, lines, paragraphs[p], paragraphs[p + 1]
        )
    row[_PARAGRAPH_CHARS] = total
    if num_again == 0:
        return
    for p in range(num_paragraphs):
        keys[p] = _hash_paragraph(
            data, start, edges, lines, paragraphs[p], paragraphs[p + 1], groups
        )
    most, _ = group_all(keys, num_paragraphs, groups, counts, table)
    if most == 1:
        return
    for p in range(num_paragraphs):
        if groups[p] != p:
            row[_PARAGRAPHS_AGAIN] += 1
            row[_PARAGRAPH_CHARS_AGAIN] += _span_characters(
                data, start, plain, edges, lines, paragraphs[p], paragraphs[p + 1]
            )


@part_of_kernels
def _ends(edges: U32, lines: U32, first: int, last: int) -> tuple[int, int]:
    """Return where line `first` begins and the one before `last` ends, from the text's start."""
    return _number(edges, 2 * lines[first]), _number(edges, 2 * lines[last] - 1)


@part_of_kernels
def _characters(data: U8, first: int, last: int) -> int:
    """Return the characters of `data[first:last]`."""
    total = 0
    for base in range(first, last, 64):
        inner = between_64(data, base, _HIGH, _LAST_CONTINUATION)
        if last - base < 64:
            inner &= (_ONE << np.uint64(last - base)) - _ONE
        total += min(64, last - base) - count_ones(inner)
    return total


@part_of_kernels
def _span_characters(
    data: U8, start: int, plain: bool, edges: U32, lines: U32, first: int, last: int
) -> int:
    """Return the characters from the beginning of line `first` to the end of that before `last`."""
    begin, end = _ends(edges, lines, first, last)
    return end - begin if plain else _characters(data, start + begin, start + end)


@part_of_kernels
def _hash_bytes(data: U8, first: int, last: int, number: np.uint64) -> np.uint64:
    for place in range(first, last, 8):
        chunk = _chunk(data, place, last - place)
        number = mixed(number ^ chunk)
    return number


@part_of_kernels
def _hash_line(data: U8, start: int, edges: U32, lines: U32, k: int, ends: np.uint64) -> np.uint64:
    """Return a number for a line of which `ends` says its length and what its ends are."""
    first, last = _ends(edges, lines, k, k + 1)
    return _hash_bytes(data, start + first + 8, start + last - 8, ends)


@part_of_kernels
def _hash_paragraph(
    data: U8, start: int, edges: U32, lines: U32, first: int, last: int, groups: U32
) -> np.uint64:
    number = mixed(np.uint64(groups[first]) + _GOLDEN)
    for k in range(first + 1, last):
        gap, end = _number(edges, 2 * lines[k] - 1), _number(edges, 2 * lines[k])
        number = mixed(number ^ (np.uint64(end - gap) << _HALF | np.uint64(groups[k])))
        number = _hash_bytes(data, start + gap, start + end, number)
    return number

"""What datatrove's filters count over lines and paragraphs (numba, half a second).

Four notions of a line live side by side there (datatrove 0.10): `str.splitlines` (Gopher quality,
C4), runs of newlines (Gopher repetition), blank lines between paragraphs of the stripped text, and
single newlines, blank lines left out (FineWeb). Duplicates are equal code points, compared as such.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels import spacy_classes as flag
from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.mix import GOLDEN
from curate.kernels.spacy_affixes import decode

__all__ = ["NUM_COLUMNS", "measure_lines", "next_line", "stripped"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_CHARS, _NEWLINES = 0, 1
_LINES, _BULLETS, _ELLIPSES = 2, 3, 4  # str.splitlines
_RUNS, _RUN_REPEATS, _RUN_CHARS = 5, 6, 7  # re.split("\n+")
_PARAGRAPHS, _PARAGRAPH_REPEATS, _PARAGRAPH_CHARS = 8, 9, 10  # re.split("\n{2,}")
_VISIBLE, _TERMINAL, _SHORT, _VISIBLE_CHARS = 11, 12, 13, 14  # str.split("\n"), not blank
NUM_COLUMNS = 15

_NEWLINE, _RETURN, _DOT, _ELLIPSIS, _BULLET, _HYPHEN = 0x0A, 0x0D, 0x2E, 0x2026, 0x2022, 0x2D
_SHORT_CHARS = 30


@compiled
def measure_lines(
    data: U8, starts: I64, stops: I64, classes: U32,
    chars: U32, table: I64, marks: I64, out: I64,
) -> None:  # fmt: skip
    """Write one row of `out` int64 [n, NUM_COLUMNS] per text `data[starts[i] : stops[i]]`.

    `chars` has room for the longest text; `table` and `marks` (zeroed) for a power of two of at
    least twice its size. The texts' numbers mark what is in the table, so it is never cleared.
    """
    mark = 0
    for i in range(starts.size):
        n = decode(data, starts[i], stops[i], chars)
        row = out[i]
        row[_CHARS] = n
        _count_splitlines(chars, n, classes, row)
        _count_runs(chars, 0, n, 1, table, marks, mark + 1, row, _RUNS)
        first, last = stripped(chars, 0, n, classes)
        _count_runs(chars, first, last, 2, table, marks, mark + 2, row, _PARAGRAPHS)
        _count_visible(chars, n, classes, table, marks, mark + 3, row)
        mark += 3


@part_of_kernels
def next_line(chars: U32, start: int, n: int, classes: U32) -> tuple[int, int]:
    """Return where the line from `start` ends and where the next begins, as str.splitlines does."""
    i = start
    while i < n and not classes[chars[i]] & flag.LINE_BREAK:
        i += 1
    if i + 1 < n and chars[i] == _RETURN and chars[i + 1] == _NEWLINE:
        return i, i + 2
    return i, min(i + 1, n)


@part_of_kernels
def stripped(chars: U32, start: int, end: int, classes: U32) -> tuple[int, int]:
    """Return the range without white space at its ends."""
    while start < end and classes[chars[start]] & flag.SPACE:
        start += 1
    while start < end and classes[chars[end - 1]] & flag.SPACE:
        end -= 1
    return start, end


@part_of_kernels
def _count_splitlines(chars: U32, n: int, classes: U32, row: I64) -> None:
    lines = bullets = ellipses = i = 0
    while i < n:
        end, following = next_line(chars, i, n, classes)
        lines += 1
        first, last = stripped(chars, i, end, classes)
        if first < last:
            bullets += chars[first] == _BULLET or chars[first] == _HYPHEN
            ellipses += chars[last - 1] == _ELLIPSIS or (
                last - first >= 3
                and chars[last - 1] == _DOT
                and chars[last - 2] == _DOT
                and chars[last - 3] == _DOT
            )
        i = following
    row[_LINES], row[_BULLETS], row[_ELLIPSES] = lines, bullets, ellipses


@part_of_kernels
def _is_repeat(chars: U32, start: int, end: int, table: I64, marks: I64, mark: int) -> bool:
    """Say whether this range was met before under this mark; remember it.

    A slot of the table holds the start and the length of a range.
    """
    value = np.uint64(end - start)
    for i in range(start, end):
        value = (value ^ np.uint64(chars[i])) * GOLDEN
        value ^= value >> np.uint64(29)
    mask = marks.size - 1
    slot = np.int64(value >> np.uint64(20)) & mask
    while marks[slot] == mark:
        other = table[2 * slot]
        if table[2 * slot + 1] == end - start:
            same = True
            for i in range(end - start):
                if chars[other + i] != chars[start + i]:
                    same = False
                    break
            if same:
                return True
        slot = (slot + 1) & mask
    marks[slot] = mark
    table[2 * slot] = start
    table[2 * slot + 1] = end - start
    return False


@part_of_kernels
def _count_runs(
    chars: U32, begin: int, n: int, least: int,
    table: I64, marks: I64, mark: int, row: I64, column: int,
) -> None:  # fmt: skip
    """Count what stands between runs of at least `least` newlines, empty ends included."""
    pieces = 1
    repeats = repeat_chars = 0
    start = i = begin
    while i < n:
        run = i
        while run < n and chars[run] == _NEWLINE:
            run += 1
        if run - i >= least:
            pieces += 1
            if _is_repeat(chars, start, i, table, marks, mark):
                repeats += 1
                repeat_chars += i - start
            start = run
        i = max(run, i + 1)
    if _is_repeat(chars, start, n, table, marks, mark):
        repeats += 1
        repeat_chars += n - start
    row[column], row[column + 1], row[column + 2] = pieces, repeats, repeat_chars


@part_of_kernels
def _count_visible(
    chars: U32, n: int, classes: U32, table: I64, marks: I64, mark: int, row: I64
) -> None:
    newlines = visible = terminal = short = repeat_chars = 0
    start = 0
    for i in range(n + 1):
        if i < n and chars[i] != _NEWLINE:
            continue
        newlines += i < n
        first, last = stripped(chars, start, i, classes)
        if first < last:
            visible += 1
            terminal += (classes[chars[i - 1]] & flag.TERMINAL) != 0
            short += i - start <= _SHORT_CHARS
            if _is_repeat(chars, start, i, table, marks, mark):
                repeat_chars += i - start
        start = i + 1
    row[_NEWLINES] = newlines
    row[_VISIBLE], row[_TERMINAL], row[_SHORT] = visible, terminal, short
    row[_VISIBLE_CHARS] = repeat_chars

"""datatrove's C4 filter: what it counts, and the text it leaves (numba, half a second).

`C4QualityFilter` of datatrove 0.10 goes line by line (str.splitlines), takes `[12]`, `[edit]` and
`[citation needed]` out, leaves lines away, and drops a document in the middle where it meets lorem
ipsum or a curly bracket. Here nothing stops: both are counted, over the lines that get that far,
and so are the sentences of all lines that stay.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels import spacy_classes as flag
from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.datatrove_lines import next_line, stripped
from curate.kernels.spacy_affixes import decode

__all__ = ["NUM_COLUMNS", "clean_c4", "phrases"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

_LOREM, _BRACKET = 0, 1
NUM_COLUMNS = 2

MIN_WORDS, MAX_WORD_CHARS = 3, 1000
_OPEN, _CLOSE, _BRACE, _DOT, _KELVIN = 0x5B, 0x5D, 0x7B, 0x2E, 0x212A

# Lower case. The first two are looked for by themselves, the others take a line away.
_PHRASES = (
    "lorem ipsum", "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies",
    "use of cookies", "use cookies", "edit]", "citation needed]",
)  # fmt: skip
_FIRST_POLICY, _FIRST_NOTE = 2, 8


def phrases() -> tuple[U8, I64]:
    """Return the phrases the kernel looks for as bytes, and where each begins, and the end."""
    bounds = np.zeros(len(_PHRASES) + 1, dtype=np.int64)
    np.cumsum([len(phrase) for phrase in _PHRASES], out=bounds[1:])
    return np.frombuffer("".join(_PHRASES).encode(), dtype=np.uint8), bounds


@compiled
def clean_c4(
    data: U8, starts: I64, stops: I64, classes: U32, terminal: bool, letters: U8, bounds: I64,
    chars: U32, line: U32, out: I64, cleaned: U8, line_bounds: I64, lines_of: I64,
) -> None:  # fmt: skip
    """Write one row of `out` int64 [n, NUM_COLUMNS] per text, and the lines that stay.

    Args:
        terminal: drop lines without a terminal mark.
        letters, bounds: `phrases()`.
        chars, line: scratch for the longest text.
        cleaned: out, the lines that stay, as bytes, one after the other; a newline after each.
        line_bounds: out, where each line starts in there, and the end; as many as there are bytes.
        lines_of: out [n + 1], the lines of each text.
    """
    num_lines = 0
    line_bounds[0] = 0
    lines_of[0] = 0
    for i in range(starts.size):
        n = decode(data, starts[i], stops[i], chars)
        num_lines = _clean_text(
            chars, n, classes, terminal, letters, bounds, line, out[i],
            cleaned, line_bounds, num_lines,
        )  # fmt: skip
        lines_of[i + 1] = num_lines


@part_of_kernels
def _clean_text(
    chars: U32, n: int, classes: U32, terminal: bool, letters: U8, bounds: I64,
    line: U32, row: I64, cleaned: U8, line_bounds: I64, num_lines: int,
) -> int:  # fmt: skip
    row[:] = 0
    i = 0
    while i < n:
        end, following = next_line(chars, i, n, classes)
        first, last = stripped(chars, i, end, classes)
        i = following
        num_words = _words(chars, first, last, classes)
        if num_words < 0:
            continue
        size = _without_notes(chars, first, last, classes, letters, bounds, line)
        if (terminal and not _ends_well(line, size)) or num_words < MIN_WORDS:
            continue
        row[_LOREM] += _holds(line, size, letters, bounds, 0)
        if _holds(line, size, letters, bounds, 1):
            continue
        for k in range(size):
            if line[k] == _BRACE:
                row[_BRACKET] += 1
                break
        policy = False
        for k in range(_FIRST_POLICY, _FIRST_NOTE):
            policy = policy or _holds(line, size, letters, bounds, k)
        if policy:
            continue
        place = _encode(line, size, cleaned, line_bounds[num_lines])
        cleaned[place] = 0x0A
        num_lines += 1
        line_bounds[num_lines] = place + 1
    return num_lines


@part_of_kernels
def _words(chars: U32, start: int, end: int, classes: U32) -> int:
    """Return the white-space words of a line, -1 where one is longer than `MAX_WORD_CHARS`."""
    words = length = 0
    for i in range(start, end):
        length = 0 if classes[chars[i]] & flag.SPACE else length + 1
        words += length == 1
        if length > MAX_WORD_CHARS:
            return -1
    return words


@part_of_kernels
def _without_notes(
    chars: U32, start: int, end: int, classes: U32, letters: U8, bounds: I64, line: U32
) -> int:
    """Copy a line without its citation marks; return its length."""
    size = 0
    i = start
    while i < end:
        if chars[i] == _OPEN:
            j = i + 1
            while j < end and classes[chars[j]] & flag.DECIMAL:
                j += 1
            skip = j + 1 - i if j < end and chars[j] == _CLOSE else 0
            for k in range(_FIRST_NOTE, bounds.size - 1):
                if not skip and _stands(chars, i + 1, end, letters, bounds, k, False):
                    skip = 1 + bounds[k + 1] - bounds[k]
            if skip:
                i += skip
                continue
        line[size] = chars[i]
        size += 1
        i += 1
    return size


@part_of_kernels
def _stands(
    chars: U32, start: int, end: int, letters: U8, bounds: I64, phrase: int, fold: bool
) -> bool:
    """Say whether a phrase stands at `start`, in any case if `fold`."""
    length = bounds[phrase + 1] - bounds[phrase]
    if start + length > end:
        return False
    for k in range(length):
        char = chars[start + k]
        if fold and 0x41 <= char <= 0x5A:
            char |= np.uint32(0x20)
        if fold and char == _KELVIN:
            char = np.uint32(0x6B)
        if char != letters[bounds[phrase] + k]:
            return False
    return True


@part_of_kernels
def _holds(line: U32, size: int, letters: U8, bounds: I64, phrase: int) -> bool:
    first = letters[bounds[phrase]]
    for i in range(size):
        if (line[i] | 0x20) == first and _stands(line, i, size, letters, bounds, phrase, True):
            return True
    return False


@part_of_kernels
def _ends_well(line: U32, size: int) -> bool:
    """Say whether a line ends in a full stop, ? ! or a straight quote, and in no ellipsis."""
    if size == 0:
        return False
    last = line[size - 1]
    if last == _DOT:
        return not (size >= 3 and line[size - 2] == _DOT and line[size - 3] == _DOT)
    return bool(last in (0x3F, 0x21, 0x22, 0x27))


@part_of_kernels
def _encode(line: U32, size: int, out: U8, place: int) -> int:
    """Write code points as UTF-8; return where they end."""
    for i in range(size):
        char = int(np.int64(line[i]))
        if char < 0x80:
            out[place] = char
            place += 1
            continue
        width = 2 + (char >= 0x800) + (char >= 0x10000)
        for k in range(width - 1, 0, -1):
            out[place + k] = 0x80 | (char & 0x3F)
            char >>= 6
        out[place] = (0xF00 >> width & 0xFF) | char
        place += width
    return place

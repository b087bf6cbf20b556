r"""spaCy's English word splitter as a kernel: code points in, tokens out (numba, half a second).

What `spacy.blank("en").tokenizer` does (spaCy 3.8, `tokenizer.pyx`), said once more. A text is cut
at white space into chunks; a chunk that is an exception (`spacy_exceptions`) is split by rote, else
prefixes and suffixes come off, alternately and one at a time, until an exception is left or nothing
more comes off; what remains is kept whole if it is an exception or looks like a URL, else it is cut
at its infixes. Last, a run of tokens that together spell an exception with an affix in it (`:` `)`)
becomes that exception; of overlapping runs the longest wins, then the first.

Tokens are half-open ranges of code points. White space between chunks is a token too, except one
space behind a chunk, which is a `gap` of the token before it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.kernels import spacy_classes as flag
from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.mix import GOLDEN
from curate.kernels.spacy_affixes import (
    decode,
    has_affix,
    hash_chars,
    infix,
    is_url,
    known,
    prefix,
    suffix,
)
from curate.kernels.spacy_tables import MAX_RUN, RULE, Splitter

__all__ = ["Tokens", "hash_of", "new_tokens", "run_key_of", "split_texts"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Tokens(NamedTuple):
    """Room for the tokens of one text: no more than it has code points."""

    starts: I32
    ends: I32
    gaps: U8
    hashes: U64
    stack: I32
    rules: I32
    sizes: I32


def new_tokens(num_chars: int) -> Tokens:
    """Return room for a text of so many code points."""
    size = num_chars + 1
    i32 = [np.empty(size, dtype=np.int32) for _ in range(5)]
    gaps, hashes = np.empty(size, dtype=np.uint8), np.empty(size, dtype=np.uint64)
    return Tokens(i32[0], i32[1], gaps, hashes, *i32[2:])


@compiled
def split_texts(
    data: U8, text_starts: I64, text_stops: I64, s: Splitter, tokens: Tokens,
    chars: U32, char_bounds: I64, starts: I32, ends: I32, bounds: I64,
) -> None:  # fmt: skip
    """Decode and split the texts `data[text_starts[i] : text_stops[i]]`, UTF-8.

    Args:
        tokens: scratch for the longest text.
        chars: out, the code points of all texts.
        char_bounds: out [n + 1], where those of each text start, and the end.
        starts: out, where in `chars` each token starts; room for as many as there are bytes.
        ends: out, likewise.
        bounds: out [n + 1], the tokens of each text.
    """
    char_bounds[0] = 0
    bounds[0] = 0
    for i in range(text_starts.size):
        base = char_bounds[i]
        here = chars[base:]
        n = decode(data, text_starts[i], text_stops[i], here)
        count = _split_text(here, n, s, tokens)
        place = bounds[i]
        for k in range(count):
            starts[place + k] = base + tokens.starts[k]
            ends[place + k] = base + tokens.ends[k]
        char_bounds[i + 1] = base + n
        bounds[i + 1] = place + count


@compiled
def affixed(data: U8, s: Splitter, chars: U32) -> bool:
    """Say whether any prefix, infix or suffix rule fits a string."""
    return has_affix(chars, decode(data, 0, data.size, chars), s)


@compiled
def hash_of(data: U8, chars: U32) -> np.uint64:
    """Return `hash_chars` of a string."""
    return hash_chars(chars, 0, decode(data, 0, data.size, chars))


@compiled
def run_key_of(node: int, value: np.uint64) -> np.uint64:
    """Return the key of the edge from a node by a token of this hash."""
    return _run_key(node, value)


@part_of_kernels
def _split_text(chars: U32, num_chars: int, s: Splitter, tokens: Tokens) -> int:
    """Write the tokens of a text to `tokens` (starts and ends); return how many."""
    n = 0
    i = 0
    while i < num_chars:
        start = i
        if s.classes[chars[i]] & flag.SPACE:
            while i < num_chars and s.classes[chars[i]] & flag.SPACE:
                i += 1
            if start > 0 and chars[start] == 0x20:
                tokens.gaps[n - 1] = 1
                start += 1
            if start < i:
                n = _push(tokens, n, start, i)
            continue
        first, last = num_chars, -1  # of the characters that any rule looks at
        while i < num_chars:
            classes = s.classes[chars[i]]
            if classes & flag.SPACE:
                break
            if classes & flag.ACTIVE:
                first = min(first, i)
                last = i
            i += 1
        n = _split_chunk(chars, start, i, first, last, s, tokens, n)
    return _join_runs(chars, s, tokens, n) if s.run_keys.size > 1 else n


@part_of_kernels
def _push(tokens: Tokens, n: int, start: int, end: int) -> int:
    tokens.starts[n] = start
    tokens.ends[n] = end
    tokens.gaps[n] = 0
    return n + 1


@part_of_kernels
def _push_rule(tokens: Tokens, n: int, start: int, rule: int, s: Splitter) -> int:
    for piece in range(s.piece_bounds[rule], s.piece_bounds[rule + 1]):
        n = _push(tokens, n, start, start + s.pieces[piece])
        start += s.pieces[piece]
    return n


@part_of_kernels
def _push_middle(chars: U32, start: int, stop: int, s: Splitter, tokens: Tokens, n: int) -> int:
    """Append a string that no exception, prefix or suffix fits, whole or cut at its infixes."""
    if is_url(chars, start, stop, s):
        return _push(tokens, n, start, stop)
    begin = i = start
    while i < stop:
        size = infix(chars, i, start, stop, s) if s.classes[chars[i]] & flag.ACTIVE else 0
        if size and i > start:
            if i > begin:
                n = _push(tokens, n, begin, i)
            n = _push(tokens, n, i, i + size)
            begin = i + size
        i += max(size, 1)
    return _push(tokens, n, begin, stop) if begin < stop else n


@part_of_kernels
def _split_chunk(
    chars: U32, start: int, stop: int, first: int, last: int, s: Splitter, tokens: Tokens, n: int
) -> int:
    """Append the tokens of a chunk; return how many there are now."""
    end = stop
    depth = 0
    rule = known(chars, start, stop, s, RULE)
    while rule < 0 and start < stop and first < stop and last >= start:
        before = prefix(chars, start, stop, s)
        if before:
            rule = known(chars, start + before, stop, s, RULE)
            if rule >= 0:
                n = _push(tokens, n, start, start + before)
                start += before
                break
        behind = suffix(chars, start + before, stop, s)
        if behind:
            rule = known(chars, start, stop - behind, s, RULE)
            if rule >= 0:
                before = 0
        if not before and not behind:
            break
        if before:
            n = _push(tokens, n, start, start + before)
            start += before
        if behind:
            stop -= behind
            tokens.stack[depth] = stop
            depth += 1
        if rule < 0:
            rule = known(chars, start, stop, s, RULE)
    if rule >= 0:
        n = _push_rule(tokens, n, start, rule, s)
    elif first < stop and last >= start and start < stop:
        n = _push_middle(chars, start, stop, s, tokens, n)
    elif start < stop:
        n = _push(tokens, n, start, stop)
    while depth:
        depth -= 1
        n = _push(tokens, n, tokens.stack[depth], tokens.stack[depth - 1] if depth else end)
    return n


@part_of_kernels
def _run_key(node: int, value: np.uint64) -> np.uint64:
    """Return the key of the edge from a node by a token of this hash, never 0."""
    key = (value ^ np.uint64(node) * GOLDEN) * GOLDEN
    return (key ^ key >> np.uint64(31)) | np.uint64(1)


@part_of_kernels
def _next_node(chars: U32, tokens: Tokens, i: int, node: int, s: Splitter) -> int:
    """Return the node that token `i` leads to from `node`, or -1."""
    if tokens.ends[i] - tokens.starts[i] > s.longest:
        return -1
    if tokens.hashes[i] == 0:
        tokens.hashes[i] = hash_chars(chars, tokens.starts[i], tokens.ends[i])
    key = _run_key(node, tokens.hashes[i])
    mask = s.run_keys.size - 1
    slot = np.int64(key >> np.uint64(20)) & mask
    while s.run_keys[slot] != 0:
        if s.run_keys[slot] == key:
            return int(s.run_nodes[slot])
        slot = (slot + 1) & mask
    return -1


@part_of_kernels
def _run_of(chars: U32, tokens: Tokens, first: int, n: int, size: int, s: Splitter) -> int:
    """Return the exception that `size` tokens spell (0: the longest run), -1 for none.

    For `size` 0 it is the length of the longest run from there.
    """
    node = 0
    most = 0
    for i in range(first, min(n, first + (size if size else MAX_RUN))):
        node = _next_node(chars, tokens, i, node, s)
        if node < 0:
            break
        if s.run_rules[node] >= 0:
            most = i - first + 1
    if size == 0:
        return most
    return int(s.run_rules[node]) if node >= 0 and most == size else -1


@part_of_kernels
def _join_runs(chars: U32, s: Splitter, tokens: Tokens, n: int) -> int:
    """Replace runs of tokens that spell an exception; return how many tokens there are then."""
    for i in range(n):
        tokens.hashes[i] = 0
        tokens.sizes[i] = 0
    # A run has a mark among its first two tokens; where one begins goes to the stack.
    num_runs = most = 0
    marked = n > 0 and s.classes[chars[tokens.starts[0]]] & flag.ACTIVE
    for i in range(n):
        follows = i + 1 < n and s.classes[chars[tokens.starts[i + 1]]] & flag.ACTIVE
        if marked or follows:
            longest = _run_of(chars, tokens, i, n, 0, s)
            if longest:
                tokens.stack[num_runs] = i
                num_runs += 1
                most = max(most, longest)
        marked = follows
    if num_runs == 0:
        return n
    _choose_runs(chars, s, tokens, n, num_runs, most)
    return _replace_runs(s, tokens, n)


@part_of_kernels
def _choose_runs(chars: U32, s: Splitter, tokens: Tokens, n: int, num_runs: int, most: int) -> None:
    """Write the runs to replace, longest first, then first, none over another's end."""
    covered = tokens.gaps  # bit 1; bit 0 stays the gap
    for size in range(most, 0, -1):
        for k in range(num_runs):
            i = tokens.stack[k]
            rule = _run_of(chars, tokens, i, n, size, s)
            if rule < 0:
                continue
            # A run with a space inside spells no exception, and still it covers its tokens.
            gap = False
            for j in range(i, i + size - 1):
                gap |= (tokens.gaps[j] & 1) != 0
            if not gap and not (covered[i] | covered[i + size - 1]) & 2:
                tokens.sizes[i] = size
                tokens.rules[i] = rule
            for j in range(i, i + size):
                covered[j] |= 2


@part_of_kernels
def _replace_runs(s: Splitter, tokens: Tokens, n: int) -> int:
    """Write the chosen exceptions in the place of their tokens; return how many tokens there are.

    An exception has as many pieces as its run has tokens, or fewer, but for a few with one more.
    """
    growth = 0
    for i in range(n):
        if tokens.sizes[i]:
            rule = tokens.rules[i]
            pieces = s.piece_bounds[rule + 1] - s.piece_bounds[rule]
            growth += max(pieces - tokens.sizes[i], 0)
    for i in range(n - 1, -1, -1):  # make room in front
        if not growth:
            break
        tokens.starts[i + growth] = tokens.starts[i]
        tokens.ends[i + growth] = tokens.ends[i]
        tokens.sizes[i + growth] = tokens.sizes[i]
        tokens.rules[i + growth] = tokens.rules[i]
    m = 0
    i = growth
    while i < n + growth:
        size = tokens.sizes[i]
        start = tokens.starts[i]
        if size == 0:
            tokens.starts[m] = start
            tokens.ends[m] = tokens.ends[i]
            m += 1
            i += 1
            continue
        rule = tokens.rules[i]
        for piece in range(s.piece_bounds[rule], s.piece_bounds[rule + 1]):
            tokens.starts[m] = start
            start += s.pieces[piece]
            tokens.ends[m] = start
            m += 1
        i += size
    return m

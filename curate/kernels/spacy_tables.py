"""The tables behind `curate.kernels.spacy_words`: known strings, runs of tokens that join up."""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.kernels.spacy_classes import classes
from curate.kernels.spacy_exceptions import UNITS, exceptions

__all__ = [
    "MAX_RUN",
    "RULE",
    "UNIT",
    "SplitTexts",
    "Splitter",
    "english",
    "hashes_of",
    "split_texts",
    "words_of",
]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

RULE, UNIT = 1, 2  # kinds of known strings
MAX_RUN = 12  # tokens of an exception, at most


class Splitter(NamedTuple):
    """The tables of a language, as kernels read them.

    Attributes:
        classes: flags per code point, see `spacy_classes`.
        keys: hashes of the known strings, an open-addressed table; 0 is free.
        ids: the string of each key.
        chars: the known strings' code points, one after the other.
        bounds: where each string starts in `chars`, and the end.
        kinds: RULE, UNIT or both, per string.
        pieces: lengths of a string's pieces, one after the other.
        piece_bounds: where the pieces of each string start, and the end.
        run_keys: hashes of (node, token), an open-addressed table: the trie of token runs.
        run_nodes: the node each of them leads to.
        run_rules: per node the string that its run spells, or -1.
        longest: code points of the longest known string.
    """

    classes: U32
    keys: U64
    ids: I32
    chars: U32
    bounds: I32
    kinds: U8
    pieces: I32
    piece_bounds: I32
    run_keys: U64
    run_nodes: I32
    run_rules: I32
    longest: int


class SplitTexts(NamedTuple):
    """Texts and their tokens, white space among them.

    Attributes:
        chars: uint32, the code points of all texts.
        char_bounds: int64 [n + 1], where those of each text start, and the end.
        starts: int32, where in `chars` each token starts.
        ends: int32, where it ends.
        bounds: int64 [n + 1], the tokens of each text.
    """

    chars: U32
    char_bounds: I64
    starts: I32
    ends: I32
    bounds: I64


def split_texts(data: U8, starts: I64, stops: I64, splitter: Splitter) -> SplitTexts:
    """Split the texts `data[starts[i] : stops[i]]`, UTF-8, fewer than 2^31 bytes in all."""
    from curate.kernels import spacy_words  # numba: half a second

    sizes = stops - starts
    total, longest = int(sizes.sum()), int(sizes.max(initial=0))
    assert total < 1 << 31, f"{total} bytes"
    split = SplitTexts(
        chars=np.empty(total + 1, dtype=np.uint32),
        char_bounds=np.empty(sizes.size + 1, dtype=np.int64),
        starts=np.empty(total + 1, dtype=np.int32),
        ends=np.empty(total + 1, dtype=np.int32),
        bounds=np.empty(sizes.size + 1, dtype=np.int64),
    )
    data = data.view()
    data.flags.writeable = False  # one type of array, one compiled kernel
    starts, stops = (np.require(array, np.int64, ["C", "W"]) for array in (starts, stops))
    spacy_words.split_texts(data, starts, stops, splitter, spacy_words.new_tokens(longest), *split)
    return split


def words_of(text: str, splitter: Splitter) -> list[str]:
    """Return the tokens of a text as strings: for tables and tests."""
    data = _bytes(text)
    split = split_texts(data, np.zeros(1, np.int64), np.array([data.size], np.int64), splitter)
    count = split.bounds[1]
    bounds = zip(split.starts[:count].tolist(), split.ends[:count].tolist(), strict=True)
    return [text[start:end] for start, end in bounds]


@functools.cache
def hashes_of(words: tuple[str, ...]) -> U64:
    """Return the hashes of words, as kernels compare them; uint64 [n]."""
    return np.array([_hash(word) for word in words], dtype=np.uint64)


@functools.cache
def english() -> Splitter:
    """Return the tables of `spacy.blank("en")`."""
    from curate.kernels import spacy_words

    rules = dict(sorted(exceptions().items()))
    bare = _splitter({}, [])
    runs = [
        (rule, words_of(rule, bare))
        for rule in rules
        if spacy_words.affixed(_bytes(rule), bare, _room(rule))
    ]
    return _splitter(rules, runs)


def _splitter(rules: dict[str, tuple[str, ...]], runs: list[tuple[str, list[str]]]) -> Splitter:
    known = dict.fromkeys(rules, RULE)
    for unit in UNITS:
        known[unit] = known.get(unit, 0) | UNIT
    names = list(known)
    pieces = [[len(piece) for piece in rules.get(name, ())] for name in names]
    keys, ids = _hash_table([(_hash(name), i) for i, name in enumerate(names)])
    nodes: dict[tuple[int, str], int] = {}
    run_rules = [-1]
    for rule, words in runs:
        assert len(words) <= MAX_RUN, f"{rule!r} has {len(words)} tokens"
        node = 0
        for word in words:
            if (node, word) not in nodes:
                nodes[node, word] = len(run_rules)
                run_rules.append(-1)
            node = nodes[node, word]
        run_rules[node] = names.index(rule)
    run_keys, run_nodes = _hash_table(
        [(_run_hash(node, word), target) for (node, word), target in nodes.items()]
    )
    return Splitter(
        classes=classes(),
        keys=keys,
        ids=ids,
        chars=np.array([ord(char) for name in names for char in name], dtype=np.uint32),
        bounds=_bounds([len(name) for name in names]),
        kinds=np.array(list(known.values()), dtype=np.uint8),
        pieces=np.array([size for sizes in pieces for size in sizes], dtype=np.int32),
        piece_bounds=_bounds([len(sizes) for sizes in pieces]),
        run_keys=run_keys,
        run_nodes=run_nodes,
        run_rules=np.array(run_rules, dtype=np.int32),
        longest=max(len(name) for name in names),
    )


def _bounds(sizes: list[int]) -> I32:
    bounds = np.zeros(len(sizes) + 1, dtype=np.int32)
    np.cumsum(sizes, out=bounds[1:])
    return bounds


def _hash(text: str) -> int:
    from curate.kernels import spacy_words

    return int(spacy_words.hash_of(_bytes(text), _room(text)))


def _run_hash(node: int, word: str) -> int:
    from curate.kernels import spacy_words

    return int(spacy_words.run_key_of(node, np.uint64(_hash(word))))


def _bytes(text: str) -> U8:
    return np.frombuffer(text.encode() or b"\0", dtype=np.uint8)[: len(text.encode())]


def _room(text: str) -> U32:
    return np.empty(len(text) + 1, dtype=np.uint32)


def _hash_table(pairs: list[tuple[int, int]]) -> tuple[U64, I32]:
    size = 1
    while size < 2 * len(pairs):
        size *= 2
    keys, values = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int32)
    for key, value in pairs:
        slot = (key >> 20) & (size - 1)
        while keys[slot]:
            slot = (slot + 1) & (size - 1)
        keys[slot], values[slot] = key, value
    return keys, values

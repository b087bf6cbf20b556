"""The kernel that runs a supervised fastText model with a hierarchical softmax (numba).

A text becomes the mean of the vectors of its words and of their character n-grams; each inner node
of a binary tree then says how likely its right side is. `curate.signals.language` reads the model.
Sums and products are those of fastText, in its order and in single precision.
"""

import math

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["classify_texts"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

DIM = 16
SHORTEST, LONGEST = 2, 4  # characters of an n-gram
_SEED_32, _PRIME_32 = np.uint32(2166136261), np.uint32(16777619)
_SEED_64, _PRIME_64 = np.uint64(14695981039346656037), np.uint64(1099511628211)
_SIGN = np.uint32(0xFFFFFF00)
_OPEN, _CLOSE = np.uint8(ord("<")), np.uint8(ord(">"))
_LABEL = np.frombuffer(b"__label__", dtype=np.uint8)


@compiled
def classify_texts(
    data: U8, starts: I64, stops: I64, most: int, vectors: F32, end_row: int,
    word_keys: U64, word_rows: I32, buckets: int, present: U64, gram_rows: I32,
    outputs: F32, left: I32, right: I32, labels: I64, scores: F32,
) -> None:  # fmt: skip
    """Write the best label of each text and its probability; -1 where a text has no words.

    Args:
        data: UTF-8 bytes.
        starts: int64 [n].
        stops: int64 [n].
        most: bytes of a text that are read; of a longer one as much of its beginning, its middle
            and its end.
        vectors: float32 [rows, 16].
        end_row: the vector that is added for the end of the line, -1 for none.
        word_keys: hash table (open addressing, 0 is empty) of the words' 64-bit hashes.
        word_rows: their vectors.
        buckets: n-grams are hashed into so many.
        present: which buckets have a vector, as bits.
        gram_rows: the buckets' vectors.
        outputs: float32 [labels - 1, 16], a vector for each inner node.
        left: children of each node, leaves first; -1 for a leaf.
        right: the same.
        labels: out, int64 [n].
        scores: out, float32 [n].
    """
    hidden = np.zeros(DIM, dtype=np.float32)
    logs = np.empty(left.size, dtype=np.float32)
    word = np.empty(most + 8, dtype=np.uint8)
    for i in range(starts.size):
        start, stop = starts[i], stops[i]
        hidden[:] = np.float32(0)
        rows = 0
        pieces = 1 if stop - start <= most else 3
        each = (stop - start) if pieces == 1 else most // 3
        for piece in range(pieces):
            begin = start
            if pieces == 3 and piece > 0:
                begin = stop - each if piece == 2 else start + (stop - start - each) // 2
            end = begin + each
            while pieces == 3 and piece > 0 and begin < end and data[begin] & 0xC0 == 0x80:
                begin += 1
            while pieces == 3 and end < stop and data[end] & 0xC0 == 0x80:
                end -= 1
            rows += _add_words(
                data, begin, end, word, vectors, word_keys, word_rows, buckets, present,
                gram_rows, hidden,
            )  # fmt: skip
        if rows == 0:
            labels[i], scores[i] = -1, 0
            continue
        if end_row >= 0:
            for d in range(DIM):
                hidden[d] += vectors[end_row, d]
            rows += 1
        share = np.float32(1.0 / rows)
        for d in range(DIM):
            hidden[d] *= share
        labels[i], scores[i] = _best_leaf(hidden, outputs, left, right, logs)


@part_of_kernels
def _is_space(byte: np.uint8) -> bool:
    """Whether a byte separates words: space, tab to return, and zero."""
    return bool(byte == 0x20 or (byte >= 0x09 and byte <= 0x0D) or byte == 0)


@part_of_kernels
def _add_words(
    data: U8, start: int, stop: int, word: U8, vectors: F32, word_keys: U64, word_rows: I32,
    buckets: int, present: U64, gram_rows: I32, hidden: F32,
) -> int:  # fmt: skip
    """Add the vectors of the words in a stretch of text; return how many vectors."""
    rows = 0
    i = start
    mask = np.uint64(word_keys.size - 1)
    while i < stop:
        while i < stop and _is_space(data[i]):
            i += 1
        begin = i
        key = _SEED_64
        while i < stop and not _is_space(data[i]):
            key = (key ^ np.uint64(data[i])) * _PRIME_64
            i += 1
        size = i - begin
        if size == 0 or _is_label(data, begin, size):
            continue
        slot = np.int64(key & mask)
        while word_keys[slot] != key and word_keys[slot] != np.uint64(0):
            slot = (slot + 1) & np.int64(mask)
        if word_keys[slot] == key:
            row = word_rows[slot]
            for d in range(DIM):
                hidden[d] += vectors[row, d]
            rows += 1
        word[0] = _OPEN
        word[1 : size + 1] = data[begin:i]
        word[size + 1] = _CLOSE
        rows += _add_grams(word, size + 2, vectors, buckets, present, gram_rows, hidden)
    return rows


@part_of_kernels
def _is_label(data: U8, begin: int, size: int) -> bool:
    """Whether a word looks like a label: fastText then takes it for one."""
    k = 0
    while k < _LABEL.size and k < size and data[begin + k] == _LABEL[k]:
        k += 1
    return k == _LABEL.size


@part_of_kernels
def _add_grams(
    word: U8, size: int, vectors: F32, buckets: int, present: U64, gram_rows: I32, hidden: F32
) -> int:
    """Add the vectors of a word's character n-grams that the model has; return how many."""
    rows = 0
    for i in range(size):
        if word[i] & 0xC0 == 0x80:
            continue
        h = _SEED_32
        j = i
        for length in range(1, LONGEST + 1):
            if j >= size:
                break
            while True:
                byte = np.uint32(word[j])
                if byte >= 0x80:
                    byte |= _SIGN  # fastText takes bytes for signed ones
                h = np.uint32((h ^ byte) * _PRIME_32)
                j += 1
                if j >= size or word[j] & 0xC0 != 0x80:
                    break
            if length >= SHORTEST:
                bucket = np.int64(h) % buckets
                if present[bucket >> 6] >> np.uint64(bucket & 63) & np.uint64(1):
                    row = gram_rows[bucket]
                    for d in range(DIM):
                        hidden[d] += vectors[row, d]
                    rows += 1
    return rows


@part_of_kernels
def _best_leaf(
    hidden: F32, outputs: F32, left: I32, right: I32, logs: F32
) -> tuple[int, np.float32]:
    """Return the most probable leaf and its probability."""
    leaves = (left.size + 1) // 2
    root = left.size - 1
    logs[root] = np.float32(0)
    best, highest = 0, np.float32(-np.inf)
    for node in range(root, leaves - 1, -1):
        total = np.float32(0)
        for d in range(DIM):
            total += outputs[node - leaves, d] * hidden[d]
        share = np.float32(1.0 / np.float64(np.float32(1) + np.float32(math.exp(-total))))
        logs[left[node]] = logs[node] + np.float32(
            math.log(np.float64(np.float32(1.0 - np.float64(share))) + 1e-5)
        )
        logs[right[node]] = logs[node] + np.float32(math.log(np.float64(share) + 1e-5))
    for leaf in range(leaves):
        if logs[leaf] > highest:
            best, highest = leaf, logs[leaf]
    return best, np.float32(math.exp(highest))

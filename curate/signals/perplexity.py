"""Perplexity of a text under a small word n-gram model of the corpus itself, or of a reference set.

The model is the hierarchical Dirichlet one (MacKay & Peto 1995, "A hierarchical Dirichlet language
model", with one fixed prior):

    p(w)     = (c(w) + 1) / (N + B)
    p(w | h) = (c(h w) + m * p(w | h')) / (c(h) + m)

c counts n-grams up to `order` words, h' is the history h without its first word, N the words seen,
B = 2^bits and m = 16. It is a proper distribution (but for the last words of documents, which are
histories of nothing), needs nothing but counts that add up, and gives words it never saw their
share. The perplexity is exp of the mean of -log p(w | h) over the words of the text; null where it
has none.

Words are those of `curate.kernels.words`, folded. N-grams are hashed into B cells for each length,
so memory is fixed; cells that two n-grams share make the counts of rare ones a little too large.
The facts of a fitted model tell how full it is.

A document must not be measured by a model that has read it. So with `against: corpus` there are
two models: documents are halved by their text's hash (identical texts fall into one half), and
each half is measured by the model of the other. A near-duplicate in the other half still lowers a
document's perplexity, by design: what the corpus says often is likely.

>>> settings = MAKER.units({"against": "corpus", "order": 2, "bits": 10})["perplexity"]
>>> MAKER.fit.roles(settings)
('corpus',)
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.identity import ids_to_numpy
from curate.kernels.words import word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.making import CORPUS, REFERENCE, Fit, Maker, Reference, Role, Settings

__all__ = ["MAKER", "PRIOR"]

PRIOR = 16.0
_MOST = np.iinfo(np.uint32).max
U8 = npt.NDArray[np.uint8]


def _units(value: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "perplexity": {
            "against": value.get("against", CORPUS),
            "order": value.get("order", 3),
            "bits": value.get("bits", 22),
        }
    }


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    whose = "the other half of the corpus" if _is_own(settings) else "the reference set"
    about = f"perplexity per word under {settings['order']}-grams of {whose}"
    return {unit: Signal(pa.float64(), about)}


def _is_own(settings: Settings) -> bool:
    return bool(settings["against"] == CORPUS)


def _reference(settings: Settings) -> Reference | None:
    if _is_own(settings):
        return None
    against = settings["against"]
    return Reference(
        paths=tuple(against["paths"]),
        format=against.get("format"),
        columns=tuple(against.get("columns", ("text",))),
    )


def _shape(settings: Settings) -> tuple[int, int, int]:
    return 2 if _is_own(settings) else 1, settings["order"], 1 << settings["bits"]


def _halves(text_hashes: Any) -> U8:
    """Return the half a text belongs to, 0 or 1, by its hash."""
    return (ids_to_numpy(text_hashes.fill_null(bytes(16)))[:, 0] & np.uint64(1)).astype(np.uint8)


def _count(role: Role, batches: Iterable[Any], settings: Settings) -> Any:
    from curate.kernels import models  # numba: half a second

    counts = np.zeros(_shape(settings), dtype=np.uint32)
    for batch in batches:
        words, offsets = word_hashes(batch.column("text"))
        own = role == CORPUS
        halves = _halves(batch.column("text_hash")) if own else np.zeros(len(batch), dtype=np.uint8)
        models.count_ngrams(words, offsets, halves, settings["bits"], counts)
    return _sparse(counts.ravel())


def _sparse(counts: npt.NDArray[Any]) -> pa.Table:
    cells = np.flatnonzero(counts)
    return pa.table({"cell": cells.astype(np.uint32), "count": counts[cells].astype(np.int64)})


def _merge(tables: Mapping[Role, Iterable[Any]], settings: Settings) -> Any:
    shape = _shape(settings)
    counts = np.zeros(shape, dtype=np.int64)
    flat = counts.ravel()
    for role in (CORPUS, REFERENCE):
        for table in tables.get(role, ()):
            flat[table["cell"].to_numpy()] += table["count"].to_numpy()  # each cell once a table
    if not _is_own(settings) and not flat.any():
        raise InputError("measure.perplexity: the reference set holds no word")
    facts = {
        "words": counts[:, 0].sum(axis=1).tolist(),
        "cells_used": [round(float(np.mean(one > 0)), 6) for one in counts[:, -1]],
    }
    metadata = {b"preceptor.facts": json.dumps(facts, sort_keys=True).encode()}
    return _sparse(np.minimum(flat, _MOST)).replace_schema_metadata(metadata)


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    signals = _signals(unit, settings)
    dense: list[Any] = []

    def measure(texts: Any, text_hashes: Any) -> Any:
        from curate.kernels import models  # numba: half a second

        if not dense:
            counts = np.zeros(_shape(settings), dtype=np.uint32)
            counts.ravel()[artefact["cell"].to_numpy()] = artefact["count"].to_numpy()
            dense.extend([counts, counts[:, 0].sum(axis=1, dtype=np.int64)])
        counts, totals = dense
        words, offsets = word_hashes(texts)
        # Of two halves, the other one's model.
        which = 1 - _halves(text_hashes) if _is_own(settings) else np.zeros(len(texts), np.uint8)
        out = np.empty(len(texts))
        models.perplexities(words, offsets, which.astype(np.uint8), counts, totals, PRIOR, out)
        return columns_table({unit: out}, signals, nulls_of(texts))

    return Family(name=unit, signals=signals, measure=measure, reads=("text", "text_hash"))


MAKER = Maker(
    name="perplexity",
    columns="perplexity",
    description="perplexity under an n-gram model of the corpus or of a reference set",
    units=_units,
    signals=_signals,
    make=_make,
    fit=Fit(
        roles=lambda settings: (CORPUS,) if _is_own(settings) else (REFERENCE,),
        reference=_reference,
        count=_count,
        merge=_merge,
    ),
)

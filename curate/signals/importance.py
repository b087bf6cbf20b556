"""Importance of a text for resembling a reference set: DSIR (Xie et al. 2023, arXiv:2302.03169).

Words and pairs of neighbouring words are hashed into 10,000 cells. Two bags of cells are counted:
of the corpus (raw) and of the reference set (target), and a text's log importance weight is the sum
over its features of log(target frequency / raw frequency). The paper resamples by it; here it is a
number for rules, such as a threshold.

- `importance_<name>` is that sum, as in the paper: it grows with the length of the text.
- `importance_<name>_mean` is the sum per feature, so that texts of different lengths compare.

What differs from the paper's code: words are those of `curate.kernels.words` (folded letters and
numbers, no punctuation), the hash is ours, and frequencies are smoothed by one count per cell, so
that a cell nobody has is no infinite evidence. Null for a text without words.

>>> settings = MAKER.units({"wiki": {"paths": ["wiki.jsonl"]}})["wiki"]
>>> MAKER.fit.roles(settings)
('corpus', 'reference')
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.words import ngram_hashes, word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.making import CORPUS, REFERENCE, Fit, Maker, Reference, Role, Settings

__all__ = ["CELLS", "MAKER"]

CELLS = 10_000
I64 = npt.NDArray[np.int64]


def _units(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "paths": list(one["paths"]),
            "format": one.get("format"),
            "columns": list(one.get("columns", ["text"])),
        }
        for name, one in value.items()
    }


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    del settings
    return {
        f"importance_{unit}": Signal(
            pa.float64(), f"log importance weight towards {unit} (DSIR), summed over the text"
        ),
        f"importance_{unit}_mean": Signal(
            pa.float64(), f"the same per word and pair of words, towards {unit}"
        ),
    }


def _reference(settings: Settings) -> Reference:
    return Reference(
        paths=tuple(settings["paths"]),
        format=settings["format"],
        columns=tuple(settings["columns"]),
    )


def _count(role: Role, batches: Iterable[Any], settings: Settings) -> Any:
    del role, settings
    from curate.kernels import models  # numba: half a second

    counts = np.zeros(CELLS, dtype=np.int64)
    for batch in batches:
        words, offsets = word_hashes(batch.column("text"))
        for width in (1, 2):
            models.add_cells(ngram_hashes(words, offsets, width)[0], counts)
    return pa.table({"count": counts})


def _merge(tables: Mapping[Role, Iterable[Any]], settings: Settings) -> Any:
    del settings
    sums = {}
    for role in (CORPUS, REFERENCE):
        total = np.zeros(CELLS, dtype=np.int64)
        for table in tables.get(role, ()):
            total += table["count"].to_numpy()
        sums[role] = total
    if not sums[REFERENCE].any():
        raise InputError("measure.importance: the reference set holds no word")
    return pa.table({"raw": sums[CORPUS], "target": sums[REFERENCE]})


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    signals = _signals(unit, settings)
    target, raw = (_log_shares(artefact[name].to_numpy()) for name in ("target", "raw"))
    weights = target - raw

    def measure(texts: Any) -> Any:
        from curate.kernels import models  # numba: half a second

        words, offsets = word_hashes(texts)
        totals, sizes = np.empty(len(texts)), np.empty(len(texts), dtype=np.int64)
        ones, bounds = ngram_hashes(words, offsets, 1)
        twos, pairs = ngram_hashes(words, offsets, 2)
        models.mean_weights(ones, bounds, twos, pairs, weights, totals, sizes)
        nothing = sizes == 0
        sums = np.where(nothing, np.nan, totals)
        columns = {
            f"importance_{unit}": sums,
            f"importance_{unit}_mean": sums / np.maximum(sizes, 1),
        }
        return columns_table(columns, signals, nulls_of(texts))

    return Family(name=f"importance:{unit}", signals=signals, measure=measure)


def _log_shares(counts: I64) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = np.log((counts + 1) / (counts.sum() + counts.size))
    return shares


MAKER = Maker(
    name="importance",
    columns="importance_<name>, importance_<name>_mean",
    description="DSIR weights: does a text resemble your reference set more than the corpus does",
    units=_units,
    signals=_signals,
    make=_make,
    fit=Fit(
        roles=lambda settings: (CORPUS, REFERENCE),
        reference=_reference,
        count=_count,
        merge=_merge,
    ),
)

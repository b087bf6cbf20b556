"""Few-label linear probes of the encoders of text, by the protocol of `train.probes`."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import runs
import torch
from table import Asked, Row
from text_data import TEST, VALIDATION, labelled, part_of

from train.objectives import Rows
from train.probes import Split, compared, features, frozen, raw_input, untrained

__all__ = ["probed"]

Array = np.ndarray[Any, np.dtype[Any]]
LABELS = 10
#: Labelled texts to draw from: the others were trained on, but nobody asks for their labels.
POOL = 1000
#: The label set that a promise is about, and one that is told.
SETS = (("bank", "10 intents of queries"), ("sms", "spam or not"))
#: The most frequent labels of a set.
KINDS = 10


def rows_of(texts: list[str], row_tokens: int) -> Rows:
    """Return a row of bytes for each text, between its ends, cut to its length."""
    tokens = torch.full((len(texts), row_tokens), 2)
    for row, text in enumerate(texts):
        ids = [0, *(25 + byte for byte in text.encode()[: row_tokens - 2]), 1]
        tokens[row, : len(ids)] = torch.tensor(ids)
    documents = torch.arange(len(texts))[:, None].masked_fill(tokens == 2, -1)
    keys = torch.zeros(len(texts), 3, dtype=torch.int64)
    return Rows(
        tokens=tokens, targets=0 * tokens, sources=0 * tokens, documents=documents, keys=keys
    )


def probed(asked: Asked, objective: str, path: Path, rival: Path | None = None) -> list[Row]:
    """Return rows that compare a run's encoder with the untrained one, the raw bytes and a rival.

    Promised is to be above the untrained encoder on the first set; with a rival, above that.
    """
    model, _ = runs.load(path)
    promise = "untrained" if rival is None else "masked_token, as many steps"
    arms = {"ours": model, "untrained": untrained(model, asked.seed)}
    if rival is not None:
        arms[promise] = runs.load(rival)[0]
    draws = 5 if asked.quick else 40 if asked.full else 10
    found = []
    for name, told in SETS:
        some = sorted(set(labelled(asked.data)[name]))
        kinds = {kind for kind, _ in Counter(label for _, label in some).most_common(KINDS)}
        pairs = sorted((p for p in some if p[1] in kinds), key=lambda pair: part_of(pair[0] + "?"))
        part = np.array([part_of(text) for text, _ in pairs])
        kept = np.flatnonzero(np.cumsum(part > VALIDATION) <= POOL)
        pairs, part = [pairs[i] for i in kept.tolist()], part[kept]
        labels = np.unique([label for _, label in pairs], return_inverse=True)[1]
        places = [np.flatnonzero(p) for p in (part > VALIDATION, part == VALIDATION, part == TEST)]
        parts = Split(train=places[0], validation=places[1], test=places[2])
        rows = rows_of([text for text, _ in pairs], 128)
        seen = {arm: features(encoder, rows) for arm, encoder in arms.items()}
        seen["raw bytes, counted"] = raw_input(rows, model.spec)
        settings: Any = {
            "shots": (LABELS,),
            "draws": draws,
            "seed": asked.seed,
            "probes": ("linear",),
        }
        scores = [
            score
            for arm, layers in seen.items()
            for score in frozen(arm, layers, labels, parts, **settings)
        ]
        for one in compared(scores):
            promised = name == SETS[0][0] and one.control == promise
            found.append(
                Row(
                    objective=objective,
                    what=f"{one.what} of {told}",
                    ours=one.ours,
                    control=one.control,
                    against=one.against,
                    difference=one.difference,
                    standard_error=one.standard_error,
                    passed=one.better if promised else None,
                    starred=rival is not None,
                    note=one.note,
                )
            )
    return found

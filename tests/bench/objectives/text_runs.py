"""What the checks of text share: a run that is trained once, and differences over documents."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import runs
import torch
from table import Asked, Row
from text_data import CORPORA, Corpus
from torch import Tensor

from train.evaluate import ratio_difference
from train.model import Model
from train.objectives import Rows

__all__ = [
    "PART",
    "by_document",
    "compared",
    "corpus",
    "counted",
    "guesses",
    "parts_of",
    "steps_of",
    "trained",
]

Array = np.ndarray[Any, np.dtype[Any]]
#: Updates of a training, and the rows of each.
STEPS = {"quick": 250, "normal": 1200, "full": 4000}
BATCH = 24
PART = 32


def steps_of(asked: Asked) -> int:
    """Return the updates of one training."""
    return STEPS["quick" if asked.quick else "full" if asked.full else "normal"]


@cache
def corpus(asked: Asked, name: str) -> Corpus:
    """Return a corpus of `text_data`."""
    return CORPORA[name](asked.data)


@cache
def trained(asked: Asked, name: str, objective: str, **settings: Any) -> Path:
    """Train on a corpus through the real trainer, once for all checks that ask for the same."""
    told = "-".join(f"{k}{v}" for k, v in sorted(settings.items()))
    folder = asked.work / "text" / "-".join(part for part in (name, objective, told) if part)
    shutil.rmtree(folder, ignore_errors=True)
    data = corpus(asked, name)
    config = {"width": 128, "depth": 2, "batch_rows": BATCH, "steps": steps_of(asked), **settings}
    path = runs.text_run(
        folder,
        data.train,
        row_tokens=data.row_tokens,
        tokenizer=data.tokenizer,
        held_out=data.held_out,
        seed=asked.seed,
        objective=objective,
        eval_max_rows=64,
        threads=asked.threads,
        **config,
    )
    runs.train(path)
    return path


def parts_of(rows: Rows) -> Iterator[Rows]:
    """Yield some rows at a time; what is made of a row does not depend on the others."""
    for first in range(0, len(rows.tokens), PART):
        some = slice(first, first + PART)
        yield Rows(**{k: None if v is None else v[some] for k, v in vars(rows).items()})


def by_document(rows: Rows, values: Tensor, count: int) -> Array:
    """Return the sums [count] of [B, T] over documents."""
    inside = rows.documents >= 0
    places, found = rows.documents[inside].numpy(), values[inside].double().numpy()
    return np.bincount(places, weights=found, minlength=count)


def compared(
    objective: str,
    what: str,
    sums: tuple[Array, Array],
    counts: Array,
    control: str,
    *,
    sign: int = 1,
    **more: Any,
) -> Row:
    """Return the row that compares two sums over documents as shares of the counts [n].

    Args:
        sign: 1 where more is better, -1 where less is.
        more: of the row; by default it is reached two standard errors from the control.
    """
    used = counts > 0
    ours, theirs, n = sums[0][used], sums[1][used], counts[used]
    difference, error = ratio_difference(ours - theirs, n)
    reached = error is not None and sign * difference > 2 * error
    return Row(
        objective=objective,
        what=what,
        ours=float(ours.sum() / n.sum()),
        control=control,
        against=float(theirs.sum() / n.sum()),
        difference=difference,
        standard_error=error,
        **{"passed": reached, **more},
    )


@torch.no_grad()
def guesses(model: Model, inputs: Tensor, rows: Rows) -> Tensor:
    """Return the likeliest id at each place [B, T] for a model with a head of ids."""
    objective, backbone = model.objective, model.backbone
    hidden = backbone(inputs, rows.pieces, causal=model.spec.causal)
    return (hidden @ objective._head(backbone)[: objective.vocab_size].T).argmax(-1)


def counted(asked: Asked, path: Path) -> Array:
    """Return how often each id of text is in the rows that were trained on."""
    model, _ = runs.load(path)
    rows = runs.rows(path)
    ids = rows.tokens[rows.documents >= 0].numpy()
    found = np.bincount(ids, minlength=model.spec.vocab_size)
    found[sorted(model.spec.specials.values())] = 0
    return found

"""What probes learn with: neighbours, logistic regression, fine-tuning; and finding pairs.

>>> known, queries = np.eye(3), np.array([[0.1, 0.9, 0.0]])
>>> knn(known, np.array([0, 1, 2]), queries, 3).tolist()
[1]
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from curate.corpus.errors import InputError
from train.config import TrainConfig
from train.encoded import taken
from train.model import Model
from train.models.linear import Linear
from train.objectives.base import Rows
from train.optim import make_optimizer

__all__ = ["RATES", "STEPS", "Split", "knn", "linear", "retrieval", "tune"]

Array = np.ndarray[Any, np.dtype[Any]]
#: Neighbours that vote, and the temperature of their votes (solo-learn, `utils/knn.py`).
NEIGHBOURS, TEMPERATURE = 20, 0.07
#: 1 / lambda of the logistic regression, on features that are centred and of variance 1 over all.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
#: Shares of the trainer's usual peak rates that fine-tuning chooses from, its steps, rows in each.
RATES, STEPS, BATCH = (0.1, 0.3, 1.0), 80, 32
#: Peak rate of the new linear head.
HEAD_LR = 0.02


@dataclass(frozen=True, kw_only=True)
class Split:
    """Places of the examples to learn from, to choose settings by, and to measure on; disjoint."""

    train: Array
    validation: Array
    test: Array


def knn(known: Array, labels: Array, queries: Array, num_classes: int) -> Array:
    """Return the class [n] that 20 neighbours vote for, each exp(cosine / .07).

    Args:
        known: [N, D], of classes `labels` [N]; all vote where there are fewer than 20.
        queries: [n, D].
        num_classes: classes are 0 to this - 1.
    """
    a, b = (F.normalize(torch.from_numpy(x).float(), dim=1) for x in (queries, known))
    found = []
    for some in a.split(1024):
        near = (some @ b.T).topk(min(NEIGHBOURS, len(b)), dim=1)
        votes = torch.zeros(len(some), num_classes)
        # Cosines are at most 1: subtracting that keeps exp() from growing large.
        weight = ((near.values - 1) / TEMPERATURE).exp()
        found.append(votes.scatter_add_(1, torch.from_numpy(labels)[near.indices], weight))
    told: Array = torch.cat(found).argmax(1).numpy()
    return told


def linear(
    known: Array, labels: Array, validation: tuple[Array, Array], queries: Array
) -> tuple[Array, float]:
    """Return the classes [n] of an L2-regularised logistic regression, and its accuracy on a slice.

    Args:
        known: [N, D], of classes `labels` [N].
        validation: features and classes of the slice by which lambda is chosen.
        queries: [n, D].

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise InputError("probes need scikit-learn: pip install 'preceptor[train]'") from error
    best, found = -1.0, np.zeros(len(queries), labels.dtype)
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged in 200 steps: validation judges it
            fitted.fit(known, labels)
        accuracy = float((fitted.predict(validation[0]) == validation[1]).mean())
        if accuracy > best:
            best, found = accuracy, fitted.predict(queries)
    return found, best


def retrieval(queries: Array, items: Array, ks: Sequence[int] = (1, 5)) -> dict[int, Array]:
    """Return k -> [N] bool: whether item i is among the k nearest of query i, by cosine.

    Items that are as near as the right one are counted before it: equal features find nothing.

    Args:
        queries, items: [N, D]; the i-th belong together.
        ks: R@k is the mean of an entry.
    """
    a, b = (F.normalize(torch.from_numpy(x).float(), dim=1) for x in (queries, items))
    rank = []
    for some, at in zip(a.split(1024), torch.arange(len(b)).split(1024), strict=True):
        similar = some @ b.T
        own = similar.gather(1, at[:, None])
        rank.append((similar >= own).sum(1) - 1)
    ranks = torch.cat(rank).numpy()
    return {k: ranks < k for k in ks}


def tune(
    start: Model,
    rows: Rows,
    labels: Array,
    parts: Split,
    at: Array,
    rate: float,
    steps: int,
    draw: int,
) -> tuple[float, Array]:
    """Return the best accuracy on the validation slice, and what the test part was told then."""
    device = next(start.parameters()).device
    model = Model(start.spec, attention=start.backbone.form).to(device)
    model.load_state_dict(start.state_dict())
    model.train().requires_grad_(True)  # a teacher too, where that is what encodes
    head = Linear(start.spec.width, int(labels.max()) + 1, zero=True).to(device)
    # Muon learns most from few steps, of new weights too: the control is as strong as it can be.
    optimizer = make_optimizer(model, TrainConfig(optimizer="muon"), device)
    of_head = torch.optim.AdamW(head.parameters(), lr=HEAD_LR, betas=(0.9, 0.95))
    peaks = [*((g, g["peak"] * rate) for g in optimizer.param_groups)]
    peaks += [(of_head.param_groups[0], HEAD_LR)]
    random = np.random.default_rng([draw, len(at), 0xF17E])
    truth = torch.from_numpy(labels).to(device)
    best, right = -1.0, np.zeros(len(parts.test), dtype=bool)
    queue: list[int] = []
    for step in range(steps):
        while len(queue) < min(BATCH, len(at)):
            queue += random.permutation(at).tolist()
        some, queue = np.array(queue[:BATCH]), queue[BATCH:]
        for group, peak in peaks:
            group["lr"] = peak * min(1.0, (step + 1) / 6, 1.1 - step / steps)
        logits = head(model.objective.encode(model.backbone, taken(rows, some).to(device)))
        F.cross_entropy(logits, truth[torch.from_numpy(some).to(device)]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (optimizer, of_head):
            each.step()
            each.zero_grad(set_to_none=True)
        if (step + 1) % -(-steps // 3) == 0 or step + 1 == steps:
            valid = float(_right(model, head, rows, labels, parts.validation).mean())
            if valid > best:
                best, right = valid, _right(model, head, rows, labels, parts.test)
            model.train()
    return best, right


@torch.no_grad()
def _right(model: Model, head: Linear, rows: Rows, labels: Array, at: Array) -> Array:
    """Return which of the examples are told, [n] bool."""
    model.eval()
    device, found = head.weight.device, []
    for some in np.array_split(at, max(1, math.ceil(len(at) / 256))):
        hidden = model.objective.encode(model.backbone, taken(rows, some).to(device))
        found.append(head(hidden).argmax(1).cpu().numpy() == labels[some])
    return np.concatenate(found)

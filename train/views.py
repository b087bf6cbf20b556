"""What the tasks that compare views of an image share: two views, a projector, teachers, health."""

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.augment import preset, views
from train.models.linear import Linear
from train.objectives.base import Batch, Objective, Rows
from train.parallel import local

__all__ = [
    "ViewTask",
    "copy_of",
    "distillation",
    "effective_rank",
    "follow",
    "pooled",
    "projector",
    "sinkhorn",
    "spread",
]


def projector(width: int, *sizes: int) -> nn.Sequential:
    """Return an MLP to the space where views are compared; the probe never sees it."""
    layers: list[nn.Module] = []
    for num_in, num_out in zip((width, *sizes), sizes, strict=False):
        layers += [Linear(num_in, num_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pooled(backbone: Any, images: Tensor) -> Tensor:
    """[B, C, H, W] float in [0, 1] -> [B, width] float32: the mean over patches."""
    return backbone(backbone.stem(images)).float().mean(1)


def copy_of(module: nn.Module) -> Any:
    """Return a teacher: a copy that is not trained, but kept in the state."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher: momentum x itself + (1 - momentum) x the student."""
    theirs, ours = ([local(p) for p in some.parameters()] for some in (teacher, student))
    torch._foreach_lerp_(theirs, ours, 1 - momentum)


def spread(features: Tensor) -> float:
    """Return sqrt(D) x the mean deviation of unit vectors [N, D]: 1 spread evenly, 0 collapsed."""
    return float(features.std(0).mean()) * features.size(1) ** 0.5


def effective_rank(features: Tensor) -> float:
    """Return exp of the entropy of the singular values' shares (Roy and Vetterli 2007) of [N, D].

    >>> round(effective_rank(torch.eye(4)), 3)  # centred: one dimension is lost
    3.0
    """
    if not features.isfinite().all():  # the run has diverged, which is told elsewhere
        return math.nan
    centred = (features - features.mean(0)).double()
    values = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0).sqrt()
    shares = values / values.sum().clamp(min=1e-12)
    return float((-shares * shares.clamp(min=1e-12).log()).sum().exp())


def distillation(student: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Return [N]: the mean cross-entropy over pairs of different views, in nats.

    Args:
        student: [N, V, K] logits of V views.
        shares: [N, V, K], what the teacher says.
        temperature: of the student's softmax.
    """
    told = (student / temperature).log_softmax(-1)
    pairs = -torch.einsum("nvk,nwk->nvw", shares, told)
    num_views = student.size(1)
    alike = pairs.diagonal(dim1=1, dim2=2).sum(1)
    return (pairs.sum((1, 2)) - alike) / (num_views * (num_views - 1))


def sinkhorn(logits: Tensor, present: Tensor, iterations: int = 3) -> Tensor:
    """Return shares [N, K] of each row, 1 in sum, that use every code about equally often.

    Args:
        logits: [N, K].
        present: [N] bool, the rows that use codes.
        iterations: of making columns, then rows, equal in sum.
    """
    for _ in range(iterations):
        used = logits.masked_fill(~present[:, None], torch.finfo(logits.dtype).min)
        logits = (logits - used.logsumexp(0)).log_softmax(1)
    return logits.exp()


class ViewTask(Objective):
    """Two views of each image; `_seen` holds the features of the last step for `health`.

    The features of a withdrawn image are zeros, and zeros are nobody's example.
    """

    needs: ClassVar[pa.Schema] = pa.schema([("pixels", pa.list_(pa.uint8()))])
    batch_coupled: ClassVar[bool] = True
    floors: ClassVar[Mapping[str, float]] = {"feature_std": 0.05, "effective_rank": 1.5}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.view = preset(self.knob["views"], spec.media)
        self._seen: Tensor | None = None

    def manufacture(self, rows: Rows) -> Batch:
        """Draw the views: inputs [B, 2, C, H, W] float32 in [0, 1]."""
        assert rows.pixels is not None
        both = [views(rows.pixels, rows.keys, name, self.view) for name in ("first", "second")]
        return Batch(inputs=torch.stack(both, 1), targets=rows.targets, rows=rows)

    def present(self, features: Tensor) -> Tensor:
        """[N, views, D] -> [N] bool: the rows that were not withdrawn."""
        return (features.detach() != 0).any(2).any(1)

    def keep(self, features: Tensor) -> None:
        """Keep unit features [N, D] for `health`."""
        if self.training:
            self._seen = F.normalize(features.detach().float(), dim=-1)

    def health(self) -> Mapping[str, float]:
        """Return how the features of the last step spread; see `spread` and `effective_rank`."""
        if self._seen is None:
            return {}
        return {"feature_std": spread(self._seen), "effective_rank": effective_rank(self._seen)}

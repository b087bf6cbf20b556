"""What a pretext task is: rows in, manufactured targets, a SUM of losses and a count out.

Sums, never means: the mean is taken once, over everything that makes up a step, so that rows
that are not full, accumulation and several ranks cannot change it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

__all__ = ["Batch", "Loss", "Objective", "Rows"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of the plan on one device; B rows of T tokens.

    Attributes:
        tokens: [B, T] int64, `pad` where the row is not full.
        targets: [B, T] int64, the token that follows in the same document, else -100.
        sources: [B, T] int64 source codes, 0 in padding.
        documents: [B, T] int64 ordinals of the document over all shards, -1 in padding.
        keys: [B, 3] int64 (seed, epoch, row of the plan): the key of any randomness.
        spans: [B, T] int64 or None: number of the plan's span in its row, padding being one more.
            None where no document stands beside a copy of itself.
        cu_seqlens: [k + 1] int32 or None: where the pieces of documents begin in the flat batch,
            padding being a piece; of a fixed length, the tail repeats B x T.
    """

    tokens: Tensor
    targets: Tensor
    sources: Tensor
    documents: Tensor
    keys: Tensor
    spans: Tensor | None = None
    cu_seqlens: Tensor | None = None

    def to(self, device: torch.device) -> "Rows":
        """Copy to `device`."""
        moved: Any = {
            k: None if v is None else v.to(device, non_blocking=True) for k, v in vars(self).items()
        }
        return Rows(**moved)

    @property
    def pieces(self) -> Tensor:
        """[B, T] int64, equal inside one piece of one document: the plan's spans."""
        return self.documents if self.spans is None else self.spans


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a pretext task made of rows: `inputs` and `targets` [B, T] (-100: no loss)."""

    inputs: Tensor
    targets: Tensor
    rows: Rows


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A step's loss as sums.

    Attributes:
        total: scalar, nats, differentiable.
        count: scalar int64, the number of targets.
        units: [B, T] nats of each target, 0 without one; not differentiable.
    """

    total: Tensor
    count: Tensor
    units: Tensor

    def per_source(self, sources: Tensor, num_sources: int, counted: Tensor) -> Tensor:
        """Return [2, num_sources] float64: nats and targets of each source; stays on the device."""
        sums = torch.zeros(2, num_sources, dtype=torch.float64, device=self.units.device)
        index = sources.flatten()
        sums[0].scatter_add_(0, index, self.units.flatten().double())
        sums[1].scatter_add_(0, index, counted.flatten().double())
        return sums


class Objective(nn.Module):
    """A pretext task; owns its head. One file of `train/objectives` holds one, as `OBJECTIVE`.

    It is made from a `train.model.ModelSpec`, and calls `backbone(inputs, rows.pieces,
    rows.cu_seqlens)`, where inputs are ids [B, T] or a stem's vectors [B, T, width].
    """

    needs: ClassVar[pa.Schema]
    batch_coupled: ClassVar[bool] = False

    def manufacture(self, rows: Rows) -> Batch:
        """Make inputs and targets; randomness is keyed by `rows.keys`, never by a global state."""
        raise NotImplementedError

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Predict and measure."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Advance teachers, queues, temperatures; all of them in the state dict."""

    def chance(self) -> float:
        """Return the analytic loss, in nats per target, of knowing nothing."""
        raise NotImplementedError

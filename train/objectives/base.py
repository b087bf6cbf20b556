"""What a pretext task is: rows in, manufactured targets, a SUM of losses and a count out.

Sums, never means: the mean is taken once, over everything that makes up a step, so that rows
that are not full, accumulation and several ranks cannot change it.

A *unit* is what a loss is told for: a token of text, or a whole image, sound or pair. Text rows are
[B, T]; rows of media hold one document each and are [B, 1], with `pixels` or `samples` beside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from curate.corpus.errors import InputError

__all__ = ["Batch", "Loss", "Objective", "Rows", "settled"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of the plan on one device; B rows of T tokens (T = 1 for media).

    Attributes:
        tokens: [B, T] int64, `pad` where the row is not full; zeros for media.
        targets: [B, T] int64, the token that follows in the same document, else -100; for media 0,
            or -100 where the document was withdrawn.
        sources: [B, T] int64 source codes, 0 in padding.
        documents: [B, T] int64 ordinals of the document over all shards, -1 in padding.
        keys: [B, 3] int64 (seed, epoch, row of the plan): the key of any randomness.
        spans: [B, T] int64 or None: number of the plan's span in its row, padding being one more.
            None where no document stands beside a copy of itself.
        cu_seqlens: [k + 1] int32 or None: where the pieces of documents begin in the flat batch,
            padding being a piece; of a fixed length, the tail repeats B x T.
        pixels: [B, channels, height, width] uint8 or None.
        samples: [B, S] int16 or None, zeros behind the end.
        lengths: [B] int64 or None: samples of each sound.
        captions: [B, L] int64 or None: the ids of a pair's text, `pad` behind the end.
    """

    tokens: Tensor
    targets: Tensor
    sources: Tensor
    documents: Tensor
    keys: Tensor
    spans: Tensor | None = None
    cu_seqlens: Tensor | None = None
    pixels: Tensor | None = None
    samples: Tensor | None = None
    lengths: Tensor | None = None
    captions: Tensor | None = None

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
    """What a pretext task made of rows.

    Attributes:
        inputs: what goes into the backbone, ids [B, T] or media as the task needs it.
        targets: what is to be predicted; [B, T] with -100 where there is no loss, for tokens.
        rows: where it came from.
        more: tensors of the task's own.
    """

    inputs: Tensor
    targets: Tensor
    rows: Rows
    more: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A step's loss as sums.

    Attributes:
        total: scalar, nats (or `Objective.unit`), differentiable.
        count: scalar, the number of targets.
        units: the loss of each unit, [B, T] (media, batch-coupled: [B, 1]), 0 without a target;
            not differentiable.
        counted: of the shape of `units`, how many targets each has; None: one where
            `rows.targets` has one.
        metrics: name -> [2] (sum, count), such as an accuracy's; not differentiable.
    """

    total: Tensor
    count: Tensor
    units: Tensor
    counted: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    def told(self, counted: Tensor) -> Tensor:
        """Return the targets of each unit, of its shape; `counted` [B, T] where nothing says."""
        return counted[:, : self.units.size(1)] if self.counted is None else self.counted

    def per_source(self, sources: Tensor, num_sources: int, counted: Tensor) -> Tensor:
        """Return [2, num_sources] float64: nats and targets of each source; stays on the device."""
        sums = torch.zeros(2, num_sources, dtype=torch.float64, device=self.units.device)
        index = sources[:, : self.units.size(1)].flatten()
        counted = self.told(counted)
        sums[0].scatter_add_(0, index, self.units.flatten().double())
        sums[1].scatter_add_(0, index, counted.flatten().double())
        return sums


class Objective(nn.Module):
    """A pretext task; owns its head. One file of `train/objectives` holds one, as `OBJECTIVE`.

    It is made from a `train.model.ModelSpec`, and calls `backbone(inputs, rows.pieces,
    rows.cu_seqlens)`, where inputs are ids [B, T] or a stem's vectors [B, T, width].

    A **batch-coupled** task compares rows with one another. It gives `embed`, the features of each
    row, and `couple`, the loss of all rows of a step over all ranks and micro-batches; the loop
    caches the features and their gradients (GradCache, Gao et al. 2021), so a step's rows may be
    split in any way. `forward` is both, for rows that are the whole step.

    Attributes:
        needs: columns it eats; shards without them are refused before the first step.
        batch_coupled: see above.
        causal: whether a token sees only what comes before it.
        unit: what the loss is measured in.
        knobs: settings of `train.config` that mean something to it, with its own defaults.
        least_rows: of a step, below which there is nothing to compare.
        floors: name in `health()` -> a value below which the features have collapsed.
    """

    needs: ClassVar[pa.Schema]
    batch_coupled: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    unit: ClassVar[str] = "nats"
    knobs: ClassVar[Mapping[str, Any]] = {}
    least_rows: ClassVar[int] = 1
    floors: ClassVar[Mapping[str, float]] = {}

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec
        self.knob = settled(type(self), spec.task)

    def attach(self, backbone: nn.Module) -> None:
        """Make what begins as a copy of the backbone, such as a teacher."""

    def manufacture(self, rows: Rows) -> Batch:
        """Make inputs and targets; randomness is keyed by `rows.keys`, never by a global state."""
        raise NotImplementedError

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Predict and measure."""
        if not self.batch_coupled:
            raise NotImplementedError
        return self.couple(self.embed(backbone, batch))

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, views, D]: all that the loss needs to know of each row, differentiable."""
        raise NotImplementedError

    def couple(self, features: Tensor) -> Loss:
        """Return the loss of a whole step from its [N, views, D]; `units` and `counted` [N, 1]."""
        raise NotImplementedError

    def beside(self, backbone: nn.Module, batch: Batch) -> Loss | None:
        """Return a loss that is not batch-coupled, beside the one that is; by default none."""
        return None

    def encode(self, backbone: Any, rows: Rows, blocks: int | None = None) -> Tensor:
        """Return [B, D] float32: what a probe sees of each row, nothing hidden or changed.

        By default the mean over a row's units of the backbone's output after `blocks` blocks.
        """
        if rows.pixels is not None:
            return backbone(backbone.stem(rows.pixels), blocks=blocks).float().mean(1)
        if rows.samples is not None:
            inside = backbone.stem.inside(rows.samples, rows.lengths)
            frames = backbone.stem(rows.samples, rows.lengths)
            hidden = backbone(frames, inside.long(), blocks=blocks).float()
        else:
            hidden = backbone(rows.tokens, rows.pieces, rows.cu_seqlens, blocks=blocks).float()
            inside = rows.documents >= 0
        shares = inside.float() / inside.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("btc,bt->bc", hidden, shares)

    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Advance teachers, queues, schedules after update `step`; all of them in the state."""

    def health(self) -> Mapping[str, float]:
        """Return numbers that tell a collapse, of the last step; read when a line is due."""
        return {}

    def chance(self) -> float | None:
        """Return the analytic loss per target of knowing nothing; None where there is none."""
        raise NotImplementedError


def settled(kind: type[Objective], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's knobs: its own defaults, and what was asked in their place.

    Raises:
        InputError: a knob that means nothing to it.
    """
    for name in task:
        if name not in kind.knobs:
            known = ", ".join(kind.knobs) or "none"
            raise InputError(
                f"train.{name} means nothing to the objective; the knobs that it has: {known}"
            )
    return {**kind.knobs, **task}

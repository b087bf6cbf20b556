"""A backbone and its objective as one module, built from five numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from train.models.decoder import Decoder
from train.objectives import Loss, Rows, find

__all__ = ["Model", "ModelSpec", "padded_size"]


def padded_size(vocab_size: int, multiple: int = 128) -> int:
    """Round up: matrix units like multiples of 128.

    >>> padded_size(50257)
    50304
    """
    return -(-vocab_size // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that is needed to build the module that a file of weights fits."""

    objective: str
    vocab_size: int
    depth: int
    width: int
    heads: int
    row_tokens: int

    def to_mapping(self) -> Mapping[str, Any]:
        """Return plain data."""
        return asdict(self)


class Model(nn.Module):
    """`backbone` and `objective`; calling it on rows gives a `Loss`."""

    def __init__(self, spec: ModelSpec, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.spec = spec
        padded = padded_size(spec.vocab_size)
        self.backbone = Decoder(
            vocab_size=padded,
            depth=spec.depth,
            width=spec.width,
            heads=spec.heads,
            max_tokens=spec.row_tokens,
            dtype=dtype,
        )
        kind: Any = find(spec.objective)
        self.objective = kind(vocab_size=spec.vocab_size, padded_size=padded, width=spec.width)

    def forward(self, rows: Rows) -> Loss:
        """Manufacture, predict, measure."""
        loss: Loss = self.objective(self.backbone, self.objective.manufacture(rows))
        return loss

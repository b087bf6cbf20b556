"""The matrix that all models are made of."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear"]


class Linear(nn.Linear):
    """A matrix without bias that follows the type of its input.

    Args:
        num_in, num_out: columns and rows; several `num_out` are matrices one above another,
            `parts`, which an optimizer of matrices takes apart.
        zero: start at zero.
    """

    def __init__(self, num_in: int, *num_out: int, zero: bool = False) -> None:
        super().__init__(num_in, sum(num_out), bias=False)
        self.parts = num_out
        std = 0.0 if zero else num_in**-0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-3 * std, b=3 * std) if std else (
            nn.init.zeros_(self.weight)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., num_in] -> [..., num_out]."""
        return F.linear(x, self.weight.to(x.dtype))

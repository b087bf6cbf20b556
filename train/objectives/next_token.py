"""Next-token prediction: softmax over the vocabulary, its logits capped if the model says so.

The head is the widest product of a small model, and its float32 logits the largest tensor. So
the loss is computed in slices of tokens that stay in cache, and the gradient of the SUM is taken
in the same pass (the idea of Liger and Cut Cross-Entropy): measured 126 ms against 303 ms for
4,096 tokens x 4,096 ids x 256 channels in bfloat16 on two Zen 4 cores.
"""

import math
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from train.models.transformer import LOGIT_CAP
from train.objectives.base import Batch, Loss, Objective, Rows

__all__ = ["OBJECTIVE", "NextToken", "capped_cross_entropy"]

#: A slice's logits: on a CPU they stay in its cache; elsewhere 512 MB of float32, which leave the
#: memory to the model, but never fewer tokens than these: each slice adds to the head's gradient.
SLICE_LOGITS, SLICE_LOGITS_ELSEWHERE, SLICE_TOKENS = 1 << 21, 1 << 27, 1 << 10


def slice_tokens(num_rows: int, *, on_cpu: bool) -> int:
    """Return the tokens whose logits, over so many ids, are made at once.

    >>> slice_tokens(50304, on_cpu=False), slice_tokens(4096, on_cpu=True)
    (2560, 512)
    """
    if on_cpu:
        return max(64, SLICE_LOGITS // num_rows)
    return max(SLICE_TOKENS, SLICE_LOGITS_ELSEWHERE // num_rows // 128 * 128)


class _CrossEntropy(torch.autograd.Function):
    """Sum of losses whose gradients are made during the forward pass, slice by slice."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        num_ids: int,
        cap: float,
        need: bool,
    ) -> tuple[Tensor, Tensor]:
        matrix = (weight / (cap or 1.0)).to(hidden.dtype)
        units = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if need else None
        d_weight = torch.zeros_like(weight) if need else None
        one = units.new_ones(())
        per_slice = slice_tokens(len(weight), on_cpu=hidden.device.type == "cpu")
        for start in range(0, len(hidden), per_slice):
            part = slice(start, start + per_slice)
            logits = (hidden[part] @ matrix.T).float()
            counted = (targets[part, None] >= 0).float()
            index = targets[part, None].clamp(min=0)
            if cap:  # bounds the logits, so exp needs no maximum subtracted: e^15 x V is small
                logits, top = logits.tanh_(), units.new_zeros(())
                share = (logits * cap).exp_()
            else:
                top = logits[:, :num_ids].amax(-1, keepdim=True)
                share = (logits - top).exp_()
            share[:, num_ids:] = 0
            total = share.sum(-1, keepdim=True)
            of_target = logits.gather(1, index)
            at_target = of_target * (cap or 1.0) - top
            units[part] = ((total.log() - at_target) * counted)[:, 0]
            if d_hidden is None or d_weight is None:
                continue
            d_target = at_target.exp() - total
            if cap:
                share.mul_(torch.addcmul(one, logits, logits, value=-1))
                d_target *= 1 - of_target.square()
            slope = share.to(hidden.dtype).scatter_(1, index, d_target.to(hidden.dtype))
            scale = counted / total  # of the narrow factors: a pass less over the wide one
            d_hidden[part] = (slope @ matrix) * (scale * (cap or 1.0))
            d_weight += slope.T @ (hidden[part] * scale).to(hidden.dtype)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.mark_non_differentiable(units)
        return units.sum(dtype=torch.float64), units

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        scale = grad.to(torch.float32)
        return d_hidden * scale.to(d_hidden.dtype), d_weight * scale, None, None, None, None


def capped_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, num_ids: int, cap: float = LOGIT_CAP
) -> tuple[Tensor, Tensor]:
    """Return the sum (scalar float64) and each target's loss ([N] float32), in nats.

    Args:
        hidden: [N, C] in float32 or bfloat16.
        weight: [V_padded, C] float32; ids from `num_ids` on have no probability.
        targets: [N] int64, -100 where nothing is predicted.
        num_ids: V.
        cap: logits are cap * tanh(logits / cap); 0: as they are.
    """
    need = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    total, units = _CrossEntropy.apply(hidden, weight, targets, num_ids, cap, need)
    return total, units


class NextToken(Objective):
    """Predict each text token and the end of the document from what comes before in its row.

    Args:
        spec: a `train.model.ModelSpec`; a tied head is the backbone's embedding.
    """

    head: Any
    needs: ClassVar[pa.Schema] = pa.schema([("tokens", pa.large_list(pa.uint16()))])
    causal: ClassVar[bool] = True

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.vocab_size, self.logit_cap = spec.vocab_size, spec.logit_cap
        head = None if spec.tied else nn.Parameter(torch.zeros(spec.padded_size, spec.width))
        self.register_parameter("head", head)

    def manufacture(self, rows: Rows) -> Batch:
        """Rows already carry their next tokens, looked up beyond the row's end."""
        return Batch(inputs=rows.tokens, targets=rows.targets, rows=rows)

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Run the backbone; see `Loss`."""
        pieces, cu_seqlens = batch.rows.pieces, batch.rows.cu_seqlens
        hidden = backbone(batch.inputs, pieces, cu_seqlens).flatten(0, 1)
        total, units = capped_cross_entropy(
            hidden,
            self._head(backbone),
            batch.targets.flatten(),
            self.vocab_size,
            self.logit_cap,
        )
        counted = batch.targets >= 0
        return Loss(total=total, count=counted.sum(), units=units.view_as(batch.targets))

    def _head(self, backbone: Any) -> Any:
        head: Tensor | None = self.head
        return backbone.embedding.weight if head is None else head

    def logits(self, backbone: nn.Module, tokens: Tensor) -> Tensor:
        """Return [B, vocab_size] float32 logits after the last token of [B, T]."""
        last = backbone(tokens)[:, -1]
        raw = (last @ self._head(backbone)[: self.vocab_size].to(last.dtype).T).float()
        return self.logit_cap * torch.tanh(raw / self.logit_cap) if self.logit_cap else raw

    def chance(self) -> float:
        """Return ln V: every id equally likely."""
        return math.log(self.vocab_size)


OBJECTIVE = NextToken

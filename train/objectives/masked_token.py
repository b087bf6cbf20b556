"""Masked tokens: a text with holes in, the tokens of the holes out, seen from both sides.

BERT (Devlin et al. 2019): of the hidden tokens 80 % become [MASK], 10 % a random token of text and
10 % stay; the loss is on the hidden ones alone. `mask_rate` is 0.30, which serves encoders better
than BERT's 0.15 (Wettig et al. 2023); what is held out is measured at 0.15, so that runs compare.
With `mask_span` above 1, whole spans are hidden, and each becomes one of the three (SpanBERT, Joshi
et al. 2020; without its boundary objective). Specials are neither hidden nor drawn.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from curate.corpus.errors import InputError
from train import keyed
from train.masks import ordinary, restored, spans, special
from train.objectives.base import Batch, Loss, Rows
from train.objectives.next_token import NextToken

__all__ = ["OBJECTIVE", "MaskedToken"]

#: The rate at which held-out text is measured.
EVALUATED = 0.15


class MaskedToken(NextToken):
    """Restore hidden tokens from both sides of their own document.

    Attributes:
        masked, kept: shares of the hidden tokens that become [MASK], and that stay as they are.

    Args:
        spec: a `train.model.ModelSpec`; its tokenizer has a token `mask`.

    Raises:
        InputError: it has none, or `mask_rate` hides all.
    """

    ordinary: Tensor
    text_ids: Tensor
    causal: ClassVar[bool] = False
    knobs: ClassVar[dict[str, Any]] = {"mask_rate": 0.3, "mask_span": 1}
    masked: ClassVar[float] = 0.8
    kept: ClassVar[float] = 0.1

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        if self.knob["mask_rate"] >= 1:
            raise InputError(
                f"train.mask_rate is {self.knob['mask_rate']}; it is a share of the tokens, "
                "below 1: from nothing, nothing can be restored"
            )
        self.mask = special(spec.specials, "mask", spec.objective)
        text = ordinary(spec.specials, spec.vocab_size)
        self.register_buffer("ordinary", text, persistent=False)
        self.register_buffer("text_ids", text.nonzero()[:, 0], persistent=False)

    @property
    def rate(self) -> float:
        """The share of the tokens that is hidden now."""
        return float(self.knob["mask_rate"]) if self.training else EVALUATED

    def hide(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return which tokens are hidden [B, T] bool, and where each one's span began [B, T]."""
        hidden, origin = spans(rows, self.rate, self.knob.get("mask_span", 1))
        return hidden & self.open(rows), origin

    def open(self, rows: Rows) -> Tensor:
        """Return [B, T] bool: tokens of text that may be hidden, none of a withdrawn document."""
        return self.ordinary[rows.tokens] & (rows.documents >= 0) & (rows.targets >= 0)

    def manufacture(self, rows: Rows) -> Batch:
        """Hide tokens; [MASK], a random token or themselves are in their place."""
        hidden, origin = self.hide(rows)
        length = rows.tokens.size(1)
        way = keyed.uniform(rows.keys, "way", length).gather(1, origin)
        drawn = keyed.integers(rows.keys, "random", len(self.text_ids), length)
        inputs = torch.where(hidden & (way < self.masked), self.mask, rows.tokens)
        inputs = torch.where(
            hidden & (way >= self.masked + self.kept), self.text_ids[drawn], inputs
        )
        return Batch(inputs=inputs, targets=rows.tokens.where(hidden, -100), rows=rows)

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Run the backbone on what is left; the accuracy is counted on held-out text."""
        hidden = backbone(batch.inputs, batch.rows.pieces, batch.rows.cu_seqlens)
        return self.score(hidden, self._head(backbone), batch)

    def score(self, hidden: Tensor, head: Tensor, batch: Batch) -> Loss:
        """Return the loss of `batch.targets` from [B, T, C] and a head [V_padded, C]."""
        total, units, right = restored(
            hidden,
            head,
            batch.targets,
            self.vocab_size,
            self.logit_cap,
            count=not self.training,
        )
        counted = batch.targets >= 0
        count = counted.sum()
        metrics = {} if right is None else {"accuracy": torch.stack([right, count])}
        return Loss(total=total, count=count, units=units, counted=counted, metrics=metrics)


OBJECTIVE = MaskedToken

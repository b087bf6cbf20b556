"""Fill in the middle: some documents tell their beginning and end first, and then the middle.

Bavarian et al. 2022: a document is cut at two uniform points and, with chance `fim_rate`, becomes
PSM `<pre> prefix <suf> suffix <mid> middle <eos>` or, with chance `spm_rate` of those, SPM
`<pre><suf> suffix <mid> prefix middle <eos>`, which is PSM whose prefix was moved to the middle.
The loss is the next token's, on all of it. What is cut is a document as its row has it, so that
nothing of it meets another document; what is not cut keeps its usual targets. Held-out text is
never cut, and its loss compares with `next_token`'s.

A row keeps its length: the three sentinels, and an end where the piece goes on in another row, take
the place of its last tokens of text, which are told as `dropped`. The end closes the middle, so it
is learnt where to stop.

Cuts fall between tokens. Of bytes these are the cuts of the paper's character level (a letter of
several bytes may be cut too). A BPE model meets only cuts that its own tokenizer makes, and would
be surprised by a prompt that ends inside one of its tokens: end prompts at the end of a word.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from train import keyed
from train.masks import bounds, special
from train.objectives.base import Batch, Loss, Rows
from train.objectives.next_token import NextToken

__all__ = ["OBJECTIVE", "FillInTheMiddle"]


class FillInTheMiddle(NextToken):
    """Predict the next token of documents whose middle may stand at the end.

    Args:
        spec: a `train.model.ModelSpec`; its tokenizer has the three `fim_` tokens.

    Raises:
        InputError: it has not.
    """

    knobs: ClassVar[dict[str, Any]] = {"fim_rate": 0.5, "spm_rate": 0.5}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.bos, self.eos, self.prefix, self.middle, self.suffix = (
            special(spec.specials, name, spec.objective)
            for name in ("bos", "eos", "fim_prefix", "fim_middle", "fim_suffix")
        )

    def manufacture(self, rows: Rows) -> Batch:
        """Move middles while training; see `moved`."""
        if not self.training:
            return super().manufacture(rows)
        return self.moved(rows, self.knob["fim_rate"], self.knob["spm_rate"])

    def moved(self, rows: Rows, rate: float, spm_rate: float) -> Batch:
        """Move the middles of a share of the pieces.

        Returns:
            The batch; in `more`, [B, T] bool: `middle`, whose targets are a moved middle's tokens,
            and `dropped` (float), tokens of text that had no room, told at the piece's first place.
        """
        begin, end = bounds(rows)
        at = torch.arange(begin.size(1), device=begin.device).expand_as(begin)
        draws = keyed.uniform(rows.keys, "fim", begin.size(1), 4)
        is_moved, is_spm, one, two = draws.gather(1, begin[..., None].expand_as(draws)).unbind(-1)
        first = begin + (rows.tokens.gather(1, begin) == self.bos)  # place of the first of the text
        size = end - first - 4  # of the text that has room
        told = (rows.documents >= 0) & (rows.targets.gather(1, begin) >= 0)
        chosen = (is_moved < rate) & (size > 0) & told
        size = size.clamp(min=0)
        one, two = ((draw * (size + 1)).long() for draw in (one, two))
        low, high = torch.minimum(one, two), torch.maximum(one, two)
        source, sentinel = self._layout(at - first, size, low, high, is_spm < spm_rate)
        source = torch.where(at < first, at, first + source)
        inputs = rows.tokens.gather(1, source.clamp(0, begin.size(1) - 1))
        inputs = torch.where(sentinel < 0, inputs, sentinel).where(at >= first, rows.tokens)
        inputs = inputs.where(chosen, rows.tokens)
        following = torch.cat([inputs[:, 1:], inputs[:, :1]], dim=1).where(at + 1 < end, -100)
        targets = following.where(chosen, rows.targets)
        # Its last tokens, and the end behind them, are the targets; an SPM's first is the prefix.
        middle = chosen & (at - first >= size - (high - low) + 2) & (at + 1 < end)
        text_end = end - (rows.tokens.gather(1, end - 1) == self.eos).long()
        dropped = (text_end - first - size) * (chosen & (at == begin))
        more = {"middle": middle, "dropped": dropped.float()}
        return Batch(inputs=inputs, targets=targets, rows=rows, more=more)

    def _layout(
        self, place: Tensor, size: Tensor, low: Tensor, high: Tensor, spm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what stands at each place: of the text which token, or which sentinel, else -1.

        Args:
            place: counted from the first sentinel.
            size: tokens of the text.
            low, high: where it is cut.
            spm: whether the suffix comes first.
        """
        shown = low.masked_fill(spm, 0)  # tokens of the prefix that stand before the suffix
        source = place - 1
        source = torch.where(place > shown + 1, high + place - shown - 2, source)
        turn = shown + 2 + size - high
        source = torch.where(place > turn, shown + place - turn - 1, source)
        sentinel = torch.full_like(place, -1)
        marks = [(0 * size, self.prefix), (shown + 1, self.suffix), (turn, self.middle)]
        for where, mark in [*marks, (size + 3, self.eos)]:
            sentinel = sentinel.masked_fill(place == where, mark)
        return source, sentinel

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Run the backbone; tell what the middles cost, and the share of text that was dropped."""
        loss = super().forward(backbone, batch)
        counted = batch.targets >= 0
        metrics = {}
        if batch.more:
            middle = batch.more["middle"]
            metrics["middle"] = torch.stack([(loss.units * middle).sum(), middle.sum()])
            metrics["dropped"] = torch.stack([batch.more["dropped"].sum(), loss.count])
        return Loss(
            total=loss.total,
            count=loss.count,
            units=loss.units,
            counted=counted,
            metrics=metrics,
        )


OBJECTIVE = FillInTheMiddle

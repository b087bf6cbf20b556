"""Replaced tokens: a small generator fills holes, and the backbone tells which tokens it made.

ELECTRA (Clark et al. 2020): `mask_rate` of the tokens are hidden; the generator, a Transformer of a
quarter of the width, restores them (its loss is that of masked tokens) and what it DRAWS stands in
the text that the backbone, the discriminator, sees. That one tells of every token of text whether
it was replaced; a draw that happens to be right counts as original. No gradient passes the draw.
Both share the embedding, which the generator narrows; a generator's head is its own.

The loss is L_masked + 50 L_replaced, each a mean over its tokens. In sums over the tokens of text:
50 x the discriminator's, and the generator's divided by the rate, since so few have it.

A draw inverts the cumulated distribution at one number keyed by its row and place; a Gumbel draw
would need one for every id of the vocabulary.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import keyed
from train.masks import restored
from train.models.linear import Linear
from train.models.transformer import Transformer
from train.objectives.base import Batch, Loss, Rows
from train.objectives.masked_token import MaskedToken
from train.objectives.next_token import slice_tokens

__all__ = ["OBJECTIVE", "ReplacedToken"]

#: Of the discriminator's loss (Clark et al. 2020, appendix A).
WEIGHT = 50.0
#: The generator is so much narrower.
NARROWER = 4


class ReplacedToken(MaskedToken):
    """Tell the tokens that a generator replaced.

    Args:
        spec: a `train.model.ModelSpec`.
    """

    knobs: ClassVar[dict[str, Any]] = {"mask_rate": 0.15}
    masked: ClassVar[float] = 1.0
    kept: ClassVar[float] = 0.0

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        heads = max(1, spec.heads // NARROWER)
        width = max(1, spec.width // NARROWER // (2 * heads)) * 2 * heads
        derived = {"kv_heads": 0, "head_width": 0, "mlp_width": 0}
        self.narrow_spec = replace(spec, width=width, heads=heads, **derived)
        self.narrow = Linear(spec.width, width)
        self.head = nn.Parameter(torch.zeros(spec.padded_size, width))
        self.verdict = nn.Parameter(torch.zeros(spec.width))
        self.lean = nn.Parameter(torch.zeros(1))
        self.found: Tensor | None = None

    def attach(self, backbone: Any) -> None:
        """Make the generator, of the backbone's type and form of attention."""
        self.generator = Transformer(self.narrow_spec, backbone.dtype, backbone.form)
        del self.generator.embedding  # the backbone's, narrowed

    def manufacture(self, rows: Rows) -> Batch:
        """Hide tokens from the generator, and give each place the number that its draw is at."""
        batch = super().manufacture(rows)
        more = {
            "asked": self.open(rows),
            "at": keyed.uniform(rows.keys, "draw", rows.tokens.size(1)),
        }
        return replace(batch, more=more)

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Generate, tell what was replaced, and measure both."""
        asked = batch.more["asked"]
        total, units, seen, right = self.generate(backbone, batch)
        replaced = (seen != batch.rows.tokens).float()
        logits = self.suspect(backbone, seen, batch.rows)
        losses = (F.softplus(logits) - replaced * logits) * asked
        count = asked.sum()
        hit = ((logits > 0) == (replaced > 0)) & asked
        told = {"told": hit.sum(), "replaced": replaced.sum()}
        metrics = {name: torch.stack([value.float(), count]) for name, value in told.items()}
        if right is not None:
            metrics["accuracy"] = torch.stack([right, (batch.targets >= 0).sum()])
        self.found = self._contrast(logits, replaced * asked, asked)
        return Loss(
            total=WEIGHT * losses.sum(dtype=torch.float64) + total / self.rate,
            count=count,
            units=WEIGHT * losses.detach() + units / self.rate,
            counted=asked,
            metrics=metrics,
        )

    def generate(self, backbone: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the generator's loss as `restored` does, and between, the text with its draws."""
        rows = batch.rows
        narrow = self.narrow(backbone.embedding(batch.inputs).to(backbone.dtype))
        hidden = self.generator(narrow, rows.pieces, rows.cu_seqlens, causal=False)
        total, units, right = restored(
            hidden,
            self.head,
            batch.targets,
            self.vocab_size,
            self.logit_cap,
            count=not self.training,
        )
        return total, units, self._drawn(hidden.detach(), batch), right

    @torch.no_grad()
    def _drawn(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return [B, T] the tokens, a draw of the generator in each hidden place."""
        on_cpu = hidden.device.type == "cpu"
        wanted = (batch.targets >= 0).flatten()
        places = wanted.nonzero()[:, 0] if on_cpu else torch.arange(len(wanted)).to(hidden.device)
        size = slice_tokens(len(self.head), on_cpu=on_cpu)
        drawn = batch.rows.tokens.flatten().clone()
        head = self.head[: self.vocab_size].to(hidden.dtype).T
        for some in places.split(size):
            logits = (hidden.flatten(0, 1)[some] @ head).float()
            if self.logit_cap:
                logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
            sums = logits.masked_fill(~self.ordinary, -math.inf).softmax(-1).cumsum(-1)
            at = batch.more["at"].flatten()[some, None] * sums[:, -1:]
            ids = (sums <= at).sum(-1).clamp(max=self.vocab_size - 1)
            drawn[some] = torch.where(wanted[some], ids, drawn[some])
        return drawn.view_as(batch.targets)

    def suspect(self, backbone: Any, seen: Tensor, rows: Rows) -> Tensor:
        """Return [B, T] float32: the log-odds of each token of `seen` that it was replaced."""
        hidden = backbone(seen, rows.pieces, rows.cu_seqlens, causal=False)
        return (hidden @ self.verdict.to(hidden.dtype)).float() + self.lean

    @staticmethod
    def _contrast(logits: Tensor, replaced: Tensor, asked: Tensor) -> Tensor:
        """Return how much surer it is of replaced tokens than of others, as probabilities."""
        sure, others = logits.detach().sigmoid(), asked.float() - replaced
        of_replaced = (sure * replaced).sum() / replaced.sum().clamp(min=1)
        return of_replaced - (sure * others).sum() / others.sum().clamp(min=1)

    def health(self) -> Mapping[str, float]:
        """Return `contrast`: 0 where the discriminator tells replaced tokens from none."""
        return {} if self.found is None else {"contrast": float(self.found)}

    def chance(self) -> float:
        """Return ln V + 50 ln 2: every id equally likely, and every token as likely replaced."""
        return math.log(self.vocab_size) + WEIGHT * math.log(2)


OBJECTIVE = ReplacedToken

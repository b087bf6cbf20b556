"""Contrast of sentences (SimCSE, Gao et al. 2021): a passage is nearest to its own other view.

For unit vectors a_i, b_i of the two views of row i among N rows, the loss of row i is
-log(exp(a_i . b_i / t) / sum_j exp(a_i . b_j / t)), in nats; chance is ln N. A view is the mean of
the backbone's output over its tokens. `variant` says what the views are:

- unsupervised: the same text, under other dropout masks; without dropout they are the same, and
  nothing is learnt but to spread.
- adjacent: what is before a sentence's end near the middle, and what is behind it.
- pairs: the first line and the lines behind it, such as a title and a text, a question and its
  answer; it needs ids that tell where a line ends, those of bytes.

A row's example is its first document, so `layout: document` wastes nothing. Start from a model that
knows the language (`init_from`): contrast alone teaches little of it.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train import keyed
from train.masks import RESERVED, ordinary, special
from train.objectives.base import Batch, Loss, Objective, Rows
from train.passages import are_bytes, sentence_ends
from train.views import effective_rank, spread

__all__ = ["OBJECTIVE", "SentenceContrast", "contrast"]

VARIANTS = ("adjacent", "pairs", "unsupervised")


def contrast(a: Tensor, b: Tensor, present: Tensor, scale: Any) -> tuple[Tensor, Tensor]:
    """Return the loss of each row in nats, and whether its own b is the nearest: both [N].

    Args:
        a, b: [N, D] unit vectors.
        present: [N] bool; what is False is nobody's example, and its losses are 0.
        scale: by which cosines are multiplied.
    """
    logits = (scale * a @ b.T).masked_fill(~present, torch.finfo(a.dtype).min)
    rows = torch.arange(len(a), device=a.device)
    losses = F.cross_entropy(logits, rows, reduction="none")
    return losses.where(present, 0.0), (logits.argmax(1) == rows) & present


class SentenceContrast(Objective):
    """Find a passage's other view among those of the step.

    Args:
        spec: a `train.model.ModelSpec`; its tokenizer has a token `pad`.

    Raises:
        InputError: no such variant, or pairs of ids that do not tell lines.
    """

    text: Tensor
    needs: ClassVar[pa.Schema] = pa.schema([("tokens", pa.large_list(pa.uint16()))])
    batch_coupled: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Any]] = {
        "variant": "unsupervised",
        "temperature": 0.05,
        "dropout": 0.1,
    }
    least_rows: ClassVar[int] = 2
    floors: ClassVar[Mapping[str, float]] = {"feature_std": 0.02, "effective_rank": 1.5}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.variant, self.pad = self.knob["variant"], special(spec.specials, "pad", spec.objective)
        if self.variant not in VARIANTS:
            raise InputError(one_of("train.variant", self.variant, VARIANTS))
        self.of_bytes = are_bytes(spec.specials, spec.vocab_size)
        if self.variant == "pairs" and not self.of_bytes:
            raise InputError(
                "train.variant pairs parts a text at its first line's end, and only the ids of "
                "bytes tell where that is; set tokenize.tokenizer to bytes, or take adjacent"
            )
        if self.knob["dropout"] >= 1:
            raise InputError(f"train.dropout is {self.knob['dropout']}; give less than 1")
        self.register_buffer("text", ordinary(spec.specials, spec.vocab_size), persistent=False)
        self._rows, self._seen = 0, torch.zeros(0, 2, spec.width)

    def manufacture(self, rows: Rows) -> Batch:
        """Return inputs [B, 2, T], `pad` outside of a view; `inside` [B, 2, T] bool is beside."""
        mine = rows.pieces == rows.pieces[:, :1]
        mine = mine & self.text[rows.tokens] & (rows.documents >= 0) & (rows.targets >= 0)
        first, second = mine, mine
        if self.variant != "unsupervised":
            cut = self.cuts(rows, mine)
            at = torch.arange(mine.size(1), device=cut.device)
            first, second = mine & (at <= cut), mine & (at > cut)
        inside = torch.stack([first, second], 1)
        inputs = rows.tokens[:, None].where(inside, self.pad)
        return Batch(inputs=inputs, targets=rows.targets, rows=rows, more={"inside": inside})

    def cuts(self, rows: Rows, mine: Tensor) -> Tensor:
        """Return [B, 1]: the last place of the first view, by `variant`."""
        at = torch.arange(mine.size(1), device=mine.device).expand_as(mine)
        if self.variant == "pairs":
            lines = mine & (rows.tokens == RESERVED + ord("\n"))
            return at.where(lines, mine.size(1)).amin(1, keepdim=True)
        share = 0.3 + 0.4 * keyed.uniform(rows.keys, "cut at", 1)
        wanted = (share * mine.sum(1, keepdim=True)).long()
        ends = mine & sentence_ends(rows, mine, of_bytes=self.of_bytes)
        far = (at - wanted).abs() + torch.where(ends, 0, mine.size(1))
        return far.where(mine, 3 * mine.size(1)).argmin(1, keepdim=True)

    def embed(self, backbone: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2, width] float32, zeros where a row lacks one of the views."""
        views, inside = [], batch.more["inside"]
        for i, name in enumerate(("first", "second")):
            noise = keyed.dropout(batch.rows.keys, name, self.knob["dropout"])
            hidden = backbone(batch.inputs[:, i], inside[:, i].long(), noise=noise).float()
            shares = inside[:, i] / inside[:, i].sum(1, keepdim=True).clamp(min=1)
            views.append(torch.einsum("btc,bt->bc", hidden, shares))
        whole = inside.any(2).all(1)
        return torch.stack(views, 1) * whole[:, None, None]

    def couple(self, features: Tensor) -> Loss:
        """Contrast the rows of a step; one target a row."""
        present = (features.detach() != 0).any(2).all(1)
        a, b = F.normalize(features.float(), dim=-1).unbind(1)
        losses, right = contrast(a, b, present, 1 / self.knob["temperature"])
        if self.training:
            self._rows, self._seen = len(a), torch.stack([a, b], 1).detach()
        count = present.sum()
        return Loss(
            total=losses.sum(),
            count=count,
            units=losses.detach()[:, None],
            counted=present[:, None].float(),
            metrics={"accuracy": torch.stack([right.sum(), count])},
        )

    def health(self) -> Mapping[str, float]:
        """Return how near views are and how evenly rows spread (Wang and Isola 2020), and ranks.

        alignment: mean |a - b|^2; uniformity: ln of the mean of exp(-2 |a_i - a_j|^2) over i != j.
        """
        seen = self._seen[(self._seen != 0).any(2).all(1)]
        if len(seen) < 2:
            return {}
        a, b = seen.unbind(1)
        return {
            "alignment": float((a - b).square().sum(1).mean()),
            "uniformity": float(F.pdist(a).square().mul(-2).exp().mean().log()),
            "feature_std": spread(a),
            "effective_rank": effective_rank(a),
        }

    def chance(self) -> float | None:
        """Return ln N, N being the rows of the last step; None before the first."""
        return math.log(self._rows) if self._rows else None


OBJECTIVE = SentenceContrast

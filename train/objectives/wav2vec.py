"""wav2vec 2.0: which of K + 1 quantised frames is the one that was hidden.

Baevski, Zhou, Mohamed and Auli 2020: convolutions turn a waveform into features, one per hop; spans
of them are replaced by a learned vector before the transformer; and at every hidden frame the
transformer's output is to be nearer, in cosine / `temperature`, to the frame's own quantised
feature than to those of K other hidden frames of the utterance. The quantiser picks one of `codes`
entries in each of two groups by a Gumbel softmax (Jang et al. 2017), straight through, colder from
2 to 0.5 over the run. Added per hidden frame: 0.1 x (1 - perplexity / entries), entries used alike
over the whole step, and 10 x the features' mean square. A negative that was quantised to the right
answer is left out; were all of them so, the loss would be 0, so `health` tells the perplexity of
the entries that are taken, and `luck` what guessing would have as accuracy.

The share of entries used is the batch's, not a row's: the task is batch-coupled, and each row's
features are its sums. At 8 kHz a hop of 80 is 10 ms; every layer is masked behind the sound's end.
"""

from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import keyed
from train.models.frames import Convolutions, deviation, inside, trimmed
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows
from train.objectives.contrastive_predictive import info_nce, others
from train.objectives.masked_frames import spans

__all__ = ["OBJECTIVE", "Wav2Vec"]

GROUPS = 2
DIVERSITY, PENALTY = 0.1, 10.0
WARMEST, COLDEST = 2.0, 0.5
#: What a row's features hold before its sums of probabilities.
SUMS = ("loss", "count", "penalty", "hits", "luck", "asked")


class Wav2Vec(Objective):
    """Find hidden frames among others of their utterance; a target is a hidden frame.

    Args:
        spec: a `train.model.ModelSpec` of sounds; its stem is not used.
    """

    tau: Tensor
    needs: ClassVar[pa.Schema] = pa.schema([("samples", pa.large_list(pa.int16()))])
    batch_coupled: ClassVar[bool] = True
    knobs: ClassVar[dict[str, Any]] = {
        "mask_rate": 0.65,
        "mask_span": 10,
        "negatives": 20,
        "temperature": 0.1,
        "codes": 32,
        "projection": 64,
    }
    floors: ClassVar[dict[str, float]] = {"perplexity": 2.0, "deviation": 0.02}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.hop = (spec.media.get("of") or spec.media)["hop"]
        self.entries, self.wide = GROUPS * self.knob["codes"], self.knob["projection"]
        self.features = Convolutions(self.hop, spec.width)
        self.inputs = Linear(spec.width, spec.width)
        self.bias = nn.Parameter(torch.randn(spec.width))  # see `Frames.bias`
        self.hidden = nn.Parameter(torch.randn(spec.width))
        self.choose = Linear(spec.width, self.entries)
        self.book = nn.Parameter(torch.randn(GROUPS, self.knob["codes"], self.wide // GROUPS))
        self.answer = Linear(self.wide, self.wide)
        self.guess = Linear(spec.width, self.wide)
        self.register_buffer("tau", torch.tensor(WARMEST))
        self.told: dict[str, Tensor] = {}

    def manufacture(self, rows: Rows) -> Batch:
        """Choose the hidden frames, their negatives and the quantiser's noise."""
        samples = trimmed(rows, self.hop)
        there = inside(samples, rows.lengths, self.hop)
        hidden = spans(rows.keys, there, self.knob["mask_rate"], self.knob["mask_span"])
        count, num_frames = hidden.sum(1), hidden.size(1)
        # Numbers among the hidden frames, the own one left out, then the frames that bear them.
        drawn = others(rows.keys, "negative", count, num_frames, self.knob["negatives"])
        own = hidden.cumsum(1)[:, :, None] - 1
        order = (~hidden).long().argsort(dim=1, stable=True)
        drawn = (drawn + (drawn >= own)).clamp(max=num_frames - 1)
        negatives = order[:, :, None].expand_as(drawn).gather(1, drawn)
        noise = keyed.uniform(rows.keys, "gumbel", num_frames, GROUPS, self.knob["codes"])
        more = {
            "hidden": hidden,
            "negatives": negatives,
            # In float32 the largest of 2^24 numbers would be rounded to 1, its noise without end.
            "noise": -(-(noise.double() + 2.0**-25).log()).log().float(),
            "counted": hidden & (count > 1)[:, None] & (rows.targets >= 0),
        }
        return Batch(inputs=samples, targets=rows.targets, rows=rows, more=more)

    def embed(self, backbone: Any, batch: Batch) -> Tensor:
        """Return [B, 1, 6 + 2 entries]: a row's sums over hidden frames, see `couple`."""
        more, counted = batch.more, batch.more["counted"]
        there = inside(batch.inputs, batch.rows.lengths, self.hop)
        features = self.features(batch.inputs, batch.rows.lengths)
        normed = F.layer_norm(features, features.shape[-1:])
        answers, shares = self._quantise(normed, more["noise"])
        seen = torch.where(more["hidden"][:, :, None], self.hidden, self.inputs(normed) + self.bias)
        context = backbone(seen, there.long())
        guesses = F.normalize(self.guess(context).float(), dim=-1)
        scores = guesses @ F.normalize(answers, dim=-1).mT / self.knob["temperature"]
        right, wrong = scores.diagonal(dim1=1, dim2=2), scores.gather(2, more["negatives"])
        picked = shares.detach().unflatten(-1, (GROUPS, -1)).argmax(-1)
        same = (picked[:, :, None] == picked[:, None]).all(-1)
        allowed = ~same.gather(2, more["negatives"])
        losses, best = info_nce(right, wrong, allowed)
        self.told["deviation"] = deviation(context, there)
        penalty = (features.float().square().mean(-1) * there).sum(1) / there.sum(1).clamp(min=1)
        # By chance one of those that are really there is found; with none, there is no question.
        asked = counted & allowed.any(-1)
        sums = [
            (losses * counted).sum(1),
            counted.sum(1),
            penalty * counted.sum(1),
            (best & asked).sum(1),
            (asked / (1 + allowed.sum(-1))).sum(1),
            asked.sum(1),
        ]
        taken = F.one_hot(picked, self.knob["codes"]).flatten(2)
        used = [(s * counted[:, :, None]).sum(1) for s in (shares, taken)]
        return torch.cat([torch.stack([s.float() for s in sums], 1), *used], 1)[:, None]

    def _quantise(self, normed: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return answers [B, F, projection] and probabilities [B, F, entries] of features."""
        logits = self.choose(normed).float().unflatten(-1, (GROUPS, -1))
        soft = ((logits + noise) / self.tau).softmax(-1) if self.training else logits.softmax(-1)
        hard = F.one_hot(soft.argmax(-1), soft.size(-1)).float()
        picked = hard + soft - soft.detach()
        entries = torch.einsum("btgv,gvd->btgd", picked, self.book).flatten(2)
        return self.answer(entries), logits.softmax(-1).flatten(2)

    def couple(self, features: Tensor) -> Loss:
        """Add the rows' `SUMS`, probabilities of entries, and how often each was taken."""
        widths = (len(SUMS), self.entries, self.entries)
        sums, shares, taken = features[:, 0].float().split(widths, 1)
        loss, count, penalty, hits, luck, asked = sums.unbind(1)
        whole = count.sum()
        unused = 1 - self._perplexity(shares) / self.knob["codes"]
        perplexity = self.told["perplexity"] = self._perplexity(taken).detach()
        extra = DIVERSITY * unused * whole + PENALTY * penalty.sum()
        metrics = {
            "contrastive": torch.stack([loss.sum(), whole]),
            "accuracy": torch.stack([hits.sum(), asked.sum()]),
            "luck": torch.stack([luck.sum(), asked.sum()]),
            "perplexity": torch.stack([perplexity * whole, whole]),
        }
        return Loss(
            total=loss.sum() + extra,
            count=whole.detach(),
            units=loss.detach()[:, None],
            counted=count.detach()[:, None],
            metrics={name: pair.detach() for name, pair in metrics.items()},
        )

    def _perplexity(self, used: Tensor) -> Tensor:
        """Return e^entropy of the use [N, entries] of the codes, mean over groups; 1 to codes."""
        share = used.sum(0).view(GROUPS, -1)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-6)
        return torch.exp(-(share * (share + 1e-7).log()).sum(-1)).mean()

    def encode(self, backbone: Any, rows: Rows, blocks: int | None = None) -> Tensor:
        """Return [B, D] float32, the mean over frames of nothing hidden; see `Objective`."""
        samples = trimmed(rows, self.hop)
        there = inside(samples, rows.lengths, self.hop)
        features = self.features(samples, rows.lengths)
        x = self.inputs(F.layer_norm(features, features.shape[-1:])) + self.bias
        context = backbone(x, there.long(), blocks=blocks).float()
        shares = there.float() / there.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("btc,bt->bc", context, shares)

    def after_step(self, backbone: nn.Module, step: int, steps: int) -> None:
        """Cool the quantiser: from 2 to 0.5, the same factor every step."""
        self.tau.fill_(WARMEST * (COLDEST / WARMEST) ** (step / steps))

    def health(self) -> dict[str, float]:
        """Return the perplexity of a group's entries and the features' standard deviation."""
        return {name: float(value) for name, value in self.told.items()}

    def chance(self) -> None:
        """Return None: penalties are added to what guessing costs, at most ln(1 + K) nats.

        The metrics tell apart what is learnt: `contrastive`, and `accuracy` against `luck`.
        """


OBJECTIVE = Wav2Vec

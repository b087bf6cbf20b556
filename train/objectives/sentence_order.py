"""Sentence order: were these passages of a document swapped, or does the second belong elsewhere?

`variant` is what is done to neighbouring passages, which the answer has to undo:

- sop: two, swapped half of the time (ALBERT, Lan et al. 2020). The topic cannot tell.
- nsp: the second one comes, half of the time, from another place of the row (BERT, Devlin et al.
  2019). Examples that stand half a row apart exchange theirs: with documents
  packed into rows often another document's, whose topic gives it away; with a document a row
  (`layout: document`) another place of the same one, which is harder.
- permutation: three in any of their six orders.

A passage is about `segment` tokens of whole sentences. Bytes tell where those end: at a line's end
or at the space behind a full stop. The ids of other tokenizers tell the trainer nothing, and cuts
are made at random, one in 16 tokens. Passages stay in their row, in the order of the examples; the
last token of each, a space or the document's end, becomes [SEP], or [CLS] in the first one, where
the answer is read: all of an example is seen from there, and best where two passages meet. So a row
keeps its length, and all that is left over is padding.
"""

import itertools
import math
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.corpus.errors import InputError, one_of
from train import keyed
from train.masks import bounds, ordinary, special
from train.models.linear import Linear
from train.objectives.base import Batch, Loss, Objective, Rows
from train.passages import are_bytes, sentence_ends

__all__ = ["OBJECTIVE", "SentenceOrder"]

#: variant -> passages of an example.
PARTS = {"sop": 2, "nsp": 2, "permutation": 3}


class SentenceOrder(Objective):
    """Tell what was done to the passages of each example; [CLS] meets a linear head.

    Args:
        spec: a `train.model.ModelSpec`; its tokenizer has the tokens `cls`, `sep` and `pad`.

    Raises:
        InputError: it has not, or there is no such variant.
    """

    text: Tensor
    orders: Tensor
    needs: ClassVar[pa.Schema] = pa.schema([("tokens", pa.large_list(pa.uint16()))])
    knobs: ClassVar[dict[str, Any]] = {"variant": "sop", "segment": 96}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.variant = self.knob["variant"]
        if self.variant not in PARTS:
            raise InputError(one_of("train.variant", self.variant, sorted(PARTS)))
        self.passages = PARTS[self.variant]
        names = ("cls", "sep", "pad")
        self.cls, self.sep, self.pad = (special(spec.specials, n, spec.objective) for n in names)
        text = ordinary(spec.specials, spec.vocab_size)
        self.of_bytes = are_bytes(spec.specials, spec.vocab_size)
        self.register_buffer("text", text, persistent=False)
        orders = torch.tensor(list(itertools.permutations(range(self.passages))))
        self.register_buffer("orders", orders, persistent=False)
        self.head = Linear(spec.width, len(orders), zero=True)

    def examples(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for each token, the example [B, T], its passage in it, and whether it has one.

        Only whole sentences are taken, so that a passage's ends do not tell where it was cut.
        """
        num_rows, length = rows.tokens.shape
        begin, stop = bounds(rows)
        at = torch.arange(length, device=begin.device).expand_as(begin)
        text = self.text[rows.tokens] & (rows.documents >= 0) & (rows.targets >= 0)
        ends = sentence_ends(rows, text, of_bytes=self.of_bytes)
        behind = F.pad(((at + 1) * ends)[:, :-1], (1, 0)).cummax(1).values
        start = torch.maximum(begin, behind)
        close = torch.where(ends, at, length).flip(1).cummin(1).values.flip(1)
        used = (close < stop) & (start > begin) & text.gather(1, start)

        shift = keyed.integers(rows.keys, "shift", self.knob["segment"], 1)
        cell = (start - begin + shift) // self.knob["segment"]
        same = used[:, :-1] & (begin[:, 1:] == begin[:, :-1]) & (cell[:, 1:] == cell[:, :-1])
        first = used & ~F.pad(same, (1, 0))
        before = first.cumsum(1) - first.long()  # passages of the row that began earlier
        number = before + first.long() - 1 - before.gather(1, begin)
        number = number + keyed.integers(rows.keys, "offset", self.passages, 1)
        example = torch.where(used, begin + number // self.passages, length)
        found = begin.new_zeros(num_rows, length + 1).scatter_add(1, example, first.long())
        return example, number % self.passages, used & (found.gather(1, example) == self.passages)

    def manufacture(self, rows: Rows) -> Batch:
        """Put passages in another order; targets [B, T] are classes, at [CLS]."""
        length = rows.tokens.size(1)
        example, part, used = self.examples(rows)
        example = example.clamp(max=length - 1)
        if self.variant == "nsp":
            present = torch.zeros_like(used).scatter(1, example.where(used, 0), True)
            present[:, 0] = (used & (example == 0)).any(1)
            partner = _partners(present, keyed.uniform(rows.keys, "order", length) < 0.5)
            label = (partner != torch.arange(length, device=partner.device)).long()
            to_example = torch.where(part == 1, partner.gather(1, example), example)
            to_part = part
        else:
            label = keyed.integers(rows.keys, "order", len(self.orders), length)
            to_example, to_part = example, self.orders[label.gather(1, example), part]
        place = torch.where(used, to_example * self.passages + to_part, length * self.passages)
        place, order = place.sort(dim=1, stable=True)
        closes = F.pad(place[:, 1:] != place[:, :-1], (0, 1), value=True)
        there = place < length * self.passages
        asks = closes & there & (place % self.passages == 0)
        pieces = place // self.passages
        inputs = torch.where(closes, self.sep, rows.tokens.gather(1, order))
        inputs = torch.where(asks, self.cls, inputs).where(there, self.pad)
        answers = label.gather(1, pieces.clamp(max=length - 1)).where(asks, -100)
        return Batch(
            inputs=inputs, targets=answers, rows=rows, more={"pieces": pieces, "order": order}
        )

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Read the answers; a loss is told where the [CLS] was taken from."""
        logits = self.head(backbone(batch.inputs, batch.more["pieces"])).float()
        losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        losses = losses.view_as(batch.targets)
        asked = batch.targets >= 0
        right = ((logits.argmax(-1) == batch.targets) & asked).sum()
        order = batch.more["order"]
        return Loss(
            total=losses.double().sum(),
            count=asked.sum(),
            units=torch.zeros_like(losses).scatter(1, order, losses.detach()),
            counted=torch.zeros_like(losses).scatter(1, order, asked.float()),
            metrics={"accuracy": torch.stack([right, asked.sum()])},
        )

    def chance(self) -> float:
        """Return ln 2, or ln 6 of three passages: every order equally likely."""
        return math.log(len(self.orders))


def _partners(present: Tensor, swapped: Tensor) -> Tensor:
    """Return [B, E]: with whom each of a row's present examples exchanges, most with themselves.

    The first half is paired with the second, so that a pair stands half a row apart; `swapped`
    [B, E] says at the first of a pair whether they do. One of an odd number is left alone.

    >>> present = torch.tensor([[True, False, True, True, True]])
    >>> _partners(present, torch.tensor([[True, True, False, True, True]])).tolist()
    [[3, 1, 2, 0, 4]]
    """
    places = torch.arange(present.size(1), device=present.device).expand_as(present)
    listed = (~present).long().argsort(dim=1, stable=True)  # the present ones, then the others
    rank, half = present.cumsum(1) - 1, present.sum(1, keepdim=True) // 2
    paired = present & (rank < 2 * half)
    first = listed.gather(1, (rank % half.clamp(min=1)).clamp(min=0))
    other = listed.gather(1, ((rank + half) % (2 * half).clamp(min=1)).clamp(min=0))
    return torch.where(paired & swapped.gather(1, first), other, places)


OBJECTIVE = SentenceOrder

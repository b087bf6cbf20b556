r"""Fields of events: of a session in a log or of rows in a table, the next field or hidden ones.

A document is a session: the events of one client, in order; a token is the value of a field, such
as a path or a status. The reader of logs makes the documents and a `tokenizer.json` of whole values
the tokens, so a recipe is enough:

    sources: [{name: web, paths: [access.log.gz], options: {group: session, session: host}}]
    tokenize: {tokenizer: {path: fields.json}}

A `WordLevel` tokenizer whose pre-tokenizer is a `Split` on an expression (`invert: true, behavior:
removed`) keeps of a line what the expression finds; tests/bench/objectives/text.py makes one. Any
other tokenizer works too; a field has several tokens then.

The variant `next` predicts each field from the events before and the fields before it in its own
event; `masked` hides `mask_rate` of the fields, and restores them from all events of the session
(fields as tokens, both forms: TabFormer, Padhi et al. 2021).
"""

from typing import Any, ClassVar

from torch import nn

from curate.corpus.errors import InputError, one_of
from train.objectives.base import Batch, Loss, Rows
from train.objectives.masked_token import MaskedToken

__all__ = ["OBJECTIVE", "EventFields"]

VARIANTS = ("next", "masked")


class EventFields(MaskedToken):
    """Predict the next field of a session, or hidden ones.

    Args:
        spec: a `train.model.ModelSpec`.

    Raises:
        InputError: no such variant.
    """

    knobs: ClassVar[dict[str, Any]] = {"variant": "next", "mask_rate": 0.15}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        if self.knob["variant"] not in VARIANTS:
            raise InputError(one_of("train.variant", self.knob["variant"], VARIANTS))
        self.looks_back = self.knob["variant"] == "next"

    def manufacture(self, rows: Rows) -> Batch:
        """Ask for the next fields, which rows carry, or hide some."""
        if self.looks_back:
            return Batch(inputs=rows.tokens, targets=rows.targets, rows=rows)
        return super().manufacture(rows)

    def forward(self, backbone: nn.Module, batch: Batch) -> Loss:
        """Run the backbone, which sees what came before, or all that is left."""
        pieces, cu_seqlens = batch.rows.pieces, batch.rows.cu_seqlens
        hidden = backbone(batch.inputs, pieces, cu_seqlens, causal=self.looks_back)
        return self.score(hidden, self._head(backbone), batch)


OBJECTIVE = EventFields

"""Where sentences of a row end, as far as its ids tell."""

import torch
import torch.nn.functional as F
from torch import Tensor

from train import keyed
from train.masks import HOUSE, RESERVED
from train.objectives.base import Rows

__all__ = ["are_bytes", "sentence_ends"]

#: Where ids tell nothing, one token in so many ends a sentence.
TOKENS_PER_SENTENCE = 16


def are_bytes(specials: dict[str, int], vocab_size: int) -> bool:
    """Return whether ids are those of the house's tokenizer of bytes: RESERVED + the byte."""
    house = all(specials.get(name) == i for i, name in enumerate(HOUSE))
    return house and vocab_size == RESERVED + 256


def sentence_ends(rows: Rows, text: Tensor, *, of_bytes: bool) -> Tensor:
    """Return [B, T] bool: the last token of each sentence; what is no text parts sentences.

    Bytes tell: a line's end, or the space behind a full stop, an exclamation or question mark. Of
    other ids nothing is known here, and one in `TOKENS_PER_SENTENCE` is drawn.

    Args:
        rows: of text.
        text: [B, T] bool, the tokens of text.
        of_bytes: see `are_bytes`.
    """
    if not of_bytes:
        draws = keyed.uniform(rows.keys, "cut", text.size(1))
        return ~text | (draws < 1 / TOKENS_PER_SENTENCE)
    letters = torch.where(text, rows.tokens - RESERVED, 0)
    stops = (letters == ord(".")) | (letters == ord("!")) | (letters == ord("?"))
    behind = F.pad(stops[:, :-1], (1, 0)) & (letters == ord(" "))
    return ~text | behind | (letters == ord("\n"))

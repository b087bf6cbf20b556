"""Masked spans of code: holes of several tokens, such as a whole name, filled from both sides.

A hidden span of text is mostly told by grammar; of code, by what the same name does elsewhere in
the file, which is what an encoder of code should look for (masked identifiers: CodeT5, Wang et al.
2021). Spans are SpanBERT's, of geometric length (Joshi et al. 2020), of mean 4 tokens, so that most
names fit into one. Every token of a span becomes [MASK]: where a name is to be found, nothing of it
is there, and nothing random either.

All is `masked_token`'s but these defaults; train it on a source of code with a BPE of its own.
"""

from typing import Any, ClassVar

from train.objectives.masked_token import MaskedToken

__all__ = ["OBJECTIVE", "MaskedSpan"]


class MaskedSpan(MaskedToken):
    """Restore hidden spans from both sides of their own file."""

    knobs: ClassVar[dict[str, Any]] = {"mask_rate": 0.2, "mask_span": 4}
    masked: ClassVar[float] = 1.0
    kept: ClassVar[float] = 0.0


OBJECTIVE = MaskedSpan

"""A backbone and its objective as one module, built from a `ModelSpec` and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from curate.corpus.errors import InputError, one_of
from train.config import TrainConfig
from train.media import units_of
from train.models.transformer import ARCHITECTURES, Transformer
from train.objectives import Rows, find

__all__ = ["Model", "ModelSpec", "padded_size"]


def padded_size(vocab_size: int, multiple: int = 128) -> int:
    """Round up: matrix units like multiples of 128.

    >>> padded_size(50257)
    50304
    """
    return -(-vocab_size // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that is needed to build the module that a file of weights fits.

    What is left out follows from the rest: `ModelSpec(**spec.to_mapping()) == spec`.

    Attributes:
        architecture: a key of `train.models.transformer.ARCHITECTURES`.
        vocab_size: ids of the tokenizer; embedding and head have `padded_size` rows.
        kv_heads: heads of keys and values, a divisor of `heads`.
        head_width: channels of a head, even.
        mlp_width: hidden channels of the MLP.
        logit_cap: logits are cap * tanh(logits / cap); 0: as they are.
        row_tokens: the longest row: tokens, or vectors of a stem.
        causal: a token sees what comes before it; else all of its row (an encoder).
        document_mask: a token sees its own document alone.
        specials: name -> id of the tokenizer's special tokens.
        media: what images or sounds are like, as `run.json` says it; empty for text.
        task: the pretext task's knobs that are not its defaults.

    >>> spec = ModelSpec(vocab_size=50257, depth=12, width=768, heads=6, row_tokens=1024)
    >>> spec.matmul_parameters(), spec.flops_per_token()
    (123568128, 854654976)
    """

    objective: str = "next_token"
    architecture: str = "nanochat"
    vocab_size: int
    depth: int
    width: int
    heads: int
    kv_heads: int = 0
    head_width: int = 0
    mlp_width: int = 0
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    tied: bool = False
    logit_cap: float | None = None
    row_tokens: int
    causal: bool = True
    document_mask: bool = False
    specials: Mapping[str, int] = field(default_factory=dict)
    media: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest and refuse what does not fit together."""
        if self.architecture not in ARCHITECTURES:
            raise InputError(one_of("architecture", self.architecture, sorted(ARCHITECTURES)))
        kind = ARCHITECTURES[self.architecture]
        wide = padded_size(8 * self.width // 3) if kind.gated else 4 * self.width
        derived = {
            "kv_heads": self.kv_heads or self.heads,
            "head_width": self.head_width or self.width // self.heads,
            "mlp_width": self.mlp_width or wide,
            "logit_cap": kind.logit_cap if self.logit_cap is None else self.logit_cap,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        if self.heads % self.kv_heads or self.head_width % 2:
            raise InputError(
                f"{self.heads} heads of {self.head_width} channels do not go with {self.kv_heads} "
                "kv_heads; kv_heads divides heads, and a head has an even number of channels"
            )

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        *,
        vocab_size: int,
        row_tokens: int,
        specials: Mapping[str, int] | None = None,
        media: Mapping[str, Any] | None = None,
    ) -> "ModelSpec":
        """Return the model that settings describe, for a tokenizer and a length of rows."""
        return cls(
            objective=config.objective,
            architecture=config.architecture,
            vocab_size=vocab_size,
            depth=config.depth,
            width=config.model_width,
            heads=config.model_heads,
            kv_heads=config.kv_heads or 0,
            mlp_width=config.mlp_width or 0,
            rope_base=config.rope_base,
            tied=config.tied,
            row_tokens=units_of(media or {}) or row_tokens,
            # Sounds differ in length: what is behind an end is a piece of its own.
            document_mask=_is_sound(media) if media else config.document_mask,
            causal=find(config.objective).causal,
            specials=dict(specials or {}),
            media=dict(media or {}),
            task=config.task(),
        )

    @property
    def rope(self) -> bool:
        """Whether positions are angles (RoPE); a stem of patches adds its own."""
        return (self.media.get("of") or self.media).get("kind") != "image"

    @property
    def padded_size(self) -> int:
        """Rows of the embedding and of the head."""
        return padded_size(self.vocab_size)

    def to_mapping(self) -> Mapping[str, Any]:
        """Return plain data."""
        return asdict(self)

    def matmul_parameters(self) -> int:
        """Return the weights of all matrix products: blocks and head, not the embedding."""
        gated = ARCHITECTURES[self.architecture].gated
        attention = 2 * (self.heads + self.kv_heads) * self.head_width
        block = self.width * (attention + (2 + gated) * self.mlp_width)
        return self.depth * block + self.width * self.padded_size

    def flops_per_token(self, row_tokens: int | None = None) -> int:
        """Return 6 N + 12 L d T, forward and backward (PaLM, appendix B); nothing is halved.

        N: `matmul_parameters`; d: channels of all heads; T: `row_tokens`.
        """
        attention = 12 * self.depth * self.heads * self.head_width
        return 6 * self.matmul_parameters() + attention * (row_tokens or self.row_tokens)


def _is_sound(media: Mapping[str, Any]) -> bool:
    return (media.get("of") or media)["kind"] == "audio"


class Model(nn.Module):
    """`backbone` and `objective`; calling it on rows gives a `Loss`.

    Args:
        spec: the sizes.
        dtype: type of the activations; weights are float32.
        attention: the form of attention, as `train.models.attention.choose` names it.
    """

    objective: Any

    def __init__(
        self, spec: ModelSpec, dtype: torch.dtype = torch.float32, *, attention: str = "fused"
    ) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Transformer(spec, dtype, attention)
        kind: Any = find(spec.objective)
        self.objective = kind(spec)
        self.objective.attach(self.backbone)
        self._compiled: Callable[[Rows, str], Any] | None = None
        self._by_block = False

    def forward(self, rows: Any, part: str = "loss") -> Any:
        """Manufacture, predict, measure: return the `Loss` of rows.

        Of a batch-coupled task `train.coupled` wants parts of that: "features" [B, views, D] of
        rows; "both", these and the loss beside; "couple", the `Loss` of features, given for rows.
        """
        if part == "couple":
            return self.objective.couple(rows)
        if self._by_block and not self.training:  # other shapes would compile every block anew
            with torch.compiler.set_stance("force_eager"):
                return self._measure(rows, part)
        step = self._compiled if self.training and self._compiled else self._measure
        return step(rows, part)

    def _measure(self, rows: Rows, part: str) -> Any:
        batch = self.objective.manufacture(rows)
        if part == "loss":
            return self.objective(self.backbone, batch)
        features = self.objective.embed(self.backbone, batch)
        if part == "features":
            return features
        return features, self.objective.beside(self.backbone, batch)

    def after_step(self, step: int, steps: int) -> None:
        """Advance what the objective keeps beside the weights: teachers, queues, schedules."""
        self.objective.after_step(self.backbone, step, steps)

    def compile_(self, *, by_block: bool = False) -> None:
        """Compile backbone and loss for the fixed shapes of training; evaluation stays as it is.

        Args:
            by_block: compile each block alone, as FSDP needs, whose weights come and go with it.
        """
        if not by_block:
            self._compiled = torch.compile(self._measure, dynamic=False)
            return
        self._by_block = True
        for block in self.backbone.blocks:
            block.compile(dynamic=False)

"""One transformer: token ids in, normed hidden states out; the objective owns the head.

Three architectures that differ in four choices, each of them one that `transformers` loads:
`nanochat` (RMSNorm without weights, ReLU^2 (So et al. 2021), normed queries and keys after RoPE),
`qwen3` (learned norms, SwiGLU (Shazeer 2020), queries and keys normed before RoPE), `llama` (the
same without those two norms). Output projections start at zero, so that every block starts as the
identity. Weights are kept in float32 and cast to the activations' type where they are used, so
that the same code runs in float32 and in bfloat16 without autocast.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.attention import FORMS, Scope, scope

__all__ = ["ARCHITECTURES", "LOGIT_CAP", "Linear", "Transformer"]

#: Logits are cap * tanh(logits / cap) (Gemma 2; 15 is modded-nanogpt's and nanochat's value).
LOGIT_CAP = 15.0


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What tells one architecture from another.

    Attributes:
        learned: norms have weights.
        gated: the MLP is SwiGLU, else ReLU^2.
        head_norm: where queries and keys are normed: `before` RoPE, `after` it, or not.
        turn: sign of RoPE's angle, a convention.
        embedding_norm: the embedding is normed before the first block.
        logit_cap: of the head, or 0.
    """

    learned: bool
    gated: bool
    head_norm: str | None
    turn: int
    embedding_norm: bool
    logit_cap: float


ARCHITECTURES = {
    "nanochat": Architecture(
        learned=False,
        gated=False,
        head_norm="after",
        turn=-1,
        embedding_norm=True,
        logit_cap=LOGIT_CAP,
    ),
    "qwen3": Architecture(
        learned=True,
        gated=True,
        head_norm="before",
        turn=1,
        embedding_norm=False,
        logit_cap=0.0,
    ),
    "llama": Architecture(
        learned=True, gated=True, head_norm=None, turn=1, embedding_norm=False, logit_cap=0.0
    ),
}


class Norm(nn.Module):
    """RMSNorm over the last axis (Zhang and Sennrich 2019), with weights if `learned`."""

    weight: Tensor | None

    def __init__(self, width: int, eps: float, *, learned: bool) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.register_parameter("weight", nn.Parameter(torch.ones(width)) if learned else None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, (self.width,), weight, self.eps)


class Linear(nn.Linear):
    """A matrix without bias that follows the type of its input.

    Args:
        num_in, num_out: columns and rows; several `num_out` are matrices one above another,
            `parts`, which an optimizer of matrices takes apart.
        zero: start at zero.
    """

    def __init__(self, num_in: int, *num_out: int, zero: bool = False) -> None:
        super().__init__(num_in, sum(num_out), bias=False)
        self.parts = num_out
        std = 0.0 if zero else num_in**-0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-3 * std, b=3 * std) if std else (
            nn.init.zeros_(self.weight)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., num_in] -> [..., num_out]."""
        return F.linear(x, self.weight.to(x.dtype))


def rotary(num_positions: int, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin tables [num_positions, head_width / 2] of RoPE (Su et al. 2021)."""
    rates = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * rates
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + half) of [B, T, H, D] by the angle of their position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Block(nn.Module):
    """Attention and an MLP, each on its normed input, each added to the stream."""

    def __init__(self, spec: Any, form: str) -> None:
        super().__init__()
        kind = ARCHITECTURES[spec.architecture]
        self.form, self.head_width, self.head_norm = form, spec.head_width, kind.head_norm
        self.heads, self.kv_heads, self.gated = spec.heads, spec.kv_heads, kind.gated
        inner = spec.heads * spec.head_width
        self.attention_norm = Norm(spec.width, spec.norm_eps, learned=kind.learned)
        self.qkv = Linear(spec.width, inner, *[spec.kv_heads * spec.head_width] * 2)
        if kind.head_norm:
            self.q_norm = Norm(spec.head_width, spec.norm_eps, learned=kind.learned)
            self.k_norm = Norm(spec.head_width, spec.norm_eps, learned=kind.learned)
        self.out = Linear(inner, spec.width, zero=True)
        self.mlp_norm = Norm(spec.width, spec.norm_eps, learned=kind.learned)
        self.up = Linear(spec.width, *[spec.mlp_width] * (1 + kind.gated))
        self.down = Linear(spec.mlp_width, spec.width, zero=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, where: Scope) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (-1, self.head_width))
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        if self.head_norm == "before":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.head_norm == "after":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=2) for t in (k, v))
        x = x + self.out(FORMS[self.form](q, k, v, where).flatten(2))
        h = self.up(self.mlp_norm(x))
        if self.gated:
            gate, h = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * h)
        return x + self.down(F.relu(h).square())


class Transformer(nn.Module):
    """Token ids [B, T] to hidden states [B, T, width] in the activations' type.

    Args:
        spec: the sizes, a `train.model.ModelSpec`.
        dtype: type of the activations (float32 or bfloat16).
        attention: the form of attention, one of `FORMS`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, spec: Any, dtype: torch.dtype, attention: str) -> None:
        super().__init__()
        kind = ARCHITECTURES[spec.architecture]
        self.width, self.dtype, self.form = spec.width, dtype, attention
        self.causal, self.document_mask = spec.causal, spec.document_mask
        self.embedding = nn.Embedding(spec.padded_size, spec.width)
        # A tied embedding is the head too: so its logits start within a few tenths.
        nn.init.normal_(self.embedding.weight, std=0.02 if spec.tied else 1.0)
        self.embedding_norm = Norm(spec.width, spec.norm_eps, learned=False)
        self.norms_embedding = kind.embedding_norm
        self.blocks = nn.ModuleList(Block(spec, attention) for _ in range(spec.depth))
        self.norm = Norm(spec.width, spec.norm_eps, learned=kind.learned)
        cos, sin = rotary(spec.row_tokens, spec.head_width, spec.rope_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", kind.turn * sin, persistent=False)

    def forward(
        self, tokens: Tensor, documents: Tensor | None = None, cu_seqlens: Tensor | None = None
    ) -> Tensor:
        """[B, T] int64, or vectors [B, T, width] of a stem -> [B, T, width].

        Args:
            tokens: ids, or what stands for them.
            documents: [B, T] integers, equal inside a piece of a document; looked at only with
                `document_mask`.
            cu_seqlens: [k + 1] int32, the same pieces as places in the flat batch, for `varlen`.
        """
        x = (tokens if tokens.is_floating_point() else self.embedding(tokens)).to(self.dtype)
        cos, sin = (t[: x.size(1), None].to(self.dtype) for t in (self.cos, self.sin))
        where = scope(
            x,
            causal=self.causal,
            form=self.form,
            pieces=documents if self.document_mask else None,
            cu_seqlens=cu_seqlens if self.document_mask else None,
        )
        if self.norms_embedding:
            x = self.embedding_norm(x)
        for block in self.blocks:
            x = block(x, cos, sin, where)
        normed: Tensor = self.norm(x)
        return normed

"""One transformer: token ids in, normed hidden states out; the objective owns the head.

Three architectures that differ in four choices, each of them one that `transformers` loads:
`nanochat` (RMSNorm without weights, ReLU^2 (So et al. 2021), normed queries and keys after RoPE),
`qwen3` (learned norms, SwiGLU (Shazeer 2020), queries and keys normed before RoPE), `llama` (the
same without those two norms). Output projections start at zero, so that every block starts as the
identity. Weights are kept in float32 and cast to the activations' type where they are used, so
that the same code runs in float32 and in bfloat16 without autocast.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.attention import FORMS, Scope, scope
from train.models.linear import Linear
from train.models.stems import stem_of

__all__ = ["ARCHITECTURES", "LOGIT_CAP", "Linear", "Noise", "Transformer"]

#: Places beyond a row's tokens, for what an objective puts before or between them.
MORE = 16
#: What is done to what a branch adds to the stream, such as dropout: [B, T, C] -> [B, T, C].
Noise = Callable[[Tensor], Tensor]
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
        self.turns = spec.rope
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

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, where: Scope, noise: Noise | None = None
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (-1, self.head_width))
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        if self.head_norm == "before":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.turns:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.head_norm == "after":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=2) for t in (k, v))
        mixed = self.out(FORMS[self.form](q, k, v, where).flatten(2))
        x = x + (mixed if noise is None else noise(mixed))
        h = self.up(self.mlp_norm(x))
        if self.gated:
            gate, h = h.chunk(2, dim=-1)
            h = self.down(F.silu(gate) * h)
        else:
            h = self.down(F.relu(h).square())
        return x + (h if noise is None else noise(h))


class Transformer(nn.Module):
    """Token ids [B, T] to hidden states [B, T, width] in the activations' type.

    For media, `stem` makes the vectors that take the place of the embedding's:
    `backbone(backbone.stem(rows.pixels))`.

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
        self.stem = stem_of(spec.media, spec.width)
        if self.stem is None:
            self.embedding = nn.Embedding(spec.padded_size, spec.width)
            # A tied embedding is the head too: so its logits start within a few tenths.
            nn.init.normal_(self.embedding.weight, std=0.02 if spec.tied else 1.0)
        self.embedding_norm = Norm(spec.width, spec.norm_eps, learned=False)
        self.norms_embedding = kind.embedding_norm
        self.blocks = nn.ModuleList(Block(spec, attention) for _ in range(spec.depth))
        self.norm = Norm(spec.width, spec.norm_eps, learned=kind.learned)
        cos, sin = rotary(spec.row_tokens + MORE, spec.head_width, spec.rope_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", kind.turn * sin, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        *,
        causal: bool | None = None,
        noise: Noise | None = None,
        blocks: int | None = None,
    ) -> Tensor:
        """[B, T] int64, or vectors [B, T, width] of a stem -> [B, T, width].

        Args:
            tokens: ids, or what stands for them.
            documents: [B, T] integers, equal inside a piece of a document; looked at only with
                `document_mask`.
            cu_seqlens: [k + 1] int32, the same pieces as places in the flat batch, for `varlen`.
            causal: whether later tokens are hidden; by default as the spec says.
            noise: applied to what each branch of a block adds, such as dropout.
            blocks: so many of the blocks; by default all.
        """
        x = (tokens if tokens.is_floating_point() else self.embedding(tokens)).to(self.dtype)
        cos, sin = (t[: x.size(1), None].to(self.dtype) for t in (self.cos, self.sin))
        where = scope(
            x,
            causal=self.causal if causal is None else causal,
            form=self.form,
            pieces=documents if self.document_mask else None,
            cu_seqlens=cu_seqlens if self.document_mask else None,
        )
        if self.norms_embedding:
            x = self.embedding_norm(x)
        for block in self.blocks if blocks is None else self.blocks[:blocks]:
            x = block(x, cos, sin, where, noise)
        normed: Tensor = self.norm(x)
        return normed

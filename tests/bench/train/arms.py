"""What is compared: nanoGPT's model and step re-stated, transformers' GPT-2, and ours.

Each arm takes the same rows, makes one update of them, and can be asked for the loss of rows. The
re-statement follows what nanoGPT (MIT, A. Karpathy) publishes: learned positions, LayerNorm and
matrices without bias, exact GELU, a tied head, normal(0.02) weights with the residual projections'
divided by sqrt(2 L), AdamW with decay 0.1 on matrices and embeddings, cosine to a tenth, clipping
at 1; float32 on a CPU, bfloat16 autocast and torch.compile on CUDA. No line of it is copied.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import loop
from train.config import TrainConfig
from train.model import Model, ModelSpec
from train.models.attention import choose
from train.objectives.base import Rows
from train.optim import make_optimizer, schedule, set_rate
from train.parallel import Ranks

__all__ = ["ARMS", "Arm", "Size"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size that all arms share; `rate` and `beta2` are what nanoGPT publishes for it."""

    vocab_size: int
    depth: int
    width: int
    heads: int
    row_tokens: int
    batch_rows: int
    micro_rows: int
    rate: float
    beta2: float

    @property
    def matmul_parameters(self) -> int:
        """Weights of all matrix products: blocks and head."""
        return self.width * (12 * self.depth * self.width + self.vocab_size)

    @property
    def flops_per_token(self) -> int:
        """6 N + 12 L d T."""
        return 6 * self.matmul_parameters + 12 * self.depth * self.width * self.row_tokens


class Arm:
    """A model with its optimizer and schedule; `parameters` counts its weights."""

    model: nn.Module

    def __init__(self, size: Size, device: torch.device, steps: int) -> None:
        self.size, self.device, self.steps = size, device, steps

    def update(self, step: int, batch: Sequence[Rows]) -> None:
        """Make update `step` of micro-batches on the device."""
        raise NotImplementedError

    def nats(self, rows: Rows) -> float:
        """Return the sum of losses over the targets of rows."""
        raise NotImplementedError


class _Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.out = nn.Linear(size.width, size.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        q, k, v = heads.unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, bias=False)
        self.attention = _Attention(size)
        self.norm2 = nn.LayerNorm(size.width, bias=False)
        self.up = nn.Linear(size.width, 4 * size.width, bias=False)
        self.out = nn.Linear(4 * size.width, size.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.out(F.gelu(self.up(self.norm2(x))))
        return out


class _Plain(nn.Module):
    """[B, T] ids and targets -> the mean loss, so that compiling the model compiles it too."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocab_size, size.width)
        self.places = nn.Embedding(size.row_tokens, size.width)
        self.blocks = nn.Sequential(*(_Block(size) for _ in range(size.depth)))
        self.norm = nn.LayerNorm(size.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = math.sqrt(2 * size.depth) if ".out." in name else 1.0
                nn.init.normal_(parameter, std=0.02 / deep)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.size(1)]
        logits = F.linear(self.norm(self.blocks(x)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Reference(Arm):
    """A plain model, AdamW, and a step as in nanoGPT's loop; `shape` is of the rates' descent."""

    shape, final = "cosine", 0.1

    def __init__(self, size: Size, device: torch.device, steps: int) -> None:
        super().__init__(size, device, steps)
        self.model = self.build().to(device)
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=size.rate,
            betas=(0.9, size.beta2),
            fused=device.type == "cuda" or None,
        )
        self.call: Callable[..., Any] = self.model
        if device.type == "cuda" and self.compiled:
            self.call = torch.compile(self.model)

    compiled = True

    def build(self) -> nn.Module:
        """Return the model."""
        return _Plain(self.size)

    def loss(self, call: Callable[..., Any], rows: Rows) -> Tensor:
        """Return the mean loss of rows in autocast's types; `call` is the model, or compiled."""
        with self.precision():
            made: Tensor = call(rows.tokens, rows.targets)
        return made

    def precision(self) -> AbstractContextManager[Any]:
        """Return autocast to bfloat16 on CUDA; a CPU stays in float32."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def update(self, step: int, batch: Sequence[Rows]) -> None:
        """Accumulate means over micro-batches, clip, step."""
        fraction = schedule(
            step, self.steps, warmup=0.05, cooldown=0.95, final=self.final, shape=self.shape
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.rate * fraction
        for rows in batch:
            torch.autograd.backward(self.loss(self.call, rows) / len(batch))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def nats(self, rows: Rows) -> float:
        """Return the sum of losses over the targets of rows."""
        # Not compiled: other shapes would be compiled anew, and slow the next updates down.
        return float(self.loss(self.model, rows) * (rows.targets >= 0).sum())


class HuggingFace(Reference):
    """transformers' GPT-2, no dropout, and the step of its Trainer, restated.

    Trainer's own class needs the package accelerate, which does for one process what is done
    here: bf16 autocast, clipping at 1, fused AdamW, a linear descent to 0.
    """

    shape, final, compiled = "wsd", 0.0, False

    def build(self) -> nn.Module:
        """Return `GPT2LMHeadModel` of the shared size."""
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=self.size.vocab_size,
            n_positions=self.size.row_tokens,
            n_embd=self.size.width,
            n_layer=self.size.depth,
            n_head=self.size.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        config.loss_type = "ForCausalLM"
        return GPT2LMHeadModel(config)

    def loss(self, call: Callable[..., Any], rows: Rows) -> Tensor:
        """Return the model's own loss, of the targets that all arms have."""
        with self.precision():
            loss: Tensor = call(
                input_ids=rows.tokens, labels=rows.targets, shift_labels=rows.targets
            ).loss
        return loss


class Ours(Arm):
    """This project's trainer: its model, its optimizer, its update, its defaults."""

    def __init__(
        self, size: Size, device: torch.device, steps: int, *, optimizer: str, mask: bool
    ) -> None:
        super().__init__(size, device, steps)
        # Head dimension 128 from width 256 on; nanoGPT's rates are not ours.
        self.config = TrainConfig(
            depth=size.depth, width=size.width, optimizer=optimizer, document_mask=mask
        )
        spec = ModelSpec.of(self.config, vocab_size=size.vocab_size, row_tokens=size.row_tokens)
        dtype = getattr(torch, loop._dtype(self.config, device))
        form, _ = choose(spec, device, dtype, size.micro_rows, self.config.attention)
        model = Model(spec, dtype=dtype, attention=form).to(device)
        if device.type == "cuda":
            model.compile_()
        self.model, self.own = model, model
        self.optimizer = make_optimizer(model, self.config, device)
        self.ranks = Ranks(device=device)

    def update(self, step: int, batch: Sequence[Rows]) -> None:
        """Call the loop's own update."""
        set_rate(self.optimizer, self.config, step, self.steps)
        loop._update(self.own, self.optimizer, list(batch), self.config.grad_clip, self.ranks)

    def nats(self, rows: Rows) -> float:
        """Return the sum of losses over the targets of rows."""
        self.own.eval()  # not compiled: other shapes would be compiled anew
        total = float(self.own(rows).total)
        self.own.train()
        return total


def _ours(optimizer: str, *, mask: bool) -> Callable[[Size, torch.device, int], Arm]:
    return lambda size, device, steps: Ours(size, device, steps, optimizer=optimizer, mask=mask)


ARMS: dict[str, Callable[[Size, torch.device, int], Arm]] = {
    "nanoGPT restated": Reference,
    "transformers GPT-2": HuggingFace,
    "ours AdamW": _ours("adamw", mask=False),
    "ours AdamW, mask": _ours("adamw", mask=True),
    "ours Muon": _ours("muon", mask=False),
    "ours Muon, mask": _ours("muon", mask=True),
}

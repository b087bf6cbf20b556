"""Attention in several forms: one plain, the others as fast as the machine can be.

Every form takes queries, keys and values [B, T, H, D] and a `Scope` that says who may see whom.
`dense` is written out and is what the others are checked against: `choose` times those that run on
a device, on the shapes of the run, and takes the fastest of those that agree with it forward and
backward. None of them draws random numbers.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.corpus.errors import InputError

__all__ = ["FORMS", "Scope", "choose", "scope"]

#: Queries that `blocks` takes at once: of 64, 128 and 256 the fastest on two Zen 4 cores.
BLOCK = 128
#: How far a form may be from `dense` in float32, as a part of its largest number.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
#: What a form may end with that does not run here; the last two: a torch whose kernel is called
#: otherwise.
FAILURES = (RuntimeError, NotImplementedError, ValueError, ImportError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Who may see whom in a batch of rows; made once per forward pass, shared by all blocks.

    Attributes:
        causal: later tokens are hidden.
        bias: [B or 1, 1, T, T] in the activations' type, 0 or -inf; None where `causal` or
            `cu_seqlens` says it all.
        cu_seqlens: [k + 1] int32, where pieces begin in the flat batch; the tail may repeat B x T.
    """

    causal: bool
    bias: Tensor | None = None
    cu_seqlens: Tensor | None = None


def scope(
    x: Tensor, *, causal: bool, form: str, pieces: Tensor | None, cu_seqlens: Tensor | None
) -> Scope:
    """Return the scope of rows for a form.

    Args:
        x: [B, T, ...] gives the length, type and device.
        causal: hide later tokens.
        form: one of `FORMS`.
        pieces: [B, T] integers; a token sees equal ones only. None: the whole row.
        cu_seqlens: the same, for `varlen`; without it, that form makes do with `pieces`.
    """
    if form == "varlen" and cu_seqlens is not None:
        return Scope(causal=causal, cu_seqlens=cu_seqlens)
    needed = pieces is not None or (causal and form in ("dense", "blocks"))
    if not needed:
        return Scope(causal=causal)
    length = x.size(1)
    hidden = torch.zeros(1, 1, length, length, dtype=torch.bool, device=x.device)
    if causal:
        hidden = torch.ones_like(hidden).triu(1)
    if pieces is not None:
        hidden = hidden | (pieces[:, None, :, None] != pieces[:, None, None, :])
    return Scope(causal=causal, bias=x.new_zeros(()).masked_fill(hidden, -math.inf))


def dense(q: Tensor, k: Tensor, v: Tensor, where: Scope) -> Tensor:
    """Written out: scores, softmax, mean of values."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    scores = (q * q.size(-1) ** -0.5) @ k.transpose(-1, -2)
    if where.bias is not None:
        scores = scores + where.bias
    return (scores.softmax(-1) @ v).transpose(1, 2)


class _Blocks(torch.autograd.Function):
    """Blocks of queries against the keys up to their last: a causal row costs half its square."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool
    ) -> Tensor:
        ctx.heads, ctx.causal = (q.size(0), q.size(2)), causal
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        ctx.scale = q.size(-1) ** -0.5
        y, shares = torch.empty_like(v), []
        for a, b, end in _Blocks.spans(q.size(1), causal):
            scores = torch.bmm(q[:, a:b], k[:, :end].transpose(1, 2)).unflatten(0, ctx.heads)
            if bias is None:
                scores.mul_(ctx.scale)
            else:  # in one pass over the scores
                torch.add(bias[:, :, a:b, :end], scores, alpha=ctx.scale, out=scores)
            shares.append(scores.softmax(-1).flatten(0, 1))
            y[:, a:b] = torch.bmm(shares[-1], v[:, :end])
        ctx.save_for_backward(q, k, v, *shares)
        return y.unflatten(0, ctx.heads).transpose(1, 2)

    @staticmethod
    def spans(length: int, causal: bool) -> list[tuple[int, int, int]]:
        """Return (first query, end of queries, end of keys) of each block."""
        firsts = range(0, length, BLOCK)
        return [
            (a, min(a + BLOCK, length), min(a + BLOCK, length) if causal else length)
            for a in firsts
        ]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *shares = ctx.saved_tensors
        grad = grad.transpose(1, 2).flatten(0, 1)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        spans = _Blocks.spans(q.size(1), ctx.causal)
        for share, (a, b, end) in zip(shares, spans, strict=True):
            dv[:, :end].baddbmm_(share.transpose(1, 2), grad[:, a:b])
            d_share = torch.bmm(grad[:, a:b], v[:, :end].transpose(1, 2))
            d_score = torch._softmax_backward_data(d_share, share, -1, share.dtype)
            dq[:, a:b] = torch.bmm(d_score, k[:, :end])
            dk[:, :end].baddbmm_(d_score.transpose(1, 2), q[:, a:b], alpha=ctx.scale)
        dq *= ctx.scale
        dq, dk, dv = (t.unflatten(0, ctx.heads).transpose(1, 2) for t in (dq, dk, dv))
        return dq, dk, dv, None, None


def blocks(q: Tensor, k: Tensor, v: Tensor, where: Scope) -> Tensor:
    """`dense` without the half that a causal row hides, and with a backward pass of its own."""
    y: Tensor = _Blocks.apply(q, k, v, where.bias, where.causal)
    return y


def fused(q: Tensor, k: Tensor, v: Tensor, where: Scope) -> Tensor:
    """Torch's own choice among its kernels."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if where.bias is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=where.causal).transpose(1, 2)
    if q.is_cuda:  # cuDNN's backward pass with a mask gives NaN at some lengths (pytorch #196678)
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=where.bias)
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=where.bias)
    return y.transpose(1, 2)


def _kernel(backend: SDPBackend) -> Callable[[Tensor, Tensor, Tensor, Scope], Tensor]:
    def attend(q: Tensor, k: Tensor, v: Tensor, where: Scope) -> Tensor:
        if where.bias is not None:
            raise ValueError("this kernel takes no mask; with document_mask use varlen or fused")
        with sdpa_kernel(backend):
            return fused(q, k, v, where)

    return attend


def varlen(q: Tensor, k: Tensor, v: Tensor, where: Scope) -> Tensor:
    """Flash attention over pieces of the flat batch: CUDA, half precision."""
    if where.cu_seqlens is None:
        return fused(q, k, v, where)
    from torch.nn.attention.varlen import varlen_attn  # brings the compiler: as slow as torch

    (batch, length), ends = q.shape[:2], where.cu_seqlens
    window = (-1, 0) if where.causal else (-1, -1)
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    y: Any = varlen_attn(q, k, v, ends, ends, length, length, window_size=window)
    return y.unflatten(0, (batch, length))


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Scope], Tensor]] = {
    "dense": dense,
    "blocks": blocks,
    "fused": fused,
    "flash": _kernel(SDPBackend.FLASH_ATTENTION),
    "cudnn": _kernel(SDPBackend.CUDNN_ATTENTION),
    "varlen": varlen,
}


def choose(
    spec: Any, device: torch.device, dtype: torch.dtype, batch_rows: int, forced: str = "auto"
) -> tuple[str, dict[str, Any]]:
    """Return the form of attention that is fastest here and right, and what was measured.

    Args:
        spec: a `train.model.ModelSpec`.
        device: where the model runs.
        dtype: of the activations.
        batch_rows: rows of one forward pass; some of them are timed.
        forced: a form to take instead of the fastest; it is checked too.

    Returns:
        Its name, and per form {"ms": forward and backward, "error": the largest difference from
        `dense` in float32 as a part of its largest number} or {"failed": why it does not run}.

    Raises:
        InputError: the forced form does not run here, or its numbers are wrong.
    """
    told: dict[str, Any] = {}
    for name in _candidates(spec, device) if forced == "auto" else [forced]:
        try:
            told[name] = _try(name, spec, device, dtype, batch_rows)
        except FAILURES as error:
            told[name] = {"failed": str(error).partition("\n")[0][:200]}
    right = {k: v["ms"] for k, v in told.items() if v.get("error", 1.0) <= TOLERANCE[dtype]}
    if not right:
        raise InputError(
            f"train.attention {forced!r} cannot be used here ({device}, {dtype}, document_mask "
            f"{spec.document_mask}): {told}; use 'auto', or 'dense'"
        )
    # The first named wins unless another is clearly faster, so that two starts choose alike.
    clearly = 0.7 if device.type == "cpu" else 0.9
    if torch.are_deterministic_algorithms_enabled():
        clearly = 0.0
    return next(k for k, ms in right.items() if clearly * ms <= min(right.values())), told


def _candidates(spec: Any, device: torch.device) -> list[str]:
    """Name the forms worth timing, the likeliest first."""
    if device.type == "cpu":
        return ["blocks", "fused", "dense"]
    if spec.document_mask:
        return ["varlen", "fused"]
    return ["cudnn", "flash", "fused"] if spec.row_tokens % 128 == 0 else ["flash", "fused"]


def _try(
    name: str, spec: Any, device: torch.device, dtype: torch.dtype, batch_rows: int
) -> dict[str, float]:
    """Time a form forward and backward, and compare one row with `dense` in float32."""
    length, heads, width = spec.row_tokens, spec.heads, spec.head_width
    most = 1 << (18 if device.type == "cpu" else 24)  # numbers of a tensor
    rows = max(1, min(batch_rows, most // (length * heads * width)))
    random = torch.Generator().manual_seed(0)
    qkv = torch.randn(3, rows, length, heads, width, generator=random).to(device, dtype)
    grad = torch.randn(rows, length, heads, width, generator=random).to(device, dtype)
    begins = torch.rand(rows, length, generator=random) < 4 / length
    begins[:, 0] = True
    pieces = begins.cumsum(1).to(device) if spec.document_mask else None
    places = begins.flatten().nonzero()[:, 0]
    ends = F.pad(places, (0, rows), value=rows * length).to(device, torch.int32)

    def run(form: str, count: int, kind: torch.dtype) -> list[Tensor]:
        q, k, v = (t[:count].to(kind).requires_grad_() for t in qkv.detach())
        part = None if pieces is None else pieces[:count]
        given = ends if spec.document_mask and count == rows else None
        where = scope(q, causal=spec.causal, form=form, pieces=part, cu_seqlens=given)
        y = FORMS[form](q, k, v, where)
        y.backward(grad[:count].to(kind))
        return [y.detach(), *(t.grad for t in (q, k, v) if t.grad is not None)]

    right, found = run("dense", 1, torch.float32), run(name, rows, dtype)
    error = max(
        float((ours[:1].float() - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(found, right, strict=True)
    )
    seconds = []
    for _ in range(2 if device.type == "cpu" else 20):
        _finish(device)
        begin = time.perf_counter()
        run(name, rows, dtype)
        _finish(device)
        seconds.append(time.perf_counter() - begin)
    error = error if math.isfinite(error) else math.inf
    return {"ms": round(1000 * min(seconds), 3), "error": error}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

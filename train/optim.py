"""Muon for matrices, AdamW for all else, in one optimizer; the schedules.

Muon (Jordan et al. 2024) steps along the nearest orthogonal matrix of the momentum. It is found
by Newton-Schulz iterations, here on stacks of equal shapes: one chain of batched products in
place of one chain per matrix. Fused matrices (q, k, v) are taken apart: each is orthogonal by
itself. Embedding and head see each row rarely and get AdamW with their own rates and no decay.
The schedule is a pure function of (step, steps): nothing of it needs a checkpoint.

>>> [round(schedule(s, 10, warmup=0.2, cooldown=0.5), 2) for s in range(10)]
[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.optim.adamw import adamw as adamw_step

from train.config import TrainConfig
from train.model import Model
from train.parallel import local, whole

__all__ = ["Optimizer", "make_optimizer", "polar", "schedule", "set_rate"]

#: x -> a x + b x^3 + c x^5 per step, on the singular values: the composition that is closest to 1
#: on [0.001, 1] (Polar Express, Amsel et al. 2025, Algorithm 1, with its safety of 1.01).
POLAR_EXPRESS = tuple(
    (a / 1.01, b / 1.01**3, c / 1.01**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)
#: AdamW's: gradients are means over a step's targets, so a rare id's shrink with the batch (a
#: median of 2e-8 at 524,288 tokens), and 1e-8 would hold their rows back.
EPS = 1e-10


def polar(stack: Tensor) -> Tensor:
    """Return U V^T of each matrix U S V^T of [N, rows, columns], about: its S is 0.84 to 1.13.

    That holds for singular values above a thousandth of the Frobenius norm; smaller ones grow
    less than a thousandfold, relative to it. The type of the products is the stack's.
    """
    tall = stack.size(1) > stack.size(2)
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizer(torch.optim.Optimizer):
    """Muon and AdamW over groups; all state is one tensor per parameter and name.

    Args:
        groups: dicts of `params`, `kind` ("muon" or "adamw"), `peak` (the full rate),
            `weight_decay`, and `momentum` or `betas`.
        parts: for the id of a parameter, how many rows each matrix has that it is made of.
        dtype: of the products of Newton-Schulz.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        parts: dict[int, Sequence[int]],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__([{"lr": group["peak"], **group} for group in groups], {})
        self.parts, self.dtype = parts, dtype

    @torch.no_grad()
    def step(self, found_inf: Tensor | None = None) -> None:  # type: ignore[override]
        """Update in place; nothing changes where `found_inf`, a float scalar, is 1 (no sync)."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                update = self._muon if group["kind"] == "muon" else self._adamw
                update(group, parameters, found_inf)

    def _moments(self, parameters: Sequence[Tensor], name: str) -> list[Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]

    def _adamw(
        self, group: dict[str, Any], parameters: Sequence[Tensor], found_inf: Tensor | None
    ) -> None:
        for parameter in parameters:
            self.state[parameter].setdefault("step", torch.zeros((), device=parameter.device))
        adamw_step(
            list(parameters),
            [_grad(p) for p in parameters],
            self._moments(parameters, "exp_avg"),
            self._moments(parameters, "exp_avg_sq"),
            [],
            [self.state[p]["step"] for p in parameters],
            fused=True,
            found_inf=found_inf,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPS,
            maximize=False,
        )

    def _muon(
        self, group: dict[str, Any], parameters: Sequence[Tensor], found_inf: Tensor | None
    ) -> None:
        buffers = [local(b) for b in self._moments(parameters, "momentum")]
        grads = [local(_grad(p)) for p in parameters]
        if found_inf is not None:  # moved towards themselves, buffers stay, bit by bit
            grads = [torch.where(found_inf > 0, b, g) for b, g in zip(buffers, grads, strict=True)]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        ahead = list(torch._foreach_lerp(grads, buffers, group["momentum"]))  # Nesterov's
        self._orthogonalize(parameters, ahead)
        weights = [local(p) for p in parameters]
        decay: Any = group["lr"] * group["weight_decay"]
        if found_inf is not None:
            decay = decay * (1 - found_inf)
            torch._foreach_mul_(ahead, 1 - found_inf)
        torch._foreach_mul_(weights, 1 - decay)
        torch._foreach_add_(weights, ahead, alpha=-group["lr"])

    def _orthogonalize(self, parameters: Sequence[Tensor], updates: list[Tensor]) -> None:
        """Replace each update by its matrices' polar factors, scaled by their shape."""
        gathered = [_gather(u, p) for u, p in zip(updates, parameters, strict=True)]
        stacks: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter, matrix in zip(parameters, gathered, strict=True):
            for part in matrix.split(list(self.parts.get(id(parameter), [len(matrix)]))):
                stacks.setdefault(tuple(part.shape), []).append(part)
        for (rows, columns), matrices in stacks.items():
            stack = _shared_polar(torch.stack(matrices).to(self.dtype))
            # So that all shapes move their outputs alike (Jordan's scale).
            stack = stack * max(1.0, rows / columns) ** 0.5
            torch._foreach_copy_(matrices, stack.unbind())
        for update, matrix, parameter in zip(updates, gathered, parameters, strict=True):
            if matrix is not update:
                update.copy_(_scatter(matrix, parameter))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _gather(piece: Tensor, parameter: Tensor) -> Tensor:
    """Return the whole of which every rank has a piece, laid out as `parameter` is."""
    if not isinstance(parameter, DTensor):
        return piece
    gathered = DTensor.from_local(
        piece,
        parameter.device_mesh,
        parameter.placements,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return whole(gathered)


def _scatter(matrix: Tensor, parameter: Tensor) -> Tensor:
    """Return this rank's piece of what every rank has whole."""
    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    everywhere = DTensor.from_local(matrix, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=parameter.placements).to_local()


def _shared_polar(stack: Tensor) -> Tensor:
    """`polar`, each rank making its share of the stack that all of them have."""
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    share = -(-len(stack) // world)
    if world == 1 or len(stack) == 1:
        return polar(stack)
    first = min(share * dist.get_rank(), len(stack) - share)  # the last ranks may overlap
    made = [torch.empty_like(stack[:share]) for _ in range(world)]
    dist.all_gather(made, polar(stack[first : first + share]).contiguous())
    joined = torch.empty_like(stack)
    for rank, part in enumerate(made):
        begin = min(share * rank, len(stack) - share)
        joined[begin : begin + share] = part
    return joined


def make_optimizer(
    model: Model,
    config: TrainConfig,
    device: torch.device,
    start: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Build the optimizer; a group's `peak` is its full learning rate.

    Going on from weights, `start` is what `train.initial.describe` found of them.

    Parameters are told apart by name: `embedding`, `head`, vectors, matrices. A module whose
    weight is several matrices above one another says so: `parts`, the rows of each.
    """
    kinds = ("embedding", "head", "vector", "matrix")
    groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in kinds}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a teacher's
            continue
        by_form = "matrix" if parameter.ndim == 2 else "vector"
        kind = next((k for k in kinds[:2] if k in name.split(".")), by_form)
        if kind == "embedding" and model.spec.tied:  # it is the head too, which bears less
            kind = "head"
        groups[kind].append(parameter)
    scales: Mapping[str, float] = (start or {}).get("scales", {})
    of_head = scales.get("embedding" if model.spec.tied else "head", 1.0)
    adamw = {"kind": "adamw", "betas": (config.beta1, config.beta2), "weight_decay": 0.0}
    settings: dict[str, dict[str, Any]] = {
        "embedding": {**adamw, "peak": config.embedding_lr * scales.get("embedding", 1.0)},
        "head": {**adamw, "peak": config.head_lr * of_head},
        "vector": {**adamw, "peak": config.vector_lr},
        "matrix": {
            "kind": "muon",
            "peak": config.muon_lr,
            "momentum": config.muon_momentum,
            "weight_decay": config.muon_weight_decay,
        }
        if config.matrix_optimizer(model.spec.row_tokens) == "muon"
        else {**adamw, "peak": config.learning_rate, "weight_decay": config.weight_decay},
    }
    modules: Iterable[Any] = model.modules()
    return Optimizer(
        ({"params": some, **settings[kind]} for kind, some in groups.items() if some),
        parts={id(part.weight): part.parts for part in modules if hasattr(part, "parts")},
        dtype=torch.bfloat16 if device.type == "cuda" else model.backbone.dtype,
    )


def schedule(
    step: int,
    steps: int,
    *,
    warmup: float,
    cooldown: float,
    final: float = 0.0,
    shape: str = "wsd",
) -> float:
    """Return the learning rate of `step` (from 0) as a fraction of the peak.

    Args:
        warmup, cooldown: shares of the run; between them the rate is constant.
        final: the fraction that would be reached one step after the last.
        shape: "wsd", where the cool-down is linear, or "cosine" from the warm-up to the end.
    """
    warm = max(1, round(warmup * steps))
    rise = (step + 1) / warm
    if shape == "cosine":
        done = max(0, step - warm) / max(1, steps - warm)
        return min(rise, final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))
    fall = final + (1 - final) * (steps - step) / max(1, round(cooldown * steps))
    return min(1.0, rise, fall) if cooldown > 0 else min(1.0, rise)


def set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, steps: int) -> float:
    """Set every group's rate for `step`; return the fraction of the peak, `rewarm` in it."""
    fraction = (1.0 if config.rewarm is None else config.rewarm) * schedule(
        step,
        steps,
        warmup=config.warmup_fraction,
        cooldown=config.cooldown_fraction,
        final=config.final_lr_fraction,
        shape=config.schedule,
    )
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * fraction
    return fraction

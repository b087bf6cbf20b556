"""AdamW in three groups, and the warm-up, stable, linear cool-down schedule.

Embedding and head see each row rarely and get their own rates and no decay (on a small corpus
the matrices' rate matters most: 0.004 in place of 0.0008 cost a whole nat). The schedule is a
pure function of (step, steps): nothing of it needs a checkpoint.

>>> [round(schedule(s, 10, warmup=0.2, cooldown=0.5), 2) for s in range(10)]
[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
"""

import torch
from torch import nn

from train.config import TrainConfig

__all__ = ["adamw", "schedule", "set_rate"]


def schedule(step: int, steps: int, *, warmup: float, cooldown: float, final: float = 0.0) -> float:
    """Return the learning rate of `step` (from 0) as a fraction of the peak.

    Args:
        warmup, cooldown: shares of the run; between them the rate is constant.
        final: the fraction that the line would reach one step after the last.
    """
    rise = (step + 1) / max(1, round(warmup * steps))
    fall = final + (1 - final) * (steps - step) / max(1, round(cooldown * steps))
    return min(1.0, rise, fall) if cooldown > 0 else min(1.0, rise)


def adamw(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """Build AdamW; a group's `peak` is its full learning rate.

    Parameters are told apart by name: `embedding`, `head`, vectors (no decay), matrices.
    """
    groups: dict[str, list[nn.Parameter]] = {"embedding": [], "head": [], "vector": [], "": []}
    for name, parameter in model.named_parameters():
        kind = next((k for k in ("embedding", "head") if k in name.split(".")), None)
        groups[kind or ("vector" if parameter.ndim < 2 else "")].append(parameter)
    peaks = {"embedding": config.embedding_lr, "head": config.head_lr}
    settings = [
        {
            "params": parameters,
            "peak": peaks.get(kind, config.learning_rate),
            "weight_decay": 0.0 if kind else config.weight_decay,
        }
        for kind, parameters in groups.items()
        if parameters
    ]
    return torch.optim.AdamW(
        settings,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=1e-8,
        fused=device.type in ("cpu", "cuda"),
    )


def set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, steps: int) -> float:
    """Set every group's rate for `step`; return the fraction of the peak."""
    fraction = schedule(
        step,
        steps,
        warmup=config.warmup_fraction,
        cooldown=config.cooldown_fraction,
        final=config.final_lr_fraction,
    )
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * fraction
    return fraction

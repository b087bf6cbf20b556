"""A line of `metrics.jsonl`, in words and in JSON's numbers; what a device can do at most.

>>> text({"mean_loss": 2.5, "bits_per_byte": None, "mfu": None, "eta_s": 61,
...       "tokens_per_s": 1000.0, "metrics": {"accuracy": 0.25}}, "patches")
'loss 2.500 nats, accuracy 0.250, 1,000 patches/s, 1:01 to go'
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["number", "peak_flops", "text"]

#: Dense bfloat16 operations a second (a multiply-add is two), by what a device's name holds; the
#: first match counts (nanochat's table; NVIDIA's data sheets).
PEAKS = (
    (("h100", "nvl"), 835e12),
    (("h100", "pcie"), 756e12),
    (("h100",), 989e12),
    (("h200",), 989e12),
    (("a100",), 312e12),
)


def peak_flops(device_name: str) -> float | None:
    """Return a device's dense bfloat16 peak in operations a second, None if it is not known.

    >>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("a processor")
    (989000000000000.0, None)
    """
    name = device_name.lower()
    return next((peak for words, peak in PEAKS if all(word in name for word in words)), None)


def text(line: Mapping[str, Any], word: str) -> str:
    """Say a summary, or a glance at held-out rows, in one line; `word`: what is counted."""
    unit = line.get("unit", "nats")
    if "held_out_nats" in line:
        if line["held_out_nats"] is None:
            return "held-out glance: the loss is not finite"
        bits = line["held_out_bits_per_byte"]
        shown = "" if bits is None else f", about {bits:.3f} bits/byte"
        told = _metrics(line.get("held_out_metrics", {}))
        return f"held-out glance {line['held_out_nats']:.3f} {unit}{shown}{told}"
    if line["mean_loss"] is None:
        return "no update was finite"
    bits, mfu = line["bits_per_byte"], line["mfu"]
    said = f"loss {line['mean_loss']:.3f} {unit}"
    said += "" if bits is None else f", {bits:.3f} bits/byte"
    said += _metrics(line.get("metrics", {}))
    said += f", {line['tokens_per_s']:,.0f} {word}/s"
    said += "" if mfu is None else f", {mfu:.1%} MFU"
    minutes, seconds = divmod(round(line["eta_s"]), 60)
    return f"{said}, {minutes}:{seconds:02d} to go"


def _metrics(found: Mapping[str, float | None]) -> str:
    told = {name: value for name, value in found.items() if value is not None}
    return "".join(f", {name.replace('_', ' ')} {value:.3f}" for name, value in told.items())


def number(value: float) -> float | None:
    """Return a number as JSON has it: what is not finite is null."""
    return float(value) if math.isfinite(value) else None

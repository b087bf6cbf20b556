"""Random numbers that are functions of (seed, epoch, row): the same on any device, rank or order.

A generator would hand out numbers in the order in which they are asked for, so that workers, ranks
and micro-batches would change them. Here every number is a hash of its row's key, of the name of
what it is for, and of its place: the finaliser of SplitMix64 (Steele, Lea and Flood 2014), in
integers that wrap, so that a CPU and a GPU agree to the last bit.

>>> keys = torch.tensor([[7, 0, 3], [7, 0, 4]])
>>> bool((uniform(keys, "mask", 5)[1] == uniform(keys[1:], "mask", 5)[0]).all())
True
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["bits", "dropout", "integers", "normal", "permutation", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """Return the number whose 64 bits are those of `value`, as torch's int64 has it."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 numbers, one to one."""
    x = (x ^ _shifted(x, 30)) * _signed(_FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(_SECOND)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Shift right without keeping the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _number(name: str) -> int:
    """Return a number for a name (FNV-1a, 64 bits)."""
    value = 0xCBF29CE484222325
    for letter in name:
        value = ((value ^ ord(letter)) * 0x100000001B3) & _MASK
    return value


def bits(keys: Tensor, name: str, *shape: int) -> Tensor:
    """Return [B, *shape] int64, all 64 bits random.

    Args:
        keys: [B, 3] int64 (seed, epoch, row), as `Rows.keys`.
        name: what they are for: other names give independent numbers.
        shape: numbers of each row.
    """
    state = torch.full_like(keys[:, 0], _signed(_number(name)))
    for part in keys.unbind(1):
        state = _mix(state + part * _signed(_GOLDEN) + 1)
    places = torch.arange(1, math.prod(shape) + 1, device=keys.device)
    mixed = _mix(state[:, None] + places * _signed(_GOLDEN))
    return mixed.view(len(keys), *shape)


def uniform(keys: Tensor, name: str, *shape: int) -> Tensor:
    """Return [B, *shape] float32, uniform in [0, 1); see `bits`."""
    return _shifted(bits(keys, name, *shape), 40).float() * 2.0**-24


def normal(keys: Tensor, name: str, *shape: int) -> Tensor:
    """Return [B, *shape] float32 of the standard normal distribution (Box and Muller 1958)."""
    pair = bits(keys, name, *shape)
    radius = (_shifted(pair, 40).double() + 1) * 2.0**-24  # in (0, 1]
    angle = (pair & 0xFFFFFF).double() * (2 * math.pi * 2.0**-24)
    return ((-2 * radius.log()).sqrt() * angle.cos()).float()


def integers(keys: Tensor, name: str, high: int, *shape: int) -> Tensor:
    """Return [B, *shape] int64, uniform in [0, high), high below 2^31; see `bits`."""
    return (_shifted(bits(keys, name, *shape), 32) * high) >> 32


def permutation(keys: Tensor, name: str, size: int) -> Tensor:
    """Return [B, size] int64: each row a random order of 0 .. size - 1."""
    return bits(keys, name, size).argsort(dim=1, stable=True)


def dropout(keys: Tensor, name: str, rate: float) -> Callable[[Tensor], Tensor]:
    """Return what leaves out numbers of [B, ...] (Srivastava et al. 2014): a backbone's `noise`.

    Each call leaves out others; a new function, asked in the same order, leaves out the same. Four
    numbers share a hash, so `rate` is exact to 2^-16.
    """
    calls = itertools.count()
    lowest = round(rate * 2**16) - 2**15

    def noise(x: Tensor) -> Tensor:
        if not rate:
            return x
        words = bits(keys, f"{name} {next(calls)}", -(-x[0].numel() // 4))
        kept = words.view(torch.int16)[:, : x[0].numel()].view_as(x) >= lowest
        return x * kept / (1 - rate)

    return noise

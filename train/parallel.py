"""The processes of a run: who this one is, sums over all of them, and how gradients are shared.

`torchrun` starts them and says in the environment who is who; alone, every call is free. A step's
gradients and counts are summed over ranks, never averaged, so the mean is taken once. What is
gathered are tensors: nothing is pickled.

>>> alone = Ranks()
>>> alone.first, alone.share({"steps": 3}), alone.sum_(torch.ones(2)).tolist()
(True, {'steps': 3}, [1.0, 1.0])
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from curate.corpus.errors import InputError
from train.config import TrainConfig

__all__ = ["Ranks", "local", "norm_of", "shard", "sum_gradients", "whole"]

#: Numbers of one all-reduce: large enough that its start costs nothing, small beside a model.
BUCKET = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `world`; only the first one writes files and talks.

    Attributes:
        rank, world: of this process, and how many.
        local_rank, local_world: the same on this machine.
        device: where this process computes.
        sharded: whether every rank holds a piece of every tensor (FSDP2), not a copy (DDP).
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sharded: bool = False

    @classmethod
    def start(cls, config: TrainConfig) -> "Ranks":
        """Read `torchrun`'s environment and join the others: gloo on a CPU, nccl on CUDA.

        Raises:
            InputError: CUDA is asked for where there is none, or fewer devices than processes.
        """
        names = {
            "rank": "RANK",
            "world": "WORLD_SIZE",
            "local_rank": "LOCAL_RANK",
            "local_world": "LOCAL_WORLD_SIZE",
        }
        found = {k: int(os.environ[v]) for k, v in names.items() if v in os.environ}
        if len(found) < len(names):
            found = {}
        local_rank = found.get("local_rank", 0)
        device = _device(config, local_rank, found.get("local_world", 1))
        if found.get("world", 1) > 1 and not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        sharded = found.get("world", 1) > 1 and config.parallel == "fsdp"
        return cls(**found, device=device, sharded=sharded)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks, in place; return the tensor."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    @contextlib.contextmanager
    def agree(self) -> Iterator[None]:
        """Do what may fail on some ranks: if it does, all of them stop, and none waits for ever.

        Every rank must come here, and none may ask the others for anything inside.

        Raises:
            InputError: on the first rank, another failed; that one raises what it met.
            SystemExit: on any other, where nothing is left to say.
        """
        problem: Exception | None = None
        try:
            yield
        except Exception as error:
            problem = error
        failed = problem is not None
        if self.world > 1:
            failed = int(self.sum_(torch.tensor([int(failed)], device=self.device))) > 0
        if problem is not None:
            raise problem
        if failed and self.first:
            raise InputError("another process of this run failed; it says why")
        if failed:
            raise SystemExit(2)

    def share(self, content: Any) -> Any:
        """Return the first rank's `content` (plain data) on every rank; the others' is ignored."""
        if self.world == 1:
            return content
        text = json.dumps(content).encode() if self.first else b""
        size = self.sum_(torch.tensor([len(text)], device=self.device))
        data = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.first:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(data, 0)
        return json.loads(data.cpu().numpy().tobytes())

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """Return every rank's rows, in the order of ranks; their numbers [n, ...] may differ."""
        if self.world == 1:
            return tensor
        counts = torch.zeros(self.world, dtype=torch.int64, device=self.device)
        counts[self.rank] = len(tensor)
        sizes = self.sum_(counts).tolist()
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:])).to(self.device)
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        joined = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return joined.to(tensor.device)

    def stop(self) -> None:
        """Leave the others; what follows is this rank's own."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _device(config: TrainConfig, local_rank: int, local_world: int) -> torch.device:
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("train.device is 'cuda', but torch sees no CUDA device; use 'auto'")
    if local_world > torch.cuda.device_count():
        raise InputError(
            f"{local_world} processes on this machine, but torch sees {torch.cuda.device_count()} "
            "CUDA devices; start one process for each, or set train.device to 'cpu'"
        )
    return torch.device("cuda", local_rank)


def local(tensor: Tensor) -> Tensor:
    """Return this rank's piece of a sharded tensor, a view; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a sharded tensor (every rank must ask); any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard(model: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Spread a module over all ranks with FSDP2: each block by itself, then the rest."""
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block)
    fully_shard(model)


def sum_gradients(model: nn.Module, ranks: Ranks) -> list[Tensor]:
    """Sum the gradients over ranks, in place; return this rank's pieces of them.

    Copies of a model sum them in buckets of `BUCKET` numbers. FSDP2 has already reduced them to
    their mean, which is turned back into the sum.
    """
    pieces = [local(p.grad) for p in model.parameters() if p.grad is not None]
    if ranks.world == 1:
        return pieces
    if ranks.sharded:
        torch._foreach_mul_(pieces, float(ranks.world))
        return pieces
    for bucket in _buckets(pieces):
        flat = ranks.sum_(torch.cat([piece.reshape(-1) for piece in bucket]))
        parts = flat.split([piece.numel() for piece in bucket])
        for piece, part in zip(bucket, parts, strict=True):
            piece.copy_(part.view_as(piece))
    return pieces


def norm_of(pieces: list[Tensor], ranks: Ranks) -> Tensor:
    """Return the norm of all gradients, whose pieces `sum_gradients` gave; stays on the device."""
    norm = torch.nn.utils.get_total_norm(pieces)
    return ranks.sum_(norm.square()).sqrt() if ranks.sharded else norm


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in order, in groups of about `BUCKET` numbers."""
    group: list[Tensor] = []
    for tensor in tensors:
        group.append(tensor)
        if sum(t.numel() for t in group) >= BUCKET:
            yield group
            group = []
    if group:
        yield group

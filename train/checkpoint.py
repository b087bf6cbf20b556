"""Checkpoints that are whole or not there: tensors in safetensors, numbers in JSON.

A checkpoint is a folder, written under a temporary name, flushed, then renamed. Its `state.json`
holds the digest of the tensors, so one cut short by a full disk or a lost cache is noticed, said
aloud, and the one before it is used. Where ranks hold pieces of tensors, each writes a file of its
own; pieces are joined when they are read, so any number of ranks can go on. Nothing is pickled.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from curate.corpus.errors import InputError
from train.parallel import Ranks, local
from train.runfile import file_sha256, write_json

__all__ = ["find_latest", "load", "pack", "save", "unpack"]

TENSORS = "tensors.safetensors"


def pack(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
    ranks: Ranks | None = None,
) -> dict[str, Tensor]:
    """Collect weights, optimizer moments, random state and `extra` under flat names.

    Returns:
        What this rank is to write: its pieces of sharded tensors; all others are the first rank's.
    """
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    device = _cuda(model)
    if device is not None:
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    tensors |= {f"extra.{k}": v for k, v in extra.items()}
    if ranks is not None and not ranks.first:
        tensors = {k: v for k, v in tensors.items() if isinstance(v, DTensor)}
    return {k: local(v.detach()).cpu().contiguous() for k, v in tensors.items()}


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Put everything back where `pack` found it; return `extra`."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}, "extra": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    now = model.state_dict()
    model.load_state_dict({k: _like(v, now.get(k, v)) for k, v in parts["model"].items()})
    for name, parameter in model.named_parameters():
        moments = {
            key.rpartition(".")[2]: value
            for key, value in parts["optimizer"].items()
            if key.rpartition(".")[0] == name
        }
        optimizer.state[parameter] = {k: _like(v, parameter) for k, v in moments.items()}
    torch.set_rng_state(parts["random"]["cpu"])
    device = _cuda(model)
    if device is not None and "cuda" in parts["random"]:
        torch.cuda.set_rng_state(parts["random"]["cuda"], device)
    return parts["extra"]


def _cuda(model: nn.Module) -> torch.device | None:
    """Return the model's device if it is CUDA: nothing else is to start a context there."""
    device = next(model.parameters()).device
    return device if device.type == "cuda" else None


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """Bring a whole tensor to where `other` is; of its shape, it is spread over ranks like it."""
    moved = tensor.to(other.device)
    if isinstance(other, DTensor) and tensor.shape == other.shape:
        return distribute_tensor(moved, other.device_mesh, other.placements, src_data_rank=None)
    return moved


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int,
    ranks: Ranks | None = None,
) -> Path:
    """Write the checkpoint of `step` finished updates, all ranks together; keep the newest `keep`.

    Those of later steps are removed: whoever saves this one has gone back before them.

    Raises:
        InputError: the disk of one of them is full; earlier checkpoints are untouched.
    """
    ranks = ranks or Ranks()
    final, partial = folder / f"step-{step:09d}", folder / f"partial-{step:09d}"
    name = TENSORS if ranks.first else f"rank-{ranks.rank:05d}.safetensors"
    mine = torch.zeros(0, 32, dtype=torch.uint8)
    try:
        with ranks.agree():
            if ranks.first:
                for old in folder.glob("partial-*"):
                    shutil.rmtree(old)
                partial.mkdir(parents=True)
        with ranks.agree():
            if tensors:
                save_file(dict(tensors), partial / name)
                _flush(partial / name)
                digest = bytes.fromhex(file_sha256(partial / name))
                mine = torch.frombuffer(bytearray(digest), dtype=torch.uint8)[None]
        digests = ranks.gather_rows(mine)
        with ranks.agree():
            if ranks.first:
                names = [TENSORS, *(f"rank-{i:05d}.safetensors" for i in range(1, len(digests)))]
                files = {n: bytes(d.tolist()).hex() for n, d in zip(names, digests, strict=True)}
                write_json(partial / "state.json", {**state, "step": step, "files": files})
                _flush(partial)
                if final.exists():
                    shutil.rmtree(final)
                partial.replace(final)
                _flush(folder)
                _prune(folder, final, keep)
    except Exception as error:  # safetensors reports a full disk with an error of its own
        if ranks.first:
            shutil.rmtree(partial, ignore_errors=True)
        last = max((p.name for p in folder.glob("step-*") if p <= final), default="none")
        raise InputError(
            f"the checkpoint of step {step} cannot be written to {folder}: {error}. "
            f"Last good checkpoint: {last}; make room and run again"
        ) from error
    return final


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove all after `newest`, a future that was given up, and all but `keep` up to it."""
    found = sorted(folder.glob("step-*"))
    kept = [path for path in found if path <= newest][-keep:]
    for path in found:
        if path not in kept:
            shutil.rmtree(path)


def _flush(path: Path) -> None:
    """Ask the system to bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find_latest(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the state of the newest whole checkpoint, with its `path`; None without any.

    Each broken one on the way is reported through `say`.

    Raises:
        InputError: there are some, and none is whole.
    """
    reason = ""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if reason:
            say(f"{reason}; trying the one before it")
        try:
            state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if TENSORS not in state["files"] or path.name != f"step-{state['step']:09d}":
                raise ValueError("state.json does not name its step and tensors")
            wrong = [n for n, digest in state["files"].items() if file_sha256(path / n) != digest]
            if not wrong:
                return {**state, "path": str(path)}
            found = f"{', '.join(wrong)}: not the bytes that were written"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found = str(error) or type(error).__name__
        reason = f"checkpoint {path.name} is not whole ({found})"
    if reason:
        raise InputError(
            f"no checkpoint in {folder} can be used: {reason}; move that folder away to begin the "
            "run anew"
        )
    return None


def load(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that `find_latest` found; pieces are joined."""
    pieces: dict[str, list[Tensor]] = {}
    for name in state["files"]:  # in the order of ranks
        for key, piece in load_file(Path(state["path"]) / name).items():
            pieces.setdefault(key, []).append(piece)
    return {k: v[0] if len(v) == 1 else torch.cat(v) for k, v in pieces.items()}

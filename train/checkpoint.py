"""Checkpoints that are whole or not there: tensors in safetensors, numbers in JSON.

A checkpoint is a folder, written under a temporary name, flushed, then renamed. Its `state.json`
holds the digest of the tensors, so one cut short by a full disk or a lost cache is noticed, said
aloud, and the one before it is used. Nothing is pickled.
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

from curate.corpus.errors import InputError
from train.runfile import file_sha256, write_json

__all__ = ["load_latest", "pack", "save", "unpack"]

TENSORS = "tensors.safetensors"


def pack(
    model: nn.Module, optimizer: torch.optim.Optimizer, extra: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Collect weights, optimizer moments, random state and `extra` under flat names."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors |= {f"extra.{k}": v for k, v in extra.items()}
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Put everything back where `pack` found it; return `extra`."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}, "extra": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    for name, parameter in model.named_parameters():
        moments = {
            key.rpartition(".")[2]: value
            for key, value in parts["optimizer"].items()
            if key.rpartition(".")[0] == name
        }
        optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in moments.items()}
    torch.set_rng_state(parts["random"]["cpu"])
    if torch.cuda.is_available() and "cuda" in parts["random"]:
        torch.cuda.set_rng_state(parts["random"]["cuda"])
    return parts["extra"]


def save(
    folder: Path, step: int, tensors: dict[str, Tensor], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write the checkpoint of `step` finished updates; keep the newest `keep`.

    Raises:
        InputError: the disk is full; earlier checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:09d}"
    partial = folder / f"partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        save_file(tensors, partial / TENSORS)
        _flush(partial / TENSORS)
        digest = file_sha256(partial / TENSORS)
        write_json(partial / "state.json", {**state, "step": step, "sha256": digest})
        _flush(partial)
    except Exception as error:  # safetensors reports a full disk with an error of its own
        shutil.rmtree(partial, ignore_errors=True)
        last = max((p.name for p in folder.glob("step-*")), default="none")
        raise InputError(
            f"the checkpoint of step {step} cannot be written to {folder}: {error}. "
            f"Last good checkpoint: {last}; make room and run again"
        ) from error
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    _flush(folder)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return final


def _flush(path: Path) -> None:
    """Ask the system to bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_latest(
    folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return (tensors, state) of the newest whole checkpoint, or None.

    Each broken one on the way is reported through `say`.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            found = file_sha256(path / TENSORS)
            if found == state["sha256"]:
                return load_file(path / TENSORS), state
            reason = f"its tensors have sha256 {found[:12]}..., not {state['sha256'][:12]}..."
        except (OSError, ValueError, KeyError) as error:
            reason = str(error) or type(error).__name__
        say(f"checkpoint {path.name} is not whole ({reason}); trying the one before it")
    return None

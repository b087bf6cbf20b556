"""The folder that training leaves: weights, sizes, tokenizer, and where all of it came from.

This first form is read by `train.generate.load_model`; `transformers` does not load it.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from train.model import Model
from train.runfile import Run, file_sha256, write_json

__all__ = ["hand_off"]


def hand_off(run: Run, model: Model, lineage: Mapping[str, Any]) -> Path:
    """Write `model/` beside `run.json`, replacing an older one, and return its path.

    Args:
        lineage: what training adds to the run's identity (steps, tokens per source, held-out).
    """
    final, partial = run.folder / "model", run.folder / f"model.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(run.tokenizer, partial / "tokenizer.json")
    config = {
        "format": 1,
        "made_by": "preceptor",
        "model": model.spec.to_mapping(),
        "specials": dict(run.specials),
    }
    write_json(partial / "config.json", config)
    content = {
        "format": 1,
        "run": run.id,
        "corpus": dict(run.corpus),
        "identity": dict(run.identity),
        "weights_sha256": file_sha256(partial / "model.safetensors"),
        **lineage,
    }
    write_json(partial / "lineage.json", content)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    return final

"""Models that no family of `transformers` is: a folder in a format of our own.

`model.safetensors` holds the module's state under its own names: backbone, head, and whatever the
objective keeps, such as a teacher. `config.json` holds the whole `ModelSpec`, so that
`Model(spec)` is built and filled from the folder alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from curate.corpus.errors import InputError
from train.model import Model, ModelSpec

__all__ = ["TYPE", "config_of", "read", "spec_of", "state_of"]

#: `model_type` of the config: no name of `transformers`, which says so.
TYPE = "preceptor"


def config_of(spec: ModelSpec) -> dict[str, Any]:
    """Return the `config.json`."""
    mapping = dict(spec.to_mapping())
    own = {"format": 1, "objective": spec.objective, "specials": dict(spec.specials)}
    return {"model_type": TYPE, "dtype": "float32", "preceptor": {**own, "spec": mapping}}


def state_of(model: Model) -> dict[str, Tensor]:
    """Return a model's tensors as the file has them."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}


def spec_of(config: Mapping[str, Any], where: Path) -> ModelSpec:
    """Return the model that a `config.json` of ours describes, or refuse it."""
    own = config.get("preceptor")
    if not isinstance(own, dict) or own.get("format") != 1 or not isinstance(own.get("spec"), dict):
        raise InputError(f"{where} is of another version of this trainer: it wants 'preceptor', 1")
    try:
        return ModelSpec(**own["spec"])
    except (TypeError, KeyError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: an entry is missing or not as expected: {error!r}") from error


def read(place: Path, config: Mapping[str, Any]) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Return the sizes and the tensors of a folder; see `train.huggingface.read_folder`."""
    spec = spec_of(config, place / "config.json")
    file = place / "model.safetensors"
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} is not a readable safetensors file: {error}") from error
    return spec, weights

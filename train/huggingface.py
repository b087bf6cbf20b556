"""Names and sizes as `transformers` has them, both ways, for three families of decoders.

A folder of NanoChatForCausalLM, Qwen3ForCausalLM or LlamaForCausalLM is read into a `ModelSpec` and
tensors under our names, and ours are written under theirs: the queries', keys' and values' rows are
one matrix here and three there, and so are the two halves of a gated MLP. What we could not compute
exactly as they do (a bias, a stretched RoPE, a sliding window) is refused. Only safetensors are
opened; `transformers` itself is not needed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from curate.corpus.errors import InputError, did_you_mean
from train import native
from train.model import ModelSpec
from train.models.transformer import ARCHITECTURES
from train.runfile import read_json

__all__ = ["FAMILIES", "config_of", "fits", "read_folder", "spec_of_config", "write_names"]

#: Class names by `model_type`, which are our architectures' names too.
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "nanochat": "NanoChatForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
PER_ID = ("backbone.embedding.weight", "objective.head")


def names(spec: ModelSpec) -> dict[str, dict[str, int]]:
    """Return our name -> {their name: rows}: theirs lie above one another in ours."""
    kind = ARCHITECTURES[spec.architecture]
    queries, keys = spec.heads * spec.head_width, spec.kv_heads * spec.head_width
    found = {PER_ID[0]: {"model.embed_tokens.weight": spec.vocab_size}}
    if not spec.tied:
        found[PER_ID[1]] = {"lm_head.weight": spec.vocab_size}
    if kind.learned:
        found["backbone.norm.weight"] = {"model.norm.weight": spec.width}
    for i in range(spec.depth):
        ours, theirs = f"backbone.blocks.{i}", f"model.layers.{i}"
        attention = f"{theirs}.self_attn"
        found[f"{ours}.qkv.weight"] = {
            f"{attention}.q_proj.weight": queries,
            f"{attention}.k_proj.weight": keys,
            f"{attention}.v_proj.weight": keys,
        }
        found[f"{ours}.out.weight"] = {f"{attention}.o_proj.weight": spec.width}
        up = ("gate_proj", "up_proj") if kind.gated else ("fc1",)
        found[f"{ours}.up.weight"] = {f"{theirs}.mlp.{n}.weight": spec.mlp_width for n in up}
        down = "down_proj" if kind.gated else "fc2"
        found[f"{ours}.down.weight"] = {f"{theirs}.mlp.{down}.weight": spec.width}
        if kind.learned:
            found[f"{ours}.attention_norm.weight"] = {
                f"{theirs}.input_layernorm.weight": spec.width
            }
            found[f"{ours}.mlp_norm.weight"] = {
                f"{theirs}.post_attention_layernorm.weight": spec.width
            }
        if kind.learned and kind.head_norm:
            for norm in ("q_norm", "k_norm"):
                found[f"{ours}.{norm}.weight"] = {f"{attention}.{norm}.weight": spec.head_width}
    return found


def fits(spec: ModelSpec, state: Mapping[str, Tensor]) -> bool:
    """Whether a model is one of these families: a decoder of text, nothing kept beside its head."""
    return spec.causal and not spec.media and state.keys() == names(spec).keys()


def write_names(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors under the names of `transformers`; rows of padding are cut off."""
    table = names(spec)
    assert state.keys() == table.keys(), sorted(state.keys() ^ table.keys())
    found: dict[str, Tensor] = {}
    for ours, theirs in table.items():
        tensor = state[ours].detach().cpu()
        whole = tensor[: spec.vocab_size] if ours in PER_ID else tensor
        parts = whole.split(list(theirs.values()))
        found |= {name: part.contiguous() for name, part in zip(theirs, parts, strict=True)}
    return found


def config_of(spec: ModelSpec, specials: Mapping[str, int]) -> dict[str, Any]:
    """Return the `config.json` of a model whose weights are float32."""
    assert spec.causal, "these families are decoders"
    capped = spec.architecture == "nanochat"
    assert capped or not spec.logit_cap, f"{spec.architecture} has no logit cap in transformers"
    return {
        "architectures": [FAMILIES[spec.architecture]],
        "model_type": spec.architecture,
        "dtype": "float32",
        "torch_dtype": "float32",  # its name in transformers 4
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp_width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_width,
        "hidden_act": "silu" if ARCHITECTURES[spec.architecture].gated else "relu2",
        "max_position_embeddings": spec.row_tokens,
        "rms_norm_eps": spec.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_base},
        "rope_theta": spec.rope_base,  # what transformers 4 reads
        **({"final_logit_softcapping": spec.logit_cap or None} if capped else {}),
        "tie_word_embeddings": spec.tied,
        "attention_bias": False,
        "bos_token_id": specials["bos"],
        "eos_token_id": specials["eos"],
        "pad_token_id": specials["pad"],
    }


def spec_of_config(config: Mapping[str, Any], where: Path) -> ModelSpec:
    """Return the sizes that a `config.json` of a known family describes.

    Raises:
        InputError: another family, or something in it that we do not compute.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"{where} is a model of type {family!r}; those that can be read are: "
            f"{', '.join(f'{k} ({v})' for k, v in FAMILIES.items())}."
            f"{did_you_mean(str(family), FAMILIES)}"
        )
    rope = config.get("rope_parameters") or {}
    stretched = rope or config.get("rope_scaling") or {}
    gated = ARCHITECTURES[family].gated
    differing = {
        "hidden_act": config.get("hidden_act", "") not in (["silu"] if gated else ["relu2"]),
        "rope_parameters": stretched.get("rope_type", "default") != "default"
        or stretched.get("partial_rotary_factor", 1.0) != 1.0
        or "type" in stretched,
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "layer_types": not {*(config.get("layer_types") or [])} <= {"full_attention"},
        "quantization_config": bool(config.get("quantization_config")),
    }
    for key, differs in differing.items():
        if differs:
            found = config.get(key) or config.get("rope_scaling")
            raise InputError(
                f"{where}: {key} is {found!r:.100}, which this trainer does not compute; "
                f"bring a {family} model without it"
            )
    try:
        own = config.get("preceptor", {})
        return ModelSpec(
            objective=own.get("objective", "next_token"),
            architecture=family,
            vocab_size=config["vocab_size"],
            depth=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or 0,
            head_width=config.get("head_dim") or 0,
            mlp_width=config["intermediate_size"],
            rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tied=bool(config.get("tie_word_embeddings", False)),
            logit_cap=config.get("final_logit_softcapping") or 0.0,
            row_tokens=config["max_position_embeddings"],
            document_mask=bool(own.get("document_mask", False)),
            specials=dict(own.get("specials", {})),
            task=dict(own.get("task", {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: an entry is missing or not as expected: {error!r}") from error


def read_folder(folder: str | Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Read a folder that `transformers` can load, ours or another's, or one of our own format.

    Returns:
        The sizes, and float32 tensors that `Model(spec).load_state_dict` takes: embedding and head
        filled up with rows of zeros to `spec.padded_size`.

    Raises:
        InputError: not such a folder, no safetensors, another family, or tensors that do not fit.
    """
    place = Path(folder)
    config = read_json(place / "config.json")
    if config.get("model_type") == native.TYPE:
        return native.read(place, config)
    spec = spec_of_config(config, place / "config.json")
    table = names(spec)
    theirs = {name: (ours, rows) for ours, parts in table.items() for name, rows in parts.items()}
    found: dict[str, Tensor] = {}
    strange = []
    for name, tensor in _tensors(place):
        if name in theirs:
            found[name] = tensor.float()
        elif not (name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and spec.tied)):
            strange.append(name)
    missing = sorted(theirs.keys() - found.keys())
    for what, which in (("has no tensor", missing), ("has a tensor we do not know:", strange)):
        if which:
            more = f" (and {len(which) - 1} more like it)" if len(which) > 1 else ""
            raise InputError(f"{place} {what} {which[0]!r}{more}; it is not a whole model we know")
    weights: dict[str, Tensor] = {}
    for ours, parts in table.items():
        for name, rows in parts.items():
            if len(found[name]) != rows:
                raise InputError(
                    f"{place}: {name!r} has {len(found[name]):,} rows, config.json says {rows:,}"
                )
        pieces = [found.pop(name) for name in parts]
        if ours in PER_ID:
            pieces.append(pieces[0].new_zeros(spec.padded_size - spec.vocab_size, spec.width))
        weights[ours] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return spec, weights


def _tensors(place: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one safetensors file, or of those that an index names."""
    index = place / "model.safetensors.index.json"
    if (place / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        files = sorted({*map(str, read_json(index).get("weight_map", {}).values())})
    else:
        pickled = sorted(path.name for path in place.glob("*.bin"))
        raise InputError(
            f"{place} has no model.safetensors"
            + (
                f"; {pickled[0]} is a pickle, which can run code and is not opened"
                if pickled
                else ""
            )
            + "; save the model with safetensors"
        )
    for name in files:
        if Path(name).name != name:
            raise InputError(f"{index} names {name!r}, which is not a file beside it")
        try:
            with safe_open(place / name, framework="pt") as stream:
                for key in stream.keys():  # noqa: SIM118  not a dict
                    yield key, stream.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{place / name} cannot be read: {error}") from error

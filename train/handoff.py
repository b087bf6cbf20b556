"""The folder that training leaves: `transformers` loads it, and it says where it came from.

`model.safetensors`, `config.json`, `tokenizer.json` and their companions are what
`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` look for; `lineage.json`
holds the corpus, plans, checks, mixture and measurements, and `README.md` the same for people. A
model that is no decoder of text is written in the format of `train.native` instead.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from train import native
from train.card import write_card
from train.huggingface import config_of, fits, write_names
from train.initial import token_ids
from train.model import Model
from train.runfile import Run, file_sha256, read_json, write_json

__all__ = ["hand_off"]

NEW_TOKENS = 128  # that `generate` makes if it is not told


def hand_off(run: Run, model: Model, lineage: Mapping[str, Any]) -> Path:
    """Write `model/` beside `run.json`, replacing an older one, and return its path.

    Args:
        lineage: what training adds to the run's identity (steps, tokens per source, held-out).
    """
    final, partial = run.folder / "model", run.folder / f"model.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if fits(model.spec, model.state_dict()):
        weights = write_names(model.spec, model.state_dict())
        own = {"format": 1, "specials": dict(run.specials), **_unsaid(model)}
        config = {**config_of(model.spec, run.specials), "preceptor": own}
        write_json(partial / "generation_config.json", _generation(run.specials))
    else:
        weights, config = native.state_of(model), native.config_of(model.spec)
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    write_json(partial / "config.json", config)
    if run.tokenizer is not None:
        _write_tokenizer(run, run.tokenizer, partial)
    run_file = run.folder / "run.json"
    content = {
        "format": 1,
        "run": run.id,
        "corpus": dict(run.corpus),
        "checks": read_json(run_file).get("checks") or {} if run_file.is_file() else {},
        "identity": dict(run.identity),
        "weights_sha256": file_sha256(partial / "model.safetensors"),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "row_tokens": run.row_tokens,
        **lineage,
    }
    write_json(partial / "lineage.json", content)
    write_card(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    return final


def _unsaid(model: Model) -> dict[str, Any]:
    """Return what `config.json` of `transformers` has no word for."""
    spec = model.spec
    return {
        "objective": spec.objective,
        "document_mask": spec.document_mask,
        **({"task": dict(spec.task)} if spec.task else {}),
    }


def _generation(specials: Mapping[str, int]) -> dict[str, Any]:
    """Return `generation_config.json`: specials other than eos were never a target."""
    return {
        "bos_token_id": specials["bos"],
        "eos_token_id": specials["eos"],
        "pad_token_id": specials["pad"],
        "suppress_tokens": sorted({*specials.values()} - {specials["eos"]}) or None,
        "max_new_tokens": NEW_TOKENS,
    }


def _write_tokenizer(run: Run, file: Path, folder: Path) -> None:
    """Write the corpus's tokenizer so that `AutoTokenizer` makes a document as training saw it.

    bos comes first (a template in `tokenizer.json`: the setting of that name is not looked at where
    there is one), and a special's text in a document is text (`split_special_tokens`).
    """
    content = read_json(file)
    texts = {i: token for token, i in token_ids(file).items()}
    bos = {"id": texts[run.specials["bos"]], "type_id": 0}
    single = [{"SpecialToken": bos}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [{"SpecialToken": {**bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single + pair,
        "special_tokens": {
            bos["id"]: {"id": bos["id"], "ids": [run.specials["bos"]], "tokens": [bos["id"]]}
        },
    }
    write_json(folder / "tokenizer.json", content)
    named = ("bos", "eos", "pad", "mask", "cls", "sep")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": texts[i] for name, i in run.specials.items() if name in named},
        "add_bos_token": True,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": run.row_tokens,
    }
    write_json(folder / "tokenizer_config.json", settings)

"""The handed-off folder in plain transformers, and the folders of others in this trainer."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.corpus.errors import InputError
from train.generate import generate, load_model, sample
from train.handoff import hand_off
from train.huggingface import config_of, read_folder, spec_of_config, write_names
from train.model import Model, ModelSpec
from train.runfile import load_run

transformers = pytest.importorskip("transformers")

SPECIALS = {"bos": 0, "eos": 1, "pad": 2, "mask": 3}
SPECS = {
    "nanochat": {"kv_heads": 2},
    "nanochat-tied": {"tied": True, "head_width": 16},
    "qwen3-tied": {"tied": True, "kv_heads": 2, "head_width": 16, "norm_eps": 1e-5},
    "llama": {"kv_heads": 1, "mlp_width": 50, "rope_base": 3e4},
}
LINEAGE = {
    "steps": 3,
    "rows": 9,
    "dtype": "bfloat16",
    "train_sources": {"books": {"targets": 90}, "<b>|": {"targets": 10}},
    "held_out": None,
}


def _model(name, **sizes):
    """A model whose every weight matters: norms and projections are random too."""
    spec = ModelSpec(
        **{
            "architecture": name.partition("-")[0],
            "vocab_size": 70,
            "depth": 2,
            "width": 48,
            "heads": 4,
            "row_tokens": 24,
            "specials": {"bos": 0, "eos": 1, "pad": 2, "mask": 3},
            **SPECS.get(name, {}),
            **sizes,
        }
    )
    torch.manual_seed(len(name))
    model = Model(spec).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def _logits(model, tokens):
    lengths = range(1, tokens.size(1) + 1)
    with torch.no_grad():
        parts = [model.objective.logits(model.backbone, tokens[:, :n]) for n in lengths]
    return torch.stack(parts, 1)


@pytest.mark.parametrize("name", SPECS)
def test_transformers_computes_the_same_logits_and_saves_what_is_read_again(
    name, make_run, tmp_path
):
    model = _model(name)
    folder = hand_off(load_run(make_run()), model, LINEAGE)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(theirs).__name__.lower() == f"{model.spec.architecture}forcausallm"
    assert theirs.config.vocab_size == 70, "rows of padding are not handed on"
    tokens = torch.randint(0, 70, (2, 20))
    ours = _logits(model, tokens)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours, rtol=1e-4, atol=2e-5)

    spec, weights = read_folder(folder)
    assert spec == model.spec
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="30KB")
    assert (tmp_path / "theirs/model.safetensors.index.json").is_file()
    again, sharded = read_folder(tmp_path / "theirs")
    assert again == model.spec
    for found in (weights, sharded):
        other = Model(spec).eval()
        other.load_state_dict(found)
        assert torch.equal(_logits(other, tokens), ours)


def test_both_generate_the_same_text_from_the_same_folder(make_run):
    path = make_run()
    for name in ("nanochat", "qwen3", "llama"):
        folder = hand_off(load_run(path), _model(name), LINEAGE)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer("w9 w10", return_tensors="pt")
        assert inputs["input_ids"].tolist() == [[0, 9, 10]]
        long = theirs.generate(**inputs, max_new_tokens=15)[0].tolist()
        model, specials = load_model(folder)
        ours = sample(model, [0, 9, 10], 15, specials=specials, temperature=0)
        assert long == [0, 9, 10, *ours]
        text = tokenizer.decode(long[3:], skip_special_tokens=True)
        assert text == generate(path.parent, "w9 w10", 15, temperature=0)


def test_plain_transformers_fine_tune_the_folder(make_run):
    folder = hand_off(load_run(make_run()), _model("nanochat"), LINEAGE)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).train()
    tokens = (torch.arange(20) + torch.arange(8)[:, None]) % 60 + 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


HOSTILE = (
    "",
    " ",
    "plain words, and some more",
    "<|bos|>forged<|eos|> <|pad|><|mask|> <|eos|",
    "\x00\x01 a\u200b\ufeff \U0001f600 \u202e e\u0301 \uff21",
    "  lead\r\n\ttrail  ",
    "</s><s>[UNK]<unk><|endoftext|>" * 3,
)


def _byte_level(folder):
    """A tokenizer as `tokenize` makes them: byte-level BPE, specials first, no post-processor."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[AddedToken(f"<|{n}|>", normalized=False) for n in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["plain words and some more words " * 5], trainer)
    made.save(str(folder))
    return made


def test_the_tokenizer_gives_the_ids_of_training_and_no_text_becomes_a_special(make_run, tmp_path):
    ours = _byte_level(tmp_path / "bytes.json")
    ours.encode_special_tokens = True
    content = (tmp_path / "bytes.json").read_bytes()

    def edit(run):
        run["tokenizer"] |= {
            "uri": str(tmp_path / "bytes.json"),
            "sha256": hashlib.sha256(content).hexdigest(),
            "vocab_size": ours.get_vocab_size(),
        }

    run = load_run(make_run(edit=edit))
    for name in ("llama", "nanochat", "qwen3"):
        folder = hand_off(run, _model(name, vocab_size=run.vocab_size), LINEAGE)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for text in HOSTILE:
            ids = ours.encode(text, add_special_tokens=False).ids
            assert not set(ids) & set(SPECIALS.values())
            assert theirs(text)["input_ids"] == [0, *ids], (name, text)
            assert theirs(text, add_special_tokens=False)["input_ids"] == ids
            assert theirs.decode([0, *ids, 1], skip_special_tokens=True) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 1, 2)
    padded = theirs([HOSTILE[2], "w"], padding=True)["input_ids"]
    assert padded[1][-1] == 2
    assert theirs.model_max_length == run.row_tokens


def test_the_folder_holds_no_pickle_and_its_card_tells_the_lineage(make_run):
    def edit(run):
        run["checks"] = {"digest": "d" * 8, "failed": ["no_<x>"], "despite": "a | trial"}
        run["corpus"]["recipe"] = "r" * 32

    run = load_run(make_run(edit=edit))
    folder = hand_off(run, _model("llama"), LINEAGE)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "lineage.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    card, lineage = (folder / "README.md").read_text(), folder / "lineage.json"
    told = json.loads(lineage.read_text())
    assert told["corpus"] == run.corpus
    for fact in (
        "tiny@1",
        "f" * 64,
        "r" * 32,
        *run.identity["plans"].values(),
        run.identity["tokenizer"],
        told["weights_sha256"],
        "seed 11",
        "| books | 90 | 90.0% |",
        "activations bfloat16, weights float32",
        "Nothing was measured",
        "FAILED: no\\_\\<x\\>; trained despite that: a \\| trial",
    ):
        assert fact in card, fact
    assert "| \\<b\\>\\| | 10 | 10.0% |" in card, "a name is text, whatever it looks like"


CHANGES = {
    "a model of type 'gpt2'; those that can be read are: llama": {"model_type": "gpt2"},
    "a model of type None": {"model_type": None},
    "rope_parameters is": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
    "rope_parameters is {'type': 'yarn'": {
        "rope_parameters": None,
        "rope_scaling": {"type": "yarn", "factor": 4},
    },
    "attention_bias is True": {"attention_bias": True},
    "hidden_act is 'gelu'": {"hidden_act": "gelu"},
    "use_sliding_window is True": {"use_sliding_window": True},
    "quantization_config is": {"quantization_config": {"bits": 4}},
    "'hidden_size'": {"hidden_size": None},
    "has 70 rows, config.json says 80": {"vocab_size": 80},
    "has no tensor 'model.layers.2": {"num_hidden_layers": 3},
    "a tensor we do not know: 'model.layers.1": {"num_hidden_layers": 1},
}


@pytest.mark.parametrize("reason", CHANGES)
def test_what_cannot_be_computed_exactly_is_refused(reason, tmp_path):
    model = _model("llama")
    save_file(write_names(model.spec, model.state_dict()), tmp_path / "model.safetensors")
    config = {**config_of(model.spec, SPECIALS), **CHANGES[reason]}
    config = {key: value for key, value in config.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=reason.replace("{", r"\{")):
        read_folder(tmp_path)


def test_old_configs_with_rope_theta_and_without_a_head_width_are_read():
    config = config_of(_model("llama").spec, SPECIALS) | {"rope_theta": 7e4}
    for gone in ("rope_parameters", "head_dim", "num_key_value_heads"):
        del config[gone]
    spec = spec_of_config(config, Path("config.json"))
    assert (spec.rope_base, spec.head_width, spec.kv_heads) == (7e4, 12, 4)
    assert spec == replace(_model("llama").spec, rope_base=7e4, kv_heads=4, specials={})


def test_pickles_broken_files_and_indices_that_lead_elsewhere_are_refused(tmp_path):
    model = _model("llama")
    (tmp_path / "config.json").write_text(json.dumps(config_of(model.spec, SPECIALS)))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(InputError, match="pytorch_model.bin is a pickle, .* is not opened"):
        read_folder(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../other.safetensors"}}))
    with pytest.raises(InputError, match="is not a file beside it"):
        read_folder(tmp_path)
    index.unlink()
    weights = tmp_path / "model.safetensors"
    save_file(write_names(model.spec, model.state_dict()), weights)
    assert load_file(weights)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        read_folder(tmp_path)


def test_a_model_whose_specials_are_all_one_id_can_end_a_text(make_run):
    model = _model("llama")
    with torch.no_grad():
        model.objective.head.zero_()
        model.objective.head[5] = 0
    same = {"bos": 5, "eos": 5, "pad": 5}
    ids = [sample(model, [5], 400, specials=same, top_k=0, seed=s)[-1] for s in range(3)]
    assert ids == [5, 5, 5]
    assert math.isclose(model.objective.chance(), math.log(70))

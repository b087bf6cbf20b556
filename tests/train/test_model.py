"""The model: what it may see, how it is described, and a loss that nothing but its targets move."""

import json

import pytest
import torch

from curate.corpus.errors import InputError
from train import config
from train.config import TrainConfig
from train.model import Model, ModelSpec
from train.models.attention import FORMS
from train.models.transformer import ARCHITECTURES, Linear
from train.objectives import Rows
from train.objectives.next_token import capped_cross_entropy
from train.optim import make_optimizer

SIZES = {"vocab_size": 70, "depth": 2, "width": 32, "heads": 4, "row_tokens": 16}


def _model(**settings):
    model = Model(ModelSpec(**{**SIZES, **settings}))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=random)
    return model


def _rows(seed=0):
    random = torch.Generator().manual_seed(seed)
    tokens, targets = torch.randint(0, 70, (2, 3, 16), generator=random)
    targets[0, 9:] = -100
    documents = torch.zeros_like(tokens)
    documents[0, 9:] = -1
    keys = torch.zeros(3, 3, dtype=torch.int64)
    return Rows(
        tokens=tokens, targets=targets, sources=documents * 0, documents=documents, keys=keys
    )


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("causal", [True, False])
def test_a_decoder_sees_what_came_and_an_encoder_both_sides(architecture, causal):
    model = _model(architecture=architecture, causal=causal)
    tokens = _rows().tokens
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 70
    with torch.no_grad():
        a, b = model.backbone(tokens), model.backbone(changed)
    assert not torch.allclose(a[:, 9:], b[:, 9:])
    assert torch.allclose(a[:, :9], b[:, :9]) is causal


@pytest.mark.parametrize("masked", [True, False])
def test_what_stands_in_padding_never_changes_a_loss(masked):
    model, rows = _model(document_mask=masked), _rows()
    other = Rows(**{**vars(rows), "tokens": torch.where(rows.documents < 0, 5, rows.tokens)})
    a, b = model(rows), model(other)
    assert torch.equal(a.units, b.units)
    assert int(a.count) == int((rows.targets >= 0).sum())
    assert not a.units[rows.targets < 0].any()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_shared_keys_and_values_equal_repeated_ones(architecture):
    shared = _model(architecture=architecture, kv_heads=2)
    full = _model(architecture=architecture)
    state = shared.state_dict()
    for i in range(2):
        name = f"backbone.blocks.{i}.qkv.weight"
        q, k, v = state[name].split((32, 16, 16))
        again = [t.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1) for t in (k, v)]
        state[name] = torch.cat([q, *again])
    full.load_state_dict(state)
    a, b = shared(_rows()).units, full(_rows()).units
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("settings", [{}, {"tied": True, "kv_heads": 2, "mlp_width": 48}])
def test_a_spec_survives_json_and_counts_the_matrices_of_its_model(architecture, settings):
    spec = ModelSpec(**SIZES, architecture=architecture, **settings)
    assert ModelSpec(**json.loads(json.dumps(spec.to_mapping()))) == spec
    model = Model(spec)
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, Linear))
    head = 128 * spec.width
    assert spec.matmul_parameters() == matrices + head
    assert spec.flops_per_token() == 6 * (matrices + head) + 12 * 2 * 32 * 16
    assert spec.flops_per_token(32) - spec.flops_per_token() == 12 * 2 * 32 * 16
    assert ("objective.head" in model.state_dict()) is not spec.tied


def test_settings_become_a_spec_and_what_does_not_fit_is_refused():
    settings = TrainConfig(depth=4, architecture="llama", kv_heads=1, rope_base=5e5)
    spec = ModelSpec.of(settings, vocab_size=300, row_tokens=64)
    assert (spec.width, spec.heads, spec.kv_heads, spec.head_width) == (256, 2, 1, 128)
    assert (spec.mlp_width, spec.logit_cap, spec.rope_base) == (768, 0.0, 5e5)
    with pytest.raises(InputError, match="cannot share 3 kv_heads"):
        TrainConfig(kv_heads=3)
    with pytest.raises(InputError, match="3 kv_heads"):
        ModelSpec(**SIZES, kv_heads=3)
    with pytest.raises(InputError, match="Did you mean 'qwen3'"):
        ModelSpec(**SIZES, architecture="qwen")


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("tied", [True, False])
def test_a_new_model_starts_near_chance(architecture, tied):
    torch.manual_seed(0)
    model = Model(ModelSpec(**SIZES, architecture=architecture, tied=tied))
    loss = model(_rows())
    nats = loss.total.item() / int(loss.count)
    assert nats == pytest.approx(model.objective.chance(), rel=0.02)


def test_the_settings_name_every_architecture_and_form():
    assert set(config.ARCHITECTURES) == set(ARCHITECTURES)
    assert set(config.ATTENTIONS) == {"auto", *FORMS}


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_embedding_learns_at_the_rate_of_a_head(tied):
    settings = TrainConfig(tied=tied, depth=1)
    model = Model(ModelSpec.of(settings, vocab_size=70, row_tokens=16))
    groups = make_optimizer(model, settings, torch.device("cpu")).param_groups
    embedding = model.backbone.embedding.weight
    (peak,) = (g["peak"] for g in groups if any(p is embedding for p in g["params"]))
    assert peak == (settings.head_lr if tied else settings.embedding_lr)


def test_the_same_rows_give_the_same_bits_and_no_random_number_is_drawn():
    model = _model(document_mask=True)
    before = torch.get_rng_state()
    first, second = ([model(_rows()).units, model.zero_grad()][0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_row_may_be_vectors_of_a_stem_in_the_place_of_ids():
    model = _model()
    tokens = _rows().tokens
    vectors = model.backbone.embedding(tokens)
    torch.testing.assert_close(model.backbone(vectors), model.backbone(tokens))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 40.0])
def test_the_loss_without_a_cap_and_its_gradients_equal_the_plain_ones(dtype, size, monkeypatch):
    monkeypatch.setattr("train.objectives.next_token.SLICE_LOGITS", 1)
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(150, 32, generator=random).to(dtype)
    weight = size * torch.randn(128, 32, generator=random)
    targets = torch.randint(0, 70, (150,), generator=random)
    targets[::7] = -100

    def plain(h, w):
        logits = (h @ w.to(h.dtype).T).float()[:, :70]
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    results = []
    for loss in (lambda h, w: capped_cross_entropy(h, w, targets, 70, 0.0), plain):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        found = loss(h, w)
        total, units = found if isinstance(found, tuple) else (found.sum(), found.detach())
        (total / 3).backward()
        results.append((total.float().detach(), units, h.grad.float(), w.grad))
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * size)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["dense", "blocks", "fused", "flash"])
def test_a_step_is_one_graph_with_the_same_loss(attention, monkeypatch):
    """As `torch.compile` would see it; what inductor makes of it is tested apart, being slow."""
    compiled, plain = (_model(document_mask=attention != "flash") for _ in range(2))
    for model in (compiled, plain):
        for block in model.backbone.blocks:
            block.form = attention
        model.backbone.form = attention
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **k: real(f, backend="aot_eager", fullgraph=True, **k)
    )
    compiled.compile_()
    for model in (compiled, plain):
        model(_rows()).total.backward()
    pairs = zip(compiled.parameters(), plain.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    assert compiled._compiled is not None
    compiled.eval()
    assert torch.equal(compiled(_rows(1)).units, plain(_rows(1)).units)


def test_compiled_blocks_are_left_alone_in_evaluation(monkeypatch):
    """Held-out batches have other shapes: each would be compiled anew, block by block."""
    model, made, real = _model(), [], torch.compile

    def backend(graph, _):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, **k: real(f, backend=backend, **k))
    model.compile_(by_block=True)
    with torch.no_grad():
        model.eval()(_rows())
        assert not made
        model.train()(_rows())
        assert made


@pytest.mark.slow
@pytest.mark.parametrize("by_block", [False, True])
def test_the_compiled_model_gives_the_same_loss(by_block):
    compiled, plain = _model(document_mask=True), _model(document_mask=True)
    compiled.compile_(by_block=by_block)
    torch.testing.assert_close(compiled(_rows()).units, plain(_rows()).units, rtol=1e-4, atol=1e-4)

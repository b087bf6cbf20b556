"""Every form of attention against the plain one; documents in a row against each one alone."""

import itertools

import pytest
import torch

from curate.corpus.errors import InputError
from train.data import cu_seqlens
from train.model import Model, ModelSpec
from train.models import attention
from train.models.attention import FORMS, Scope, choose, scope
from train.objectives import Rows

CPU = torch.device("cpu")
LENGTH = 40
ON_CPU = ("dense", "blocks", "fused")


def _spec(**settings):
    sizes = {"vocab_size": 50, "depth": 2, "width": 32, "heads": 4, "row_tokens": LENGTH}
    return ModelSpec(**{**sizes, **settings})


def _model(spec, form):
    """A model whose every weight matters: those that start at zero are drawn too."""
    model = Model(spec, attention=form)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=random)
    return model


def _rows(lengths):
    """Rows whose documents have these lengths; what is left of a row is padding."""
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 50, (len(lengths), LENGTH), generator=random)
    targets, documents = torch.full_like(tokens, -100), torch.full_like(tokens, -1)
    ordinal = 0
    for row, sizes in enumerate(lengths):
        place = 0
        for size in sizes:
            documents[row, place : place + size] = ordinal
            targets[row, place : place + size - 1] = tokens[row, place + 1 : place + size]
            place, ordinal = place + size, ordinal + 1
    keys = torch.zeros(len(lengths), 3, dtype=torch.int64)
    spans = torch.nn.functional.pad((documents.diff(dim=1) != 0).cumsum(1), (1, 0))
    return Rows(
        tokens=tokens,
        targets=targets,
        sources=tokens * 0,
        documents=documents,
        spans=spans,
        keys=keys,
    )


def _loss_and_gradients(model, rows):
    model.zero_grad()
    loss = model(rows)
    loss.total.backward()
    return loss.units.detach(), {k: p.grad.clone() for k, p in model.named_parameters()}


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_every_form_equals_the_plain_one_forward_and_backward(form, causal, masked, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 16)
    random = torch.Generator().manual_seed(2)
    q, k, v, grad = torch.randn(4, 3, LENGTH, 2, 8, generator=random)
    pieces = (torch.rand(3, LENGTH, generator=random) < 0.1).cumsum(1) if masked else None
    results = []
    for name in ("dense", form):
        given = [t.clone().requires_grad_() for t in (q, k, v)]
        where = scope(q, causal=causal, form=name, pieces=pieces, cu_seqlens=None)
        y = FORMS[name](*given, where)
        y.backward(grad)
        results.append([y, *(t.grad for t in given)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ON_CPU)
@pytest.mark.parametrize("architecture", ["nanochat", "qwen3"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_packed_document_is_predicted_as_if_it_were_alone(form, architecture, causal):
    spec = _spec(document_mask=True, architecture=architecture, causal=causal)
    model = _model(spec, form)
    lengths = [[7, 1, 12, 20], [13, 20], [40]]
    packed = _rows(lengths)
    units, gradients = _loss_and_gradients(model, packed)
    summed = {name: torch.zeros_like(g) for name, g in gradients.items()}
    for row, sizes in enumerate(lengths):
        place = 0
        for size in sizes:
            part = slice(place, place + size)
            cut = {
                k: v[row : row + 1, part]
                for k, v in vars(packed).items()
                if k != "keys" and v is not None
            }
            alone, ours = _loss_and_gradients(model, Rows(**cut, keys=packed.keys[:1]))
            torch.testing.assert_close(alone[0], units[row, part], rtol=1e-4, atol=1e-4)
            for name, gradient in ours.items():
                summed[name] += gradient
            place += size
    for name, gradient in gradients.items():
        torch.testing.assert_close(summed[name], gradient, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_the_flat_form_is_given_the_same_pieces_as_places(causal, monkeypatch):
    def each_alone(q, k, v, ends, keys_ends, longest, longest_keys, *, window_size):
        assert (longest, ends.dtype, keys_ends) == (LENGTH, torch.int32, ends)
        assert window_size == ((-1, 0) if causal else (-1, -1))
        parts = itertools.pairwise(ends.tolist())
        where = [(slice(a, b), Scope(causal=causal)) for a, b in parts if a < b]
        return torch.cat(
            [FORMS["fused"](q[None, s], k[None, s], v[None, s], w)[0] for s, w in where]
        )

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", each_alone)
    rows = _rows([[7, 1, 12, 20], [13, 20], [40]])
    flat = Rows(**{**vars(rows), "cu_seqlens": cu_seqlens(rows.pieces, 12)})
    spec = _spec(document_mask=True, causal=causal, kv_heads=2)
    ours, theirs = _model(spec, "varlen")(flat).units, _model(spec, "dense")(rows).units
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_copies_of_a_document_side_by_side_do_not_see_one_another():
    rows = _rows([[10, 10, 20]])
    copies = Rows(**{**vars(rows), "documents": rows.documents.clamp(min=1)})
    assert torch.equal(copies.pieces, rows.pieces)
    assert rows.pieces[0].unique().tolist() == [0, 1, 2]


def test_a_form_that_another_torch_calls_otherwise_is_not_chosen(monkeypatch):
    def other(q, k, v, where):
        raise TypeError("varlen_attn() got an unexpected keyword argument 'window_size'")

    monkeypatch.setitem(FORMS, "blocks", other)
    form, told = choose(_spec(document_mask=True), torch.device("cpu"), torch.float32, 2)
    assert form != "blocks"
    assert "window_size" in told["blocks"]["failed"]


def test_a_withdrawn_document_is_one_piece_and_so_is_padding():
    rows = _rows([[10, 10, 12]])
    rows.targets[0, 10:20] = -100
    rows.targets[0, 4] = -100  # a pad id inside a text is no border
    assert rows.pieces[0].tolist() == [0] * 10 + [1] * 10 + [2] * 12 + [3] * 8


def test_the_piece_of_a_document_that_goes_on_in_the_next_row_is_a_piece_alone():
    rows = _rows([[30, 10], [40]])
    rows.targets[0, -1] = 7  # looked up beyond the row's end
    model = _model(_spec(document_mask=True), "blocks")
    both = model(rows).units[0]
    first = Rows(**{k: v[:1] for k, v in vars(rows).items() if v is not None})
    torch.testing.assert_close(model(first).units[0], both, rtol=1e-5, atol=1e-5)
    assert float(both[-1]) > 0


def test_without_the_mask_documents_of_a_row_see_one_another():
    rows = _rows([[20, 20]])
    other = Rows(**{**vars(rows), "tokens": rows.tokens.clone()})
    other.tokens[:, :20] = (rows.tokens[:, :20] + 1) % 50
    for masked in (True, False):
        model = _model(_spec(document_mask=masked), "fused")
        same = torch.allclose(model(rows).units[0, 20:], model(other).units[0, 20:])
        assert same is masked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_choice_is_among_the_right_ones_and_says_what_it_saw(dtype, monkeypatch):
    def wrong(q, k, v, where):
        return FORMS["dense"](q, k, v, where) * 1.1

    def broken(q, k, v, where):
        raise NotImplementedError("no such kernel\nstack")

    monkeypatch.setitem(FORMS, "blocks", wrong)
    monkeypatch.setitem(FORMS, "fused", broken)
    name, told = choose(_spec(document_mask=True), CPU, dtype, 4)
    assert name == "dense"
    assert told["blocks"]["error"] > attention.TOLERANCE[dtype]
    assert told["fused"] == {"failed": "no such kernel"}
    assert told["dense"]["ms"] > 0


def test_a_forced_form_is_taken_or_refused_with_the_reason():
    assert choose(_spec(), CPU, torch.float32, 4, "fused")[0] == "fused"
    with pytest.raises(InputError, match="attention 'cudnn' cannot be used here"):
        choose(_spec(document_mask=True), CPU, torch.float32, 4, "cudnn")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("masked", [True, False])
def test_on_cuda_every_form_that_runs_is_right(masked):
    spec = _spec(width=256, heads=2, row_tokens=256, document_mask=masked)
    _, told = choose(spec, torch.device("cuda"), torch.bfloat16, 8)
    ran = {name: found for name, found in told.items() if "error" in found}
    assert ran
    assert max(found["error"] for found in ran.values()) < attention.TOLERANCE[torch.bfloat16]


def test_scopes_hold_no_mask_where_a_kernel_knows_the_rule():
    x = torch.zeros(1, 4, 8)
    ends = torch.tensor([0, 2, 4, 4], dtype=torch.int32)
    assert scope(x, causal=True, form="flash", pieces=None, cu_seqlens=None) == Scope(causal=True)
    packed = scope(x, causal=True, form="varlen", pieces=x[..., 0], cu_seqlens=ends)
    assert packed.bias is None
    assert packed.cu_seqlens is ends

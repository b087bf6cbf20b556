"""Passages out of order, and passages that find their other view."""

import math

import pytest
import torch

from curate.corpus.errors import InputError
from train import keyed
from train.coupled import backward_in_parts
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.parallel import Ranks

NAMES = ("bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix")
SPECIALS = {name: i for i, name in enumerate(NAMES)}
BOS, EOS, PAD, CLS, SEP = 0, 1, 2, 4, 5
LONG = 96


def _rows(*rows, length=LONG):
    """Rows of documents of bytes; each row is a list of texts."""
    tokens = torch.full((len(rows), length), PAD)
    targets, documents = torch.full_like(tokens, -100), torch.full_like(tokens, -1)
    number = 0
    for i, texts in enumerate(rows):
        at = 0
        for text in texts:
            ids = torch.tensor([BOS, *(25 + byte for byte in text.encode()), EOS])[: length - at]
            place = slice(at, at + len(ids))
            tokens[i, place], documents[i, place] = ids, number
            targets[i, at : at + len(ids) - 1] = ids[1:]
            at, number = at + len(ids), number + 1
    keys = torch.tensor([[7, 0, i] for i in range(len(rows))])
    return Rows(
        tokens=tokens,
        targets=targets,
        sources=torch.zeros_like(tokens),
        documents=documents,
        keys=keys,
    )


def _some(rows, chosen):
    return Rows(**{k: v[chosen] for k, v in vars(rows).items() if v is not None})


def _model(objective, vocab_size=281, **task):
    torch.manual_seed(0)
    spec = ModelSpec(
        objective=objective,
        vocab_size=vocab_size,
        depth=1,
        width=32,
        heads=2,
        row_tokens=LONG,
        causal=False,
        document_mask=True,
        specials=SPECIALS,
        task=task,
    )
    model = Model(spec)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def _text(ids):
    return bytes(i - 25 for i in ids if i >= 25).decode()


def _examples(batch, row):
    """Slow twin: the passages of each example of a row as it was fed, and its class."""
    found, passage = [], []
    for token, target in zip(batch.inputs[row].tolist(), batch.targets[row].tolist(), strict=True):
        assert (target >= 0) == (token == CLS)
        if token == CLS:
            found.append(([_text(passage)], target))
        if token == SEP:
            found[-1][0].append(_text(passage))
        if token in (CLS, SEP):
            passage = []
        elif token != PAD:
            passage.append(token)
    return found


STORY = [
    ["One is a man. Two is a dog. Three is a cat. Four is a hen. Five is an owl. Six is a fox. "],
    ["Ants come in. Bees go out. Cows are big. ", "red\nblue\ngreen\nwhite\nblack\ngrey\n"],
    ["No end of it here"],
    ["Up. Up. Down. Down. ", "Left. Left. Right. Right. ", "x. y. z. "],
]


def _undone(passages, target, variant):
    orders = {2: [(0, 1), (1, 0)], 3: [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)]}
    order = [*orders[len(passages)], (2, 1, 0)][target]
    return [passages[place] for place in order]


@pytest.mark.parametrize("variant", ["sop", "permutation"])
def test_the_class_says_how_passages_are_put_back(variant):
    objective = _model("sentence_order", variant=variant, segment=12).objective
    seen = set()
    for epoch in range(12):
        rows = _rows(*STORY)
        rows.keys[:, 1] = epoch
        batch = objective.manufacture(rows)
        for row, texts in enumerate(STORY):
            whole = "|".join(texts)
            for passages, target in _examples(batch, row):
                seen.add(target)
                assert len(passages) == (3 if variant == "permutation" else 2)
                back = _undone(passages, target, variant)
                # The token behind a passage, a space or a line's end, became the special.
                assert any(s.join(back) in whole for s in (" ", "\n")), (back, whole)
                assert all(p.rstrip("\n")[-1:] in ".denky" for p in passages)
    assert seen == set(range(2 if variant == "sop" else 6))


def test_no_sentence_means_no_example():
    batch = _model("sentence_order").objective.manufacture(_rows(*STORY))
    assert (batch.targets[2] == -100).all()
    assert (batch.inputs[2] == PAD).all()


def test_a_next_sentence_comes_from_elsewhere_in_the_row_or_is_its_own():
    objective = _model("sentence_order", variant="nsp", segment=4).objective
    wrong = right = 0
    for epoch in range(20):
        rows = _rows(*STORY)
        rows.keys[:, 1] = epoch
        batch = objective.manufacture(rows)
        told = _examples(batch, 3)
        whole = "|".join(STORY[3])
        for (a, b), target in told:
            wrong, right = wrong + target, right + 1 - target
            assert a in whole
            assert b in whole
            if not target:
                assert f"{a} {b}" in whole
        assert sum(target for _, target in told) % 2 == 0
    assert wrong > 10
    assert right > 10


@pytest.mark.parametrize("variant", ["sop", "nsp", "permutation"])
def test_examples_of_a_row_do_not_depend_on_the_others(variant):
    objective = _model("sentence_order", variant=variant, segment=8).objective
    rows = _rows(*STORY)
    whole = objective.manufacture(rows)
    for row in range(len(STORY)):
        alone = objective.manufacture(_some(rows, [row]))
        assert (alone.inputs[0] == whole.inputs[row]).all()
        assert (alone.targets[0] == whole.targets[row]).all()


def test_order_is_learnt_from_chance_and_losses_are_told_in_their_document():
    model = _model("sentence_order", segment=8)
    loss = model(rows := _rows(*STORY))
    assert float(loss.total.detach()) == pytest.approx(float(loss.count) * math.log(2), rel=1e-5)
    assert float(loss.units.sum()) == pytest.approx(float(loss.total.detach()), rel=1e-5)
    assert loss.counted.sum() == loss.count
    assert (rows.documents[loss.counted > 0] >= 0).all()
    assert model.objective.chance() == math.log(2)
    loss.total.backward()
    assert model.objective.head.weight.grad.abs().sum() > 0


def test_a_withdrawn_text_is_in_no_example():
    rows = _rows(*STORY)
    rows.targets[:] = -100
    assert (_model("sentence_order", segment=8)(rows).count) == 0
    model = _model("sentence_contrast")
    loss = model(rows)
    assert (loss.count, loss.total) == (0, 0)


def test_ids_that_tell_nothing_are_cut_at_random():
    objective = _model("sentence_order", vocab_size=400, segment=8).objective
    found = objective.manufacture(_rows(*[["a" * 90]] * 8))
    assert 4 <= (found.targets >= 0).sum() <= 40
    with pytest.raises(InputError, match="only the ids of bytes tell"):
        _model("sentence_contrast", vocab_size=400, variant="pairs")


def test_dropout_is_a_function_of_row_and_call():
    keys = torch.tensor([[1, 0, 5], [1, 0, 6]])
    x = torch.ones(2, 50, 30)
    noise, again = keyed.dropout(keys, "view", 0.1), keyed.dropout(keys[1:], "view", 0.1)
    first, second = noise(x), noise(x)
    assert (first != second).any()
    assert (again(x[1:]) == first[1:]).all()
    assert (again(x[1:]) == second[1:]).all()
    assert first.mean() == pytest.approx(1, abs=0.03)
    assert set(first.unique().tolist()) == {0.0, x.new_tensor(1 / 0.9).item()}
    assert keyed.dropout(keys, "view", 0.0)(x) is x


def _slow_contrast(a, b, scale):
    total = 0.0
    for i in range(len(a)):
        scores = [scale * float(a[i] @ b[j]) for j in range(len(b))]
        total += math.log(sum(math.exp(s) for s in scores)) - scores[i]
    return total


def test_the_loss_is_that_of_the_paper():
    model = _model("sentence_contrast", temperature=0.2)
    features = torch.randn(5, 2, 32)
    features[3] = 0  # such a row is nobody's example
    loss = model.objective.couple(features)
    a, b = torch.nn.functional.normalize(features[[0, 1, 2, 4]], dim=-1).unbind(1)
    assert float(loss.total.detach()) == pytest.approx(_slow_contrast(a, b, 5.0), rel=1e-5)
    assert loss.count == 4
    assert loss.units[3] == 0
    assert set(model.objective.health()) >= set(model.objective.floors)


def test_views_are_noise_or_halves_or_lines():
    rows = _rows(*STORY)
    model = _model("sentence_contrast", dropout=0.0)
    features = model.objective.embed(model.backbone, model.objective.manufacture(rows))
    assert (features[:, 0] == features[:, 1]).all()
    noisy = _model("sentence_contrast")
    features = noisy.objective.embed(noisy.backbone, noisy.objective.manufacture(rows))
    assert (features[:, 0] != features[:, 1]).any(1).all()

    inputs = _model("sentence_contrast", variant="adjacent").objective.manufacture(rows).inputs
    before, behind = (_text(ids) for ids in inputs[0].tolist())
    assert before + behind == STORY[0][0]
    assert before.endswith(". ")
    lines = _rows(["A title\nThe text.\nMore\n"])
    inputs = _model("sentence_contrast", variant="pairs").objective.manufacture(lines).inputs
    assert [_text(ids) for ids in inputs[0].tolist()] == ["A title\n", "The text.\nMore\n"]


def test_a_step_of_slices_drops_out_the_same():
    rows, found = _rows(*STORY), []
    for parts in ([rows], [_some(rows, [0, 1]), _some(rows, [2, 3])]):
        model = _model("sentence_contrast")
        if len(parts) == 1:
            model(rows).total.backward()
        else:
            backward_in_parts(model, parts, Ranks())
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-4 * one.abs().max()

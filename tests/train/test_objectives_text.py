"""Tasks on tokens, each against a slow twin in plain Python."""

import dataclasses

import pytest
import torch

from curate.corpus.errors import InputError
from train import keyed, masks
from train.model import Model, ModelSpec
from train.objectives import Rows, find

NAMES = ("bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix")
SPECIALS = {name: i for i, name in enumerate(NAMES)}
BOS, EOS, PAD, MASK = range(4)
PRE, MID, SUF = 6, 7, 8
VOCAB_SIZE = 60


def model_of(objective, row_tokens=48, **settings):
    torch.manual_seed(0)
    causal = find(objective).causal
    fixed = {"vocab_size": VOCAB_SIZE, "specials": SPECIALS, "document_mask": True}
    spec = ModelSpec(
        objective=objective,
        causal=causal,
        depth=1,
        width=32,
        heads=2,
        row_tokens=row_tokens,
        **{**fixed, **settings},
    )
    model = Model(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def rows_of(rows, row_tokens=48, first_row=0, epoch=0):
    """Rows from lists of pieces; a piece that does not begin with bos goes on from before."""
    shape = (len(rows), row_tokens)
    tokens, targets = torch.full(shape, PAD), torch.full(shape, -100)
    documents, number = torch.full(shape, -1), 0
    for b, pieces in enumerate(rows):
        at = 0
        for piece in pieces:
            stop = at + len(piece)
            tokens[b, at:stop] = torch.tensor(piece)
            targets[b, at : stop - 1] = tokens[b, at + 1 : stop]
            if piece[-1] != EOS:
                targets[b, stop - 1] = 30  # the next row's first
            documents[b, at:stop] = number
            at, number = stop, number + 1
    keys = torch.tensor([[5, epoch, first_row + b] for b in range(len(rows))])
    return Rows(tokens=tokens, targets=targets, sources=0 * tokens, documents=documents, keys=keys)


def text(length, start=25):
    return [25 + (start + i * i) % 35 for i in range(length)]


def some_rows():
    return rows_of(
        [
            [[BOS, *text(20), EOS], [BOS, *text(9, 3), EOS], [BOS, *text(14, 8)]],
            [[*text(11, 2), EOS], [BOS, EOS], [BOS, *text(1), EOS], [BOS, *text(15, 1), EOS]],
            [[*text(48, 7)]],
        ]
    )


def one(rows, b):
    return Rows(**{k: None if v is None else v[b : b + 1] for k, v in vars(rows).items()})


def spans_of(rows, b):
    """(begin, end) of each piece of a row, without its padding."""
    documents = rows.documents[b].tolist()
    edges = [t for t in range(len(documents)) if t == 0 or documents[t] != documents[t - 1]]
    pairs = zip(edges, [*edges[1:], len(documents)], strict=True)
    return [(a, z) for a, z in pairs if documents[a] >= 0]


@pytest.mark.parametrize("span", [1, 3])
def test_hidden_tokens_are_those_of_a_slow_twin(span):
    rows, model = some_rows(), model_of("masked_token", task={"mask_span": span})
    batch = model.objective.manufacture(rows)
    rate = masks.start_rate(0.3, span)
    length = rows.tokens.size(1)
    for b in range(len(rows.tokens)):
        mine = one(rows, b)
        begins = keyed.uniform(mine.keys, "mask", length)[0].tolist()
        draws = keyed.uniform(mine.keys, "mask_span", length)[0].double()
        ways = keyed.uniform(mine.keys, "way", length)[0].tolist()
        drawn = keyed.integers(mine.keys, "random", VOCAB_SIZE - 25, length)[0].tolist()
        expected, targets = mine.tokens[0].tolist(), [-100] * length
        tokens = list(expected)
        for begin, end in spans_of(rows, b):
            for t in (t for t in range(begin, end) if begins[t] < rate):
                reach = t + 1
                if span > 1:
                    reach += int(
                        torch.log(1 - draws[t]) / torch.tensor(1 - 1 / span).double().log()
                    )
                for u in range(t, min(reach, end)):
                    if tokens[u] >= 25:
                        targets[u] = tokens[u]
                        random = 25 + drawn[u] if ways[t] >= 0.9 else tokens[u]
                        expected[u] = MASK if ways[t] < 0.8 else random
        assert batch.inputs[b].tolist() == expected
        assert batch.targets[b].tolist() == targets
    assert (batch.targets >= 0).sum() > 10


@pytest.mark.parametrize("span", [1, 4])
def test_about_mask_rate_of_the_tokens_are_hidden_and_a_tenth_each_kept_and_drawn(span):
    rows = rows_of([[text(512, b)] for b in range(200)], row_tokens=512)
    model = model_of("masked_token", row_tokens=512, task={"mask_span": span})
    batch = model.objective.manufacture(rows)
    hidden = batch.targets >= 0
    assert hidden.float().mean() == pytest.approx(0.3, abs=0.01)
    kept = (batch.inputs == rows.tokens)[hidden].float().mean()
    assert (batch.inputs == MASK)[hidden].float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1 + 0.1 / 35, abs=0.015)
    assert batch.inputs.min() == MASK
    assert set(batch.inputs.unique().tolist()) == {MASK, *range(25, VOCAB_SIZE)}
    model.eval()
    assert (model.objective.manufacture(rows).targets >= 0).float().mean() == pytest.approx(
        0.15, abs=0.01
    )


TASKS = {
    "masked_token": {"mask_span": 3},
    "masked_span": {},
    "fill_in_the_middle": {"fim_rate": 1.0},
    "replaced_token": {},
    "event_fields": {"variant": "masked"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", list(TASKS))
def test_what_is_made_and_learnt_of_a_row_does_not_depend_on_the_others(name):
    rows, model = some_rows(), model_of(name, task=TASKS[name])
    whole = model(rows)
    parts = [model(one(rows, b)) for b in (2, 0, 1)]
    for b, part in zip((2, 0, 1), parts, strict=True):
        torch.testing.assert_close(part.units[0], whole.units[b], rtol=1e-4, atol=1e-4)
        assert torch.equal(part.counted[0], whole.counted[b])
    total = sum(part.total for part in parts)
    assert float(total) == pytest.approx(float(whole.total), rel=1e-5)
    assert sum(float(part.count) for part in parts) == pytest.approx(float(whole.count))
    assert float(whole.units.sum()) == pytest.approx(float(whole.total), rel=1e-5)
    assert float(whole.counted.sum()) == pytest.approx(float(whole.count))
    again = dataclasses.replace(rows, keys=rows.keys + torch.tensor([0, 1, 0]))
    assert float(model(again).total) != float(whole.total)


@torch.no_grad()
@pytest.mark.parametrize("name", list(TASKS))
def test_nothing_is_asked_of_withdrawn_documents_and_padding(name):
    rows, model = some_rows(), model_of(name, task=TASKS[name])
    gone = rows.documents == rows.documents[2, 0]
    rows = dataclasses.replace(rows, targets=rows.targets.masked_fill(gone, -100))
    loss = model(rows)
    assert not loss.units[2].any()
    assert not loss.counted[2].any()
    assert not loss.counted[rows.documents < 0].any()
    model.eval()
    assert not model(rows).counted[2].any()


def test_a_model_of_masked_tokens_sees_both_sides_of_its_own_document_alone():
    rows, model = some_rows(), model_of("masked_token")
    batch = model.objective.manufacture(rows)
    with torch.no_grad():
        before = model.backbone(batch.inputs, rows.pieces)
        inputs = batch.inputs.clone()
        inputs[0, 10] = 33
        after = model.backbone(inputs, rows.pieces)
    moved = (before != after).any(-1)[0]
    assert moved[:22].all()
    assert not moved[22:].any()


def test_tasks_on_tokens_need_their_specials():
    for name in ("masked_token", "fill_in_the_middle"):
        with pytest.raises(InputError, match="specials"):
            model_of(name, specials={"bos": 0, "eos": 1, "pad": 2})
    with pytest.raises(InputError, match="below 1"):
        model_of("masked_token", task={"mask_rate": 1.0})


@pytest.mark.parametrize("spm_rate", [0.0, 1.0, 0.5])
def test_moved_middles_are_those_of_a_slow_twin(spm_rate):
    rows, model = some_rows(), model_of("fill_in_the_middle")
    batch = model.objective.moved(rows, 0.8, spm_rate)
    length, seen = rows.tokens.size(1), set()
    for b in range(len(rows.tokens)):
        draws = keyed.uniform(one(rows, b).keys, "fim", length, 4)[0]
        inputs, targets = rows.tokens[b].tolist(), rows.targets[b].tolist()
        middle, dropped = [False] * length, 0
        for begin, end in spans_of(rows, b):
            piece = rows.tokens[b, begin:end].tolist()
            head = piece[:1] if piece[0] == BOS else []
            body = piece[len(head) : len(piece) - (piece[-1] == EOS)]
            size = len(piece) - len(head) - 4
            if draws[begin, 0] >= 0.8 or size < 1:
                continue
            dropped += len(body) - size
            cuts = sorted(int(draws[begin, i] * (size + 1)) for i in (2, 3))
            p, m, s = body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] : size]
            spm = bool(draws[begin, 1] < spm_rate)
            seen.add(spm)
            made = [PRE, SUF, *s, MID, *p, *m] if spm else [PRE, *p, SUF, *s, MID, *m]
            made = [*head, *made, EOS]
            assert len(made) == len(piece)
            inputs[begin:end] = made
            targets[begin:end] = [*made[1:], -100]
            for t in range(end - 2 - len(m), end - 1):
                middle[t] = True
        assert batch.inputs[b].tolist() == inputs
        assert batch.targets[b].tolist() == targets
        assert batch.more["middle"][b].tolist() == middle
        assert int(batch.more["dropped"][b].sum()) == dropped
    assert seen == ({False, True} if spm_rate == 0.5 else {spm_rate == 1.0})


def test_held_out_documents_and_those_of_rate_zero_keep_their_order_and_targets():
    rows, model = some_rows(), model_of("fill_in_the_middle")
    still = model.objective.moved(rows, 0.0, 0.5)
    model.eval()
    for batch in (still, model.objective.manufacture(rows)):
        assert torch.equal(batch.inputs, rows.tokens)
        assert torch.equal(batch.targets, rows.targets)


@torch.no_grad()
def test_the_discriminator_sees_draws_of_the_generator_and_is_asked_of_all_text():
    rows, model = some_rows(), model_of("replaced_token", task={"mask_rate": 0.5})
    task, backbone = model.objective, model.backbone
    batch = task.manufacture(rows)
    hidden = batch.targets >= 0
    assert (batch.inputs[hidden] == MASK).all()
    _, _, seen, _ = task.generate(backbone, batch)
    assert torch.equal(seen[~hidden], rows.tokens[~hidden])
    narrow = task.generator(
        task.narrow(backbone.embedding(batch.inputs)), rows.pieces, causal=False
    )
    logits = 15 * torch.tanh(narrow @ task.head[:VOCAB_SIZE].T / 15)
    for b, t in hidden.nonzero().tolist():
        shares = [float(v.exp()) if i >= 25 else 0.0 for i, v in enumerate(logits[b, t].double())]
        left, drawn = float(batch.more["at"][b, t]) * sum(shares), 0
        while left >= shares[drawn]:
            left, drawn = left - shares[drawn], drawn + 1
        assert seen[b, t] == drawn
    loss = model(rows)
    odds = task.suspect(backbone, seen, rows)
    asks = (rows.tokens >= 25) & (rows.documents >= 0)
    assert torch.equal(loss.counted, asks)
    told = torch.nn.functional.binary_cross_entropy_with_logits(
        odds, (seen != rows.tokens).float(), reduction="none"
    )
    units = 50 * told * asks
    logs = logits.log_softmax(-1)
    units[hidden] -= 2 * logs[hidden].gather(1, rows.tokens[hidden][:, None])[:, 0]
    torch.testing.assert_close(loss.units, units, rtol=1e-3, atol=1e-3)
    assert float(loss.metrics["replaced"][0]) == int((seen != rows.tokens).sum())


def test_generator_and_discriminator_share_the_embedding_and_no_gradient_passes_a_draw():
    rows, model = some_rows(), model_of("replaced_token")
    assert [name for name in model.state_dict() if "embedding" in name] == [
        "backbone.embedding.weight"
    ]
    model(rows).total.backward()
    assert all(p.grad is not None for p in model.parameters())
    task = model.objective
    batch = task.manufacture(rows)
    _, _, seen, _ = task.generate(model.backbone, batch)
    model.zero_grad()
    task.suspect(model.backbone, seen, rows).sum().backward()
    assert task.head.grad is None
    assert task.narrow.weight.grad is None


@pytest.mark.parametrize("variant", ["next", "masked"])
def test_next_fields_are_told_from_what_came_and_hidden_ones_from_both_sides(variant):
    rows, model = some_rows(), model_of("event_fields", task={"variant": variant})
    batch = model.objective.manufacture(rows)
    is_next = variant == "next"
    assert torch.equal(batch.targets, rows.targets) is is_next
    inputs = batch.inputs.clone()
    inputs[2, 40] = 31 if inputs[2, 40] != 31 else 32
    other = dataclasses.replace(batch, inputs=inputs)
    with torch.no_grad():
        a, b = (model.objective(model.backbone, one).units for one in (batch, other))
    assert not torch.equal(a[2, 40:], b[2, 40:])
    assert torch.equal(a[2, :40], b[2, :40]) is is_next
    with pytest.raises(InputError, match="variant"):
        model_of("event_fields", task={"variant": "nxt"})


def test_a_loss_of_chosen_places_is_that_of_all_and_counts_what_is_right():
    torch.manual_seed(1)
    hidden, weight = torch.randn(2, 9, 8), torch.randn(64, 8)
    targets = torch.randint(0, 50, (2, 9)).where(torch.rand(2, 9) < 0.4, -100)
    total, units, right = masks.restored(hidden, weight, targets, 50, 15.0, count=True)
    logits = 15 * torch.tanh(hidden @ weight[:50].T / 15)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    torch.testing.assert_close(units.flatten(), expected)
    assert float(total) == pytest.approx(float(expected.sum()), rel=1e-5)
    assert int(right) == int(((logits.argmax(-1) == targets) & (targets >= 0)).sum())
    none, _, zero = masks.restored(hidden, weight, targets * 0 - 100, 50, 15.0, count=True)
    assert float(none) == float(zero) == 0

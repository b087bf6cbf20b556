"""The bigram, the loss and the comparison: laws, and equality with slow twins."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.baselines import KneserNey
from train.evaluate import HeldOut, ratio_difference, summary
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.objectives.next_token import LOGIT_CAP, capped_cross_entropy

SPEC = ModelSpec(objective="next_token", vocab_size=70, depth=2, width=32, heads=2, row_tokens=16)


def _discounts(counts):
    n1, n2, n3, n4 = (sum(c == k for c in counts) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return [0.5, 1.0, 1.5]
    y = n1 / (n1 + 2 * n2)
    found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return found if min(found) >= 0 else [0.5, 1.0, 1.5]


def _twin(documents, size, order):
    """The same formula with dictionaries, from the longest n-grams down."""
    tables = [Counter() for _ in range(order + 1)]
    for d in documents:
        for end in range(1, len(d)):
            start = max(0, end - order + 1)
            tables[end - start + 1][tuple(d[start : end + 1])] += 1
    for length in range(order, 1, -1):
        tables[length - 1].update(gram[1:] for gram in tables[length])

    def probability(context, w):
        if context is None:
            return 1 / size
        table = tables[len(context) + 1]
        taken = _discounts(table.values())
        followers = {g[-1]: c for g, c in table.items() if g[:-1] == context}
        shorter = probability(context[1:] if context else None, w)
        if not followers:
            return shorter
        total, c = sum(followers.values()), followers.get(w, 0)
        free = sum(taken[min(n, 3) - 1] for n in followers.values())
        return (c - (taken[min(c, 3) - 1] if c else 0) + free * shorter) / total

    return lambda d: [
        probability(tuple(d[max(0, i - order + 1) : i]), d[i]) for i in range(1, len(d))
    ]


TEXTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), TEXTS, TEXTS)
def test_counting_models_of_any_order_equal_a_slow_twin(order, fitted, scored):
    model = KneserNey.fit(map(np.array, fitted), vocab_size=6, order=order)
    twin = _twin(fitted, 6, order)
    nats = model.nats([np.array(d) for d in scored])
    np.testing.assert_allclose(np.exp(-nats), [p for d in scored for p in twin(d)], rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), TEXTS, st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_after_any_context_the_probabilities_sum_to_one(order, fitted, context):
    model = KneserNey.fit(map(np.array, fitted), vocab_size=6, order=order)
    nats = model.nats([np.array([*context, w]) for w in range(6)])
    assert math.isclose(np.exp(-nats.reshape(6, -1)[:, -1]).sum(), 1, rel_tol=1e-12)


def test_a_longer_context_is_used_and_text_never_seen_has_some_probability():
    random = np.random.default_rng(1)
    pattern = np.tile([1, 2, 1, 3, 1, 4], 200)
    noise = random.integers(1, 6, 1200)
    orders = [KneserNey.fit([pattern, noise], vocab_size=9, order=n) for n in (1, 2, 3)]
    losses = [model.nats([pattern]).mean() for model in orders]
    assert losses[0] > losses[1] > losses[2] + 0.3
    assert np.isfinite(orders[2].nats([np.array([0, 8, 0, 7])])).all()
    assert len(KneserNey.fit([], vocab_size=9, order=3).nats([])) == 0


def test_the_ratio_estimator_agrees_with_the_jackknife():
    random = np.random.default_rng(2)
    num_bytes = random.integers(50, 500, 400)
    bits = num_bytes * -0.5 + random.normal(0, 20, 400)
    ratio, error = ratio_difference(bits, num_bytes)
    without = (bits.sum() - bits) / (num_bytes.sum() - num_bytes)
    jackknife = math.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    assert math.isclose(error, jackknife, rel_tol=0.02)
    assert math.isclose(ratio, bits.sum() / num_bytes.sum())
    assert ratio_difference(bits[:1], num_bytes[:1])[1] is None


def test_the_summary_says_which_is_better_and_per_source():
    ones = np.ones(4)
    held_out = HeldOut(
        ordinals=np.arange(4),
        sources=np.array([0, 0, 2, 2]),
        targets=np.array([3, 3, 3, 3]),
        num_bytes=np.array([10, 10, 10, 12]),
        nats={"model": 7 * ones, "bigram": 9 * ones, "unigram": 12 * ones},
        num_planned=5,
    )
    result = summary(held_out, ["a", "b", "c"])
    assert result["text"].startswith("held-out: 0.962 bits/byte; Kneser-Ney bigram 1.237")
    assert "below" in result["text"]
    assert set(result["sources"]) == {"a", "c"}
    total = result["model"]["bits_per_byte"] * result["bytes"]
    parts = [s["model"]["bits_per_byte"] * s["bytes"] for s in result["sources"].values()]
    assert math.isclose(total, sum(parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sliced_loss_and_its_gradients_equal_the_plain_ones(dtype, monkeypatch):
    monkeypatch.setattr("train.objectives.next_token.SLICE_LOGITS", 1)
    torch.manual_seed(0)
    hidden = torch.randn(150, 32).to(dtype)
    weight = torch.randn(128, 32)
    targets = torch.randint(0, 70, (150,))
    targets[::7] = -100

    def plain(h, w):
        logits = LOGIT_CAP * torch.tanh((h @ w.to(h.dtype).T).float()[:, :70] / LOGIT_CAP)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    results = []
    for loss in (lambda h, w: capped_cross_entropy(h, w, targets, 70), plain):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        found = loss(h, w)
        total, units = found if isinstance(found, tuple) else (found.sum(), found.detach())
        (total / 3).backward()
        results.append((total.float().detach(), units, h.grad.float(), w.grad))
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def _rows(random):
    tokens = torch.randint(0, 70, (4, 16), generator=random)
    targets = torch.randint(0, 70, (4, 16), generator=random)
    targets[0, 3:] = -100
    sources = torch.randint(0, 3, (4, 16), generator=random)
    return Rows(
        tokens=tokens, targets=targets, sources=sources, documents=sources, keys=torch.zeros(4, 3)
    )


def test_loss_per_source_sums_to_the_total_and_starts_at_chance():
    rows = _rows(torch.Generator().manual_seed(1))
    model = Model(SPEC)
    loss = model(rows)
    sums = loss.per_source(rows.sources, 3, rows.targets >= 0)
    torch.testing.assert_close(sums[0].sum(), loss.total.detach(), rtol=1e-6, atol=0)
    assert int(sums[1].sum()) == int(loss.count) == int((rows.targets >= 0).sum())
    assert math.isclose(loss.total.item() / int(loss.count), math.log(70), rel_tol=1e-5)
    assert math.isclose(model.objective.chance(), math.log(70))


def test_a_later_token_never_changes_an_earlier_prediction():
    model = Model(SPEC)
    torch.manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.randint(0, 70, (2, 16))
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 70
    with torch.no_grad():
        a, b = model.backbone(tokens), model.backbone(changed)
    assert torch.equal(a[:, :9], b[:, :9])
    assert not torch.allclose(a[:, 9:], b[:, 9:])

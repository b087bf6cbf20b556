"""The bigram, the loss and the comparison: laws, and equality with slow twins."""

import itertools
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
from train.objectives import Rows, find, names
from train.objectives.next_token import LOGIT_CAP, capped_cross_entropy

SPEC = ModelSpec(objective="next_token", vocab_size=70, depth=2, width=32, heads=2, row_tokens=16)


def _twin(documents, size):
    """The same formula with dictionaries."""
    pairs = Counter(p for d in documents for p in itertools.pairwise(d))

    def discount(counts):
        once, twice = (sum(c == n for c in counts) for n in (1, 2))
        return once / (once + 2 * twice) if once else 0.5

    left = Counter(w for _, w in pairs)
    d, e = discount(pairs.values()), discount(left.values())

    def lower(w):
        return max(left[w] - e, 0) / len(pairs) + e * len(left) / len(pairs) / size

    def probability(v, w):
        seen = {x: c for (u, x), c in pairs.items() if u == v}
        if not seen:
            return lower(w)
        total = sum(seen.values())
        return max(seen.get(w, 0) - d, 0) / total + d * len(seen) / total * lower(w)

    return probability


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=30), min_size=1, max_size=5))
def test_the_bigram_sums_to_one_and_equals_a_slow_twin(documents):
    size = 10
    bigram = KneserNey.fit((np.array(d) for d in documents), vocab_size=size)
    contexts, targets = np.divmod(np.arange(size * size), size)
    p = np.exp(-bigram.nats(contexts, targets)).reshape(size, size)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    twin = _twin(documents, size)
    slow = [[twin(v, w) for w in range(size)] for v in range(size)]
    np.testing.assert_allclose(p, slow, rtol=1e-12)
    assert math.isclose(np.exp(bigram.unigram().log_p).sum(), 1)


def test_counting_in_blocks_gives_the_same_bigram(monkeypatch):
    random = np.random.default_rng(1)
    documents = [random.integers(0, 50, 40).astype(np.uint16) for _ in range(30)]
    whole = KneserNey.fit(iter(documents), vocab_size=50)
    monkeypatch.setattr("train.baselines.BLOCK_TOKENS", 100)
    parts = KneserNey.fit(iter(documents), vocab_size=50)
    assert np.array_equal(whole.codes, parts.codes)
    assert np.array_equal(whole.counts, parts.counts)


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


def test_every_objective_keeps_the_contract():
    assert names() == ["next_token"]
    for name in names():
        kind = find(name)
        assert "tokens" in kind.needs.names
        assert kind.batch_coupled in (True, False)

"""The contest: the same targets for all, fair windows, and differences that are paired."""

import json
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from train.__main__ import main as trainer
from train.compressors import COMPRESSORS, GROUPS, sizes
from train.contest import alone, contest, jackknife, windows
from train.data import Plan, Reader
from train.evaluate import fit, glance, measure, sums, thinned
from train.handoff import hand_off
from train.model import Model, ModelSpec
from train.rows import Store
from train.runfile import load_run
from train.tasks import NEEDED

LINEAGE = {"steps": 1, "rows": 3, "train_sources": {}, "held_out": None}


@pytest.fixture
def trained(make_run):
    """A run whose model is random but hands off."""

    def make(**config):
        path = make_run(**config)
        run = load_run(path)
        torch.manual_seed(4)
        model = Model(
            ModelSpec(vocab_size=70, depth=1, width=32, heads=2, row_tokens=run.row_tokens)
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        hand_off(run, model, LINEAGE)
        return path, run, model.eval()

    return make


@given(st.integers(1, 200), st.integers(1, 40))
def test_windows_score_every_target_once_with_half_a_row_before_it(num_targets, longest):
    found = windows(num_targets, longest)
    scored = [place for _, first, end in found for place in range(first, end)]
    assert scored == list(range(num_targets))
    for start, first, end in found:
        assert end - start <= longest
        assert start == 0 or first - start >= longest // 2


def test_a_document_scored_alone_has_the_loss_of_its_windows_one_by_one(trained):
    _, run, model = trained()
    shards = Store(run).shards
    ordinals = np.array([5, 17, 40, 3])
    found = alone(model, shards, ordinals)
    for ordinal, nats in zip(ordinals.tolist(), found, strict=True):
        text = shards.tokens(ordinal).astype(np.int64)
        slow = 0.0
        for start, first, end in windows(len(text) - 1, run.row_tokens):
            for place in range(first, end):
                row = torch.from_numpy(text[None, start : place + 1])
                with torch.no_grad():
                    logits = model.objective.logits(model.backbone, row)[0]
                slow -= logits.double().log_softmax(-1)[text[place + 1]].item()
        assert math.isclose(nats, slow, rel_tol=1e-4)


def test_all_scorers_answer_for_the_same_targets_and_a_glance_splits_them_by_source(trained):
    _, run, model = trained()
    store = Store(run)
    plan = store.plan("validation")
    reader = Reader(store.shards, row_tokens=run.row_tokens, pad=2, vocab_size=70, ends=(0, 1))
    device = torch.device("cpu")
    looked = glance(model, reader, plan, device, plan.num_rows, num_sources=3)
    unigram = fit(store.shards, [plan], vocab_size=70, max_tokens=10**6, order=1)
    scored = measure(model, reader, plan, device, baselines={"unigram": unigram}, max_rows=10**6)
    assert looked.shape == (2, 3)
    for code in range(3):
        mine = scored.sources == code
        assert looked[1, code] == scored.targets[mine].sum()
        assert math.isclose(looked[0, code], scored.nats["model"][mine].sum(), rel_tol=1e-6)
    apart = [sums(unigram, store.shards, np.array([i]))[0] for i in scored.ordinals]
    np.testing.assert_allclose(scored.nats["unigram"], apart, rtol=1e-12)


@pytest.mark.parametrize("num_rows", [2, 11])
def test_ranks_share_a_glance_and_call_the_model_equally_often(trained, num_rows):
    _, run, model = trained()
    store = Store(run)
    reader = Reader(store.shards, row_tokens=run.row_tokens, pad=2, vocab_size=70, ends=(0, 1))
    plan, device = store.plan("validation"), torch.device("cpu")
    alone = glance(model, reader, plan, device, num_rows, num_sources=3)
    parts, calls = [], []
    model.register_forward_hook(lambda _, rows, loss: calls.append(len(rows[0].tokens)))
    for rank in range(4):
        share = SimpleNamespace(rank=rank, world=4, sum_=lambda sums: sums)
        parts.append(glance(model, reader, plan, device, num_rows, num_sources=3, ranks=share))
    torch.testing.assert_close(sum(parts), alone, rtol=1e-6, atol=1e-6)
    assert len(calls) == 4
    assert len({*calls}) == 1


def test_a_glance_at_a_plan_without_rows_is_empty(trained):
    _, run, model = trained()
    store = Store(run)
    reader = Reader(store.shards, row_tokens=run.row_tokens, pad=2, vocab_size=70)
    none = Plan([], store.shards, num_sources=3)
    assert not glance(model, reader, none, torch.device("cpu"), 4, num_sources=3).any()


def test_the_counting_models_see_every_phase_and_no_more_text_than_asked(trained):
    _, run, _ = trained()
    store = Store(run)
    both = [store.plan("train"), store.plan("validation")]
    one = fit(store.shards, both[:1], vocab_size=70, max_tokens=10**6, order=2)
    two = fit(store.shards, both, vocab_size=70, max_tokens=10**6, order=2)
    held_out = both[1].documents()
    assert sums(two, store.shards, held_out).sum() < sums(one, store.shards, held_out).sum()
    some = thinned(store.shards, np.arange(60), 700)
    assert 500 <= store.shards.lengths[some].sum() <= 900
    assert len(thinned(store.shards, np.arange(60), 10**6)) == 60


def test_the_jackknife_of_a_sum_of_documents_is_the_ratio_estimators_error():
    random = np.random.default_rng(5)
    num_bytes = random.integers(50, 500, 4000)
    groups = np.arange(4000) % GROUPS
    bits = num_bytes * 2.0 + random.normal(0, 60, 4000)
    per_document = num_bytes * 2.5
    stream = np.array(
        [per_document.sum(), *(per_document[groups != g].sum() for g in range(GROUPS))]
    )
    difference, error = jackknife(bits, num_bytes, groups, stream)
    assert math.isclose(difference, -0.5, abs_tol=0.02)
    exact = 60 * math.sqrt(4000) / num_bytes.sum()
    assert 0.4 * exact < error < 2 * exact
    assert jackknife(bits[:1], num_bytes[:1], groups[:1], stream)[1] is None


def test_compressors_get_a_source_in_one_stream_and_leave_out_each_group():
    texts = [[b"the same words " * 9] * 12, [], [bytes(range(200))]]
    found = sizes(texts)
    for name, compress in COMPRESSORS.items():
        assert found[name].shape == (3, 1 + GROUPS)
        assert found[name][0, 0] == len(compress(b"".join(texts[0])))
        assert found[name][0, 3] == len(
            compress(b"".join(t for i, t in enumerate(texts[0]) if i % 8 != 2))
        )
        assert not found[name][1].any()
        assert found[name][2, 1] == 0, "nothing is left without the only document"


def test_the_command_saves_its_result_beside_the_run_and_in_the_card(trained, capsys):
    path, run, model = trained(threads=1)
    assert trainer(["evaluate", str(path), "--json"]) == 0
    *told, line = capsys.readouterr().out.splitlines()
    assert any("does not give back a text's own bytes" in text for text in told)
    result = json.loads(line)
    assert json.loads((path.parent / "evaluation-validation.json").read_text()) == result
    assert result["scorers"] == ["model", "5-gram", "bigram", "unigram"]
    whole, parts = result["all"], result["sources"].values()
    assert whole["documents"] == sum(part["documents"] for part in parts) == 12
    bits = [part["model"]["bits_per_byte"] * part["bytes"] for part in parts]
    assert math.isclose(whole["model"]["bits_per_byte"] * whole["bytes"], sum(bits))
    store = Store(run)
    nats = alone(model, store.shards, store.plan("validation").documents()).sum()
    assert math.isclose(sum(bits) * math.log(2), nats, rel_tol=1e-6)
    for scorer in ("5-gram", "unigram"):
        lead = whole["model"]["bits_per_byte"] - whole[scorer]["bits_per_byte"]
        assert math.isclose(whole[scorer]["difference"], lead, abs_tol=1e-12)
        assert whole[scorer]["standard_error"] > 0
    card = (path.parent / "model/README.md").read_text()
    assert f"{whole['5-gram']['bits_per_byte']:.3f}" in card
    assert "modified Kneser-Ney" in card


def test_fewer_tokens_are_scored_evenly_and_every_source_stays(trained):
    _, run, _ = trained()
    few = contest(run, max_tokens=100, tell=lambda _: None)
    assert few["all"]["documents"] < few["documents_planned"]
    assert set(few["sources"]) == {"books", "code", "web"}
    assert few["all"]["model"]["bits_per_byte"] > 0


def test_another_model_is_measured_and_nothing_of_the_run_changes(trained, tmp_path, capsys):
    path, _, _ = trained()
    (path.parent / "model").rename(tmp_path / "elsewhere")
    before = sorted(p.name for p in path.parent.iterdir())
    assert trainer(["evaluate", str(path), "--model", str(tmp_path / "elsewhere")]) == 0
    assert "5-gram: " in capsys.readouterr().out
    assert sorted(p.name for p in path.parent.iterdir()) == before
    assert trainer(["evaluate", str(path)]) == 2
    assert "has no model yet" in capsys.readouterr().err


def test_a_split_that_is_not_there_is_refused_with_those_that_are(trained):
    _, run, _ = trained()
    with pytest.raises(InputError, match="train, validation"):
        contest(run, "tset", tell=lambda _: None)


FAKE = """
def simple_evaluate(**given):
    if given["limit"] == 13:
        raise ConnectionError("Couldn't reach 'x/y' on the Hub\\nmore")
    value = float(given["model_args"]["add_bos_token"])
    return {"results": {t: {"alias": t, "acc,none": value} for t in given["tasks"]}}
"""


def test_tasks_of_lm_eval_run_where_it_is_installed_and_are_refused_where_not(
    trained, tmp_path, monkeypatch, capsys
):
    path, _, _ = trained()
    ask = ["evaluate", str(path), "--json", "--tasks", "colours"]
    monkeypatch.setitem(NEEDED, "lm_eval_absent", "lm-eval")
    assert trainer(ask) == 2
    assert "pip install 'lm-eval[hf]'" in capsys.readouterr().err
    monkeypatch.setattr("train.tasks.NEEDED", {"lm_eval": "lm-eval"})
    package = tmp_path / "fake/lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    (package / "tasks.py").write_text(
        "class TaskManager:\n    all_tasks = ['colours']\n    def __init__(self, **_): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "fake")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert trainer(ask) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tasks"] == {
        "colours": {"acc,none": 1.0}
    }
    assert trainer([*ask[:-1], "colour"]) == 2
    assert "Did you mean 'colours'?" in capsys.readouterr().err
    assert trainer([*ask, "--limit", "13"]) == 2
    assert "Couldn't reach 'x/y' on the Hub\nNothing is fetched here" in capsys.readouterr().err
    for name in ("lm_eval", "lm_eval.tasks"):
        sys.modules.pop(name, None)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.pop(name, None)

"""Alarms: each fires on what it is for, none on a healthy run however noisy, and words help."""

import json

import numpy as np
import pytest
import torch

import train
from train.alarms import Alarm, Alarms, Seen
from train.config import TrainConfig
from train.objectives.next_token import NextToken

CHANCE = 9.0


def _alarms(steps=2000, phases=(), **settings):
    return Alarms(TrainConfig(**settings), chance=CHANCE, steps=steps, phases=phases)


def _see(alarms, losses, *, first=1, skipped=None, every=10, **times):
    """Show losses in pieces, as a run does; return what was said."""
    losses = np.asarray(losses, dtype=float)
    skipped = np.zeros(len(losses), bool) if skipped is None else np.asarray(skipped)
    said = []
    for start in range(0, len(losses), every):
        part = slice(start, start + every)
        seen = Seen(first=first + start, losses=losses[part], skipped=skipped[part], **times)
        said.append(alarms.see(seen))
    return [text for text in said if text]


def _told(first, losses):
    return [(step, loss, False) for step, loss in enumerate(losses, first)]


def _curve(steps, noise, seed=0):
    """A healthy run: from chance, a power law down to about 3 nats, heavy-tailed noise."""
    random = np.random.default_rng(seed)
    smooth = 3 + 6 * (1 + np.arange(steps) / 20) ** -0.5
    return smooth + noise * random.standard_t(3, steps).clip(-6, 6)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.4])
def test_healthy_curves_set_off_nothing(noise):
    for seed in range(2):
        assert _see(_alarms(steps=1000), _curve(1000, noise, seed)) == []


def test_short_spikes_a_slow_rise_in_the_warm_up_and_a_new_mixture_are_healthy():
    losses = _curve(2000, 0.05)
    losses[500:560] += 4  # comes back within spike_steps
    losses[900] = 50
    losses[1200:] += 1.5  # the mixture changes at step 1200
    assert _see(_alarms(phases=[1200]), losses) == []
    warming = _curve(2000, 0.05)
    warming[:90] += np.linspace(-3, 2, 90)  # going on from weights: rates rise again
    assert _see(_alarms(), warming) == []


@pytest.mark.parametrize("jump", [1.0, 5.0])
def test_a_loss_that_jumps_and_stays_there_stops_the_run(jump):
    losses = _curve(2000, 0.05)
    losses[1000:] += jump
    with pytest.raises(
        Alarm, match=r"step 1\d\d\d: the loss jumped from 3\.\d+ to .* 100 steps"
    ) as told:
        _see(_alarms(), losses)
    assert 1090 <= int(str(told.value).split()[1].rstrip(":")) <= 1100
    assert "alarms: false" in str(told.value)
    assert not told.value.sound


def test_a_loss_at_chance_long_after_the_warm_up_stops_the_run():
    stuck = np.full(2000, CHANCE) + np.random.default_rng(1).normal(0, 0.3, 2000)
    with pytest.raises(Alarm, match="step 300: the loss is .* knowing nothing is 9.000"):
        _see(_alarms(), stuck)
    _see(_alarms(steps=180, warmup_fraction=0.0), stuck[:180])  # too early to say
    _see(_alarms(chance_margin=0.0), stuck[:400] - 0.5)


def test_too_many_steps_that_are_not_finite_stop_the_run_in_a_row_or_in_all():
    losses = _curve(2000, 0.05)
    skipped = np.zeros(2000, bool)
    skipped[300:310] = True
    losses[305:310] = np.nan
    assert _see(_alarms(), losses, skipped=skipped) == []
    skipped[310] = True
    with pytest.raises(Alarm, match="step 311: gradients are not finite in 11 in a row"):
        _see(_alarms(), losses, skipped=skipped)
    often = np.arange(2000) % 7 == 0
    with pytest.raises(Alarm, match="101 in all"):
        _see(_alarms(), _curve(2000, 0.05), skipped=often)
    resumed = _alarms()
    resumed.recall(_told(1, losses[:100]), 100)
    with pytest.raises(Alarm, match="101 in all"):
        _see(resumed, losses[100:], first=101, skipped=often[100:] | True)
    unguarded = losses.copy()
    with pytest.raises(Alarm, match="the loss is not finite at step 306"):
        _see(_alarms(), unguarded)


def test_waiting_for_rows_is_told_once_and_stops_a_run_only_after_minutes():
    losses = _curve(2000, 0.05)
    alarms = _alarms()
    assert _see(alarms, losses[:100], seconds=20.0, waited=2.0) == []
    said = _see(alarms, losses[100:300], first=101, seconds=20.0, waited=12.0)
    assert len(said) == 1
    assert "step 110: 60% of the time goes into waiting for rows" in said[0]
    with pytest.raises(Alarm, match="step 610: 95% of the time .* for 10 minutes") as told:
        _see(alarms, losses[300:], first=301, seconds=20.0, waited=19.0)
    assert told.value.sound


def test_a_restart_remembers_what_was_usual():
    losses = _curve(1000, 0.05)
    alarms = _alarms()
    alarms.recall(_told(501, losses[500:]), 0)
    with pytest.raises(Alarm, match="the loss jumped"):
        _see(alarms, losses[:120] * 0 + 8, first=1001)


def _lines(path):
    return list(map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines()))


def test_a_run_whose_loss_stays_at_chance_stops_with_everything_on_the_disk(make_run, monkeypatch):
    monkeypatch.setattr(Alarms, "CHANCE_STEPS", 20)
    monkeypatch.setattr(Alarms, "CHANCE_MEAN", 10)
    path = make_run(steps=28, learning_rate=1e-9, head_lr=1e-9, embedding_lr=1e-9, muon_lr=1e-9)
    with pytest.raises(Alarm, match="nothing was learnt"):
        train.run(path, lambda *_: None)
    last = _lines(path)[-1]["step"]
    assert last == 24
    files = sorted((path.parent / "feedback").iterdir())
    assert files[-1].name.endswith(f"-{last:09d}.arrow")
    assert (path.parent / "checkpoints").exists()
    content = json.loads(path.read_text())
    content["config"]["alarms"] = False
    path.write_text(json.dumps(content))
    assert train.run(path, lambda *_: None)["steps"] == 28


def test_one_step_that_is_not_finite_is_a_note_and_many_stop_the_run(make_run, monkeypatch, capsys):
    real = NextToken.forward
    bad = {4}
    calls = iter(range(10_000))

    def forward(self, backbone, batch):
        loss = real(self, backbone, batch)
        if torch.is_grad_enabled() and next(calls) in bad:
            loss.total.mul_(torch.tensor(float("nan")))
        return loss

    monkeypatch.setattr(NextToken, "forward", forward)
    path = make_run("a")
    result = train.run(path, lambda *_: None)
    out = capsys.readouterr().out
    assert "step 5: the gradients were not finite, so the update was left out (1 so far)" in out
    assert _lines(path)[4]["loss"] is None
    assert result["steps"] == 12
    bad |= set(range(10_000))
    with pytest.raises(Alarm, match="step 3: gradients are not finite in 3 in a row"):
        train.run(make_run("b", max_skipped=2), lambda *_: None)


def test_a_run_that_starves_keeps_its_weights_before_it_stops(make_run, monkeypatch):
    monkeypatch.setattr(Alarms, "STARVED_SECONDS", 0.0)
    path = make_run(max_starved=1e-12)
    with pytest.raises(Alarm, match="step 4: .* waiting for rows"):
        train.run(path, lambda *_: None)
    assert [p.name for p in (path.parent / "checkpoints").iterdir()] == ["step-000000004"]
    assert "waiting for rows" in _lines(path)[-1]["alarm"]

"""Pretext tasks of sounds: against slow twins, alone and in company, and when they collapse."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import torch

from curate.corpus.errors import InputError
from train import keyed
from train.model import Model, ModelSpec
from train.models.frames import (
    FLOOR,
    LEAST_VARIANCE,
    Convolutions,
    Frames,
    deviation,
    mel_points,
)
from train.objectives import Rows, find
from train.objectives.masked_frames import spans

MEDIA = {"kind": "audio", "sample_rate": 8000, "hop": 80, "window": 200, "mels": 12, "frames": 60}
TASKS = ("next_frame", "masked_frames", "contrastive_predictive", "wav2vec")
LENGTHS = (3210, 1680, 801, 80)


def _rows(lengths=LENGTHS, spare=0, first=0):
    """Sounds of noise whose loudness wanders, filled up with zeros and `spare` more of them."""
    size = -(-max(lengths) // 80) * 80 + spare
    samples = np.zeros((len(lengths), size), np.int16)
    for row, length in enumerate(lengths):
        random = np.random.default_rng(first + row)
        loud = 3000 * np.exp(np.repeat(random.normal(size=length // 80 + 1), 80)[:length])
        samples[row, :length] = np.clip(random.normal(size=length) * loud, -32768, 32767)
    zeros = torch.zeros(len(lengths), 1, dtype=torch.int64)
    keys = torch.tensor([[7, 1, first + row] for row in range(len(lengths))])
    return Rows(
        tokens=zeros,
        targets=zeros,
        sources=zeros,
        documents=zeros,
        keys=keys,
        samples=torch.from_numpy(samples),
        lengths=torch.tensor(lengths),
    )


def _model(objective, **task):
    """A model whose every weight matters: those that start at zero are drawn too."""
    causal = find(objective).causal
    spec = ModelSpec(
        objective=objective,
        vocab_size=2,
        depth=1,
        width=32,
        heads=2,
        row_tokens=60,
        causal=causal,
        document_mask=True,
        media=MEDIA,
        task=task,
    )
    torch.manual_seed(3)
    model = Model(spec, attention="dense")
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model.eval()


def _parts(model, rows):
    """Inputs of the loss that the twins share: normalised spectra and outputs, as numpy."""
    batch = model.objective.manufacture(rows)
    stem = model.backbone.stem
    inside = stem.inside(rows.samples, rows.lengths)
    spectra = stem.spectra(rows.samples, rows.lengths)
    return batch, spectra, inside


@pytest.mark.parametrize("mels", [8, 40])
def test_spectra_equal_a_loop_over_frames(mels):
    stem, rows = Frames({**MEDIA, "mels": mels}, 16), _rows()
    logs, spectra = (f(rows.samples, rows.lengths) for f in (stem.log_mels, stem.spectra))
    window = scipy.signal.get_window("hann", 200)
    hertz, points = np.fft.rfftfreq(stem.size, 1 / 8000), mel_points(mels, 4000.0)
    for row, length in enumerate(LENGTHS):
        sound = np.pad(rows.samples[row, :length].numpy() / 32768, (60, 300))
        expected = []
        for frame in range(-(-length // 80)):
            power = np.abs(np.fft.rfft(sound[frame * 80 :][:200] * window, stem.size)) ** 2
            energies = [power @ np.interp(hertz, points[m : m + 3], [0, 1, 0]) for m in range(mels)]
            expected.append(np.log(np.array(energies) + FLOOR))
        expected, end = np.array(expected), len(expected)
        np.testing.assert_allclose(logs[row, :end], expected, rtol=1e-4, atol=1e-3)
        expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + LEAST_VARIANCE)
        np.testing.assert_allclose(spectra[row, :end], expected, rtol=1e-3, atol=1e-3)
        assert not logs[row, end:].any()
        assert not spectra[row, end:].any()


def test_silence_and_a_single_frame_are_finite():
    stem = Frames(MEDIA, 16)
    assert stem(torch.zeros(2, 160, dtype=torch.int16), torch.tensor([160, 1])).isfinite().all()


def test_more_mels_than_frequencies_are_refused_and_a_finer_transform_is_taken_before():
    assert Frames({**MEDIA, "mels": 80, "window": 100}, 16).filters.any(0).all()
    with pytest.raises(InputError, match="too many"):
        Frames({**MEDIA, "mels": 1500, "window": 50}, 16)


@pytest.mark.parametrize("objective", TASKS)
def test_a_sound_is_told_the_same_alone_in_a_batch_and_before_more_padding(objective):
    model = _model(objective)
    together, longer = model(_rows()), model(_rows(spare=800))
    torch.testing.assert_close(together.units, longer.units, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.counted, longer.counted)
    for row, length in enumerate(LENGTHS):
        alone = model(_rows((length,), first=row))
        torch.testing.assert_close(alone.units[0], together.units[row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.counted[0], together.counted[row])
    whole, padded = (model.objective.encode(model.backbone, _rows(spare=s)) for s in (0, 800))
    torch.testing.assert_close(whole, padded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", TASKS)
def test_every_weight_of_a_task_learns_and_a_withdrawn_sound_teaches_nothing(objective):
    model, rows = _model(objective).train(), _rows()
    loss = model(rows)
    loss.total.backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert unused <= {"backbone.stem.matrix.weight", "backbone.stem.bias"}
    assert not unused or objective == "wav2vec"
    assert loss.units.shape == loss.counted.shape == (4, 1)
    withdrawn = model(replace(rows, targets=torch.tensor([[0], [-100], [-100], [-100]])))
    assert not withdrawn.units[1:].any()
    assert not withdrawn.counted[1:].any()
    torch.testing.assert_close(withdrawn.units[0], loss.units[0])


def test_next_frame_equals_a_loop():
    model, rows = _model("next_frame", steps_ahead=4), _rows()
    loss = model(rows)
    _, spectra, inside = _parts(model, rows)
    guesses = model.objective.predictions(model.backbone, rows).detach()
    copied = tries = 0
    for row in range(4):
        errors = [
            float((guesses[row, t] - spectra[row, t + 4]).abs().mean())
            for t in range(int(inside[row].sum()) - 4)
        ]
        assert loss.units[row].item() == pytest.approx(sum(errors), rel=1e-4)
        assert int(loss.counted[row]) == len(errors)
        tries += len(errors)
        copied += sum(
            float((spectra[row, t] - spectra[row, t + 4]).abs().mean()) for t in range(len(errors))
        )
    assert loss.metrics["copied"].tolist() == pytest.approx([copied, tries], rel=1e-4)


@pytest.mark.parametrize("variant", ["frames", "bands"])
def test_masked_frames_hide_what_they_say_and_count_only_that(variant):
    model, rows = _model("masked_frames", variant=variant), _rows((1680,) * 30)
    batch, spectra, _ = _parts(model, rows)
    seen, hidden = model.objective.hide(spectra, batch.more)
    ways = set()
    for row in range(30):
        chosen, band = batch.more["chosen"][row], batch.more["band"][row]
        assert bool(band.any()) <= (variant == "bands")
        assert (hidden[row] == (chosen[:, None] | band)).all()
        assert (seen[row] == spectra[row])[~hidden[row]].all()
        inner = hidden[row] & ~band
        if batch.more["zeroed"][row]:
            ways.add("zeroed")
            assert not seen[row][hidden[row]].any()
        elif batch.more["replaced"][row]:
            ways.add("replaced")
            elsewhere = spectra[row][batch.more["others"][row]]
            assert (seen[row] == elsewhere)[inner].all()
        else:
            ways.add("kept")
            assert (seen[row] == spectra[row])[inner].all()
    assert ways == {"zeroed", "replaced", "kept"}
    loss = model(rows)
    there = model.backbone.stem.inside(rows.samples, rows.lengths)
    features = model.backbone(model.backbone.stem.project(seen), there.long())
    errors = (model.objective.head(features) - spectra).abs() * hidden
    torch.testing.assert_close(loss.total, errors.sum() / MEDIA["mels"])
    assert float(loss.count) == pytest.approx(float(hidden.sum()) / MEDIA["mels"])


def test_spans_cover_about_the_rate_and_are_whole_but_at_the_end():
    keys = torch.tensor([[3, 0, row] for row in range(400)])
    there = torch.arange(200) < torch.tensor([200] * 200 + [50] * 200)[:, None]
    chosen = spans(keys, there, 0.15, 7)
    assert not (chosen & ~there).any()
    assert chosen[:200].float().mean() == pytest.approx(0.14, abs=0.01)
    for row in range(400):
        end = int(there[row].sum())
        edges = np.flatnonzero(np.diff(np.pad(chosen[row, :end].numpy().astype(int), 1)))
        for first, stop in edges.reshape(-1, 2):
            assert stop - first >= 7 or stop == end


def _twin(right, wrong):
    """-ln softmax of the first among all, in float64."""
    scores = np.array([right, *wrong], dtype=np.float64)
    top = scores.max()
    return top + math.log(np.exp(scores - top).sum()) - scores[0]


def test_contrastive_predictive_coding_equals_a_loop_without_equal_negatives():
    model, rows = (
        _model("contrastive_predictive", steps_ahead=3, negatives=4, projection=8),
        _rows(),
    )
    rows.samples[1, 480:1200] = 0  # frames of digital silence are all equal
    objective, loss = model.objective, model(rows)
    batch, spectra, inside = _parts(model, rows)
    hidden = model.backbone(model.backbone.stem.project(spectra), inside.long())
    codes = objective.code(torch.nn.functional.gelu(objective.widen(spectra))).detach()
    maps = objective.maps(hidden).detach().unflatten(-1, (3, 8))
    left_out, hits = 0, np.zeros(3)
    for row in range(4):
        end, total, count = int(inside[row].sum()), 0.0, 0
        for t in range(end):
            for k in range(3):
                if t + k + 1 >= end or end == 1:
                    continue
                others = batch.more["negatives"][row, t, k].tolist()
                assert all(other != t + k + 1 and other < end for other in others)
                right = spectra[row, t + k + 1]
                kept = [s for s in others if not torch.equal(spectra[row, s], right)]
                left_out += len(others) - len(kept)
                if not kept:
                    continue
                wrong = [float(maps[row, t, k] @ codes[row, s]) / math.sqrt(8) for s in kept]
                score = float(maps[row, t, k] @ codes[row, t + k + 1]) / math.sqrt(8)
                total, count = total + _twin(score, wrong), count + 1
                hits[k] += all(score > other for other in wrong)
        assert loss.units[row].item() == pytest.approx(total, rel=1e-4, abs=1e-5)
        assert int(loss.counted[row]) == count
    assert left_out
    assert [float(loss.metrics[f"accuracy_{k}"][0]) for k in (1, 2, 3)] == hits.tolist()
    assert objective.chance() == pytest.approx(math.log(5))


def test_wav2vec_equals_a_loop_and_its_perplexity_is_of_all_rows():
    model, rows = _model("wav2vec", negatives=5, codes=4, projection=8), _rows()
    objective, loss = model.objective, model(rows)
    batch = objective.manufacture(rows)
    features = objective.features(rows.samples, rows.lengths)
    normed = torch.nn.functional.layer_norm(features, features.shape[-1:])
    logits = objective.choose(normed).unflatten(-1, (2, 4))
    picked = logits.argmax(-1)
    entries = torch.cat([objective.book[g][picked[..., g]] for g in range(2)], -1)
    answers = objective.answer(entries).detach()
    inside = torch.arange(features.size(1)) * 80 < rows.lengths[:, None]
    hidden = batch.more["hidden"]
    seen = torch.where(
        hidden[:, :, None], objective.hidden, objective.inputs(normed) + objective.bias
    )
    guesses = objective.guess(model.backbone(seen, inside.long())).detach()
    used, count, penalty = torch.zeros(2, 4), 0, 0.0
    for row in range(4):
        places, total = np.flatnonzero(hidden[row]).tolist(), 0.0
        for t in places if len(places) > 1 else []:
            others = batch.more["negatives"][row, t].tolist()
            assert set(others) <= set(places) - {t}
            kept = [s for s in others if not torch.equal(picked[row, s], picked[row, t])]
            nearness = [
                float(torch.cosine_similarity(guesses[row, t], answers[row, s], dim=0)) / 0.1
                for s in [t, *kept]
            ]
            total += _twin(nearness[0], nearness[1:])
            used += logits[row, t].softmax(-1).detach()
            count += 1
            penalty += float(features[row][inside[row]].detach().square().mean())
        assert loss.units[row].item() == pytest.approx(total, rel=1e-4, abs=1e-5)
    shares = used / count
    perplexity = (-(shares * shares.log()).sum(-1)).exp()
    extra = 0.1 * count * (1 - float(perplexity.sum()) / 8) + 10 * penalty
    assert float(loss.total.detach()) == pytest.approx(float(loss.units.sum()) + extra, rel=1e-4)
    assert int(loss.count) == count
    parts = [
        objective.embed(model.backbone, objective.manufacture(_rows((length,), first=row)))
        for row, length in enumerate(LENGTHS)
    ]
    split = objective.couple(torch.cat(parts))
    assert float(split.total.detach()) == pytest.approx(float(loss.total.detach()), rel=1e-4)


@pytest.mark.parametrize("drawn", [0.0, 1 - 2.0**-24])
def test_the_noise_of_the_quantiser_is_finite_whatever_is_drawn(drawn, monkeypatch):
    model, real = _model("wav2vec").train(), keyed.uniform

    def uniform(keys, name, *shape):
        found = real(keys, name, *shape)
        return found.masked_fill(found < 0.5, drawn) if name == "gumbel" else found

    monkeypatch.setattr(keyed, "uniform", uniform)
    loss = model(_rows())
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_convolutions_equal_torchs_on_a_normalised_wave():
    convolutions = Convolutions(80, 16)
    samples = _rows((1600,)).samples
    x = samples.double() - samples.double().mean()
    x = (x / (x.square().mean() + 1).sqrt()).float()[:, None]
    for layer, stride in zip(convolutions.layers, convolutions.strides, strict=True):
        kernel = layer.weight.view(16, x.size(1), 2 * stride)
        padded = torch.nn.functional.pad(x, (stride // 2, stride - stride // 2))
        x = torch.nn.functional.conv1d(padded, kernel, stride=stride)
        normed = (x - x.mean(1, keepdim=True)) / (
            x.var(1, keepdim=True, correction=0) + 1e-5
        ).sqrt()
        x = torch.nn.functional.gelu(normed)
    torch.testing.assert_close(convolutions(samples, None), 0.1 * x.mT, rtol=1e-4, atol=1e-4)


def test_the_quantiser_cools_and_its_state_is_kept():
    model = _model("wav2vec")
    model.after_step(100, 100)
    assert float(model.state_dict()["objective.tau"]) == pytest.approx(0.5)
    model.after_step(50, 100)
    assert float(model.objective.tau) == pytest.approx(1.0)


@pytest.mark.parametrize("objective", TASKS)
def test_features_that_collapse_fall_below_the_floors(objective):
    model = _model(objective)
    model(_rows())
    floors = model.objective.floors
    healthy = model.objective.health()
    assert set(floors) <= set(healthy)
    assert all(healthy[name] > floor for name, floor in floors.items()), healthy
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0 if "choose" not in name else 1)
        if objective == "wav2vec":
            model.objective.choose.weight.zero_()
            model.objective.choose.weight[::4] = 40.0
    model(_rows())
    collapsed = model.objective.health()
    assert any(collapsed[name] < floor for name, floor in floors.items()), collapsed


def test_a_deviation_is_of_the_frames_that_are_there():
    features, there = torch.randn(3, 5, 4), torch.rand(3, 5) < 0.6
    expected = features[there].std(0, correction=0).mean()
    torch.testing.assert_close(deviation(features, there), expected)

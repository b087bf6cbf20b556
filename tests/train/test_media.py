"""Rows of images, sounds and pairs: what the reader gives, and what a run file may say of them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from curate.corpus.errors import InputError
from train.config import TrainConfig, parts_of
from train.data import Stream
from train.media import MediaReader, checked_media
from train.model import Model, ModelSpec
from train.objectives import Rows, find
from train.parallel import Ranks
from train.rows import open_rows
from train.runfile import load_run
from train.shards import Plan, Shards

RANDOM = np.random.default_rng(1)
PIXELS = RANDOM.integers(0, 255, (9, 3, 8, 8)).astype(np.uint8)
SOUNDS = [RANDOM.integers(-99, 99, 40 * n).astype(np.int16) for n in (1, 3, 9, 2, 30)]
SIZES = {"depth": 1, "width": 32, "heads": 2, "batch_rows": 4, "steps": 2}


def _runs():
    path = Path(__file__).resolve().parents[1] / "bench" / "objectives" / "runs.py"
    spec = importlib.util.spec_from_file_location("media_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runs = _runs()


def _opened(path, columns=("num_bytes",)):
    run = load_run(path, columns=columns)
    shards = Shards(run.shards)
    plans = {k: Plan(v, shards, num_sources=len(run.sources)) for k, v in run.plans.items()}
    vocabulary = {"pad": run.specials.get("pad", 0), "vocab_size": run.vocab_size}
    return run, shards, plans, MediaReader(shards, media=run.media, **vocabulary)


def _sounds(folder, **more):
    return runs.audio_run(folder, SOUNDS, 8000, hop=40, frames=8, **more)


def test_images_come_as_they_were_written(tmp_path):
    path = runs.image_run(tmp_path / "a", PIXELS, held_out=[3], sources=list("aababbaba"))
    run, _, plans, reader = _opened(path)
    rows = reader.rows(plans["train"], np.array([4, 0]), seed=5, epoch=2)
    assert np.array_equal(rows.pixels.numpy(), PIXELS[[5, 0]])
    assert rows.keys.tolist() == [[5, 2, 4], [5, 2, 0]]
    assert rows.documents.tolist() == [[5], [0]]
    assert rows.sources.tolist() == [[1], [0]]
    assert rows.targets.tolist() == [[0], [0]]
    assert rows.tokens.shape == (2, 1)
    assert rows.samples is None
    held = reader.rows(plans["validation"], np.array([0]))
    assert np.array_equal(held.pixels.numpy(), PIXELS[[3]])
    assert run.tokenizer is None
    assert len(reader.rows(plans["train"], np.zeros(0, np.int64)).pixels) == 0


def test_a_long_sound_is_cut_by_its_key_in_training_and_at_its_start_when_measured(tmp_path):
    _, _, plans, reader = _opened(_sounds(tmp_path / "a"))
    rows = reader.rows(plans["train"], np.arange(5))
    assert rows.samples.shape == (5, 320)
    assert rows.lengths.tolist() == [40, 120, 320, 80, 320]
    for row, sound in enumerate(SOUNDS):
        assert np.array_equal(rows.samples[row, : rows.lengths[row]].numpy(), sound[:320])
        assert not rows.samples[row, rows.lengths[row] :].any()
    found = [reader.rows(plans["train"], np.array([4]), seed=1, epoch=e).samples for e in (0, 1, 0)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    starts = [
        i
        for i in range(len(SOUNDS[4]) - 319)
        if np.array_equal(SOUNDS[4][i : i + 320], found[0][0].numpy())
    ]
    assert len(starts) == 1
    among = reader.rows(plans["train"], np.array([0, 4]), seed=1).samples[1:]
    assert torch.equal(among, found[0]), "a crop depends on its own key alone"


def test_captions_are_filled_up_and_cut(tmp_path):
    captions = ["a", "a longer one than there is room for", "", "b", "c"]
    path = runs.pair_run(tmp_path / "a", SOUNDS, captions, rate=8000, hop=40, caption_tokens=10)
    run, shards, plans, reader = _opened(path)
    rows = reader.rows(plans["train"], np.arange(5))
    bos, eos, pad = (run.specials[name] for name in ("bos", "eos", "pad"))
    assert rows.captions.shape == (5, 10)
    assert rows.captions[2].tolist() == [bos, eos] + [pad] * 8
    assert rows.captions[1, [0, 9]].tolist() == [bos, eos]
    assert rows.lengths.tolist() == [len(sound) for sound in SOUNDS], "a pair has all of its sound"
    with pytest.raises(
        InputError, match="token id [0-9]+ in the captions, but the tokenizer has 20 ids"
    ):
        MediaReader(shards, media=run.media, pad=pad, vocab_size=20).rows(
            plans["train"], np.arange(5)
        )


def test_a_withdrawn_document_has_no_target(tmp_path):
    path = runs.image_run(tmp_path / "a", PIXELS)
    _, shards, plans, reader = _opened(path)
    shards.withdrawn[[2, 7]] = True
    rows = reader.rows(plans["train"], np.arange(9))
    assert np.flatnonzero(rows.targets[:, 0].numpy() == -100).tolist() == [2, 7]


def test_the_stream_and_the_store_carry_media_and_split_them(tmp_path):
    path = _sounds(tmp_path / "a", **SIZES)
    run, _, plans, reader = _opened(path)
    stream = Stream(plans, run.phases, reader, seed=run.seed)
    whole = stream.batch(1, 4)
    parts = stream.make(1, 4, Ranks(), micro_rows=3)
    for name in ("samples", "lengths", "keys", "targets"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name)), name
    assert [len(part.samples) for part in parts] == [3, 1]
    block = open_rows(path).batch(4, 8)
    assert np.array_equal(block.samples, whole.samples.numpy())
    with pytest.raises(InputError, match="hold media, not tokens"):
        open_rows(path).tokens("train", [0])


IMAGE = {"kind": "image", "size": 8, "channels": 3, "patch": 4}


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ("images", "its kind is one of image, audio, pair"),
        ({"kind": ["image"]}, "its kind is one of"),
        ({**IMAGE, "patch": 3}, "do not split into patches of 3"),
        ({**IMAGE, "size": 0}, "size 0; give an integer above 0"),
        ({**IMAGE, "channels": True}, "channels True"),
        ({**IMAGE, "channels": None}, "channels None"),
        ({**IMAGE, "size": "8"}, "size '8'"),
        ({"kind": "pair", "of": IMAGE}, "caption_tokens None"),
        ({"kind": "pair", "caption_tokens": 3}, "'of' of a pair: 'media' is None"),
    ],
)
def test_media_that_make_no_sense_are_refused(media, message):
    with pytest.raises(InputError, match=message):
        checked_media(media, "run.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda run: run["media"].update(channels=1), "wants lists of 64 uint8"),
        (lambda run: run.update(media=None), "'tokenizer' is None; a corpus of text wants one"),
        (lambda run: run.update(tokenizer=[]), "has none: null"),
        (lambda run: run.update(row_tokens=0), "at least 1"),
        (
            lambda run: run["config"].update(objective="next_token"),
            r"next_token needs text \(column tokens\); this corpus holds images",
        ),
        (lambda run: run["config"].update(objective="simclr + next_token"), "needs text"),
        (lambda run: run["media"].update(kind="audio"), "has sample_rate None"),
        (lambda run: run["config"].update(batch_rows=1), "train.batch_rows is 1; give 2 or more"),
    ],
)
def test_a_run_of_images_that_does_not_fit_is_refused_in_a_line(edit, message, tmp_path):
    path = runs.image_run(tmp_path / "a", PIXELS, objective="simclr", **SIZES)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        train.run(path, lambda *_: None)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_task_of_images_is_no_task_for_text(make_run):
    with pytest.raises(
        InputError, match=r"simclr needs images \(column pixels\); this corpus holds"
    ):
        train.run(make_run(objective="simclr"))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("masked_tokn", "Did you mean 'masked_token'"),
        ("masked_token +", "give a name, or a mix such as"),
        ("0 * masked_token", "weight of masked_token is '0'"),
        ("-1 * masked_token", "weight of masked_token is '-1'"),
        ("masked_token + 2 * masked_token", "names masked_token twice"),
        ("masked_token * 2", "give a name, or a mix"),
        ("__import__('os') * masked_token", "the weight of masked_token"),
        ("1e999 * masked_token", "the weight of masked_token"),
        ("1e300 * simclr + rotation", "the weight of simclr is '1e300'; give 1e-9 to 1e9"),
    ],
)
def test_an_objective_that_is_none_is_refused(objective, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(objective=objective)


def test_two_tasks_that_couple_rows_do_not_mix():
    assert parts_of("simclr + 2e1*masked_token") == {"simclr": 1.0, "masked_token": 20.0}
    with pytest.raises(InputError, match="a mix has room for one such task"):
        find("simclr + moco")


def test_the_tower_of_sounds_does_not_see_what_is_behind_an_end(tmp_path):
    captions = [f"sound {i}" for i in range(5)]
    path = runs.pair_run(
        tmp_path / "a", SOUNDS, captions, rate=8000, hop=40, mels=8, objective="clip", **SIZES
    )
    run, _, plans, reader = _opened(path)
    shape = {"vocab_size": run.vocab_size, "row_tokens": run.row_tokens, "media": run.media}
    torch.manual_seed(0)
    model = Model(ModelSpec.of(run.config, specials=run.specials, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # branches begin at zero
            parameter.add_(0.1 * torch.randn(parameter.shape))
        rows = reader.rows(plans["train"], np.arange(5))
        whole = model(rows, "features")
        for i, length in enumerate(rows.lengths.tolist()):
            own = {k: v[i : i + 1] for k, v in vars(rows).items() if v is not None}
            alone = Rows(**{**own, "samples": own["samples"][:, :length]})
            torch.testing.assert_close(model(alone, "features")[0], whole[i], rtol=1e-4, atol=1e-5)

"""Rotation, relative patch, masked patches: slow twins, independence, what is refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from curate.corpus.errors import InputError
from train import keyed, probes
from train.model import Model, ModelSpec
from train.objectives import Rows

TASKS = ("rotation", "relative_patch", "masked_patches")


def _rows(count=6, size=16, first=0):
    """Digits, each pixel twice in both directions where the size is 16."""
    images = load_digits().images[first : first + count]
    pixels = torch.from_numpy((images * 15.5).astype(np.uint8))[:, None]
    pixels = pixels.repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)
    pixels = torch.cat([pixels, 255 - pixels], dim=1)  # two channels
    zeros = torch.zeros(count, 1, dtype=torch.int64)
    keys = torch.tensor([[7, 1, first + row] for row in range(count)])
    return Rows(
        tokens=zeros, targets=zeros, sources=zeros, documents=zeros, keys=keys, pixels=pixels
    )


def _model(objective, size=16, patch=2, drawn=True, **task):
    """A model whose every weight matters: those that start at zero are drawn too."""
    spec = ModelSpec(
        objective=objective,
        vocab_size=0,
        depth=1,
        width=32,
        heads=2,
        row_tokens=(size // patch) ** 2,
        causal=False,
        media={"kind": "image", "size": size, "channels": 2, "patch": patch},
        task=task,
    )
    torch.manual_seed(3)
    model = Model(spec, attention="dense")
    with torch.no_grad():
        for parameter in model.parameters():
            if drawn and not parameter.any():
                parameter.normal_(std=0.3)
    return model.eval()


@pytest.mark.parametrize("objective", TASKS)
def test_what_is_made_of_an_image_does_not_depend_on_the_others(objective):
    model = _model(objective)
    together = model(_rows())
    for row in (0, 5):
        alone = model(_rows(1, first=row))
        torch.testing.assert_close(alone.units[0], together.units[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.counted[0], together.counted[row])
    torch.testing.assert_close(together.units.sum(), together.total.float(), rtol=1e-4, atol=1e-4)
    assert int(together.counted.sum()) == int(together.count)


@pytest.mark.parametrize("objective", TASKS)
def test_a_withdrawn_image_has_no_target_and_teaches_nothing(objective):
    model, rows = _model(objective), _rows(2)
    rows.targets[1] = -100
    both, first = model(rows), model(_rows(1))
    assert both.units[1] == 0
    assert both.counted[1] == 0
    torch.testing.assert_close(both.total, first.total, rtol=1e-4, atol=1e-5)
    assert {k: v.shape for k, v in both.metrics.items()} == dict.fromkeys(both.metrics, (2,))


@pytest.mark.parametrize("objective", TASKS)
def test_a_head_of_zeros_scores_what_chance_says(objective):
    model = _model(objective, drawn=False)
    loss = model(_rows())
    assert math.isclose(
        float(loss.total.detach() / loss.count), model.objective.chance(), rel_tol=1e-5
    )


def test_rotation_turns_each_image_in_four_ways_as_numpy_does():
    model, rows = _model("rotation"), _rows(2)
    batch = model.objective.manufacture(rows)
    for i in range(2):
        for turn in range(4):
            expected = np.rot90(rows.pixels[i].numpy(), turn, axes=(1, 2))
            np.testing.assert_array_equal(batch.inputs[i, turn].numpy(), expected)
    loss, logits = model(rows), model.objective.logits(model.backbone, batch.inputs[0])
    right = [int(logits[turn].argmax() == turn) for turn in range(4)]
    alone = model(_rows(1))
    assert [int(alone.metrics[f"turn {turn}"][0]) for turn in range(4)] == right
    assert loss.metrics["accuracy"][1] == 8


@pytest.mark.parametrize("jitter", [0, 1])
def test_tiles_are_cut_inside_their_cells_as_a_loop_cuts_them(jitter):
    model, rows = _model("relative_patch", jitter=jitter), _rows(3)
    task = model.objective
    tiles = task.cut(rows)
    moved = keyed.integers(rows.keys, "jitter", jitter + 1, 9, 2)
    assert jitter == 0 or {*moved.flatten().tolist()} == {0, 1}
    size = task.tile
    assert size == (4, 2)[jitter]
    for i in range(3):
        for cell in range(9):
            y, x = (task.margin + task.step * c for c in divmod(cell, 3))
            y, x = y + int(moved[i, cell, 0]), x + int(moved[i, cell, 1])
            cut = rows.pixels[i, :, y : y + size, x : x + size].numpy() / 255
            assert cut.shape == (2, size, size)
            expected = (cut - cut.mean()) / np.sqrt(cut.var() + 1e-2)
            np.testing.assert_allclose(tiles[i, cell], expected, rtol=1e-4, atol=1e-5)


def test_without_jitter_tiles_touch_and_with_it_they_never_do():
    edges = {}
    for jitter in (0, 1):
        task = _model("relative_patch", jitter=jitter).objective
        # A cell's last pixel, moved as far as it goes, and the next cell's first one.
        edges[jitter] = task.margin + task.step - (task.margin + jitter + task.tile - 1)
    assert edges == {0: 1, 1: 2}


def test_images_too_small_for_tiles_are_refused():
    with pytest.raises(InputError, match="holds no patch of 4"):
        _model("relative_patch", patch=4, jitter=3)


def test_masked_patches_are_restored_as_a_loop_over_patches_says():
    model, rows = _model("masked_patches"), _rows(3)
    task, seen = model.objective, []
    batch = task.manufacture(rows)
    order = batch.more["order"]
    assert task.kept == 16
    told = task.restore(model.backbone, batch.inputs, order)
    loss, total, count = model(rows), np.zeros(3), np.zeros(3)
    for i in range(3):
        seen.append({*order[i, :16].tolist()})
        for patch in set(range(64)) - seen[i]:
            y, x = (2 * c for c in divmod(patch, 8))
            pixels = rows.pixels[i, :, y : y + 2, x : x + 2].numpy().astype(float).ravel() / 255
            if pixels.std() * 255 > 0.5:
                target = (pixels - pixels.mean()) / pixels.std()
                total[i] += ((told[i, patch].detach().numpy() - target) ** 2).mean()
                count[i] += 1
    np.testing.assert_allclose(loss.units[:, 0], total, rtol=1e-4)
    assert loss.counted[:, 0].tolist() == count.tolist()
    assert len({frozenset(s) for s in seen}) == 3


def test_the_encoder_of_masked_patches_does_not_see_what_was_removed():
    model, rows = _model("masked_patches"), _rows(1)
    task = model.objective
    order = task.manufacture(rows).more["order"]
    told = task.restore(model.backbone, rows.pixels, order)
    y, x = (2 * c for c in divmod(int(order[0, -1]), 8))
    rows.pixels[0, :, y : y + 2, x : x + 2] += 77
    torch.testing.assert_close(task.restore(model.backbone, rows.pixels, order), told)


def test_pixels_themselves_count_every_removed_patch():
    loss = _model("masked_patches", variant="pixels")(_rows(2))
    assert loss.count == 2 * 48
    torch.testing.assert_close(loss.metrics["pixels"][0], loss.total)
    for wrong in ({"variant": "norm"}, {"mask_rate": 0.999}):
        with pytest.raises(InputError):
            _model("masked_patches", **wrong)


@pytest.mark.parametrize("objective", TASKS)
def test_features_are_what_a_probe_wants(objective):
    found = probes.features(_model(objective), _rows(4))
    assert found["last"].shape == (4, 32)
    assert np.isfinite(found["last"]).all()

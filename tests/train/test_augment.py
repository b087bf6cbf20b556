"""Views of images and masks of spectrograms, against plain loops in scipy and the standard library.

A row's view is its own: it depends on its key and nothing else.
"""

import colorsys
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates

from curate.corpus.errors import InputError
from train.augment import LUMA, PRESETS, View, draw, hide_bands, preset, views

KEYS = torch.tensor([[5, 1, row] for row in range(9)])
EVERYTHING = View(
    area=(0.2, 0.9),
    aspect=(0.6, 1.5),
    flip=0.5,
    degrees=40,
    shift=0.1,
    jitter=0.7,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=0.3,
    gray=0.3,
    blur=0.6,
    sigma=(0.3, 1.5),
    cutout=0.5,
    cut=0.4,
)


def _images(channels=3, size=12):
    random = torch.Generator().manual_seed(4)
    shape = (len(KEYS), channels, size, size)
    return torch.randint(0, 256, shape, generator=random).to(torch.uint8)


def _placed(image, d, side):
    """Crop, mirror, turn and shift one image, pixel by pixel."""
    channels, size, _ = image.shape
    made = np.zeros((channels, side, side))
    for row, column in itertools.product(range(side), repeat=2):
        x = ((2 * column + 1) / side - 1) * d["mirror"] * d["width"]
        y = ((2 * row + 1) / side - 1) * d["height"]
        cos, sin = math.cos(d["angle"]), math.sin(d["angle"])
        x, y = cos * x - sin * y + d["x"], sin * x + cos * y + d["y"]
        at = [[((y + 1) * size - 1) / 2], [((x + 1) * size - 1) / 2]]
        for channel in range(channels):
            value = map_coordinates(image[channel], at, order=1, mode="nearest")
            made[channel, row, column] = value[0]
    return made


def _gray(image):
    return np.tensordot(LUMA, image, 1) if len(image) == 3 else image[0]


def _coloured(image, d):
    image = np.clip(image * d["brightness"], 0, 1)
    middle = _gray(image).mean()
    image = np.clip(middle + d["contrast"] * (image - middle), 0, 1)
    if len(image) == 1:
        return image
    image = np.clip(_gray(image) + d["saturation"] * (image - _gray(image)), 0, 1)
    for row, column in itertools.product(range(image.shape[1]), repeat=2):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[:, row, column])
        image[:, row, column] = colorsys.hsv_to_rgb((hue + d["hue"]) % 1, saturation, value)
    return np.broadcast_to(_gray(image), image.shape) if d["gray"] else image


def _slow(image, d, view, side):
    """Return one view of one image, [C, H, W] in [0, 1]."""
    image = _coloured(_placed(image.numpy() / 255, d, side), d)
    if d["sigma"]:
        for axis in (1, 2):
            reach = math.ceil(2 * view.sigma[1])
            image = gaussian_filter1d(image, d["sigma"], axis=axis, mode="nearest", radius=reach)
    middles = (2 * np.arange(side) + 1) / side - 1
    image = image.copy()
    image[
        :,
        (np.abs(middles - d["cut_y"]) < view.cut)[:, None]
        & (np.abs(middles - d["cut_x"]) < view.cut),
    ] = 0.5
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [12, 7])
def test_a_view_is_what_a_plain_loop_makes_of_each_image(channels, side):
    images = _images(channels)
    ours = views(images, KEYS, "first", EVERYTHING, side)
    drawn = draw(KEYS, "first", EVERYTHING)
    assert {len(set(drawn[name].tolist())) > 1 for name in drawn} == {True}, "all of it happens"
    for i, image in enumerate(images):
        one = {name: float(values[i]) for name, values in drawn.items()}
        np.testing.assert_allclose(ours[i], _slow(image, one, EVERYTHING, side), atol=2e-5)


@pytest.mark.parametrize("view", [EVERYTHING, *PRESETS.values()])
def test_a_rows_view_does_not_depend_on_the_batch_or_its_order(view):
    images = _images()
    whole = views(images, KEYS, "first", view)
    order = torch.tensor([4, 0, 8, 2])
    assert torch.equal(views(images[order], KEYS[order], "first", view), whole[order])
    alone = [views(images[i : i + 1], KEYS[i : i + 1], "first", view) for i in range(len(KEYS))]
    assert torch.equal(torch.cat(alone), whole)
    assert torch.equal(views(images, KEYS, "second", view), whole) is (view == View())
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1


def test_a_view_that_may_change_nothing_is_the_image():
    images = _images()
    assert torch.allclose(views(images, KEYS, "first", View()), images / 255, atol=1e-6)


def test_crops_stay_inside_and_keep_the_share_that_they_say():
    keys = torch.stack([torch.tensor([1, 0, row]) for row in range(2000)])
    view = View(area=(0.3, 0.8), aspect=(0.75, 1.33))
    drawn = draw(keys, "first", view)
    area = drawn["width"] * drawn["height"]
    assert 0.29 < float(area.min()) < 0.32
    assert 0.78 < float(area.max()) < 0.801
    assert abs(float(area.mean()) - 0.55) < 0.01
    for place, half in (("x", "width"), ("y", "height")):
        assert float((drawn[place].abs() + drawn[half]).max()) <= 1 + 1e-6


def test_digits_are_never_mirrored_and_colours_have_a_preset_of_their_own():
    assert PRESETS["digits"].flip == 0
    assert preset(None, {"channels": 1}) is PRESETS["digits"]
    assert preset(None, {"channels": 3}) is preset("photos", {"channels": 1})
    with pytest.raises(InputError, match="views"):
        preset("photo", {"channels": 3})


def test_hidden_bands_are_what_a_plain_loop_hides_and_fit_into_short_rows():
    lengths = torch.tensor([3, 40, 1, 20, 40, 7, 9, 11, 39])
    hidden = hide_bands(KEYS, "time", 40, number=2, widest=9, lengths=lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = hide_bands(
            KEYS[i : i + 1], "time", 40, number=2, widest=9, lengths=lengths[i : i + 1]
        )
        assert torch.equal(alone[0], hidden[i])
        assert not hidden[i, length:].any()
    keys = torch.stack([torch.tensor([1, 0, row]) for row in range(3000)])
    widths = hide_bands(keys, "bins", 40, number=1, widest=9).sum(1)
    counts = torch.bincount(widths, minlength=10)
    assert len(counts) == 10
    assert int(counts.min()) > 240, "widths are uniform in 0 .. widest"
    one = hide_bands(keys, "bins", 40, number=1, widest=9)
    edges = (one[:, 1:] != one[:, :-1]).sum(1) + one[:, 0] + one[:, -1]
    assert set(edges.tolist()) == {0, 2}, "one band is one piece"

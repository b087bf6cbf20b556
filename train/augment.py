"""Views of images and spectrograms: random changes that leave what a row is about.

Every number of a view is a hash of its row's key and of the view's name (`train.keyed`), and every
operation acts on a row by itself: a row's view does not depend on the batch that it came in. Crop,
flip, rotation and shift are one map of places, so that a pixel is interpolated once.

>>> keys = torch.tensor([[7, 0, 3], [7, 0, 4]])
>>> image = torch.rand(2, 3, 8, 8)
>>> both = views(image, keys, "first", PRESETS["photos"])
>>> bool((both[1:] == views(image[1:], keys[1:], "first", PRESETS["photos"])).all())
True
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from curate.corpus.errors import InputError, one_of
from train.keyed import integers, uniform

__all__ = ["PRESETS", "View", "draw", "hide_bands", "preset", "views"]

#: Shares of red, green and blue in a grey (ITU-R BT.601, what Pillow's "L" uses).
LUMA = (0.299, 0.587, 0.114)
#: What `draw` draws, one uniform number each, in this order: appended to, never reordered.
DRAWN = (
    *("area", "aspect", "left", "top", "flip", "angle", "shift_x", "shift_y"),
    *("jitters", "brightness", "contrast", "saturation", "hue", "grays"),
    *("blurs", "sigma", "cuts", "cut_x", "cut_y"),
)


@dataclass(frozen=True, kw_only=True)
class View:
    """How far a view may be from its image; the defaults change nothing.

    Attributes:
        area: least and largest share of the image that a crop keeps (Szegedy et al. 2015).
        aspect: least and largest width / height of a crop; its logarithm is uniform.
        flip: how likely left and right are exchanged.
        degrees: of rotation, at most, either way.
        shift: of the place, at most, as a share of the side, either way.
        jitter: how likely brightness, contrast, saturation and hue are changed, in this order.
        brightness, contrast, saturation: largest change of the factor, around 1.
        hue: largest turn of the hue, of a whole turn (at most 0.5).
        gray: how likely colours are taken away.
        blur: how likely it is blurred.
        sigma: least and largest standard deviation of the blur, in pixels.
        cutout: how likely a square is hidden in grey (DeVries and Taylor 2017).
        cut: side of that square, as a share of the image's.
    """

    area: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    degrees: float = 0.0
    shift: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 1.0)
    cutout: float = 0.0
    cut: float = 0.3


#: `photos` are SimCLR's views (Chen et al. 2020, appendix A) with the colour strength 0.5 and a
#: blur for small images. A mirrored digit is another sign and half a digit may be any: no flip, and
#: large crops. With `none` both views are the image: a control, which should learn little.
PRESETS = {
    "none": View(),
    "digits": View(
        area=(0.5, 1.0),
        aspect=(0.75, 1.33),
        degrees=15.0,
        shift=0.05,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        blur=0.3,
    ),
    "photos": View(
        area=(0.2, 1.0),
        aspect=(0.75, 1.33),
        flip=0.5,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        gray=0.2,
        blur=0.5,
    ),
}


def preset(name: str | None, media: Mapping[str, Any]) -> View:
    """Return a preset by name; without one, `digits` for one channel and `photos` for colours.

    Raises:
        InputError: no such preset.
    """
    name = name or ("digits" if media.get("channels") == 1 else "photos")
    if name not in PRESETS:
        raise InputError(one_of("train.views", name, sorted(PRESETS)))
    return PRESETS[name]


def draw(keys: Tensor, name: str, view: View) -> dict[str, Tensor]:
    """Return what is done to each row, all [B] float32.

    `width`, `height`, `x`, `y`: half sides and centre of the crop where the image is [-1, 1] x
    [-1, 1]; `mirror`: -1 or 1; `angle` in radians; `brightness`, `contrast`, `saturation` factors;
    `hue` in turns; `gray`: 0 or 1; `sigma` in pixels, 0 where nothing is blurred; `cut_x`, `cut_y`:
    centre of the hidden square, 9 (out of sight) where there is none.
    """
    u = dict(zip(DRAWN, uniform(keys, name, len(DRAWN)).unbind(1), strict=True))
    area = view.area[0] + (view.area[1] - view.area[0]) * u["area"]
    low, high = math.log(view.aspect[0]), math.log(view.aspect[1])
    aspect = (low + (high - low) * u["aspect"]).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    jitters, blurs, cuts = (
        (u[what] < chance).float()
        for what, chance in (("jitters", view.jitter), ("blurs", view.blur), ("cuts", view.cutout))
    )
    return {
        "width": width,
        "height": height,
        "x": (2 * u["left"] - 1) * (1 - width) + 2 * view.shift * (2 * u["shift_x"] - 1),
        "y": (2 * u["top"] - 1) * (1 - height) + 2 * view.shift * (2 * u["shift_y"] - 1),
        "mirror": 1 - 2 * (u["flip"] < view.flip).float(),
        "angle": math.radians(view.degrees) * (2 * u["angle"] - 1),
        **{
            what: 1 + jitters * getattr(view, what) * (2 * u[what] - 1)
            for what in ("brightness", "contrast", "saturation")
        },
        "hue": jitters * view.hue * (2 * u["hue"] - 1),
        "gray": (u["grays"] < view.gray).float(),
        "sigma": blurs * (view.sigma[0] + (view.sigma[1] - view.sigma[0]) * u["sigma"]),
        "cut_x": torch.where(cuts > 0, 2 * u["cut_x"] - 1, 9.0),
        "cut_y": torch.where(cuts > 0, 2 * u["cut_y"] - 1, 9.0),
    }


def views(pixels: Tensor, keys: Tensor, name: str, view: View, size: int | None = None) -> Tensor:
    """Return a view of each image: [B, C, size, size] float32 in [0, 1].

    Args:
        pixels: [B, C, side, side], uint8 or float in [0, 1]; hue, saturation and grey for C = 3.
        keys: [B, 3] int64, as `Rows.keys`.
        name: of this view: another one gives another view.
        view: how far it may go.
        size: pixels of its side; by default the image's.
    """
    x = pixels if pixels.is_floating_point() else pixels.float() / 255
    drawn = {what: some[:, None, None, None] for what, some in draw(keys, name, view).items()}
    side = size or x.size(-1)
    x = _place(x, drawn, side)
    if view.jitter:
        x = _jitter(x, drawn, hue=view.hue > 0)
    if view.gray and x.size(1) == 3:
        x = torch.lerp(x, _gray(x).expand_as(x), drawn["gray"])
    if view.blur:
        x = _blur(x, drawn["sigma"], math.ceil(2 * view.sigma[1]))
    if view.cutout:
        places = _places(side, x.device)
        near = [(places - drawn[axis]).abs() < view.cut for axis in ("cut_x", "cut_y")]
        x = x.masked_fill(near[0] & near[1].mT, 0.5)
    return x


def _places(side: int, device: torch.device) -> Tensor:
    """Return the middles of pixels, [side] in (-1, 1)."""
    return (2 * torch.arange(side, device=device) + 1) / side - 1


def _place(x: Tensor, drawn: Mapping[str, Tensor], side: int) -> Tensor:
    """Crop, mirror, turn and shift: what is at each place of the view, bilinear.

    Outside the image its edge goes on. The map is written out, not a batched product, whose
    rounding may follow the size of the batch.
    """
    d = {what: some[:, :, :, 0] for what, some in drawn.items()}
    places = _places(side, x.device)
    across, down = places * d["mirror"] * d["width"], places[:, None] * d["height"]
    cos, sin = d["angle"].cos(), d["angle"].sin()
    grid = torch.stack([cos * across - sin * down + d["x"], sin * across + cos * down + d["y"]], -1)
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=False)


def _gray(x: Tensor) -> Tensor:
    """[B, 3 or 1, H, W] -> [B, 1, H, W]."""
    if x.size(1) != 3:
        return x
    red, green, blue = x.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _jitter(x: Tensor, drawn: Mapping[str, Tensor], *, hue: bool) -> Tensor:
    """Change brightness (towards black), contrast (mean grey), saturation (own grey), hue."""
    x = (x * drawn["brightness"]).clamp(0, 1)
    middle = _gray(x).mean(dim=(1, 2, 3), keepdim=True)
    x = (middle + drawn["contrast"] * (x - middle)).clamp(0, 1)
    if x.size(1) != 3:
        return x
    gray = _gray(x)
    x = (gray + drawn["saturation"] * (x - gray)).clamp(0, 1)
    return _turn_hue(x, drawn["hue"]) if hue else x


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of [B, 3, H, W] by [B, 1, 1, 1] of a whole turn, through HSV and back."""
    red, green, blue = x.split(1, dim=1)
    value, chroma = x.amax(1, keepdim=True), x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    safe = chroma.clamp(min=1e-8)
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    # The channel n of (5, 3, 1) is value - chroma * clip(min(k, 4 - k)), k = (n + hue) mod 6.
    numbers = torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]
    k = (numbers + sixths + 6 * turns) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur by a Gaussian of [B, 1, 1, 1] pixels, cut off after `reach`; sigma 0 changes nothing."""
    offsets = torch.arange(-reach, reach + 1, device=x.device)
    weights = (-0.5 * (offsets / sigma.clamp(min=1e-3)) ** 2).exp()
    shares = (weights / weights.sum(-1, keepdim=True)).unbind(-1)
    for axis in (2, 3):
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        wide, length = F.pad(x, pad, mode="replicate"), x.size(axis)
        total = torch.zeros_like(x)
        for k, weight in enumerate(shares):
            total = torch.addcmul(total, wide.narrow(axis, k, length), weight[..., None])
        x = total
    return x


def hide_bands(
    keys: Tensor, name: str, size: int, *, number: int, widest: int, lengths: Tensor | None = None
) -> Tensor:
    """Return [B, size] bool: the frames, or the frequencies, that a row hides (SpecAugment).

    Each of `number` bands has a width uniform in 0 .. `widest` and a place uniform among those
    that fit (Park et al. 2019, section 2); bands may overlap.

    Args:
        keys: [B, 3] int64, as `Rows.keys`.
        name: of these masks: time and frequency have names of their own.
        size: frames or frequencies of a row.
        number: bands of each row.
        widest: the widest band.
        lengths: [B] frames that a row has; by default `size`.
    """
    within = torch.full_like(keys[:, 0], size) if lengths is None else lengths
    widths = integers(keys, f"{name} widths", widest + 1, number).minimum(within[:, None])
    room = within[:, None] - widths + 1
    starts = (uniform(keys, f"{name} places", number).double() * room).long()
    at = torch.arange(size, device=keys.device)
    hidden = (at >= starts[..., None]) & (at < (starts + widths)[..., None])
    return hidden.any(1)

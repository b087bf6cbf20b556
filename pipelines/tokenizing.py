"""The recipe's section `tokenize`: what a text, an image, a sound and a pair become.

`media_told` is what the trainer is told of media, and the passes `tokenize` and `pack` go by.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.section import Section

__all__ = [
    "AudioSpec",
    "ImageSpec",
    "Tokenize",
    "TokenizerSpec",
    "budget_unit",
    "media_told",
    "units_of",
]

_CAPTION_TOKENS = 32

Special = Literal[
    "bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix"
]


class TokenizerSpec(Section):
    """Train a tokenizer on the sources, bring a tokenizer.json, or take the bytes as they are."""

    train: Literal["bpe"] | None = None
    vocab_size: int = Field(8192, ge=300, le=1_000_000)
    sample_bytes: int = Field(16_000_000, ge=10_000, description="text it is trained on")
    path: str | None = Field(None, description="a tokenizer.json")
    specials: dict[Special, str] | None = Field(
        None, description="what that file calls its boundaries, where they are not found"
    )
    bytes: bool = Field(False, description="every byte is a token")

    @model_validator(mode="after")
    def _one_way(self) -> "TokenizerSpec":
        ways = [name for name in ("train", "path", "bytes") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError("give either 'train' or 'path' or 'bytes', not several of them")
        way = ways[0] if ways else "train"
        for name, own in (("vocab_size", "train"), ("sample_bytes", "train"), ("specials", "path")):
            if own != way and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name!r} goes with {own!r} and means nothing with {way!r}")
        return self


class ImageSpec(Section):
    """What every image becomes: a square of pixels, seen as square patches."""

    size: int = Field(32, ge=4, le=1024, description="pixels of a side")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: red, green and blue")
    patch: int = Field(4, ge=1, le=256, description="pixels of a patch's side")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="the aspect is kept; crop: the middle stays, pad: white beside it"
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> "ImageSpec":
        if self.size % self.patch:
            near = self.size - self.size % self.patch or self.patch
            raise ValueError(
                f"size {self.size} is no multiple of patch {self.patch}; write size: {near}"
            )
        return self


class AudioSpec(Section):
    """What every sound becomes: samples of one channel, seen as frames of mel energies."""

    sample_rate: int = Field(8000, ge=1000, le=96_000, description="Hz")
    hop_ms: float = Field(10, gt=0, le=1000, description="from frame to frame")
    window_ms: float = Field(25, gt=0, le=1000, description="of sound in a frame")
    mels: int = Field(40, ge=1, le=512, description="bands of a frame")
    max_seconds: float = Field(1.0, gt=0, le=600, description="of sound in a row")

    @model_validator(mode="after")
    def _whole_samples(self) -> "AudioSpec":
        for name in ("hop_ms", "window_ms"):
            samples = self.sample_rate * getattr(self, name) / 1000
            if samples < 1 or samples % 1:
                raise ValueError(
                    f"{name} {getattr(self, name):g} is {samples:g} samples at {self.sample_rate} "
                    "Hz; choose a whole number of samples"
                )
        if self.window_ms < self.hop_ms:
            raise ValueError("window_ms is shorter than hop_ms, so sound between frames is lost")
        return self


class Tokenize(Section):
    """From text to tokens, from images to pixels, from sounds to samples."""

    tokenizer: TokenizerSpec = Field(default_factory=TokenizerSpec)
    image: ImageSpec | None = Field(None, description="of schema image, and pair")
    audio: AudioSpec | None = Field(None, description="of schema audio, and pair with sounds")
    caption_tokens: int | None = Field(
        None, ge=4, le=4096, description="of a pair's caption at most, bos and eos included; 32"
    )


def media_told(kind: str, of: str, told: Tokenize) -> dict[str, Any]:
    """Return the mapping `media` of a run: {} for text.

    Args:
        kind: the recipe's schema.
        of: what is decoded: text, image or audio.
        told: the section.
    """
    if kind == "text":
        return {}
    if kind == "pair":
        most = told.caption_tokens or _CAPTION_TOKENS
        return {"kind": "pair", "of": media_told(of, of, told), "caption_tokens": most}
    if of == "image":
        return {"kind": "image", **(told.image or ImageSpec()).model_dump(mode="json")}
    sound = told.audio or AudioSpec()
    hop = round(sound.sample_rate * sound.hop_ms / 1000)
    return {
        "kind": "audio",
        "sample_rate": sound.sample_rate,
        "hop": hop,
        "window": round(sound.sample_rate * sound.window_ms / 1000),
        "mels": sound.mels,
        "frames": math.ceil(sound.sample_rate * sound.max_seconds / hop),
    }


def units_of(media: Mapping[str, Any]) -> int:
    """Return the units of the longest row: patches, frames, or 1 pair.

    >>> units_of({"kind": "image", "size": 28, "channels": 1, "patch": 4})
    49
    """
    if media["kind"] == "pair":
        return 1
    if media["kind"] == "audio":
        return int(media["frames"])
    return int((media["size"] // media["patch"]) ** 2)


def budget_unit(media: Mapping[str, Any]) -> str:
    """Return what a budget counts: tokens, patches, frames or pairs."""
    return {"image": "patches", "audio": "frames", "pair": "pairs"}.get(
        media.get("kind", ""), "tokens"
    )

"""Rows of images, sounds and pairs as numpy arrays, memory-mapped: one document each.

A shard holds what the pass `tokenize` decoded, once; a row is a span of one document. Every row of
a run has the same shape: sounds are filled up with zeros to the most frames of a row, captions with
`pad`. A sound that is longer is cut: in training where its key says, when it is measured at its
start. Nothing here imports torch but `MediaReader.rows`.

>>> units_of({"kind": "image", "size": 28, "channels": 1, "patch": 4})
49
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import InputError, one_of
from train.rows import IGNORE, Block
from train.shards import Ints, Plan, Shards, list_views

__all__ = ["COLUMNS", "MediaReader", "checked_media", "columns_of", "units_of"]

#: What a corpus is called, and the columns that its shards have beside those of every shard.
COLUMNS = {"text": ("tokens",), "image": ("pixels",), "audio": ("samples",)}
_FIELDS = {
    "image": ("size", "channels", "patch"),
    "audio": ("sample_rate", "hop", "window", "mels", "frames"),
    "pair": ("caption_tokens",),
}


def checked_media(media: Any, where: str) -> dict[str, Any]:
    """Return what a run file says of its media, or refuse it; `where` begins the message."""
    if not isinstance(media, Mapping) or media.get("kind") not in list(_FIELDS):
        raise InputError(
            f"{where}: 'media' is {media!r:.80}; its kind is one of {', '.join(_FIELDS)}"
        )
    kind = media["kind"]
    for name in _FIELDS[kind]:
        value = media.get(name)
        if type(value) is not int or value < 1:
            raise InputError(f"{where}: 'media' has {name} {value!r:.40}; give an integer above 0")
    if kind == "image" and media["size"] % media["patch"]:
        raise InputError(
            f"{where}: images of {media['size']} pixels do not split into patches of "
            f"{media['patch']}; choose a divisor"
        )
    if kind != "pair":
        return dict(media)
    of = checked_media(media.get("of"), f"{where}, 'of' of a pair")
    if of["kind"] == "pair":
        raise InputError(f"{where}: a pair is of an image or a sound, not of a pair")
    return {**media, "of": of}


def columns_of(media: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that shards of this kind have; of text where `media` is empty.

    >>> columns_of({"kind": "pair", "of": {"kind": "image"}})
    ('pixels', 'caption')
    """
    if media.get("kind") == "pair":
        return (*COLUMNS[media["of"]["kind"]], "caption")
    return COLUMNS[media.get("kind", "text")]


def units_of(media: Mapping[str, Any]) -> int:
    """Return the most vectors that a stem makes of a row: patches or frames; 0 for text."""
    media = media.get("of") or media
    if media.get("kind") == "image":
        return int(media["size"] // media["patch"]) ** 2
    return int(media.get("frames", 0))


class MediaReader:
    """Builds rows from a plan of media, as `train.data.Reader` does from one of text.

    Args:
        shards: of the run.
        media: `Run.media`.
        pad: the id behind the end of a caption.
        vocab_size: ids of captions from here on are refused.

    Raises:
        InputError: the shards hold something else than `media` says.
    """

    row_tokens = 1

    def __init__(
        self, shards: Shards, *, media: Mapping[str, Any], pad: int = 0, vocab_size: int = 0
    ) -> None:
        self.shards, self.media, self.pad, self.vocab_size = shards, media, pad, vocab_size
        self.of = media.get("of") or media
        image = self.of["kind"] == "image"
        self.shape = (self.of["channels"], self.of["size"], self.of["size"]) if image else ()
        self.longest = 0 if image else self.of["frames"] * self.of["hop"]
        self._views: dict[str, list[tuple[Ints, Ints]]] = {}
        for name in columns_of(media):
            self._views[name] = [self._view(batch, name) for batch in shards.batches]

    def _view(self, batch: pa.RecordBatch, name: str) -> tuple[Ints, Ints]:
        if name not in batch.schema.names:
            raise InputError(one_of("column", name, batch.schema.names) + " (in a shard of media)")
        kind = batch.schema.field(name).type
        size = int(np.prod(self.shape)) if name == "pixels" else None
        wanted = {"pixels": "uint8", "samples": "int16", "caption": "uint16 or uint32"}[name]
        fixed = pa.types.is_fixed_size_list(kind)
        if (
            not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind))
            or str(kind.value_type) not in wanted.split(" or ")
            or (size is not None and (not fixed or kind.list_size != size))
        ):
            told = f"lists of {size} {wanted}" if size else f"lists of {wanted}"
            raise InputError(
                f"column {name!r} of the shards is {kind}, the run's media {dict(self.of)} wants "
                f"{told}; tokenize this corpus again and resolve the run again"
            )
        return list_views(batch[name])

    def read(self, plan: Plan, rows: Ints, *, seed: int | None = None, epoch: int = 0) -> Block:
        """Return the rows of a plan as a `Block`: [B, 1], and pixels, samples or captions beside.

        Args:
            plan, rows: which.
            seed, epoch: of their keys; without a seed what is too long is cut at its start.
        """
        rows = np.asarray(rows, dtype=np.int64)
        keys = np.empty((len(rows), 3), dtype=np.int64)
        keys[:, 0], keys[:, 1], keys[:, 2] = seed or 0, epoch, rows
        spans = np.zeros(0, np.int64)
        if len(rows):
            spans, ends = plan.spans_of(rows)
            if len(spans) != len(rows):
                row = int(rows[np.diff(ends, prepend=0).argmax()])
                raise InputError(f"row {row} of the plan holds several documents; pack media again")
        ordinals = plan.ordinals[spans]
        withdrawn = self.shards.withdrawn[ordinals]
        return Block(
            tokens=np.zeros((len(rows), 1), np.int64),
            targets=np.where(withdrawn, IGNORE, 0)[:, None],
            sources=plan.sources[spans][:, None],
            documents=ordinals[:, None],
            spans=np.zeros((len(rows), 1), np.int64),
            keys=keys,
            **self._content(plan, spans, ordinals, keys, seed is not None),
        )

    def rows(self, plan: Plan, rows: Ints, *, seed: int | None = None, epoch: int = 0) -> Any:
        """Return `train.objectives.Rows` on the CPU."""
        from train.data import as_rows

        return as_rows(self.read(plan, rows, seed=seed, epoch=epoch))

    def tokens(self, plan: Plan, rows: Ints) -> Ints:
        """Refuse: media has no tokens."""
        raise InputError("these rows hold media, not tokens; read them as blocks")

    def _content(
        self, plan: Plan, spans: Ints, ordinals: Ints, keys: Ints, crop: bool
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.shape:
            found["pixels"] = self._pixels(ordinals)
        else:
            found["samples"], found["lengths"] = self._samples(plan, spans, ordinals, keys, crop)
        if "caption" in self._views:
            found["captions"] = self._captions(ordinals)
        return found

    def _places(self, ordinals: Ints) -> tuple[Ints, Ints]:
        """Return each document's piece, and its row there."""
        pieces = self.shards.pieces[ordinals]
        return pieces, ordinals - self.shards.begins[pieces]

    def _pixels(self, ordinals: Ints) -> Ints:
        pieces, places = self._places(ordinals)
        size, views = int(np.prod(self.shape)), self._views["pixels"]
        pixels = np.empty((len(ordinals), size), np.uint8)
        for piece in np.unique(pieces).tolist():
            mine = np.flatnonzero(pieces == piece)
            pixels[mine] = views[piece][1].reshape(-1, size)[places[mine]]
        return pixels.reshape(-1, *self.shape)

    def _samples(
        self, plan: Plan, spans: Ints, ordinals: Ints, keys: Ints, crop: bool
    ) -> tuple[Ints, Ints]:
        """Return samples [B, longest] int16, zeros behind the end, and lengths [B] int64."""
        hop, views = self.of["hop"], self._views["samples"]
        begins, stops = plan.starts[spans] * hop, (plan.starts[spans] + plan.lengths[spans]) * hop
        if self.media["kind"] == "pair":  # one unit is all of a sound
            begins, stops = np.zeros_like(begins), np.full_like(stops, np.iinfo(np.int64).max)
        samples = np.zeros((len(ordinals), self.longest), np.int16)
        lengths = np.zeros(len(ordinals), np.int64)
        pieces, places = self._places(ordinals)
        for row, (piece, place) in enumerate(zip(pieces.tolist(), places.tolist(), strict=True)):
            offsets, values = views[piece]
            sound = values[offsets[place] : offsets[place + 1]][begins[row] : stops[row]]
            spare = len(sound) - self.longest
            first = _keyed(keys[row], spare + 1) if crop and spare > 0 else 0
            sound = sound[first : first + self.longest]
            samples[row, : len(sound)], lengths[row] = sound, len(sound)
        return samples, lengths

    def _captions(self, ordinals: Ints) -> Ints:
        captions = np.full((len(ordinals), self.media["caption_tokens"]), self.pad, np.int64)
        pieces, places = self._places(ordinals)
        for row, (piece, place) in enumerate(zip(pieces.tolist(), places.tolist(), strict=True)):
            offsets, values = self._views["caption"][piece]
            caption = values[offsets[place] : offsets[place + 1]][: captions.shape[1]]
            captions[row, : len(caption)] = caption
        top = int(captions.max(initial=0))
        if top >= self.vocab_size:
            raise InputError(
                f"token id {top} in the captions, but the tokenizer has {self.vocab_size} ids; "
                "the shards were made with another tokenizer: tokenize this corpus again"
            )
        return captions


def _keyed(key: Ints, high: int) -> int:
    """Return an integer in [0, high) that is a function of a row's key."""
    return int(np.random.SeedSequence(key.tolist()).generate_state(1, np.uint64)[0]) % high

"""Runs for the checks: shards and plans written as the command line resolves them, then trained.

What a check has in memory (texts, pixels, sounds, captions) becomes a `run.json` of one shard and a
plan for each of `train` and `validation`; the real loader and the real trainer take it from there.

>>> path = text_run(folder, {"a": ["one", "two"]}, row_tokens=32)  # doctest: +SKIP
>>> train(path)["held_out"]  # doctest: +SKIP
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch

import train as trainer
from curate.tokens.tokenizer import byte_tokenizer, load_tokenizer, train_bpe
from train.data import Reader
from train.generate import load_model
from train.model import Model
from train.objectives import Rows
from train.rows import reader_of
from train.runfile import load_run
from train.shards import Plan, Shards

__all__ = [
    "audio_run",
    "held_out_rows",
    "image_run",
    "load",
    "pair_run",
    "rows",
    "text_run",
    "train",
    "untrained",
]

SPAN = pa.struct(
    [
        ("shard", pa.int32()),
        ("document", pa.int32()),
        ("start", pa.int64()),
        ("length", pa.int64()),
        ("source", pa.int16()),
    ]
)
#: What every check's run has, unless its config says otherwise.
USUAL = {"device": "cpu", "dtype": "float32", "threads": 1, "alarms": True, "eval_max_rows": 512}
Texts = Mapping[str, Sequence[str]]
Array = np.ndarray[Any, np.dtype[Any]]


def _written(path: Path, table: pa.Table) -> dict[str, Any]:
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=4096)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"uri": str(path), "sha256": digest, "rows": table.num_rows, "bytes": len(content)}


def _lists(arrays: Sequence[Array], kind: pa.DataType) -> pa.Array:
    offsets = np.cumsum([0, *map(len, arrays)])
    values = np.concatenate(arrays) if arrays else np.zeros(0)
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()),
        pa.array(values.astype(kind.to_pandas_dtype()), kind),
        type=pa.large_list(pa.field("item", kind, nullable=True)),
    )


def _ids(first: int, count: int) -> pa.Array:
    return pa.array([i.to_bytes(16, "big") for i in range(first, first + count)], pa.binary(16))


def _plan(lengths: Array, ordinals: Iterable[int], codes: Array, row_tokens: int) -> pa.Table:
    """Cut documents into rows one after another, as the layout `concat` does; one source a row."""
    found: list[list[dict[str, int]]] = []
    room, last = 0, -1
    for i in ordinals:
        start, left, code = 0, int(lengths[i]), int(codes[i])
        while left:
            if not room or code != last:
                found.append([])
                room, last = row_tokens, code
            take = min(left, room)
            found[-1].append(
                {"shard": 0, "document": int(i), "start": start, "length": take, "source": code}
            )
            start, left, room = start + take, left - take, room - take
    return pa.table({"spans": pa.array(found, pa.list_(SPAN))})


def _single(lengths: Array, ordinals: Iterable[int], codes: Array) -> pa.Table:
    """A row for each document."""
    spans = [
        [
            {
                "shard": 0,
                "document": int(i),
                "start": 0,
                "length": int(lengths[i]),
                "source": int(codes[i]),
            }
        ]
        for i in ordinals
    ]
    return pa.table({"spans": pa.array(spans, pa.list_(SPAN))})


def _run_json(
    folder: Path,
    table: pa.Table,
    plans: Mapping[str, pa.Table],
    *,
    sources: Sequence[str],
    row_tokens: int,
    config: Mapping[str, Any],
    seed: int,
    tokenizer: dict[str, Any] | None = None,
    media: Mapping[str, Any] | None = None,
) -> Path:
    content = {
        "format": 1,
        "id": folder.name,
        "corpus": {"name": folder.name, "version": 1, "fingerprint": "0" * 64},
        "tokenizer": tokenizer,
        "media": dict(media) if media else None,
        "sources": list(sources),
        "shards": [_written(folder / "shard.arrow", table)],
        "plans": {
            name: [_written(folder / f"plan_{name}.arrow", plan)]
            for name, plan in plans.items()
            if plan.num_rows
        },
        "row_tokens": row_tokens,
        "config": {**USUAL, **config},
        "seed": seed,
        "phases": [{"first_row": 0, "plan": "train", "epoch": 0}],
    }
    path = folder / "run.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def _tokenizer(folder: Path, wanted: Any, texts: Iterable[str]) -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer and its entry: "bytes", a number of ids, or the bytes of a file."""
    if wanted == "bytes":
        data = byte_tokenizer()
    else:
        data = wanted if isinstance(wanted, bytes) else train_bpe(texts, vocab_size=wanted)
    path = folder / "tokenizer.json"
    path.write_bytes(data)
    loaded = load_tokenizer(data)
    entry = {
        "uri": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "vocab_size": loaded.model.get_vocab_size(),
        "specials": dict(loaded.specials),
    }
    return loaded, entry


def _encoded(loaded: Any, texts: Sequence[str], most: int | None = None) -> list[Array]:
    """Return bos, the text's ids and eos; of `most` ids the text gives way."""
    bos, eos = loaded.specials["bos"], loaded.specials["eos"]
    room = None if most is None else most - 2
    encoded = loaded.model.encode_batch(list(texts), add_special_tokens=False)
    return [np.array([bos, *one.ids[:room], eos], dtype=np.uint32) for one in encoded]


def text_run(
    folder: Path,
    texts: Texts,
    *,
    row_tokens: int,
    tokenizer: str | int | bytes = "bytes",
    held_out: Texts | None = None,
    seed: int = 0,
    layout: str = "concat",
    **config: Any,
) -> Path:
    """Write a run of text and return the path of its run.json.

    Args:
        folder: made if it is not there.
        texts: source -> documents to train on.
        row_tokens: T.
        tokenizer: "bytes", a number of ids of a BPE that is trained on `texts`, or the bytes of a
            tokenizer.json.
        held_out: source -> documents of the plan `validation`.
        seed: of the run.
        layout: "concat": documents one after another, cut at a row's end; "document": each in a
            row of its own, cut to its length.
        config: settings of `train.config.TrainConfig`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held_out = held_out or {}
    sources = list(dict.fromkeys([*texts, *held_out]))
    taken = [
        (t, s, n)
        for n, part in (("train", texts), ("validation", held_out))
        for s in part
        for t in part[s]
    ]
    loaded, entry = _tokenizer(folder, tokenizer, (t for part in texts.values() for t in part))
    documents = _encoded(loaded, [t for t, _, _ in taken])
    if layout == "document":
        documents = [document[:row_tokens] for document in documents]
    lengths = np.array([len(document) for document in documents])
    codes = np.array([sources.index(source) for _, source, _ in taken])
    table = pa.table(
        {
            "doc_id": _ids(0, len(taken)),
            "source": [source for _, source, _ in taken],
            "split": [split for _, _, split in taken],
            "tokens": _lists(
                documents, pa.uint32() if entry["vocab_size"] > 65535 else pa.uint16()
            ),
            "num_bytes": pa.array([max(1, len(t.encode())) for t, _, _ in taken], pa.int64()),
        }
    )
    plans = {}
    for name in ("train", "validation"):
        chosen = [i for i, (_, _, split) in enumerate(taken) if split == name]
        plans[name] = (
            _single(lengths, chosen, codes)
            if layout == "document"
            else _plan(lengths, chosen, codes, row_tokens)
        )
    return _run_json(
        folder,
        table,
        plans,
        sources=sources,
        row_tokens=row_tokens,
        config=config,
        seed=seed,
        tokenizer=entry,
    )


def _media_run(
    folder: Path,
    columns: Mapping[str, Any],
    units: Array,
    media: Mapping[str, Any],
    *,
    held_out: Iterable[int],
    sources: Sequence[str] | None,
    num_bytes: Array,
    seed: int,
    config: Mapping[str, Any],
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    count, held = len(units), {int(i) for i in held_out}
    named = ["all"] * count if sources is None else list(sources)
    names = list(dict.fromkeys(named))
    table = pa.table(
        {
            "doc_id": _ids(0, count),
            "source": named,
            "split": ["validation" if i in held else "train" for i in range(count)],
            "num_bytes": pa.array(num_bytes, pa.int64()),
            "units": pa.array(units, pa.int64()),
            **columns,
        }
    )
    codes = np.array([names.index(name) for name in named])
    plans = {
        name: _single(units, [i for i in range(count) if (i in held) == of], codes)
        for name, of in (("train", False), ("validation", True))
    }
    return _run_json(
        folder,
        table,
        plans,
        sources=names,
        row_tokens=int(units.max()),
        config=config,
        seed=seed,
        tokenizer=tokenizer,
        media=media,
    )


def _pixels(pixels: Array, patch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the column and the media of images [N, C, H, W] uint8, H = W."""
    count, channels, size, width = pixels.shape
    assert size == width, "images are square"
    assert pixels.dtype == np.uint8
    flat = pa.array(np.ascontiguousarray(pixels).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, channels * size * size)
    media = {"kind": "image", "size": size, "channels": channels, "patch": patch}
    assert len(column) == count
    return {"pixels": column}, media


def _sounds(
    sounds: Sequence[Array], rate: int, hop: int, window: int, mels: int, frames: int | None
) -> tuple[dict[str, Any], dict[str, Any], Array]:
    """Return the column, the media and the frames of each of some int16 sounds."""
    units = np.array([max(1, -(-len(sound) // hop)) for sound in sounds])
    media = {
        "kind": "audio",
        "sample_rate": rate,
        "hop": hop,
        "window": window,
        "mels": mels,
        "frames": int(frames or units.max()),
    }
    return {"samples": _lists(sounds, pa.int16())}, media, units


def image_run(
    folder: Path,
    pixels: Array,
    *,
    held_out: Iterable[int] = (),
    patch: int = 4,
    sources: Sequence[str] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a run of images [N, C, H, W] uint8 and return the path of its run.json.

    Args:
        folder: made if it is not there.
        pixels: square images.
        held_out: which of them are the plan `validation`.
        patch: pixels of a patch's side.
        sources: of each image; by default one.
        seed: of the run.
        config: settings of `train.config.TrainConfig`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns, media = _pixels(pixels, patch)
    return _media_run(
        folder,
        columns,
        np.full(len(pixels), (media["size"] // patch) ** 2),
        media,
        held_out=held_out,
        sources=sources,
        num_bytes=np.full(len(pixels), pixels[0].size),
        seed=seed,
        config=config,
    )


def audio_run(
    folder: Path,
    sounds: Sequence[Array],
    rate: int,
    *,
    hop: int = 80,
    window: int = 200,
    mels: int = 40,
    frames: int | None = None,
    held_out: Iterable[int] = (),
    sources: Sequence[str] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a run of sounds, int16 arrays at `rate` Hz; see `image_run`.

    `frames` is the most frames of a row, by default those of the longest sound.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns, media, units = _sounds(sounds, rate, hop, window, mels, frames)
    return _media_run(
        folder,
        columns,
        units,
        media,
        held_out=held_out,
        sources=sources,
        num_bytes=np.array([max(1, 2 * len(sound)) for sound in sounds]),
        seed=seed,
        config=config,
    )


def pair_run(
    folder: Path,
    media: Array | Sequence[Array],
    captions: Sequence[str],
    *,
    rate: int | None = None,
    patch: int = 4,
    hop: int = 80,
    window: int = 200,
    mels: int = 40,
    frames: int | None = None,
    tokenizer: str | int | bytes = "bytes",
    caption_tokens: int = 32,
    held_out: Iterable[int] = (),
    sources: Sequence[str] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a run of pairs and return the path of its run.json.

    Args:
        folder: made if it is not there.
        media: pixels [N, C, H, W] uint8, or with `rate` int16 sounds.
        captions: one each; longer ones are cut to `caption_tokens`, bos and eos included.
        rate: Hz of sounds; the other settings are those of `image_run` and `audio_run`.
        tokenizer: as in `text_run`; a BPE is trained on the captions that are not held out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = {int(i) for i in held_out}
    if rate is None:
        columns, of = _pixels(np.asarray(media), patch)
    else:
        columns, of, _ = _sounds(list(media), rate, hop, window, mels, frames)
    learnt = [caption for i, caption in enumerate(captions) if i not in held]
    loaded, entry = _tokenizer(folder, tokenizer, learnt)
    kind = pa.uint32() if entry["vocab_size"] > 65535 else pa.uint16()
    columns["caption"] = _lists(_encoded(loaded, captions, caption_tokens), kind)
    return _media_run(
        folder,
        columns,
        np.ones(len(captions), dtype=np.int64),
        {"kind": "pair", "of": of, "caption_tokens": caption_tokens},
        held_out=held,
        sources=sources,
        num_bytes=np.array([max(1, np.asarray(one).nbytes) for one in media]),
        seed=seed,
        config=config,
        tokenizer=entry,
    )


def train(run_json: Path) -> dict[str, Any]:
    """Train a run in this process, quietly, and return its result."""
    return trainer.run(run_json, lambda *_: None)


def load(run_json: Path) -> tuple[Model, Any]:
    """Return the trained model, in evaluation mode, and the run's reader."""
    model, _ = load_model(run_json.parent / "model")
    run = load_run(run_json, columns=("num_bytes",))
    return model, reader_of(run, Shards(run.shards), Reader)


def untrained(run_json: Path, seed: int = 0) -> Model:
    """Return the same model as training began with from `seed`: the control of a probe."""
    model, _ = load(run_json)
    torch.manual_seed(seed)
    return Model(model.spec).eval()


def rows(run_json: Path, plan: str = "train", numbers: Sequence[int] | None = None) -> Rows:
    """Return rows of a plan as tensors, all of them by default, cut at their start."""
    run = load_run(run_json, columns=("num_bytes",))
    shards = Shards(run.shards)
    chosen = Plan(run.plans[plan], shards, num_sources=len(run.sources))
    wanted = np.arange(chosen.num_rows) if numbers is None else np.asarray(numbers)
    found: Rows = reader_of(run, shards, Reader).rows(chosen, wanted)
    return found


def held_out_rows(run_json: Path) -> Rows:
    """Return all rows of the plan `validation`."""
    return rows(run_json, "validation")

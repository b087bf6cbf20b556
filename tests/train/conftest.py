"""A small run in the formats of the hand-off: two shards, a plan per split, a word tokenizer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

SPAN = pa.struct(
    [
        ("shard", pa.int32()),
        ("document", pa.int32()),
        ("start", pa.int64()),
        ("length", pa.int64()),
        ("source", pa.int16()),
    ]
)
NAMES = ("bos", "eos", "pad", "mask")
SOURCES = ("books", "code", "web")
VOCAB_SIZE = 70
TINY = {
    "depth": 1,
    "width": 32,
    "heads": 2,
    "batch_rows": 3,
    "steps": 12,
    "threads": 1,
    "dtype": "float32",
    "attention": "dense",
    "device": "cpu",
    "log_every": 4,
    "checkpoint_every": 5,
}


def _write(path: Path, table: pa.Table, rows_per_batch: int | None = None) -> dict[str, Any]:
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=rows_per_batch)
    content = path.read_bytes()
    return {
        "uri": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": table.num_rows,
        "bytes": len(content),
    }


def _documents(num_docs: int) -> list[np.ndarray]:
    """Ids that are easy to predict: runs of +1 in a small alphabet, between bos and eos."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 60, num_docs)
    starts = random.integers(0, 60, num_docs)
    ids = [4 + (s + np.arange(n)) % (VOCAB_SIZE - 4) for s, n in zip(starts, lengths, strict=True)]
    return [np.concatenate([[0], text, [1]]).astype(np.uint16) for text in ids]


def _shard(path: Path, documents: list[np.ndarray], first: int) -> dict[str, Any]:
    offsets = np.cumsum([0, *map(len, documents)])
    numbers = range(first, first + len(documents))
    table = pa.table(
        {
            "doc_id": pa.array([i.to_bytes(16, "big") for i in numbers], pa.binary(16)),
            "source": [SOURCES[i % 3] for i in numbers],
            "split": ["train"] * len(documents),
            "tokens": pa.LargeListArray.from_arrays(
                pa.array(offsets, pa.int64()), pa.array(np.concatenate(documents))
            ),
            "num_bytes": pa.array([2 * (len(d) - 2) + 1 for d in documents], pa.int64()),
        }
    )
    return _write(path, table, rows_per_batch=7)


def _plan(spans: list[dict[str, int]], row_tokens: int) -> pa.Table:
    rows: list[list[dict[str, int]]] = [[]]
    room = row_tokens
    for span in spans:
        start, left = span["start"], span["length"]
        while left:
            take = min(left, room)
            rows[-1].append({**span, "start": start, "length": take})
            start, left, room = start + take, left - take, room - take
            if not room:
                rows.append([])
                room = row_tokens
    return pa.table({"spans": pa.array([row for row in rows if row], pa.list_(SPAN))})


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run and gives the path of its run.json."""

    def make(folder: str = "run", row_tokens: int = 24, *, edit: Any = None, **config: Any) -> Path:
        base = tmp_path / folder
        base.mkdir()
        documents = _documents(60)
        halves = [documents[:31], documents[31:]]
        shards = [_shard(base / f"shard-{k}.arrow", half, 31 * k) for k, half in enumerate(halves)]
        spans = [
            {
                "shard": int(i >= 31),
                "document": i - 31 * (i >= 31),
                "start": 0,
                "length": len(documents[i]),
                "source": i % 3,
            }
            for i in range(60)
        ]
        chosen = {"train": spans[:24] + spans[36:], "validation": spans[24:36]}
        plans = {
            name: [_write(base / f"plan_{name}.arrow", _plan(part, row_tokens), 5)]
            for name, part in chosen.items()
        }
        tokenizer = base / "tokenizer.json"
        words = {f"<|{name}|>": i for i, name in enumerate(NAMES)}
        words |= {f"w{i}": i for i in range(len(NAMES), VOCAB_SIZE)}
        model = {"type": "WordLevel", "vocab": words, "unk_token": "<|pad|>"}
        tokenizer.write_text(
            json.dumps(
                {
                    "version": "1.0",
                    "truncation": None,
                    "padding": None,
                    "added_tokens": [],
                    "normalizer": None,
                    "pre_tokenizer": {"type": "Whitespace"},
                    "post_processor": None,
                    "decoder": None,
                    "model": model,
                }
            )
        )
        content = {
            "format": 1,
            "id": "tiny",
            "corpus": {"name": "tiny", "version": 1, "fingerprint": "f" * 64},
            "tokenizer": {
                "uri": tokenizer.as_uri(),
                "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
                "vocab_size": VOCAB_SIZE,
                "specials": {name: i for i, name in enumerate(NAMES)},
            },
            "sources": list(SOURCES),
            "shards": shards,
            "plans": plans,
            "row_tokens": row_tokens,
            "config": {**TINY, **config},
            "seed": 11,
            "phases": [{"first_row": 0, "plan": "train", "epoch": 0}],
        }
        if edit is not None:
            edit(content)
        path = base / "run.json"
        path.write_text(json.dumps(content))
        return path

    return make

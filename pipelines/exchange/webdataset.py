"""WebDataset shards: what a corpus of images, sounds or pairs keeps, file by file as collected.

A sample is called by the document's id and has up to three members: the image or sound, byte for
byte as it was collected; `.txt`, the cleaned caption of a pair; `.json`, source, split, licence and
meta data. `format: webdataset` of a source reads the same back.
"""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.shard import iter_batches
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import SPLITS, Choice
from pipelines.exchange.texts import conserve_kept, pieces, refuse_drawn_media

__all__ = ["DESCRIPTION", "NAME", "READS", "export_webdataset"]

NAME = "webdataset"
DESCRIPTION = "WebDataset: tar shards of images or sounds, with captions and meta data beside"
READS = "datasets.load_dataset('webdataset', data_files='{folder}-*.tar')"
_SHARD_BYTES = 256_000_000
_READ_ROWS = 64  # files in memory at a time
_COLUMNS = ["doc_id", "source", "url", "license", "meta", "text", "media"]
_SUFFIXES = {"jpeg": "jpg"}


def export_webdataset(corpus: Corpus, folder: Path, choice: Choice) -> dict[str, Any]:
    """Write `SPLIT-000000.tar` and so on; return what was written, by split.

    Raises:
        InputError: a corpus of texts, or what is drawn.
    """
    if corpus.recipe.get("schema", "text") == "text":
        raise InputError("webdataset holds images, sounds and pairs; export texts as parquet")
    refuse_drawn_media(choice)
    done: dict[str, Any] = {}
    for split in SPLITS:
        files, written = _write(folder, split, _samples(corpus, split, choice))
        if files:
            done[split] = {"documents": written, "files": files}
    conserve_kept(corpus, done)
    return done


def _samples(corpus: Corpus, split: str, choice: Choice) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the members of every sample of a split, in the order of the documents."""
    storage, documents = corpus.store.storage, corpus.shards("documents")
    is_pair = corpus.recipe["schema"] == "pair"
    for ordinal, mine in pieces(corpus, split, choice):
        row = 0
        for batch in iter_batches(storage, documents[ordinal], _COLUMNS, max_rows=_READ_ROWS):
            here = batch.filter(pa.array(mine[row : row + batch.num_rows]))
            row += batch.num_rows
            for one in here.to_pylist():
                yield _members(one, split, is_pair=is_pair)


def _members(row: dict[str, Any], split: str, *, is_pair: bool) -> list[tuple[str, bytes]]:
    meta = json.loads(row["meta"]) if row["meta"] else {}
    name = row["doc_id"].hex()
    fields = {key: row[key] for key in ("source", "url", "license") if row[key] is not None}
    about = json.dumps({**meta, **fields, "split": split}, sort_keys=True, ensure_ascii=False)
    found = [(f"{name}.{_suffix(row['media'], str(meta.get('format', '')))}", row["media"])]
    if is_pair:
        found.append((f"{name}.txt", row["text"].encode()))
    return [*found, (f"{name}.json", about.encode())]


def _suffix(data: bytes, form: str) -> str:
    """Return the suffix of a format; of a PNM, whether it is grey or coloured."""
    if form == "pnm":
        return "pgm" if data.startswith(b"P5") else "ppm"
    return _SUFFIXES.get(form, form)


def _write(
    folder: Path, split: str, samples: Iterator[list[tuple[str, bytes]]]
) -> tuple[list[str], int]:
    """Write samples into shards of about `_SHARD_BYTES`; return the files and the samples."""
    files: list[str] = []
    written = 0
    first = next(samples, None)
    while first is not None:
        files.append(f"{split}-{len(files):06d}.tar")
        size, sample = 0, first
        first = None
        with tarfile.open(folder / files[-1], "w", format=tarfile.PAX_FORMAT) as archive:
            for one in itertools.chain([sample], samples):
                if size >= _SHARD_BYTES:
                    first = one
                    break
                for name, data in one:
                    member = tarfile.TarInfo(name)  # of no user, at no time
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                    size += len(data)
                written += 1
    return files, written

"""A Parquet folder that `datasets.load_dataset` opens, with a dataset card and Croissant metadata.

The text is what is tokenized: cleaned, without the lines that are repeated across documents and
the spans that hold test items, if the recipe asked for that. What the mixture drew comes in the
order of its rounds, as in the token formats; the rest as in the corpus, shard after shard. A
corpus of images, sounds or pairs has one more column, the files' bytes.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import SPLITS, Choice, held_out_in
from pipelines.exchange.rounds import write_rounds
from pipelines.passes.cutting import cut_batches, document_cuts
from pipelines.passes.forgotten import FORGOTTEN

__all__ = ["SCHEMA", "conserve_kept", "export_texts", "pieces", "refuse_drawn_media"]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("url", pa.string()),
        ("license", pa.string()),
        ("meta", pa.string()),
        ("text_hash", pa.string()),  # of the cleaned text: what is computed on it may be joined
    ]
)
#: Of images, sounds and pairs: `text` is the caption, beside the file as it was collected.
MEDIA = pa.schema([*SCHEMA, ("media", pa.large_binary())])
_COLUMNS = ["doc_id", "source", "url", "license", "meta", "text_hash"]
Piece = tuple[int, np.ndarray]  # of a shard: its number, which of its documents, bool [n]


def export_texts(corpus: Corpus, folder: Path, choice: Choice) -> dict[str, Any]:
    """Write `data/SPLIT-00000-of-00004.parquet`; return what was written, by split."""
    storage = corpus.store.storage
    documents = corpus.shards("documents")
    cuts = document_cuts(
        corpus.manifest("deduplicate"), corpus.manifest("tokenize"), len(documents)
    )
    is_media = corpus.recipe.get("schema", "text") != "text"
    if is_media:
        refuse_drawn_media(choice)
    schema, read = (MEDIA, [*_COLUMNS, "media"]) if is_media else (SCHEMA, _COLUMNS)
    (folder / "data").mkdir()
    done: dict[str, Any] = {}

    def tables(split: str, ordinal: int, mine: np.ndarray) -> Iterator[Any]:
        row = 0
        for batch in cut_batches(storage, documents[ordinal], cuts[ordinal], read):
            yield _table(batch.filter(pa.array(mine[row : row + batch.num_rows])), split)
            row += batch.num_rows

    for split in SPLITS:
        if choice.what == "drawn" and split == "train":
            train = functools.partial(tables, split)
            files, expected = write_rounds(corpus, folder, choice, train, SCHEMA)
        else:
            mine = list(pieces(corpus, split, choice))
            files = []
            for number, (ordinal, rows) in enumerate(mine):
                name = f"data/{split}-{number:05d}-of-{len(mine):05d}.parquet"
                with pq.ParquetWriter(folder / name, schema, compression="zstd") as writer:
                    for table in tables(split, ordinal, rows):
                        writer.write_table(table)
                files.append(name)
            expected = sum(int(rows.sum()) for _, rows in mine)
        written = sum(int(pq.read_metadata(folder / name).num_rows) for name in files)
        assert written == expected, f"wrote {written} of {expected} documents in {split}"
        if files:
            done[split] = {"documents": written, "files": files}
    if choice.what == "kept":
        conserve_kept(corpus, done)
    elif f"reason:{FORGOTTEN}" not in corpus.manifest("judge").counts:
        drawn = int(pc.sum(choice.draws["copies"], min_count=0).as_py())
        total = int(done.get("train", {}).get("documents", 0))
        assert total == drawn, f"exported {total} of {drawn} drawn documents"
    return done


def refuse_drawn_media(choice: Choice) -> None:
    """Refuse to copy files as often as they are drawn.

    Raises:
        InputError: it was asked.
    """
    if choice.what == "drawn":
        raise InputError(
            "of images, sounds and pairs every kept document is exported once; leave out --what, "
            "and take the copies from `preceptor table CORPUS draws`"
        )


def conserve_kept(corpus: Corpus, done: Mapping[str, Any]) -> None:
    """Assert that what was written is what the corpus keeps."""
    kept = corpus.manifest("judge").counts["kept"]
    total = sum(one["documents"] for one in done.values())
    assert total == kept, f"exported {total} of {kept} kept documents"


def pieces(corpus: Corpus, split: str, choice: Choice) -> Iterator[Piece]:
    """Yield what a split that is not drawn holds of each shard of documents."""
    is_held = held_out_in(choice)
    for ordinal, shard in enumerate(corpus.shards("verdicts")):
        judged = read_shard(corpus.store.storage, shard, ["doc_id", "kept", "split"])
        mine = np.asarray(judged["kept"].to_numpy()) & (judged["split"].to_numpy() == split)
        mine &= is_held(judged["doc_id"]) > 0
        if mine.any():
            yield ordinal, mine


def _table(batch: Any, split: str) -> Any:
    """Return a batch of documents as the export has them."""
    ids, hashes = (
        pa.array([one.hex() for one in batch.column(name).to_pylist()], pa.string())
        for name in ("doc_id", "text_hash")
    )
    text, source, url, licence, meta = (batch.column(name) for name in ("text", *_COLUMNS[1:-1]))
    splits = pa.array([split] * batch.num_rows, pa.string())
    columns = [ids, text, source, splits, url, licence, meta, hashes]
    if "media" in batch.schema.names:
        return pa.table([*columns, batch.column("media")], schema=MEDIA)
    return pa.table(columns, schema=SCHEMA)

"""A Parquet folder that `datasets.load_dataset` opens, with a dataset card and Croissant metadata.

The text is what is tokenized: cleaned, without the lines that are repeated across documents and
the spans that hold test items, if the recipe asked for that.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.shard import Shard, read_shard
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import SPLITS, Choice, copies_in, held_out_in
from pipelines.passes.cutting import cut_batches, document_cuts
from pipelines.passes.forgotten import FORGOTTEN

__all__ = ["SCHEMA", "export_texts"]

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
_COLUMNS = ["doc_id", "source", "url", "license", "meta", "text_hash"]
Piece = tuple[int, np.ndarray]  # of a shard: its number, copies of each of its documents


def export_texts(corpus: Corpus, folder: Path, choice: Choice) -> dict[str, Any]:
    """Write `data/SPLIT-00000-of-00004.parquet`; return what was written, by split."""
    storage = corpus.store.storage
    documents = corpus.shards("documents")
    cuts = document_cuts(
        corpus.manifest("deduplicate"), corpus.manifest("tokenize"), len(documents)
    )
    (folder / "data").mkdir()
    done: dict[str, Any] = {}
    for split in SPLITS:
        pieces = list(_pieces(corpus, split, choice))
        files = []
        for number, (ordinal, copies) in enumerate(pieces):
            name = f"data/{split}-{number:05d}-of-{len(pieces):05d}.parquet"
            _write(storage, documents[ordinal], cuts[ordinal], copies, split, folder / name)
            files.append(name)
        expected = sum(int(copies.sum()) for _, copies in pieces)
        written = sum(int(pq.read_metadata(folder / name).num_rows) for name in files)
        assert written == expected, f"wrote {written} of {expected} documents in {split}"
        if files:
            done[split] = {"documents": written, "files": files}
    if choice.what == "kept":
        kept = corpus.manifest("judge").counts["kept"]
        total = sum(one["documents"] for one in done.values())
        assert total == kept, f"exported {total} of {kept} kept documents"
    elif f"reason:{FORGOTTEN}" not in corpus.manifest("judge").counts:
        drawn = int(pc.sum(choice.draws["copies"], min_count=0).as_py())
        total = int(done.get("train", {}).get("documents", 0))
        assert total == drawn, f"exported {total} of {drawn} drawn documents"
    return done


def _pieces(corpus: Corpus, split: str, choice: Choice) -> Iterator[Piece]:
    """Yield what a split holds of each shard of documents, phase after phase."""
    drawn = choice.what == "drawn"
    is_held = held_out_in(choice)
    for phase in choice.phases if drawn and split == "train" else (0,):
        count = copies_in(choice, phase) if drawn and split == "train" else is_held
        for ordinal, shard in enumerate(corpus.shards("verdicts")):
            judged = read_shard(corpus.store.storage, shard, ["doc_id", "kept", "split"])
            mine = np.asarray(judged["kept"].to_numpy()) & (judged["split"].to_numpy() == split)
            copies = np.where(mine, count(judged["doc_id"]), 0)
            if copies.any():
                yield ordinal, copies


def _write(
    storage: Any, shard: Shard, cut: Shard | None, copies: np.ndarray, split: str, path: Path
) -> None:
    """Write the documents of one shard; second copies come after all the first ones."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for number in range(int(copies.max())):
            position = 0
            for batch in cut_batches(storage, shard, cut, _COLUMNS):
                here = copies[position : position + batch.num_rows] > number
                position += batch.num_rows
                rows = batch.filter(pa.array(here))
                ids, hashes = (
                    pa.array([one.hex() for one in rows.column(name).to_pylist()], pa.string())
                    for name in ("doc_id", "text_hash")
                )
                text, source, url, licence, meta = (
                    rows.column(name) for name in ("text", *_COLUMNS[1:-1])
                )
                splits = pa.array([split] * rows.num_rows, pa.string())
                columns = [ids, text, source, splits, url, licence, meta, hashes]
                writer.write_table(pa.table(columns, schema=SCHEMA))

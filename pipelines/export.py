"""Export: the kept documents of a corpus in a format other people read.

Their text is what is tokenized: without the lines that are repeated across documents and the spans
that hold test items, if the recipe asked for that.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.errors import InputError, one_of
from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.passes.tokenize import cut_batches, document_cuts

__all__ = ["FORMATS", "export"]

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("url", pa.string()),
        ("license", pa.string()),
        ("meta", pa.string()),
    ]
)
_COLUMNS = ["doc_id", "source", "url", "license", "meta"]


def export(corpus: Corpus, format_name: str, out: str | Path) -> dict[str, int]:
    """Write the kept documents into a new folder; return what was written.

    Raises:
        InputError: an unknown format, or a folder that is not empty.
    """
    if format_name not in FORMATS:
        raise InputError(one_of("export format", format_name, FORMATS))
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[format_name](corpus, folder)


def _parquet(corpus: Corpus, folder: Path) -> dict[str, int]:
    """One file per shard and split, `data/train-00000-of-00004.parquet`."""
    storage = corpus.store.storage
    documents, verdicts = corpus.shards("documents"), corpus.shards("verdicts")
    deduplicated, tokenized = corpus.manifest("deduplicate"), corpus.manifest("tokenize")
    cuts = document_cuts(deduplicated, tokenized, len(documents))
    counts = {"documents": 0, "files": 0}
    (folder / "data").mkdir()
    for split in ("train", "validation", "test"):
        for number, (shard, verdict, cut) in enumerate(zip(documents, verdicts, cuts, strict=True)):
            judged = read_shard(storage, verdict, ["kept", "split"])
            mask = pc.and_(judged["kept"], pc.equal(judged["split"], split)).combine_chunks()
            if not pc.any(mask).as_py():
                continue
            name = f"{split}-{number:05d}-of-{len(documents):05d}.parquet"
            position = 0
            with pq.ParquetWriter(folder / "data" / name, _SCHEMA, compression="zstd") as writer:
                for batch in cut_batches(storage, shard, cut, _COLUMNS):
                    rows = batch.filter(mask.slice(position, batch.num_rows))
                    position += batch.num_rows
                    ids = [doc_id.hex() for doc_id in rows.column("doc_id").to_pylist()]
                    columns = [rows.column(n) for n in ("text", *_COLUMNS[1:])]
                    text, source, url, licence, meta = columns
                    splits = pa.array([split] * rows.num_rows, pa.string())
                    writer.write_table(
                        pa.table(
                            [pa.array(ids, pa.string()), text, source, splits, url, licence, meta],
                            schema=_SCHEMA,
                        )
                    )
                    counts["documents"] += rows.num_rows
            counts["files"] += 1
    expected = corpus.manifest("judge").counts["kept"]
    assert counts["documents"] == expected, (
        f"exported {counts['documents']} of {expected} kept documents"
    )
    lineage = {
        "corpus": str(corpus.version),
        "fingerprint": corpus.version.fingerprint,
        "manifests": dict(corpus.version.manifests),
        "recipe": dict(corpus.recipe),
        "documents": counts["documents"],
    }
    (folder / "preceptor.json").write_text(
        json.dumps(lineage, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return counts


FORMATS: dict[str, Callable[[Corpus, Path], dict[str, int]]] = {"parquet": _parquet}

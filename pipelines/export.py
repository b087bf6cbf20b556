"""Export: the kept documents of a corpus in a format other people read."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus.errors import InputError, one_of
from curate.corpus.shard import iter_batches, read_shard
from pipelines.corpus import Corpus

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
    counts = {"documents": 0, "files": 0}
    (folder / "data").mkdir()
    for split in ("train", "validation", "test"):
        for number, (shard, verdict) in enumerate(zip(documents, verdicts, strict=True)):
            judged = read_shard(storage, verdict, ["kept", "split"])
            mask = pc.and_(judged["kept"], pc.equal(judged["split"], split)).combine_chunks()
            if not pc.any(mask).as_py():
                continue
            name = f"{split}-{number:05d}-of-{len(documents):05d}.parquet"
            position = 0
            with pq.ParquetWriter(folder / "data" / name, _SCHEMA, compression="zstd") as writer:
                for batch in iter_batches(storage, shard):
                    rows = batch.filter(mask.slice(position, batch.num_rows))
                    position += batch.num_rows
                    ids = [doc_id.hex() for doc_id in rows.column("doc_id").to_pylist()]
                    columns = [rows.column(n) for n in ("text", "source", "url", "license", "meta")]
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

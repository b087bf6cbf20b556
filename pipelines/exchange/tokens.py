"""A split as another trainer's token files, with a table of whose tokens they are beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.tokens.exporters.base import TokenFormat, Told, columns_of, framed
from pipelines.corpus import Corpus
from pipelines.exchange.choosing import SPLITS, Choice
from pipelines.exchange.streams import check_tokens, places_of, token_blocks

__all__ = ["export_tokens", "token_dtype"]

_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source", pa.string()),
        ("tokens", pa.int64()),
        ("phase", pa.int16()),
    ]
)


def export_tokens(
    corpus: Corpus, one: TokenFormat, folder: Path, choice: Choice, *, keep_bos: bool = False
) -> dict[str, Any]:
    """Write a folder for each split that holds anything; return what was written, by split.

    Raises:
        InputError: a corpus without text, or a bos that is wanted and is none of its own.
    """
    check_tokens(corpus)
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]
    specials = tokenizer["specials"]
    if keep_bos and specials["bos"] == specials["eos"]:
        raise InputError(
            "this tokenizer begins and ends a document with the same token, so the formats could "
            "not tell where one ends; leave out --bos"
        )
    told = Told(dtype=token_dtype(corpus))
    places = places_of(corpus)
    done = {}
    for split in SPLITS:
        written = _split(corpus, one, folder, split, choice, told, specials, keep_bos)
        _check(places, split, choice, written)
        if written["documents"]:
            done[split] = written
    _copy_tokenizer(corpus, tokenizer, folder)
    return done


def token_dtype(corpus: Corpus) -> np.dtype[Any]:
    """Return the type of the stored ids, uint16 or uint32."""
    for shard in corpus.shards("tokens")[:1]:
        column = read_shard(corpus.store.storage, shard).schema.field("tokens")
        dtype: np.dtype[Any] = np.dtype(column.type.value_type.to_pandas_dtype())
        return dtype
    return np.dtype(np.uint16)


def _split(
    corpus: Corpus,
    one: TokenFormat,
    folder: Path,
    split: str,
    choice: Choice,
    told: Told,
    specials: Mapping[str, int],
    keep_bos: bool,
) -> dict[str, Any]:
    """Write one split; the writer and its folder are made with the first documents."""
    writer = table = None
    phases: dict[int, int] = {}
    stored = written = 0
    for phase, block in token_blocks(corpus, split, choice):
        if writer is None or table is None:
            (folder / split).mkdir()
            writer = one.open(folder / split, told)
            table = pq.ParquetWriter(folder / f"documents-{split}.parquet", _SCHEMA)
        documents = framed(block, bos=specials["bos"], eos=specials["eos"], keep_bos=keep_bos)
        writer.write(documents)
        columns = columns_of(documents)
        numbers = np.full(len(documents.doc_ids), phase, dtype=np.int16)
        table.write_table(pa.table({**columns, "phase": numbers}, schema=_SCHEMA))
        phases[phase] = phases.get(phase, 0) + len(documents.doc_ids)
        stored += len(block.values)
        written += len(documents.values)
    if writer is None or table is None:
        return {"documents": 0, "stored_tokens": 0}
    table.close()
    files = [f"{split}/{name}" for name in writer.close()]
    return {
        "documents": sum(phases.values()),
        "tokens": written,
        "stored_tokens": stored,  # with the first one of each document
        "files": files,
        "documents_of_phase": [phases[n] for n in sorted(phases)],
    }


def _check(places: pl.DataFrame, split: str, choice: Choice, written: Mapping[str, Any]) -> None:
    """Count again from the shards and the draws: every document, and every token of theirs."""
    places = places.filter(~pl.col("forgotten") & (pl.col("split") == split))
    if choice.what == "drawn" and split == "train":
        copies = pl.DataFrame(pl.from_arrow(choice.draws)).select("doc_id", "copies")
        places = copies.join(places, on="doc_id", how="inner")
    else:
        if choice.what == "drawn" and choice.held_out is not None:
            held = pl.DataFrame({"doc_id": pl.from_arrow(choice.held_out)})
            places = places.join(held, on="doc_id", how="semi")
        places = places.with_columns(copies=pl.lit(1, pl.Int64))
    asked = int(places["copies"].sum()), int((places["copies"] * places["tokens"]).sum())
    done = written["documents"], written["stored_tokens"]
    assert done == asked, f"exported {done} documents and tokens of {split} instead of {asked}"


def _copy_tokenizer(corpus: Corpus, tokenizer: Mapping[str, Any], folder: Path) -> None:
    path = tokenizer.get("path")
    data = corpus.store.storage.read(path) if path else None
    if data is not None:
        (folder / "tokenizer.json").write_bytes(data)

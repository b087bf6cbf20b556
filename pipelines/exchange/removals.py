"""datatrove's MinHash results: which documents of which file it would remove, as signals.

Its stage 3 writes for the task with number R `R.remove` (uint32 places of documents), and where
asked `R.sizes` and `R.clusters` (pairs of uint32: place, value). A place counts what task R read;
with a task for each file that is the place in the R-th file, by name. Its signatures
(`*.minhash.sig`) hold band hashes of a text normalised its way and the same places: without the
texts nothing in them can be verified, and with the texts ours are computed faster than theirs are
read. So they are refused; the decisions are what is worth importing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.exchange.incoming import IDENTITY

__all__ = ["has_removals", "read_removals"]

_KINDS = {".remove": "removed", ".sizes": "size", ".clusters": "cluster"}
_USELESS = (".sig", ".dups", ".index")
# What datatrove's readers pass over as well; all else that was quarantined had its place there.
_UNREAD = ("invalid_json", "invalid_utf8", "no_text", "not_an_object")


def has_removals(paths: Sequence[Path]) -> bool:
    """Say whether paths hold MinHash results.

    Raises:
        InputError: they hold signatures or pairs, and no decisions.
    """
    names = [p for path in paths for p in (path.rglob("*") if path.is_dir() else [path])]
    suffixes = {path.suffix for path in names}
    if suffixes & set(_KINDS):
        return True
    if suffixes & set(_USELESS):
        raise InputError(
            "MinHash signatures and pairs cannot be imported: they name documents by place, and "
            "nothing in them can be verified without the texts; import the *.remove (and *.sizes, "
            "*.clusters) files of datatrove's stage 3, or run `deduplicate` here"
        )
    return False


def read_removals(corpus: Corpus, paths: Sequence[Path], source: str) -> pl.DataFrame:
    """Return `_id` (hex) and removed, size, cluster of every document of a source.

    Raises:
        InputError: more tasks than files, or places that a file does not have.
    """
    places = _places(corpus, source)
    names = sorted(set(places["path"].to_list()))
    rank = {name: number for number, name in enumerate(names)}
    places = places.with_columns(rank=pl.col("path").replace_strict(rank, return_dtype=pl.Int64))
    sizes = dict(places.group_by("rank").len().rows())
    found = [
        p
        for path in paths
        for p in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if p.suffix in _KINDS
    ]
    told: dict[str, list[pl.DataFrame]] = {}
    for path in found:
        kind = _KINDS[path.suffix]
        rows = _rows(path, pairs=kind != "removed")
        number = int(path.stem) if path.stem.isdecimal() else -1
        if number not in sizes:
            raise InputError(
                f"{path}: task {path.stem} has no file: the source {source!r} has {len(names)}; "
                "places count inside a task, so datatrove must have run one task per file"
            )
        if len(rows) and int(rows[:, 0].max()) >= sizes[number]:
            raise InputError(
                f"{path} names place {int(rows[:, 0].max())}, but {names[number]} holds "
                f"{sizes[number]} documents; was it read with one task per file?"
            )
        told.setdefault(kind, []).append(
            pl.DataFrame({"place": rows[:, 0], kind: rows[:, -1]}).with_columns(
                rank=pl.lit(number, pl.Int64)
            )
        )
    frame = places
    for kind, frames in told.items():
        frame = frame.join(pl.concat(frames).unique(), on=["rank", "place"], how="left")
        if kind == "removed":
            frame = frame.with_columns(pl.col(kind).is_not_null())
        elif kind == "size":
            frame = frame.with_columns(pl.col(kind).fill_null(1))
    wanted = frame.filter(pl.col("_id").is_not_null())
    empty = [pl.lit(None, pl.String).alias(name) for name in IDENTITY[1:]]
    return wanted.select("_id", *empty, *told)


def _rows(path: Path, *, pairs: bool) -> np.ndarray:
    """Return int64 [n, 1 or 2]; places rise."""
    data = path.read_bytes()
    width = 8 if pairs else 4
    if len(data) % width:
        raise InputError(f"{path} is cut short: {len(data)} bytes are no multiple of {width}")
    rows = np.frombuffer(data, dtype="<u4").astype(np.int64).reshape(-1, width // 4)
    if len(rows) > 1 and not bool((np.diff(rows[:, 0]) > 0).all()):
        raise InputError(f"{path}: its places do not rise, so it is not what datatrove wrote")
    return rows


def _places(corpus: Corpus, source: str) -> pl.DataFrame:
    """Return path, place and `_id` of what a source's files hold, unreadable records left out."""
    storage = corpus.store.storage
    columns = ["doc_id", "source", "path", "position"]
    tables = [read_shard(storage, shard, columns) for shard in corpus.shards("documents")]
    documents = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))).filter(
        pl.col("source") == source
    )
    documents = documents.select("path", "position", _id=pl.col("doc_id").bin.encode("hex"))
    bad = [read_shard(storage, shard) for shard in corpus.shards("quarantine")]
    frames = [documents]
    if bad:
        refused = pl.DataFrame(pl.from_arrow(pa.concat_tables(bad))).filter(
            (pl.col("source") == source) & ~pl.col("reason").is_in(_UNREAD)
        )
        frames.append(
            refused.select(
                pl.col("uri").alias("path"),
                pl.col("offset").alias("position"),
                pl.lit(None, pl.String).alias("_id"),
            )
        )
    both = pl.concat(frames).sort("path", "position", "_id")
    return both.select("path", "_id", place=pl.int_range(pl.len()).over("path").cast(pl.Int64))

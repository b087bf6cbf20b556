"""A corpus version, opened: its tables as polars frames, and the whole life of one document.

>>> open_corpus("archive", store=".preceptor").table("verdicts")   # doctest: +SKIP
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, one_of
from curate.corpus.identity import parse_id
from curate.corpus.manifest import Manifest
from curate.corpus.shard import Shard, read_shard
from pipelines.store import Store, Version

__all__ = ["TABLES", "Corpus", "open_corpus"]

TABLES: dict[str, tuple[str, str]] = {  # people's name -> (pass, table)
    "documents": ("clean", "documents"),
    "raw": ("collect", "documents"),
    "quarantine": ("collect", "quarantine"),
    "signals": ("measure", "signals"),
    "duplicates": ("deduplicate", "duplicates"),
    "lines": ("deduplicate", "lines"),
    "cuts": ("deduplicate", "cuts"),
    "contamination": ("decontaminate", "contamination"),
    "verdicts": ("judge", "verdicts"),
    "tokens": ("tokenize", "tokens"),
    "draws": ("mix", "draws"),
    "plan_train": ("pack", "plan_train"),
    "plan_validation": ("pack", "plan_validation"),
    "plan_test": ("pack", "plan_test"),
}


class Corpus:
    """One version of a corpus."""

    def __init__(self, store: Store, version: Version) -> None:
        self.store, self.version = store, version
        self._manifests: dict[str, Manifest] = {}

    def __repr__(self) -> str:
        return f"Corpus({str(self.version)!r}, store={self.store.uri!r})"

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a pass."""
        if name not in self._manifests:
            if name not in self.version.manifests:
                raise InputError(one_of("pass", name, self.version.manifests))
            self._manifests[name] = self.store.get_manifest(name, self.version.manifests[name])
        return self._manifests[name]

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe, as data."""
        return self.version.recipe

    def shards(self, table: str) -> tuple[Shard, ...]:
        """Return the shards of a table, in order."""
        if table not in TABLES:
            raise InputError(one_of("table", table, TABLES))
        name, inner = TABLES[table]
        return self.manifest(name).tables.get(inner, ())

    def table(self, name: str, *, hex_ids: bool = True) -> pl.LazyFrame:
        """Return a table as a lazy frame; ids as 32 hex digits unless told otherwise.

        Raises:
            InputError: no such table; the message lists them.
        """
        shards = self.shards(name)
        storage = self.store.storage
        if not shards:
            frame = pl.LazyFrame(schema=self._empty_schema(name))
        elif storage.is_local and shards[0].path.endswith(".parquet"):
            frame = pl.scan_parquet([storage.full(shard.path) for shard in shards], glob=False)
        else:
            frame = pl.DataFrame(
                pl.from_arrow(pa.concat_tables([read_shard(storage, s) for s in shards]))
            ).lazy()
        if not hex_ids:
            return frame
        binary = [column for column, dtype in frame.collect_schema().items() if dtype == pl.Binary]
        return frame.with_columns(pl.col(column).bin.encode("hex") for column in binary)

    @staticmethod
    def _empty_schema(name: str) -> Any:
        from curate.corpus.schema import SCHEMAS

        schema = SCHEMAS.get(name.partition("_")[0])
        if schema is None:
            return {"doc_id": pl.Binary}
        return pl.DataFrame(pl.from_arrow(schema.empty_table())).schema

    def find_id(self, text: str) -> str:
        """Complete the beginning of a document id (at least 4 digits).

        Raises:
            InputError: no document, or several, begin like that.
        """
        text = text.strip().lower()
        if len(text) < 4 or len(text) > 32 or set(text) - set("0123456789abcdef"):
            raise InputError(
                "a document id has 32 hexadecimal digits (the first 4 or more will do), got "
                f"{text!r}"
            )
        ids = self.table("verdicts").select("doc_id").filter(pl.col("doc_id").str.starts_with(text))
        found = ids.head(6).collect()["doc_id"].sort().to_list()
        if not found:
            raise InputError(
                f"{self.version} has no document {text}; `preceptor table {self.version.name} "
                "verdicts` lists them"
            )
        if len(found) > 1:
            raise InputError(
                f"{text} begins {len(found)} or more ids of {self.version}: {', '.join(found)}"
            )
        return str(found[0])

    def rows(self, table: str, doc_id: str, column: str = "doc_id") -> list[dict[str, Any]]:
        """Return the rows of a table that belong to a document."""
        wanted = parse_id(doc_id)
        frame = self.table(table, hex_ids=False)
        found = frame.filter(pl.col(column) == pl.lit(wanted, pl.Binary)).collect()
        return [
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in row.items()
            }
            for row in found.iter_rows(named=True)
        ]


def open_corpus(name: str, *, store: Store | str = ".preceptor") -> Corpus:
    """Open NAME (its current version) or NAME@VERSION.

    Raises:
        InputError: there is no such corpus or version.
    """
    store = store if isinstance(store, Store) else Store(store)
    return Corpus(store, store.find(name))


def why(corpus: Corpus, doc_id: str) -> dict[str, Any]:
    """Return the whole life of one document: origin, revisions, signals, evidence, verdict, use."""
    doc_id = corpus.find_id(doc_id)
    (document,) = corpus.rows("documents", doc_id)
    (raw,) = corpus.rows("raw", doc_id)
    (verdict,) = corpus.rows("verdicts", doc_id)
    (signals,) = corpus.rows("signals", doc_id)
    edges = corpus.rows("duplicates", doc_id) + corpus.rows("duplicates", doc_id, "twin_id")
    draws = corpus.rows("draws", doc_id)
    life: dict[str, Any] = {
        "doc_id": doc_id,
        "document": document,
        "raw_text": raw["text"] if raw["text_hash"] != document["text_hash"] else None,
        "verdict": {
            **verdict,
            "margins": json.loads(verdict["margins"]) if verdict["margins"] else {},
        },
        "rules": corpus.manifest("judge").settings["rules"],
        "signals": {
            name: value for name, value in signals.items() if name not in ("doc_id", "text_hash")
        },
        "duplicates": edges,
        "cut_lines": _cut_lines(corpus, doc_id, document["text"]),
        "contamination": corpus.rows("contamination", doc_id),
        "tokens": None,
        "draw": draws[0] if draws else None,
        "rows": [],
    }
    if verdict["kept"]:
        life |= _place(corpus, doc_id, verdict["split"])
    return life


def _cut_lines(corpus: Corpus, doc_id: str, text: str) -> list[dict[str, Any]]:
    """Return the repeated lines cut from a document: start, length, text, documents, groups."""
    cuts = corpus.rows("cuts", doc_id)
    if not cuts:
        return []
    data = text.encode()
    keys = [bytes.fromhex(cut["line"]) for cut in cuts]
    lines = corpus.table("lines", hex_ids=False).filter(pl.col("line").is_in(keys)).collect()
    told = {row["line"].hex(): row for row in lines.iter_rows(named=True)}
    return [
        {
            **{name: cut[name] for name in ("line", "start", "length")},
            "text": data[cut["start"] : cut["start"] + cut["length"]].decode(),
            **{name: told[cut["line"]][name] for name in ("documents", "groups")},
        }
        for cut in cuts
    ]


def _place(corpus: Corpus, doc_id: str, split: str) -> dict[str, Any]:
    """Return where a kept document stands: its token shard, and the plan's rows that read it."""
    wanted = parse_id(doc_id)
    storage = corpus.store.storage
    for ordinal, shard in enumerate(corpus.shards("tokens")):
        table = read_shard(storage, shard)
        at = pc.index(table["doc_id"], pa.scalar(wanted, pa.binary(16))).as_py()
        if at >= 0:
            tokens = len(table["tokens"][at])
            rows, first = [], 0
            for plan in corpus.shards(f"plan_{split}"):
                spans = read_shard(storage, plan)["spans"].combine_chunks()
                flat, parents = spans.flatten(), pc.list_parent_indices(spans)
                mine = pc.and_(
                    pc.equal(flat.field("shard"), ordinal),
                    pc.equal(flat.field("document"), at),
                )
                rows += [first + row for row in parents.filter(mine).to_pylist()]
                first += plan.rows
            return {
                "tokens": {"shard": shard.path, "row": at, "tokens": tokens},
                "rows": sorted(rows),
            }
    return {}

"""A corpus version, opened: its tables as polars frames, and the whole life of one document.

>>> open_corpus("archive", store=".preceptor").table("verdicts")   # doctest: +SKIP
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError, IntegrityError, one_of
from curate.corpus.identity import parse_id
from curate.corpus.manifest import Manifest
from curate.corpus.shard import Shard, read_shard
from curate.tokens.shards import token_lengths
from pipelines.frames import scan
from pipelines.store import Store, Version
from pipelines.tokenizing import budget_unit
from pipelines.worddiff import word_diff

__all__ = ["FEEDBACK", "MAX_COMPARED", "TABLES", "Corpus", "open_corpus"]

MAX_COMPARED = 10  # edges of a document that are told word by word
_BEGINNING = 400  # characters of another document

# What is stored as it was read, and hidden where it is shown. A key names a document for good.
_MASKED = {"raw": ("text", "url", "meta", "key", "path"), "documents": ("key", "path")}
_FORGOTTEN = "forgotten"  # the reason of a verdict; its texts are not shown even where they are
_HIDDEN = {"text": "", "key": None, "url": None, "meta": None}  # of a forgotten document

TABLES: dict[str, tuple[str, str]] = {  # people's name -> (pass, table)
    "documents": ("clean", "documents"),
    "revisions": ("clean", "revisions"),
    "raw": ("collect", "documents"),
    "quarantine": ("collect", "quarantine"),
    "signals": ("measure", "signals"),
    "duplicates": ("deduplicate", "duplicates"),
    "lines": ("deduplicate", "lines"),
    "cuts": ("deduplicate", "cuts"),
    "contamination": ("decontaminate", "contamination"),
    "verdicts": ("judge", "verdicts"),
    "whatif": ("judge", "whatif"),
    "tokens": ("tokenize", "tokens"),
    "draws": ("mix", "draws"),
    "held_out": ("mix", "held_out"),
    "plan_train": ("pack", "plan_train"),
    "plan_validation": ("pack", "plan_validation"),
    "plan_test": ("pack", "plan_test"),
}
FEEDBACK = "feedback"  # a table that training runs write, not a pass


class Corpus:
    """One version of a corpus."""

    def __init__(self, store: Store, version: Version) -> None:
        self.store, self.version = store, version
        self._manifests: dict[str, Manifest] = {}
        self._forgotten: list[bytes] | None = None

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

    @property
    def tokenizer(self) -> Mapping[str, Any]:
        """What the pass `tokenize` says of its tokenizer; {} for images and sounds."""
        return self.manifest("tokenize").info["tokenizer"] or {}

    @property
    def unit(self) -> str:
        """What its documents are counted in: tokens, patches, frames or pairs."""
        return budget_unit(self.manifest("tokenize").info.get("media") or {})

    def shards(self, table: str) -> tuple[Shard, ...]:
        """Return the shards of a table, in order."""
        if table.startswith("plan_train_"):  # of a later phase, where there is such a one
            later = self.manifest("pack").tables.get(table)
            if later is not None:
                return later
        if table not in TABLES:
            raise InputError(one_of("table", table, [*TABLES, FEEDBACK]))
        name, inner = TABLES[table]
        return self.manifest(name).tables.get(inner, ())

    def forgotten(self) -> list[bytes]:
        """Return the ids of the documents that a takedown has forgotten, sorted."""
        if self._forgotten is None:
            self._forgotten = []
            if self.manifest("judge").counts.get(f"reason:{_FORGOTTEN}"):
                verdicts = self.table("verdicts", hex_ids=False)
                gone = verdicts.filter(pl.col("reasons").list.contains(_FORGOTTEN))
                self._forgotten = gone.select("doc_id").collect()["doc_id"].sort().to_list()
        return self._forgotten

    def table(self, name: str, *, hex_ids: bool = True, as_stored: bool = False) -> pl.LazyFrame:
        """Return a table as a lazy frame; ids as 32 hex digits unless told otherwise.

        What the recipe redacts and what a takedown has forgotten is hidden, unless the rows are
        asked for `as_stored` (to be searched, and never to be shown). `feedback` is what the runs
        on this version in the store have measured.

        Raises:
            InputError: no such table; the message lists them.
        """
        shards = () if name == FEEDBACK else self.shards(name)
        storage = self.store.storage
        if name == FEEDBACK:
            from pipelines.runs import feedback, runs_of

            frame = feedback(runs_of(self.store, self.version))
        elif not shards:
            frame = pl.LazyFrame(schema=self._empty_schema(name))
        else:
            frame = scan(storage, shards)
        if name in _MASKED and not as_stored:
            frame = self._without_forgotten(self._masked(frame, _MASKED[name]))
        if not hex_ids:
            return frame
        binary = [column for column, dtype in frame.collect_schema().items() if dtype == pl.Binary]
        return frame.with_columns(pl.col(column).bin.encode("hex") for column in binary)

    def _masked(self, frame: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
        """Hide in columns what the recipe redacts: it is stored, and never shown."""
        settings = self.manifest("clean").settings
        if not settings.get("redact"):
            return frame

        def hide(rows: pl.Series) -> pl.Series:
            from curate.cleaning.masking import masked

            return masked(rows.struct.field("text"), settings, rows.struct.field("source"))

        def hide_field(rows: pl.Series) -> pl.Series:
            from curate.cleaning.fields import hide_field as hidden

            name = rows.struct.fields[0]
            field, sources = rows.struct.field(name), rows.struct.field("source")
            return hidden(name, field, settings["redact"], sources)

        columns = {name: hide if name == "text" else hide_field for name in names}
        return frame.with_columns(
            pl.struct(name, "source")
            .map_batches(function, pl.String, is_elementwise=True)
            .alias(name)
            for name, function in columns.items()
        )

    def _without_forgotten(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Hide the texts of forgotten documents."""
        gone = self.forgotten()
        if not gone:
            return frame
        mine = pl.col("doc_id").is_in(pl.Series(gone, dtype=pl.Binary).implode())
        return frame.with_columns(
            pl.when(mine).then(pl.lit(value, pl.String)).otherwise(pl.col(name)).alias(name)
            for name, value in _HIDDEN.items()
        )

    @staticmethod
    def _empty_schema(name: str) -> Any:
        from curate.corpus.schema import SCHEMAS

        name = "documents" if name == "raw" else name
        schema = SCHEMAS.get(name, SCHEMAS.get(name.partition("_")[0]))
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
    from pipelines.trained import trained_on

    doc_id = corpus.find_id(doc_id)
    (document,) = corpus.rows("documents", doc_id)
    document.pop("media", None)  # a file has no place among facts; its signals tell of it
    (raw,) = corpus.rows("raw", doc_id)
    (verdict,) = corpus.rows("verdicts", doc_id)
    (signals,) = corpus.rows("signals", doc_id)
    edges, kept = _twins(corpus, document, verdict["kept_id"])
    draws = corpus.rows("draws", doc_id)
    life: dict[str, Any] = {
        "doc_id": doc_id,
        "document": document,
        "raw_text": raw["text"] if raw["text_hash"] != document["text_hash"] else None,
        "cleaning": _cleaning(corpus, document, raw),
        "verdict": {
            **verdict,
            "margins": json.loads(verdict["margins"]) if verdict["margins"] else {},
        },
        "rules": corpus.manifest("judge").settings["rules"],
        "signals": {
            name: value for name, value in signals.items() if name not in ("doc_id", "text_hash")
        },
        "kept_instead": kept,
        "duplicates": edges,
        "cut_lines": _cut_lines(corpus, doc_id, document["text"]),
        "contamination": corpus.rows("contamination", doc_id),
        "tokens": None,
        "draws": _with_phase_names(corpus, draws),
        "rows": [],
        "plans": {},
        "training": trained_on(corpus, doc_id),
    }
    if verdict["kept"] or _FORGOTTEN in verdict["reasons"]:
        life |= _place(corpus, doc_id, verdict["split"])
    return life


def _with_phase_names(corpus: Corpus, draws: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a document's draws in the order of the phases, with the phases' names."""
    names = [phase["name"] for phase in corpus.manifest("mix").settings.get("phases", ())]
    ordered = sorted(draws, key=lambda row: row.get("phase", 0))
    return [{**row, "name": names[row["phase"]] if names else "train"} for row in ordered]


def _cleaning(
    corpus: Corpus, document: Mapping[str, Any], raw: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what each step did to a text, and the words that changed; None if none did.

    What was redacted is hidden in the raw text too (`Corpus.table`).
    """
    if raw["text_hash"] == document["text_hash"] or not raw["text"]:
        return None
    from curate.cleaning.clean import steps

    known = steps()
    told = [
        {
            **{name: row[name] for name in ("step", "kind", "count")},
            "counted": known[row["step"]].counted if row["step"] in known else "changes",
        }
        for row in corpus.rows("revisions", document["doc_id"])
    ]
    return {"steps": told, "diff": word_diff(raw["text"], document["text"]).to_dict()}


def _twins(
    corpus: Corpus, document: Mapping[str, Any], kept_id: str | None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return a document's edges, the nearest first, and the document that is kept instead.

    Each tells who the other is (`other`, None where it is in no corpus here any more), and the
    first of them what differs (`diff`, from the other to this one).
    """
    doc_id = document["doc_id"]
    edges = [
        {**edge, "other_id": edge["twin_id" if edge["doc_id"] == doc_id else "doc_id"]}
        for column in ("doc_id", "twin_id")
        for edge in corpus.rows("duplicates", doc_id, column)
    ]
    edges += _demanded(corpus, doc_id, edges)
    edges.sort(key=lambda edge: (-edge["jaccard"], edge["kind"], edge["other_id"]))
    direct = next((edge for edge in edges if edge["other_id"] == kept_id), None)
    kept = None
    if kept_id is not None:
        strength = {name: direct[name] if direct else None for name in ("kind", "jaccard")}
        kept = {"other_id": kept_id, **strength}
    compared = [*([kept] if kept else []), *edges[:MAX_COMPARED]]
    elsewhere = [edge.get("twin_corpus") for edge in edges[:MAX_COMPARED]]
    found = _others(corpus, {row["other_id"] for row in compared}, elsewhere)
    for row in edges[MAX_COMPARED:]:
        row["other"] = row["diff"] = None
    gone = {one.hex() for one in corpus.forgotten()}  # there is no text to compare
    differences = {
        other_id: word_diff(other["text"], document["text"]).to_dict()
        for other_id, other in found.items()
        if not {other_id, doc_id} & gone
    }
    for row in compared:
        other = found.get(row["other_id"])
        place = {name: value for name, value in (other or {}).items() if name != "text"}
        row["other"] = {**place, "beginning": other["text"][:_BEGINNING]} if other else None
        row["diff"] = differences.get(row["other_id"])
    return edges, kept


def _demanded(
    corpus: Corpus, doc_id: str, edges: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the edges that `judge` verified on demand, in a crowd of near-duplicates."""
    found: list[dict[str, Any]] = []
    known = {edge["other_id"] for edge in edges}  # each of a crowd is linked to a hub at least
    cluster = {name: edges[0][name] for name in ("cluster_id", "cluster_size")} if edges else {}
    for shard in corpus.manifest("judge").tables.get("demanded", ()):
        table = pl.DataFrame(pl.from_arrow(read_shard(corpus.store.storage, shard)))
        mine = pl.lit(parse_id(doc_id), pl.Binary)
        for edge in table.filter((pl.col("doc_id") == mine) | (pl.col("twin_id") == mine)).rows():
            left, right = edge[0].hex(), edge[1].hex()
            other = right if left == doc_id else left
            if other not in known:
                ends = {"doc_id": left, "twin_id": right, "other_id": other}
                found.append({**ends, **cluster, "kind": "near", "jaccard": edge[2]})
    return found


def _others(
    corpus: Corpus, ids: set[str], elsewhere: Sequence[str | None] = ()
) -> dict[str, dict[str, Any]]:
    """Look documents up here, and then in the corpora that this one was deduplicated against."""
    found = _documents(corpus, ids)
    against = corpus.manifest("deduplicate").info.get("against")
    named = against.get("corpus") if isinstance(against, Mapping) else against
    for name in dict.fromkeys([*elsewhere, named]):
        if name and ids - found.keys():
            with contextlib.suppress(InputError, IntegrityError):  # it may be gone
                other = open_corpus(str(name), store=corpus.store)
                found |= _documents(other, ids - found.keys())
    return found


def _documents(corpus: Corpus, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return doc_id -> corpus, source, path, position, text of those that are in a corpus."""
    if not ids:
        return {}
    rows = (
        corpus.table("documents", hex_ids=False)
        .filter(pl.col("doc_id").is_in([parse_id(doc_id) for doc_id in sorted(ids)]))
        .select("doc_id", "source", "path", "position", "text")
        .collect()
    )
    return {
        row.pop("doc_id").hex(): {"corpus": str(corpus.version), **row}
        for row in rows.iter_rows(named=True)
    }


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
            tokens = int(token_lengths(table)[at])
            packed = corpus.manifest("pack").tables
            plans = {
                name: _plan_rows(corpus, packed[name], ordinal, at)
                for name in packed  # of a curriculum's later phases too: plan_train_1, ...
                if name == f"plan_{split}" or name.startswith(f"plan_{split}_")
            }
            return {
                "tokens": {"shard": shard.path, "row": at, "tokens": tokens},
                "rows": plans.get(f"plan_{split}", []),
                "plans": plans,
            }
    return {}


def _plan_rows(corpus: Corpus, plan: Sequence[Shard], ordinal: int, document: int) -> list[int]:
    """Return the rows of a plan that read a document."""
    rows, first = [], 0
    for shard in plan:
        spans = read_shard(corpus.store.storage, shard)["spans"].combine_chunks()
        flat, parents = spans.flatten(), pc.list_parent_indices(spans)
        mine = pc.and_(
            pc.equal(flat.field("shard"), ordinal), pc.equal(flat.field("document"), document)
        )
        rows += [first + row for row in parents.filter(mine).to_pylist()]
        first += shard.rows
    return sorted(rows)

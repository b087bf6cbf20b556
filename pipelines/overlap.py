"""`preceptor overlap A B`: which documents of two corpora hold each other's text, and how much."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape

from curate.contamination.overlap import Overlap, Side, compare, exact_coverage, num_ranges
from curate.corpus.errors import InputError
from curate.corpus.shard import iter_batches, read_shard
from pipelines.console import console, new_table, plain, say, show
from pipelines.corpus import Corpus, open_corpus

__all__ = ["overlap", "show_overlap"]

_TOP, _CANDIDATES = 20, 200
_MAX_WORDS = 64
_SNIPPET = 60


def overlap(
    a: str, b: str, *, store: str, words: int = 13, threshold: float = 0.5, kept: bool = True
) -> dict[str, Any]:
    """Compare the documents of two corpora by the word n-grams they share.

    Args:
        a, b: NAME or NAME@VERSION.
        store: of both.
        words: of an n-gram; documents with fewer words have none.
        threshold: share of a document's n-grams in the other corpus that makes it an overlap.
        kept: compare what is kept only.

    Returns:
        a, b, words, threshold, `sources` (corpus, source, documents, with_ngrams, overlapping,
        covered: the share of all its n-grams) and `pairs` (a_id, b_id, a_source, b_source, shared
        n-grams, a_coverage, b_coverage), the most alike first.

    Raises:
        InputError: no such corpus; a number out of range.
    """
    if not 1 <= words <= _MAX_WORDS:
        raise InputError(f"--words is 1 to {_MAX_WORDS}, got {words}")
    if not 0 < threshold <= 1:
        raise InputError(f"--threshold is above 0 and at most 1, got {threshold:g}")
    corpora = [open_corpus(name, store=store) for name in (a, b)]
    for corpus in corpora:
        schema = corpus.recipe.get("schema", "text")
        if schema in ("image", "audio"):
            raise InputError(
                f"overlap counts words that two corpora share, and {corpus.version} has the schema "
                f"{schema}; `deduplicate: {{against: NAME}}` finds the files of one in another"
            )
    num_bytes = sum(_num_bytes(corpus, kept) for corpus in corpora)
    with tempfile.TemporaryDirectory(prefix="preceptor-overlap-") as folder:
        sides = []
        for number, corpus in enumerate(corpora):
            place = Path(folder) / str(number)
            place.mkdir()
            side = Side(place, num_ranges(num_bytes), words)
            for batch in _documents(corpus, kept):
                side.add(batch.column("text"))
            sides.append(side)
        found = compare(*sides, most=_CANDIDATES)
    ids = [_ids(corpus, kept) for corpus in corpora]
    return {
        "a": str(corpora[0].version),
        "b": str(corpora[1].version),
        "words": words,
        "threshold": threshold,
        "sources": [
            row
            for side, corpus in enumerate(corpora)
            for row in _by_source(str(corpus.version), ids[side], found, side, threshold)
        ],
        "pairs": _pairs(corpora, ids, found, words, kept),
    }


def show_overlap(
    a: str,
    b: str,
    *,
    store: str,
    words: int = 13,
    threshold: float = 0.5,
    everything: bool = False,
    as_json: bool = False,
) -> None:
    """Print what two corpora share, for people or as JSON; `everything`: dropped documents too."""
    found = overlap(a, b, store=store, words=words, threshold=threshold, kept=not everything)
    if as_json:
        say(json.dumps(found, indent=1, ensure_ascii=True))
        return
    table = new_table(
        ("corpus", "left"),
        ("source", "left"),
        ("documents", "right"),
        (f"with {words}-grams", "right"),
        (f"{threshold:.0%} in the other", "right"),
        ("n-grams in the other", "right"),
    )
    for row in found["sources"]:
        numbers = [f"{row[n]:,}" for n in ("documents", "with_ngrams", "overlapping")]
        names = (escape(row["corpus"]), escape(plain(row["source"])))
        table.add_row(*names, *numbers, f"{row['covered']:.2%}")
    show(table)
    if not found["pairs"]:
        console.print(f"no document of either shares a {words}-gram with one of the other")
        return
    table = new_table(
        (found["a"], "left"),
        ("covered", "right"),
        (found["b"], "left"),
        ("covered", "right"),
        ("shared", "right"),
    )
    for pair in found["pairs"]:
        sides = []
        for side in ("a", "b"):
            source = plain(pair[f"{side}_source"], _SNIPPET)
            sides += [
                escape(f"{pair[f'{side}_id']} {source}"), f"{pair[f'{side}_coverage']:.1%}"
            ]  # fmt: skip
        table.add_row(*sides, f"{pair['shared']:,}")
    show(table)


def _documents(corpus: Corpus, kept: bool, columns: tuple[str, ...] = ("text",)) -> Iterator[Any]:
    """Yield batches of the documents that are compared."""
    storage = corpus.store.storage
    for shard, verdict in zip(corpus.shards("documents"), corpus.shards("verdicts"), strict=True):
        mask = read_shard(storage, verdict, ["kept"])["kept"].combine_chunks()
        position = 0
        for batch in iter_batches(storage, shard, list(columns)):
            here = mask.slice(position, batch.num_rows)
            position += batch.num_rows
            yield batch.filter(here) if kept else batch


def _num_bytes(corpus: Corpus, kept: bool) -> int:
    frame = corpus.table("verdicts", hex_ids=False)
    sized = frame.filter("kept") if kept else frame
    return int(sized.select(pl.col("num_bytes").sum()).collect().item() or 0)


def _ids(corpus: Corpus, kept: bool) -> pl.DataFrame:
    """Return doc_id and source of the documents that are compared, in their order."""
    batches = [pl.from_arrow(b) for b in _documents(corpus, kept, ("doc_id", "source"))]
    schema: Any = {"doc_id": pl.Binary(), "source": pl.String()}
    return pl.concat(
        [pl.DataFrame(schema=schema), *(pl.DataFrame(b).cast(schema) for b in batches)]
    )


def _by_source(
    name: str, ids: pl.DataFrame, found: Overlap, side: int, threshold: float
) -> list[dict[str, Any]]:
    sizes, shared = found.sizes[side], found.found[side]
    frame = ids.with_columns(
        size=pl.Series(sizes, dtype=pl.Int64),
        shared=pl.Series(shared, dtype=pl.Int64),
        over=pl.Series((found.coverage(side) >= threshold) & (sizes > 0)),
    )
    table = frame.group_by("source").agg(
        documents=pl.len(),
        with_ngrams=(pl.col("size") > 0).sum(),
        overlapping=pl.col("over").sum(),
        size=pl.col("size").sum(),
        shared=pl.col("shared").sum(),
    )
    return [
        {
            "corpus": name,
            **{n: row[n] for n in ("source", "documents", "with_ngrams", "overlapping")},
            "covered": row["shared"] / max(1, row["size"]),
        }
        for row in table.sort("source").iter_rows(named=True)
    ]


def _pairs(
    corpora: list[Corpus], ids: list[pl.DataFrame], found: Overlap, words: int, kept: bool
) -> list[dict[str, Any]]:
    """Return the pairs that are most alike, compared exactly."""
    texts = [
        _texts(corpus, found.pairs[name].to_numpy(), kept)
        for corpus, name in zip(corpora, ("left", "right"), strict=True)
    ]
    rows = []
    for left, right, _ in found.pairs.iter_rows():
        shared, size_a, size_b = exact_coverage((texts[0][left], texts[1][right]), words)
        (a_id, a_source), (b_id, b_source) = ids[0].row(left), ids[1].row(right)
        rows.append(
            {
                "a_id": a_id.hex(),
                "b_id": b_id.hex(),
                "a_source": a_source,
                "b_source": b_source,
                "shared": shared,
                "a_coverage": shared / max(1, size_a),
                "b_coverage": shared / max(1, size_b),
            }
        )
    rows.sort(key=lambda r: (-max(r["a_coverage"], r["b_coverage"]), -r["shared"], r["a_id"]))
    return rows[:_TOP]


def _texts(corpus: Corpus, numbers: Any, kept: bool) -> dict[int, Any]:
    """Return number -> text, as an array of one, of some of the documents that are compared."""
    wanted = np.unique(numbers)
    found: dict[int, Any] = {}
    position = 0
    for batch in _documents(corpus, kept):
        low, high = np.searchsorted(wanted, [position, position + batch.num_rows])
        for number in wanted[low:high].tolist():
            text = batch.column("text").slice(number - position, 1)
            found[number] = pc.cast(pa.concat_arrays([text]), pa.large_string())
        position += batch.num_rows
    return found

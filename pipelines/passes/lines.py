"""Repeated lines: which lines stand in too many documents, and where; `tokenize` cuts them.

Stages of the pass `deduplicate`, each a set of parts with keys of their own:

    count   a shard of documents -> its distinct (line, document), sorted, nothing else of the text
    join    a range of line hashes -> the lines of more than `above` documents, over all shards
    cut     a shard of documents -> the spans of those lines in it
    tell    a range -> the table `lines`: how many documents, and an example

Documents are counted after they are deduplicated: those of one cluster count as one, or twelve
copies of a page would take every line from the one that is kept. They are counted whatever the
rules say of them, so that a changed rule counts and cuts nothing anew. An added file is counted
alone; the join runs again, and `cut` for the shards in which other lines are repeated now (its key
holds, of all that was joined, only the lines of that shard).

Memory: a join holds the rows of its range (the ranges are chosen for that) and 16 bytes per
document in a cluster; the others a batch of texts and the repeated lines of a shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint, ids_to_numpy
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.dedup.lines import (
    LineRule,
    Lines,
    contained,
    distinct,
    documents_per_line,
    find_lines,
    frequent,
    line_keys,
    sorted_unique,
)
from curate.kernels.buffers import text_buffers
from curate.tokens.cuts import cut_spans
from pipelines.digest import code_digest
from pipelines.passes.base import Context, PartJob, Parts, Workspace, part_key, run_parts

__all__ = ["LinesResult", "count_shard", "cut_shard", "fit", "join_range", "tell_range"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_PASS = "deduplicate"
_RANGE_ROWS = 1 << 22  # (line, document) pairs of a join: some 200 MB while they are sorted
_RUN_ROWS = 1 << 21
_EXAMPLE_CHARS = 500
_GUARDED_SOURCE = 1000  # documents; of fewer, a share says nothing
_ROWS = pa.schema(
    [pa.field("line", pa.uint64(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
)
_COUNTS = pa.schema(
    [
        pa.field("line", pa.uint64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("groups", pa.int64(), nullable=False),
    ]
)
_EXAMPLES = pa.schema(
    [
        pa.field("line", pa.uint64(), nullable=False),
        pa.field("first", pa.binary(16), nullable=False),  # the example's document
        pa.field("text", pa.large_string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesResult:
    """What was found, for the manifest of `deduplicate`.

    Attributes:
        tables: `lines`, and `cuts` with one shard for each shard of documents that loses lines.
        counts: lines_counted (different lines of documents, looked at), lines_repeated,
            documents_cut, documents_emptied (no word is left of them), bytes_cut.
        settings: what the recipe asked.
        info: `cut_documents`: for each shard of `cuts`, which shard of documents it belongs to.
    """

    tables: Mapping[str, tuple[Shard, ...]]
    counts: Mapping[str, int]
    settings: Mapping[str, Any]
    info: Mapping[str, Any]


def fit(
    context: Context, documents: Sequence[Shard], duplicates: Sequence[Shard] = ()
) -> LinesResult | None:
    """Count the lines of all documents and find the spans of the repeated ones.

    Args:
        context: the recipe says what is repeated.
        documents: the cleaned documents.
        duplicates: verified edges with cluster ids; the documents of a cluster count as one.

    Returns:
        None where the recipe asks for none of it.

    Raises:
        InputError: a source would lose more of its text than the recipe allows.
    """
    asked = context.recipe.clean.repeated_lines
    if asked is None:
        return None
    code = code_digest(__name__)
    rule = {"min_characters": asked.min_characters, "numbers": asked.numbers}
    jobs = [
        PartJob(part_key(code, rule, shard.sha256), count_shard, (shard, rule))
        for shard in documents
    ]
    counted = run_parts(context, _PASS, "count lines", jobs)
    runs = [tuple(part.tables["line_rows"]) for part in counted]
    ranges = _ranges(sum(shard.rows for shards in runs for shard in shards))
    content = [shard.sha256 for shard in (*duplicates, *(s for shards in runs for s in shards))]
    jobs = [
        PartJob(
            part_key(code, {"above": asked.above, "range": [number, ranges]}, *content),
            join_range,
            (runs, tuple(documents), tuple(duplicates), asked.above, (number, ranges)),
        )
        for number in range(ranges)
    ]
    joined = run_parts(context, _PASS, "join lines", jobs)
    repeated = tuple(part.tables["line_counts"][0] for part in joined)
    jobs = []
    for number, (shard, part) in enumerate(zip(documents, counted, strict=True)):
        exempt = sorted(set(asked.exempt) & set(part.info["sources"]))
        held = [found.info["held"][number] for found in joined]
        key = part_key(code, {**rule, "exempt": exempt}, shard.sha256, *filter(None, held))
        wanted = repeated if any(held) else ()
        jobs.append(PartJob(key, cut_shard, (shard, runs[number], wanted, rule, exempt)))
    cut = run_parts(context, _PASS, "find cuts", jobs)
    examples = tuple(s for part in cut for s in part.tables["line_examples"] if s.rows)
    content = [shard.sha256 for shard in examples]
    jobs = [
        PartJob(part_key(code, "tell", shard.sha256, *content), tell_range, (shard, examples))
        for shard in repeated
    ]
    told = run_parts(context, _PASS, "tell lines", jobs)
    _guard(counted, cut, asked.source_loss)
    cuts = [part.tables["cuts"][0] for part in cut]
    lines = tuple(s for part in told for s in part.tables["lines"] if s.rows)
    return LinesResult(
        tables={"lines": lines, "cuts": tuple(shard for shard in cuts if shard.rows)},
        counts={
            "lines_counted": sum(part.counts["lines"] for part in counted),
            "lines_repeated": sum(shard.rows for shard in repeated),
            "documents_cut": sum(part.counts["documents"] for part in cut),
            "documents_emptied": sum(part.counts["emptied"] for part in cut),
            "bytes_cut": sum(part.counts["bytes"] for part in cut),
        },
        settings=asked.model_dump(mode="json"),
        info={"cut_documents": [number for number, shard in enumerate(cuts) if shard.rows]},
    )


def _ranges(rows: int) -> int:
    """Return into how many ranges, a power of two, the hashes are cut."""
    return 1 << max(0, (-(-rows // _RANGE_ROWS) - 1).bit_length())


def _guard(counted: Sequence[Parts], cut: Sequence[Parts], limit: float | None) -> None:
    """Stop before damage."""
    if limit is None:
        return
    total: dict[str, list[int]] = {}
    for before, after in zip(counted, cut, strict=True):
        for source, sizes in before.info["sources"].items():
            more = (*sizes, after.info["sources"].get(source, 0))
            total[source] = [a + b for a, b in zip(total.get(source, [0] * 3), more, strict=True)]
    for source, (documents, num_bytes, lost) in sorted(total.items()):
        if documents >= _GUARDED_SOURCE and lost > limit * num_bytes:
            raise InputError(
                f"repeated lines are {lost:,} of {num_bytes:,} bytes of source {source!r}, more "
                f"than the share {limit}; raise `clean.repeated_lines.above`, exempt the source, "
                "or set `clean.repeated_lines.source_loss`"
            )


def count_shard(workspace: Workspace, shard: Shard, rule: Mapping[str, Any]) -> Parts:
    """Job: the distinct (line, document) of one shard, in sorted runs; and the sources' sizes."""
    chosen = LineRule(**rule)
    runs: list[Shard] = []
    sources: dict[str, list[int]] = {}
    found: list[tuple[U64, I64]] = []
    waiting = row = total = 0

    def flush() -> int:
        line, document = (np.concatenate(parts) for parts in zip(*found, strict=True))
        line, rows = distinct(line, document)
        with workspace.writer("line_rows", _ROWS, kind="arrow") as writer:
            writer.write(pa.table({"line": line, "row": rows}, schema=_ROWS))
            runs.append(writer.commit())
        found.clear()
        return int(line.size)

    for batch in iter_batches(workspace.storage, shard, ["source", "text"]):
        texts = batch.column("text")
        lines = find_lines(texts, chosen)
        if len(lines):
            found.append((lines.line, lines.document + row))
            waiting += len(lines)
        row += batch.num_rows
        sizes = pc.binary_length(texts)
        for source, documents, num_bytes in _by_source(batch.column("source"), sizes):
            entry = sources.setdefault(source, [0, 0])
            entry[0], entry[1] = entry[0] + documents, entry[1] + num_bytes
        if waiting >= _RUN_ROWS:
            total, waiting = total + flush(), 0
    if waiting:
        total += flush()
    return Parts({"line_rows": runs}, {"lines": total}, {"sources": sources})


def _by_source(sources: Any, sizes: Any) -> Iterator[tuple[str, int, int]]:
    """Yield (source, rows, sum of their sizes)."""
    table = pa.table({"source": sources, "size": sizes}).group_by("source")
    table = table.aggregate([("size", "count"), ("size", "sum")])
    names = ("source", "size_count", "size_sum")
    yield from zip(*(table[name].to_pylist() for name in names), strict=True)


def _range_of(storage: Storage, shard: Shard, part: tuple[int, int]) -> tuple[U64, Any]:
    """Return the lines, and their rows, of one of so many equal ranges of hashes."""
    table = read_shard(storage, shard).combine_chunks()
    line = table["line"].combine_chunks().to_numpy(zero_copy_only=False)
    number, ranges = part
    width = (1 << 64) // ranges
    first = np.uint64(number * width)
    last = np.uint64((number + 1) * width - 1)
    low = int(np.searchsorted(line, first))
    high = int(np.searchsorted(line, last, side="right"))
    # Copies: a mapped file stays open as long as anything of it is held.
    row = table["row"].combine_chunks().to_numpy(zero_copy_only=False)
    return line[low:high].copy(), row[low:high].copy()


def join_range(
    workspace: Workspace,
    runs: Sequence[Sequence[Shard]],
    documents: Sequence[Shard],
    duplicates: Sequence[Shard],
    above: int,
    part: tuple[int, int],
) -> Parts:
    """Job: the repeated lines of a range; `held` is a digest of those each shard has ("": none)."""
    storage = workspace.storage
    rows = [[_range_of(storage, run, part) for run in shards] for shards in runs]
    candidates = frequent([line for shards in rows for line, _ in shards], above)
    member, cluster = _clusters(storage, duplicates)
    lines, groups = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint64)]
    for number, shards in enumerate(rows):
        masks = [contained(line, candidates) for line, _ in shards]
        if not any(mask.any() for mask in masks):
            continue
        ids = ids_to_numpy(read_shard(storage, documents[number], ["doc_id"])["doc_id"])[:, 0]
        for (line, row), mask in zip(shards, masks, strict=True):
            group = ids[row[mask]]
            if member.size:
                at = np.minimum(np.searchsorted(member, group), member.size - 1)
                group = np.where(member[at] == group, cluster[at], group)
            lines.append(line[mask])
            groups.append(group)
    line, num_docs, num_groups = documents_per_line(np.concatenate(lines), np.concatenate(groups))
    repeated = num_groups > above
    line = line[repeated]
    held = []
    for shards in rows:
        own = [sorted_unique(one)[contained(sorted_unique(one), line)] for one, _ in shards]
        every = np.unique(np.concatenate(own)) if own else np.empty(0, dtype=np.uint64)
        held.append(fingerprint(every.astype("<u8").tobytes()) if every.size else "")
    with workspace.writer("line_counts", _COUNTS) as writer:
        columns = {"line": line, "documents": num_docs[repeated], "groups": num_groups[repeated]}
        writer.write(pa.table(columns, schema=_COUNTS))
        return Parts({"line_counts": [writer.commit()]}, {}, {"held": held})


def _clusters(storage: Storage, duplicates: Sequence[Shard]) -> tuple[U64, U64]:
    """Return the documents of clusters, sorted, and the cluster of each: 8 bytes of their ids.

    Among n documents, two share these bytes with a chance of n^2 / 2^65; they would count as one.
    """
    pairs = [pl.DataFrame(schema={"member": pl.UInt64, "cluster": pl.UInt64})]
    for shard in duplicates:
        edges = read_shard(storage, shard, ["doc_id", "twin_id", "cluster_id"])
        cluster = ids_to_numpy(edges["cluster_id"])[:, 0]
        for name in ("doc_id", "twin_id"):
            member = ids_to_numpy(edges[name])[:, 0]
            pairs.append(pl.DataFrame({"member": member, "cluster": cluster}).unique())
    table = pl.concat(pairs).unique("member").sort("member")
    return table["member"].to_numpy(), table["cluster"].to_numpy()


def cut_shard(
    workspace: Workspace,
    shard: Shard,
    runs: Sequence[Shard],
    repeated: Sequence[Shard],
    rule: Mapping[str, Any],
    exempt: Sequence[str],
) -> Parts:
    """Job: the spans of the repeated lines in one shard, and an example of each line."""
    storage = workspace.storage
    wanted = _own_lines(storage, runs, repeated)
    documents = emptied = num_bytes = 0
    sources: dict[str, int] = {}
    examples: pl.DataFrame | None = None
    columns = ["doc_id", "source", "text_hash", "text"]
    with workspace.writer("cuts") as writer, workspace.writer("line_examples", _EXAMPLES) as told:
        for batch in iter_batches(storage, shard, columns) if wanted.size else ():
            lines = find_lines(batch.column("text"), LineRule(**rule))
            spared = pc.is_in(batch.column("source"), pa.array(exempt, pa.string())).to_numpy(False)
            lines = lines.where(contained(lines.line, wanted) & ~spared[lines.document])
            if not len(lines):
                continue
            rows = pa.array(lines.document)
            cuts = {name: batch.column(name).take(rows) for name in ("doc_id", "text_hash")}
            cuts |= {"start": pa.array(lines.start), "length": pa.array(lines.length)}
            cuts |= {"line": line_keys(lines.line)}
            writer.write(pa.table(cuts, schema=SCHEMAS["cuts"]))
            left = cut_spans(batch.column("text"), lines.document, lines.start, lines.length)
            left = left.take(pa.array(np.unique(lines.document)))
            documents += len(left)
            emptied += len(left) - pc.match_substring_regex(left, r"[\pL\pN]").true_count
            num_bytes += int(lines.length.sum())
            for source, _, lost in _by_source(batch.column("source").take(rows), cuts["length"]):
                sources[source] = sources.get(source, 0) + lost
            examples = _first(examples, _examples(batch, lines))
        if examples is not None:
            told.write(examples.to_arrow().cast(_EXAMPLES))
        tables = {"cuts": [writer.commit()], "line_examples": [told.commit()]}
    counts = {"documents": documents, "emptied": emptied, "bytes": num_bytes}
    return Parts(tables, counts, {"sources": sources})


def _own_lines(storage: Storage, runs: Sequence[Shard], repeated: Sequence[Shard]) -> U64:
    """Return the repeated lines that a shard has, sorted."""
    if not repeated or not runs:
        return np.empty(0, dtype=np.uint64)
    own = [read_shard(storage, run, ["line"])["line"].to_numpy() for run in runs]
    every = np.unique(np.concatenate(own))
    found = []
    for shard in repeated:  # by ascending ranges
        line = read_shard(storage, shard, ["line"])["line"].to_numpy()
        found.append(line[contained(line, every)])
    return np.concatenate(found)


def _examples(batch: Any, lines: Lines) -> pl.DataFrame:
    """Return the first occurrence of each line in a batch, by document id."""
    ids = batch.column("doc_id").take(pa.array(lines.document))
    order = pl.DataFrame({"line": lines.line, "first": pl.Series(ids).cast(pl.Binary)})
    chosen = order.with_row_index("at").sort("line", "first", "at").unique("line", keep="first")
    chosen = chosen.sort("line")
    at = chosen["at"].to_numpy()
    data, offsets = text_buffers(batch.column("text"))
    begin = offsets[lines.document[at]] + lines.start[at]
    pieces = zip(begin.tolist(), (begin + lines.length[at]).tolist(), strict=True)
    texts = pa.array([data[a:b].tobytes() for a, b in pieces], pa.large_binary())
    texts = pc.utf8_slice_codeunits(texts.cast(pa.large_string()), 0, _EXAMPLE_CHARS)
    text = pl.Series(pc.utf8_rtrim_whitespace(texts))
    return chosen.select("line", "first").with_columns(text.alias("text"))


def _first(*found: pl.DataFrame | None) -> pl.DataFrame:
    """Return of each line the example of the smallest document id; it stands in one place only."""
    table = pl.concat([frame for frame in found if frame is not None])
    return table.sort("line", "first").unique("line", keep="first").sort("line")


def tell_range(workspace: Workspace, counts: Shard, examples: Sequence[Shard]) -> Parts:
    """Job: the table `lines` of one range, the most frequent first."""
    storage = workspace.storage
    table = pl.DataFrame(pl.from_arrow(read_shard(storage, counts)))
    texts: pl.DataFrame | None = None
    for shard in examples if table.height else ():
        found = pl.DataFrame(pl.from_arrow(read_shard(storage, shard)))
        texts = _first(texts, found.join(table, on="line", how="semi"))
    if texts is None:
        texts = pl.DataFrame(schema={"line": pl.UInt64, "first": pl.Binary, "text": pl.String})
    told = table.join(texts, on="line", how="left").sort(
        ["documents", "line"], descending=[True, False]
    )
    with workspace.writer("lines") as writer:
        columns = {"line": line_keys(told["line"].to_numpy())}
        columns |= {name: told[name].to_arrow() for name in ("documents", "groups", "text")}
        writer.write(pa.table(columns).cast(SCHEMAS["lines"]))
        return Parts({"lines": [writer.commit()]})

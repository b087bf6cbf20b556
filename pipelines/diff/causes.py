"""Why a document's fate changed: the first pass whose output for it differs, and how.

Passes are asked in the order in which evidence is made: collect, clean, measure, deduplicate,
decontaminate, judge, tokenize. A document whose text is the same and whose evidence is the same
got another verdict because the rules did; the reasons that only one side has say which. Of several
differences in one pass, the first by name is told.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.corpus import Corpus
from pipelines.diff.counts import definitions
from pipelines.diff.joined import FATES, GAINED, LOST, Joined, listed

__all__ = ["PASSES", "attribute", "causes", "collected"]

PASSES = ("collect", "clean", "measure", "deduplicate", "decontaminate", "judge", "tokenize")
_UNMOVED = ("same", "still_dropped")
_BINARY = pl.Binary()
_CAUSES = pl.Schema({"doc_id": _BINARY, "pass": pl.Enum(PASSES), "what": pl.String()})


def attribute(joined: Joined) -> pl.DataFrame:
    """Return doc_id, pass and what differs there, of every document whose fate changed."""
    moved = joined.documents.filter(~pl.col("fate").is_in(_UNMOVED))
    both = moved.filter(pl.col("same_text").is_not_null())
    reworded = both.filter(~pl.col("same_text"))
    verdicts = both.filter(pl.col("same_text") & (pl.col("fate") != "recounted"))
    found = [
        _collected(joined, moved.filter(pl.col("same_text").is_null())),
        _reworded(joined, reworded),
        _judged(joined, verdicts),
        _recounted(joined, both.filter(pl.col("fate") == "recounted")),
    ]
    told = pl.concat([_row(frame) for frame in found])
    assert told.height == moved.height, "every change has one cause"
    return told


def causes(joined: Joined, attributed: pl.DataFrame) -> list[dict[str, Any]]:
    """Return pass, what, and the documents and tokens gained, lost, changed by it, most first."""
    documents = joined.documents.join(attributed, on="doc_id", how="inner")
    change = pl.col("tokens_b") - pl.col("tokens_a")
    fate = pl.col("fate")
    rows = (
        documents.group_by("pass", "what")
        .agg(
            gained=fate.is_in(GAINED).sum().cast(pl.Int64),
            lost=fate.is_in(LOST).sum().cast(pl.Int64),
            changed=fate.is_in(["changed", "recounted"]).sum().cast(pl.Int64),
            dropped=(~fate.is_in([*GAINED, *LOST, "changed", "recounted"])).sum().cast(pl.Int64),
            tokens_gained=change.clip(lower_bound=0).sum(),
            tokens_lost=(-change).clip(lower_bound=0).sum(),
        )
        .with_columns(moved=pl.col("gained") + pl.col("lost") + pl.col("changed"))
        .sort(["moved", "dropped", "pass", "what"], descending=[True, True, False, False])
        .drop("moved")
    )
    told = rows.with_columns(pl.col("pass").cast(pl.String)).to_dicts()
    if not joined.comparable:
        for row in told:
            row["tokens_gained"] = row["tokens_lost"] = None
    return told


def _row(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("doc_id", pl.col("pass").cast(_CAUSES["pass"]), "what").cast(_CAUSES)


def _named(frame: pl.DataFrame, name: str, what: str) -> pl.DataFrame:
    return frame.select("doc_id", pl.lit(name).alias("pass"), pl.lit(what).alias("what"))


def _collected(joined: Joined, moved: pl.DataFrame) -> pl.DataFrame:
    """Documents that one side does not have: is it the source, the file, or the record?"""
    frames = []
    for letter, other, corpus, counterpart, word in (
        ("b", "a", joined.b, joined.a, "new"),
        ("a", "b", joined.a, joined.b, "gone"),
    ):
        mine = moved.filter(
            pl.col(f"kept_{other}").is_null() & pl.col(f"kept_{letter}").is_not_null()
        )
        if not mine.height:
            continue
        there = {source["name"] for source in counterpart.recipe["sources"]}
        files = collected(counterpart).group_by("source", "path").agg().collect()
        placed = (
            collected(corpus)
            .join(mine.lazy().select("doc_id"), on="doc_id", how="semi")
            .collect()
            .join(
                files.with_columns(is_there=pl.lit(value=True)), on=["source", "path"], how="left"
            )
        )
        what = (
            pl.when(~pl.col("source").is_in(list(there)))
            .then(pl.lit(f"a {word} source"))
            .when(pl.col("is_there").is_null())
            .then(pl.lit(f"a {word} file"))
            .otherwise(pl.lit(f"a {word} record of a file that both have"))
        )
        frames.append(placed.select("doc_id", pl.lit("collect").alias("pass"), what.alias("what")))
    return pl.concat([pl.DataFrame(schema={**_CAUSES, "pass": pl.String()}), *frames])


def collected(corpus: Corpus) -> pl.LazyFrame:
    """Return doc_id, source, path and raw_hash as they are stored: to compare, not to show."""
    raw = corpus.table("raw", hex_ids=False, as_stored=True)
    return raw.select("doc_id", "source", "path", "raw_hash")


def _reworded(joined: Joined, moved: pl.DataFrame) -> pl.DataFrame:
    """Documents with another text: was it read otherwise, or cleaned otherwise?"""
    if not moved.height or joined.same("collect"):
        return _named(moved, "clean", "the same record, cleaned otherwise")
    ids = moved.lazy().select("doc_id")
    raw = [
        collected(corpus).select("doc_id", raw_hash="raw_hash").join(ids, on="doc_id", how="semi")
        for _, corpus in joined.sides
    ]
    both = raw[0].join(raw[1], on="doc_id").collect()
    same = pl.col("raw_hash") == pl.col("raw_hash_right")
    return both.select(
        "doc_id",
        pl.when(same).then(pl.lit("clean")).otherwise(pl.lit("collect")).alias("pass"),
        pl.when(same)
        .then(pl.lit("the same record, cleaned otherwise"))
        .otherwise(pl.lit("the same record with another text"))
        .alias("what"),
    )


def _judged(joined: Joined, moved: pl.DataFrame) -> pl.DataFrame:
    """Documents with the same text and another verdict: each reason that one side lacks."""
    asked = moved.select(
        "doc_id",
        "source",
        listed("reasons_a").alias("a"),
        listed("reasons_b").alias("b"),
    )
    one_sided = pl.concat(
        [
            asked.select(
                "doc_id",
                pl.col("source").cast(pl.String),
                pl.col(left).list.set_difference(right).alias("reason"),
                pl.lit(left).alias("side"),
            )
            for left, right in (("a", "b"), ("b", "a"))
        ]
    )
    one_sided = one_sided.filter(pl.col("reason").list.len() > 0).explode("reason")
    kinds = {
        "rule:": _ruled,
        "duplicate:": _duplicated,
        "contaminated:": _contaminated,
    }
    known = pl.lit(value=False)
    frames = []
    for start, function in kinds.items():
        mine = pl.col("reason").str.starts_with(start)
        known = known | mine
        found = one_sided.filter(mine)
        if found.height:
            frames.append(function(joined, found).select("doc_id", "pass", "what"))
    others = one_sided.filter(~known)
    frames.append(others.select("doc_id", pl.lit("judge").alias("pass"), what="reason"))
    told = pl.concat(frames).with_columns(pl.col("pass").cast(_CAUSES["pass"]))
    return told.sort("doc_id", "pass", "what").unique("doc_id", keep="first", maintain_order=True)


def _ruled(joined: Joined, found: pl.DataFrame) -> pl.DataFrame:
    """Rules: the signals a rule reads differ, or else the rule does."""
    rules = [definitions(corpus) for _, corpus in joined.sides]
    pairs = found.select("reason", "source").unique().sort("reason", "source")
    changes = []
    reads: dict[str, list[str]] = {}
    for reason, source in pairs.iter_rows():
        before, after = (_effective(side.get(reason), source) for side in rules)
        changes.append(_rule_change(before, after))
        definition: Mapping[str, Any] = rules[1].get(reason) or rules[0].get(reason) or {}
        reads[reason] = [name for name in definition.get("reads") or () if name != "source"]
    table = pairs.with_columns(change=pl.Series(changes, dtype=pl.String))
    told = found.join(table, on=["reason", "source"])
    differing = _other_signals(joined, found, reads)
    told = told.join(differing, on=["doc_id", "reason"], how="left")
    unchanged = pl.col("change") == "same"
    # A rule that only one side has decided by itself, whatever the signals were.
    measured = pl.col("differs").is_not_null() & pl.col("change").is_in(["same", "changed"])
    return told.select(
        "doc_id",
        pl.when(measured).then(pl.lit("measure")).otherwise(pl.lit("judge")).alias("pass"),
        pl.when(measured)
        .then(pl.format("other signals for {}", "reason"))
        .when(unchanged)
        .then(pl.format("{} evaluated otherwise", "reason"))
        .otherwise(pl.format("{} {}", "reason", "change"))
        .alias("what"),
    )


def _effective(rule: Mapping[str, Any] | None, source: str) -> tuple[Any, Any] | None:
    """Return what a rule asks of a source's documents, None where it asks nothing."""
    if rule is None or source in rule["exempt"]:
        return None
    return rule["overrides"].get(source, rule["keep"]), rule["on_null"]


def _rule_change(before: tuple[Any, Any] | None, after: tuple[Any, Any] | None) -> str:
    if before == after:
        return "same"
    return "added" if before is None else "removed" if after is None else "changed"


def _other_signals(
    joined: Joined, found: pl.DataFrame, reads: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """Return doc_id, reason, differs where a signal that the rule reads differs."""
    empty = pl.DataFrame(schema={"doc_id": _BINARY, "reason": pl.String, "differs": pl.Boolean})
    if joined.same("measure"):
        return empty
    tables = [corpus.table("signals", hex_ids=False) for _, corpus in joined.sides]
    there = [set(table.collect_schema()) for table in tables]
    asked = {name for names in reads.values() for name in names}
    common = sorted(asked & there[0] & there[1])
    ids = found.lazy().select("doc_id").unique()
    left, right = (
        table.select("doc_id", *common).join(ids, on="doc_id", how="semi") for table in tables
    )
    both = left.join(right, on="doc_id", suffix="\nb").collect()
    differs = both.select(
        "doc_id", *(pl.col(name).ne_missing(pl.col(f"{name}\nb")).alias(name) for name in common)
    )
    frames = [empty]
    for reason, names in reads.items():
        rows = found.filter(pl.col("reason") == reason).select("doc_id")
        if set(names) <= set(common):  # else one side has measured less: that differs
            mine = differs.filter(pl.any_horizontal(pl.lit(value=False), *names)).select("doc_id")
            rows = rows.join(mine, on="doc_id", how="semi")
        frames.append(rows.with_columns(reason=pl.lit(reason), differs=pl.lit(value=True)))
    return pl.concat(frames)


def _duplicated(joined: Joined, found: pl.DataFrame) -> pl.DataFrame:
    """Duplicates: the verified edges differ, or another document speaks for the group."""
    other = _rows_differ(
        joined,
        found,
        "deduplicate",
        [_edges(corpus) for _, corpus in joined.sides],
    )
    verdicts = joined.documents.select("doc_id", "kept_a", "kept_b")
    kept = pl.concat(
        [
            corpus.table("verdicts", hex_ids=False)
            .filter(pl.col("kept_id").is_not_null())
            .select("doc_id", "kept_id")
            .join(found.lazy().filter(pl.col("side") == letter), on="doc_id", how="semi")
            .collect()
            for letter, corpus in joined.sides
        ]
    ).unique("doc_id", keep="first")
    twins = kept.join(verdicts, left_on="kept_id", right_on="doc_id", how="left")
    moved = (pl.col("kept_a").ne_missing(pl.col("kept_b"))).alias("moved")
    told = found.join(other, on="doc_id", how="left").join(
        twins.select("doc_id", moved), on="doc_id", how="left"
    )
    return told.select(
        "doc_id",
        pl.when("differs").then(pl.lit("deduplicate")).otherwise(pl.lit("judge")).alias("pass"),
        pl.when("differs")
        .then(pl.format("{}: other verified twins", "reason"))
        .when("moved")
        .then(pl.format("{}: its kept twin came or went", "reason"))
        .otherwise(pl.format("{}: another of its group is kept", "reason"))
        .alias("what"),
    )


def _edges(corpus: Corpus) -> pl.LazyFrame:
    """Return doc_id, twin_id, kind, jaccard of every edge, from both of its ends."""
    edges = corpus.table("duplicates", hex_ids=False).select("doc_id", "twin_id", "kind", "jaccard")
    turned = edges.select(doc_id="twin_id", twin_id="doc_id", kind="kind", jaccard="jaccard")
    return pl.concat([edges, turned])


def _contaminated(joined: Joined, found: pl.DataFrame) -> pl.DataFrame:
    """Contamination: the matches differ, or what follows from them."""
    columns = ["doc_id", "benchmark", "item", "method", "overlap", "strictness"]
    other = _rows_differ(
        joined,
        found,
        "decontaminate",
        [
            corpus.table("contamination", hex_ids=False).select(columns)
            for _, corpus in joined.sides
        ],
    )
    return found.join(other, on="doc_id", how="left").select(
        "doc_id",
        pl.when("differs").then(pl.lit("decontaminate")).otherwise(pl.lit("judge")).alias("pass"),
        pl.when("differs")
        .then(pl.format("{}: other matches", "reason"))
        .otherwise(pl.format("{}: another action or threshold", "reason"))
        .alias("what"),
    )


def _rows_differ(
    joined: Joined, found: pl.DataFrame, name: str, tables: Sequence[pl.LazyFrame]
) -> pl.DataFrame:
    """Return doc_id, differs of the documents that do not have the same rows on both sides."""
    differs = pl.lit(value=True).alias("differs")
    if joined.same(name):
        return found.head(0).select("doc_id", differs)
    ids = found.lazy().select("doc_id").unique()
    rows = [table.join(ids, on="doc_id", how="semi") for table in tables]
    keys = rows[0].collect_schema().names()
    one_sided = [
        left.join(right, on=keys, how="anti", nulls_equal=True).select("doc_id")
        for left, right in (rows, rows[::-1])
    ]
    return pl.concat(one_sided).unique().select("doc_id", differs).collect()


def _recounted(joined: Joined, moved: pl.DataFrame) -> pl.DataFrame:
    """Documents of which more or less is tokenized: other lines or spans are cut, or other ids."""
    if not moved.height:
        return _named(moved, "tokenize", "")
    cuts = [
        corpus.table("cuts", hex_ids=False).select("doc_id", "start", "length")
        for _, corpus in joined.sides
    ]
    lines = _rows_differ(joined, moved, "deduplicate", cuts)
    marks = moved.join(lines, on="doc_id", how="left")
    cut = pl.col("differs").fill_null(value=False)
    return marks.select(
        "doc_id",
        pl.when(cut).then(pl.lit("deduplicate")).otherwise(pl.lit("tokenize")).alias("pass"),
        pl.when(cut)
        .then(pl.lit("other repeated lines are cut"))
        .otherwise(pl.lit("tokenized otherwise"))
        .alias("what"),
    )


assert set(_UNMOVED) < set(FATES)

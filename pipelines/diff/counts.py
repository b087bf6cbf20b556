"""What two versions hold, and what lies between: counts by fate, source, reason, rule and domain.

All come from one cube (source x fate x reasons x splits) with a row for each combination there is,
so that documents are counted once. In each group A + gained - lost = B, in documents and tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.corpus import Corpus
from pipelines.diff.joined import FATES, GAINED, LOST, Joined, listed
from pipelines.packing import num_rows

__all__ = [
    "balance",
    "cube",
    "definitions",
    "fates",
    "mixture",
    "moves",
    "reasons",
    "rules",
    "side",
    "sources",
    "splits",
]

_MAX_MOVES = 60
_MAX_DOMAINS = 200
_KEYS = ("source", "fate", "kept_a", "kept_b", "split_a", "split_b", "reasons_a", "reasons_b")


def side(corpus: Corpus) -> dict[str, Any]:
    """Return who a version is, and its sums."""
    collected, judged = corpus.manifest("collect").counts, corpus.manifest("judge").counts
    tokenizer = corpus.tokenizer
    return {
        "id": str(corpus.version),
        "unit": corpus.unit,
        "fingerprint": corpus.version.fingerprint,
        "parent": corpus.version.parent,
        "records": collected["records"],
        "quarantined": collected["quarantined"],
        **{name: judged[name] for name in ("documents", "kept", "dropped")},
        "sources": [source["name"] for source in corpus.recipe["sources"]],
        "tokenizer": {name: tokenizer.get(name) for name in ("sha256", "vocab_size")},
        "row_tokens": corpus.manifest("pack").settings.get("row_tokens"),
        "train_rows": num_rows(corpus.manifest("pack")),
    }


def cube(joined: Joined) -> pl.DataFrame:
    """Return the documents, grouped by all that is counted by, with their sums.

    Columns: source, fate, kept, split and reasons (a list) of both sides, documents, bytes and
    tokens of both sides, and `tokens_more`, `tokens_less`: what single documents won and lost.
    """
    change = pl.col("tokens_b") - pl.col("tokens_a")
    grouped = joined.documents.group_by(_KEYS).agg(
        pl.len().cast(pl.Int64).alias("documents"),
        pl.col("bytes_a", "bytes_b", "tokens_a", "tokens_b").sum(),
        tokens_more=change.clip(lower_bound=0).sum(),
        tokens_less=(-change).clip(lower_bound=0).sum(),
    )
    return grouped.with_columns(
        pl.col("source", "split_a", "split_b").cast(pl.String),
        listed("reasons_a").alias("reasons_a"),
        listed("reasons_b").alias("reasons_b"),
    )


def balance(joined: Joined, counted: pl.DataFrame) -> dict[str, Any]:
    """Return collected, documents, bytes, tokens and drawn tokens as {a, gained, lost, b}.

    Documents, bytes and tokens are those that are kept. Tokens of different tokenizers are no
    numbers of one kind: then gained and lost are None.
    """
    kept_a, kept_b = (pl.col(name).fill_null(value=False) for name in ("kept_a", "kept_b"))
    in_a, in_b = (pl.col(name).is_not_null() for name in ("kept_a", "kept_b"))
    documents = joined.documents
    drawn = pl.col("drawn_b") - pl.col("drawn_a")
    change = (
        pl.when(kept_b).then("bytes_b").otherwise(0) - pl.when(kept_a).then("bytes_a").otherwise(0)
    )  # fmt: skip
    sums = documents.select(
        drawn_a=pl.col("drawn_a").sum(),
        drawn_b=pl.col("drawn_b").sum(),
        drawn_more=drawn.clip(lower_bound=0).sum(),
        drawn_less=(-drawn).clip(lower_bound=0).sum(),
        bytes_a=pl.col("bytes_a").filter(kept_a).sum(),
        bytes_b=pl.col("bytes_b").filter(kept_b).sum(),
        bytes_more=change.clip(lower_bound=0).sum(),
        bytes_less=(-change).clip(lower_bound=0).sum(),
    ).row(0, named=True)
    tokens = counted.select(pl.col("^tokens_.*$").sum()).row(0, named=True)
    gained, lost = pl.col("fate").is_in(GAINED), pl.col("fate").is_in(LOST)
    return {
        "collected": _four(
            _documents(counted, in_a),
            _documents(counted, in_b & ~in_a),
            _documents(counted, in_a & ~in_b),
            _documents(counted, in_b),
        ),
        "documents": _four(
            _documents(counted, kept_a),
            _documents(counted, gained),
            _documents(counted, lost),
            _documents(counted, kept_b),
        ),
        "changed": _documents(counted, pl.col("fate") == "changed"),
        "renamed": _renamed(documents),
        "bytes": _measure(sums, "bytes", comparable=True),
        "tokens": _measure(tokens, "tokens", comparable=joined.comparable),
        "drawn_tokens": _measure(sums, "drawn", comparable=joined.comparable),
    }


def _documents(counted: pl.DataFrame, where: pl.Expr) -> int:
    return int(counted.filter(where)["documents"].sum())


def _four(a: int, gained: int, lost: int, b: int) -> dict[str, int]:
    assert a + gained - lost == b, "a difference conserves what it counts"
    return {"a": a, "gained": gained, "lost": lost, "b": b}


def _measure(row: Mapping[str, Any], name: str, *, comparable: bool) -> dict[str, int | None]:
    found = _four(*(int(row[f"{name}_{end}"]) for end in ("a", "more", "less", "b")))
    return {**found} if comparable else {**found, "gained": None, "lost": None}


def _renamed(documents: pl.DataFrame) -> int:
    """Count the lost documents whose very text came back under another id."""
    gone = documents.filter(pl.col("fate") == "gone").group_by("text_hash_a").len()
    new = documents.filter(pl.col("fate") == "new").group_by("text_hash_b").len()
    both = gone.join(new, left_on="text_hash_a", right_on="text_hash_b")
    return int(both.select(pl.min_horizontal("len", "len_right").sum()).item())


def fates(joined: Joined, counted: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what became of how many documents, in the order of `FATES`; only those there are."""
    sums = ("documents", "bytes_a", "bytes_b", "tokens_a", "tokens_b")
    rows = counted.group_by("fate").agg(pl.col(sums).sum()).sort("fate")
    told = [{**row, "told": FATES[row["fate"]]} for row in rows.iter_rows(named=True)]
    if not joined.comparable:  # of what stands on one side only, tokens are a number
        for row in told:
            row["comparable"] = row["fate"] in (*GAINED, *LOST)
    return told


def sources(joined: Joined, counted: pl.DataFrame) -> list[dict[str, Any]]:
    """Return each source's kept documents and tokens: a, gained, lost, changed, b."""
    kept_a, kept_b = (pl.col(name).fill_null(value=False) for name in ("kept_a", "kept_b"))
    number = pl.col("documents")
    rows = counted.group_by("source").agg(
        collected_a=number.filter(pl.col("kept_a").is_not_null()).sum(),
        collected_b=number.filter(pl.col("kept_b").is_not_null()).sum(),
        a=number.filter(kept_a).sum(),
        gained=number.filter(pl.col("fate").is_in(GAINED)).sum(),
        lost=number.filter(pl.col("fate").is_in(LOST)).sum(),
        changed=number.filter(pl.col("fate") == "changed").sum(),
        b=number.filter(kept_b).sum(),
        tokens_a=pl.col("tokens_a").sum(),
        tokens_gained=pl.col("tokens_more").sum(),
        tokens_lost=pl.col("tokens_less").sum(),
        tokens_b=pl.col("tokens_b").sum(),
    )
    found = {row["source"]: row for row in rows.iter_rows(named=True)}
    if not joined.comparable:
        for row in found.values():
            row["tokens_gained"] = row["tokens_lost"] = None
    names = [name for _, corpus in joined.sides for name in _source_names(corpus)]
    return [found[name] for name in dict.fromkeys([*names, *sorted(found)]) if name in found]


def _source_names(corpus: Corpus) -> list[str]:
    return [source["name"] for source in corpus.recipe["sources"]]


def reasons(counted: pl.DataFrame) -> list[dict[str, Any]]:
    """Return for each reason the documents that have it: a, b, both, and what it took or gave back.

    `took`: kept before, and this is among the reasons why no more; `gave`: kept now, and this was
    among the reasons why not before.
    """
    number = pl.col("documents")
    left = (
        counted.filter(pl.col("reasons_a").list.len() > 0)
        .explode("reasons_a")
        .group_by(reason="reasons_a")
        .agg(
            a=number.sum(),
            both=number.filter(pl.col("reasons_b").list.contains(pl.col("reasons_a"))).sum(),
            gave=number.filter(pl.col("fate") == "rescued").sum(),
        )
    )
    right = (
        counted.filter(pl.col("reasons_b").list.len() > 0)
        .explode("reasons_b")
        .group_by(reason="reasons_b")
        .agg(b=number.sum(), took=number.filter(pl.col("fate") == "dropped").sum())
    )
    both = left.join(right, on="reason", how="full", coalesce=True).fill_null(0)
    order = ["reason", "a", "b", "both", "took", "gave"]
    rows = both.select(order).sort(["b", "a", "reason"], descending=[True, True, False])
    return rows.to_dicts()


def moves(counted: pl.DataFrame) -> dict[str, Any]:
    """Return where documents stood before and stand after, the most first: {count, rows}.

    A place is `absent`, `kept`, or the first reason that drops a document (rules come before
    contamination, and that before duplicates).
    """
    places = {
        letter: pl.when(pl.col(f"kept_{letter}").is_null())
        .then(pl.lit("absent"))
        .when(f"kept_{letter}")
        .then(pl.lit("kept"))
        .otherwise(pl.col(f"reasons_{letter}").list.first())
        for letter in "ab"
    }
    rows = (
        counted.group_by(before=places["a"], after=places["b"])
        .agg(pl.col("documents").sum())
        .filter(pl.col("before") != pl.col("after"))
        .sort(["documents", "before", "after"], descending=[True, False, False])
    )
    return {"count": rows.height, "rows": rows.head(_MAX_MOVES).to_dicts()}


def splits(counted: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the documents kept in both whose split is another: before, after, documents."""
    both = counted.filter(pl.col("kept_a") & pl.col("kept_b"))
    rows = (
        both.filter(pl.col("split_a") != pl.col("split_b"))
        .group_by(before="split_a", after="split_b")
        .agg(pl.col("documents").sum(), pl.col("tokens_b").sum().alias("tokens"))
    )
    return rows.sort("before", "after").to_dicts()


def rules(joined: Joined, told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules that changed: reason, change, before, after, and the documents each has.

    Args:
        joined: both versions.
        told: the rows of `reasons`.
    """
    defined = [definitions(corpus) for _, corpus in joined.sides]
    counts = {row["reason"]: row for row in told}
    rows = []
    for reason in sorted({*defined[0], *defined[1]}):
        before, after = (side.get(reason) for side in defined)
        if before == after:
            continue
        change = "added" if before is None else "removed" if after is None else "changed"
        found = counts.get(reason, {})
        numbers = {name: found.get(name, 0) for name in ("a", "b", "took", "gave")}
        rows.append(
            {
                "reason": reason,
                "change": change,
                "before": _told(before),
                "after": _told(after),
                **numbers,
            }
        )
    return rows


def definitions(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Return reason -> keep, on_null, reads, overrides, exempt of a version's rules."""
    asked = corpus.manifest("judge").settings["rules"]
    return {
        rule["reason"]: {
            **{name: rule.get(name) for name in ("keep", "on_null", "reads")},
            "overrides": rule.get("overrides", {}),
            "exempt": list(asked["exempt"].get(rule["reason"], ())),
        }
        for rule in asked["rules"]
    }


def _told(rule: Mapping[str, Any] | None) -> str | None:
    """Say in a line what a rule keeps."""
    if rule is None:
        return None
    told = [str(rule["keep"])]
    told += [f"{source}: {sql}" for source, sql in rule["overrides"].items()]
    told += [f"not for {', '.join(rule['exempt'])}"] if rule["exempt"] else []
    told += [f"null: {rule['on_null']}"] if rule["on_null"] != "refuse" else []
    return "; ".join(told)


def mixture(joined: Joined) -> dict[str, Any]:
    """Return what the mixture draws, by domain, and why a document is drawn more or less often.

    `rows`: domain, asked share and drawn documents and tokens of both sides, gained, lost; of very
    many domains (`count`) the largest.
    `why`: the drawn tokens gained and lost because documents came or went (or changed their split
    or length), and because of other copies of the same documents.
    """
    frames = []
    for letter, corpus in joined.sides:
        copies = pl.col("copies").cast(pl.Int64)
        frames.append(
            corpus.table("draws", hex_ids=False)
            .group_by("doc_id", "domain")
            .agg(copies=copies.sum(), drawn=(copies * pl.col("tokens")).sum())
            .filter(pl.col("copies") > 0)
            .collect()
            .rename({"copies": f"copies_{letter}", "drawn": f"drawn_{letter}"})
        )
    both = frames[0].join(frames[1], on=["doc_id", "domain"], how="full", coalesce=True)
    change = pl.col("drawn_b").fill_null(0) - pl.col("drawn_a").fill_null(0)
    rows = (
        both.group_by("domain")
        .agg(
            documents_a=pl.col("copies_a").count(),
            documents_b=pl.col("copies_b").count(),
            a=pl.col("drawn_a").sum(),
            gained=change.clip(lower_bound=0).sum(),
            lost=(-change).clip(lower_bound=0).sum(),
            b=pl.col("drawn_b").sum(),
        )
        .sort([pl.max_horizontal("a", "b"), "domain"], descending=[True, False])
        .to_dicts()
    )
    for letter, corpus in joined.sides:
        whole = sum(row[letter] for row in rows)
        asked = {
            row["domain"]: row.get("asked_share")
            for row in corpus.manifest("mix").info.get("domains", [])
        }
        for row in rows:
            row[f"asked_{letter}"] = asked.get(row["domain"])
            row[f"share_{letter}"] = row[letter] / whole if whole else None
    if not joined.comparable:
        for row in rows:
            row["gained"] = row["lost"] = None
    told = sorted(rows[:_MAX_DOMAINS], key=lambda row: row["domain"])
    why = _why(joined) if joined.comparable else None
    return {"count": len(rows), "rows": told, "why": why}


def _why(joined: Joined) -> dict[str, dict[str, int]]:
    """Return {documents, copies} -> {gained, lost} drawn tokens; the two add up to all."""
    train = (pl.col("split_a") == "train") & (pl.col("split_b") == "train")
    stays = (
        (pl.col("kept_a") & pl.col("kept_b") & train & (pl.col("tokens_a") == pl.col("tokens_b")))
        .fill_null(value=False)
    )  # fmt: skip
    change = pl.col("drawn_b") - pl.col("drawn_a")
    rows = joined.documents.group_by(stays=stays).agg(
        gained=change.clip(lower_bound=0).sum(), lost=(-change).clip(lower_bound=0).sum()
    )
    found = {row["stays"]: row for row in rows.iter_rows(named=True)}
    none = {"gained": 0, "lost": 0}
    return {
        name: {end: int(found.get(stays, none)[end]) for end in none}
        for name, stays in (("documents", False), ("copies", True))
    }

"""What deserves a look first. Each alert says what was found and where the page tells more."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from pipelines.report.facts import Facts
from pipelines.report.near import crowded, near_duplicates
from pipelines.report.text import number, percent, si, visible

__all__ = ["alerts"]

_MANY_EPOCHS = 4  # Muennighoff et al. 2023: repetition is nearly free up to about four epochs
_LOW_RECALL = 0.95
_NAMES_SHOWN = 8
_LEVELS = ("warning", "notice")


def alerts(facts: Facts, data: dict[str, Any]) -> list[dict[str, str]]:
    """Return alerts as {level, section, text}, warnings first.

    Args:
        facts: the corpus's.
        data: the sections made so far; those of signals may be absent.
    """
    found = [
        {"level": level, "section": section, "text": text}
        for maker in (
            _safety,
            _input,
            _losses,
            _rules,
            _duplicates,
            _signals,
            _contamination,
            _mixture,
        )
        for level, section, text in maker(facts, data)
    ]
    return sorted(found, key=lambda alert: _LEVELS.index(alert["level"]))


Alerts = Iterator[tuple[str, str, str]]


def _names(names: list[str]) -> str:
    shown = ", ".join(visible(name) for name in names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _safety(facts: Facts, data: dict[str, Any]) -> Alerts:
    found = data.get("safety")
    if not found:
        return
    failed = [check["name"] for check in found["checks"] if not check["passed"]]
    if failed:
        yield "warning", "safe", f"Checks fail: {_names(failed)}."
    bare = found["licenses"]["bare_documents"]
    if bare:
        share = percent(bare / data["corpus"]["kept"])
        yield "notice", "licenses", f"{number(bare)} kept documents ({share}) state no licence."


def _input(facts: Facts, data: dict[str, Any]) -> Alerts:
    top = data["corpus"]
    if top["limit"] is not None:
        text = f"A trial run: only the first {top['limit']:,} records of each source were read."
        yield "warning", "corpus", text
    if top["quarantined"]:
        share = percent(top["quarantined"] / top["records"])
        reasons = (
            facts.quarantine.group_by("reason")
            .agg(pl.col("records").sum())
            .sort(["records", "reason"], descending=[True, False])
        )
        yield (
            "warning",
            "quarantine",
            f"{_records(top['quarantined'])} of {top['records']:,} ({share}) could not be read and "
            f"went to quarantine: {_names(reasons['reason'].to_list())}.",
        )


def _records(count: int) -> str:
    return f"{count:,} record" if count == 1 else f"{count:,} records"


def _losses(facts: Facts, data: dict[str, Any]) -> Alerts:
    for row in data["sources"]["rows"]:
        if not row["documents"]:
            yield "warning", "sources", f"Source {row['source']} has no documents."
            continue
        whole = row["tokens"] + row["lost_tokens_estimate"]
        documents = 1 - row["kept"] / row["documents"]
        tokens = row["lost_tokens_estimate"] / whole if whole else 0.0
        if max(documents, tokens) > 0.5:
            lost = "everything" if not row["kept"] else "more than half"
            yield (
                "warning",
                "sources",
                f"Source {row['source']} lost {lost}: {percent(documents)} of its documents, "
                f"~{percent(tokens)} of its {data['corpus']['unit']}.",
            )


def _rules(facts: Facts, data: dict[str, Any]) -> Alerts:
    rules = [row for row in data["reasons"]["rows"] if row["kind"] == "rules"]
    dead = [row["reason"] for row in rules if not row["documents"]]
    if dead:
        verb = "drops" if len(dead) == 1 else "drop"
        yield "notice", "reasons", f"{_names(dead)} {verb} nothing (dead rules)."


def _duplicates(facts: Facts, data: dict[str, Any]) -> Alerts:
    manifest = facts.corpus.manifest("deduplicate")
    counts = manifest.counts
    if counts.get("capped_buckets"):
        yield (
            "warning",
            "duplicates",
            f"{counts['capped_buckets']:,} LSH buckets held more documents than the cap, so not "
            "all of their pairs were compared; near-duplicates may be left.",
        )
    if counts.get("capped_documents"):
        yield (
            "notice",
            "duplicates",
            f"{counts['capped_documents']:,} documents were so long that their "
            "near-duplicates were looked for by their beginnings only.",
        )
    untold = crowded(facts.corpus.manifest("judge").counts)
    if untold:
        yield "warning", "duplicates", untold
    near = near_duplicates(manifest)
    for row in near["measured"] if near else ():
        # With few pairs to be found a recall is low by chance: its whole interval must be low.
        low = row["share"] < 1 if row["what"] == "precision" else (row["high"] or 1) < _LOW_RECALL
        if low:
            interval = f"{percent(row['low'])} to {percent(row['high'])}"
            yield (
                "warning",
                "duplicates",
                f"The {row['what']} of near-duplicates, measured on this corpus, is "
                f"{percent(row['share'])} ({interval}).",
            )


def _signals(facts: Facts, data: dict[str, Any]) -> Alerts:
    null = [entry["signal"] for entry in data.get("signals", []) if entry["kind"] == "null"]
    if null:
        yield "warning", "signals", f"Null in every document: {_names(null)}."


def _contamination(facts: Facts, data: dict[str, Any]) -> Alerts:
    manifest = facts.corpus.manifest("decontaminate")
    if not manifest.info["coverage"]:
        yield "notice", "contamination", "Not checked against any benchmark."
    for row in manifest.info["coverage"]:
        if row["uncoverable_items"]:
            share = percent(row["uncoverable_items"] / row["items"])
            yield (
                "warning",
                "contamination",
                f"{row['uncoverable_items']:,} of {row['items']:,} items ({share}) of "
                f"{row['benchmark']} are too short or too common to be recognised by any method.",
            )
    for name, count in sorted(manifest.info.get("silenced", {}).items()):
        if count:
            text = (
                f"{count:,} items of {name} say only what too many documents here say: not sought."
            )
            yield "warning", "contamination", text
    told = {
        "marked": "that contain items of {} are only marked, not dropped.",
        "contaminated_cut": "lose the span in which an item of {} stands.",
    }
    for counted, count in sorted(facts.corpus.manifest("judge").counts.items()):
        action, _, name = counted.partition(":")
        if action in told and count:
            yield "warning", "contamination", f"{count:,} documents {told[action].format(name)}"


def _mixture(facts: Facts, data: dict[str, Any]) -> Alerts:
    rows = data["mixture"]["rows"]
    many = [r for r in rows if (r["epochs"] or 0) > 1]
    if many:
        most = max(many, key=lambda row: row["epochs"])
        level = "warning" if most["epochs"] > _MANY_EPOCHS else "notice"
        told = ", ".join(f"{row['domain']} {row['epochs']:.2f}" for row in many[:_NAMES_SHOWN])
        more = f" and {len(many) - _NAMES_SHOWN} more" if len(many) > _NAMES_SHOWN else ""
        yield level, "mixture", f"Read more than once, in epochs: {told}{more}."
    unread = [r for r in rows if r["available_tokens"] and not r["realised_tokens"]]
    if unread:
        lost = f"{si(sum(row['available_tokens'] for row in unread))} {data['corpus']['unit']}"
        names = _names([row["domain"] for row in unread])
        yield "notice", "mixture", f"Kept but never drawn: {names} ({lost})."
    if not data["corpus"]["drawn_tokens"]:
        yield "warning", "mixture", "Nothing is drawn: there is nothing to train on."

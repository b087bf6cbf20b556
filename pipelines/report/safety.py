"""Is it safe to train on: checks, contamination, personal data and licences, in four answers.

What was not looked for is said to be unknown; it is never taken for good.
"""

from typing import Any

import polars as pl

from pipelines.checks import results_of
from pipelines.checks.evaluate import told_value
from pipelines.report.facts import Facts
from pipelines.report.text import clip, number, percent

__all__ = ["safety"]

_MAX_CHECKS = 100
_MAX_LICENSES = 30
_NAMES_SHOWN = 6


def safety(facts: Facts, contamination: dict[str, Any]) -> dict[str, Any]:
    """Return {answers, checks, personal, licenses}.

    An answer is {about, state (good, warning or unknown), text, section}; `personal` has what was
    masked in the kept documents, by kind, or is None where nothing was looked for.

    Args:
        facts: the corpus's.
        contamination: that section's data.
    """
    checks, personal, licenses = _checks(facts), _personal(facts), _licenses(facts)
    return {
        "answers": [
            _about_checks(facts, checks),
            _about_contamination(contamination),
            _about_personal(personal),
            _about_licenses(facts, licenses),
        ],
        "checks": checks,
        "personal": personal,
        "licenses": licenses,
    }


def _answer(about: str, state: str, text: str, section: str) -> dict[str, str]:
    return {"about": about, "state": state, "text": text, "section": section}


def _checks(facts: Facts) -> list[dict[str, Any]]:
    """Return name, sql, passed, found, wanted and message of every check, as last run."""
    rows = []
    for result in (results_of(facts.corpus) or [])[:_MAX_CHECKS]:
        told = {name: clip(str(result[name]), 400) for name in ("sql", "wanted")}
        told["found"] = clip(told_value(result["found"]), 400)
        message = clip(str(result["message"] or ""), 400)
        name = clip(str(result["name"]), 100)
        rows.append({"name": name, "passed": bool(result["passed"]), **told, "message": message})
    return rows


def _about_checks(facts: Facts, checks: list[dict[str, Any]]) -> dict[str, str]:
    failed = [check["name"] for check in checks if not check["passed"]]
    declared = len(facts.corpus.recipe.get("checks") or {})
    if failed:
        text = f"{len(failed)} of {len(checks)} fail: {_names(failed)}."
        return _answer("Checks", "warning", text, "safe")
    if checks:
        return _answer("Checks", "good", f"All {len(checks)} pass.", "safe")
    text = (
        f"The recipe has {declared}, not yet run on this version (preceptor check runs them)."
        if declared
        else "The recipe states none: its section checks holds SQL with what it must give."
    )
    return _answer("Checks", "unknown", text, "safe")


def _about_contamination(found: dict[str, Any]) -> dict[str, str]:
    rows = found["rows"]
    if not rows:
        text = "Compared with no benchmark."
        return _answer("Contamination", "unknown", text, "contamination")
    left = sum(row["hit_documents"] for row in rows if row["action"] == "mark")
    total, missed = (sum(row[key] for row in rows) for key in ("items", "uncoverable_items"))
    hits = sum(row["hit_documents"] for row in rows)
    marked = f", {number(left)} of them only marked and still there" if left else ""
    text = (
        f"{number(hits)} matches with {len(rows)} benchmark{'s' if len(rows) > 1 else ''}{marked}; "
        f"{percent((total - missed) / total if total else None)} of the items can be recognised."
    )
    state = "warning" if left or missed else "good"
    return _answer("Contamination", state, text, "contamination")


def _personal(facts: Facts) -> list[dict[str, Any]] | None:
    """Return kind, documents, matches and matches per million kept tokens, the most first."""
    asked = facts.corpus.manifest("clean").settings.get("redact")
    if not asked:
        return None
    kept = facts.documents.filter("kept").select("doc_id")
    tokens = int(facts.documents.filter("kept")["tokens"].sum())
    rows = (
        facts.corpus.table("revisions", hex_ids=False)
        .filter(pl.col("step") == "redact")
        .join(kept.lazy(), on="doc_id", how="semi")
        .group_by("kind")
        .agg(documents=pl.col("doc_id").n_unique(), matches=pl.col("count").sum())
        .collect()
        .rows()
    )
    found = {kind: (documents, matches) for kind, documents, matches in rows}
    kinds = dict.fromkeys([*asked["kinds"], *sorted(kind for kind in found if kind)])
    told = []
    for kind in kinds:
        documents, matches = found.get(kind, (0, 0))
        rate = 1e6 * matches / tokens if tokens else None
        told.append({"kind": kind, "documents": documents, "matches": matches, "per_million": rate})
    return sorted(told, key=lambda row: (-row["matches"], row["kind"]))


def _about_personal(found: list[dict[str, Any]] | None) -> dict[str, str]:
    if found is None:
        text = "Not looked for: clean.redact masks emails, addresses, secrets and more."
        return _answer("Personal data", "unknown", text, "personal")
    matches = sum(row["matches"] for row in found)
    kinds = ", ".join(row["kind"] for row in found)
    if not matches:
        return _answer("Personal data", "good", f"None found of: {kinds}.", "personal")
    rates = [row["per_million"] for row in found if row["per_million"] is not None]
    text = (
        f"{number(matches)} matches masked in kept documents, {sum(rates):,.1f} per million "
        f"tokens (sought: {kinds})."
    )
    return _answer("Personal data", "good", text, "personal")


def _licenses(facts: Facts) -> dict[str, Any]:
    """Return the kept documents and tokens by licence, most tokens first."""
    rows = (
        facts.documents.filter("kept")
        .group_by("license")
        .agg(
            documents=pl.len(),
            tokens=pl.col("tokens").sum(),
            sources=pl.col("source").unique().sort(),
        )
        .sort(["tokens", "license"], descending=[True, False], nulls_last=True)
    )
    bare = rows.filter(pl.col("license").is_null())
    return {
        "count": rows.height,
        "rows": rows.head(_MAX_LICENSES).to_dicts(),
        "bare_documents": int(bare["documents"].sum()),
        "bare_tokens": int(bare["tokens"].sum()),
    }


def _about_licenses(facts: Facts, found: dict[str, Any]) -> dict[str, str]:
    tokens = int(facts.documents.filter("kept")["tokens"].sum())
    stated = found["count"] - bool(found["bare_documents"])
    if not found["count"]:
        return _answer("Licences", "unknown", "Nothing was kept.", "licenses")
    if found["bare_documents"]:
        share = percent(found["bare_tokens"] / tokens if tokens else None)
        text = (
            f"{number(found['bare_documents'])} kept documents ({share} of the "
            f"{facts.corpus.unit}) state no licence; the others state {number(stated)} of them."
        )
        return _answer("Licences", "unknown" if not stated else "warning", text, "licenses")
    names = [str(row["license"])[:40] for row in found["rows"]]
    text = f"Every kept document states one: {_names(names)}."
    return _answer("Licences", "good", text, "licenses")


def _names(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")

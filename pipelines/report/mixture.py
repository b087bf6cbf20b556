"""What the model will read: asked and drawn, phase by phase, and what is held out to judge it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.facts import Facts

__all__ = ["effective_number", "mixture"]

_SHOWN = 200  # domains, the most drawn first
_KINDS = {
    "weights": "by weights",
    "natural": "in natural proportions",
    "uniform": "the same of each",
    "temperature": "by temperature {temperature:g}",
    "unimax": "by UniMax",
}


def effective_number(shares: Sequence[float]) -> float:
    """Return exp(entropy): how many equal sources would be as diverse (Hill number of order 1).

    >>> effective_number([0.5, 0.5, 0.0]), effective_number([])
    (2.0, 0.0)
    """
    whole = math.fsum(shares)
    if not whole:
        return 0.0
    entropy = -math.fsum(s / whole * math.log(s / whole) for s in shares if s > 0)
    return round(math.exp(entropy), 6)


def mixture(facts: Facts) -> dict[str, Any]:
    """Return the asked and the realised mixture.

    Keys: budget_tokens, repeat_cap, domains (what they are), drawn_tokens, rows (per domain, over
    all phases), effective_asked and effective_realised, phases (each with its own rows), hidden
    (domains that no table shows), held_out (per source).
    """
    manifest = facts.corpus.manifest("mix")
    settings, info = manifest.settings, manifest.info
    asked = settings["mix"]
    rows = [dict(row) for row in info["domains"]]
    before = {"amount": settings["budget_tokens"], "weights": asked["weights"]}  # had no phases
    told = settings.get("phases") or [{"name": "train", **before}]
    found = info.get("phases") or [{"unit": "tokens", "domains": rows}]
    unit = facts.corpus.unit
    phases = [_phase(said, one, unit) for said, one in zip(told, found, strict=True)]
    asked_shares = [row["asked_share"] for row in rows]  # null where phases differ in their unit
    return {
        "budget_tokens": settings["budget_tokens"],
        "weights": asked["weights"],
        "repeat_cap": asked["repeat_cap"],
        "domains": asked.get("domains", "source"),
        "drawn_tokens": int(manifest.counts["drawn_tokens"]),
        "rows": rows,
        "effective_asked": None if None in asked_shares else effective_number(asked_shares),
        "effective_realised": effective_number([row["realised_share"] for row in rows]),
        "phases": phases,
        "held_out": _held_out(info.get("held_out", [])),
    }


def _phase(said: Mapping[str, Any], found: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """Return one phase: what was said, what came of it, the most drawn domains first.

    What a manifest calls tokens is told in the corpus's own `unit`.
    """
    plain = {"capped": 0, "capped_documents": 0, "curve": None, "factor_size": None}
    rows = [
        {
            **plain,
            "available": row["available_tokens"],
            "asked": row["asked_tokens"],
            "realised": row["realised_tokens"],
            **row,
        }
        for row in found["domains"]
    ]
    rows.sort(key=lambda row: -row["realised"] if len(rows) > _SHOWN else 0)
    return {
        "name": said["name"],
        "unit": unit if found["unit"] == "tokens" else found["unit"],
        "said": _said(said, unit),
        "rows": rows[:_SHOWN],
        "hidden": max(len(rows) - _SHOWN, 0),
        "total": {
            column: sum(row[column] for row in rows)
            for column in (
                *("available", "asked", "realised", "realised_tokens"),
                *("documents", "drawn_documents", "capped", "capped_documents"),
            )
        },
        "effective_asked": effective_number([row["asked_share"] for row in rows]),
        "effective_realised": effective_number([row["realised_share"] for row in rows]),
        "curves": [
            {"domain": row["domain"], "rates": row["curve"], **_curve(said, row["domain"])}
            for row in rows
            if row["curve"] is not None and any(row["curve"])
        ],
    }


def _said(said: Mapping[str, Any], unit: str) -> str:
    """Return the strategy in words."""
    amount = said.get("amount")
    unit = unit if said.get("unit", "tokens") == "tokens" else said["unit"]
    epochs, weights = said.get("epochs"), said.get("weights")
    kind = str(said.get("kind", "weights" if weights else "natural"))
    how = _KINDS[kind].format(**(said.get("strategy") or {}))
    unimax = ((said.get("strategy") or {}).get("unimax") or {}).get("epochs")
    how += f" of at most {unimax:g} epochs" if unimax else ""
    if amount is not None:
        words = f"{amount:,} {unit} {how}"
    elif epochs:
        words = "as many epochs as each domain is given"
    elif kind == "natural":
        words = "every training document as often as its factors say, once without any"
    else:
        words = f"{how}, as many as repeat nothing"
    if epochs and amount is not None:
        words += "; " + ", ".join(f"{name} {n:g} epochs" for name, n in list(epochs.items())[:10])
    return words + ("; copies by the number of duplicates" if said.get("copies") else "")


def _curve(said: Mapping[str, Any], domain: str) -> dict[str, Any]:
    curves = said["quality"]
    found = curves.get(domain, curves.get("*"))
    return {"by": found["by"], "below": found["below"]}


def _held_out(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per source with its validation and test documents; `short` says it has less.

    Sources without a held-out document are left out.
    """
    by_source: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["documents"]:
            entry = by_source.setdefault(row["source"], {"source": row["source"]})
            short = row["bytes"] < row["target_bytes"]
            entry[row["split"]] = {**row, "short": short}
    none = {"documents": 0, "bytes": 0, "chosen_documents": 0, "chosen_bytes": 0, "short": True}
    return [{"validation": none, "test": none, **row} for row in by_source.values()]

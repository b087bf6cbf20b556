"""From facts to a page: one HTML file that needs nothing else, and the same content as JSON.

The page is a function of `Report.data` alone, and forbids everything but its own style sheet and
its one script, which adds up stored counts. Nothing in it depends on the clock or the machine, so a
version has one report.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.corpus.errors import InputError

if TYPE_CHECKING:
    from pipelines.corpus import Corpus

__all__ = ["Report", "build_report", "render", "summary", "write_report"]

REPORT_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of one corpus version.

    Attributes:
        data: everything the page tells, as JSON values.
        html: the page.
    """

    data: dict[str, Any]
    html: str


def build_report(corpus: "Corpus") -> Report:
    """Return the report of a corpus version.

    Aggregates come from columns (about 1 kB a document in memory at the peak); of the texts only
    those of at most 200 documents are read, and clipped.
    """
    data = _collect(corpus)
    return Report(data=data, html=render(data))


def write_report(corpus: "Corpus", out_path: str | Path) -> Path:
    """Write the page, and its JSON beside it under the same name; return the page's path.

    Raises:
        InputError: the path ends in `.json`.
    """
    path = Path(out_path)
    if path.suffix == ".json":
        raise InputError(f"the page is HTML and its JSON goes beside it; call it .html, not {path}")
    report = build_report(corpus)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(
        json.dumps(report.data, indent=1, ensure_ascii=True) + "\n", encoding="utf-8"
    )
    path.write_text(report.html, encoding="utf-8")
    return path


def summary(corpus: "Corpus") -> dict[str, Any]:
    """Return the few numbers to print after a run; reads no text and no signal.

    Keys: corpus, unit (what `tokens` counts), fingerprint, documents, tokens, reasons, sources,
    mixture, duplicates, near_duplicates, alerts.
    """
    from pipelines.report.alerts import alerts
    from pipelines.report.facts import load_facts
    from pipelines.report.near import near_duplicates
    from pipelines.report.sections import head, mixture, reasons, sources

    facts = load_facts(corpus)
    deduplicated = corpus.manifest("deduplicate")
    parts: dict[str, Any] = {
        "corpus": head(facts),
        "sources": sources(facts),
        "reasons": reasons(facts),
        "mixture": mixture(facts),
    }
    top = parts["corpus"]
    return {
        "corpus": top["id"],
        "unit": top["unit"],
        "fingerprint": top["fingerprint"],
        "documents": {
            name: top[name] for name in ("collected", "quarantined", "kept", "dropped", "drawn")
        },
        "tokens": {
            "kept": top["tokens"],
            "train": top["train_tokens"],
            "drawn": top["drawn_tokens"],
            "dropped_estimate": top["dropped_tokens_estimate"],
        },
        "bytes": {"collected": top["bytes"], "kept": top["kept_bytes"]},
        "reasons": [
            {name: row[name] for name in ("reason", "documents", "tokens_estimate")}
            for row in parts["reasons"]["rows"]
            if row["documents"]
        ],
        "sources": parts["sources"]["rows"],
        "mixture": parts["mixture"],
        "duplicates": dict(deduplicated.counts),
        "near_duplicates": near_duplicates(deduplicated),
        "alerts": alerts(facts, parts),
    }


def _collect(corpus: "Corpus") -> dict[str, Any]:
    from pipelines.report import composition, evidence, lineage, samples, sections
    from pipelines.report.alerts import alerts
    from pipelines.report.contents import contents
    from pipelines.report.facts import load_facts
    from pipelines.report.safety import safety
    from pipelines.report.signals import signals
    from pipelines.report.snippets import Snippets
    from pipelines.report.whatif import what_if
    from pipelines.report.without import without

    facts, snippets = load_facts(corpus), Snippets(corpus)
    contamination = evidence.contamination(facts, snippets)
    data: dict[str, Any] = {
        "format": REPORT_FORMAT,
        "corpus": sections.head(facts),
        "alerts": [],
        "safety": safety(facts, contamination),
        "contamination": contamination,
        "funnel": sections.funnel(facts),
        "sources": sections.sources(facts),
        "reasons": sections.reasons(facts),
        "what_if": what_if(facts),
        "mixture": sections.mixture(facts),
        "contents": contents(facts),
        "duplicates": evidence.duplicates(facts, snippets),
        "signals": signals(facts),
        "composition": composition.composition(facts),
        "without": without(facts),
        "canaries": composition.canaries(facts),
        "samples": samples.samples(facts, snippets),
        "lineage": lineage.lineage(corpus),
        "quarantine": lineage.quarantine(corpus),
    }
    data["alerts"] = alerts(facts, data)
    snippets.fill()
    return data


def render(data: dict[str, Any]) -> str:
    """Return the page for a report's data."""
    from markupsafe import Markup

    from pipelines.pages import inlined, render_page
    from pipelines.report.charts import pictures
    from pipelines.report.whatif import pages_data

    script, digest = inlined("whatif.js")
    made = {
        "pictures": pictures(data),
        "what_if_json": Markup(pages_data(data["what_if"])),
        "script": Markup(script),
        "script_sha256": digest,
    }
    return render_page("report.html.j2", {**data, **made}, unit=data["corpus"]["unit"])

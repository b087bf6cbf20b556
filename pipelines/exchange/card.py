"""The dataset card: what the corpus is made of, what was removed, and what nobody should assume."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from pipelines.corpus import Corpus
from pipelines.exchange.choosing import Choice
from pipelines.exchange.licences import hub_licence, licences_of
from pipelines.exchange.markdown import cell, one_line, table
from pipelines.passes.forgotten import FORGOTTEN
from pipelines.report.facts import Facts, load_facts

__all__ = ["write_card"]

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_LANGUAGE_SHARE = 0.01  # of the kept tokens, to be named in the front matter
_STEPS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 10**9, 10**10, 10**11, 10**12)
_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def write_card(
    corpus: Corpus, folder: Path, splits: Mapping[str, Mapping[str, Any]], choice: Choice
) -> None:
    """Write `README.md`."""
    facts = load_facts(corpus)
    licences = licences_of(corpus)
    languages = _languages(corpus, facts)
    total = sum(int(one["documents"]) for one in splits.values())
    head = {
        "pretty_name": one_line(corpus.version.name),
        **hub_licence(licences, partly=_unlicensed(facts).height > 0),
        **({"language": [one for one, _ in languages]} if languages else {}),
        "size_categories": [_size(total)],
        "task_categories": ["text-generation"],
        "tags": ["preceptor", "croissant"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split in splits
                ],
            }
        ],
    }
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=False, width=10_000)
    lines = [
        "---",
        front.rstrip("\n"),
        "---",
        "",
        f"# {cell(corpus.version.name)}",
        "",
        f"Version {corpus.version.number} of a corpus made by Preceptor. {_what(choice)}",
        "",
        *table(["split", "documents"], [[s, int(one["documents"])] for s, one in splits.items()]),
        "",
        *_composition(facts, languages),
        *_licences(facts),
        *_removed(facts),
        *_contamination(corpus),
        *_gaps(corpus, facts),
        *_reproduce(corpus),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _what(choice: Choice) -> str:
    if choice.what == "kept":
        return "It holds every kept document once."
    phases = ", ".join(cell(name) for name in choice.names)
    return (
        f"It holds the mixture as it was drawn, copies repeated (phases: {phases}). The copies of "
        "a document lie in different rounds, and a round is in a random order over all sources: "
        "nobody needs to shuffle it."
    )


def _size(documents: int) -> str:
    """Return the hub's size category.

    >>> _size(999), _size(1000), _size(2 * 10**12)
    ('n<1K', '1K<n<10K', 'n>1T')
    """
    place = sum(documents >= step for step in _STEPS)
    if place == 0:
        return "n<1K"
    return "n>1T" if place == len(_STEPS) else f"{_NAMES[place - 1]}<n<{_NAMES[place]}"


def _languages(corpus: Corpus, facts: Facts) -> list[tuple[str, float]]:
    """Return the measured languages of at least a hundredth of the kept tokens, with shares."""
    signals = corpus.table("signals", hex_ids=False)
    if "language" not in signals.collect_schema():
        return []
    kept = facts.documents.filter("kept").select("doc_id", "tokens")
    joined = signals.select("doc_id", "language").collect().join(kept, on="doc_id")
    total = int(joined["tokens"].sum())
    counted = (
        joined.filter(pl.col("language").is_not_null())
        .group_by("language")
        .agg(pl.col("tokens").sum())
        .sort(["tokens", "language"], descending=[True, False])
    )
    return [
        (name, tokens / total)
        for name, tokens in counted.rows()
        if total and tokens / total >= _LANGUAGE_SHARE and _LANGUAGE.fullmatch(name)
    ]


def _composition(facts: Facts, languages: list[tuple[str, float]]) -> list[str]:
    counts = facts.by_source(
        pl.len().alias("documents"),
        pl.col("kept").sum(),
        pl.col("num_bytes").filter("kept").sum(),
        pl.col("tokens").filter("kept").sum(),
    )
    told = [
        [name, *(int(counts[name][key]) for key in ("documents", "kept", "tokens", "num_bytes"))]
        for name in facts.sources
        if name in counts
    ]
    head = ["source", "documents read", "documents kept", "tokens", "bytes of text"]
    lines = ["## Composition", "", *table(head, told), ""]
    if languages:
        shares = [[name, f"{100 * share:.1f} %"] for name, share in languages]
        lines += ["Languages, as measured, by tokens:", "", *table(["language", "share"], shares)]
    else:
        lines += ["Languages were not measured."]
    return [*lines, ""]


def _licences(facts: Facts) -> list[str]:
    kept = facts.documents.filter("kept")
    rows = (
        kept.group_by("source", "license")
        .agg(documents=pl.len(), tokens=pl.col("tokens").sum())
        .sort("source", "license", nulls_last=True)
        .rows()
    )
    told = [[source, licence or "not known", n, int(t)] for source, licence, n, t in rows]
    lines = ["## Licences", "", *table(["source", "licence", "documents", "tokens"], told), ""]
    return [*lines, "A licence is what the recipe or the record says; nobody checked it.", ""]


def _removed(facts: Facts) -> list[str]:
    dropped = facts.documents.filter(~pl.col("kept")).height
    rows = (
        facts.reasons.group_by("reason")
        .agg(
            documents=pl.len(),
            alone=(pl.col("num_reasons") == 1).sum(),
            num_bytes=pl.col("num_bytes").sum(),
        )
        .sort(["documents", "reason"], descending=[True, False])
        .rows()
    )
    told = [[reason, n, int(alone), int(size)] for reason, n, alone, size in rows]
    head = ["reason", "documents", "for this reason alone", "bytes"]
    lines = [
        "## What was removed",
        "",
        f"{dropped:,} of {facts.documents.height:,} documents were dropped; one may have several "
        "reasons.",
    ]
    return [*lines, *(["", *table(head, told)] if told else []), ""]


def _contamination(corpus: Corpus) -> list[str]:
    settings = corpus.manifest("decontaminate").settings
    judged = corpus.manifest("judge")
    lines = ["## Contamination", ""]
    against = settings.get("against") or []
    if not against:
        return [*lines, "The corpus was compared with no benchmark.", ""]
    counts = judged.counts
    actions = judged.settings["contamination"]["actions"]
    rows = [
        [
            one["name"],
            str(actions.get(one["name"], "")),
            int(counts.get(f"reason:contaminated:{one['name']}", 0)),
        ]
        for one in against
    ]
    names = ", ".join(sorted(settings.get("methods", {})))
    head = ["benchmark", "action", "documents dropped"]
    return [*lines, f"Compared with (methods: {cell(names)}):", "", *table(head, rows), ""]


def _gaps(corpus: Corpus, facts: Facts) -> list[str]:
    lines = ["## Known gaps", ""]
    records = facts.quarantine.group_by("reason").agg(pl.col("records").sum()).sort("reason")
    total = int(records["records"].sum())
    if total:
        told = ", ".join(f"{cell(reason)} {n:,}" for reason, n in records.rows())
        lines.append(f"- {total:,} records could not be read and are not in here: {told}.")
    else:
        lines.append("- Every record could be read.")
    bare = _unlicensed(facts)
    names = sorted(bare["source"].unique().to_list())
    if names:
        listed = ", ".join(cell(name) for name in names)
        lines.append(f"- {bare.height:,} documents have no known licence; sources: {listed}.")
    redact = corpus.manifest("clean").settings.get("redact")
    if redact:
        kinds = ", ".join(cell(kind) for kind in redact["kinds"])
        lines.append(
            f"- Personal data was redacted by patterns ({kinds}); names and what the patterns miss "
            "are still there."
        )
    else:
        lines.append("- Personal data was not redacted.")
    lines.append(_duplicates(corpus))
    if corpus.manifest("collect").settings.get("limit") is not None:
        lines.append("- The sources were not read to their end (`--limit`).")
    return [*lines, ""]


def _unlicensed(facts: Facts) -> pl.DataFrame:
    return facts.documents.filter(pl.col("kept") & pl.col("license").is_null())


def _duplicates(corpus: Corpus) -> str:
    found = corpus.manifest("deduplicate")
    measured = found.info.get("measured") or {}
    if not found.settings.get("near"):
        return "- Near-duplicates were not removed."
    if measured.get("recall") is None:
        return "- Near-duplicates were removed; how many were missed was not measured."
    low, high = measured["recall_low"], measured["recall_high"]
    return (
        f"- Of the near-duplicate pairs of a sample {100 * measured['recall']:.1f} % were found "
        f"({100 * low:.1f} to {100 * high:.1f} % at 95 % confidence); the others are still there."
    )


def _reproduce(corpus: Corpus) -> list[str]:
    head = ["## How to make it again", ""]
    if f"reason:{FORGOTTEN}" in corpus.manifest("judge").counts:
        return [
            *head,
            "Documents were taken down after it was made, so nobody can make exactly this again; "
            "`recipe.yaml` makes",
            "the rest. `preceptor.json` names the manifests of every pass.",
        ]
    return [
        *head,
        "`preceptor run recipe.yaml`, beside the files that it names, makes the same corpus: its "
        f"fingerprint is `{corpus.version.fingerprint}`.",
        "`preceptor.json` names the manifests of every pass.",
    ]

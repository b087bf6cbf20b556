"""The measurements as a page of Markdown: what is asked, hoped for and measured."""

import platform
import statistics
from collections.abc import Callable
from typing import Any

from neighbours import pages
from rows import OURS, OURS_IN, PEERS, TITLES

PIPELINE_GOALS = (3.0, 1.5)  # times reading and writing the same file: at most, hoped for
PASSES = ("collect", "clean", "measure", "decontaminate", "judge")
Facts = dict[str, Any]
machine, spread, table, word = pages.machine, pages.spread, pages.table, pages.word


def page(facts: Facts) -> str:
    """Return the whole page."""
    parts = [
        "# Signals, decontamination and the passes up to judge: measured",
        _preamble(facts),
        "## Against the goals\n\n" + goals(facts),
        "## Components\n\n" + _components(facts),
        "## Whole processes\n\n" + _pipeline(facts),
        "## Settings and versions\n\n" + _settings(facts),
    ]
    return "\n\n".join(parts) + "\n"


def goals(facts: Facts) -> str:
    """Return the table of what was asked."""
    head = ["", "at least", "aim", "measured", ""]
    return table(head, [row for row, _ in _goal_rows(facts)])


def missed(facts: Facts) -> list[str]:
    """Return the rows that were measured and do not reach what is asked at least."""
    return [row[0] for row, reached in _goal_rows(facts) if reached is False]


def _goal_rows(facts: Facts) -> list[tuple[list[str], bool | None]]:
    """Return each row and whether it was reached, None where it was not measured."""
    rows: list[tuple[list[str], bool | None]] = []
    for one in PEERS:
        if one.must:
            found = _ratios(facts, f"{one.row}/{one.name}")
            label = f"{TITLES[one.row]}, against {one.name}"
            goal = [label, f"{one.must:g}x", f"{one.aim:g}x"]
            if not found:
                rows.append(([*goal, facts["problems"].get(f"{one.row}/{one.name}", ""), ""], None))
                continue
            value = statistics.median(found)
            verdict = word(value >= one.must, value >= one.aim)
            rows.append(([*goal, spread(found, "{:.0f}x"), verdict], value >= one.must))
    label = "collect, clean, measure, decontaminate, judge, against rewriting the file"
    goal = [label, *(f"{limit:g}x its time" for limit in PIPELINE_GOALS)]
    found = [_without_start(pair) for pair in facts["pipeline"]]
    if not found:
        rows.append(([*goal, facts["problems"].get("pipeline/ours", ""), ""], None))
        return rows
    value = statistics.median(found)
    verdict = word(value <= PIPELINE_GOALS[0], value <= PIPELINE_GOALS[1])
    rows.append(([*goal, spread(found, "{:.1f}x"), verdict], value <= PIPELINE_GOALS[0]))
    return rows


def _ratios(facts: Facts, key: str) -> list[float]:
    return [pair["theirs"]["cpu_s"] / pair["ours"]["cpu_s"] for pair in facts["pairs"].get(key, [])]


def _without_start(pair: dict[str, Any]) -> float:
    """Return our CPU seconds over those of a rewrite, both less what a few documents take."""
    ours, rewrite = (
        pair[what]["cpu_s"] - pair[f"{what} start"]["cpu_s"] for what in ("ours", "rewrite")
    )
    return float(ours / rewrite)


def _preamble(facts: Facts) -> str:
    corpus = facts["corpus"]
    return "\n".join(
        [
            f"Written by `{facts['command']}` on {facts['date']}. {machine()}; load average "
            f"{facts['load'][0]:.1f} at the start, {facts['load'][1]:.1f} at the end.",
            "",
            f"Corpus: {corpus['documents']:,} documents, {corpus['text_bytes'] / 1e6:.1f} MB of "
            f"text: {corpus['origin']} (seed {corpus['seed']}). The components work on a sample of "
            f"{facts['sample_bytes'] / 1e6:.1f} MB of it, and {facts['items']:,} passages of its "
            "documents are the benchmark items.",
            "",
            "Each measurement is a process on one core with one thread; ours runs directly before "
            "each run of another tool, and `x ours` is the median of those pairs. CPU is user + "
            "system time. Components are timed inside the process, texts in memory, after a "
            "warm-up: without imports, loading of models, compilation and the building of an "
            "index. MB = 10^6 bytes.",
        ]
    )


def _components(facts: Facts) -> str:
    rows = []
    for row, title in TITLES.items():
        mine = [
            pair["ours"]
            for one in PEERS
            if one.row == row
            for pair in facts["pairs"].get(f"{row}/{one.name}", [])
        ]
        if mine:
            rows.append([title, OURS, *_rates(mine), "1"])
        for one in PEERS:
            key = f"{row}/{one.name}"
            if one.row != row or (key not in facts["pairs"] and key not in facts["problems"]):
                continue
            theirs = [pair["theirs"] for pair in facts["pairs"].get(key, [])]
            if theirs:
                rows.append(["", one.name, *_rates(theirs), spread(_ratios(facts, key), "{:.1f}x")])
            else:
                rows.append(["", one.name, facts["problems"][key], "", "", ""])
    head = ["", "", "MB / CPU s", "runs", "documents found", "x ours"]
    note = (
        "Documents found: for the first row those that were measured (datatrove: kept), for the "
        "second those that hold an item's 13-gram by the tool's own idea of a word (lm-eval: that "
        "it would cut)."
    )
    return f"{table(head, rows)}\n\n{note}"


def _rates(runs: list[dict[str, Any]]) -> list[str]:
    rates = [run["text_bytes"] / 1e6 / run["cpu_s"] for run in runs]
    return [
        spread(rates, "{:.0f}" if min(rates) >= 20 else "{:.2f}"),
        str(len(runs)),
        f"{runs[0]['found']:,}",
    ]


def _pipeline(facts: Facts) -> str:
    pairs = facts["pipeline"]
    if not pairs:
        return facts["problems"].get("pipeline/ours", "Not measured.")

    def column(what: str, value: Callable[[dict[str, Any]], float]) -> list[float]:
        return [value(pair[what]) for pair in pairs]

    rows = []
    for what, title in (
        ("rewrite", "reading and writing the file with pyarrow"),
        ("ours", "collect, clean, measure, decontaminate, judge"),
        ("rewrite start", "the first, for 20 documents"),
        ("ours start", "the second, for 20 documents"),
    ):
        cpu, wall = column(what, lambda run: run["cpu_s"]), column(what, lambda run: run["wall_s"])
        peak = max(column(what, lambda run: run["peak_mib"]))
        rows.append([title, spread(cpu, "{:.2f}"), spread(wall, "{:.2f}"), f"{peak:,.0f}"])
    parts = [
        [name, spread([pair["ours"]["parts"].get(name, 0.0) for pair in pairs], "{:.2f}")]
        for name in (*PASSES, "deduplicate")
    ]
    whole = [pair["ours"]["cpu_s"] / pair["rewrite"]["cpu_s"] for pair in pairs]
    less = [_without_start(pair) for pair in pairs]
    note = (
        f"Ours takes {spread(whole, '{:.1f}')} times the CPU seconds of a rewrite, start-up with "
        f"it, and {spread(less, '{:.1f}')} times less the start-up of each. Parquet with zstd, "
        "level 1 where it is written. `deduplicate` has nothing to do here and stands between "
        "`measure` and `decontaminate`; it counts with the rest."
    )
    return "\n\n".join(
        [
            table(["whole process", "CPU s", "wall s", "peak MiB"], rows),
            table(["pass", "CPU s"], parts),
            note,
        ]
    )


def _settings(facts: Facts) -> str:
    here = f"this checkout (Python {platform.python_version()})"
    rows = [[TITLES[row], OURS, one.settings, here] for row, one in OURS_IN.items()]
    rows += [
        [TITLES[one.row], one.name, one.settings, facts["versions"].get(one.environment, "")]
        for one in PEERS
    ]
    return table(["", "", "settings", "version"], rows)

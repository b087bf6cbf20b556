"""The measurements as a page of Markdown, and the gates they must hold."""

import importlib
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import truth
from contenders import OURS, PEERS, mutants, ours
from scores import Score

sys.path.append(str(Path(__file__).resolve().parents[1]))
pages = importlib.import_module("pages")

MAX_PEAK_MIB = 512
SIGNATURES = (200, 500)  # MB of text per CPU second: at least, aim
SECOND_CORE = (1.7, 1.9)
WARM_S, COLD_S = (1.5, 0.8), (15, 8)
Facts = dict[str, Any]


def failures(facts: Facts) -> list[str]:
    """Return the gates that do not hold: of ours, and of the mutants that pass."""
    found = []
    for run in facts["runs"].get(OURS, [])[:1]:
        found += Score(**run["score"]).failures()
        if run["wrong_edges"]:
            found.append(f"{run['wrong_edges']} edges differ from the exact similarity")
    if OURS not in facts["runs"]:
        found.append(f"{OURS} did not run: {facts['problems'].get(OURS, 'no reason given')}")
    elif (peak := _worst(facts, OURS, "peak_mib")) > MAX_PEAK_MIB:
        found.append(f"peak memory {peak:.0f} MiB is above {MAX_PEAK_MIB}")
    for mutant in mutants():
        if mutant.name not in facts["mutants"]:
            found.append(f"the mutant '{mutant.name}' did not run")
        elif not facts["mutants"][mutant.name]:
            found.append(f"the mutant '{mutant.name}' passes all gates")
    return found


def page(facts: Facts) -> str:
    """Return the whole page."""
    parts = [
        "# Near-duplicate removal: measured",
        _preamble(facts),
        "## From file to file on one core\n\n" + _speed(facts),
        "## What was found\n\n" + _quality(facts),
        "## Against the goals\n\n" + _goals(facts),
        "## Gates\n\n" + _gates(facts),
        "## Settings and versions\n\n" + _settings(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _preamble(facts: Facts) -> str:
    corpus = facts["corpus"]
    pairs = ", ".join(f"{name}: {count:,}" for name, count in corpus["pairs"].items())
    lines = [
        f"Written by `{facts['command']}` on {facts['date']}. {pages.machine()}; load average "
        f"{facts['load'][0]:.1f} at the start, {facts['load'][1]:.1f} at the end.",
        "",
        f"Corpus: {corpus['documents']:,} documents, {facts['size_mb']:.1f} MB of text: "
        f"{corpus['origin']}, its own near-duplicates removed, and {corpus['copies']:,} edited "
        f"copies put in (seed {corpus['seed']}). Pairs (original, copy) by the exact Jaccard "
        f"similarity of their word 5-grams: {pairs}.",
    ]
    if corpus["shortfall"]:
        lines.append(f"({corpus['shortfall']}.)")
    lines += [
        "",
        "Each run is a whole process, from a Parquet file to files of survivors, on one core "
        "with one thread; ours runs directly before each run of another tool, and `x ours` is the "
        "median of those pairs. CPU is user + system time of the process tree. MB = 10^6 bytes.",
    ]
    return "\n".join(lines)


def _speed(facts: Facts) -> str:
    rows = []
    for name in (OURS, *(one.name for one in PEERS)):
        runs = facts["runs"].get(name)
        if not runs:
            if name in facts["problems"]:
                rows.append([name, facts["problems"][name], *[""] * 6])
            continue
        cpu = [run["cpu_s"] for run in runs]
        spread = f"{min(cpu):.1f} ... {max(cpu):.1f}" if len(cpu) > 1 else "one run"
        rate = facts["signatures"].get(name, {}).get("mb_per_cpu_s")
        rows.append(
            [
                name,
                f"{statistics.median(cpu):.1f}",
                f"{spread} ({len(cpu)})" if len(cpu) > 1 else spread,
                f"{statistics.median(run['wall_s'] for run in runs):.1f}",
                f"{facts['size_mb'] / statistics.median(cpu):.1f}",
                f"{_worst(facts, name, 'peak_mib'):,.0f}",
                f"{rate:.1f}" if rate else "",
                "1" if name == OURS else _times(ratio(facts, name)),
            ]
        )
    head = ["", "CPU s", "spread (runs)", "wall s", "MB / CPU s", "peak MiB"]
    return pages.table([*head, "signatures alone, MB / CPU s", "x ours"], rows)


def _quality(facts: Facts) -> str:
    rows = []
    bins = [one.name for one in truth.BINS]
    for name in (OURS, *(one.name for one in PEERS)):
        if not facts["runs"].get(name):
            continue
        score = Score(**facts["runs"][name][0]["score"])
        rows.append(
            [
                name,
                f"{score.recall:.4f}",
                f"{score.own_recall:.4f}",
                *(f"{score.by_bin[one]:.3f}" for one in bins),
                f"{score.precision:.4f}",
                f"{score.unsupported:,}",
                f"{score.groups_lost:,}",
            ]
        )
    for shape, expected in facts["expected"].items():
        means = [f"{expected.get(one, float('nan')):.3f}" for one in bins]
        rows.append([f"(S-curve of {shape})", "", "", *means, "", "", ""])
    head = ["", "recall, J >= 0.8", "by its own words", *bins, "precision"]
    note = (
        "Recall: share of the injected pairs of J >= 0.8, exact copies apart, whose members are "
        "not both kept. `By its own words` takes the pairs whose J >= 0.8 holds for words cut as "
        "the tool cuts them: an edit costs more where words are longer. The bins show the share "
        "of their pairs not both kept; in the first, where nothing may be removed, 0 is right. "
        "Precision: share of the removed documents with a twin of J >= 0.8. Unsupported: removed "
        "documents of which no such twin is kept. Groups lost: groups of twins with no survivor."
    )
    return f"{pages.table([*head, 'unsupported', 'groups lost'], rows)}\n\n{note}"


def _goals(facts: Facts) -> str:
    rows = []
    for one in PEERS:
        if one.must:
            found = ratio(facts, one.name)
            rows.append([f"against {one.name}", f"{one.must:g}x", f"{one.aim:g}x", _times(found)])
            rows[-1].append(_met(found, one.must, one.aim))
    mine = facts["signatures"].get(OURS, {})
    rate, second = mine.get("mb_per_cpu_s", 0.0), mine.get("second_core", 0.0)
    rows.append(
        [
            "signatures alone, MB / CPU s",
            *map(str, SIGNATURES),
            f"{rate:.0f}",
            _met(rate, *SIGNATURES),
        ]
    )
    goals = [f"x{one}" for one in SECOND_CORE]
    control = f"x{second:.2f} (plain SHA-256: x{mine.get('second_core_sha256', 0.0):.2f})"
    rows.append(["a second core adds", *goals, control, _met(second, *SECOND_CORE)])
    for kind, (most, aim) in (("warm", WARM_S), ("cold", COLD_S)):
        label = "start-up" if kind == "warm" else "start-up and first compile"
        seconds = facts["start_up"].get(kind)
        shown = f"{seconds:.2f} s" if seconds else "not measured"
        rows.append([label, f"{most} s", f"{aim} s", shown, _met(-(seconds or 1e9), -most, -aim)])
    return pages.table(["", "at least", "aim", "measured", ""], rows)


def _gates(facts: Facts) -> str:
    found = failures(facts)
    lines = [f"- FAILS: {one}" for one in found] or [
        f"- Held: recall >= 0.99 at J >= 0.8, precision 1, no group lost, no document removed "
        "without a kept twin, every edge with its exact similarity, within "
        f"{MAX_PEAK_MIB} MiB."
    ]
    lines += [
        f"- Mutant '{name}' is rejected: {'; '.join(reasons)}."
        for name, reasons in facts["mutants"].items()
        if reasons
    ]
    return "\n".join(lines)


def _settings(facts: Facts) -> str:
    rows = [[OURS, ours().settings, f"this checkout (Python {platform.python_version()})"]]
    rows += [[one.name, one.settings, facts["versions"].get(one.environment, "")] for one in PEERS]
    return pages.table(["", "settings", "version"], rows)


def ratio(facts: Facts, name: str) -> float | None:
    """Return the median over pairs of runs of the tool's CPU seconds over ours; None for none."""
    mine = facts["runs"].get(OURS, [])
    pairs = [
        run["cpu_s"] / mine[run["pair"]]["cpu_s"]
        for run in facts["runs"].get(name, [])
        if run["pair"] is not None
    ]
    return statistics.median(pairs) if pairs else None


def _met(found: float | None, must: float, aim: float) -> str:
    if found is None:
        return "not measured"
    return "aim reached" if found >= aim else "reached" if found >= must else "MISSED"


def _times(found: float | None) -> str:
    return "" if found is None else f"{found:.1f}x" if found < 20 else f"{found:.0f}x"


def _worst(facts: Facts, name: str, key: str) -> float:
    return max(float(run[key]) for run in facts["runs"][name])

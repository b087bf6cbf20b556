"""What a person sees in the terminal: progress while a run goes on, and its result in a table."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from pipelines.passes.base import Event

__all__ = [
    "Watch",
    "console",
    "new_table",
    "plain",
    "say",
    "show",
    "show_findings",
    "show_outcome",
    "show_plan",
]

_DOMAINS_SHOWN = 12

console = Console(highlight=False, emoji=False)


class _Wide:
    """A table in so many columns, whatever the window has (rich takes the smaller of the two)."""

    def __init__(self, table: Table, width: int) -> None:
        self._table, self._width = table, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._table.__rich_console__(
            console, options.update(width=self._width, max_width=self._width)
        )


def show(table: Table) -> None:
    """Print a table; where it would lose something to fit, its lines are longer than the window.

    In a pipe a row is a line. Nobody can copy an id that is broken in two.
    """
    options = console.options.update(max_width=10_000)
    size = table.__rich_measure__(console, options)
    narrow = console.is_terminal and size.minimum <= console.width
    width = console.width if narrow else max(console.width, size.maximum)
    console.print(_Wide(table, width), crop=False, soft_wrap=True)


def plain(text: str, limit: int | None = None) -> str:
    """Return text that cannot command a terminal: control and direction characters become dots."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{MIDDLE DOT}" for c in text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 3] + "..."


def say(text: str) -> None:
    """Print a line as it is, without markup and without wrapping."""
    console.print(escape(plain(text)), soft_wrap=True)


class Watch:
    """Progress bars, one line per pass."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]ok[/]"),
            TextColumn("{task.fields[name]:<13}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._tasks: dict[str, Any] = {}
        self._reused: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def observe(self, event: Event) -> None:
        """Show an event."""
        name = event.name
        if event.kind == "note":
            self._progress.console.print(f"{name}: {escape(plain(event.message))}", soft_wrap=True)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task("", total=None, name=name)
            self._total[name] = self._reused[name] = self._before[name] = 0
        task = self._tasks[name]
        if event.kind == "start":
            self._before[name] = self._total[name]
            self._total[name] += event.total
            self._reused[name] += event.reused
        if event.kind in ("start", "part"):
            done = self._before[name] + event.done
            self._progress.update(
                task, completed=done, total=self._total[name], description=event.stage
            )
        else:
            total, reused = self._total[name], self._reused[name]
            found = ""
            if not total:
                found = "nothing to do"
            elif reused:
                found = "found done" if reused == total else f"{reused} of {total} parts found done"
            self._progress.update(
                task, completed=max(total, 1), total=max(total, 1), description=found
            )


def new_table(*columns: tuple[str, str], title: str | None = None) -> Table:
    """Return an empty table; columns are (name, `left`, `right` or, if it may wrap, `prose`)."""
    made = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
        title_style="bold",
    )
    for name, justify in columns:
        prose = justify == "prose"
        made.add_column(
            name,
            justify="left" if prose else justify,  # type: ignore[arg-type]
            overflow="fold",
            no_wrap=not prose,
        )
    return made


def show_outcome(outcome: Any, store: str) -> None:
    """Print what a run made."""
    manifests = outcome.manifests
    if outcome.version is None:
        last = list(manifests)[-1]
        counts = ", ".join(f"{name} {count:,}" for name, count in manifests[last].counts.items())
        _warn_of_crowds(manifests)
        say(f"stopped after {last} ({counts}) in {outcome.seconds:.1f} s; no version was made")
        return
    from pipelines.corpus import Corpus
    from pipelines.packing import rows_told
    from pipelines.report import summary
    from pipelines.store import Store

    facts = summary(Corpus(Store(store), outcome.version))
    show_summary(facts)
    say(f"packed: {rows_told(manifests['pack'], facts['unit'])}")
    _warn_of_crowds(manifests)
    if outcome.checks:
        from pipelines.checks.command import show_results

        show_results(str(outcome.version), outcome.checks)
    state = (
        "found done, nothing to do"
        if not outcome.executed
        else f"{outcome.executed} parts computed"
    )
    new = "" if outcome.published else " (unchanged)"
    console.print(
        f"[bold]{escape(str(outcome.version))}[/]{new} in {outcome.seconds:.1f} s, {state}"
    )


def _warn_of_crowds(manifests: Mapping[str, Any]) -> None:
    from pipelines.report.near import crowded

    warning = crowded(manifests["judge"].counts) if "judge" in manifests else None
    if warning:
        say(f"warning: {warning}")


def show_summary(facts: Mapping[str, Any]) -> None:
    """Print the small numbers of a corpus: per source, reasons, mixture, duplicates."""
    table = new_table(
        ("source", "left"),
        ("documents", "right"),
        ("quarantined", "right"),
        ("kept", "right"),
        ("kept %", "right"),
        (facts.get("unit", "tokens"), "right"),
        ("asked", "right"),
        ("mixture", "right"),
        ("epochs", "right"),
    )
    mixture = {row["domain"]: row for row in facts["mixture"]["rows"]}
    for row in facts["sources"]:
        drawn = mixture.get(row["source"], {})
        table.add_row(
            escape(row["source"]),
            f"{row['documents']:,}",
            f"{row['quarantined']:,}",
            f"{row['kept']:,}",
            f"{100 * row['kept'] / row['documents']:.1f}" if row["documents"] else "-",
            f"{row['tokens']:,}",
            _percent(drawn.get("asked_share")),
            _percent(drawn.get("realised_share")),
            "-" if drawn.get("epochs") is None else f"{drawn['epochs']:.2f}",
        )
    if _is_one_of_sources(facts["mixture"]):
        table.add_row(*_total_of_sources(facts["sources"], facts["mixture"]["phases"][0]))
    show(table)
    _show_mixture(facts["mixture"])
    reasons = [row for row in facts["reasons"] if row["documents"]]
    if reasons:
        told = new_table(
            ("why documents were dropped", "left"),
            ("documents", "right"),
            (f"~{facts.get('unit', 'tokens')}", "right"),
        )
        for row in sorted(reasons, key=lambda row: -row["documents"])[:12]:
            told.add_row(
                escape(row["reason"]), f"{row['documents']:,}", f"{row['tokens_estimate']:,}"
            )
        console.print()
        show(told)
    near = facts.get("near_duplicates")
    if near:
        from pipelines.report.near import told as in_a_line

        say(in_a_line(near, facts["duplicates"]))
    console.print()


def _total_of_sources(
    rows: Sequence[Mapping[str, Any]], phase: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the cells of the last row: what was asked and drawn as sizes, not as shares."""
    documents, quarantined, kept, tokens = (
        sum(row[key] for row in rows) for key in ("documents", "quarantined", "kept", "tokens")
    )
    total = phase["total"]
    return (
        "all",
        f"{documents:,}",
        f"{quarantined:,}",
        f"{kept:,}",
        f"{100 * kept / documents:.1f}" if documents else "-",
        f"{tokens:,}",
        f"{total['asked']:,}",
        f"{total['realised']:,} {phase['unit']}",
        _epochs(total),
    )


def _show_mixture(mixture: Mapping[str, Any]) -> None:
    """Print the phases of a curriculum, and domains that are no sources, the most drawn first."""
    phases = mixture["phases"]
    if _is_one_of_sources(mixture):
        return
    table = new_table(
        ("phase", "left"),
        ("domain", "left"),
        ("asked", "right"),
        ("mixture", "right"),
        ("drawn", "right"),
        ("epochs", "right"),
    )
    for phase in phases:
        rows = sorted(phase["rows"], key=lambda row: -row["realised"])
        for row in rows[:_DOMAINS_SHOWN]:
            table.add_row(
                escape(phase["name"]),
                escape(plain(row["domain"], 40)),
                _percent(row["asked_share"]),
                _percent(row["realised_share"]),
                f"{row['realised']:,} {phase['unit']}",
                "-" if row["epochs"] is None else f"{row['epochs']:.2f}",
            )
        hidden = len(rows) - _DOMAINS_SHOWN + phase["hidden"]
        if hidden > 0:
            table.add_row(escape(phase["name"]), f"... and {hidden} more", "", "", "", "")
        total = phase["total"]
        table.add_row(
            escape(phase["name"]),
            "all",
            f"{total['asked']:,}",
            "",
            f"{total['realised']:,} {phase['unit']}",
            _epochs(total),
        )
    console.print()
    show(table)


def _is_one_of_sources(mixture: Mapping[str, Any]) -> bool:
    """Return whether the table of the sources tells the whole mixture."""
    return len(mixture["phases"]) == 1 and mixture["domains"] == "source"


def _epochs(total: Mapping[str, Any]) -> str:
    return f"{total['realised'] / total['available']:.2f}" if total["available"] else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def show_plan(plans: Sequence[Any]) -> None:
    """Print what a run would do."""
    table = new_table(("pass", "left"), ("state", "left"))
    for plan in plans:
        state = {
            "done": "done",
            "todo": f"{plan.todo} of {plan.total} parts to do",
            "unknown": "waits for the pass before",
        }[plan.state]
        table.add_row(plan.name, state)
    show(table)


def show_findings(findings: Sequence[Any]) -> bool:
    """Print a check-up; return whether there is a problem."""
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}
    table = new_table(("check", "left"), ("", "left"), ("found", "prose"))
    for finding in findings:
        detail = (
            finding.detail
            if finding.status == "ok" or not finding.remedy
            else f"{finding.detail}. {finding.remedy}"
        )
        table.add_row(escape(finding.name), marks[finding.status], escape(plain(detail)))
    show(table)
    return any(finding.status == "problem" for finding in findings)

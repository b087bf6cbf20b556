"""What a check is asked, what it finds, and the table of all findings, passed or not.

A row compares one number of ours with that of a control. `passed` says whether what was promised
was reached; a starred row may miss it if the table says so; None tells a number and promises
nothing.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench"))

import pages  # noqa: E402

__all__ = ["Asked", "Row", "failed", "markdown", "shown"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a check may use.

    Attributes:
        data: the folder of data sets, ../shared/data.
        work: where it may write.
        quick: about a minute on one core; a number may be noisy then.
        full: more training seeds and label draws.
        seed: of the training and of the label draws.
        threads: of the processor.
    """

    data: Path
    work: Path = ROOT / ".bench" / "objectives"
    quick: bool = False
    full: bool = False
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One finding.

    Attributes:
        objective: its name.
        what: the number, with its unit.
        ours: it.
        control: the name of what it is compared with.
        against: the control's number; None where the control is a bound that `control` says.
        difference: ours - against; None: it is that.
        standard_error: of the difference, paired where it can be.
        passed: whether what was promised was reached; None: nothing was.
        starred: whether it may miss.
        note: what a reader should know.
    """

    objective: str
    what: str
    ours: float | None
    control: str = ""
    against: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    passed: bool | None = None
    starred: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.difference is None and self.ours is not None and self.against is not None:
            object.__setattr__(self, "difference", self.ours - self.against)

    @property
    def fails(self) -> bool:
        """Whether the whole run of checks fails for it."""
        return self.passed is False and not self.starred


HEAD = ["objective", "what", "ours", "control", "its", "difference", "", "note"]


def _cells(row: Row) -> list[str]:
    word = {None: "", True: "reached", False: "missed *" if row.starred else "MISSED"}[row.passed]
    error = "" if row.standard_error is None else f" +- {_number(row.standard_error)}"
    return [
        row.objective,
        row.what,
        _number(row.ours),
        row.control,
        _number(row.against),
        ("" if row.difference is None else f"{row.difference:+.3g}") + error,
        word,
        row.note,
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def markdown(rows: Sequence[Row]) -> str:
    """Return the findings as a table of Markdown."""
    return pages.table(HEAD, [_cells(row) for row in rows])


def shown(rows: Sequence[Row]) -> str:
    """Return the findings as a table for a terminal; notes stand below their rows."""
    cells = [HEAD[:-1], *(_cells(row)[:-1] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = []
    for line, row in zip(cells, [None, *rows], strict=True):
        told = (
            cell.rjust(size) if i in (2, 4, 5) else cell.ljust(size)
            for i, (cell, size) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(told).rstrip())
        if row is not None and row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)


def failed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that promised something, missed it and are not starred."""
    return [row for row in rows if row.fails]

"""What the pages of results share: tables, medians with their extremes, the machine in words."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["machine", "spread", "table", "word"]


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, and the extremes where there are several values."""
    middle = form.format(statistics.median(values))
    if len(values) < 2:
        return middle
    return f"{middle} ({form.format(min(values))} ... {form.format(max(values))})"


def word(reached: bool, hoped: bool) -> str:
    """Return what a row says about its goal."""
    return "aim reached" if hoped else "reached" if reached else "MISSED"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in one) + " |" for one in lines
    )


def machine() -> str:
    """Return processor, cores, memory and system in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {pages:.0f} GiB, "
        f"{platform.system()} {platform.release()}"
    )

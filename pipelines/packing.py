"""What the pack made, in a line for people: rows, padding, and what the layout did to documents."""

from typing import Any

from curate.corpus.manifest import Manifest

__all__ = ["num_rows", "phases_of", "rows_told"]


def phases_of(packed: Manifest) -> list[dict[str, Any]]:
    """Return the phases of training: {name, plan, rows}, in order."""
    found: list[dict[str, Any]] | None = packed.info.get("phases")
    if found is None:  # of a version from before there were phases
        found = [{"name": "train", "plan": "train", "rows": packed.counts.get("train_rows", 0)}]
    return found


def num_rows(packed: Manifest) -> int:
    """Return the training rows of all phases."""
    return sum(int(phase["rows"]) for phase in phases_of(packed))


def rows_told(packed: Manifest, unit: str = "tokens") -> str:
    """Return one line about the training rows of all phases, which count in `unit`.

    >>> rows_told(Manifest(
    ...     name="pack", settings={"row_tokens": 1024, "layout": "packed"}, code="", parents={},
    ...     tables={}, counts={"train_rows": 200, "train_waste": 512, "train_continued": 9},
    ...     info={"phases": [{"name": "train", "plan": "train", "rows": 200}]},
    ... ))
    '200 rows of 1,024 tokens, 0.25 % of them padding; no document that fits into a row is cut'
    """
    total = {"waste": 0, "continued": 0, "left_out": 0}
    for phase in phases_of(packed):
        for what in total:
            total[what] += packed.counts.get(f"{phase['plan']}_{what}", 0)
    size, layout = packed.settings["row_tokens"], packed.settings["layout"]
    number = num_rows(packed)
    if not number:
        return "no training rows"
    share = 100 * total["waste"] / (number * size)
    padding = f"{share:.2f} %" if share >= 0.005 or not total["waste"] else "less than 0.01 %"
    rows = "row" if number == 1 else "rows"
    if unit == "pairs":
        return f"{number:,} {rows} of a pair each"
    text = f"{number:,} {rows} of {size:,} {unit}, {padding} of them padding"
    if layout == "packed":
        return f"{text}; no document that fits into a row is cut"
    if layout == "document":
        return f"{text}; one document each, {total['left_out']:,} {unit} beyond a row are left out"
    cut = f"{total['continued']:,} times a document goes on in the next row"
    return f"{text}; {'one document each, ' if layout == 'padded' else ''}{cut}"

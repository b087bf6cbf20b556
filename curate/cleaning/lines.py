r"""Line removal as C4 and RefinedWeb do it: menus, policies, counters and half sentences go.

Which lines stay, and how they read then, is `curate.signals.line_rules`: the same predicates that
the signals of those rules count with. What C4 and RefinedWeb drop as a whole text is a rule over
signals and none of this step's business. A dialect is applied once, as its project does: taking a
citation mark out of a line can leave one that a second look would remove.

>>> import polars as pl
>>> text = "Home\nThis line has an end mark and stays.\nThis one has no end mark at all"
>>> setting = STEP.parse(["c4"])
>>> STEP.apply(pl.Series([text]), setting).texts.to_list()
['This line has an end mark and stays.']
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from curate.cleaning.base import Change, Step, exempt_of, mapping_of
from curate.corpus.errors import InputError, one_of
from curate.signals.line_rules import judge_lines, lines_of, strip

__all__ = ["DIALECTS", "STEP"]

# As written in a recipe -> dialect of `curate.signals.line_rules`; the first name is the main one.
DIALECTS = {
    "c4@tfds": "c4_tfds",
    "c4@datatrove": "c4_datatrove",
    "c4@dolma": "c4_dolma",
    "refinedweb@dclm": "refinedweb_dclm",
}
_SHORT = {"c4": "c4@tfds", "refinedweb": "refinedweb@dclm"}
_KEYS = ("rules", "exempt")


def _parse(value: Any) -> dict[str, Any] | None:
    if value is None or value is False or value == []:
        return None
    given = (
        mapping_of("lines", value, _KEYS)
        if isinstance(value, Mapping)
        else {"rules": [value] if isinstance(value, str) else value}
    )
    rules = given.get("rules")
    if not isinstance(rules, (list, tuple)) or not rules:
        raise InputError(f"clean: lines: found {rules!r}; write a list of {', '.join(DIALECTS)}.")
    for name in rules:
        if name not in DIALECTS and name not in _SHORT:
            raise InputError(f"clean: lines: {one_of('rule', str(name), [*_SHORT, *DIALECTS])}")
    named = {_SHORT.get(name, name) for name in rules}
    return {
        "rules": [name for name in DIALECTS if name in named],
        "exempt": exempt_of("lines", given.get("exempt")),
    }


def _apply(texts: pl.Series, setting: Mapping[str, Any] | None) -> Change | None:
    if setting is None:
        return None
    seen = texts
    counts: dict[str | None, np.ndarray] = {}
    for name in setting["rules"]:
        seen, counts[name], counts[f"{name}:tidied"] = _kept(seen, DIALECTS[name])
    rows = texts.ne_missing(seen).arg_true().to_numpy().astype(np.int64)
    if len(rows) == 0:
        return None
    some = {kind: each[rows] for kind, each in counts.items()}
    return Change(rows=rows, texts=seen.gather(rows), counts=some)


def _kept(texts: pl.Series, dialect: str) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Return what `keep_lines` does, how many lines with text went, and how many were tidied.

    Tidied are the blank lines that went and the lines that lost a mark or blanks; at least 1 where
    a text changed in no other way.
    """
    lines = lines_of(texts, dialect).with_columns(before=pl.col("line"))
    judged = judge_lines(lines, dialect)
    has_text = strip(pl.col("before")) != ""
    tidied = pl.when("kept").then(pl.col("line") != pl.col("before")).otherwise(~has_text)
    by_document = judged.group_by("document", maintain_order=True).agg(
        pl.col("line").filter("kept").str.join("\n").alias("new"),
        (~pl.col("kept") & has_text).sum().alias("removed"),
        tidied.sum().alias("tidied"),
    )
    found = texts.alias("text").to_frame().with_row_index("document")
    found = found.join(by_document, on="document", how="left", maintain_order="left")
    found = found.with_columns(new=pl.when(pl.col("text").is_not_null()).then(strip(pl.col("new"))))
    changed = found["text"].ne_missing(found["new"]).to_numpy()
    removed, tidied_lines = (
        found[name].fill_null(0).to_numpy().astype(np.int64) for name in ("removed", "tidied")
    )
    return found["new"], removed, np.maximum(tidied_lines, changed & (removed == 0))


STEP = Step(
    name="lines", order=30, default=None, off=None, parse=_parse, apply=_apply, counted="lines"
)

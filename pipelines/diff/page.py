"""`preceptor diff --html`: one page with both corpora side by side, that needs nothing else."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.diff.text import describe
from pipelines.pages import render_page

__all__ = ["render", "write_page"]

_MAX_VALUE = 400


def render(found: Mapping[str, Any]) -> str:
    """Return the page for a comparison (`compare`)."""
    from markupsafe import Markup, escape

    from pipelines.report.text import visible

    def value(one: Any) -> Markup:
        """Show a value of a recipe: what is no text as JSON, what is long clipped."""
        if one is None:
            return Markup('<span class="soft">not there</span>')
        text = one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
        shown = text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + " [...]"
        return Markup(f"<code>{escape(visible(shown))}</code>")

    groups = itertools.groupby(found["samples"], key=lambda row: (row["pass"], row["what"]))
    data = {
        **found,
        "lead": describe(found),
        "value": value,
        "groups": [(name, what, list(rows)) for (name, what), rows in groups],
    }
    return render_page("diff.html.j2", data, "diff.css", unit=found["b"]["unit"])


def write_page(found: Mapping[str, Any], path: Path) -> None:
    """Write the page for a comparison."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(found), encoding="utf-8")

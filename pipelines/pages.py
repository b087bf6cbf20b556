"""HTML pages from templates: every value escaped, hidden characters as codes, one style sheet.

A page names its style sheet, and the one script it may have, by digest in its content security
policy, so nothing that stands in a corpus can add another.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment", "inlined", "render_page"]

_PACKAGE = "pipelines.report"


# What a template writes itself, outside of tags and expressions.
_OUTSIDE = re.compile(
    r"(\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|<(?:\{%.*?%\}|\{\{.*?\}\}|[^>])*>)", re.DOTALL
)


def _worded(source: str, unit: str) -> str:
    """Return a template that counts in `unit` where its words count tokens.

    >>> _worded('<p class="tokens">Tokens: {{ n.tokens }} tokens</p>', "frames")
    '<p class="tokens">Frames: {{ n.tokens }} frames</p>'
    """
    pieces = _OUTSIDE.split(source)
    for place in range(0, len(pieces), 2):
        words = re.sub(r"\btokens\b", unit, pieces[place])
        pieces[place] = re.sub(r"\bTokens\b", unit.capitalize(), words)
    return "".join(pieces)


@cache
def environment(unit: str = "tokens") -> "jinja2.Environment":
    """Return the templates' environment; of a corpus of media they count in its unit."""
    import jinja2

    from pipelines.report.text import FILTERS, visible

    def finalize(value: Any) -> Any:
        """Every string that is not markup comes from data: no control may pass."""
        return visible(value) if type(value) is str else value

    packed = jinja2.PackageLoader(_PACKAGE, "templates")

    def worded(name: str) -> str:
        return _worded(packed.get_source(made, name)[0], unit)

    made = jinja2.Environment(
        loader=packed if unit == "tokens" else jinja2.FunctionLoader(worded),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.filters.update(FILTERS)
    return made


@cache
def inlined(*names: str) -> tuple[str, str]:
    """Return style sheets or scripts as one text, and its digest as a policy names it."""
    folder = resources.files(_PACKAGE) / "templates"
    text = "\n".join((folder / name).read_text("utf-8").strip() for name in names)
    text = f"\n{text}\n"
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render_page(template: str, data: Mapping[str, Any], *styles: str, unit: str = "tokens") -> str:
    """Return a page that needs nothing else; the template gets `css` and `css_sha256` as well."""
    from markupsafe import Markup

    css, digest = inlined("report.css", *styles)
    page = environment(unit).get_template(template)
    return page.render(**data, css=Markup(css), css_sha256=digest) + "\n"

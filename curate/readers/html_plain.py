r"""All the text of a piece of HTML, such as the body of a post or of a mail: no main content.

>>> plain_text("<p>One &amp; two<br>three</p><script>no()</script><ul><li>four</li></ul>")
'One & two\nthree\n\n  \u2022 four'
"""

import re
from collections.abc import Sequence

from curate.readers.columns import Problem
from curate.readers.html_text import MAX_HTML_BYTES, too_costly

__all__ = ["plain_text"]

_MAX_DEPTH = 256  # extraction is quadratic in the depth
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,30})")
# Elements that cannot hold themselves: void ones, and those that the next of their kind closes.
_FLAT = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
    | {"a", "button", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "li", "option", "p", "body"}
    | {"caption", "colgroup", "head", "html", "tbody", "td", "tfoot", "th", "thead", "title", "tr"}
)
# Elements that mean nothing to plain text; unclosed ones are opened again in each block.
_FORMATTING = re.compile(
    r"</?(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])[^<>]*>", re.IGNORECASE
)


def plain_text(html: str, skip: Sequence[str] = ()) -> str | Problem:
    """Return the visible text of HTML, blocks and list items on lines of their own.

    Args:
        html: a document or a piece of one, however broken.
        skip: CSS selectors of elements to leave out.

    Returns:
        The text, or why there is none: HTML that is made to be expensive is refused.
    """
    if len(html) > MAX_HTML_BYTES:
        return Problem("too_large", f"HTML of {len(html):,} characters")
    if "<" not in html and "&" not in html:
        return html.strip()
    html = _FORMATTING.sub("", html)
    problem = too_costly(html)
    if problem is None and _depth(html) > _MAX_DEPTH:
        problem = Problem("invalid_html", f"nested more than {_MAX_DEPTH} levels deep")
    if problem is not None:
        return problem
    # Here and not above: `preceptor --help` must not wait for it. The parser's tree stays inside
    # it: as an object of ours it must die in the thread that made it, and Dask's profiler, which
    # looks at our variables from another one, may be the last to hold it.
    from resiliparse.extract.html2text import extract_plain_text

    try:
        text: str = extract_plain_text(
            html,
            preserve_formatting=True,
            main_content=False,
            alt_texts=False,
            skip_elements=list(skip) or None,
        )
    except (ValueError, RuntimeError, TypeError, RecursionError) as error:
        return Problem("invalid_html", f"the parser says: {error}")
    return text.strip()


def _depth(html: str) -> int:
    """Return how deep the elements are nested at most, as far as their tags tell."""
    opened: dict[str, int] = {}
    depth = deepest = 0
    for match in _TAG.finditer(html):
        name = match[2].lower()
        if name in _FLAT:
            continue
        if not match[1]:
            opened[name] = opened.get(name, 0) + 1
            depth += 1
            deepest = max(deepest, depth)
        elif opened.get(name, 0):
            opened[name] -= 1
            depth -= 1
    return deepest

r"""Text of a corpus inside Markdown and YAML: it says what it says and does nothing.

Names of sources, licences and languages come from recipes and records. In a card they could be
markup, a table's end, or the end of the front matter. What is not a plain word is written in
character references, which no Markdown reader takes for markup.

>>> cell("CC-BY-SA-4.0"), cell("a|b <i>")
('CC-BY-SA-4.0', 'a&#124;b &#60;i&#62;')
>>> one_line("two\n---\nlines")
'two --- lines'
"""

import re
from collections.abc import Iterable, Sequence

from pipelines.report.text import visible

__all__ = ["cell", "one_line", "table"]

_MAX = 200
_WORD = re.compile(r"(?!www\b)[A-Za-z0-9]+(?:[-.+ ,:_][A-Za-z0-9]+)*", re.IGNORECASE)


def one_line(text: str) -> str:
    """Return text as one line of at most 200 characters, hidden characters as their codes."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= _MAX else line[: _MAX - 3] + "..."


def cell(text: object) -> str:
    """Return text that Markdown shows as it is, also inside a table."""
    line = one_line(str(text))
    if _WORD.fullmatch(line):
        return line
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in line) or "&#45;"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table; a column of numbers is set to the right.

    >>> table(["name", "n"], [["a", 1234]])
    ['| name | n |', '| --- | ---: |', '| a | 1,234 |']
    """
    body = [list(row) for row in rows]
    right = [
        bool(body) and all(isinstance(row[i], int | float) for row in body)
        for i in range(len(head))
    ]
    shown = [[f"{v:,}" if isinstance(v, int) else cell(v) for v in row] for row in body]
    lines = [head, ["---:" if one else "---" for one in right], *shown]
    return [f"| {' | '.join(line)} |" for line in lines]

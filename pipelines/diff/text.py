"""`preceptor diff` in the terminal: the balance, what caused it, and where it happened."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from pipelines.console import console, new_table, plain, say, show

__all__ = ["describe", "show_difference"]

_MOST = 20  # rows of a table
_MAX_VALUE = 60
_MAX_TEXT = 160
_ABSENT = "not collected"


def describe(found: Mapping[str, Any]) -> list[str]:
    """Return the difference in one to three lines.

    >>> describe({"a": {"id": "x@1"}, "b": {"id": "x@1"}, "identical": True})
    ['x@1 and x@1 are identical']
    """
    a, b = found["a"]["id"], found["b"]["id"]
    if found["identical"]:
        return [f"{a} and {b} are identical"]
    balance = found["balance"]
    drawn = balance["drawn_tokens"]
    if not found["causes"] and not drawn["gained"] and not drawn["lost"]:
        moved = sum(row["documents"] for row in found["splits"])
        more = f"; {moved:,} are in another split" if moved else ""
        lines = [f"{a} and {b} hold the same documents, for the same reasons{more}"]
    else:
        lines = [f"{a} -> {b}: {_equation(balance['documents'], 'documents')}{_more(balance)}"]
    tokens, unit = balance["tokens"], found["b"]["unit"]
    if found["a"]["unit"] != unit:
        lines.append(f"one counts {found['a']['unit']}, the other {unit}: they are not compared")
    elif found["comparable"]:
        lines.append(f"{_equation(tokens, unit)}; drawn {_equation(drawn, unit)}")
    else:
        lines.append(
            f"other tokenizers: {tokens['a']:,} and {tokens['b']:,} tokens are not compared; "
            f"{_equation(balance['bytes'], 'bytes')}"
        )
    return lines


def _equation(row: Mapping[str, Any], unit: str) -> str:
    return f"{row['a']:,} + {row['gained']:,} - {row['lost']:,} = {row['b']:,} {unit}"


def _more(balance: Mapping[str, Any]) -> str:
    told = ""
    if balance["changed"]:
        told += f", {balance['changed']:,} with another text"
    if balance["renamed"]:
        told += f"; {balance['renamed']:,} of the lost came back under another id"
    return told


def show_difference(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a comparison (`compare`) for people, or as JSON."""
    if as_json:
        say(json.dumps(found, indent=1, ensure_ascii=True))
        return
    for line in describe(found):
        say(line)
    if found["identical"]:
        return
    unit = found["b"]["unit"]
    _causes(found["causes"], unit)
    _sources(found["sources"], unit)
    _reasons(found)
    _mixture(found["mixture"], unit)
    _lineage(found)
    _samples(found["samples"])


def _table(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under a blank line; of a long one the beginning."""
    if not rows:
        return
    table = new_table(*columns, title=title)
    for row in rows[:_MOST]:
        table.add_row(*(escape(plain(cell)) for cell in row))
    console.print()
    show(table)
    if len(rows) > _MOST:
        say(f"... and {len(rows) - _MOST:,} more; `--json` has them")


def _signed(gained: int | None, lost: int | None) -> list[str]:
    """Return what was gained and lost; nothing for nought."""
    return [
        "-" if number is None else f"{sign}{number:,}" if number else ""
        for sign, number in (("+", gained), ("-", lost))
    ]


def _causes(rows: Sequence[Mapping[str, Any]], unit: str) -> None:
    _table(
        "what caused it (the first pass whose output for a document differs)",
        [
            ("pass", "left"),
            ("what differs", "left"),
            ("gained", "right"),
            ("lost", "right"),
            ("changed", "right"),
            (unit, "right"),
            ("", "right"),
            ("because of", "prose"),
        ],
        [
            [
                row["pass"],
                row["what"],
                *_signed(row["gained"], row["lost"]),
                f"{row['changed']:,}" if row["changed"] else "",
                *_signed(row["tokens_gained"], row["tokens_lost"]),
                "; ".join(row["because"]),
            ]
            for row in rows
        ],
    )


def _sources(rows: Sequence[Mapping[str, Any]], unit: str) -> None:
    _table(
        "by source",
        [
            ("source", "left"),
            ("kept before", "right"),
            ("gained", "right"),
            ("lost", "right"),
            ("changed", "right"),
            ("kept after", "right"),
            (f"{unit} before", "right"),
            ("gained", "right"),
            ("lost", "right"),
            (f"{unit} after", "right"),
        ],
        [
            [
                row["source"],
                f"{row['a']:,}",
                *_signed(row["gained"], row["lost"]),
                f"{row['changed']:,}" if row["changed"] else "",
                f"{row['b']:,}",
                f"{row['tokens_a']:,}",
                *_signed(row["tokens_gained"], row["tokens_lost"]),
                f"{row['tokens_b']:,}",
            ]
            for row in rows
        ],
    )


def _reasons(found: Mapping[str, Any]) -> None:
    _table(
        "by reason (took: from what was kept; gave: to what is kept now)",
        [
            ("reason", "left"),
            ("before", "right"),
            ("after", "right"),
            ("took", "right"),
            ("gave", "right"),
        ],
        [
            [
                row["reason"],
                f"{row['a']:,}",
                f"{row['b']:,}",
                f"{row['took']:,}",
                f"{row['gave']:,}",
            ]
            for row in found["reasons"]
        ],
    )
    _table(
        "where documents went",
        [("before", "left"), ("after", "left"), ("documents", "right")],
        [
            [_stood(row["before"]), _stood(row["after"]), f"{row['documents']:,}"]
            for row in found["moves"]["rows"]
        ],
    )
    _table(
        "rules that are others now",
        [("rule", "left"), ("before", "prose"), ("after", "prose"), ("took", "right"),
         ("gave", "right")],
        [
            [
                row["reason"].removeprefix("rule:"),
                row["before"] or "no such rule",
                row["after"] or "no such rule",
                f"{row['took']:,}",
                f"{row['gave']:,}",
            ]
            for row in found["rules"]
        ],
    )  # fmt: skip
    _table(
        "kept in both, in another split",
        [("before", "left"), ("after", "left"), ("documents", "right")],
        [[row["before"], row["after"], f"{row['documents']:,}"] for row in found["splits"]],
    )


def _stood(place: str) -> str:
    return _ABSENT if place == "absent" else place


def _mixture(mixture: Mapping[str, Any], unit: str) -> None:
    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f} %"

    if all(row["a"] == row["b"] and not row["gained"] for row in mixture["rows"]):
        return
    _table(
        f"drawn by the mixture, in {unit}",
        [
            ("domain", "left"),
            ("before", "right"),
            ("share", "right"),
            ("gained", "right"),
            ("lost", "right"),
            ("after", "right"),
            ("share", "right"),
        ],
        [
            [
                row["domain"],
                f"{row['a']:,}",
                percent(row["share_a"]),
                *_signed(row["gained"], row["lost"]),
                f"{row['b']:,}",
                percent(row["share_b"]),
            ]
            for row in mixture["rows"]
        ],
    )
    if mixture["why"]:
        came, copies = mixture["why"]["documents"], mixture["why"]["copies"]
        say(
            f"of that +{came['gained']:,} -{came['lost']:,} by documents that came, went or "
            f"changed, +{copies['gained']:,} -{copies['lost']:,} by other copies of the same ones"
        )


def _lineage(found: Mapping[str, Any]) -> None:
    values = [("before", "prose"), ("after", "prose")]
    _table(
        "recipe",
        [("key", "left"), *values],
        [
            [row["path"], _value(row["before"]), _value(row["after"])]
            for row in found["recipe"]["rows"]
        ],
    )
    _table(
        "input files",
        [("source", "left"), ("file", "left"), ("", "left"), ("documents", "right"), ("", "right")],
        [
            [row["source"], row["path"], row["change"], f"{row['documents_a']:,}",
             f"-> {row['documents_b']:,}"]
            for row in found["inputs"]["rows"]
        ],
    )  # fmt: skip
    _table(
        "fitted again",
        [("what", "left"), *values],
        [[row["what"], _value(row["before"]), _value(row["after"])] for row in found["fitted"]],
    )
    code = [row["pass"] for row in found["passes"] if row.get("code")]
    if code:
        console.print()
        say(f"code differs in {', '.join(code)}")


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return plain(value if isinstance(value, str) else json.dumps(value), _MAX_VALUE)


def _samples(rows: Sequence[Mapping[str, Any]]) -> None:
    heading = None
    for row in rows:
        if (row["pass"], row["what"]) != heading:
            heading = (row["pass"], row["what"])
            console.print(f"\n[bold]{escape(plain(': '.join(heading)))}[/]", soft_wrap=True)
        place = "" if row["path"] is None else f", {row['path']} at {row['position']}"
        where = f"{row['source']}{place}"
        say(f"  {row['doc_id']}  {plain(where)}: {_state(row['a'])} -> {_state(row['b'])}")
        diff = row["diff"]
        if diff and diff["hunks"]:
            say(f"    {plain(_hunk(diff['hunks'][0]), 2 * _MAX_TEXT)}")
        else:
            say(f"    {plain(' '.join(row['text'].split()), _MAX_TEXT)}")


def _state(place: Mapping[str, Any] | None) -> str:
    if place is None:
        return _ABSENT
    return "kept" if place["kept"] else ", ".join(place["reasons"])


def _hunk(pieces: Sequence[Sequence[str]]) -> str:
    from pipelines.worddiff import MARKS

    return "".join(MARKS[kind][0] + " ".join(text.split(" ")) + MARKS[kind][1]
                   for kind, text in pieces).replace("\n", " ")  # fmt: skip

"""`preceptor why`: the whole life of one document, for people."""

import json
from typing import Any

from rich.markup import escape

from pipelines.console import _table, console, plain, say, show
from pipelines.corpus import Corpus, open_corpus, why

__all__ = ["explain"]

_EXCERPT = 400
_SHOWN_LINES = 10


def explain(name: str, doc_id: str, *, store: str, as_json: bool = False) -> None:
    """Print where a document came from, what was measured, and why it stayed or went."""
    corpus = open_corpus(name, store=store)
    life = why(corpus, doc_id)
    if as_json:
        say(json.dumps(life, indent=1, ensure_ascii=True, default=str))
        return
    document, verdict = life["document"], life["verdict"]
    console.print(f"[bold]{life['doc_id']}[/] in {escape(str(corpus.version))}")
    origin = f"{document['source']}, {document['path']} at {document['position']}"
    _fact("origin", origin + (f", key {document['key']}" if document["key"] else ""))
    for field in ("url", "license"):
        if document[field]:
            _fact(field, document[field])
    _fact("text", _excerpt(document["text"]))
    raw = life["raw_text"]
    _fact(
        "cleaning",
        "the text is as it was read" if raw is None else f"changed; it began: {_excerpt(raw, 120)}",
    )
    _verdict(corpus, life)
    _evidence(corpus, life)
    _cut_lines(life["cut_lines"])
    _use(life, verdict)


def _fact(name: str, text: str) -> None:
    console.print(f"[cyan]{name:<14}[/]{escape(plain(text))}", soft_wrap=True)


def _excerpt(text: str, limit: int = _EXCERPT) -> str:
    return plain(" ".join(text[: 2 * limit].split()), limit) + f"  ({len(text):,} characters)"


def _verdict(corpus: Corpus, life: dict[str, Any]) -> None:
    verdict = life["verdict"]
    if verdict["kept"]:
        _fact("verdict", f"kept, in split {verdict['split']}")
    else:
        _fact("verdict", f"dropped: {', '.join(verdict['reasons'])}")
    if verdict["kept_id"]:
        twin = corpus.rows("documents", verdict["kept_id"])[0]
        _fact(
            "",
            f"{verdict['kept_id']} speaks for it ({twin['source']}, {twin['path']}): "
            f"{_excerpt(twin['text'], 100)}",
        )
    table = _table(
        ("rule", "left"),
        ("keeps documents with", "prose"),
        ("this one", "prose"),
        ("margin", "right"),
        ("", "left"),
    )
    exempt = life["rules"]["exempt"]
    for rule in life["rules"]["rules"]:
        reason = rule["reason"]
        values = ", ".join(
            f"{name} = {_number(life['signals'].get(name))}" for name in rule["reads"]
        )
        margin = verdict["margins"].get(reason)
        if verdict["source"] in exempt.get(reason, ()):
            outcome = "exempt"
        else:
            outcome = "[red]fails[/]" if reason in verdict["reasons"] else "passes"
        shown = "" if margin is None else _number(margin)
        table.add_row(
            escape(reason.removeprefix("rule:")),
            escape(rule["keep"]),
            escape(values),
            shown,
            outcome,
        )
    if life["rules"]["rules"]:
        show(table)
    read = {name for rule in life["rules"]["rules"] for name in rule["reads"]}
    others = ", ".join(
        f"{name} {_number(value)}" for name, value in life["signals"].items() if name not in read
    )
    _fact("other signals", others)


def _number(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _evidence(corpus: Corpus, life: dict[str, Any]) -> None:
    edges = life["duplicates"]
    if edges:
        _fact(
            "duplicates", f"{len(edges)} verified edges, in a cluster of {edges[0]['cluster_size']}"
        )
        for edge in sorted(edges, key=lambda edge: -edge["jaccard"])[:10]:
            other = edge["twin_id"] if edge["doc_id"] == life["doc_id"] else edge["doc_id"]
            source = corpus.rows("documents", other)[0]
            _fact(
                "",
                f"{edge['kind']}, Jaccard {edge['jaccard']:.3f}: {other} ({source['source']}, "
                f"{source['path']})",
            )
        if len(edges) > 10:
            _fact("", f"... and {len(edges) - 10} more; `--json` lists them all")
    else:
        _fact("duplicates", "none")
    for hit in life["contamination"]:
        text = life["document"]["text"].encode()[
            hit["span_start"] : hit["span_start"] + hit["span_length"]
        ]
        _fact(
            "contamination",
            f"{hit['benchmark']} item {hit['item']}, overlap {hit['overlap']:.2f}: "
            f"{_excerpt(text.decode(errors='replace'), 160)}",
        )
    if not life["contamination"]:
        _fact("contamination", "none found")


def _cut_lines(lines: list[dict[str, Any]]) -> None:
    """Tell the repeated lines that `tokenize` leaves out, nothing where there are none."""
    if not lines:
        return
    num_bytes = sum(line["length"] for line in lines)
    cut = f"{len(lines):,} repeated line{'s' if len(lines) > 1 else ''}"
    _fact("cut", f"{cut}, {num_bytes:,} bytes, not tokenized")
    for line in lines[:_SHOWN_LINES]:
        _fact("", f"in {line['documents']:,} documents: {_excerpt(line['text'], 160)}")
    if len(lines) > _SHOWN_LINES:
        _fact("", f"... and {len(lines) - _SHOWN_LINES} more; `--json` lists them all")


def _use(life: dict[str, Any], verdict: dict[str, Any]) -> None:
    if life["tokens"]:
        tokens = life["tokens"]
        _fact("tokens", f"{tokens['tokens']:,}, row {tokens['row']} of {tokens['shard']}")
    if life["draw"]:
        copies = life["draw"]["copies"]
        _fact(
            "mixture",
            f"{copies} cop{'y' if copies == 1 else 'ies'} drawn for {life['draw']['domain']}",
        )
    if life["rows"]:
        rows = life["rows"]
        shown = ", ".join(map(str, rows[:8])) + (
            f" ... ({len(rows)} rows)" if len(rows) > 8 else ""
        )
        _fact("plan", f"rows {shown} of plan_{verdict['split']}")

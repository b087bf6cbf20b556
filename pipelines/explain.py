"""`preceptor why`: the whole life of one document, for people."""

import json
from typing import Any

import polars as pl
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from curate.contamination.methods import required
from curate.contamination.thresholds import enough
from pipelines.console import console, new_table, plain, say, show
from pipelines.corpus import MAX_COMPARED, Corpus, open_corpus, why
from pipelines.testitems import item_texts
from pipelines.worddiff import MARKS

__all__ = ["explain", "similarity_told"]

_EXCERPT = 400
_INDENT = 14
_MOST_HUNKS, _FEW_HUNKS = 12, 3  # of the document that is kept instead, and of any other
_COLOURS = {"same": "", "removed": "red", "added": "green"}
_SHOWN_LINES = 10
_SHOWN_HITS, _SHOWN_PIECES = 10, 3
_OUTCOMES = {"drop": "dropped for it", "cut": "the span is not tokenized", "mark": "only marked"}


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
    if "forgotten" in verdict["reasons"]:
        _fact("text", "forgotten; `preceptor list receipts` tells of the takedown")
    else:
        _contents(life)
    _cleaning(life["cleaning"])
    _verdict(corpus, life)
    _evidence(corpus, life)
    _cut_lines(life["cut_lines"])
    _use(corpus, life, verdict)
    _training(life["training"])


def _fact(name: str, text: str) -> None:
    console.print(f"[cyan]{name:<{_INDENT}}[/]{escape(plain(text))}", soft_wrap=True)


def _excerpt(text: str, limit: int = _EXCERPT) -> str:
    return plain(" ".join(text[: 2 * limit].split()), limit) + f"  ({len(text):,} characters)"


def _contents(life: dict[str, Any]) -> None:
    """Show the text, or what was measured of an image or a sound, and its caption."""
    document, signals = life["document"], life["signals"]
    if signals.get("image_width") is not None:
        size = f"{signals['image_width']:,} x {signals['image_height']:,} pixels"
        kind = f"{signals['image_format']}, {signals['image_mode']}"
        _fact("image", f"{size}, {kind}, {signals['image_num_bytes']:,} bytes")
    if signals.get("audio_duration_s") is not None:
        rate = (
            f"{signals['audio_sample_rate']:,} Hz, {_count(signals['audio_channels'], 'channel')}"
        )
        size = f"{signals['audio_num_bytes']:,} bytes"
        _fact("sound", f"{signals['audio_duration_s']:.3f} s, {rate}, {size}")
    if "media_hash" not in document:
        _fact("text", _excerpt(document["text"]))
    elif document["text"]:
        _fact("caption", _excerpt(document["text"]))


def similarity_told(corpus: Corpus, edge: dict[str, Any]) -> str:
    """Say how alike two documents are, as they were compared."""
    near = corpus.manifest("deduplicate").settings["near"] or {}
    if edge["kind"] == "near" and near.get("similarity") == "perceptual":
        return f"near, {round(64 * (1 - edge['jaccard']))} of 64 bits of their looks differ"
    if edge["kind"] == "exact" and corpus.unit != "tokens":
        return "exact, the same file"
    return f"{edge['kind']}, Jaccard {edge['jaccard']:.3f}"


def _cleaning(cleaning: dict[str, Any] | None) -> None:
    """Tell what the steps of `clean` did to the text, and show the words that changed."""
    if cleaning is None:
        _fact("cleaning", "the text is as it was read")
        return
    steps: dict[str, list[str]] = {}
    for row in cleaning["steps"]:
        # A step without kinds says what it counts; one that counts texts has nothing to say.
        named = f"{row['kind']} {row['count']:,}" if row["kind"] else ""
        counted = "" if row["counted"] == "texts" else f"{row['count']:,} {row['counted']}"
        steps.setdefault(row["step"], []).append(named.replace("_", " ") or counted)
    told = [f"{step}: {', '.join(counts)}".removesuffix(": ") for step, counts in steps.items()]
    _fact("cleaning", "; ".join(told) or "changed")
    diff = cleaning["diff"]
    if not diff["places"]:
        _fact("", "no word differs, only blanks, line ends or marks inside of words")
        return
    _fact(
        "",
        f"{_count(diff['removed_words'], 'word')} [-as read-], {diff['added_words']:,} "
        f"{{+as cleaned+}}, in {_count(diff['places'], 'place')}",
    )
    for hunk in diff["hunks"][:_FEW_HUNKS]:
        _show_hunk(hunk)
    hidden = diff["hidden_places"] + len(diff["hunks"][_FEW_HUNKS:])
    if hidden:
        _fact("", "  ... `--json` has more")


def _verdict(corpus: Corpus, life: dict[str, Any]) -> None:
    verdict = life["verdict"]
    if verdict["kept"]:
        _fact("verdict", f"kept, in split {verdict['split']}")
    else:
        _fact("verdict", f"dropped: {', '.join(verdict['reasons'])}")
    kept = life["kept_instead"]
    if kept:
        other = kept["other"]
        told = other["beginning"] if other else ""
        begins = f": {plain(' '.join(told.split()), 100)}" if told else ""
        jaccard = "" if kept["jaccard"] is None else f"{similarity_told(corpus, kept)}: "
        _fact("", f"{jaccard}{kept['other_id']} speaks for it{_place(corpus, other)}{begins}")
        _difference(kept, _MOST_HUNKS)
    table = new_table(
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
            escape(rule.get("overrides", {}).get(verdict["source"], rule["keep"])),
            escape(values),
            shown,
            outcome,
        )
    if life["rules"]["rules"]:
        show(table)
    is_media = "media_hash" in life["document"]
    read = {name for rule in life["rules"]["rules"] for name in rule["reads"]}
    others = ", ".join(
        f"{name} {_number(value)}"
        for name, value in life["signals"].items()
        if name not in read and not (is_media and value is None)
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
            "duplicates",
            f"{_count(len(edges), 'verified edge')}, in a cluster of {edges[0]['cluster_size']}",
        )
        kept = life["kept_instead"] or {}
        for place, edge in enumerate(edges[:MAX_COMPARED]):
            other = edge["other_id"]
            _fact(
                "",
                f"{similarity_told(corpus, edge)}: {other}" + _place(corpus, edge["other"]),
            )
            if other != kept.get("other_id"):
                _difference(edge, _FEW_HUNKS if place or kept else _MOST_HUNKS)
        if len(edges) > MAX_COMPARED:
            _fact("", f"... and {len(edges) - MAX_COMPARED} more; `--json` lists them all")
    else:
        _fact("duplicates", "none")
    _contamination(corpus, life)


def _contamination(corpus: Corpus, life: dict[str, Any]) -> None:
    """Tell each item found: how, how much, what it leads to, and both texts."""
    hits = life["contamination"]
    if not hits:
        _fact("contamination", "none found")
        return
    settings = corpus.manifest("judge").settings["contamination"]
    counts = enough(pl.DataFrame(hits), settings["thresholds"])
    texts = item_texts(corpus, [(hit["benchmark"], hit["item"]) for hit in hits[:_SHOWN_HITS]])
    data = life["document"]["text"].encode()
    for hit, strong in zip(hits[:_SHOWN_HITS], counts, strict=False):
        threshold = settings["thresholds"].get(hit["method"], 1.0)
        needed = float(required(threshold, hit["strictness"]))
        outcome = _OUTCOMES[settings["actions"].get(hit["benchmark"], "mark")]
        told = outcome if strong else f"weaker than {needed:.2f}, no consequence"
        _fact(
            "contamination",
            f"{hit['benchmark']} item {hit['item']}, {hit['method']} {hit['overlap']:.2f}: {told}",
        )
        for piece in hit["spans"][:_SHOWN_PIECES]:
            found = data[piece["start"] : piece["start"] + piece["length"]]
            _fact("", f"here: {_excerpt(found.decode(errors='replace'), 160)}")
        if len(hit["spans"]) > _SHOWN_PIECES:
            _fact("", f"... and {_count(len(hit['spans']) - _SHOWN_PIECES, 'more piece')}")
        item = texts.get((hit["benchmark"], hit["item"]))
        if item is not None:
            _fact("", f"item: {_excerpt(item, 160)}")
    if len(hits) > _SHOWN_HITS:
        _fact("", f"... and {len(hits) - _SHOWN_HITS} more; `--json` lists them all")


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


def _place(corpus: Corpus, other: dict[str, Any] | None) -> str:
    """Say where another document stands."""
    if other is None:
        return " (its text is not in this store)"
    where = "" if other["corpus"] == str(corpus.version) else f"{other['corpus']}: "
    return f" ({where}{other['source']}, {other['path']} at {other['position']})"


def _difference(row: dict[str, Any], most: int) -> None:
    """Show in which words a document differs from another."""
    diff = row["diff"]
    if diff is None or (row["other"] and not row["other"]["beginning"]):  # media without words
        return
    told = "equal after normalisation; " if row["kind"] == "exact" else ""
    whole = "" if diff["is_whole"] else "; of texts this long the beginnings are compared"
    if not diff["places"]:
        _fact("", f"{told}no word differs{whole}")
        return
    _fact(
        "",
        f"{told}{_count(diff['removed_words'], 'word')} [-only there-], {diff['added_words']:,} "
        f"{{+only here+}}, in {_count(diff['places'], 'place')}{whole}",
    )
    for hunk in diff["hunks"][:most]:
        _show_hunk(hunk)
    if len(diff["hunks"]) > most:
        _fact("", "  ... `--json` has more")
    elif diff["hidden_places"]:
        _fact("", f"  ... and {_count(diff['hidden_places'], 'more place')}")


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _show_hunk(pieces: list[list[str]]) -> None:
    """Print a hunk: marked, so that it reads without colours, and coloured where there are any."""
    line = Text("  ")
    for kind, text in pieces:
        opened, closed = MARKS[kind]
        line.append(opened + plain(" ".join(text.split(" "))) + closed, style=_COLOURS[kind])
    if console.is_terminal:
        console.print(Padding(line, (0, 0, 0, _INDENT)))
    else:
        console.print(Text(" " * _INDENT).append_text(line), soft_wrap=True)


def _use(corpus: Corpus, life: dict[str, Any], verdict: dict[str, Any]) -> None:
    if life["tokens"]:
        tokens = life["tokens"]
        masked = "" if verdict["kept"] else ", masked in place"
        where = f"row {tokens['row']} of {tokens['shard']}"
        _fact(corpus.unit, f"{tokens['tokens']:,}{masked}, {where}")
    for draw in life["draws"]:
        copies = draw["copies"]
        phase = "" if draw["name"] == "train" else f", phase {draw['name']}"
        _fact(
            "mixture",
            f"{copies} cop{'y' if copies == 1 else 'ies'} drawn for {draw['domain']}{phase}",
        )
    if verdict["kept"] and verdict["split"] == "train" and not life["draws"]:
        _fact("mixture", "not drawn")
    for plan, rows in sorted(life["plans"].items()):
        if rows:
            shown = ", ".join(map(str, rows[:8]))
            shown += f" ... ({len(rows)} rows)" if len(rows) > 8 else ""
            _fact("plan", f"rows {shown} of {plan}")


def _training(runs: list[dict[str, Any]]) -> None:
    """Tell which runs have read the document, and what it cost them then."""
    for run in runs:
        about = f"run {run['run']} on {run['corpus']}"
        if not run["num_steps"]:
            _fact("training", f"{about}: not read in its first {run['steps_done']:,} steps")
            continue
        shown = ", ".join(f"{step:,}" for step in run["steps"][:8])
        more = " ..." if run["num_steps"] > 8 else ""
        steps = _count(run["num_steps"], "step")
        _fact("training", f"{about}: read in {steps} of {run['steps_done']:,}: {shown}{more}")
        measured = run["measured"]
        if measured is None:
            continue
        ends = [measured["first"], measured["last"]][: 1 + (measured["readings"] > 1)]
        told = "; ".join(
            f"step {end['step']:,}: {end['nats']:.3f} nats a token "
            f"(its source {end['source_nats']:.3f})"
            for end in ends
        )
        bits = measured["bits_per_byte"]
        _fact("", told + ("" if bits is None else f"; over all {bits:.3f} bits/byte"))

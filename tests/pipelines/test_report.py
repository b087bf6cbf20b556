import base64
import hashlib
import html
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curate.corpus.manifest import Manifest
from pipelines.build import run
from pipelines.corpus import Corpus, open_corpus
from pipelines.passes.whatif import MAX_EDGES
from pipelines.recipe import parse_recipe
from pipelines.report import build_report, summary, write_report
from pipelines.report.page import render
from pipelines.report.snippets import MAX_DOCUMENTS
from pipelines.report.text import clip
from pipelines.report.whatif import MAX_BYTES, MAX_DIALS
from pipelines.store import Store

HOSTILE = (
    '<script>alert(1)</script> </style></pre> " onload="x\' {{ 7 * 7 }} {% raw %} &lt; '
    "pay \u202e001\u202c then \x00\x00\x00 and \u200b hidden \U000e0041 tag\n"
)
STORY = "The old lighthouse keeper counted ships {n} and wrote their names in a book of the sea. "
ITEM = (
    "Which of the seven rivers of the northern plain was crossed first by the surveyors who drew "
    "the earliest map of the whole province?"
)


def story(number: int, sentences: int = 6) -> str:
    lines = (STORY.format(n=f"{number}-{i}") + f"Word{number * 31 + i} " for i in range(sentences))
    return "".join(lines)


def write_lines(path: Path, rows: list[Any]) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    hostile: list[Any] = [
        {"id": f"h{i}", "text": HOSTILE * 3 + story(900 + i), "license": "<b>evil</b>"}
        for i in range(3)
    ]
    hostile.append({"id": "h9", "text": HOSTILE + "short", "license": None})
    stories: list[Any] = [{"id": i, "text": story(i)} for i in range(60)]
    stories += [{"id": f"copy{i}", "text": story(i)} for i in range(4)]
    stories += [{"id": f"near{i}", "text": story(i) + "The end."} for i in range(4, 9)]
    stories += [{"id": "leak", "text": story(500) + ITEM}, "{broken <img src=x>", '{"text": 5}']
    tiny = [{"id": i, "text": f"too short {i}"} for i in range(12)]
    write_lines(folder / 'a<i>&"b.jsonl', hostile)
    write_lines(folder / "stories.jsonl", stories)
    write_lines(folder / "tiny.jsonl", tiny)
    items: list[Any] = [{"id": "<u>q1</u>", "q": ITEM}, {"id": "q2", "q": "Yes or no?"}]
    write_lines(folder / "test.jsonl", items)
    return folder


RECIPE = """
name: lighthouse
seed: 3
sources:
  - {name: hostile, paths: ['a<i>&"b.jsonl']}
  - {name: stories, paths: [stories.jsonl], license: CC0-1.0}
  - {name: tiny, paths: [tiny.jsonl]}
clean: {unicode: none, control: false}
rules: {add: {long_enough: "num_words >= 12", never: "num_words < 1000000"}}
decontaminate: {against: [{name: quiz, paths: [test.jsonl], columns: [q]}]}
tokenize: {tokenizer: {train: bpe, vocab_size: 400}}
split: {validation: 0.1, test: 0.1}
mix: {budget: 8K tokens, weights: {hostile: 0.2, stories: 0.8, tiny: 0}}
pack: {row_tokens: 64}
"""


def curate(folder: Path, recipe: str) -> Corpus:
    store = str(folder / "store")
    outcome = run(parse_recipe(recipe, base=str(folder)), store=store)
    return open_corpus(str(outcome.version), store=store)


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return curate(folder, RECIPE)


@pytest.fixture(scope="module")
def report(corpus: Corpus) -> Any:
    return build_report(corpus)


@pytest.fixture(scope="module")
def bare(folder: Path, corpus: Corpus) -> Corpus:
    """A version in which nothing is kept, with no benchmark and no weights."""
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]["path"]
    recipe = f"""
name: bare
sources: [{{name: tiny, paths: [tiny.jsonl]}}]
rules: {{add: {{impossible: "num_words > 1000000"}}}}
deduplicate: {{exact: false}}
tokenize: {{tokenizer: {{path: {corpus.store.storage.full(tokenizer)}}}}}
"""
    store = Store(str(folder / "store"))
    parsed = parse_recipe(recipe, base=str(folder))
    made = dict(run(parsed, store=store, until="mix").manifests)
    made["pack"] = Manifest(
        name="pack", settings={"row_tokens": 64}, code="", parents={}, tables={}, counts={}
    )
    store.put_manifest(made["pack"])
    prints = {name: manifest.fingerprint for name, manifest in made.items()}
    version, _ = store.publish("bare", prints, parsed.model_dump(mode="json"))
    return open_corpus(str(version), store=store)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br", "wbr", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_shows_as_text_and_is_nothing_else(report: Any) -> None:
    tags = Tags(report.html)
    assert not tags.open
    assert tags.names.count("script") == 2, "the counts of what if, and what adds them up"
    assert not {"img", "iframe", "link", "object", "u", "b-evil"} & set(tags.names)
    assert not [name for _, name, _ in tags.attributes if name.startswith("on")]
    assert '<script>alert(1)</script> </style></pre> " onload="x\' {{ 7 * 7 }}' in tags.text
    assert "<b>evil</b>" in tags.text
    assert "<u>q1</u>" in tags.text
    assert 'a<i>&"b.jsonl' in tags.text
    assert "U+202E" in tags.text
    assert "U+0000 x3" in tags.text
    for character in "\u202e\u202c\x00\u200b\U000e0041":
        assert character not in html.unescape(report.html)
        assert character not in json.dumps(report.data, ensure_ascii=False)


def test_the_page_needs_nothing_else_and_its_policy_names_its_style(report: Any) -> None:
    tags = Tags(report.html)
    links = [value for _, name, value in tags.attributes if name in ("href", "src", "action")]
    anchors = {value for _, name, value in tags.attributes if name == "id"}
    assert links
    assert all(link is not None and link[1:] in anchors and link[0] == "#" for link in links)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", report.html)
    assert "url(" not in report.html
    assert "@import" not in report.html
    (style,) = re.findall(r"<style>(.*?)</style>", report.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (data, script) = re.findall(r"<script([^>]*)>(.*?)</script>", report.html, re.DOTALL)
    assert data[0] == ' type="application/json" id="whatif-data"'
    assert not set(data[1]) & set("<>&")
    assert json.loads(data[1]) == report.data["what_if"]
    assert not re.search(r"\beval\b|\bFunction\(|innerHTML|document\.write|https?:", script[1])
    allowed = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'sha256-{digest}'"
    assert policy in report.html
    assert "unsafe" not in policy
    assert not [name for _, name, _ in tags.attributes if name == "style"]


def test_every_table_has_headers_with_a_scope(report: Any) -> None:
    tags = Tags(report.html)
    headers = tags.names.count("th")
    assert headers
    assert headers == len([1 for tag, name, _ in tags.attributes if (tag, name) == ("th", "scope")])


def test_totals_equal_the_tables(report: Any, corpus: Corpus) -> None:
    data = report.data
    verdicts = corpus.table("verdicts").collect()
    kept = verdicts.filter("kept")
    draws = corpus.table("draws").collect()
    top, total = data["corpus"], data["sources"]["total"]
    assert top["collected"] == verdicts.height == corpus.table("documents").collect().height
    assert top["quarantined"] == data["quarantine"]["records"] == 2
    assert (top["kept"], top["dropped"]) == (kept.height, verdicts.height - kept.height)
    assert top["tokens"] == corpus.manifest("tokenize").counts["tokens"]
    assert top["bytes"] == verdicts["num_bytes"].sum()
    assert top["drawn_tokens"] == (draws["copies"] * draws["tokens"]).sum()
    for row in [*data["sources"]["rows"], total]:
        assert row["documents"] == row["kept"] + sum(row["dropped"].values())
    for key in ("documents", "kept", "tokens", "quarantined"):
        assert total[key] == sum(row[key] for row in data["sources"]["rows"])
    assert total["tokens"] == top["tokens"]
    assert total["lost_tokens_estimate"] == top["dropped_tokens_estimate"]
    counts = corpus.manifest("judge").counts
    for row in data["reasons"]["rows"]:
        assert row["documents"] == counts.get(f"reason:{row['reason']}", 0)
        assert row["sole_documents"] <= row["documents"]
    sole = verdicts.filter(pl.col("reasons").list.len() == 1).height
    assert sum(row["sole_documents"] for row in data["reasons"]["rows"]) == sole
    licenses = data["safety"]["licenses"]["rows"]
    assert sum(row["tokens"] for row in licenses) == top["tokens"]
    assert total["drawn_tokens"] == top["drawn_tokens"]
    assert sum(data["contents"]["lengths"]["counts"]) == top["kept"]
    base = data["what_if"]["base"]
    assert [sum(row[i] for row in base) for i in (0, 1)] == [top["kept"], top["tokens"]]


def test_the_funnel_narrows_and_ends_at_what_is_kept(report: Any) -> None:
    stages = {stage["stage"]: stage for stage in report.data["funnel"]["stages"]}
    order = ["collected", "after rules", "after contamination", "after duplicates: kept"]
    order.append("split train")
    assert list(stages) == [*order, "drawn"]
    for before, after in itertools.pairwise(order):
        assert stages[before]["documents"] >= stages[after]["documents"]
        assert stages[before]["tokens"] >= stages[after]["tokens"]
    top = report.data["corpus"]
    assert stages["collected"]["tokens"] == top["tokens"] + top["dropped_tokens_estimate"]
    assert stages["after duplicates: kept"]["tokens"] == top["tokens"]
    splits = report.data["funnel"]["splits"]
    assert sum(row["documents"] for row in splits) == top["kept"]


def test_histograms_count_every_document_once(report: Any, corpus: Corpus) -> None:
    for entry in report.data["signals"]:
        if entry["kind"] == "histogram":
            assert sum(entry["counts"]) == entry["documents"] - entry["nulls"]
            assert all(k <= n for k, n in zip(entry["kept"], entry["counts"], strict=True))
            assert len(entry["edges"]) == len(entry["counts"]) + 1
    words = next(entry for entry in report.data["signals"] if entry["signal"] == "num_words")
    assert words["thresholds"] == [12.0, 1000000.0]


def test_what_a_stranger_must_see_is_said(report: Any) -> None:
    alerts = " ".join(alert["text"] for alert in report.data["alerts"])
    assert "rule:recipe.never drops nothing" in alerts
    assert "Source tiny lost everything" in alerts
    assert "2 records of" in alerts
    assert "of quiz are too short" in alerts
    assert "Read more than once" in alerts
    costliest = {row["source"]: row["reason"] for row in report.data["reasons"]["costliest"]}
    assert costliest["tiny"] == "rule:recipe.long_enough"
    text = " ".join(Tags(report.html).text.split())
    assert "cost most: ~" in text
    assert "contaminated:quiz" in text
    assert "invalid" in text or "json" in text.lower()


def test_samples_show_both_sides_and_the_evidence(report: Any, corpus: Corpus) -> None:
    samples = report.data["samples"]
    assert {row["kept"] for row in samples["kept"]} == {True}
    assert {row["kept"] for row in samples["dropped"]} == {False}
    assert all(row["reasons"] for row in samples["dropped"])
    assert all(row["snippet"]["text"] for row in samples["kept"])
    nearly = samples["nearly"]
    kept = dict(corpus.table("verdicts").select("doc_id", "kept").collect().iter_rows())
    for side, is_kept in (("nearly_dropped", True), ("nearly_kept", False)):
        assert nearly[side]
        shares = [row["share"] for row in nearly[side]]
        assert shares == sorted(shares)
        assert {kept[row["snippet"]["doc_id"]] for row in nearly[side]} == {is_kept}
    (hit,) = report.data["contamination"]["hits"]
    assert hit["snippet"]["text"].startswith("Which of the seven rivers")
    assert report.data["duplicates"]["top"][0]["members"]
    seen = {snippet["doc_id"] for snippet in _snippets(report.data)}
    assert len(seen) <= MAX_DOCUMENTS


def _snippets(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        mine = [value] if {"doc_id", "text", "path"} <= set(value) else []
        return mine + [found for child in value.values() for found in _snippets(child)]
    if isinstance(value, list):
        return [found for child in value for found in _snippets(child)]
    return []


def test_a_corpus_that_keeps_nothing_has_a_report(bare: Corpus) -> None:
    report = build_report(bare)
    top = report.data["corpus"]
    assert (top["kept"], top["tokens"], top["drawn_tokens"]) == (0, 0, 0)
    assert top["dropped"] == 12
    assert not Tags(report.html).open
    alerts = " ".join(alert["text"] for alert in report.data["alerts"])
    assert "Not checked against any benchmark" in alerts
    assert "Nothing is drawn" in alerts
    assert report.data["samples"]["kept"] == []
    assert "4 bytes a token are assumed" in report.html
    assert summary(bare)["documents"]["dropped"] == 12


def test_the_same_version_gives_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    again = open_corpus(str(corpus.version), store=corpus.store)
    first = write_report(corpus, tmp_path / "a.html")
    second = write_report(again, tmp_path / "b" / "c.html")
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".json").read_bytes() == second.with_suffix(".json").read_bytes()
    data = json.loads(first.with_suffix(".json").read_text())
    assert render(data) == first.read_text()


def test_the_summary_agrees_with_the_report(corpus: Corpus, report: Any) -> None:
    short = json.loads(json.dumps(summary(corpus)))
    top = report.data["corpus"]
    assert short["documents"] == {key: top[key] for key in short["documents"]}
    assert short["tokens"]["kept"] == top["tokens"]
    assert [row["source"] for row in short["sources"]] == ["hostile", "stories", "tiny"]
    reasons = {row["reason"] for row in short["reasons"]}
    assert reasons >= {"rule:recipe.long_enough", "duplicate:exact"}
    assert short["mixture"]["rows"][1]["domain"] == "stories"


def test_the_worst_text_keeps_the_page_below_two_megabytes(report: Any) -> None:
    data = json.loads(json.dumps(report.data))
    worst = clip('"' * 5000, 1100)
    many = [dict(data["samples"]["dropped"][0]) for _ in range(MAX_DOCUMENTS)]
    for row in many:
        row["snippet"] = {**row["snippet"], "text": worst}
    data["samples"]["dropped"] = many
    dial = data["what_if"]["dials"][0]
    row = [value for cell in range(2 * MAX_EDGES) for value in (cell, 12_345, 12_345_678)]
    edges = [round(0.01 * i, 2) for i in range(MAX_EDGES)]
    each = MAX_BYTES // MAX_DIALS // len(json.dumps(row, separators=(",", ":")))
    dial |= {"edges": edges, "cells": [row] * max(1, each)}
    data["what_if"]["dials"] = [dial] * MAX_DIALS
    assert len(report.html.encode()) < 400_000
    assert len(render(data).encode()) < 2_000_000

"""The report in a real browser: Chromium, driven by Playwright, with the page opened as a file."""

import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from curate.rules.verdict import evaluate
from pipelines.build import run
from pipelines.corpus import Corpus, open_corpus
from pipelines.passes.judge import rules_of
from pipelines.passes.whatif import MAX_EDGES
from pipelines.recipe import parse_recipe
from pipelines.report import write_report
from pipelines.report.page import render
from pipelines.report.whatif import MAX_BYTES, MAX_DIALS

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
SCRIPT = "</script><script>window.ran = 1</script>"
HOSTILE = (
    f'{SCRIPT} <img src=x onerror=\'window.ran = 1\'> " onmouseover="window.ran = 1" x=" '
    "<!-- <svg onload=window.ran=1> {{ 7 * 7 }} pay \u202e001\u202c now &lt;b&gt; "
)
RECIPE = {
    "name": "harbour",
    "seed": 3,
    "sources": [
        {"name": name, "paths": [f"{name}.jsonl"], "license": "CC0-1.0"}
        for name in ("books", "web", "notes")
    ],
    "rules": {
        "use": ["gopher_repetition@paper"],
        "add": {
            "long_enough": "num_words BETWEEN 20 AND 60",
            "odd": f"source <> '{SCRIPT}' AND mean_word_length > 2",
        },
        "exempt": {"notes": ["long_enough", "gopher_repetition@paper.top_2_grams"]},
        "on_null": "drop",
    },
    "clean": {"redact": ["email"]},
    "split": {"validation": 0.1, "test": 0.1},
    "tokenize": {"tokenizer": {"vocab_size": 300, "sample_bytes": 10000}},
    "pack": {"row_tokens": 64},
}
WORDS = [
    f"{a}{b}" for a in ("sea", "ship", "lamp", "rope", "tide") for b in ("", "s", "less", "like")
]


def _documents(seed: int, count: int) -> list[dict[str, Any]]:
    """Return texts of many lengths, some repetitive, some near-duplicates that a rule decides."""
    chosen = random.Random(seed)
    rows = []
    for i in range(count):
        few = WORDS[: chosen.choice([2, 5, 20])]
        words = chosen.choices(few, k=chosen.randint(3, 90))
        rows.append({"id": i, "text": " ".join(words), "url": f"https://a{i % 3}.example/{i}"})
        if i % 7 == 0:
            rows.append({"id": f"twin{i}", "text": " ".join([*words, "end"])})
    hostile = (HOSTILE + " ".join(chosen.choices(WORDS, k=30 + i)) for i in range(8))
    return rows + [{"id": f"hostile{i}", "text": text} for i, text in enumerate(hostile)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harbour")
    for seed, name in enumerate(("books", "web", "notes")):
        lines = (json.dumps(row) for row in _documents(seed, 60))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def curate(folder: Path, recipe: Mapping[str, Any]) -> Corpus:
    parsed = parse_recipe(yaml.safe_dump(recipe), base=str(folder))
    outcome = run(parsed, store=str(folder / "store"))
    return open_corpus(str(outcome.version), store=str(folder / "store"))


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return curate(folder, RECIPE)


@pytest.fixture(scope="module")
def path(corpus: Corpus, folder: Path) -> Path:
    return write_report(corpus, folder / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on the path: apt install chromium")
    with playwright.sync_playwright() as driver:
        # A container's root may not nest sandboxes; the page is our own.
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def trouble() -> list[str]:
    return []


@pytest.fixture
def page(browser: Any, path: Path, trouble: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url))
    page.goto(path.as_uri())
    assert trouble.pop(0) == path.as_uri()
    yield page
    context.close()


def test_it_opens_from_a_file_at_once_and_draws_its_plots(page: Any, trouble: list[str]) -> None:
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 3000
    plots = page.evaluate(
        "[...document.querySelectorAll('svg.chart, svg.hist')].map(s => [s.getBBox().width, "
        "s.querySelectorAll('rect, path').length])"
    )
    assert len(plots) > 20
    assert all(width > 50 and marks > 0 for width, marks in plots)
    sections = page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")
    order = ["corpus", "safe", "sources", "reasons", "whatif", "mixture", "contents", "samples"]
    assert [name for name in sections if name in order] == order
    assert sections[-1] == "lineage"
    assert trouble == []


def test_hostile_text_shows_as_text_and_runs_nothing(page: Any, trouble: list[str]) -> None:
    text = page.inner_text("body")
    assert page.evaluate("window.ran") is None
    assert SCRIPT in text
    assert "<img src=x onerror='window.ran = 1'>" in text
    assert "U+202E" in text
    assert "\u202e" not in text
    assert page.locator("img, iframe, [onerror], [onload], [onmouseover]").count() == 0
    assert page.locator("script").count() == 2
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = "
        "'window.ran = 1'; document.body.append(s); }"
    )
    assert page.evaluate("window.ran") is None, "the policy refuses a script that is not its own"
    assert len(trouble) == 1
    assert "Content Security Policy" in trouble[0]


def _card(page: Any, rule: str, column: str | None = None) -> Any:
    cards = page.locator("#whatif [data-rule]").filter(has=page.get_by_role("heading", name=rule))
    return cards.filter(has_text=column).first if column else cards.first


def _turn(card: Any, edge: int, handle: int = 0) -> None:
    """Drag a handle: the value of the slider, and the event that dragging fires."""
    card.locator(f"[data-at=handle-{handle}]").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", edge
    )


def _shown(page: Any, sources: list[str]) -> dict[str, int]:
    cells = {"total": "total"} | {name: f"row-{i}" for i, name in enumerate(sources)}
    found = page.evaluate(
        "cells => Object.fromEntries(Object.entries(cells).map(([name, at]) => [name, "
        "document.querySelector(`#whatif [data-at=${at}] [data-at=documents]`).textContent]))",
        cells,
    )
    return {name: int(text.replace(",", "")) for name, text in found.items()}


def _merged(base: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    both = {key: value for key, value in base.items() if key not in patch}
    for key, value in patch.items():
        old = base.get(key)
        both[key] = _merged(old, value) if isinstance(old, Mapping) else value
    return both


def _frozen(corpus: Corpus, recipe: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Judge every document by a recipe's rules again; who is a duplicate stays as it was."""
    rules = rules_of(parse_recipe(yaml.safe_dump(recipe), base=str(folder)))
    frame = (
        corpus.table("signals")
        .join(corpus.table("verdicts").select("doc_id", "source", "reasons"), on="doc_id")
        .collect()
    )
    passed = evaluate(rules.rules, frame, rules.exemptions)
    others = frame["reasons"].list.eval(~pl.element().str.starts_with("rule:")).list.any()
    kept = np.all([passed[name].to_numpy() for name in passed.columns], axis=0)
    return _by_source(frame.filter(pl.Series(kept) & ~others))


def _by_source(frame: pl.DataFrame) -> dict[str, int]:
    counted = dict.fromkeys(("books", "web", "notes"), 0)
    counted |= dict(frame.group_by("source").agg(pl.len()).iter_rows())
    return {"total": frame.height, **counted}


def test_a_handle_shows_what_judging_again_with_frozen_duplicates_gives(
    page: Any, corpus: Corpus, folder: Path, trouble: list[str]
) -> None:
    sources = [source["name"] for source in RECIPE["sources"]]  # type: ignore[attr-defined]
    data = json.loads(page.locator("#whatif-data").text_content())
    before = _shown(page, sources)
    verdicts = corpus.table("verdicts").collect()
    assert before == _by_source(verdicts.filter("kept"))
    tried = []
    for dial in data["dials"]:
        if dial["rule"] not in ("long_enough", "odd", "gopher_repetition@paper.top_2_grams"):
            continue
        card = _card(page, dial["rule"], dial["column"])
        last = len(dial["edges"]) - 1
        for handle in range(len(dial["handles"])):
            for edge in {0, last // 4, last // 2, last}:
                _turn(card, edge, handle)
                shown = _shown(page, sources)
                if page.locator("[data-at=patched]").is_hidden():
                    assert shown == before
                    continue
                patch = yaml.safe_load(page.locator("[data-at=patch]").text_content())
                patched = _merged(RECIPE, patch)
                assert shown == _frozen(corpus, patched, folder), (dial["rule"], edge)
                tried.append((abs(shown["total"] - before["total"]), shown, patched))
            _turn(card, dial["handles"][handle]["edge"], handle)
    assert len(tried) >= 8
    assert _shown(page, sources) == before
    assert trouble == []
    # The full run chooses the survivors of duplicate groups again; what passes is the same.
    _, shown, patched = max(tried, key=lambda one: (one[1]["total"], str(one[2])))
    assert shown["total"] > before["total"]
    again = curate(folder, patched).table("verdicts").collect()
    full = _by_source(again.filter("kept"))
    rules = pl.element().str.starts_with("rule:")
    passing = again.filter(~pl.col("reasons").list.eval(rules).list.any())
    was = verdicts.filter(pl.col("doc_id").is_in(passing["doc_id"].to_list()))
    duplicate = pl.element().str.starts_with("duplicate:")
    frozen = was.filter(pl.col("reasons").list.eval(duplicate).list.any()).height
    assert passing.height - frozen == shown["total"]
    differ = {name: full[name] - shown[name] for name in full}
    print(f"kept: {before['total']} before, {shown['total']} with the duplicates frozen, ", end="")
    print(f"{full['total']} by the full re-run; it differs by {differ}")
    assert differ["total"] == frozen - (passing.height - full["total"])


def test_every_rule_can_be_switched_off_and_the_patch_loads(
    page: Any, corpus: Corpus, folder: Path
) -> None:
    sources = [source["name"] for source in RECIPE["sources"]]  # type: ignore[attr-defined]
    before = _shown(page, sources)
    for rule in ("gopher_repetition@paper.duplicate_5_grams", "long_enough"):
        button = _card(page, rule).locator("[data-at=off]")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        patched = _merged(RECIPE, yaml.safe_load(page.locator("[data-at=patch]").text_content()))
        assert _shown(page, sources) == _frozen(corpus, patched, folder)
    page.locator("[data-at=reset]").click()
    assert _shown(page, sources) == before
    assert page.locator("[aria-pressed=true]").count() == 0


def test_a_handle_is_moved_by_keyboard_and_mouse_and_tells_what_it_did(page: Any) -> None:
    handle = _card(page, "long_enough").locator("[data-at=handle-0]")
    before = page.locator("[data-at=said]").text_content()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator("[data-at=said]").text_content()
    assert said != before
    assert said in page.locator("[data-at=patch]").text_content()
    value = _card(page, "long_enough").locator("[data-at=value-0]").text_content()
    assert handle.get_attribute("aria-valuetext") == f"num_words >= {value}"
    assert page.locator(".said").get_attribute("aria-live") == "polite"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-at=said]").text_content() == before
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    assert page.locator("[data-at=said]").text_content() != before, "while the mouse is down"
    page.mouse.up()
    page.locator("[data-at=off]").first.click()
    page.locator("[data-at=copy]").click()
    copied = re.compile("^(Copied|Selected)")
    page.locator("[data-at=copy]").filter(has_text=copied).wait_for()


def test_it_fits_a_phone_and_reads_without_a_script_and_in_print(browser: Any, path: Path) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page = phone.new_page()
    page.goto(path.as_uri())
    box = page.locator("body").bounding_box()
    assert box["width"] <= 390
    assert page.locator("#whatif noscript").is_visible()
    assert page.locator("#whatif input").first.is_hidden()
    assert page.locator("#whatif svg.hist path").first.bounding_box()["width"] > 100
    phone.close()
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(path.as_uri())
    wide = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(wide) <= 390
    assert page.locator("#whatif input").first.is_visible()
    assert not page.evaluate("document.querySelector('[data-at=sources]').open")
    page.emulate_media(media="print")
    assert page.locator("#whatif input").first.is_hidden()
    assert page.locator("nav").is_hidden()
    context.close()


def test_a_page_as_large_as_it_may_be_opens_in_less_than_three_seconds(
    browser: Any, path: Path, tmp_path: Path
) -> None:
    """What stands in a page does not grow with the corpus; this is its largest size."""
    data = json.loads(path.with_suffix(".json").read_text())
    found = data["what_if"]
    dial = next(dial for dial in found["dials"] if len(dial["handles"]) == 1)
    edges = [round(0.01 * i, 2) for i in range(MAX_EDGES)]
    row = [value for cell in range(1, 2 * MAX_EDGES, 2) for value in (cell, 4_321, 1_234_567)]
    each = MAX_BYTES // MAX_DIALS // len(json.dumps(row, separators=(",", ":")))
    found["sources"] = [f"source-{i}" for i in range(each)]
    found["base"] = [[50_000_000, 2_000_000_000]] * each
    found["dials"] = [{**dial, "edges": edges, "cells": [row] * each}] * MAX_DIALS
    data["samples"]["dropped"] = (data["samples"]["dropped"] * 200)[:200]
    largest = tmp_path / "largest.html"
    largest.write_text(render(data), encoding="utf-8")
    assert largest.stat().st_size < 2_000_000
    page = browser.new_page()
    page.goto(largest.as_uri())
    spent = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"a page of {largest.stat().st_size / 1e6:.2f} MB opens in {spent:.0f} ms")
    assert spent < 3000
    card = page.locator("#whatif [data-rule]").nth(30)
    moved = card.locator("[data-at=handle-0]").evaluate(
        "input => Math.min(...[90, 10, 50, 3, 70].map(value => { const t = performance.now(); "
        "input.value = value; input.dispatchEvent(new Event('input')); "
        "return performance.now() - t; }))"
    )
    assert moved < 100, "a moved handle shows its counts at once"
    page.close()

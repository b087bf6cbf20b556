"""The composition a report tells: what a source is worth, and canaries, as a run would have it."""

from pathlib import Path
from typing import Any

from pipelines.corpus import open_corpus
from pipelines.report.page import build_report

SOURCES = ("books", "mirror", "notes")


def write(lab: Any, folder: Path) -> None:
    """A mirror that repeats books, chains of near-duplicates across all three, and own texts."""
    twins = [lab.text(n) for n in range(6)]
    chains = [lab.near(10 + n, changed=c) for n in range(4) for c in range(3)]
    texts = {
        "books": twins + chains[0::3] + [lab.text(100 + n) for n in range(8)],
        "mirror": twins[:4] + chains[1::3] + [lab.text(200)],
        "notes": chains[2::3] + [lab.text(300 + n) for n in range(5)] + ["short"],
    }
    for name, found in texts.items():
        lab.jsonl(folder / f"{name}.jsonl", [{"text": text} for text in found])


def recipe(lab: Any, folder: Path, names: tuple[str, ...]) -> Any:
    sources = [
        {"name": name, "paths": [f"{name}.jsonl"], "license": f"L-{len(name)}"} for name in names
    ]
    rules = {
        "add": {"long": "num_words >= 5"},
        "canaries": {"long": {"catch": "so <b>short</b>", "spare": "one two three four five"}},
    }
    name = "-".join(names)
    return lab.recipe(folder, name=name, sources=sources, rules=rules)


def test_a_corpus_without_a_source_is_as_large_as_the_report_of_the_whole_says(
    lab: Any, tmp_path: Path
) -> None:
    write(lab, tmp_path)
    store = str(tmp_path / "store")
    whole, _ = lab.run(recipe(lab, tmp_path, SOURCES), store)
    report = build_report(open_corpus("-".join(SOURCES), store=store))
    kept = whole.manifests["judge"].counts["kept"]
    told = {row["name"]: row for row in report.data["without"]["source"]}
    assert sum(row["back_documents"] for row in told.values()) > 0
    for left_out in SOURCES:
        others = tuple(name for name in SOURCES if name != left_out)
        outcome, _ = lab.run(recipe(lab, tmp_path, others), store, until="judge")
        assert outcome.manifests["judge"].counts["kept"] == kept - told[left_out]["net_documents"]
    by_licence = {row["name"]: row["net_documents"] for row in report.data["without"]["license"]}
    assert by_licence["L-6"] == told["mirror"]["net_documents"]


def test_canaries_stand_in_the_report_as_text_and_not_as_markup(lab: Any, tmp_path: Path) -> None:
    write(lab, tmp_path)
    lab.run(recipe(lab, tmp_path, SOURCES[:1]), str(tmp_path / "store"))
    report = build_report(open_corpus("books", store=str(tmp_path / "store")))
    assert [one["kind"] for one in report.data["canaries"]] == ["catch", "spare"]
    assert "so &lt;b&gt;short&lt;/b&gt;" in report.html
    assert "<b>short" not in report.html
    assert report.data["without"] == {}  # one source, one licence: nothing to compare

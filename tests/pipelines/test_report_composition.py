"""The composition a report tells: what a source is worth, and canaries, as a run would have it."""

from pathlib import Path
from typing import Any

from pipelines.corpus import open_corpus
from pipelines.report.page import build_report

SOURCES = ("books", "mirror", "notes")


def write(lab: Any, folder: Path) -> None:
    """A mirror that repeats books, chains of near-duplicates across all three, and own texts."""
    twins = [lab.text(n) for n in range(6)]
    # A text, a variant and another variant: each variant is a near-duplicate of the text alone.
    chains = [
        lab.near(10 + n, changed=c) if c else lab.text(10 + n) for n in range(4) for c in range(3)
    ]
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


def test_word_lists_and_scripts_are_told_in_every_script(lab: Any, tmp_path: Path) -> None:
    word = "\u6bd2\u54c1"  # two letters, each a word
    texts = [f"{word}{chr(0x4E00 + n)}\u662f\u4e00\u4e2a\u5b57" for n in range(6)]
    texts += [f"{chr(0x5000 + n)}\u662f\u4e00\u4e2a\u5b57" for n in range(3)] + ["plain words"]
    lab.jsonl(tmp_path / "notes.jsonl", [{"text": text} for text in texts])
    lists = {"word_lists": {"drugs": {"words": [word]}}}
    lab.run(lab.recipe(tmp_path, measure=lists), str(tmp_path / "store"))
    told = build_report(open_corpus("tiny", store=str(tmp_path / "store"))).data["composition"]
    (drugs,) = told["word_lists"]
    assert (drugs["name"], drugs["documents"], drugs["kept"]) == ("drugs", 6, 6)
    assert drugs["rate"] == drugs["kept_rate"] == 1000 / 7
    (script,) = (one for one in told["profiles"] if one["signal"] == "script")
    assert {row["value"]: row["documents"] for row in script["rows"]} == {"Hani": 9, "Latn": 1}

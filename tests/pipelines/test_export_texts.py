"""The Parquet export: read by its consumer, and a card in which corpus text is only text."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipelines.exchange import card, export
from pipelines.exchange.markdown import cell, one_line, table
from pipelines.recipe import load_recipe

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "\n---\nlicense: mit\n---\n# owned",
    "![x](http://evil/x.png) [click](javascript:alert(1))",
    "`code` **bold** _it_ ~~no~~ # head",
    "www.evil.example http://evil.example me@evil.example",
    "right \u202e tfel \x1b[2J \x00 \u2028 end",
    "&lt;b&gt; &#60;i&#62; \\| \\",
    "!!python/object/apply:os.system ['x']",
    "{{ jinja }} {% x %} ${x} $x^2$",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def corpus(lab: Any, archive_store: Path) -> Any:
    return lab.open("tiny", store=str(archive_store))


@pytest.fixture(scope="module")
def folder(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parquet") / "out"
    export(corpus, "parquet", out)
    return out


def front(text: str) -> tuple[dict[str, Any], str]:
    """Return the front matter, cut as the hub cuts it, and the rest."""
    found = re.match(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))", text)
    assert found is not None
    return yaml.safe_load(found[2]), text[found.end() :]


def test_the_consumer_reads_every_kept_document_in_its_split(corpus: Any, folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the consumer is not installed")
    datasets.disable_progress_bars()
    cache = folder.parent / "cache"
    read = datasets.load_dataset(str(folder), cache_dir=str(cache))
    kept = corpus.table("verdicts").filter("kept").collect()
    wanted = {
        split: sorted(kept.filter(pl.col("split") == split)["doc_id"])
        for split in ("train", "validation", "test")
    }
    assert {split: sorted(rows["id"]) for split, rows in read.items()} == wanted
    texts = dict(corpus.table("documents").select("doc_id", "text").collect().rows())
    found = dict(zip(read["test"]["id"], read["test"]["text"], strict=True))
    whole = [doc for doc, text in found.items() if texts[doc] == text]
    assert whole, "texts come back as they are, but for what is cut"
    assert set(read["train"].column_names) >= {"id", "text", "source", "license", "text_hash"}


def test_the_card_tells_composition_removals_gaps_and_how_to_make_it_again(
    corpus: Any, folder: Path
) -> None:
    text = (folder / "README.md").read_text()
    head, body = front(text)
    assert head["license"] == ["cc0-1.0", "unknown"]
    assert head["size_categories"] == ["n<1K"]
    assert [one["split"] for one in head["configs"][0]["data_files"]] == [
        "train",
        "validation",
        "test",
    ]
    for heading in (
        "Composition",
        "Licences",
        "What was removed",
        "Contamination",
        "Known gaps",
        "How to make it again",
    ):
        assert f"\n## {heading}\n" in body
    counts = corpus.manifest("judge").counts
    for name, count in counts.items():
        if name.startswith("reason:"):
            assert f"| {name.removeprefix('reason:')} | {count:,} |" in body
    quarantined = corpus.manifest("collect").counts["quarantined"]
    assert f"{quarantined} records could not be read" in body
    assert "Personal data was not redacted" in body
    assert "near-duplicate pairs of a sample 100.0 % were found" in body
    assert corpus.version.fingerprint in body


def test_the_recipe_beside_the_card_is_the_recipe(corpus: Any, folder: Path) -> None:
    assert load_recipe(folder / "recipe.yaml").model_dump(mode="json") == dict(corpus.recipe)


def test_croissant_tells_every_file_by_its_digest(folder: Path) -> None:
    data = json.loads((folder / "croissant.json").read_text())
    assert data["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    files = {one["@id"]: one for one in data["distribution"] if one["@type"] == "cr:FileObject"}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}
    assert set(files) == there
    for name, one in files.items():
        content = (folder / name).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == f"{len(content)} B"
    columns = pl.read_parquet_schema(folder / sorted(there)[0])
    for records in data["recordSet"]:
        assert [field["source"]["extract"]["column"] for field in records["field"]] == list(columns)


def test_drawn_texts_are_repeated_as_the_mixture_says(
    corpus: Any, lab: Any, tmp_path: Path
) -> None:
    from pipelines.exchange import exporting, texts

    real = exporting.choose

    def twice(*arguments: Any) -> Any:
        choice = real(*arguments)
        copies = choice.draws["copies"]
        more = [n % 3 for n in range(len(copies))]
        at = choice.draws.schema.get_field_index("copies")
        draws = choice.draws.set_column(at, "copies", [pl.Series(more, dtype=pl.Int32).to_arrow()])
        return texts.Choice(what="drawn", phases=(0,), draws=draws, names=("train",))

    with lab.patched(exporting, "choose", twice):
        export(corpus, "parquet", tmp_path / "out", what="drawn")
    told = dict(
        zip(
            (one.hex() for one in twice(corpus, "drawn", None).draws["doc_id"].to_pylist()),
            twice(corpus, "drawn", None).draws["copies"].to_pylist(),
            strict=True,
        )
    )
    rows = pl.read_parquet(tmp_path / "out" / "data" / "train-*.parquet")
    found = dict(rows.group_by("id").len().rows())
    assert found == {doc: count for doc, count in told.items() if count}
    assert "the mixture as it was drawn" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_corpus_text_in_a_card_is_text(text: str) -> None:
    shown = cell(text)
    assert "\n" not in shown
    plain = re.sub(r"&#\d+;", "", shown)
    assert not set(plain) & set("<>|`*[]()!#~$\\{}&\"'")
    assert not re.search(r"www\.|://|@", shown)
    assert all(c.isprintable() for c in shown)
    assert len(one_line(text)) <= 200
    lines = table(["name", "n"], [[text, 1]])
    assert len(lines) == 3
    assert lines[2].count("|") == 3


def test_hostile_names_in_a_whole_card_change_nothing(
    corpus: Any, lab: Any, tmp_path: Path
) -> None:
    real = card.load_facts

    def poisoned(*arguments: Any) -> Any:
        facts = real(*arguments)
        licence = pl.Series([HOSTILE[n % len(HOSTILE)] for n in range(facts.documents.height)])
        return type(facts)(
            corpus=facts.corpus,
            sources=facts.sources,
            documents=facts.documents.with_columns(license=licence),
            reasons=facts.reasons.with_columns(reason=pl.lit(HOSTILE[0])),
            quarantine=facts.quarantine.with_columns(reason=pl.lit(HOSTILE[2])),
            rates=facts.rates,
        )

    with (
        lab.patched(card, "load_facts", poisoned),
        lab.patched(card, "licences_of", lambda _: HOSTILE),
    ):
        export(corpus, "parquet", tmp_path / "out")
    head, body = front((tmp_path / "out" / "README.md").read_text())
    assert head["license"] == "other"
    assert set(head) == {
        "pretty_name",
        "license",
        "license_name",
        "size_categories",
        "task_categories",
        "tags",
        "configs",
    }
    assert "<" not in body
    assert body.count("\n## ") == 6
    assert "owned" in body
    assert "\n# owned" not in body
    datasets = pytest.importorskip("datasets", reason="the consumer is not installed")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert sum(len(rows) for rows in read.values()) == corpus.manifest("judge").counts["kept"]
